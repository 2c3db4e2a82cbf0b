// The vertices of one build: numbered in the order in which they begin, each with its logs and its end.
import type { Clock } from "../../base/clock.ts";
import { describeError, isCode } from "../../base/errors.ts";
import type { BuildEvent } from "./build-events.ts";

/** Takes an event; resolves when there is room for more. Throws once nobody listens. */
export type Say = (event: BuildEvent) => Promise<void>;

export interface Vertex {
  log(text: string): Promise<void>;
  status(text: string): void;
  /** What it was to do was done before: no work. */
  cached(): void;
}

export class BuildProgress {
  readonly #say: Say;
  readonly #clock: Clock;
  #count = 0;

  constructor(say: Say, clock: Clock) {
    this.#say = say;
    this.#clock = clock;
  }

  warn(text: string): void {
    this.#tell({ warning: text });
  }

  /** Runs `work` as a vertex of that name. */
  async run<T>(name: string, work: (vertex: Vertex) => Promise<T>): Promise<T> {
    const vertex = String(++this.#count);
    const startedMs = this.#clock.monotonicMs();
    let isCached = false;
    const done = (error?: unknown): void => this.#tell({
      vertex, done: true, seconds: Math.round(this.#clock.monotonicMs() - startedMs) / 1000, ...(isCached ? { cached: true } : {}),
      ...(error === undefined ? {} : { error: isCode(error, "Cancelled") ? "CANCELED" : describeError(error).split("\n")[0]! }),
    });
    this.#tell({ vertex, name });
    try {
      const result = await work({
        log: (text) => this.#say({ vertex, log: text }),
        status: (text) => this.#tell({ vertex, status: text }),
        cached: () => void (isCached = true),
      });
      done();
      return result;
    } catch (error) {
      done(error);
      throw error;
    }
  }

  /** Events that nobody has to wait for; if nobody listens any more the build is stopped by its signal. */
  #tell(event: BuildEvent): void {
    this.#say(event).catch(() => undefined);
  }
}
