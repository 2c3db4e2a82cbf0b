// Owns which upgraded connection is served by what.
import type { NodeStreams } from "../../state/node-streams.ts";
import type { ResourceRequest } from "../context.ts";
import { serveTerminal, type Upgrade } from "./exec.ts";
import { servePortForward } from "./port-forward.ts";

type Server = (request: ResourceRequest, streams: NodeStreams, upgrade: Upgrade) => Promise<void>;

/** By subresource of pods. */
const OVER_WEBSOCKET: Readonly<Record<string, Server>> = { exec: serveTerminal, attach: serveTerminal, portforward: servePortForward };

export const upgradeFor = (subresource: string, protocol: string): Server | undefined =>
  protocol.toLowerCase() === "websocket" ? OVER_WEBSOCKET[subresource] : undefined;
