// HTTP requests to servers that may not be there: a machine that is off answers nothing, and one that hangs leaves the TLS handshake to its kernel's queue.
import type { ClientRequest } from "node:http";
import type { Clock } from "./clock.ts";

/** Destroys the request with `late()` unless its connection, TLS handshake included, stands within `limitMs`. One that was kept from an earlier request does. */
export const endUnlessConnected = (request: ClientRequest, clock: Clock, limitMs: number, late: () => Error): void => {
  request.once("socket", (socket) => {
    if (request.reusedSocket) return;
    const timer = clock.setTimer(limitMs, () => request.destroy(late()));
    for (const event of [request.protocol === "http:" ? "connect" : "secureConnect", "close"]) socket.once(event, () => timer[Symbol.dispose]());
  });
};
