// Owns what the API offers for images beside loading them: /apis/gantry.io/v1/images and below. Nodes hold the images; each request goes to all
// connected nodes, or those that `node=` names, and the answers are joined. What takes long answers with lines of JSON as it goes.
import { GantryError, describeError, isCode } from "../../../base/errors.ts";
import { newId } from "../../../base/ids.ts";
import type { ImageProgress, ImageRecord, ImageReport, ImageRequest, RegistryCredential } from "../../../proto/gen/gantry/v1/agent.ts";
import type { NodeStreams } from "../../state/node-streams.ts";
import { readBody } from "../body.ts";
import type { Exchange } from "../exchange.ts";

type Action = NonNullable<ImageRequest["action"]>;
type Handler = (exchange: Exchange, streams: NodeStreams) => Promise<void>;

const MAX_BODY_BYTES = 1024 * 1024;

/** The nodes that a request is for. Errors: "NotFound", "ServiceUnavailable". */
export const chosenNodes = (exchange: Exchange, streams: NodeStreams): readonly string[] => {
  const connected = streams.connectedNodes();
  const wanted = exchange.query.getAll("node");
  const absent = wanted.filter((n) => !connected.includes(n));
  if (absent.length > 0) throw new GantryError("NotFound", `not connected: ${absent.join(", ")}; connected nodes: ${connected.join(", ") || "none"}`);
  const nodes = wanted.length > 0 ? wanted : connected;
  if (nodes.length === 0) throw new GantryError("ServiceUnavailable", "no node is connected: there are no images to work with");
  return nodes;
};

const ask = async (streams: NodeStreams, node: string, action: Action, signal: AbortSignal, onProgress: (progress: ImageProgress) => void = () => undefined): Promise<ImageReport> => {
  await using stream = await streams.open(node, { id: newId(), kind: { $case: "image", value: { action } } }, signal);
  let report: ImageReport | undefined;
  for await (const { frame } of stream.frames) {
    if (frame?.$case === "imageProgress") onProgress(frame.value);
    else if (frame?.$case === "imageReport") report = frame.value;
  }
  if (report === undefined) throw new GantryError("InternalError", `node ${node} ended the stream without an answer`);
  return report;
};

interface Answers {
  readonly reports: readonly { readonly node: string; readonly report: ImageReport }[];
  readonly failed: readonly { readonly node: string; readonly error: unknown }[];
}

const askAll = async (streams: NodeStreams, nodes: readonly string[], action: Action, signal: AbortSignal): Promise<Answers> => {
  const settled = await Promise.allSettled(nodes.map((node) => ask(streams, node, action, signal)));
  return {
    reports: settled.flatMap((s, i) => (s.status === "fulfilled" ? [{ node: nodes[i]!, report: s.value }] : [])),
    failed: settled.flatMap((s, i) => (s.status === "rejected" ? [{ node: nodes[i]!, error: s.reason as unknown }] : [])),
  };
};

/** When no node could do it, the answer is one node's error: the most telling one. */
const throwUnlessAny = ({ reports, failed }: Answers): void => {
  if (reports.length > 0 || failed.length === 0) return;
  throw (failed.find(({ error }) => !isCode(error, "NotFound")) ?? failed[0]!).error;
};

const failures = ({ failed }: Answers): readonly object[] => failed.map(({ node, error }) => ({ node, error: describeError(error) }));

const toJson = (node: string, r: ImageRecord): object => ({
  node, id: r.id, digest: r.manifestDigest, mediaType: r.mediaType, manifestBytes: r.manifestBytes, names: r.names, sizeBytes: r.sizeBytes, created: new Date(r.createdMs).toISOString(),
  architecture: r.architecture, labels: r.labels, usedBy: r.usedBy, layers: r.layers,
});

// ---- what clients send

type Fields = Readonly<Record<string, "string" | "boolean" | "strings" | "credentials" | "number">>;
type Body<F extends Fields> = { readonly [K in keyof F]: F[K] extends "string" ? string : F[K] extends "boolean" ? boolean : F[K] extends "number" ? number : F[K] extends "strings" ? readonly string[] : readonly RegistryCredential[] };

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === "object" && value !== null && !Array.isArray(value);

