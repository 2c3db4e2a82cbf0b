// inspect, stats, events, volume inspect, network inspect: what there is to know, in docker's shape.
import { booleanOption, eachOption, stringOption } from "../../base/config.ts";
import { GantryError, describeError, isCode } from "../../base/errors.ts";
import { NODES, PODS } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import type { ApiClient } from "../api-client.ts";
import { command, type Command } from "../command.ts";
import { NAMESPACED_OPTIONS, connect, forEach, namespaceOf } from "./client.ts";

const TYPES = ["container", "image", "volume", "network", "node"] as const;
type Type = (typeof TYPES)[number];

const notFound = (type: string, word: string): GantryError => new GantryError("NotFound", `no such ${type}: ${word}`);

/** Undefined: there is none of that type. */
const inspectOne = async (client: ApiClient, namespace: string, type: Type, word: string): Promise<readonly object[] | undefined> => {
  const shapes = await import("../docker/inspect.ts");
  const orNothing = async <T>(run: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await run();
    } catch (error) {
      if (isCode(error, "NotFound")) return undefined;
      throw error;
    }
  };
  switch (type) {
    case "container": {
      const { findContainer, containersOf } = await import("../docker/find-container.ts");
      return orNothing(async () => {
        const found = findContainer((await client.list(PODS, namespace)).items, word);
        const node = found.pod.spec?.nodeName ? await orNothing(() => client.get(NODES, "", found.pod.spec!.nodeName!)) : undefined;
        const same = word.includes("/") ? [found] : containersOf(found.pod);
        return same.map((c) => shapes.inspectContainer(c, node, Date.now()));
      });
    }
    case "image": {
      const [{ inspectImage }, { inspectObject }] = await Promise.all([import("../images/operations.ts"), import("../images/image-rows.ts")]);
      return orNothing(async () => {
        const images = await inspectImage(client, word, []);
        return [...new Set(images.map((i) => i.id))].map((id) => {
          const same = images.filter((i) => i.id === id);
          return inspectObject(same[0]!, same.map((i) => i.node));
        });
      });
    }
    case "volume": {
      const [{ CLAIMS, claimsOf }, { objectName }] = await Promise.all([import("../docker/volumes.ts"), import("../docker/names.ts")]);
      return orNothing(async () => {
        const claim = await client.get(CLAIMS, namespace, objectName("volume", word));
        const { items } = await client.list(PODS, namespace);
        return [shapes.inspectVolume(claim, items.filter((p) => claimsOf(p).includes(claim.metadata.name!)).map((p) => p.metadata.name!))];
      });
    }
    case "network": {
      const [pods, nodes] = await Promise.all([client.list(PODS, namespace), client.list(NODES)]);
      const found = shapes.inspectNetwork(word, pods.items, nodes.items);
      return found && [found];
    }
    case "node": return orNothing(async () => [shapes.inspectNode(await client.get(NODES, "", word), (await client.list(PODS)).items)]);
  }
};

/** A name that can't be one of this type's is simply none of them. */
const inspectAny = async (client: ApiClient, namespace: string, types: readonly Type[], word: string): Promise<readonly object[]> => {
  for (const type of types) {
    try {
      const found = await inspectOne(client, namespace, type, word);
      if (found && found.length > 0) return found;
    } catch (error) {
      if (types.length === 1 || !isCode(error, "BadRequest", "Invalid", "ServiceUnavailable")) throw error;
    }
  }
  throw notFound(types.length === 1 ? types[0]! : "object", word);
};

const format = stringOption("json, or a Go template such as {{.State.Status}} or {{json .Mounts}}", "", { short: "f", placeholder: "FORMAT" });

const printInspected = async (values: { readonly kubeconfig: string; readonly context: string; readonly namespace: string; readonly format: string }, types: readonly Type[], words: readonly string[]): Promise<number> => {
  const { compileTemplate } = await import("../format.ts");
  const render = values.format === "" || values.format === "json" ? undefined : compileTemplate(values.format);
  using client = connect(values);
  const namespace = namespaceOf(client, values);
  const found: object[] = [];
  const code = await forEach(words, async (word) => {
    const objects = await inspectAny(client, namespace, types, word);
    found.push(...objects);
  });
  if (render) for (const object of found) console.log(render(object));
  else console.log(values.format === "json" ? JSON.stringify(found) : JSON.stringify(found, null, 4));
  return code;
};

const inspectOf = (family: "container" | "volume" | "network"): Command => command({
  name: `${family} inspect`, usage: "NAME...", group: "containers", summary: `Show everything about ${family}s`, options: { ...NAMESPACED_OPTIONS, format },
  run: ({ values, positionals }) => {
    if (positionals.length === 0) throw new GantryError("BadRequest", `gantry ${family} inspect needs a name`);
    return printInspected(values, [family], positionals);
  },
});

