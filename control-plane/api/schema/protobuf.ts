// Reads `application/vnd.kubernetes.protobuf`, which typed Go clients and kubectl 1.32+ send: magic `k8s\0`, then a
// runtime.Unknown {1 typeMeta {1 apiVersion, 2 kind}, 2 raw, 3 contentEncoding, 4 contentType} around the object's message.
// The result is the JSON form, not yet normalized: decodeObject does that. Wire format: https://protobuf.dev/programming-guides/encoding/
import { GantryError } from "../../../base/errors.ts";
import { messageSchema, schemaKeyOf, type FieldSchema, type ScalarType } from "./schema.ts";

export interface ProtobufObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly object: Record<string, unknown>;
}

const MAGIC = Buffer.from("k8s\0", "latin1");
/** Deeper than any type of ours, and shallow enough for the stack. */
const MAX_DEPTH = 64;

const [VARINT, FIXED64, BYTES, FIXED32] = [0, 1, 2, 5];

const broken = (why: string): GantryError => new GantryError("BadRequest", `the protobuf body can't be read: ${why}`);

/** A message's fields, one at a time. */
class Reader {
  readonly #bytes: Buffer;
  #at = 0;
  /** Of the field that next() found. */
  number = 0;
  wireType = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get done(): boolean {
    return this.#at >= this.#bytes.length;
  }

  next(): boolean {
    if (this.done) return false;
    const tag = Number(this.varint());
    this.number = Math.floor(tag / 8);
    this.wireType = tag % 8;
    if (this.number === 0) throw broken("field number 0");
    return true;
  }

