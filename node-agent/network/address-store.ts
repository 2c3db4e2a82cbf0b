// Where a node remembers which pod has which address, so that a restarted agent gives none away twice. local-state.ts implements it.

export interface AddressStore {
  /** Pod uid -> address. Read once, at the start. */
  load(): ReadonlyMap<string, string>;
  /** Durable before the address is used, as far as a crash of the agent goes. */
  save(podUid: string, ip: string): void;
  delete(podUid: string): void;
}

/** For tests. */
export class MemoryAddressStore implements AddressStore {
  readonly #addresses = new Map<string, string>();

  load(): ReadonlyMap<string, string> {
    return new Map(this.#addresses);
  }

  save(podUid: string, ip: string): void {
    this.#addresses.set(podUid, ip);
  }

  delete(podUid: string): void {
    this.#addresses.delete(podUid);
  }
}
