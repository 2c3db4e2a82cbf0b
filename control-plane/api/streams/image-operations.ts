// Owns what the API offers for images beside loading them: /apis/gantry.io/v1/images and below. Nodes hold the images; each request goes to all
// connected nodes, or those that `node=` names, and the answers are joined. What takes long answers with lines of JSON as it goes.
import { within } from "../../../base/deadline.ts";
import { GantryError, describeError, isCode } from "../../../base/errors.ts";
import { newId } from "../../../base/ids.ts";
import { NODES } from "../../../base/kube/resources.ts";
import type { ImageProgress, ImageRecord, ImageReport, ImageRequest, RegistryCredential } from "../../../proto/gen/gantry/v1/agent.ts";
import type { NodeStreams } from "../../state/node-streams.ts";
import { readBody } from "../body.ts";
import type { ApiContext } from "../context.ts";
import type { Exchange } from "../exchange.ts";

type Action = NonNullable<ImageRequest["action"]>;
/** One request, and what answers it. */
interface Operation {
  readonly exchange: Exchange;
  readonly streams: NodeStreams;
  readonly context: ApiContext;
}
type Handler = (operation: Operation) => Promise<void>;

const MAX_BODY_BYTES = 1024 * 1024;
/** What a node looks up is there at once: one that hangs holds up the others' answers for no longer. */
const LOOKUP_MS = 10_000;
/** Measuring and removing directories takes as long as the disk does. */
const DISK_WORK_MS = 120_000;

