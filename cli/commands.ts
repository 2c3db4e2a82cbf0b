// All commands, in the order in which --help lists them.
import type { Command } from "./command.ts";
import { CHANGING_COMMANDS } from "./commands/changing.ts";
import { CLUSTER_COMMANDS } from "./commands/cluster.ts";
import { DAEMON_COMMANDS } from "./commands/daemons.ts";
import { READING_COMMANDS } from "./commands/reading.ts";

export const COMMANDS: readonly Command[] = [...CLUSTER_COMMANDS, ...READING_COMMANDS, ...CHANGING_COMMANDS, ...DAEMON_COMMANDS];
