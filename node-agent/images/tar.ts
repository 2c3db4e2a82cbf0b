// A streaming tar reader: ustar, PAX (POSIX.1-2001) and GNU long names. Knows formats, not file systems: what an entry may do is
// decided in extract.ts. Nothing of an archive is held in memory but the current chunk and bounded headers.
// Formats: https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html and `info tar`, "Basic Tar Format".
import { GantryError } from "../../base/errors.ts";

export type TarType = "file" | "directory" | "symlink" | "hardlink" | "character" | "block" | "fifo";

export interface TarEntry {
  readonly path: string;
  readonly type: TarType;
  readonly sizeBytes: number;
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeMs: number;
  readonly linkPath: string;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  readonly xattrs: ReadonlyMap<string, Buffer>;
}

const BLOCK = 512;
/** PAX records and GNU long names are read into memory; real ones have a few hundred bytes, capabilities and ACLs included. */
const MAX_META_BYTES = 1024 * 1024;
/** Extended headers before one entry; real ones are at most three (PAX, long name, long link). */
const MAX_METAS = 8;
const TYPES: Readonly<Record<string, TarType>> = {
  "0": "file", "\0": "file", "7": "file", "1": "hardlink", "2": "symlink", "3": "character", "4": "block", "5": "directory", "6": "fifo",
};
const XATTR_PREFIX = "SCHILY.xattr.";

/** PAX and GNU values that replace those of the next header. */
interface Overrides {
  readonly values: Map<string, string>;
  readonly xattrs: Map<string, Buffer>;
}

const utf8 = new TextDecoder("utf-8", { fatal: true });

export class TarReader {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #what: string;
  #buffer: Uint8Array = new Uint8Array(0);
  /** Bytes of the current entry's content that were not handed out yet, then of its padding. */
  #contentLeft = 0;
  #paddingLeft = 0;
  #entryPath = "";
  #ended = false;
  readonly #global: Overrides = { values: new Map(), xattrs: new Map() };

  /** `what` names the archive in errors. */
  constructor(source: AsyncIterable<Uint8Array>, what: string) {
    this.#source = source[Symbol.asyncIterator]();
    this.#what = what;
  }

