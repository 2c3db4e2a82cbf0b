// `get`: tables as the server prints them, or the objects themselves; with -w the changes too.
import { setTimeout as delay } from "node:timers/promises";
import { GantryError, describeError } from "../base/errors.ts";
import type { KubeObject } from "../base/kube/resources.ts";
import { apiError, type ApiClient, type ObjectList } from "./api-client.ts";
import { sayNothingFound } from "./commands/client.ts";
import { typeLabel, type DiscoveredResource, type Target } from "./discovery.ts";
import { toYaml } from "./manifests.ts";

export interface GetOptions {
  /** Undefined: all namespaces. */
  readonly namespace: string | undefined;
  readonly labelSelector: string;
  readonly fieldSelector: string;
  /** "" and "wide" are tables. */
  readonly output: string;
  readonly watch: boolean;
  readonly headers: boolean;
}

interface Row {
  readonly cells: readonly (string | number | boolean | null)[];
  readonly object: KubeObject;
}

interface Table {
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string };
  readonly columnDefinitions?: readonly { readonly name: string; readonly priority?: number }[];
  readonly rows?: readonly Row[];
}

const TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io";
const PAGE_SIZE = "500";
/** A server that ends each watch at once must not be asked as fast as it answers. */
const WATCH_AGAIN_MS = 1000;

/** Left-aligned columns, three spaces apart, as kubectl prints them. `widths` keeps watched rows in line. */
export const formatRows = (rows: readonly (readonly string[])[], widths: number[]): string[] => {
  for (const row of rows) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  return rows.map((row) => row.map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i]! + 3))).join("").trimEnd());
};

/** Prints one type's rows; knows its columns and their widths from the first rows on. */
class TablePrinter {
  readonly #type: DiscoveredResource;
  readonly #options: GetOptions;
  readonly #prefix: string;
  readonly #widths: number[] = [];
  #columns: NonNullable<Table["columnDefinitions"]> = [];
  #headers: boolean;

  constructor(type: DiscoveredResource, options: GetOptions, several: boolean) {
    this.#type = type;
    this.#options = options;
    this.#prefix = several ? `${typeLabel(type)}/` : "";
    this.#headers = options.headers;
  }

