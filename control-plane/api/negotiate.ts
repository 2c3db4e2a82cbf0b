// Owns the reading of the Accept header: which encoding and which form (the object, a Table, only the metadata) an answer takes.
// Pure. Source: kubernetes.io/docs/reference/using-api/api-concepts ("Receiving resources as Tables", "metadata-only fetches").
import { GantryError } from "../../base/errors.ts";

export type IncludeObject = "None" | "Metadata" | "Object";

export type Form =
  | { readonly as: "object" }
  | { readonly as: "table"; readonly apiVersion: string; readonly includeObject: IncludeObject }
  | { readonly as: "metadata"; readonly apiVersion: string };

export interface Negotiated {
  readonly encoding: "json" | "yaml";
  readonly form: Form;
}

export interface MediaType {
  /** Lower case, without parameters. */
  readonly type: string;
  readonly parameters: Readonly<Record<string, string>>;
}

export const parseMediaType = (text: string): MediaType => {
  const [type = "", ...rest] = text.split(";").map((s) => s.trim());
  const parameters: Record<string, string> = {};
  for (const parameter of rest) {
    const at = parameter.indexOf("=");
    if (at > 0) parameters[parameter.slice(0, at).toLowerCase()] = parameter.slice(at + 1).replace(/^"|"$/g, "");
  }
  return { type: type.toLowerCase(), parameters };
};

/** The acceptable media types, the most wanted first. */
export const parseAccept = (accept: string | undefined): readonly MediaType[] =>
  (accept === undefined || accept.trim() === "" ? "application/json" : accept).split(",").map(parseMediaType)
    .filter((m) => m.type !== "" && Number(m.parameters["q"] ?? "1") !== 0)
    .sort((a, b) => Number(b.parameters["q"] ?? "1") - Number(a.parameters["q"] ?? "1"));

/**
 * Protobuf answers are not served: who accepts them gets JSON with its content type, which every Go client decodes by.
 */
const ENCODINGS: Readonly<Record<string, Negotiated["encoding"]>> = {
  "application/json": "json", "application/yaml": "yaml", "application/vnd.kubernetes.protobuf": "json", "*/*": "json", "application/*": "json", "text/*": "json",
};

const VERSIONS: ReadonlySet<string> = new Set(["v1", "v1beta1"]);

const formOf = ({ parameters }: MediaType, includeObject: IncludeObject): Form | undefined => {
  const { as, g, v } = parameters as { as?: string; g?: string; v?: string };
  if (as === undefined) return { as: "object" };
  if (g !== "meta.k8s.io" || v === undefined || !VERSIONS.has(v)) return undefined;
  const apiVersion = `${g}/${v}`;
  if (as === "Table") return { as: "table", apiVersion, includeObject };
  return as === "PartialObjectMetadata" || as === "PartialObjectMetadataList" ? { as: "metadata", apiVersion } : undefined;
};

const readIncludeObject = (value: string | null): IncludeObject => {
  if (value === null || value === "") return "Metadata";
  if (value === "None" || value === "Metadata" || value === "Object") return value;
  throw new GantryError("BadRequest", `includeObject: unrecognized value ${JSON.stringify(value)}: must be None, Metadata or Object`);
};

/** Throws NotAcceptable when nothing that the client accepts can be served. */
export const negotiate = (accept: string | undefined, query: URLSearchParams): Negotiated => {
  const includeObject = readIncludeObject(query.get("includeObject"));
  for (const media of parseAccept(accept)) {
    const encoding = ENCODINGS[media.type];
    const form = encoding === undefined ? undefined : formOf(media, includeObject);
    if (encoding !== undefined && form) return { encoding, form };
  }
  throw new GantryError("NotAcceptable", `only the following media types are accepted: application/json, application/yaml; the request accepts ${JSON.stringify(accept)}`);
};
