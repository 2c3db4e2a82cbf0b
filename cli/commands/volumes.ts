// volume ls, create, rm, inspect, prune; network ls. A named volume is a PersistentVolumeClaim of the cluster's default class.
import { booleanOption, eachOption, stringOption } from "../../base/config.ts";
import { GantryError } from "../../base/errors.ts";
import { NODES, PODS } from "../../base/kube/resources.ts";
import { command, type Command } from "../command.ts";
import { NAMESPACED_OPTIONS, connect, forEach, namespaceOf } from "./client.ts";

const format = stringOption("How to print: table, table TEMPLATE, json, or a Go template", "", { placeholder: "FORMAT" });
const quiet = booleanOption("Names only", { short: "q" });

export const VOLUME_COMMANDS: readonly Command[] = [
  command({
    name: "volume ls", aliases: ["volume list"], usage: "", group: "containers", summary: "List volumes",
    options: { ...NAMESPACED_OPTIONS, quiet, format, filter: eachOption("name=, label=, dangling=true (no container has it)", { short: "f", placeholder: "KEY=VALUE" }) },
    run: async ({ values }) => {
      const [{ CLAIMS, VOLUME_FORMAT, volumeRow, volumesInUse }, { parseFilters, passes, passesAll, labelTest }, { formatRows }] = await Promise.all([import("../docker/volumes.ts"), import("../docker/filters.ts"), import("../format.ts")]);
      const filters = parseFilters(values.filter, ["name", "label", "dangling", "driver"]);
      using client = connect(values);
      const namespace = namespaceOf(client, values);
      const [{ items }, pods] = await Promise.all([client.list(CLAIMS, namespace), filters.has("dangling") ? client.list(PODS, namespace) : { items: [] }]);
      const inUse = volumesInUse(pods.items);
      const rows = items.filter((c) => passes(filters, "name", (v) => c.metadata.name!.includes(v)) && passesAll(filters, "label", labelTest(c.metadata.labels ?? {}))
        && passes(filters, "driver", (v) => c.spec?.storageClassName === v) && passes(filters, "dangling", (v) => inUse.has(c.metadata.name!) === (v === "false" || v === "0"))).map(volumeRow);
      const text = values.quiet ? rows.map((r) => r["Name"]!).join("\n") : formatRows(values.format, rows, VOLUME_FORMAT);
      if (text !== "") console.log(text);
      return 0;
    },
  }),
  command({
    name: "volume create", usage: "[NAME]", group: "containers", summary: "Make a volume",
    options: {
      ...NAMESPACED_OPTIONS, label: eachOption("Label of the volume", { placeholder: "KEY[=VALUE]" }), driver: stringOption("Storage class (default: the cluster's)", "", { short: "d", placeholder: "CLASS" }),
      opt: eachOption("size=5Gi", { short: "o", placeholder: "NAME=VALUE" }), name: stringOption("Its name, as a flag"),
    },
    run: async ({ values, positionals }) => {
      if (positionals.length > 1) throw new GantryError("BadRequest", "gantry volume create makes one volume");
      const [{ objectName, randomName }, { createVolume }, { randomInt }] = await Promise.all([import("../docker/names.ts"), import("../docker/volumes.ts"), import("node:crypto")]);
      const word = positionals[0] ?? values.name;
      const name = word === "" ? randomName((n) => randomInt(n)) : objectName("volume", word);
      const unknown = values.opt.find((o) => !o.startsWith("size="));
      if (unknown !== undefined) throw new GantryError("BadRequest", `--opt: ${JSON.stringify(unknown)} is not size=AMOUNT`);
      using client = connect(values);
      const labels = Object.fromEntries(values.label.map((l) => (l.includes("=") ? [l.slice(0, l.indexOf("=")), l.slice(l.indexOf("=") + 1)] : [l, ""])));
      await createVolume(client, namespaceOf(client, values), name, { labels, size: values.opt.at(-1)?.slice(5) ?? "", storageClass: values.driver === "local" ? "" : values.driver });
      console.log(name);
      return 0;
    },
  }),
  command({
    name: "volume rm", aliases: ["volume remove"], usage: "NAME...", group: "containers", summary: "Remove volumes and what is in them", options: { ...NAMESPACED_OPTIONS, force: booleanOption("What isn't there counts as removed", { short: "f" }) },
    run: async ({ values, positionals }) => {
      if (positionals.length === 0) throw new GantryError("BadRequest", "gantry volume rm needs the names of volumes");
      const { removeVolume } = await import("../docker/remove-volume.ts");
      using client = connect(values);
      const namespace = namespaceOf(client, values);
      const { items } = await client.list(PODS, namespace);
      return await forEach(positionals, async (word) => {
        await removeVolume(client, namespace, items, word, values.force);
        console.log(word);
      });
    },
  }),
  command({
    name: "volume prune", usage: "", group: "containers", summary: "Remove all volumes that no container has",
    options: { ...NAMESPACED_OPTIONS, force: booleanOption("Don't ask", { short: "f" }), all: booleanOption("As without it: every volume here has a name", { short: "a" }), filter: eachOption("label=KEY[=VALUE]", { placeholder: "KEY=VALUE" }) },
    run: async ({ values }) => {
      const [{ CLAIMS, volumesInUse }, { parseFilters, passesAll, labelTest }, { confirm }, { removeVolume }] = await Promise.all([
        import("../docker/volumes.ts"), import("../docker/filters.ts"), import("../docker/confirm.ts"), import("../docker/remove-volume.ts"),
      ]);
      const filters = parseFilters(values.filter, ["label", "all"]);
      using client = connect(values);
      const namespace = namespaceOf(client, values);
      if (!values.force && !(await confirm(`This removes all volumes of namespace ${namespace} that no container has, and what is in them.`))) return 1;
      const [claims, pods] = await Promise.all([client.list(CLAIMS, namespace), client.list(PODS, namespace)]);
      const inUse = volumesInUse(pods.items);
      return await forEach(claims.items.filter((c) => !inUse.has(c.metadata.name!) && passesAll(filters, "label", labelTest(c.metadata.labels ?? {}))), async ({ metadata }) => {
        await removeVolume(client, namespace, pods.items, metadata.name!, true);
        console.log(metadata.name!);
      });
    },
  }),
  command({
    name: "network ls", aliases: ["network list"], usage: "", group: "containers", summary: "List networks",
    details: "All containers of the cluster reach one another. A network of a name (gantry run --network NAME, a Compose project) is a group of containers that find each other by their names; it is there as long as it has containers.",
    options: { ...NAMESPACED_OPTIONS, quiet, format },
    run: async ({ values }) => {
      const [{ NETWORK_FORMAT, networkRows }, { formatRows }] = await Promise.all([import("../docker/networks.ts"), import("../format.ts")]);
      using client = connect(values);
      const [pods, nodes] = await Promise.all([client.list(PODS, namespaceOf(client, values)), client.list(NODES)]);
      const rows = networkRows(pods.items, nodes.items);
      console.log(values.quiet ? rows.map((r) => r["Name"]!).join("\n") : formatRows(values.format, rows, NETWORK_FORMAT));
      return 0;
    },
  }),
];
