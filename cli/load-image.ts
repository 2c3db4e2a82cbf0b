// Sends an image archive to the API server, which passes it on to every node. The answer is a line of JSON for each step.
import { createReadStream, statSync } from "node:fs";
import { GantryError } from "../base/errors.ts";
import { linesOf, type ApiClient } from "./api-client.ts";

interface LoadLine {
  readonly node?: string;
  readonly done?: boolean;
  readonly names?: readonly string[];
  readonly error?: string;
}

export interface LoadResult {
  readonly nodes: readonly string[];
  readonly names: readonly string[];
}

/** "InternalError" lists the nodes that failed, each with its reason. */
export const loadImage = async (client: ApiClient, file: string, options: { readonly name?: string; readonly onProgress: (line: string) => void }): Promise<LoadResult> => {
  const stat = file === "-" ? undefined : statSync(file, { throwIfNoEntry: false });
  if (file !== "-" && !stat?.isFile()) throw new GantryError("BadRequest", stat ? `${file} is no file: an archive is needed` : `no such file: ${file}`);
  const of = stat ? ` of ${(stat.size / 2 ** 20).toFixed(1)}` : "";
  const stream = stat ? createReadStream(file, { highWaterMark: 1 << 18 }) : process.stdin;
  let sentBytes = 0;
  stream.on("data", (chunk: Buffer | string) => {
    sentBytes += chunk.length;
    options.onProgress(`sent ${(sentBytes / 2 ** 20).toFixed(1)}${of} MiB`);
  });
  const query = options.name ? `?${new URLSearchParams({ name: options.name }).toString()}` : "";
  const nodes: string[] = [];
  const names = new Set<string>();
  const failed: string[] = [];
  try {
    const response = await client.send("POST", `/apis/gantry.io/v1/images${query}`, { stream, contentType: "application/x-tar" });
    for await (const text of linesOf(response)) {
      const line = JSON.parse(text) as LoadLine;
      if (line.error !== undefined) failed.push(`${line.node ?? "control plane"}: ${line.error}`);
      else if (line.done && line.node) {
        nodes.push(line.node);
        options.onProgress(`loaded on ${nodes.length} node${nodes.length === 1 ? "" : "s"}`);
      }
      for (const name of line.names ?? []) names.add(name);
    }
  } finally {
    // Refused before all was read: an open standard input would keep this process alive.
    stream.destroy();
  }
  if (failed.length > 0) throw new GantryError("InternalError", `${file} could not be loaded everywhere:\n  ${failed.join("\n  ")}`);
  if (nodes.length === 0) throw new GantryError("ServiceUnavailable", `${file} was loaded nowhere: no node is connected`);
  return { nodes, names: [...names] };
};
