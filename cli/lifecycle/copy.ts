// `cp`: files between this machine and a container, by docker's rules. The container needs no tar, and need not run.
import { mkdirSync, statSync } from "node:fs";
import { Readable } from "node:stream";
import { GantryError, isCode } from "../../base/errors.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import { TarReader } from "../../node-agent/images/tar.ts";
import type { ApiClient } from "../api-client.ts";
import { commandPath } from "./changes.ts";
import { placing, type End } from "./copy-paths.ts";
import { packFiles, unpackFiles } from "./local-files.ts";

export interface CopyOptions {
  readonly container: string;
  readonly followLink: boolean;
  /** Owners and groups too. */
  readonly archive: boolean;
}

interface PathStat {
  readonly isDirectory: boolean;
}

const archivePath = (pod: Pod, query: Readonly<Record<string, string>>): string => `${commandPath(pod, "archive")}?${new URLSearchParams(query).toString()}`;

const localEnd = (path: string): End => {
  const stat = statSync(path, { throwIfNoEntry: false });
  return { exists: stat !== undefined, isDirectory: stat?.isDirectory() ?? false };
};

export const copyFrom = async (client: ApiClient, pod: Pod, source: string, target: string, { container, followLink, archive }: CopyOptions): Promise<void> => {
  const query = { container, path: source, follow: String(followLink) };
  const response = await client.send("GET", archivePath(pod, query), { accept: "*/*" });
  if (target === "-") {
    for await (const chunk of response) if (!process.stdout.write(chunk as Buffer)) await new Promise((resolve) => process.stdout.once("drain", resolve));
    return;
  }
  try {
    const stat = JSON.parse(Buffer.from(String(response.headers["x-gantry-path-stat"] ?? ""), "base64").toString("utf8")) as PathStat;
    const { directory, name, make } = placing(source, stat.isDirectory, target, localEnd(target));
    if (make) mkdirSync(directory);
    else if (!localEnd(directory).isDirectory) throw new GantryError("BadRequest", `${directory}: no such directory`);
    await unpackFiles(new TarReader(response as AsyncIterable<Uint8Array>, `${pod.metadata.name}:${source}`), directory, name, archive);
  } finally {
    response.destroy();
  }
};

const containerEnd = async (client: ApiClient, pod: Pod, container: string, path: string): Promise<End> => {
  try {
    const { isDirectory } = await client.json<PathStat>("GET", archivePath(pod, { container, path, follow: "true", stat: "true" }));
    return { exists: true, isDirectory };
  } catch (error) {
    if (isCode(error, "NotFound") && error.message.includes("no such file")) return { exists: false, isDirectory: false };
    throw error;
  }
};

const put = async (client: ApiClient, pod: Pod, query: Readonly<Record<string, string>>, stream: Readable): Promise<void> => {
  try {
    (await client.send("PUT", archivePath(pod, query), { stream, contentType: "application/x-tar" })).resume();
  } finally {
    // Refused before all was read: an open standard input would keep this process alive.
    stream.destroy();
  }
};

export const copyTo = async (client: ApiClient, pod: Pod, source: string, target: string, { container, followLink, archive }: CopyOptions): Promise<void> => {
  const at = await containerEnd(client, pod, container, target);
  const query = { container, keepOwners: String(archive) };
  if (source === "-") {
    if (!at.isDirectory) throw new GantryError("BadRequest", `${pod.metadata.name}:${target} is no directory: the archive from standard input can't be unpacked there`);
    return put(client, pod, { ...query, path: target }, process.stdin);
  }
  const stat = statSync(source, { throwIfNoEntry: false });
  if (!stat) throw new GantryError("BadRequest", `no such file or directory: ${source}`);
  const { directory, name, make } = placing(source, stat.isDirectory(), target, at);
  // A directory that isn't there yet is the archive's top entry in the one above it.
  const [into, as] = make ? [directory.replace(/\/?[^/]*$/, "") || "/", directory.split("/").at(-1)!] : [directory, name];
  if (!(await containerEnd(client, pod, container, into)).isDirectory) throw new GantryError("BadRequest", `${pod.metadata.name}:${into}: no such directory`);
  await put(client, pod, { ...query, path: into }, Readable.from(packFiles(source, as, followLink || as === ""), { objectMode: false }));
};
