// Owns what comes in: reading a body within its limit, and decoding it (JSON, YAML, protobuf) into an object of the expected
// kind with the field validation that the client asked for.
import { parse as parseYaml } from "yaml";
import type { ScalarTag } from "yaml";
import { GantryError, describeError } from "../../base/errors.ts";
import type { KubeObject } from "../../base/kube/resources.ts";
import type { Exchange } from "./exchange.ts";
import { parseMediaType } from "./negotiate.ts";
import { decodeError, decodeObject, strictDecodingError, unknownFieldMessage } from "./schema/decode.ts";
import { duplicateFields } from "./schema/duplicate-fields.ts";
import { decodeProtobuf } from "./schema/protobuf.ts";

/** Upstream's limit (k8s.io/apiserver config.go MaxRequestBodyBytes). */
export const MAX_BODY_BYTES = 3 * 1024 * 1024;

const tooLarge = (limitBytes: number): GantryError =>
  new GantryError("RequestEntityTooLarge", `Request entity too large: limit is ${limitBytes} bytes`);

/** Throws RequestEntityTooLarge as soon as it is known, without reading the rest. */
export const readBody = async (exchange: Exchange, limitBytes = MAX_BODY_BYTES): Promise<Buffer> => {
  const encoding = exchange.headers["content-encoding"];
  if (encoding !== undefined && encoding !== "identity") throw new GantryError("UnsupportedMediaType", `the content encoding ${JSON.stringify(encoding)} is not supported: send the body as it is`);
  if (Number(exchange.headers["content-length"] ?? 0) > limitBytes) throw tooLarge(limitBytes);
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of exchange.body()) {
      size += chunk.length;
      if (size > limitBytes) throw tooLarge(limitBytes);
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof GantryError) throw error;
    throw new GantryError("BadRequest", `the request body could not be read: ${describeError(error)}`, { cause: error });
  }
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, size);
};

export type FieldValidation = "Strict" | "Warn" | "Ignore";

/** Absent means Warn, as upstream since 1.27. */
export const fieldValidationOf = (query: URLSearchParams): FieldValidation => {
  const value = query.get("fieldValidation") ?? "";
  if (value === "" || value === "Warn") return "Warn";
  if (value === "Strict" || value === "Ignore") return value;
  throw new GantryError("BadRequest", `fieldValidation: Unsupported value: ${JSON.stringify(value)}: supported values: "Ignore", "Warn", "Strict"`);
};

/** True for dryRun=All. */
export const dryRunOf = (values: readonly string[]): boolean => {
  const bad = values.find((v) => v !== "All");
  if (bad !== undefined) throw new GantryError("BadRequest", `dryRun: Unsupported value: ${JSON.stringify(bad)}: supported values: "All"`);
  return values.length > 0;
};

/** What a client sent, before it is checked against a schema. */
export interface RawObject {
  readonly value: Record<string, unknown>;
  /** Keys that stand twice: JSON only keeps the last. */
  readonly duplicates: readonly string[];
}

const asObject = (value: unknown): Record<string, unknown> => {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new GantryError("BadRequest", `the request body must be an object, not ${value === null ? "null" : Array.isArray(value) ? "a list" : `a ${typeof value}`}`);
};

export const parseJson = (bytes: Buffer): unknown => {
  try {
    return JSON.parse(bytes.toString()) as unknown;
  } catch (error) {
    throw new GantryError("BadRequest", `the request body is not valid JSON: ${describeError(error)}`);
  }
};

/** YAML 1.2, but that 0644 is octal, as in YAML 1.1, which Kubernetes' manifests are written in: a file mode read as decimal would be a hole. */
const LEGACY_OCTAL: ScalarTag = { tag: "tag:yaml.org,2002:int", default: true, test: /^0[0-7]+$/, identify: () => false, resolve: (text) => Number.parseInt(text, 8) };

export const parseYamlText = (bytes: Buffer): unknown => {
  try {
    // maxAliasCount guards against documents that unfold to gigabytes ("billion laughs").
    return parseYaml(bytes.toString(), { maxAliasCount: 100, customTags: (tags) => [LEGACY_OCTAL, ...tags] }) as unknown;
  } catch (error) {
    throw new GantryError("BadRequest", `the request body is not valid YAML: ${describeError(error)}`);
  }
};

/** By content type; none means JSON (kubectl 1.20 sends none). */
export const parseObject = (bytes: Buffer, contentType: string | undefined): RawObject => {
  const { type } = parseMediaType(contentType ?? "application/json");
  switch (type) {
    case "": case "application/json": case "text/plain": case "application/x-www-form-urlencoded": {
      const value = asObject(parseJson(bytes));
      return { value, duplicates: duplicateFields(bytes.toString()) };
    }
    case "application/yaml": return { value: asObject(parseYamlText(bytes)), duplicates: [] };
    case "application/vnd.kubernetes.protobuf": {
      const { apiVersion, kind, object } = decodeProtobuf(bytes);
      return { value: { apiVersion, kind, ...object }, duplicates: [] };
    }
    default:
      throw new GantryError("UnsupportedMediaType", `the body of the request was in an unknown format (${JSON.stringify(type)}) - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf`);
  }
};

export interface ExpectedKind {
  /** Key in schema.gen.json. */
  readonly schema: string;
  readonly group: string;
  readonly version: string;
  readonly kind: string;
}

const apiVersionOf = ({ group, version }: ExpectedKind): string => (group === "" ? version : `${group}/${version}`);

const checkKind = (value: Record<string, unknown>, expected: ExpectedKind): void => {
  const apiVersion = apiVersionOf(expected);
  const { apiVersion: gotVersion = apiVersion, kind: gotKind = expected.kind } = value;
  if (gotVersion !== "" && gotVersion !== apiVersion) {
    throw new GantryError("BadRequest", `the API version in the data (${String(gotVersion)}) does not match the expected API version (${apiVersion})`);
  }
  if (gotKind !== "" && gotKind !== expected.kind) {
    throw new GantryError("BadRequest", `${String(gotKind)} in version ${JSON.stringify(expected.version)} cannot be handled as a ${expected.kind}: the kind in the data (${String(gotKind)}) does not match the expected kind (${expected.kind})`);
  }
};

/** Checks and normalizes what was parsed. Unknown and duplicate fields: an error, warnings or nothing, as the client chose. */
export const checkObject = (raw: RawObject, expected: ExpectedKind, validation: FieldValidation, warn: (text: string) => void): KubeObject => {
  checkKind(raw.value, expected);
  const { object, unknownFields, causes } = decodeObject(expected.schema, raw.value);
  if (causes.length > 0) throw decodeError(expected, causes);
  const faults = [...unknownFields.map(unknownFieldMessage), ...raw.duplicates];
  if (faults.length > 0 && validation === "Strict") throw strictDecodingError(expected, faults);
  if (validation === "Warn") faults.forEach(warn);
  return { ...object, apiVersion: apiVersionOf(expected), kind: expected.kind };
};

/** Reads, parses and checks a request's body. */
export const receiveObject = async (exchange: Exchange, expected: ExpectedKind): Promise<KubeObject> => {
  const validation = fieldValidationOf(exchange.query);
  const raw = parseObject(await readBody(exchange), exchange.headers["content-type"]);
  return checkObject(raw, expected, validation, (text) => exchange.warn(text));
};