/** The nodes that a request is for. Errors: "NotFound", "ServiceUnavailable". */
export const chosenNodes = ({ exchange, streams }: Pick<Operation, "exchange" | "streams">): readonly string[] => {
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

interface Failed {
  readonly node: string;
  readonly error: unknown;
}

interface Answers {
  readonly reports: readonly { readonly node: string; readonly report: ImageReport }[];
  readonly failed: readonly Failed[];
}

const LOOKUPS: ReadonlySet<Action["$case"]> = new Set(["list", "inspect", "tag"]);

/** Errors: "Timeout", and those of the node. */
export const askInTime = ({ exchange, streams, context }: Operation, node: string, action: Action): Promise<ImageReport> => {
  const limitMs = LOOKUPS.has(action.$case) ? LOOKUP_MS : DISK_WORK_MS;
  return within(context.clock, limitMs, `node ${node} did not answer within ${limitMs / 1000} s`, exchange.signal, (signal) => ask(streams, node, action, signal));
};

const askAll = async (operation: Operation, nodes: readonly string[], action: Action): Promise<Answers> => {
  const settled = await Promise.allSettled(nodes.map((node) => askInTime(operation, node, action)));
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

const failures = (failed: readonly Failed[]): readonly object[] => failed.map(({ node, error }) => ({ node, error: describeError(error) }));

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

/** Nodes of the cluster that nobody could ask: what the others answer is not all. None of them when the client chose its nodes. */
const unreached = ({ exchange, context }: Operation, asked: readonly string[]): readonly Failed[] =>
  exchange.query.has("node") ? [] : [...context.cache.resource(NODES).list()].map(({ object }) => object.metadata.name!).filter((name) => !asked.includes(name))
    .map((node) => ({ node, error: new GantryError("ServiceUnavailable", `node ${node} is not connected: is its agent running?`) }));

/** The same on several nodes; a line for each step, one for each node's end, and a summary. */
const followed = async ({ exchange, streams }: Operation, nodes: readonly string[], action: Action): Promise<void> => {
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

const list: Handler = async (operation) => {
  const nodes = chosenNodes(operation);
  const answers = await askAll(operation, nodes, { $case: "list", value: {} });
  throwUnlessAny(answers);
  operation.exchange.value(200, { items: answers.reports.flatMap(({ node, report }) => report.images.map((image) => toJson(node, image))), failed: failures([...answers.failed, ...unreached(operation, nodes)]) });
};

const pull: Handler = async (operation) => {
  const nodes = chosenNodes(operation);
  const { reference, credentials } = await bodyOf(operation.exchange, { reference: "string", credentials: "credentials" });
  await followed(operation, nodes, { $case: "pull", value: { reference: required("reference", reference), credentials: [...credentials] } });
};

const inspected = async (operation: Operation, reference: string): Promise<Answers> => {
  const answers = await askAll(operation, chosenNodes(operation), { $case: "inspect", value: { reference } });
  throwUnlessAny(answers);
  return answers;
};

const inspect: Handler = async (operation) => {
  const { reports } = await inspected(operation, required("name", operation.exchange.query.get("name") ?? ""));
  // Nodes may have different images by one name: all of them are told.
  operation.exchange.value(200, { items: reports.flatMap(({ node, report }) => report.images.map((image) => ({ ...toJson(node, image), config: JSON.parse(Buffer.from(report.config).toString("utf8")) as unknown }))) });
};

/** A node that has the image; the one that made it need not be known. */
const nodeWith = async (operation: Operation, reference: string): Promise<string> => (await inspected(operation, reference)).reports[0]!.node;

const push: Handler = async (operation) => {
  chosenNodes(operation);
  const { reference, credentials, allTags } = await bodyOf(operation.exchange, { reference: "string", credentials: "credentials", allTags: "boolean" });
  required("reference", reference);
  let node: string;
  if (allTags) {
    const { reports } = await askAll(operation, chosenNodes(operation), { $case: "list", value: {} });
    const counted = reports.map((r) => ({ node: r.node, tags: r.report.images.flatMap((image) => image.names).filter((name) => name.includes(reference)).length }));
    node = counted.sort((a, b) => b.tags - a.tags)[0]?.node ?? chosenNodes(operation)[0]!;
  } else {
    node = await nodeWith(operation, reference);
  }
  await followed(operation, [node], { $case: "push", value: { reference, credentials: [...credentials], allTags } });
};

const tag: Handler = async (operation) => {
  const nodes = chosenNodes(operation);
  const { source, target } = await bodyOf(operation.exchange, { source: "string", target: "string" });
  const answers = await askAll(operation, nodes, { $case: "tag", value: { source: required("source", source), target: required("target", target) } });
  throwUnlessAny(answers);
  // A node without the image has nothing to tag.
  const failed = answers.failed.filter(({ error }) => !isCode(error, "NotFound"));
  operation.exchange.value(200, { nodes: answers.reports.map((r) => r.node), failed: failures(failed) });
};

const remove: Handler = async (operation) => {
  let nodes = chosenNodes(operation);
  const { references, force, noPrune } = await bodyOf(operation.exchange, { references: "strings", force: "boolean", noPrune: "boolean" });
  if (references.length === 0) throw new GantryError("BadRequest", "references: at least one image is required");
  const results: object[] = [];
  /** Not asked again for the next image: each would wait as long. */
  const silent: Failed[] = [];
  for (const reference of references) {
    const answers = await askAll(operation, nodes, { $case: "remove", value: { references: [reference], force, noPrune } });
    const reports = answers.reports.map(({ node, report }) => ({ node, untagged: report.untagged, deleted: report.deleted, freedBytes: report.freedBytes }));
    // Absent here and there is how images are; absent everywhere is a mistake.
    const telling = [...silent, ...answers.failed.filter(({ error }) => !isCode(error, "NotFound"))];
    results.push({ reference, nodes: reports, failed: failures(telling.length > 0 || reports.length > 0 ? telling : answers.failed.slice(0, 1)) });
    silent.push(...answers.failed.filter(({ error }) => isCode(error, "Timeout")));
    nodes = nodes.filter((node) => !silent.some((s) => s.node === node));
  }
  operation.exchange.value(200, { results });
};

const prune: Handler = async (operation) => {
  const nodes = chosenNodes(operation);
  const { all, untilMs, labels } = await bodyOf(operation.exchange, { all: "boolean", untilMs: "number", labels: "strings" });
  const answers = await askAll(operation, nodes, { $case: "prune", value: { all, untilMs, labels: [...labels] } });
  throwUnlessAny(answers);
  operation.exchange.value(200, {
    nodes: answers.reports.map(({ node, report }) => ({ node, untagged: report.untagged, deleted: report.deleted, freedBytes: report.freedBytes })), failed: failures(answers.failed),
  });
};

const usage: Handler = async (operation) => {
  const nodes = chosenNodes(operation);
  const answers = await askAll(operation, nodes, { $case: "usage", value: {} });
  throwUnlessAny(answers);
  operation.exchange.value(200, { nodes: answers.reports.map(({ node, report }) => ({ node, ...report.usage })), failed: failures([...answers.failed, ...unreached(operation, nodes)]) });
};

const save: Handler = async (operation) => {
  const { exchange, streams } = operation;
  const names = exchange.query.getAll("name");
  if (names.length === 0) throw new GantryError("BadRequest", "name: at least one image is required");
  const holders = await Promise.all(names.map(async (name) => new Set((await inspected(operation, name)).reports.map((r) => r.node))));
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

const GET: Readonly<Record<string, Handler>> = { "": list, inspect, save, df: usage };
const POST: Readonly<Record<string, Handler>> = { pull, push, tag, remove, prune };

/** The handler of a path below images; undefined when there is none. "" is the collection itself, whose POST is serveImageLoad. */
export const imageOperation = (name: string, isPost: boolean): Handler | undefined => {
  const table = isPost ? POST : GET;
  return Object.hasOwn(table, name) ? table[name] : undefined;
};

export const isImageOperation = (name: string): boolean => Object.hasOwn(GET, name) || Object.hasOwn(POST, name);
