// get, describe, logs, why: the everyday commands that change nothing, for a machine without kubectl: the same API, the same words.
import { booleanOption, durationOption, numberOption, stringOption } from "../../base/config.ts";
import { GantryError } from "../../base/errors.ts";
import { EVENTS, PODS, type KubeObject } from "../../base/kube/resources.ts";
import type { Explanation } from "../../control-plane/state/explain.ts";
import { command, type Command } from "../command.ts";
import { discover, parseTargets, resourcesOf } from "../discovery.ts";
import { NAMESPACED_OPTIONS, connect, forEach, namespaceOf, refuseNamesWith, sayNothingFound } from "./client.ts";

const allNamespaces = booleanOption("Of all namespaces", { short: "A" });
const selector = stringOption("Label selector, such as app=web,tier!=test", "", { short: "l", placeholder: "SELECTOR" });

export const READING_COMMANDS: readonly Command[] = [
  command({
    name: "get", usage: "TYPE[,TYPE...] [NAME...] | TYPE/NAME...", group: "workloads", summary: "List objects, or print them",
    details: "Examples:\n  gantry get pods -o wide\n  gantry get deploy,rs -l app=hundred\n  gantry get node/node-1 -o yaml\n  gantry get pods -A --field-selector status.phase=Pending\n  gantry get pods -w",
    options: {
      ...NAMESPACED_OPTIONS, allNamespaces, selector, fieldSelector: stringOption("Field selector, such as status.phase=Running", "", { placeholder: "SELECTOR" }),
      output: stringOption("How to print (default: a table)", "", { short: "o", placeholder: "FORMAT", choices: ["", "wide", "json", "yaml", "name"] }),
      watch: booleanOption("Go on with changes", { short: "w" }), noHeaders: booleanOption("Without the line of column names"),
    },
    run: async ({ values, positionals }) => {
      using client = connect(values);
      const targets = parseTargets(await discover(client), positionals);
      refuseNamesWith("--selector", values.selector, targets);
      refuseNamesWith("--field-selector", values.fieldSelector, targets);
      refuseNamesWith("--all-namespaces", values.allNamespaces, targets.filter((t) => t.type.namespaced));
      const { getResources } = await import("../get.ts");
      return await getResources(client, targets, {
        namespace: values.allNamespaces ? undefined : namespaceOf(client, values), labelSelector: values.selector, fieldSelector: values.fieldSelector,
        output: values.output, watch: values.watch, headers: !values.noHeaders,
      });
    },
  }),
  command({
    name: "describe", usage: "TYPE [NAME...] | TYPE/NAME...", group: "workloads", summary: "Show an object with its events", options: { ...NAMESPACED_OPTIONS, allNamespaces, selector },
    run: async ({ values, positionals }) => {
      using client = connect(values);
      const namespace = values.allNamespaces ? undefined : namespaceOf(client, values);
      const targets = parseTargets(await discover(client), positionals);
      refuseNamesWith("--selector", values.selector, targets);
      refuseNamesWith("--all-namespaces", values.allNamespaces, targets.filter((t) => t.type.namespaced));
      const { describeObject } = await import("../describe.ts");
      let shown = 0;
      const code = await forEach(targets, async ({ type, name }) => {
        const listed = async (): Promise<KubeObject[]> => (await client.list(type, namespace, values.selector ? { labelSelector: values.selector } : {})).items.map((o) => ({ ...o, apiVersion: type.apiVersion, kind: type.kind }));
        for (const object of name === undefined ? await listed() : [await client.get(type, namespace ?? "", name)]) {
          const [events, pods] = await Promise.all([
            client.list(EVENTS, object.metadata.namespace, { fieldSelector: `involvedObject.uid=${object.metadata.uid ?? ""}` }),
            object.kind === "Node" ? client.list(PODS, undefined, { fieldSelector: `spec.nodeName=${object.metadata.name!}` }) : { items: [] },
          ]);
          console.log(`${shown++ === 0 ? "" : "\n"}${describeObject(object, { events: events.items, pods: pods.items, nowMs: Date.now() })}`);
        }
      });
      if (shown === 0 && code === 0) sayNothingFound(namespace, targets);
      return code;
    },
  }),
  command({
    name: "logs", usage: "POD | TYPE/NAME | -l SELECTOR", group: "workloads", summary: "Print what containers wrote",
    details: "Of a deployment, replicaset or job: of all its pods.\n\nExamples:\n  gantry logs -f POD\n  gantry logs deploy/web --prefix --since 5m\n  gantry logs -l app=web --tail 10",
    options: {
      ...NAMESPACED_OPTIONS, selector, container: stringOption("Which container of the pod", "", { short: "c", placeholder: "NAME" }), allContainers: booleanOption("Of all containers of the pod"), follow: booleanOption("Go on with what comes", { short: "f" }),
      previous: booleanOption("Of the container before its last restart", { short: "p" }), timestamps: booleanOption("With the time of each line"), prefix: booleanOption("With the pod's and container's name before each line"),
      tail: numberOption("Only the last N lines; -1: all", -1, { least: -1 }), since: durationOption("Only what is newer than this", 0),
    },
    run: async ({ values, positionals }) => {
      const [word] = positionals;
      if (positionals.length > 1 || (word === undefined) === (values.selector === "")) throw new GantryError("BadRequest", "gantry logs needs one pod, one TYPE/NAME, or --selector");
      if (values.container && values.allContainers) throw new GantryError("BadRequest", "--container and --all-containers exclude each other");
      using client = connect(values);
      const { podsOf, printLogs } = await import("../logs.ts");
      const target = word?.includes("/") ? parseTargets(await discover(client), [word])[0]! : { type: PODS, name: word };
      await printLogs(client, await podsOf(client, namespaceOf(client, values), target, values.selector), {
        container: values.container, allContainers: values.allContainers, follow: values.follow, previous: values.previous, timestamps: values.timestamps, prefix: values.prefix,
        tailLines: values.tail < 0 ? undefined : values.tail, sinceSeconds: values.since > 0 ? Math.ceil(values.since / 1000) : undefined,
      });
      return 0;
    },
  }),
  command({
    name: "why", usage: "pod NAME", group: "workloads", summary: "Explain why a pod runs where it runs, or doesn't run", options: { ...NAMESPACED_OPTIONS, output: stringOption("How to print it", "text", { short: "o", placeholder: "FORMAT", choices: ["text", "json", "yaml"] }) },
    run: async ({ values, positionals }) => {
      const [type, name] = positionals.length === 1 ? positionals[0]!.split("/") : positionals;
      if (!type || !name || positionals.length > 2) throw new GantryError("BadRequest", "usage: gantry why pod NAME");
      using client = connect(values);
      const [resource] = resourcesOf(await discover(client), type);
      if (resource!.name !== PODS.name) throw new GantryError("BadRequest", `gantry why explains pods, not ${resource!.plural}`);
      const namespace = namespaceOf(client, values);
      const [explanation, pod] = await Promise.all([
        client.json<Explanation>("GET", `/apis/gantry.io/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}/why`), client.get(PODS, namespace, name),
      ]);
      if (values.output === "json") console.log(JSON.stringify(explanation, null, 2));
      else if (values.output === "yaml") console.log((await import("../manifests.ts")).toYaml(explanation));
      else console.log((await import("../why.ts")).explainPod(explanation, pod));
      return 0;
    },
  }),
];
