// The two daemons, as commands. Their code is loaded when they run.
import { CONTROL_PLANE_OPTIONS } from "../../control-plane/options.ts";
import { NODE_AGENT_OPTIONS } from "../../node-agent/options.ts";
import { command, type Command } from "../command.ts";

export const DAEMON_COMMANDS: readonly Command[] = [
  command({
    name: "control-plane", usage: "", group: "daemons", summary: "Serve the API, schedule, and direct the node agents", options: CONTROL_PLANE_OPTIONS, daemon: true,
    run: async ({ values }) => (await import("../../control-plane/main.ts")).main(values),
  }),
  command({
    name: "node-agent", usage: "", group: "daemons", summary: "Run this node's containers", options: NODE_AGENT_OPTIONS, daemon: true,
    run: async ({ values }) => (await import("../../node-agent/main.ts")).main(values),
  }),
];