export const INSPECTING_COMMANDS: readonly Command[] = [
  command({
    name: "inspect", usage: "NAME...", group: "containers", summary: "Show everything about containers, images, volumes, networks and nodes",
    details: "Without --type the first that has the name, in this order. The Kubernetes object stands below .Kubernetes.\n\nExamples:\n  gantry inspect web\n  gantry inspect -f '{{.State.Status}} {{.NetworkSettings.IPAddress}}' web",
    options: { ...NAMESPACED_OPTIONS, format, type: stringOption("Only things of this type", "", { choices: ["", ...TYPES] }) },
    run: ({ values, positionals }) => {
      if (positionals.length === 0) throw new GantryError("BadRequest", "gantry inspect needs a name or an id");
      return printInspected(values, values.type === "" ? TYPES : [values.type as Type], positionals);
    },
  }),
  ...(["container", "volume", "network"] as const).map(inspectOf),
  command({
    name: "stats", aliases: ["container stats"], usage: "[CONTAINER...]", group: "containers", summary: "Show what containers use, live",
    options: { ...NAMESPACED_OPTIONS, noStream: booleanOption("Once"), all: booleanOption("As without it: only what runs can be measured", { short: "a" }), format: stringOption("How to print: table, table TEMPLATE, json, or a Go template", "", { placeholder: "FORMAT" }) },
    run: async ({ values, positionals }) => {
      const [{ STATS_FORMAT, followStats, statsNow, statsRows }, { findContainer }, { formatRows }] = await Promise.all([import("../docker/stats.ts"), import("../docker/find-container.ts"), import("../format.ts")]);
      using client = connect(values);
      const { items } = await client.list(PODS, namespaceOf(client, values));
      const pods = positionals.length > 0 ? positionals.map((w) => findContainer(items, w).pod) : items.filter((p) => p.status?.phase === "Running");
      const node = new Map(pods.map((p) => [p.metadata.name!, p.spec?.nodeName ?? ""]));
      // One node that does not answer hides nobody else's pods; but what was asked for by name has to be there.
      const missing = (pod: Pod) => (error: unknown): undefined => {
        if (positionals.length > 0) throw error;
        console.error(`Warning: ${pod.metadata.name!}: ${describeError(error)}`);
      };
      const table = (lines: readonly { readonly pod: string }[]): string => formatRows(values.format, (lines as Parameters<typeof statsRows>[0][]).flatMap((l) => statsRows(l, node.get(l.pod) ?? "")), STATS_FORMAT);
      if (values.noStream) {
        const lines = await Promise.all(pods.map((pod) => statsNow(client, pod).catch(missing(pod))));
        const text = table(lines.filter((l) => l !== undefined));
        if (text !== "") console.log(text);
        return 0;
      }
      const newest = new Map<string, { readonly pod: string }>();
      const stop = new AbortController();
      for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stop.abort());
      const isLive = process.stdout.isTTY && (values.format === "" || values.format.startsWith("table"));
      const draw = (): void => void (newest.size > 0 && process.stdout.write(isLive ? `\u001B[H\u001B[J${table([...newest.values()])}\n` : `${table([...newest.values()])}\n`));
      const timer = setInterval(draw, REDRAW_MS);
      try {
        if (isLive) process.stdout.write("\u001B[2J");
        await Promise.all(pods.map(async (pod) => {
          await followStats(client, pod, stop.signal, (line) => void newest.set(line.pod, line)).catch(missing(pod));
          newest.delete(pod.metadata.name!);
        }));
      } finally {
        clearInterval(timer);
      }
      return 0;
    },
  }),
  command({
    name: "events", aliases: ["system events"], usage: "", group: "containers", summary: "Show what happens, as it happens",
    details: "Containers: create, start, restart, die, oom, stop, pause, unpause, destroy, health_status. Type kubernetes: the cluster's own events, such as FailedScheduling.\n\nExamples:\n  gantry events --since 10m --until 0s\n  gantry events --filter event=die --format '{{.Name}} {{.Actor.Attributes.exitCode}}'",
    options: {
      ...NAMESPACED_OPTIONS, allNamespaces: booleanOption("Of all namespaces", { short: "A" }), since: stringOption("From then on: 10m, 2026-01-02T03:04:05Z, or seconds since 1970", "", { placeholder: "WHEN" }), until: stringOption("Until then", "", { placeholder: "WHEN" }),
      filter: eachOption("type=, event=, container=, image=, node=, label=", { short: "f", placeholder: "KEY=VALUE" }), format: stringOption("json, or a Go template", "", { placeholder: "FORMAT" }),
    },
    run: async ({ values }) => {
      const [events, { followEvents }, { parseFilters }, { compileTemplate }, { parseGoDurationMs }] = await Promise.all([
        import("../docker/events.ts"), import("../docker/follow-events.ts"), import("../docker/filters.ts"), import("../format.ts"), import("../docker/sizes.ts"),
      ]);
      const filters = parseFilters(values.filter, events.EVENT_FILTERS);
      const nowMs = Date.now();
      const instant = (flag: string, text: string): number | undefined => {
        if (text === "") return undefined;
        const ms = events.parseInstantMs(text, nowMs, (t) => parseGoDurationMs(flag, t));
        if (ms === undefined) throw new GantryError("BadRequest", `${flag}: ${JSON.stringify(text)} is not 10m, an instant such as 2026-01-02T03:04:05Z, or seconds since 1970`);
        return ms;
      };
      const [sinceMs, untilMs] = [instant("--since", values.since), instant("--until", values.until)];
      const render = values.format === "" ? undefined : values.format === "json" ? (e: object): string => JSON.stringify(e) : compileTemplate(values.format);
      using client = connect(values);
      await followEvents(client, {
        namespace: values.allNamespaces ? undefined : namespaceOf(client, values), sinceMs, untilMs,
        print: (event) => {
          if (events.passesEventFilters(event, filters)) console.log(render ? render(events.eventFields(event)) : events.eventLine(event));
        },
      });
      return 0;
    },
  }),
];

const REDRAW_MS = 1000;
