// Writes tar archives: ustar, with PAX records where a value does not fit. Pure, and always the same bytes for the same entries. Whole ones
// in memory (the example image, tests), or header by header for contents that are streamed (layers, build contexts); see tar.ts for the format.
export interface TarInput {
  readonly path: string;
  readonly type?: "file" | "directory" | "symlink" | "hardlink" | "character" | "block" | "fifo";
  readonly content?: Uint8Array | string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtimeMs?: number;
  readonly linkPath?: string;
  readonly device?: { readonly major: number; readonly minor: number };
  readonly xattrs?: Readonly<Record<string, Uint8Array>>;
}

const BLOCK = 512;
/** Seven octal digits. */
const MAX_OCTAL_ID = 8 ** 7 - 1;
const TYPE_FLAGS = { file: "0", hardlink: "1", symlink: "2", character: "3", block: "4", directory: "5", fifo: "6" } as const;

export const writeTar = (entries: readonly TarInput[]): Buffer =>
  Buffer.concat([...entries.flatMap(encodeEntry), Buffer.alloc(2 * BLOCK)]);

const encodeEntry = (entry: TarInput): readonly Buffer[] => {
  const content = typeof entry.content === "string" ? Buffer.from(entry.content) : Buffer.from(entry.content ?? []);
  return [tarHead(entry, content.length), padded(content)];
};

/** The two zero blocks that end an archive. */
export const TAR_END: Buffer = Buffer.alloc(2 * BLOCK);

/** Zeros that follow a content of `sizeBytes`. */
export const tarPadding = (sizeBytes: number): Buffer => Buffer.alloc((BLOCK - (sizeBytes % BLOCK)) % BLOCK);

/** What stands before a content of `sizeBytes`: the entry's header, behind a PAX header where a value does not fit. */
export const tarHead = (entry: Omit<TarInput, "content">, sizeBytes: number): Buffer => {
  const records: [string, Uint8Array][] = Object.entries(entry.xattrs ?? {}).map(([name, value]) => [`SCHILY.xattr.${name}`, value]);
  if (Buffer.byteLength(entry.path) > 100) records.push(["path", Buffer.from(entry.path)]);
  if (Buffer.byteLength(entry.linkPath ?? "") > 100) records.push(["linkpath", Buffer.from(entry.linkPath!)]);
  const [uid, gid] = [entry.uid ?? 0, entry.gid ?? 0];
  if (uid > MAX_OCTAL_ID) records.push(["uid", Buffer.from(String(uid))]);
  if (gid > MAX_OCTAL_ID) records.push(["gid", Buffer.from(String(gid))]);
  const own = header({ ...entry, uid: uid > MAX_OCTAL_ID ? 0 : uid, gid: gid > MAX_OCTAL_ID ? 0 : gid }, TYPE_FLAGS[entry.type ?? "file"], sizeBytes);
  if (records.length === 0) return own;
  const pax = Buffer.concat(records.map(([key, value]) => paxRecord(key, value)));
  return Buffer.concat([header({ path: "pax" }, "x", pax.length), padded(pax), own]);
};

/** "LENGTH KEY=VALUE\n"; LENGTH counts its own digits, too. */
const paxRecord = (key: string, value: Uint8Array): Buffer => {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from("\n")]);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
};

const padded = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc((BLOCK - (bytes.length % BLOCK)) % BLOCK)]);

/** One header block. Exported for tests that need a wrong one: `sizeBytes` may be a lie. */
export const header = (entry: TarInput, typeFlag: string, sizeBytes: number): Buffer => {
  const block = Buffer.alloc(BLOCK);
  const octal = (value: number, at: number, length: number): void => void block.write(`${value.toString(8).padStart(length - 1, "0")}\0`, at, "latin1");
  const cut = (text: string): Buffer => Buffer.from(text).subarray(0, 100);
  cut(entry.path).copy(block, 0);
  octal(entry.mode ?? (entry.type === "directory" ? 0o755 : 0o644), 100, 8);
  octal(entry.uid ?? 0, 108, 8);
  octal(entry.gid ?? 0, 116, 8);
  if (sizeBytes < 8 ** 11) octal(sizeBytes, 124, 12);
  else {
    block.writeBigUInt64BE(BigInt(sizeBytes), 128);
    block[124] = 0x80;
  }
  octal(Math.floor((entry.mtimeMs ?? 0) / 1000), 136, 12);
  block.write("        ", 148, "latin1");
  block.write(typeFlag, 156, "latin1");
  cut(entry.linkPath ?? "").copy(block, 157);
  block.write("ustar\x0000", 257, "latin1"); // magic "ustar\0", version "00"
  octal(entry.device?.major ?? 0, 329, 8);
  octal(entry.device?.minor ?? 0, 337, 8);
  octal(block.reduce((sum, byte) => sum + byte, 0), 148, 7);
  block[155] = 0x20;
  return block;
};
