// When each node was last heard of, by this process's own monotonic clock. It owns the answer to "is it lost, or did we sleep?": time
// in which this process, its store or its feed could not have noticed a renewal counts against no node.

export interface HealthOptions {
  readonly leaseMs: number;
}

export type Liveness =
  | "alive"
  /** Not renewed since this process looks, or since a stall, but not for long enough to say anything: leave it as it is. */
  | "unknown"
  | "lost";

interface Record {
  renewTime: string | undefined;
  /** Monotonic. Deadlines count from here. */
  sinceMs: number;
  /** A renewal was seen by this process. */
  renewed: boolean;
}

export class NodeHealth {
  readonly #leaseMs: number;
  readonly #nodes = new Map<string, Record>();
  /** When any node was heard of. */
  #lastRenewalMs: number;
  #lastTickMs: number;

  constructor({ leaseMs }: HealthOptions, nowMs: number) {
    this.#leaseMs = leaseMs;
    this.#lastRenewalMs = nowMs;
    this.#lastTickMs = nowMs;
  }

  /** A node is there; its lease as of now. What was renewed before we looked proves nothing: it starts with a whole lease. */
  track(node: string, renewTime: string | undefined, nowMs: number): void {
    if (!this.#nodes.has(node)) this.#nodes.set(node, { renewTime, sinceMs: nowMs, renewed: false });
  }

  forget(node: string): void {
    this.#nodes.delete(node);
  }

  get names(): Iterable<string> {
    return this.#nodes.keys();
  }

  /** True when the lease changed, that is, the node was heard of. */
  renew(node: string, renewTime: string | undefined, nowMs: number): boolean {
    const known = this.#nodes.get(node);
    if (!known || renewTime === undefined || renewTime === known.renewTime) return false;
    known.renewTime = renewTime;
    this.heard(node, nowMs);
    return true;
  }

  /** Any sign of life. */
  heard(node: string, nowMs: number): void {
    const known = this.#nodes.get(node);
    if (!known) return;
    // Nobody was heard of for half a lease although nodes renew four times in one: it was us, or the store. The first sign of life
    // after that gives everybody a whole lease; otherwise whoever is heard of last would be called lost.
    if (nowMs - this.#lastRenewalMs > this.#leaseMs / 2) this.extendAll(nowMs);
    this.#lastRenewalMs = nowMs;
    known.sinceMs = nowMs;
    known.renewed = true;
  }

  /** A tick of the watchdog, due every `periodMs`. True when it came so late that this process must have been stopped. */
  tick(nowMs: number, periodMs: number): boolean {
    const stalledMs = nowMs - this.#lastTickMs - periodMs;
    this.#lastTickMs = nowMs;
    const stalled = stalledMs > Math.max(periodMs, this.#leaseMs / 10);
    if (stalled) this.extendAll(nowMs);
    return stalled;
  }

  extendAll(nowMs: number): void {
    for (const record of this.#nodes.values()) {
      record.sinceMs = nowMs;
      record.renewed = false;
    }
  }

  of(node: string, nowMs: number): Liveness {
    const record = this.#nodes.get(node);
    if (!record) return "unknown";
    return nowMs - record.sinceMs >= this.#leaseMs ? "lost" : record.renewed ? "alive" : "unknown";
  }

  /** Monotonic time at which the node is, or was, lost. */
  lostAtMs(node: string): number {
    return (this.#nodes.get(node)?.sinceMs ?? 0) + this.#leaseMs;
  }

  /** With no node left that could take the pods, and more likely our own network cut than all of theirs. */
  allLost(nowMs: number): boolean {
    return this.#nodes.size > 0 && [...this.#nodes.keys()].every((node) => this.of(node, nowMs) === "lost");
  }
}