  varint(): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) throw broken("it ends within a number");
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw broken("a number of more than ten bytes");
  }

  /** int32, int64: two's complement in 64 bits. */
  int(): number {
    return Number(BigInt.asIntN(64, this.varint()));
  }

  bytes(): Buffer {
    const length = Number(this.varint());
    if (length > this.#bytes.length - this.#at) throw broken("a field is longer than the message");
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  string(): string {
    return this.bytes().toString("utf8");
  }

  skip(): void {
    switch (this.wireType) {
      case VARINT: this.varint(); break;
      case FIXED64: this.#at += 8; break;
      case BYTES: this.bytes(); break;
      case FIXED32: this.#at += 4; break;
      default: throw broken(`wire type ${this.wireType}`);
    }
    if (this.#at > this.#bytes.length) throw broken("it ends within a field");
  }
}

/** The fields of a small message of scalars, by number. */
const scalarFields = (bytes: Buffer): ReadonlyMap<number, bigint | Buffer> => {
  const fields = new Map<number, bigint | Buffer>();
  for (const reader = new Reader(bytes); reader.next();) {
    if (reader.wireType === VARINT) fields.set(reader.number, reader.varint());
    else if (reader.wireType === BYTES) fields.set(reader.number, reader.bytes());
    else reader.skip();
  }
  return fields;
};

const textOf = (fields: ReadonlyMap<number, bigint | Buffer>, number: number): string => {
  const value = fields.get(number);
  return Buffer.isBuffer(value) ? value.toString("utf8") : "";
};
const intOf = (fields: ReadonlyMap<number, bigint | Buffer>, number: number): number => {
  const value = fields.get(number);
  return typeof value === "bigint" ? Number(BigInt.asIntN(64, value)) : 0;
};

/** Time {1 seconds, 2 nanos}; an empty message is Go's zero time, which JSON writes as null. */
const timeOf = (bytes: Buffer, micro: boolean): string | null => {
  if (bytes.length === 0) return null;
  const fields = scalarFields(bytes);
  const [seconds, nanos] = [intOf(fields, 1), intOf(fields, 2)];
  // Go's zero time, year 1, when it was written out all the same
  if (seconds <= -62_135_596_800) return null;
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) throw broken(`${seconds} seconds are no time`);
  const text = date.toISOString().slice(0, 19);
  return micro ? `${text}.${String(Math.floor(nanos / 1000)).padStart(6, "0")}Z` : `${text}Z`;
};

const jsonOf = (bytes: Buffer): unknown => {
  const raw = textOf(scalarFields(bytes), 1);
  if (raw === "") return null;
  try {
    return JSON.parse(raw) as unknown;
  } catch (error) {
    throw new GantryError("BadRequest", "the protobuf body can't be read: a field that holds JSON doesn't", { cause: error });
  }
};

const readValue = (reader: Reader, field: FieldSchema, depth: number): unknown => {
  if (field.r) return readMessage(field.t, reader.bytes(), depth + 1);
  switch (field.t as ScalarType) {
    case "string": return reader.string();
    case "bool": return reader.varint() !== 0n;
    case "int32": case "int64": return reader.int();
    case "bytes": return reader.bytes().toString("base64");
    case "time": return timeOf(reader.bytes(), false);
    case "microtime": return timeOf(reader.bytes(), true);
    case "quantity": return textOf(scalarFields(reader.bytes()), 1) || "0";
    case "fields": case "raw": return jsonOf(reader.bytes());
    case "intorstring": {
      const fields = scalarFields(reader.bytes());
      return intOf(fields, 1) === 0 ? intOf(fields, 2) : textOf(fields, 3);
    }
  }
};

const isVarint = (field: FieldSchema): boolean => field.t === "bool" || field.t === "int32" || field.t === "int64";

const wireTypeOf = (field: FieldSchema): number => (isVarint(field) && !field.map && !field.r ? VARINT : BYTES);

const emptyValue = (field: FieldSchema): unknown => (field.r ? {} : field.t === "quantity" ? "0" : isVarint(field) ? 0 : "");

const readMapEntry = (bytes: Buffer, field: FieldSchema, depth: number): readonly [string, unknown] => {
  let key = "";
  let value = emptyValue(field);
  for (const reader = new Reader(bytes); reader.next();) {
    if (reader.number === 1 && reader.wireType === BYTES) key = reader.string();
    else if (reader.number === 2 && reader.wireType === (isVarint(field) ? VARINT : BYTES)) value = readValue(reader, field, depth);
    else reader.skip();
  }
  return [key, value];
};

interface Layout {
  readonly fields: ReadonlyMap<number, readonly [name: string, field: FieldSchema]>;
  /** Field number of an inline struct -> its fields, which JSON shows among the outer ones. */
  readonly inline: ReadonlyMap<number, Layout>;
}

const layouts = new Map<string, Layout>();

const layoutOf = (key: string): Layout => {
  const known = layouts.get(key);
  if (known) return known;
  const entries = Object.entries(messageSchema(key));
  const of = (via: number | undefined): Layout["fields"] => new Map(entries.filter(([, f]) => f.via === via).map(([name, f]) => [f.no, [name, f]]));
  const vias = new Set(entries.flatMap(([, f]) => (f.via === undefined ? [] : [f.via])));
  const layout: Layout = { fields: of(undefined), inline: new Map([...vias].map((via) => [via, { fields: of(via), inline: new Map<number, Layout>() }])) };
  layouts.set(key, layout);
  return layout;
};

const readInto = (out: Record<string, unknown>, layout: Layout, bytes: Buffer, depth: number): void => {
  if (depth > MAX_DEPTH) throw broken(`messages are nested more than ${MAX_DEPTH} deep`);
  for (const reader = new Reader(bytes); reader.next();) {
    const inner = layout.inline.get(reader.number);
    const known = layout.fields.get(reader.number);
    if (inner && reader.wireType === BYTES) readInto(out, inner, reader.bytes(), depth + 1);
    else if (known) readField(out, known[0], known[1], reader, depth);
    else reader.skip(); // a field of a newer API: as upstream, dropped
  }
};

const readField = (out: Record<string, unknown>, name: string, field: FieldSchema, reader: Reader, depth: number): void => {
  if (field.map && reader.wireType === BYTES) {
    const [key, value] = readMapEntry(reader.bytes(), field, depth);
    const map = (out[name] ??= {}) as Record<string, unknown>;
    // A plain assignment of "__proto__" would set the prototype.
    Object.defineProperty(map, key, { value, enumerable: true, configurable: true, writable: true });
  } else if (field.list) {
    const list = (out[name] ??= []) as unknown[];
    if (isVarint(field) && reader.wireType === BYTES) {
      for (const packed = new Reader(reader.bytes()); !packed.done;) list.push(readValue(packed, field, depth));
    } else if (reader.wireType === wireTypeOf(field)) list.push(readValue(reader, field, depth));
    else reader.skip();
  } else if (reader.wireType === wireTypeOf(field)) out[name] = readValue(reader, field, depth);
  else reader.skip();
};

const readMessage = (key: string, bytes: Buffer, depth: number): Record<string, unknown> => {
  const out: Record<string, unknown> = {};
  readInto(out, layoutOf(key), bytes, depth);
  return out;
};

/** BadRequest for what is no such encoding, or holds a kind that Gantry doesn't know. */
export const decodeProtobuf = (bytes: Uint8Array): ProtobufObject => {
  const body = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!body.subarray(0, 4).equals(MAGIC)) throw broken(`it doesn't start with "k8s\\0" but with 0x${body.subarray(0, 4).toString("hex")}`);
  const unknown = scalarFields(body.subarray(4));
  const typeMeta = unknown.get(1);
  const raw = unknown.get(2);
  const encoding = textOf(unknown, 3);
  if (encoding !== "") throw broken(`content encoding ${JSON.stringify(encoding)}`);
  const type = scalarFields(Buffer.isBuffer(typeMeta) ? typeMeta : Buffer.alloc(0));
  const [apiVersion, kind] = [textOf(type, 1), textOf(type, 2)];
  const key = schemaKeyOf(apiVersion, kind);
  if (key === undefined) throw new GantryError("BadRequest", `no kind ${JSON.stringify(kind)} is registered for version ${JSON.stringify(apiVersion)}`);
  return { apiVersion, kind, object: readMessage(key, Buffer.isBuffer(raw) ? raw : Buffer.alloc(0), 0) };
};
