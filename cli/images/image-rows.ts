// What the nodes say of their images, joined into docker's rows: one for each name, as if the cluster were one machine. Pure.
import { GantryError } from "../../base/errors.ts";
import { familiarName } from "../../node-agent/images/reference.ts";
import { matchesLabelFilters } from "../../node-agent/session/label-filters.ts";
import type { RowFormat } from "../format.ts";
import { humanDuration, humanSize } from "../human.ts";

/** An element of GET /apis/gantry.io/v1/images. */
export interface NodeImage {
  readonly node: string;
  readonly id: string;
  readonly digest: string;
  readonly names: readonly string[];
  readonly sizeBytes: number;
  readonly created: string;
  readonly architecture: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly usedBy: readonly string[];
  readonly layers: readonly { readonly digest: string; readonly diffId: string; readonly sizeBytes: number; readonly diskBytes: number }[];
}

export interface ImageFilter {
  /** REPOSITORY[:TAG], with * and ?. */
  readonly references: readonly string[];
  readonly dangling: boolean | undefined;
  readonly labels: readonly string[];
  readonly beforeMs: number | undefined;
  readonly sinceMs: number | undefined;
}

export type ImageRow = {
  readonly Repository: string;
  readonly Tag: string;
  readonly Digest: string;
  readonly ID: string;
  readonly CreatedSince: string;
  readonly CreatedAt: string;
  readonly Size: string;
  /** Nodes that have it. */
  readonly Nodes: string;
  readonly Containers: string;
};

const NONE = "<none>";

export const IMAGE_FORMAT: RowFormat = {
  headings: { Repository: "REPOSITORY", Tag: "TAG", Digest: "DIGEST", ID: "IMAGE ID", CreatedSince: "CREATED", CreatedAt: "CREATED AT", Size: "SIZE", Nodes: "NODES", Containers: "CONTAINERS" },
  table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
};
export const DIGESTS_TABLE = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

export const shortId = (id: string): string => id.replace(/^sha256:/, "").slice(0, 12);

/** Docker's SIZE: what the unpacked layers take, each once. */
export const unpackedBytes = (image: Pick<NodeImage, "layers" | "sizeBytes">): number =>
  [...new Map(image.layers.map((layer) => [layer.diffId, layer.diskBytes])).values()].reduce((sum, bytes) => sum + bytes, 0);

const agoOf = (ms: number, nowMs: number): string => (ms <= 0 ? "N/A" : `${humanDuration(Math.max(0, nowMs - ms))} ago`);
const localTime = (ms: number): string => (ms <= 0 ? "N/A" : new Date(ms).toISOString().replace("T", " ").replace(/\.\d+Z$/, " +0000 UTC"));

interface Parts {
  readonly repository: string;
  readonly tag: string;
  readonly digest: string;
}

const partsOf = (name: string): Parts => {
  const shown = familiarName(name);
  const at = shown.indexOf("@");
  if (at >= 0) return { repository: shown.slice(0, at), tag: "", digest: shown.slice(at + 1) };
  const colon = shown.lastIndexOf(":");
  return { repository: shown.slice(0, colon), tag: shown.slice(colon + 1), digest: "" };
};

/** Docker's "reference" filter and the argument of `images`: a repository alone means all of its tags; * does not cross a slash. */
const referenceMatches = (pattern: string, { repository, tag }: Parts): boolean => {
  const glob = (text: string): RegExp => new RegExp(`^${text.replaceAll(/[.+^${}()|\\]/g, "\\$&").replaceAll("*", "[^/]*").replaceAll("?", "[^/]")}$`);
  const wanted = familiarName(pattern.replace(/^docker\.io\/(?=[^/]*$)/, "docker.io/library/")).replace(/^library\/(?=[^/]+$)/, "");
  const colon = wanted.lastIndexOf(":");
  return colon > wanted.lastIndexOf("/") ? glob(wanted.slice(0, colon)).test(repository) && glob(wanted.slice(colon + 1)).test(tag) : glob(wanted).test(repository);
};

/** The newest first. `noTrunc`: whole IDs. */
export const imageRows = (images: readonly NodeImage[], filter: ImageFilter, { nowMs, noTrunc }: { readonly nowMs: number; readonly noTrunc: boolean }): readonly ImageRow[] => {
  const byId = new Map<string, { readonly image: NodeImage; readonly names: Map<string, Set<string>>; readonly nodes: Set<string>; readonly users: Set<string> }>();
  for (const image of images) {
    const entry = byId.get(image.id) ?? { image, names: new Map(), nodes: new Set(), users: new Set() };
    byId.set(image.id, entry);
    entry.nodes.add(image.node);
    for (const name of image.names) entry.names.set(name, (entry.names.get(name) ?? new Set()).add(image.node));
    for (const user of image.usedBy) entry.users.add(user);
  }
  const rows = [...byId.values()].flatMap(({ image, names, nodes, users }) => {
    const createdMs = Date.parse(image.created);
    if (!matchesLabelFilters(image.labels, filter.labels)) return [];
    if (filter.beforeMs !== undefined && createdMs >= filter.beforeMs) return [];
    if (filter.sinceMs !== undefined && createdMs <= filter.sinceMs) return [];
    if (filter.dangling !== undefined && filter.dangling !== (names.size === 0)) return [];
    const parts = [...names].map(([name, on]) => ({ ...partsOf(name), nodes: on }));
    // A digest is shown with the tags of its repository, and alone only when it has none.
    const shown = parts.filter((p) => p.tag !== "" || !parts.some((other) => other.tag !== "" && other.repository === p.repository));
    const named = (shown.length > 0 ? shown : [{ repository: NONE, tag: "", digest: "", nodes }])
      .filter((p) => filter.references.length === 0 || filter.references.some((pattern) => referenceMatches(pattern, p)));
    return named.map((p): { readonly createdMs: number; readonly row: ImageRow } => ({
      createdMs,
      row: {
        Repository: p.repository, Tag: p.tag || NONE, Digest: p.digest || (p.repository === NONE ? NONE : image.digest), ID: noTrunc ? image.id : shortId(image.id),
        CreatedSince: agoOf(createdMs, nowMs), CreatedAt: localTime(createdMs), Size: humanSize(unpackedBytes(image)), Nodes: [...p.nodes].sort().join(","), Containers: String(users.size),
      },
    }));
  });
  return rows.sort((a, b) => b.createdMs - a.createdMs || compare(a.row, b.row)).map(({ row }) => row);
};