  print(table: Table): void {
    // A watch sends them with its first frame only.
    if (table.columnDefinitions?.length) this.#columns = table.columnDefinitions;
    if (!table.rows?.length) return;
    const shown = this.#columns.map((c, i) => ({ name: c.name.toUpperCase(), priority: c.priority ?? 0, i })).filter((c) => c.priority === 0 || this.#options.output === "wide");
    const withNamespace = this.#options.namespace === undefined && this.#type.namespaced;
    const lines = table.rows.map((r) => [
      ...(withNamespace ? [r.object.metadata.namespace ?? ""] : []),
      ...shown.map((c, n) => (n === 0 ? this.#prefix : "") + (r.cells[c.i] ?? "<none>")),
    ]);
    const header = this.#headers ? [[...(withNamespace ? ["NAMESPACE"] : []), ...shown.map((c) => c.name)]] : [];
    this.#headers = false;
    for (const line of formatRows([...header, ...lines], this.#widths)) console.log(line);
  }
}

const printObject = (object: KubeObject, type: DiscoveredResource, output: string): void =>
  console.log(output === "name" ? `${typeLabel(type)}/${object.metadata.name!}` : output === "json" ? JSON.stringify(object, null, 4) : toYaml(object));

/** Resolves to the exit code: 1 when something that was named could not be got. */
export const getResources = async (client: ApiClient, targets: readonly Target[], options: GetOptions): Promise<number> => {
  if (options.watch && targets.length > 1) throw new GantryError("BadRequest", "--watch shows one type, or one object, at a time");
  const asTable = options.output === "" || options.output === "wide";
  let failed = false;
  const attempt = async (step: () => Promise<void>): Promise<void> => {
    try {
      await step();
    } catch (error) {
      failed = true;
      console.error(`gantry: ${describeError(error)}`);
    }
  };
  if (asTable) {
    const printed = await getTables(client, targets, options, attempt);
    if (printed === 0 && !failed && !options.watch) sayNothingFound(options.namespace, targets);
  } else {
    await getObjects(client, targets, options, attempt);
  }
  return failed ? 1 : 0;
};

const queryOf = ({ name }: Target, { labelSelector, fieldSelector }: GetOptions): Record<string, string> =>
  ({ ...(labelSelector ? { labelSelector } : {}), ...(fieldSelector ? { fieldSelector } : {}), ...(name === undefined ? {} : { fieldSelector: `metadata.name=${name}` }) });

type Attempt = (step: () => Promise<void>) => Promise<void>;

const getTables = async (client: ApiClient, targets: readonly Target[], options: GetOptions, attempt: Attempt): Promise<number> => {
  const several = new Set(targets.map((t) => t.type.name)).size > 1;
  const printers = new Map<string, TablePrinter>();
  let printed = 0;
  for (const target of targets) {
    await attempt(async () => {
      const { type, name } = target;
      const printer = printers.get(type.name) ?? new TablePrinter(type, options, several);
      const pages: Table[] = [];
      if (name === undefined) {
        for (let next: string | undefined = ""; next !== undefined; next = pages.at(-1)!.metadata?.continue || undefined) {
          const query = new URLSearchParams({ ...queryOf(target, options), limit: PAGE_SIZE, ...(next === "" ? {} : { continue: next }) });
          pages.push(await client.json<Table>("GET", `${client.pathOf(type, options.namespace)}?${query.toString()}`, { accept: TABLE }));
        }
      } else {
        pages.push(await client.json<Table>("GET", client.pathOf(type, options.namespace, name), { accept: TABLE }));
      }
      const rows = pages.flatMap((p) => p.rows ?? []);
      if (rows.length > 0 && printed > 0 && !printers.has(type.name)) console.log();
      if (rows.length > 0) printers.set(type.name, printer);
      printed += rows.length;
      printer.print({ ...pages[0], rows });
      if (options.watch) await watchChanges(client, target, options, pages.at(-1)!.metadata?.resourceVersion ?? "", (table) => printer.print(table), TABLE);
    });
  }
  return printed;
};

const getObjects = async (client: ApiClient, targets: readonly Target[], options: GetOptions, attempt: Attempt): Promise<void> => {
  const got: { readonly object: KubeObject; readonly type: DiscoveredResource }[] = [];
  let resourceVersion = "";
  for (const target of targets) {
    const { type, name } = target;
    await attempt(async () => {
      if (name !== undefined) {
        got.push({ type, object: await client.json<KubeObject>("GET", client.pathOf(type, options.namespace, name)) });
        resourceVersion = got.at(-1)!.object.metadata.resourceVersion ?? "";
        return;
      }
      const list: ObjectList<KubeObject> = await client.list(type, options.namespace, queryOf(target, options));
      resourceVersion = list.metadata.resourceVersion;
      got.push(...list.items.map((o) => ({ type, object: { ...o, apiVersion: type.apiVersion, kind: type.kind } })));
    });
  }
  if (options.output === "name" || options.watch) {
    for (const { object, type } of got) printObject(object, type, options.output);
  } else if (targets.every((t) => t.name !== undefined) && targets.length === 1) {
    if (got[0]) printObject(got[0].object, got[0].type, options.output);
  } else {
    const list = { apiVersion: "v1", kind: "List", metadata: { resourceVersion: "" }, items: got.map((g) => g.object) };
    console.log(options.output === "json" ? JSON.stringify(list, null, 4) : toYaml(list));
  }
  if (options.watch) await attempt(() => watchChanges(client, targets[0]!, options, resourceVersion, (object) => printObject(object, targets[0]!.type, options.output)));
};

/** Tables or objects, as `accept` says, until the user ends it or the server can't go on from where it was ("Expired"). */
const watchChanges = async (client: ApiClient, target: Target, options: GetOptions, from: string, print: (value: Table & KubeObject) => void, accept?: string): Promise<void> => {
  const versionOf = (value: Table & KubeObject): string | undefined => value.rows?.at(-1)?.object.metadata.resourceVersion ?? value.metadata.resourceVersion;
  for (let resourceVersion = from; ; await delay(WATCH_AGAIN_MS)) {
    const query = { ...queryOf(target, options), resourceVersion, allowWatchBookmarks: "true" };
    for await (const { type, object } of client.watch<Table & KubeObject>(client.pathOf(target.type, options.namespace), query, undefined, accept)) {
      if (type === "ERROR") throw apiError((object as { code?: number }).code ?? 500, JSON.stringify(object));
      resourceVersion = versionOf(object) || resourceVersion;
      if (type !== "BOOKMARK") print(object);
    }
  }
};
