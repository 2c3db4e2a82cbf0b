// The build context as a tar: what .dockerignore leaves of a directory, in the order of names, owned by nobody in particular. Streamed, so that its size does not matter.
import { lstatSync, readdirSync, readlinkSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { GantryError, describeError } from "../../base/errors.ts";
import type { PathMatcher } from "../../node-agent/build/patterns.ts";
import { TAR_END, tarHead, tarPadding, type TarInput } from "../../node-agent/images/tar-writer.ts";

const CHUNK_BYTES = 256 * 1024;
/** Headers and small files are gathered to pieces of about this size. */
const PIECE_BYTES = 64 * 1024;

interface Entry {
  readonly path: string;
  readonly entry: Omit<TarInput, "content">;
  readonly sizeBytes: number;
}

const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

/** A directory that is left out itself is there when something in it is kept. */
function* entriesOf(root: string, ignore: PathMatcher, prefix = ""): Generator<Entry, void> {
  for (const name of readdirSync(join(root, prefix)).sort(byBytes)) {
    const path = prefix === "" ? name : `${prefix}/${name}`;
    const isIgnored = ignore.matches(path);
    const stat = lstatSync(join(root, path));
    const common = { path, mode: stat.mode & 0o7777, uid: 0, gid: 0, mtimeMs: Math.max(0, stat.mtimeMs) };
    if (stat.isDirectory()) {
      const own: Entry = { path, entry: { ...common, path: `${path}/`, type: "directory" }, sizeBytes: 0 };
      if (!isIgnored) {
        yield own;
        yield* entriesOf(root, ignore, path);
      } else if (ignore.mayKeepBelow(path)) {
        let isShown = false;
        for (const below of entriesOf(root, ignore, path)) {
          if (!isShown) yield own;
          isShown = true;
          yield below;
        }
      }
    } else if (!isIgnored) {
      if (stat.isFile()) yield { path, entry: common, sizeBytes: stat.size };
      else if (stat.isSymbolicLink()) yield { path, entry: { ...common, type: "symlink", linkPath: readlinkSync(join(root, path)) }, sizeBytes: 0 };
      else if (stat.isFIFO()) yield { path, entry: { ...common, type: "fifo" }, sizeBytes: 0 };
      // Sockets and devices are of this machine only.
    }
  }
}

/** Errors: "BadRequest" for what can't be read, by its path. */
export async function* packContext(root: string, ignore: PathMatcher): AsyncGenerator<Buffer, void> {
  let gathered: Buffer[] = [];
  let bytes = 0;
  const put = (piece: Buffer): void => {
    gathered.push(piece);
    bytes += piece.length;
  };
  const take = (): Buffer => {
    const piece = Buffer.concat(gathered, bytes);
    gathered = [];
    bytes = 0;
    return piece;
  };
  for (const { path, entry, sizeBytes } of entriesOf(root, ignore)) {
    put(tarHead(entry, sizeBytes));
    if (sizeBytes > 0) {
      for await (const chunk of contentOf(join(root, path), sizeBytes)) {
        put(chunk);
        if (bytes >= PIECE_BYTES) yield take();
      }
      put(tarPadding(sizeBytes));
    }
    if (bytes >= PIECE_BYTES) yield take();
  }
  put(TAR_END);
  yield take();
}

async function* contentOf(path: string, sizeBytes: number): AsyncGenerator<Buffer, void> {
  let file;
  try {
    file = await open(path, "r");
  } catch (error) {
    throw new GantryError("BadRequest", `the build context has a file that can't be read (leave it out in .dockerignore?): ${describeError(error)}`);
  }
  try {
    for (let at = 0; at < sizeBytes;) {
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(Math.min(CHUNK_BYTES, sizeBytes - at)), 0, undefined, at);
      if (bytesRead === 0) throw new GantryError("BadRequest", `${path} became shorter while it was sent`);
      at += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
}
