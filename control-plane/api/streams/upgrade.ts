// Owns which upgraded connection is served by what.
import type { NodeStreams } from "../../state/node-streams.ts";
import type { ResourceRequest } from "../context.ts";
import { serveTerminal, type Upgrade } from "./exec.ts";
import { servePortForward } from "./port-forward.ts";
import { servePortForwardOverSpdy, serveTerminalOverSpdy } from "./spdy-upgrade.ts";

type Server = (request: ResourceRequest, streams: NodeStreams, upgrade: Upgrade) => Promise<void>;

/** By the connection's protocol and the subresource of pods. */
const SERVERS: Readonly<Record<string, Readonly<Record<string, Server>>>> = {
  "websocket": { exec: serveTerminal, attach: serveTerminal, portforward: servePortForward },
  "spdy/3.1": { exec: serveTerminalOverSpdy, attach: serveTerminalOverSpdy, portforward: servePortForwardOverSpdy },
};

export const upgradeFor = (subresource: string, protocol: string): Server | undefined => SERVERS[protocol.toLowerCase()]?.[subresource];
