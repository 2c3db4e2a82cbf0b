// All commands, in the order in which --help lists them.
import type { Command, CommandFamily } from "./command.ts";
import { BUILD_COMMANDS } from "./commands/build.ts";
import { CHANGING_COMMANDS } from "./commands/changing.ts";
import { CONTAINER_COMMANDS } from "./commands/containers.ts";
import { completionCommands } from "./commands/completion.ts";
import { COMPOSE_COMMANDS, COMPOSE_FAMILY } from "./commands/compose.ts";
import { CLUSTER_COMMANDS } from "./commands/cluster.ts";
import { CRON_COMMANDS, CRON_FAMILY } from "./commands/cron.ts";
import { DAEMON_COMMANDS } from "./commands/daemons.ts";
import { IMAGE_COMMANDS } from "./commands/images.ts";
import { INSPECTING_COMMANDS } from "./commands/inspecting.ts";
import { LIFECYCLE_COMMANDS } from "./commands/lifecycle.ts";
import { NODE_COMMANDS } from "./commands/nodes.ts";
import { READING_COMMANDS } from "./commands/reading.ts";
import { VOLUME_COMMANDS } from "./commands/volumes.ts";

export const COMMANDS: readonly Command[] = [
  ...CONTAINER_COMMANDS, ...LIFECYCLE_COMMANDS, ...INSPECTING_COMMANDS, ...VOLUME_COMMANDS, ...COMPOSE_COMMANDS, ...IMAGE_COMMANDS, ...CLUSTER_COMMANDS, ...READING_COMMANDS, ...CHANGING_COMMANDS, ...NODE_COMMANDS, ...BUILD_COMMANDS, ...CRON_COMMANDS, ...DAEMON_COMMANDS,
  ...completionCommands(() => ({ commands: COMMANDS, families: FAMILIES })),
];

/** First words of commands of two. */
export const FAMILIES: readonly CommandFamily[] = [
  COMPOSE_FAMILY,
  CRON_FAMILY,
  { name: "container", group: "containers", summary: "Containers, docker's long names" },
  { name: "volume", group: "containers", summary: "Named volumes" },
  { name: "network", group: "containers", summary: "Networks" },
  { name: "image", group: "images", summary: "Images, docker's long names" },
  { name: "system", group: "images", summary: "What takes up disk" },
];
