// Large layers are unpacked in threads of their own: one inflates, hashes and writes, all by itself, while the agent's downloads what comes next and has
// its turns. A thread takes some tens of milliseconds to start and some megabytes to keep, so small layers do without, and idle ones end. How many run at
// once is the caller's business.
import type { Worker } from "node:worker_threads";
import type { Clock } from "../../base/clock.ts";
import { GantryError, type ErrorCode } from "../../base/errors.ts";
import { startThread } from "../../base/threads.ts";
import type { ExtractCalls, Extracted } from "./extract.ts";
import { unpackBlob, type UnpackOrder } from "./unpack.ts";

export type ThreadOrder = UnpackOrder | "cancel";
/** A failure without a code is the file system's. */
export type ThreadAnswer = { readonly extracted: Extracted } | { readonly failed: { readonly code: ErrorCode | undefined; readonly message: string } };

/** Compressed. */
const SMALL_BYTES = 1024 * 1024;
/** Warm ones take a third less processor time: long enough for the next image of whoever pulls several. */
const IDLE_MS = 60_000;

interface Idle {
  readonly worker: Worker;
  readonly end: Disposable;
}

export class UnpackThreads {
  readonly #clock: Clock;
  readonly #calls: ExtractCalls | undefined;
  readonly #idle: Idle[] = [];
  readonly #all = new Set<Worker>();

  /** `calls` can't go to another thread: with them all is done here. */
  constructor(clock: Clock, calls: ExtractCalls | undefined) {
    this.#clock = clock;
    this.#calls = calls;
  }

  /** Work is on its way: a thread is started while its layer comes. */
  expect(blobBytes: number): void {
    if (this.#isFor(blobBytes) && this.#all.size === 0) this.#keep(this.#take());
  }

  #isFor(blobBytes: number): boolean {
    return this.#calls === undefined && blobBytes >= SMALL_BYTES;
  }

  /** As unpackBlob. */
  async run(order: UnpackOrder, signal: AbortSignal): Promise<Extracted> {
    if (!this.#isFor(order.blobBytes)) return unpackBlob(order, signal, this.#calls);
    const worker = this.#take();
    const cancel = (): void => worker.postMessage("cancel" satisfies ThreadOrder);
    try {
      worker.postMessage(order satisfies ThreadOrder);
      signal.addEventListener("abort", cancel);
      if (signal.aborted) cancel();
      const answer = await answerOf(worker, order.what);
      this.#keep(worker);
      if ("extracted" in answer) return answer.extracted;
      const { code, message } = answer.failed;
      throw code === undefined ? new Error(message) : new GantryError(code, message);
    } finally {
      signal.removeEventListener("abort", cancel);
    }
  }

  close(): void {
    for (const { end } of this.#idle.splice(0)) end[Symbol.dispose]();
    for (const worker of this.#all) void worker.terminate();
  }

  #take(): Worker {
    const idle = this.#idle.pop();
    if (idle) {
      idle.end[Symbol.dispose]();
      idle.worker.ref();
      return idle.worker;
    }
    const worker = startThread(import.meta.url, "unpack-thread", { name: "unpack" });
    this.#all.add(worker);
    worker.once("exit", () => {
      this.#all.delete(worker);
      const at = this.#idle.findIndex((i) => i.worker === worker);
      if (at >= 0) this.#idle.splice(at, 1)[0]?.end[Symbol.dispose]();
    });
    return worker;
  }

  #keep(worker: Worker): void {
    if (!this.#all.has(worker)) return;
    worker.unref();
    this.#idle.push({ worker, end: this.#clock.setTimer(IDLE_MS, () => void worker.terminate()) });
  }
}

const answerOf = (worker: Worker, what: string): Promise<ThreadAnswer> => new Promise((resolve, reject) => {
  const settle = (act: () => void): void => {
    worker.off("message", onMessage).off("error", onError).off("exit", onExit);
    act();
  };
  const onMessage = (answer: ThreadAnswer): void => settle(() => resolve(answer));
  const onError = (cause: Error): void => settle(() => reject(new GantryError("InternalError", `${what}: the thread that unpacked it failed`, { cause })));
  const onExit = (): void => settle(() => reject(new GantryError("Cancelled", `${what}: unpacking was cut off`)));
  worker.on("message", onMessage).on("error", onError).on("exit", onExit);
});
