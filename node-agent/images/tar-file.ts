// An open file as an entry of a tar archive, piece by piece.
import { fstatSync, readSync } from "node:fs";
import { tarHead, tarPadding } from "./tar-writer.ts";

/** What a frame of the protocol carries. */
const CHUNK_BYTES = 64 * 1024;

/** Exactly the size that its head says, which is the file's at the start: one that grows is cut, one that shrinks ends in zeros. The descriptor stays open. */
export function* tarFile(fd: number, head: Parameters<typeof tarHead>[0]): Generator<Buffer, void> {
  const { size } = fstatSync(fd);
  yield tarHead(head, size);
  for (let position = 0; position < size;) {
    const wanted = Math.min(CHUNK_BYTES, size - position);
    const buffer = Buffer.alloc(wanted);
    const length = readSync(fd, buffer, 0, wanted, position);
    if (length < wanted) buffer.fill(0, length);
    position += wanted;
    yield buffer;
  }
  yield tarPadding(size);
}
