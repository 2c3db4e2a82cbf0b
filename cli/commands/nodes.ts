// cordon, uncordon, drain: taking a node out of use and back, as kubectl does.
import { booleanOption, durationOption, numberOption, stringOption } from "../../base/config.ts";
import { GantryError } from "../../base/errors.ts";
import { NODES } from "../../base/kube/resources.ts";
import type { ApiClient } from "../api-client.ts";
import { command, type Command } from "../command.ts";
import { dryRunOf, dryRunOption } from "../dry-run.ts";
import { CLIENT_OPTIONS, connect, forEach } from "./client.ts";

const NODE_OPTIONS = {
  ...CLIENT_OPTIONS, selector: stringOption("All nodes that have these labels", "", { short: "l", placeholder: "SELECTOR" }), dryRun: dryRunOption,
} as const;

/** The nodes that are named, or selected. "BadRequest" for neither and for both. */
const nodesOf = async (client: ApiClient, words: readonly string[], selector: string, name: string): Promise<readonly string[]> => {
  if (selector !== "" && words.length > 0) throw new GantryError("BadRequest", `--selector chooses among all nodes: it can't go with the name ${JSON.stringify(words[0])}`);
  if (selector === "" && words.length === 0) throw new GantryError("BadRequest", `gantry ${name} needs the name of a node, or --selector`);
  if (selector === "") return words.map((word) => word.replace(/^(?:nodes?|no)\//, ""));
  const found = (await client.list(NODES, undefined, { labelSelector: selector })).items.map((n) => n.metadata.name!);
  if (found.length === 0) throw new GantryError("NotFound", `no node has the labels ${selector}`);
  return found;
};

const scheduling = (name: "cordon" | "uncordon", summary: string): Command => command({
  name, usage: "NODE... | -l SELECTOR", group: "workloads", summary, options: NODE_OPTIONS,
  run: async ({ values, positionals }) => {
    using client = connect(values);
    const { setSchedulable } = await import("../drain/drain.ts");
    const dryRun = dryRunOf(values.dryRun);
    return await forEach(await nodesOf(client, positionals, values.selector, name), async (node) => void (await setSchedulable(client, node, name === "uncordon", dryRun)));
  },
});

export const NODE_COMMANDS: readonly Command[] = [
  scheduling("cordon", "Let no new pods come to a node"),
  scheduling("uncordon", "Let new pods come to a node again"),
  command({
    name: "drain", usage: "NODE... | -l SELECTOR", group: "workloads", summary: "Cordon a node and move its pods away, as their disruption budgets allow",
    details: "Pods are evicted: one whose budget has no room is asked for again every 5 s, for as long as --timeout says. Exit code 0: all have gone; 1: they may not, or not in time (the node stays cordoned); 2: wrong usage.\nExamples:\n  gantry drain node-2 --ignore-daemonsets --delete-emptydir-data\n  gantry drain node-2 --dry-run=server",
    options: {
      ...NODE_OPTIONS,
      podSelector: stringOption("Only pods that have these labels", "", { placeholder: "SELECTOR" }),
      ignoreDaemonsets: booleanOption("Leave the pods of DaemonSets; without it their being there is an error"),
      deleteEmptydirData: booleanOption("Evict pods with emptyDir volumes too, whose files are lost by it"),
      force: booleanOption("Evict pods without a controller too: nobody makes them anew"),
      gracePeriod: numberOption("Seconds a pod has to end by itself; -1: its own setting", -1, { least: -1 }),
      timeout: durationOption("How long to go on for; 0s: as long as it takes", 0),
      disableEviction: booleanOption("Delete pods instead of evicting them: past their disruption budgets"),
      skipWaitForDeleteTimeout: numberOption("Do not wait for pods that have been ending for more seconds than this; 0: wait for all", 0, { least: 0 }),
    },
    run: async ({ values, positionals }) => {
      using client = connect(values);
      const [{ drain }, { Progress }] = await Promise.all([import("../drain/drain.ts"), import("../progress.ts")]);
      const dryRun = dryRunOf(values.dryRun);
      return await forEach(await nodesOf(client, positionals, values.selector, "drain"), (node) => drain(client, node, {
        ...values, dryRun, skipWaitMs: values.skipWaitForDeleteTimeout * 1000, graceSeconds: values.gracePeriod < 0 ? undefined : values.gracePeriod, timeoutMs: values.timeout || undefined,
      }, new Progress()));
    },
  }),
];
