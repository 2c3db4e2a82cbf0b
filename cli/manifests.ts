// Manifests from files, folders and standard input: YAML (several documents) or JSON; a List counts as its items. And objects as YAML
// again. YAML is read as kubectl reads it, that is YAML 1.1 without its times: 0644 is octal and yes is true, but 22:22 is a text.
import { readFileSync, readdirSync, statSync } from "node:fs";
import { extname, join } from "node:path";
import { parseAllDocuments, stringify, type DocumentOptions, type SchemaOptions } from "yaml";
import { GantryError } from "../base/errors.ts";
import type { KubeObject } from "../base/kube/resources.ts";

export interface Manifest {
  readonly object: KubeObject;
  /** File and document, for messages. */
  readonly where: string;
}

const EXTENSIONS = new Set([".yaml", ".yml", ".json"]);
const TIMES = new Set(["tag:yaml.org,2002:timestamp"]);
const SEXAGESIMAL = new Set(["TIME"]);
const YAML: DocumentOptions & SchemaOptions = {
  version: "1.1",
  customTags: (tags) => tags.filter((tag) => typeof tag === "string" || !(TIMES.has(tag.tag) || SEXAGESIMAL.has((tag as { format?: string }).format ?? ""))),
};

/** An object for reading, or for `apply -f`: what other YAML readers would take for a boolean, number or time is quoted. */
export const toYaml = (value: unknown): string => stringify(value, { version: "1.1", lineWidth: 0 }).trimEnd();

/** "BadRequest" when there is nothing at a source; "Invalid" says where a manifest is wrong. */
export const readManifests = (sources: readonly string[]): readonly Manifest[] => {
  const manifests = sources.flatMap((source) => {
    if (source === "-") return parseManifests(readFileSync(0, "utf8"), "standard input");
    const stat = statSync(source, { throwIfNoEntry: false });
    if (!stat) throw new GantryError("BadRequest", `no such file: ${source}`);
    const files = stat.isDirectory() ? readdirSync(source).filter((f) => EXTENSIONS.has(extname(f))).sort().map((f) => join(source, f)) : [source];
    if (files.length === 0) throw new GantryError("BadRequest", `${source} has no .yaml, .yml or .json file`);
    return files.flatMap((f) => parseManifests(readFileSync(f, "utf8"), f));
  });
  if (manifests.length === 0) throw new GantryError("Invalid", `no object in ${sources.map((s) => (s === "-" ? "standard input" : s)).join(", ")}`);
  return manifests;
};

export const parseManifests = (text: string, file: string): readonly Manifest[] =>
  parseAllDocuments(text, YAML).flatMap((document, i) => {
    const where = i === 0 ? file : `${file} (document ${i + 1})`;
    const error = document.errors[0];
    if (error) throw new GantryError("Invalid", `${where}: ${error.message.trimEnd()}`);
    const value = document.toJS() as unknown;
    if (value === null) return [];
    if (typeof value !== "object" || Array.isArray(value)) throw new GantryError("Invalid", `${where}: expected an object with apiVersion, kind and metadata, not ${JSON.stringify(value).slice(0, 80)}`);
    const object = value as KubeObject & { items?: KubeObject[] };
    return object.kind?.endsWith("List") && Array.isArray(object.items) ? object.items.map((item) => ({ object: item, where })) : [{ object, where }];
  });