/** A JSON object with these fields; those that are absent are empty. Errors: "BadRequest", with the field, its value, and what would be right. */
export const readFields = <F extends Fields>(bytes: Buffer, fields: F): Body<F> => {
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString("utf8") || "{}");
  } catch (cause) {
    throw new GantryError("BadRequest", "the request's body is not JSON", { cause });
  }
  if (!isObject(json)) throw new GantryError("BadRequest", "the request's body is not a JSON object");
  const given = json;
  for (const key of Object.keys(given)) if (!Object.hasOwn(fields, key)) throw new GantryError("BadRequest", `${key}: unknown field; there are ${Object.keys(fields).join(", ")}`);
  const convert = (key: string): unknown => {
    const type = fields[key]!;
    const value = given[key];
    const wrong = (wanted: string): GantryError => new GantryError("BadRequest", `${key}: ${type === "credentials" ? "this value" : JSON.stringify(value)} is not ${wanted}`);
    if (type === "string" || type === "boolean" || type === "number") {
      const empty = { string: "", boolean: false, number: 0 }[type];
      if (value !== undefined && typeof value !== type) throw wrong(`a ${type}`);
      return value ?? empty;
    }
    if (value === undefined) return [];
    if (!Array.isArray(value)) throw wrong("a list");
    if (type === "strings") {
      if (!value.every((v) => typeof v === "string")) throw wrong("a list of texts");
      return value;
    }
    return value.map((c: unknown): RegistryCredential => {
      if (!isObject(c) || typeof c["registry"] !== "string") throw wrong("a list of {registry, username, password, identityToken}");
      const text = (field: string): string => (typeof c[field] === "string" ? c[field] : "");
      return { registry: c["registry"], username: text("username"), password: text("password"), identityToken: text("identityToken") };
    });
  };
  return Object.fromEntries(Object.keys(fields).map((key) => [key, convert(key)])) as Body<F>;
};

const bodyOf = async <F extends Fields>(exchange: Exchange, fields: F): Promise<Body<F>> => readFields(await readBody(exchange, MAX_BODY_BYTES), fields);

const required = (field: string, value: string): string => {
  if (value === "") throw new GantryError("BadRequest", `${field}: is required`);
  return value;
};

// ---- answers that come line by line

interface Lines {
  readonly say: (line: object) => void;
  readonly end: () => void;
}

const lines = (exchange: Exchange): Lines => {
  const sink = exchange.open(200, "application/x-ndjson");
  return { say: (line) => void sink.write(`${JSON.stringify(line)}\n`), end: () => sink.end() };
};

const progressLine = (node: string, { id, status, currentBytes, totalBytes }: ImageProgress): object => ({ node, id, status, currentBytes, totalBytes });

/** The same on several nodes; a line for each step, one for each node's end, and a summary. */
const followed = async (exchange: Exchange, streams: NodeStreams, nodes: readonly string[], action: Action): Promise<void> => {
  const { say, end } = lines(exchange);
  let [done, failed] = [0, 0];
  await Promise.all(nodes.map(async (node) => {
    try {
      const { images } = await ask(streams, node, action, exchange.signal, (progress) => say(progressLine(node, progress)));
      done++;
      say({ node, done: true, images: images.map((image) => toJson(node, image)) });
    } catch (error) {
      failed++;
      say({ node, error: describeError(error) });
    }
  }));
  say({ summary: { done, failed } });
  end();
};

// ---- operations

const list: Handler = async (exchange, streams) => {
  const answers = await askAll(streams, chosenNodes(exchange, streams), { $case: "list", value: {} }, exchange.signal);
  throwUnlessAny(answers);
  exchange.value(200, { items: answers.reports.flatMap(({ node, report }) => report.images.map((image) => toJson(node, image))), failed: failures(answers) });
};

const pull: Handler = async (exchange, streams) => {
  const nodes = chosenNodes(exchange, streams);
  const { reference, credentials } = await bodyOf(exchange, { reference: "string", credentials: "credentials" });
  await followed(exchange, streams, nodes, { $case: "pull", value: { reference: required("reference", reference), credentials: [...credentials] } });
};

const inspected = async (exchange: Exchange, streams: NodeStreams, reference: string): Promise<Answers> => {
  const answers = await askAll(streams, chosenNodes(exchange, streams), { $case: "inspect", value: { reference } }, exchange.signal);
  throwUnlessAny(answers);
  return answers;
};

const inspect: Handler = async (exchange, streams) => {
  const { reports } = await inspected(exchange, streams, required("name", exchange.query.get("name") ?? ""));
  // Nodes may have different images by one name: all of them are told.
  exchange.value(200, { items: reports.flatMap(({ node, report }) => report.images.map((image) => ({ ...toJson(node, image), config: JSON.parse(Buffer.from(report.config).toString("utf8")) as unknown }))) });
};

/** A node that has the image; the one that made it need not be known. */
const nodeWith = async (exchange: Exchange, streams: NodeStreams, reference: string): Promise<string> => (await inspected(exchange, streams, reference)).reports[0]!.node;

const push: Handler = async (exchange, streams) => {
  chosenNodes(exchange, streams);
  const { reference, credentials, allTags } = await bodyOf(exchange, { reference: "string", credentials: "credentials", allTags: "boolean" });
  required("reference", reference);
  let node: string;
  if (allTags) {
    const { reports } = await askAll(streams, chosenNodes(exchange, streams), { $case: "list", value: {} }, exchange.signal);
    const counted = reports.map((r) => ({ node: r.node, tags: r.report.images.flatMap((image) => image.names).filter((name) => name.includes(reference)).length }));
    node = counted.sort((a, b) => b.tags - a.tags)[0]?.node ?? chosenNodes(exchange, streams)[0]!;
  } else {
    node = await nodeWith(exchange, streams, reference);
  }
  await followed(exchange, streams, [node], { $case: "push", value: { reference, credentials: [...credentials], allTags } });
};

