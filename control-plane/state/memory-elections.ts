// Elections within one process, for tests: first come, first served. See election.ts for the contract.
import { GantryError } from "../../base/errors.ts";
import type { Candidate, Elections, Leadership } from "./election.ts";
import type { Fence } from "./store.ts";

export class MemoryElections implements Elections {
  readonly #store: { elect(electionKey: string): Fence };
  readonly #leaders = new Map<string, { readonly lost: AbortController; readonly ended: Promise<void> }>();

  constructor(store: { elect(electionKey: string): Fence }) {
    this.#store = store;
  }

  async campaign({ election }: Candidate, signal: AbortSignal): Promise<Leadership> {
    for (;;) {
      signal.throwIfAborted();
      const leader = this.#leaders.get(election);
      if (!leader) break;
      const { promise, reject } = Promise.withResolvers<never>();
      const abort = (): void => reject(signal.reason as Error);
      signal.addEventListener("abort", abort, { once: true });
      try {
        await Promise.race([leader.ended, promise]);
      } finally {
        signal.removeEventListener("abort", abort);
      }
    }
    const lost = new AbortController();
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    const leader = { lost, ended };
    this.#leaders.set(election, leader);
    const resign = async (): Promise<void> => {
      if (this.#leaders.get(election) === leader) this.#leaders.delete(election);
      resolve();
    };
    lost.signal.addEventListener("abort", () => void resign(), { once: true });
    return { fence: this.#store.elect(election), lost: lost.signal, resign };
  }

  /** As if the lease ran out. */
  depose(election = "leader"): void {
    this.#leaders.get(election)?.lost.abort(new GantryError("Fenced", "deposed"));
  }
}
