// up, down, status, token, load: a cluster on this machine and what it takes to grow one.
import { booleanOption, durationOption, numberOption, stringOption } from "../../base/config.ts";
import { GantryError } from "../../base/errors.ts";
import { command, type Command } from "../command.ts";
import { CLIENT_OPTIONS, connect } from "./client.ts";

const stateDir = stringOption("Where the cluster's state lies", ".gantry", { placeholder: "DIR" });

export const CLUSTER_COMMANDS: readonly Command[] = [
  command({
    name: "up", usage: "", group: "cluster", summary: "Start etcd, a control plane and node agents on this machine, and an example on them",
    details: "Needs root. What already runs is left as it is; a second call is harmless.",
    options: {
      stateDir,
      nodes: numberOption("How many node agents, each in a network namespace of its own; 0: a control plane alone", 3, { short: "n", least: 0, most: 200 }),
      replicas: numberOption("Containers of the example", 100, { short: "r", least: 0 }),
      noExample: booleanOption("Start the cluster only"),
      apiPort: numberOption("Port of the Kubernetes API", 6443, { least: 1, most: 65_535 }),
      agentPort: numberOption("Port for node agents", 6444, { least: 1, most: 65_535 }),
    },
    run: async ({ values }) => {
      const { up } = await import("../cluster/up.ts");
      await up({ root: values.stateDir, nodes: values.nodes, replicas: values.replicas, example: !values.noExample, apiPort: values.apiPort, agentPort: values.agentPort });
      return 0;
    },
  }),
  command({
    name: "down", usage: "", group: "cluster", summary: "Stop the cluster of 'up' and remove everything that it made",
    options: { stateDir, purge: booleanOption("Remove the data too: etcd, images, certificates") },
    run: async ({ values }) => {
      const { down } = await import("../cluster/down.ts");
      await down({ root: values.stateDir, purge: values.purge });
      return 0;
    },
  }),
  command({
    name: "status", usage: "", group: "cluster", summary: "What runs: daemons, nodes, containers, memory",
    options: { stateDir, output: stringOption("How to print it", "text", { short: "o", choices: ["text", "json"] }) },
    run: async ({ values }) => {
      const { status } = await import("../cluster/status.ts");
      return status({ root: values.stateDir, json: values.output === "json" });
    },
  }),
  command({
    name: "token", usage: "create", group: "cluster", summary: "Make a token with which a node agent joins",
    details: "On the new machine: GANTRY_JOIN_TOKEN=... gantry node-agent --control-planes HOST:6444",
    options: {
      ...CLIENT_OPTIONS, ttl: durationOption("How long it is good for", 3_600_000), description: stringOption("What it is for"),
      output: stringOption("How to print it; json tells also when it ends", "text", { short: "o", choices: ["text", "json"] }),
    },
    run: async ({ values, positionals }) => {
      if (positionals[0] !== "create" || positionals.length > 1) throw new GantryError("BadRequest", "usage: gantry token create [--ttl 1h]");
      const { createJoinToken } = await import("../join-token.ts");
      using client = connect(values);
      const made = await createJoinToken(client, { ttlMs: values.ttl, description: values.description });
      console.log(values.output === "json" ? JSON.stringify(made, null, 2) : made.token);
      return 0;
    },
  }),
  command({
    name: "version", usage: "", group: "cluster", summary: "The version of this command and of the cluster",
    options: { ...CLIENT_OPTIONS, client: booleanOption("Of this command only"), output: stringOption("How to print it", "text", { short: "o", choices: ["text", "json"] }) },
    run: async ({ values }) => {
      const { VERSION } = await import("../../base/version.ts");
      const own = { gantry: VERSION, node: process.version, platform: `linux/${process.arch}` };
      const json = values.output === "json";
      if (!json) console.log(`client  gantry ${own.gantry}, Node.js ${own.node}, ${own.platform}`);
      try {
        using client = values.client ? undefined : connect(values);
        const server = await client?.json<{ readonly gitVersion: string }>("GET", "/version");
        if (json) console.log(JSON.stringify({ client: own, ...(server ? { server } : {}) }, null, 2));
        else if (server) console.log(`server  Kubernetes API ${server.gitVersion} at ${client!.target.server.host}`);
        return 0;
      } catch (error) {
        if (json) console.log(JSON.stringify({ client: own }, null, 2));
        throw error;
      }
    },
  }),
];