const tag: Handler = async (exchange, streams) => {
  const nodes = chosenNodes(exchange, streams);
  const { source, target } = await bodyOf(exchange, { source: "string", target: "string" });
  const answers = await askAll(streams, nodes, { $case: "tag", value: { source: required("source", source), target: required("target", target) } }, exchange.signal);
  throwUnlessAny(answers);
  // A node without the image has nothing to tag.
  const failed = answers.failed.filter(({ error }) => !isCode(error, "NotFound"));
  exchange.value(200, { nodes: answers.reports.map((r) => r.node), failed: failures({ ...answers, failed }) });
};

const remove: Handler = async (exchange, streams) => {
  const nodes = chosenNodes(exchange, streams);
  const { references, force, noPrune } = await bodyOf(exchange, { references: "strings", force: "boolean", noPrune: "boolean" });
  if (references.length === 0) throw new GantryError("BadRequest", "references: at least one image is required");
  const results: object[] = [];
  for (const reference of references) {
    const answers = await askAll(streams, nodes, { $case: "remove", value: { references: [reference], force, noPrune } }, exchange.signal);
    const reports = answers.reports.map(({ node, report }) => ({ node, untagged: report.untagged, deleted: report.deleted, freedBytes: report.freedBytes }));
    // Absent here and there is how images are; absent everywhere is a mistake.
    const telling = answers.failed.filter(({ error }) => !isCode(error, "NotFound"));
    results.push({ reference, nodes: reports, failed: failures({ ...answers, failed: telling.length > 0 || reports.length > 0 ? telling : answers.failed.slice(0, 1) }) });
  }
  exchange.value(200, { results });
};

const prune: Handler = async (exchange, streams) => {
  const nodes = chosenNodes(exchange, streams);
  const { all, untilMs, labels } = await bodyOf(exchange, { all: "boolean", untilMs: "number", labels: "strings" });
  const answers = await askAll(streams, nodes, { $case: "prune", value: { all, untilMs, labels: [...labels] } }, exchange.signal);
  throwUnlessAny(answers);
  exchange.value(200, {
    nodes: answers.reports.map(({ node, report }) => ({ node, untagged: report.untagged, deleted: report.deleted, freedBytes: report.freedBytes })), failed: failures(answers),
  });
};

const usage: Handler = async (exchange, streams) => {
  const answers = await askAll(streams, chosenNodes(exchange, streams), { $case: "usage", value: {} }, exchange.signal);
  throwUnlessAny(answers);
  exchange.value(200, { nodes: answers.reports.map(({ node, report }) => ({ node, ...report.usage })), failed: failures(answers) });
};

const save: Handler = async (exchange, streams) => {
  const names = exchange.query.getAll("name");
  if (names.length === 0) throw new GantryError("BadRequest", "name: at least one image is required");
  const holders = await Promise.all(names.map(async (name) => new Set((await inspected(exchange, streams, name)).reports.map((r) => r.node))));
  const node = [...holders[0]!].find((n) => holders.every((h) => h.has(n)));
  if (node === undefined) throw new GantryError("Conflict", `no single node has all of ${names.join(", ")}; save them one by one, or pull them first`, { retryable: false });
  const stream = await streams.open(node, { id: newId(), kind: { $case: "image", value: { action: { $case: "save", value: { references: names } } } } }, exchange.signal);
  await using _closing = stream;
  let sink: ReturnType<Exchange["open"]> | undefined;
  for await (const { frame } of stream.frames) {
    if (frame?.$case !== "stdout") continue;
    // Not before the first bytes: until then an error can still be an ordinary answer.
    sink ??= exchange.open(200, "application/x-tar");
    if (!sink.write(frame.value)) await sink.ready();
  }
  sink?.end();
};

/** Brings an image that one node has to the others, without a registry: for builds. */
const distribute: Handler = async (exchange, streams) => {
  const nodes = chosenNodes(exchange, streams);
  const { reference, from } = await bodyOf(exchange, { reference: "string", from: "string" });
  const source = from === "" ? await nodeWith(exchange, streams, required("reference", reference)) : from;
  const { images: [image] } = await ask(streams, source, { $case: "inspect", value: { reference } }, exchange.signal);
  const { names, manifestDigest, manifestBytes, mediaType } = image!;
  await followed(exchange, streams, nodes.filter((node) => node !== source), { $case: "receive", value: { names, manifestDigest, manifestBytes, mediaType, fromNode: source } });
};

const GET: Readonly<Record<string, Handler>> = { "": list, inspect, save, df: usage };
const POST: Readonly<Record<string, Handler>> = { pull, push, tag, remove, prune, distribute };

/** The handler of a path below images; undefined when there is none. "" is the collection itself, whose POST is serveImageLoad. */
export const imageOperation = (name: string, isPost: boolean): Handler | undefined => {
  const table = isPost ? POST : GET;
  return Object.hasOwn(table, name) ? table[name] : undefined;
};

export const isImageOperation = (name: string): boolean => Object.hasOwn(GET, name) || Object.hasOwn(POST, name);
