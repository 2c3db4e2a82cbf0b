// A terminal for tests: a command in a session of its own whose standard streams are a pseudo-terminal of this machine, as under a user's fingers.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, openSync } from "node:fs";
import { ReadStream } from "node:tty";
import type { ExecutionContext } from "ava";
import * as libc from "../../node-agent/linux/libc.ts";

/** asm-generic/ioctls.h. */
const Ioctl = { unlock: 0x40045431, number: 0x80045430, setSize: 0x5414, getAttributes: 0x5401 } as const;
const O_NOCTTY = 0o400;
const TERMIOS_BYTES = 60;
const WAIT_MS = 20_000;

export interface Size {
  readonly rows: number;
  readonly columns: number;
}

export class Terminal {
  readonly #main: number;
  readonly #child: ChildProcess;
  readonly #side: number;
  readonly #stream: ReadStream;
  /** Its exit code; -1 when a signal ended it. */
  readonly ended: Promise<number>;
  #text = "";
  #wake: () => void = () => undefined;

  constructor(t: ExecutionContext, command: readonly string[], { env, size = { rows: 30, columns: 90 } }: { readonly env: NodeJS.ProcessEnv; readonly size?: Size }) {
    this.#main = openSync("/dev/ptmx", constants.O_RDWR | O_NOCTTY | constants.O_NONBLOCK);
    const number = Buffer.alloc(4);
    libc.ioctl(this.#main, Ioctl.unlock, Buffer.alloc(4));
    libc.ioctl(this.#main, Ioctl.number, number);
    // Kept open: what the terminal is set to is looked at when the command is gone.
    this.#side = openSync(`/dev/pts/${number.readUInt32LE(0)}`, constants.O_RDWR | O_NOCTTY);
    this.resize(size);
    // As process leader with this terminal as its own, or no key would be a signal, and no size would be told.
    this.#child = spawn("setsid", ["--ctty", "--wait", ...command], { env, stdio: [this.#side, this.#side, this.#side] });
    const stream = new ReadStream(this.#main);
    this.#stream = stream;
    stream.setEncoding("utf8");
    stream.on("data", (text) => {
      this.#text += String(text);
      this.#wake();
    });
    stream.on("error", () => undefined); // EIO: the other side is closed
    this.ended = once(this.#child, "exit").then(([code]) => {
      this.#wake();
      return (code as number | null) ?? -1;
    });
    t.teardown(async () => {
      this.#child.kill("SIGKILL");
      await this.ended;
      closeSync(this.#side);
      stream.destroy();
    });
  }

  /** All since it was last asked. Rejects after 20 s, with what came. */
  async until(match: RegExp): Promise<string> {
    const deadline = AbortSignal.timeout(WAIT_MS);
    const isOver = Promise.race([once(deadline, "abort"), this.ended.then(() => new Promise((later) => setTimeout(later, 100)))]);
    for (let over = false; !match.test(this.#text);) {
      if (over) throw new Error(`waited in vain for ${String(match)} on the terminal, where there is: ${JSON.stringify(this.#text)}`);
      const news = new Promise<false>((resolve) => { this.#wake = () => resolve(false); });
      over = (await Promise.race([news, isOver.then(() => true)])) && !match.test(this.#text);
    }
    const text = this.#text;
    this.#text = "";
    return text;
  }

  type(keys: string): void {
    this.#stream.write(keys);
  }

  resize({ rows, columns }: Size): void {
    const size = Buffer.alloc(8);
    size.writeUInt16LE(rows, 0);
    size.writeUInt16LE(columns, 2);
    libc.ioctl(this.#main, Ioctl.setSize, size);
  }

  /** struct termios: what modes it is in. */
  attributes(): string {
    const termios = Buffer.alloc(TERMIOS_BYTES);
    libc.ioctl(this.#main, Ioctl.getAttributes, termios);
    return termios.toString("hex");
  }
}
