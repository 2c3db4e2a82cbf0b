// Random objects of any type of the schema, and an encoder of their protobuf form that is written from the specification, not from
// protobuf.ts: for property tests.
import { messageSchema, type FieldSchema } from "../schema.ts";

/** Mulberry32: the same seed, the same sequence. */
export const seeded = (seed: number): (() => number) => {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
};

/** For keys and texts. */
export const PLAIN_WORDS: readonly string[] = ["a", "b", "web", "db", "üñ", "x-y", "0"];
const WORDS = [...PLAIN_WORDS, "__proto__", "constructor"];
const pick = <T>(random: () => number, list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
const upTo = (random: () => number, n: number): number => Math.floor(random() * (n + 1));

const scalar = (type: string, random: () => number, words: readonly string[]): unknown => {
  switch (type) {
    case "string": return pick(random, words);
    case "bool": return random() < 0.5;
    case "int32": return upTo(random, 4_000_000) - 2_000_000;
    case "int64": return upTo(random, 2 ** 40) - 2 ** 39;
    case "bytes": return Buffer.from(Array.from({ length: upTo(random, 5) }, () => upTo(random, 255))).toString("base64");
    case "time": return `${new Date(upTo(random, 4e9) * 1000).toISOString().slice(0, 19)}Z`;
    case "microtime": return `${new Date(upTo(random, 4e9) * 1000).toISOString().slice(0, 19)}.${String(upTo(random, 999_999)).padStart(6, "0")}Z`;
    case "quantity": return pick(random, ["0", "500m", "1", "64Mi", "2G"]);
    case "intorstring": return random() < 0.5 ? upTo(random, 100) : `${upTo(random, 100)}%`;
    case "fields": return { "f:metadata": {} };
    default: return { any: ["thing", 1] };
  }
};

/** Sparse, at most `depth` levels of messages; nested and repeated at random. */
export const randomObject = (key: string, random: () => number, depth = 6, words: readonly string[] = WORDS): Record<string, unknown> => {
  const one = (field: FieldSchema): unknown => (field.r ? randomObject(field.t, random, depth - 1, words) : scalar(field.t, random, words));
  const fields = Object.entries(messageSchema(key)).filter(([, f]) => !(f.r && depth === 0));
  const density = Math.min(1, 5 / fields.length);
  return Object.fromEntries(fields.filter(() => random() < density).map(([name, f]) => [
    name,
    f.list ? Array.from({ length: 1 + upTo(random, 2) }, () => one(f))
      : f.map ? Object.fromEntries(Array.from({ length: 1 + upTo(random, 2) }, () => [pick(random, words), one(f)])) : one(f),
  ]));
};

const varint = (value: bigint): Buffer => {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  do {
    bytes.push(Number(rest & 0x7fn) | (rest > 0x7fn ? 0x80 : 0));
    rest >>= 7n;
  } while (rest > 0n);
  return Buffer.from(bytes);
};
const number = (no: number, value: number | bigint): Buffer => Buffer.concat([varint(BigInt(no * 8)), varint(BigInt(value))]);
const bytes = (no: number, value: Buffer | string): Buffer => Buffer.concat([varint(BigInt(no * 8 + 2)), varint(BigInt(Buffer.from(value as string).length)), Buffer.from(value as string)]);

const timeMessage = (text: string): Buffer => {
  const micros = /\.(\d+)Z/.exec(text)?.[1] ?? "0";
  return Buffer.concat([number(1, Date.parse(`${text.slice(0, 19)}Z`) / 1000), number(2, Number(micros) * 1000)]);
};

const encodeValue = (no: number, field: FieldSchema, value: unknown): Buffer => {
  if (field.r) return bytes(no, encodeMessage(field.t, value as Record<string, unknown>));
  switch (field.t) {
    case "bool": return number(no, value ? 1 : 0);
    case "int32": case "int64": return number(no, value as number);
    case "bytes": return bytes(no, Buffer.from(value as string, "base64"));
    case "time": case "microtime": return bytes(no, timeMessage(value as string));
    case "quantity": return bytes(no, bytes(1, value as string));
    case "fields": case "raw": return bytes(no, bytes(1, JSON.stringify(value)));
    case "intorstring": return bytes(no, typeof value === "number" ? Buffer.concat([number(1, 0), number(2, value), bytes(3, "")]) : Buffer.concat([number(1, 1), number(2, 0), bytes(3, value as string)]));
    default: return bytes(no, value as string);
  }
};

export const encodeMessage = (key: string, object: Readonly<Record<string, unknown>>): Buffer => {
  const fields = messageSchema(key);
  const inline = new Map<number, Buffer[]>();
  const parts: Buffer[] = [];
  for (const [name, value] of Object.entries(object)) {
    const field = fields[name]!;
    const to = field.via === undefined ? parts : (inline.get(field.via) ?? []);
    if (field.via !== undefined) inline.set(field.via, to);
    if (field.list) to.push(...(value as unknown[]).map((v) => encodeValue(field.no, field, v)));
    else if (field.map) to.push(...Object.entries(value as object).map(([k, v]) => bytes(field.no, Buffer.concat([bytes(1, k), encodeValue(2, field, v)]))));
    else to.push(encodeValue(field.no, field, value));
  }
  return Buffer.concat([...parts, ...[...inline].map(([via, inner]) => bytes(via, Buffer.concat(inner)))]);
};

/** The whole body as a client sends it. */
export const encodeBody = (apiVersion: string, kind: string, key: string, object: Readonly<Record<string, unknown>>): Buffer =>
  Buffer.concat([Buffer.from("k8s\0"), bytes(1, Buffer.concat([bytes(1, apiVersion), bytes(2, kind)])), bytes(2, encodeMessage(key, object)), bytes(3, ""), bytes(4, "")]);
