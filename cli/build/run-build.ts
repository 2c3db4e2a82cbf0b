// One build: sends options and context, shows what comes back, and tells how it ended.
import { Readable } from "node:stream";
import { GantryError, type ErrorCode } from "../../base/errors.ts";
import type { BuildEvent, BuiltImageInfo } from "../../node-agent/build/build-events.ts";
import { linesOf, type ApiClient } from "../api-client.ts";
import type { BuildDisplay } from "./build-display.ts";
import type { BuildInput } from "./build-input.ts";

type Line = BuildEvent | { readonly node: string } | { readonly finished: true };

/** Errors are the build's own: "Invalid" with the place in the Dockerfile, and others. */
export const runBuild = async (client: ApiClient, input: BuildInput, node: string, display: BuildDisplay, signal: AbortSignal): Promise<BuiltImageInfo> => {
  const { options, context } = input;
  const query = new URLSearchParams({ ...(options.names[0] === undefined ? {} : { name: options.names[0] }), ...(options.platform ? { platform: options.platform } : {}), ...(node === "" ? {} : { node }) });
  const body = Readable.from((async function* (): AsyncGenerator<Uint8Array, void> {
    yield Buffer.from(`${JSON.stringify(options)}\n`);
    if (context !== undefined) yield* context;
  })(), { objectMode: false });
  let image: BuiltImageInfo | undefined;
  let isFinished = false;
  try {
    const response = await client.send("POST", `/apis/gantry.io/v1/builds?${query.toString()}`, { stream: body, contentType: "application/x-tar", signal });
    for await (const text of linesOf(response)) {
      const line = JSON.parse(text) as Line;
      if ("error" in line && "code" in line) throw new GantryError(line.code as ErrorCode, line.error);
      if ("image" in line) image = line.image;
      else if ("finished" in line) isFinished = true;
      else if (!("node" in line)) display.event(line);
    }
  } finally {
    body.destroy();
  }
  if (image === undefined || !isFinished) throw new GantryError("ServiceUnavailable", "the connection broke off in the middle of the build");
  return image;
};
