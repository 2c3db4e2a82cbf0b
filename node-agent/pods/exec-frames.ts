// The frames of an exec stream, apart: standard input and terminal sizes one way, output the other.
import type { StreamFrame } from "../../proto/gen/gantry/v1/agent.ts";

const MAX_FRAME_BYTES = 64 * 1024;

/** One reader, one writer; the writer waits until the reader has taken what it wrote. */
class Channel<T> implements AsyncIterable<T> {
  readonly #items: T[] = [];
  #closed = false;
  #wake: (() => void) | undefined;
  #taken: (() => void) | undefined;

  put(item: T): Promise<void> {
    if (this.#closed) return Promise.resolve();
    this.#items.push(item);
    this.#wake?.();
    return new Promise((resolve) => { this.#taken = resolve; });
  }

  close(): void {
    this.#closed = true;
    this.#wake?.();
    this.#taken?.();
  }

  async *[Symbol.asyncIterator](): AsyncIterator<T> {
    for (;;) {
      const item = this.#items.shift();
      if (item !== undefined) {
        this.#taken?.();
        yield item;
      } else if (this.#closed) {
        return;
      } else {
        await new Promise<void>((resolve) => { this.#wake = resolve; });
      }
    }
  }
}

export interface ExecInput {
  readonly stdin: AsyncIterable<Uint8Array>;
  readonly resize: AsyncIterable<{ readonly width: number; readonly height: number }>;
  /** The command is over: nobody reads any more. */
  readonly stop: () => void;
}

export const inputOf = (frames: AsyncIterable<StreamFrame>, signal: AbortSignal): ExecInput => {
  const stdin = new Channel<Uint8Array>();
  const resize = new Channel<{ width: number; height: number }>();
  const stop = (): void => {
    stdin.close();
    resize.close();
  };
  signal.addEventListener("abort", stop, { once: true });
  const pump = async (): Promise<void> => {
    try {
      for await (const { frame } of frames) {
        if (frame?.$case === "stdin") await stdin.put(frame.value);
        // Not waited for: a size that nobody asks for must not hold up the input.
        else if (frame?.$case === "resize") void resize.put(frame.value);
        else if (frame?.$case === "stdinClosed") stdin.close();
      }
    } catch {
      // The stream broke: the command sees the end of its input.
    }
    stop();
  };
  void pump();
  return { stdin, resize, stop };
};

export const outputTo = ($case: "stdout" | "stderr", send: (frame: StreamFrame) => Promise<void>) => async (data: Uint8Array): Promise<void> => {
  for (let at = 0; at < data.length; at += MAX_FRAME_BYTES) {
    const part = data.subarray(at, at + MAX_FRAME_BYTES);
    await send({ frame: { $case, value: Buffer.from(part.buffer, part.byteOffset, part.byteLength) } });
  }
};
