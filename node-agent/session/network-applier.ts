// Keeps the node's pod network as the session says: the whole once, then changes of routes; one configuration at a time, the
// newest state next, again when it failed.
import { backoffDelayMs, defaultBackoff } from "../../base/backoff.ts";
import type { Clock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { ClusterNetwork, NodeCondition, NodeRoute, RouteChanges } from "../../proto/gen/gantry/v1/agent.ts";
import type { PodNetwork } from "../network/pod-network.ts";

export interface NetworkApplierOptions {
  readonly network: Pick<PodNetwork, "configure">;
  readonly nodeName: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

export class NetworkApplier {
  readonly #options: NetworkApplierOptions;
  #wanted: Omit<ClusterNetwork, "routes"> | undefined;
  readonly #routes = new Map<string, NodeRoute>();
  #stale = false;
  #applying: Promise<void> | undefined;
  #failures = 0;
  /** Why pods have no network here; undefined once it was configured. */
  #fault: string | undefined = "the pod network is not configured yet";

  constructor(options: NetworkApplierOptions) {
    this.#options = options;
  }

  /** Resolves when it was applied, or failed once (it is then tried again in the background). */
  replace({ routes, ...rest }: ClusterNetwork): Promise<void> {
    this.#wanted = rest;
    this.#routes.clear();
    return this.change({ upsert: routes, remove: [] });
  }

  change({ upsert, remove }: RouteChanges): Promise<void> {
    for (const nodeName of remove) this.#routes.delete(nodeName);
    // The way to our own pods is the bridge.
    for (const route of upsert) if (route.nodeName !== this.#options.nodeName) this.#routes.set(route.nodeName, route);
    this.#stale = true;
    return (this.#applying ??= this.#apply());
  }

  condition(): NodeCondition {
    const fault = this.#fault;
    return fault === undefined
      ? { type: "NetworkUnavailable", status: false, reason: "PodNetworkReady", message: "the pod network is configured" }
      : { type: "NetworkUnavailable", status: true, reason: "PodNetworkNotReady", message: fault };
  }

  async #apply(): Promise<void> {
    const { network, clock, random, logger, signal } = this.#options;
    while (this.#stale && !signal.aborted) {
      this.#stale = false;
      try {
        await network.configure({ ...this.#wanted!, routes: [...this.#routes.values()] });
        this.#fault = undefined;
        this.#failures = 0;
      } catch (error) {
        this.#fault = describeError(error);
        logger.error("the pod network could not be configured; trying again", { err: error });
        const retry = clock.setTimer(backoffDelayMs(defaultBackoff, ++this.#failures, random), () => {
          signal.removeEventListener("abort", dispose);
          void this.change({ upsert: [], remove: [] });
        });
        const dispose = (): void => retry[Symbol.dispose]();
        signal.addEventListener("abort", dispose, { once: true });
        break;
      }
    }
    this.#applying = undefined;
  }
}
