// How the API reaches a container or an image store on a node without knowing the dispatcher: it asks for a stream, the
// dispatcher tells the agent down its session, and the agent dials back (agents may be behind NAT). Implemented by
// control-plane/dispatcher; injected into the API by the composition root.
import type { StreamFrame, StreamRequest } from "../../proto/gen/gantry/v1/agent.ts";

export interface NodeStream extends AsyncDisposable {
  /** Frames from the agent, in order; ends when the agent half-closes. Throws GantryError when the stream breaks or the agent refuses. */
  readonly frames: AsyncIterable<StreamFrame>;
  /** Resolves when there is room for more (back-pressure). */
  send(frame: StreamFrame): Promise<void>;
  /** Half-close: nothing more is sent. */
  end(): void;
}

export interface NodeStreams {
  /** "ServiceUnavailable" when the node has no session, "NotFound" and others as the agent says. */
  open(nodeName: string, request: StreamRequest, signal: AbortSignal): Promise<NodeStream>;
  /** Names of the nodes with a live session. */
  connectedNodes(): readonly string[];
}
