// Work that blocks, in portions: one in each turn of the event loop, whoever has it to do. Promises alone don't do that: what they wake runs in the same turn,
// one after another, while timers and sockets wait for all of it.

export class Turns {
  readonly #waiting: (() => void)[] = [];

  /** Resolves in a turn in which no other caller's does; in order of arrival. */
  next(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#waiting.push(resolve) === 1) this.#schedule();
    });
  }

  #schedule(): void {
    // One that is asked for within another comes a turn later (Node's event loop guide, "check phase").
    setImmediate(() => {
      if (this.#waiting.length > 1) this.#schedule();
      this.#waiting.shift()!();
    });
  }
}
