// What a command writes into a pipe or terminal of ours, until it has ended.
import type { Socket } from "node:net";

/** Silence after the end of a command after which nothing more is expected of its output. */
const GRACE_MS = 500;

/** One chunk after another: a slow reader at the far end slows the command down instead of filling our memory. */
export class OutputReader {
  /** Resolves at the end of the output, and rejects with what `to` threw. */
  readonly done: Promise<void>;
  readonly #from: Socket;
  #isHandingOver = false;

  constructor(from: Socket, to: (data: Uint8Array) => Promise<void>) {
    this.#from = from;
    this.done = this.#run(to);
    // It is awaited only once the command has ended.
    this.done.catch(() => undefined);
  }

  async #run(to: (data: Uint8Array) => Promise<void>): Promise<void> {
    try {
      for await (const chunk of this.#from) {
        this.#isHandingOver = true;
        await to(chunk as Uint8Array);
        this.#isHandingOver = false;
      }
    } catch (error) {
      // EIO: the last process with the terminal has ended. Closing early: nobody wants the rest.
      if (!["EIO", "ERR_STREAM_PREMATURE_CLOSE", "ABORT_ERR"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
    }
  }

  /** The command has ended, but what it left in the background may hold the pipe open for ever: take what is there, then stop. */
  endAfterSilence(): void {
    const seenBytes = this.#from.bytesRead;
    // The immediate comes after a look at the descriptors: where this process was held up, a timer is due before what came meanwhile is read.
    this.#from.setTimeout(GRACE_MS).once("timeout", () => setImmediate(() => {
      if (this.#from.destroyed) return;
      if (this.#from.bytesRead !== seenBytes || this.#isHandingOver) this.endAfterSilence();
      else this.#from.destroy();
    }));
  }
}
