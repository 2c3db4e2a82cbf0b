// get, describe, logs, why: the everyday commands that change nothing, for a machine without kubectl: the same API, the same words.
import { booleanOption, numberOption, stringOption } from "../../base/config.ts";
import { GantryError } from "../../base/errors.ts";
import { EVENTS, PODS, type KubeObject } from "../../base/kube/resources.ts";
import type { Explanation } from "../../control-plane/state/explain.ts";
import { ApiError } from "../api-client.ts";
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
    name: "logs", aliases: ["container logs"], usage: "POD | TYPE/NAME | -l SELECTOR", group: "workloads", summary: "Print what containers wrote",
    details: "Of a deployment, replicaset or job: of all its pods.\n\nExamples:\n  gantry logs -f POD\n  gantry logs deploy/web --prefix --since 5m\n  gantry logs -l app=web --tail 10",
    options: {
      ...NAMESPACED_OPTIONS, selector, container: stringOption("Which container of the pod", "", { short: "c", placeholder: "NAME" }), allContainers: booleanOption("Of all containers of the pod"), follow: booleanOption("Go on with what comes", { short: "f" }),
      previous: booleanOption("Of the container before its last restart", { short: "p" }), timestamps: booleanOption("With the time of each line"), prefix: booleanOption("With the pod's and container's name before each line"),
      tail: numberOption("Only the last N lines; -1: all (-n N is the same, where N is a number)", -1, { least: -1 }),
      since: stringOption("Only what is newer than this: 5m, or a time such as 2026-01-02T15:04:05Z", "", { placeholder: "TIME" }), until: stringOption("Only what is older than this", "", { placeholder: "TIME" }),
      details: booleanOption("With the pod's labels before each line"),
    },
    run: async ({ values, positionals }) => {
      const [word] = positionals;
      if (positionals.length > 1 || (word === undefined) === (values.selector === "")) throw new GantryError("BadRequest", "gantry logs needs one pod, one TYPE/NAME, or --selector");
      if (values.container && values.allContainers) throw new GantryError("BadRequest", "--container and --all-containers exclude each other");
      // docker's -n is a number of lines, kubectl's -n a namespace: what is a number, or "all", is meant as lines.
      const lines = /^(?:\d+|all)$/.test(values.namespace) ? values.namespace : undefined;
      if (lines !== undefined && values.tail >= 0) throw new GantryError("BadRequest", `-n ${lines} and --tail ${values.tail} both say how many lines`);
      const tail = lines === undefined ? values.tail : lines === "all" ? -1 : Number(lines);
      using client = connect(values);
      const namespace = namespaceOf(client, { namespace: lines === undefined ? values.namespace : "" });
      const [{ podsOf, printLogs, timeOf }, { findPod }] = await Promise.all([import("../logs.ts"), import("../docker/find-container.ts")]);
      const nowMs = Date.now();
      const resources = word?.includes("/") ? await discover(client) : [];
      const isTyped = resources.some((r) => r.words.includes(word!.split(/[./]/)[0]!.toLowerCase()));
      // Else POD/CONTAINER, as `gantry ps` shows it, or a type that is misspelt.
      const found = word === undefined || isTyped ? undefined : await findPod(client, namespace, word).catch((error: unknown) => {
        if (resources.length === 0 || !(error instanceof ApiError) || error.code !== "NotFound") throw error;
      });
      const target = word === undefined ? { type: PODS, name: word } : found ? undefined : parseTargets(resources, [word])[0]!;
      await printLogs(client, target ? await podsOf(client, namespace, target, values.selector) : [found!.pod], {
        container: values.container || (values.allContainers ? "" : found?.container ?? ""), allContainers: values.allContainers, follow: values.follow, previous: values.previous, timestamps: values.timestamps, prefix: values.prefix,
        tailLines: tail < 0 ? undefined : tail, sinceMs: timeOf(values.since, nowMs, "--since"), untilMs: timeOf(values.until, nowMs, "--until"), details: values.details,
      });
      return 0;
    },
  }),
  command({
    name: "why", usage: "TYPE NAME | TYPE/NAME", group: "workloads", summary: "Explain what holds up a pod, deployment, statefulset, daemonset or job",
    details: "Of a pod: where it runs or why nowhere, and what its containers wait for. Of a workload: the same of all its pods, those in the same trouble together.\n\nExamples:\n  gantry why pod web-0\n  gantry why deploy/web",
    options: { ...NAMESPACED_OPTIONS, output: stringOption("How to print it (json and yaml: of a pod)", "text", { short: "o", placeholder: "FORMAT", choices: ["text", "json", "yaml"] }) },
    run: async ({ values, positionals }) => {
      const [type, name] = positionals.length === 1 ? positionals[0]!.split("/") : positionals;
      if (!type || !name || positionals.length > 2) throw new GantryError("BadRequest", "usage: gantry why TYPE NAME, such as gantry why deploy web");
      using client = connect(values);
      const [resource] = resourcesOf(await discover(client), type);
      const namespace = namespaceOf(client, values);
      const explanationOf = (pod: string): Promise<Explanation> => client.json<Explanation>("GET", `/apis/gantry.io/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(pod)}/why`);
      if (resource!.name !== PODS.name) {
        if (values.output !== "text") throw new GantryError("BadRequest", `--output ${values.output} is for pods; of ${resource!.plural} there is text only`);
        const { viewWorkload } = await import("../workload-view.ts");
        console.log((await import("../why-workload.ts")).explainWorkload(await viewWorkload(client, resource!, namespace, name, explanationOf)));
        return 0;
      }
      const [explanation, pod] = await Promise.all([explanationOf(name), client.get(PODS, namespace, name)]);
      if (values.output === "json") console.log(JSON.stringify(explanation, null, 2));
      else if (values.output === "yaml") console.log((await import("../manifests.ts")).toYaml(explanation));
      else console.log((await import("../why.ts")).explainPod(explanation, pod));
      return 0;
    },
  }),
];