  /** The next entry, or undefined at the end; skips what was not read of the one before. Errors: "Invalid" (damaged or unsupported). */
  async next(): Promise<TarEntry | undefined> {
    const local: Overrides = { values: new Map(), xattrs: new Map() };
    for (let metas = 0; ; metas++) {
      if (metas > MAX_METAS) throw this.#invalid(`has more than ${MAX_METAS} extended headers in a row`);
      while (this.#contentLeft > 0) await this.chunk();
      await this.#skip(this.#paddingLeft);
      this.#paddingLeft = 0;
      if (this.#ended) return undefined;
      const header = await this.#block();
      if (header === undefined || isZero(header)) {
        // POSIX ends an archive with two zero blocks; some writers leave out one or both.
        this.#ended = true;
        return undefined;
      }
      if (!checksumMatches(header)) throw this.#invalid("is damaged or not a tar archive (header checksum does not match)");
      const type = String.fromCharCode(header[156]!);
      const headerSize = this.#number(header, 124, 12, "size");
      if (type === "x" || type === "g" || type === "L" || type === "K") {
        const bytes = await this.#meta(headerSize);
        if (type === "L") local.values.set("path", this.#text(cString(bytes)));
        else if (type === "K") local.values.set("linkpath", this.#text(cString(bytes)));
        else this.#pax(bytes, type === "x" ? local : this.#global);
        continue;
      }
      return this.#entry(header, type, headerSize, local);
    }
  }

  /** The next piece of the current entry's content, or undefined when it was all handed out. Valid until the next call. */
  async chunk(): Promise<Uint8Array | undefined> {
    if (this.#contentLeft === 0) return undefined;
    if (this.#buffer.length === 0 && !(await this.#fill())) throw this.#truncated();
    const piece = this.#buffer.subarray(0, this.#contentLeft);
    this.#buffer = this.#buffer.subarray(piece.length);
    this.#contentLeft -= piece.length;
    return piece;
  }

  /** The whole content as an iterable: for ingestion elsewhere. */
  async *content(): AsyncGenerator<Uint8Array, void> {
    for (let piece = await this.chunk(); piece !== undefined; piece = await this.chunk()) yield piece;
  }

  /** The whole content in memory. Errors: "RequestEntityTooLarge" above `maxBytes`. */
  async bytes(maxBytes: number): Promise<Buffer> {
    if (this.#contentLeft > maxBytes) {
      throw new GantryError("RequestEntityTooLarge", `${this.#what}: ${this.#entryPath} has ${this.#contentLeft} bytes; at most ${maxBytes} are allowed here`);
    }
    return this.#read(this.#contentLeft, true);
  }

  /** Reads the source to its end, so that a hash over it covers what follows the archive, too. */
  async drain(): Promise<void> {
    this.#buffer = new Uint8Array(0);
    while (!(await this.#source.next()).done);
  }

  /** Ends the source early, so that streams behind it are closed. */
  async close(): Promise<void> {
    await this.#source.return?.();
  }

  #entry(header: Uint8Array, typeFlag: string, headerSize: number, local: Overrides): TarEntry {
    const value = (key: string): string | undefined => local.values.get(key) ?? this.#global.values.get(key);
    const headerPath = (): string => {
      const name = this.#text(cString(header.subarray(0, 100)));
      // Only POSIX archives ("ustar\0") have a prefix there; GNU's ("ustar ") have times.
      const prefix = Buffer.from(header.subarray(257, 263)).toString("latin1") === "ustar\0" ? this.#text(cString(header.subarray(345, 500))) : "";
      return prefix === "" ? name : `${prefix}/${name}`;
    };
    const path = value("path") ?? headerPath();
    this.#entryPath = path;
    const linkPath = value("linkpath") ?? this.#text(cString(header.subarray(157, 257)));
    if (path === "" || path.includes("\0") || linkPath.includes("\0")) throw this.#invalid(`has an entry with an unusable name ${JSON.stringify(path)}`);
    const pathIsDirectory = path.endsWith("/");
    const type = typeFlag === "0" || typeFlag === "\0" ? (pathIsDirectory ? "directory" : "file") : TYPES[typeFlag];
    const sparse = typeFlag === "S" || [...local.values.keys(), ...this.#global.values.keys()].some((k) => k.startsWith("GNU.sparse."));
    if (type === undefined || sparse) {
      throw this.#invalid(`entry ${JSON.stringify(path)} is ${sparse ? "a sparse file" : `of the unknown type ${JSON.stringify(typeFlag)}`}, which is not supported`);
    }
    const sizeBytes = this.#decimal("size", value("size")) ?? headerSize;
    // Only files have content; a size on others is a length that some writers put there without bytes that follow (POSIX).
    const hasContent = type === "file";
    this.#contentLeft = hasContent ? sizeBytes : 0;
    this.#paddingLeft = hasContent ? (BLOCK - (sizeBytes % BLOCK)) % BLOCK : 0;
    return {
      path, type, linkPath,
      sizeBytes: hasContent ? sizeBytes : 0,
      mode: this.#number(header, 100, 8, "mode") & 0o7777,
      uid: this.#decimal("uid", value("uid")) ?? this.#number(header, 108, 8, "uid"),
      gid: this.#decimal("gid", value("gid")) ?? this.#number(header, 116, 8, "gid"),
      mtimeMs: this.#seconds(value("mtime")) ?? this.#number(header, 136, 12, "mtime", true) * 1000,
      deviceMajor: type === "character" || type === "block" ? this.#number(header, 329, 8, "device") : 0,
      deviceMinor: type === "character" || type === "block" ? this.#number(header, 337, 8, "device") : 0,
      xattrs: this.#global.xattrs.size === 0 ? local.xattrs : new Map([...this.#global.xattrs, ...local.xattrs]),
    };
  }

  /** Records "LENGTH KEY=VALUE\n", where LENGTH counts all of it in bytes; values of xattrs are bytes, the others UTF-8. */
  #pax(bytes: Uint8Array, into: Overrides): void {
    for (let at = 0; at < bytes.length && bytes[at] !== 0;) {
      const space = bytes.indexOf(0x20, at);
      const length = space < 0 ? Number.NaN : Number(Buffer.from(bytes.subarray(at, Math.min(space, at + 12))).toString("latin1"));
      const end = at + length;
      const equals = bytes.indexOf(0x3d, space);
      if (!Number.isSafeInteger(length) || length <= 0 || end > bytes.length || equals < 0 || equals >= end || bytes[end - 1] !== 0x0a) {
        throw this.#invalid("has a damaged PAX header");
      }
      const key = this.#text(bytes.subarray(space + 1, equals));
      const value = bytes.subarray(equals + 1, end - 1);
      if (key.startsWith(XATTR_PREFIX)) into.xattrs.set(key.slice(XATTR_PREFIX.length), Buffer.from(value));
      else if (value.length === 0) into.values.delete(key);
      else if (PAX_KEYS.has(key) || key.startsWith("GNU.sparse.")) into.values.set(key, this.#text(value));
      at = end;
    }
  }

  #decimal(what: string, value: string | undefined): number | undefined {
    if (value === undefined) return undefined;
    const n = Number(value);
    if (!/^\d+$/.test(value) || !Number.isSafeInteger(n)) throw this.#invalid(`entry ${JSON.stringify(this.#entryPath)} has the ${what} ${JSON.stringify(value)}`);
    return n;
  }

  #seconds(value: string | undefined): number | undefined {
    const ms = value === undefined ? undefined : Number(value) * 1000;
    return ms !== undefined && Number.isFinite(ms) ? ms : undefined;
  }

  /** A number field: octal text, or base-256 when the first bit is set (GNU; for sizes above 8 GiB and ids above 2 million). */
  #number(header: Uint8Array, at: number, length: number, what: string, negative = false): number {
    const field = header.subarray(at, at + length);
    let n: number;
    if ((field[0]! & 0x80) !== 0) {
      // Two's complement, big-endian, without the marker bit.
      n = Number(BigInt.asIntN(length * 8 - 1, BigInt(`0x${Buffer.from(field).toString("hex")}`)));
    } else {
      const digits = Buffer.from(field).toString("latin1").replace(/[\0 ]+$/, "").trimStart();
      n = digits === "" ? 0 : /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number.NaN;
    }
    if (!Number.isSafeInteger(n) || (n < 0 && !negative)) throw this.#invalid(`has a header with an unreadable ${what}`);
    return n;
  }

  #text(bytes: Uint8Array): string {
    try {
      return utf8.decode(bytes);
    } catch (cause) {
      throw new GantryError("Invalid", `${this.#what}: the name ${JSON.stringify(Buffer.from(bytes).toString("latin1"))} is not UTF-8`, { cause });
    }
  }

  async #meta(size: number): Promise<Buffer> {
    if (size > MAX_META_BYTES) throw this.#invalid(`has an extended header of ${size} bytes; at most ${MAX_META_BYTES} are allowed`);
    const bytes = await this.#read(size, false);
    await this.#skip((BLOCK - (size % BLOCK)) % BLOCK);
    return bytes;
  }

  /** One block without a copy where it lies in one chunk; undefined when the source is at its end. */
  async #block(): Promise<Uint8Array | undefined> {
    if (this.#buffer.length === 0 && !(await this.#fill())) return undefined;
    if (this.#buffer.length < BLOCK) return this.#read(BLOCK, false);
    const block = this.#buffer.subarray(0, BLOCK);
    this.#buffer = this.#buffer.subarray(BLOCK);
    return block;
  }

  async #read(length: number, content: boolean): Promise<Buffer> {
    const pieces: Uint8Array[] = [];
    for (let left = length; left > 0;) {
      if (this.#buffer.length === 0 && !(await this.#fill())) throw this.#truncated();
      const piece = this.#buffer.subarray(0, left);
      pieces.push(piece);
      this.#buffer = this.#buffer.subarray(piece.length);
      left -= piece.length;
    }
    if (content) this.#contentLeft -= length;
    return Buffer.concat(pieces);
  }

  async #skip(length: number): Promise<void> {
    for (let left = length; left > 0;) {
      if (this.#buffer.length === 0 && !(await this.#fill())) throw this.#truncated();
      const n = Math.min(left, this.#buffer.length);
      this.#buffer = this.#buffer.subarray(n);
      left -= n;
    }
  }

  async #fill(): Promise<boolean> {
    for (;;) {
      const { value, done } = await this.#source.next();
      if (done === true) return false;
      if (value.length === 0) continue;
      this.#buffer = value;
      return true;
    }
  }

  #invalid(why: string): GantryError {
    return new GantryError("Invalid", `${this.#what} ${why}`);
  }

  #truncated(): GantryError {
    return this.#invalid(`is cut off${this.#entryPath === "" ? "" : ` in or after the entry ${JSON.stringify(this.#entryPath)}`}`);
  }
}

const PAX_KEYS = new Set(["path", "linkpath", "size", "uid", "gid", "mtime"]);

const isZero = (block: Uint8Array): boolean => block.every((byte) => byte === 0);

const cString = (bytes: Uint8Array): Uint8Array => {
  const end = bytes.indexOf(0);
  return end < 0 ? bytes : bytes.subarray(0, end);
};

/** The sum of all bytes with the checksum field as blanks; old writers added them as signed ones. */
const checksumMatches = (header: Uint8Array): boolean => {
  let unsigned = 8 * 32;
  let signed = 8 * 32;
  for (let i = 0; i < BLOCK; i++) {
    if (i >= 148 && i < 156) continue;
    const byte = header[i]!;
    unsigned += byte;
    signed += byte > 127 ? byte - 256 : byte;
  }
  const stored = Number.parseInt(Buffer.from(header.subarray(148, 156)).toString("latin1").replace(/[\0 ]+$/, "").trimStart(), 8);
  return stored === unsigned || stored === signed;
};