const compare = (a: ImageRow, b: ImageRow): number => `${a.Repository}:${a.Tag}`.localeCompare(`${b.Repository}:${b.Tag}`);

/** --filter KEY=VALUE, several. `createdOf` finds an image's creation time for before= and since=. Errors: "BadRequest". */
export const parseImageFilter = (filters: readonly string[], createdOf: (reference: string) => number, nowMs: number, parseDurationMs: (text: string) => number | undefined): ImageFilter => {
  const references: string[] = [];
  const labels: string[] = [];
  let [dangling, beforeMs, sinceMs]: [boolean | undefined, number | undefined, number | undefined] = [undefined, undefined, undefined];
  for (const filter of filters) {
    const equals = filter.indexOf("=");
    const [key, value] = equals < 0 ? [filter, ""] : [filter.slice(0, equals), filter.slice(equals + 1)];
    const wrong = (why: string): GantryError => new GantryError("BadRequest", `--filter ${JSON.stringify(filter)}: ${why}`);
    if (value === "") throw wrong("must be KEY=VALUE");
    switch (key) {
      case "reference": references.push(value); break;
      case "label": labels.push(value); break;
      case "label!": labels.push(`!${value}`); break;
      case "dangling":
        if (!["true", "false", "1", "0"].includes(value)) throw wrong("dangling is true or false");
        dangling = value === "true" || value === "1";
        break;
      case "before": beforeMs = createdOf(value); break;
      case "since": sinceMs = createdOf(value); break;
      case "until": {
        const durationMs = parseDurationMs(value);
        const atMs = durationMs === undefined ? Date.parse(value) : nowMs - durationMs;
        if (Number.isNaN(atMs)) throw wrong("until is a duration such as 24h, or a time such as 2026-01-31T12:00:00Z");
        beforeMs = Math.min(beforeMs ?? Infinity, atMs);
        break;
      }
      default: throw wrong(`there is no filter ${JSON.stringify(key)}; there are before, dangling, label, reference, since, until`);
    }
  }
  return { references, labels, dangling, beforeMs, sinceMs };
};

/** `docker image inspect`'s object, of what GET images/inspect says. */
export const inspectObject = (image: NodeImage & { readonly config: Readonly<Record<string, unknown>> }, nodes: readonly string[]): Readonly<Record<string, unknown>> => {
  const { config } = image;
  const [tags, digests] = [image.names.filter((n) => !n.includes("@")), image.names.filter((n) => n.includes("@"))];
  const repositories = new Set(tags.map((name) => name.slice(0, name.lastIndexOf(":"))));
  return {
    Id: image.id, RepoTags: tags.map(familiarName), RepoDigests: [...new Set([...digests, ...[...repositories].map((r) => `${r}@${image.digest}`)])].map(familiarName),
    Comment: "", Created: image.created, Author: config["author"] ?? "", Architecture: config["architecture"] ?? "", Os: config["os"] ?? "", Size: unpackedBytes(image),
    RootFS: { Type: "layers", Layers: image.layers.map((layer) => layer.diffId) }, Config: config["config"] ?? {}, Metadata: { Nodes: nodes },
  };
};

/** What a step of a build added, as history tells it. The newest first. */
export const historyRows = (
  image: NodeImage & { readonly config: Readonly<Record<string, unknown>> }, { nowMs, noTrunc, human }: { readonly nowMs: number; readonly noTrunc: boolean; readonly human: boolean },
): readonly Readonly<Record<string, string>>[] => {
  const history = Array.isArray(image.config["history"]) ? (image.config["history"] as readonly { readonly created?: string; readonly created_by?: string; readonly comment?: string; readonly empty_layer?: boolean }[]) : [];
  // An image may come without history: its layers still tell their sizes.
  const steps = history.length > 0 ? history : image.layers.map(() => ({ created: image.created, created_by: "", comment: "", empty_layer: false }));
  let layer = 0;
  const rows = steps.map((step) => {
    const bytes = step.empty_layer === true ? 0 : (image.layers[layer++]?.diskBytes ?? 0);
    const createdMs = Date.parse(step.created ?? "");
    const by = step.created_by ?? "";
    return {
      ID: "<missing>", CreatedSince: agoOf(Number.isNaN(createdMs) ? 0 : createdMs, nowMs), CreatedAt: step.created ?? "", CreatedBy: noTrunc || by.length <= 45 ? by : `${by.slice(0, 44)}…`,
      Size: human ? humanSize(bytes) : String(bytes), Comment: step.comment ?? "",
    };
  });
  const newest = rows.at(-1);
  if (newest) rows[rows.length - 1] = { ...newest, ID: noTrunc ? image.id : shortId(image.id) };
  return rows.reverse();
};
export const HISTORY_FORMAT: RowFormat = {
  headings: { ID: "IMAGE", CreatedSince: "CREATED", CreatedAt: "CREATED AT", CreatedBy: "CREATED BY", Size: "SIZE", Comment: "COMMENT" },
  table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
};
