// How nodes reach each other's pods: kept from the cache, told to the sessions as changes. Owned by the dispatcher. Everything is
// encoded once, however many sessions get it: with 5,000 nodes there are 25 million routes to send when all of them come up.
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import type { Clock } from "../../base/clock.ts";
import { NODES } from "../../base/kube/resources.ts";
import type { Node } from "../../base/kube/types.gen.ts";
import { ClusterNetwork, NodeRoute, SessionMessage, SessionOpened } from "../../proto/gen/gantry/v1/agent.ts";
import type { RouteChanges } from "../../proto/gen/gantry/v1/agent.ts";
import { PEER_PORT_ANNOTATION } from "./node-object.ts";
import type { WatchCache } from "../state/cache.ts";
import type { Session, SessionRegistry } from "./session-registry.ts";

/** Joins what changes when many nodes come at once; short against what a node needs to come up. */
const COALESCE_MS = 20;

export const routeOf = (node: Node): NodeRoute | undefined => {
  const podCidr = node.spec?.podCIDR;
  const via = node.status?.addresses?.find((a) => a.type === "InternalIP")?.address;
  const peerPort = Number(node.metadata.annotations?.[PEER_PORT_ANNOTATION] ?? 0);
  return podCidr && via ? { nodeName: node.metadata.name ?? "", podCidr, via, peerPort } : undefined;
};

// Field numbers and wire types: SessionMessage.opened, SessionOpened.network, ClusterNetwork.routes (all length-delimited).
const [OPENED_TAG, NETWORK_TAG, ROUTE_TAG] = [(1 << 3) | 2, (5 << 3) | 2, (3 << 3) | 2];

/** SessionMessage with `opened`, whose network gets routes that are encoded already. */
export const encodeOpened = (opened: SessionOpened, routes: Uint8Array): Uint8Array => {
  const { network, ...rest } = opened;
  return new BinaryWriter().uint32(OPENED_TAG).fork()
    .raw(SessionOpened.encode({ ...rest, network: undefined }).finish())
    .uint32(NETWORK_TAG).fork().raw(ClusterNetwork.encode({ ...network!, routes: [] }).finish()).raw(routes).join()
    .join().finish();
};

interface KnownRoute {
  readonly route: NodeRoute;
  /** As an element of ClusterNetwork.routes, with its tag. */
  readonly bytes: Uint8Array;
}

const sameRoute = (a: NodeRoute | undefined, b: NodeRoute | undefined): boolean => a?.podCidr === b?.podCidr && a?.via === b?.via && a?.peerPort === b?.peerPort;

export class ClusterRoutes implements Disposable {
  readonly #routes = new Map<string, KnownRoute>();
  #snapshot: Uint8Array | undefined;
  readonly #changed = new Set<string>();
  /** Sessions that don't read fast enough: they get the newest state of these nodes when they do. */
  readonly #behind = new Map<Session, Set<string>>();
  readonly #subscription: Disposable;
  readonly #clock: Clock;
  readonly #sessions: SessionRegistry;
  #timer: Disposable | undefined;

  constructor({ cache, clock, sessions }: { readonly cache: WatchCache; readonly clock: Clock; readonly sessions: SessionRegistry }) {
    this.#clock = clock;
    this.#sessions = sessions;
    const nodes = cache.resource(NODES);
    for (const { object } of nodes.list()) this.#put(object.metadata.name ?? "", routeOf(object));
    this.#changed.clear();
    this.#subscription = nodes.subscribe(({ type, stored: { object } }) => {
      if (!this.#put(object.metadata.name ?? "", type === "deleted" ? undefined : routeOf(object))) return;
      this.#timer ??= this.#clock.setTimer(COALESCE_MS, () => this.#flush());
    });
  }

  /** What a new session starts with; changes after this call reach it once it is registered. */
  snapshot(): Uint8Array {
    return (this.#snapshot ??= Buffer.concat([...this.#routes.values()].map((r) => r.bytes)));
  }

  [Symbol.dispose](): void {
    this.#subscription[Symbol.dispose]();
    this.#timer?.[Symbol.dispose]();
  }

  #put(name: string, route: NodeRoute | undefined): boolean {
    if (sameRoute(this.#routes.get(name)?.route, route)) return false;
    this.#snapshot = undefined;
    if (route) this.#routes.set(name, { route, bytes: new BinaryWriter().uint32(ROUTE_TAG).bytes(NodeRoute.encode(route).finish()).finish() });
    else this.#routes.delete(name);
    this.#changed.add(name);
    return true;
  }

  #changesOf(names: Iterable<string>): Uint8Array {
    const changes: RouteChanges = { upsert: [], remove: [] };
    for (const name of names) {
      const known = this.#routes.get(name);
      if (known) changes.upsert.push(known.route);
      else changes.remove.push(name);
    }
    return SessionMessage.encode({ message: { $case: "routes", value: changes } }).finish();
  }

  #flush(): void {
    this.#timer = undefined;
    const names = [...this.#changed];
    this.#changed.clear();
    const changes = this.#changesOf(names);
    for (const session of this.#sessions.all()) {
      const behind = this.#behind.get(session);
      if (behind) for (const name of names) behind.add(name);
      else this.#send(session, changes);
    }
  }

  #send(session: Session, changes: Uint8Array): void {
    const room = session.send(changes, () => {
      const missed = this.#behind.get(session) ?? new Set();
      this.#behind.delete(session);
      if (missed.size > 0) this.#send(session, this.#changesOf(missed));
    });
    if (!room && !session.ended) {
      this.#behind.set(session, new Set());
      session.onEnd(() => this.#behind.delete(session));
    }
  }
}
