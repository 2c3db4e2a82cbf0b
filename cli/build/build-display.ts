// Shows a build as BuildKit does: numbered steps with their logs and times, line by line; on a terminal what is being done is a block at the end that rewrites itself.
// Writes to stderr.
import type { BuildEvent } from "../../node-agent/build/build-events.ts";

export type BuildProgressMode = "auto" | "plain" | "tty" | "quiet";

interface Shown {
  readonly number: number;
  readonly name: string;
  readonly startedMs: number;
  /** The last ones. */
  readonly lines: string[];
  rest: string;
  status: string;
}

const KEPT_LINES = 200;
const TAIL_LINES = 5;
const REDRAW_MS = 100;
const seconds = (s: number): string => `${s.toFixed(1)}s`;
const ESCAPE = String.fromCharCode(27);
const MOVES = new RegExp(`${ESCAPE}\\[[0-9;?]*[A-LN-Za-ln-z]`, "g");
/** What would move the cursor of a terminal is left out, but for colours. */
const plainText = (text: string): string => text.replaceAll(MOVES, "").replaceAll(/\p{Cc}/gu, (c) => (c === "\n" || c === "\t" || c === "\r" || c === ESCAPE ? c : ""));

export class BuildDisplay {
  readonly #out: Pick<NodeJS.WriteStream, "write" | "columns" | "isTTY">;
  readonly #mode: "plain" | "tty" | "quiet";
  readonly #nowMs: () => number;
  readonly #startedMs: number;
  readonly #vertices = new Map<string, Shown>();
  readonly #active = new Set<string>();
  #count = 0;
  #finished = 0;
  /** Rows of the block on the terminal. */
  #rows = 0;
  #drawnMs = -Infinity;
  #lastPrinted: number | undefined;
  #failed: Shown | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(mode: BuildProgressMode, out: Pick<NodeJS.WriteStream, "write" | "columns" | "isTTY"> = process.stderr, nowMs: () => number = () => performance.now(), terminal = process.env["TERM"]) {
    this.#out = out;
    this.#mode = mode === "auto" ? (out.isTTY && terminal !== "dumb" ? "tty" : "plain") : mode;
    this.#nowMs = nowMs;
    this.#startedMs = nowMs();
    if (this.#mode === "tty") this.#timer = setInterval(() => this.#draw(true), REDRAW_MS).unref();
  }

  event(event: BuildEvent): void {
    if ("warning" in event) this.#print(undefined, `WARNING: ${event.warning}`);
    if (!("vertex" in event)) return;
    if ("name" in event) {
      this.#vertices.set(event.vertex, { number: ++this.#count, name: event.name, startedMs: this.#nowMs(), lines: [], rest: "", status: "" });
      this.#active.add(event.vertex);
      if (this.#mode === "plain") this.#print(this.#count, event.name);
    }
    const shown = this.#vertices.get(event.vertex);
    if (shown === undefined) return;
    if ("log" in event) this.#log(shown, event.log);
    else if ("status" in event) shown.status = event.status;
    else if ("done" in event) this.#end(event, shown);
    this.#draw(false);
  }

  /** After the last event: the terminal is the next program's again. */
  close(): void {
    clearInterval(this.#timer);
    this.#erase();
  }

  /** The end of the log of what failed, for modes that did not show it whole; "" otherwise. */
  get failure(): string {
    const failed = this.#failed;
    if (failed === undefined || this.#mode === "plain" || failed.lines.length === 0) return "";
    return `------\n > ${failed.name}:\n${failed.lines.slice(-20).join("\n")}\n------\n`;
  }

  get elapsedS(): string {
    return seconds((this.#nowMs() - this.#startedMs) / 1000);
  }

  #log(shown: Shown, text: string): void {
    const lines = (shown.rest + plainText(text).replaceAll("\r\n", "\n")).split("\n");
    shown.rest = lines.pop()!;
    for (const line of lines) this.#line(shown, line);
  }

  #line(shown: Shown, line: string): void {
    const timed = `${((this.#nowMs() - shown.startedMs) / 1000).toFixed(3)} ${line}`;
    shown.lines.push(timed);
    if (shown.lines.length > KEPT_LINES) shown.lines.shift();
    if (this.#mode === "plain") this.#print(shown.number, timed);
  }

  #end(event: Extract<BuildEvent, { readonly done: true }>, shown: Shown): void {
    const { vertex } = event;
    if (shown.rest !== "") this.#line(shown, shown.rest);
    shown.rest = "";
    this.#active.delete(vertex);
    this.#finished++;
    if (event.error !== undefined && event.error !== "CANCELED") this.#failed ??= shown;
    if (this.#mode === "plain") {
      if (shown.status !== "") this.#print(shown.number, `${shown.status} done`);
      this.#print(shown.number, event.error === "CANCELED" ? "CANCELED" : event.error !== undefined ? `ERROR: ${event.error}` : event.cached ? "CACHED" : `DONE ${seconds(event.seconds)}`);
      this.#out.write("\n");
      this.#lastPrinted = undefined;
    } else if (this.#mode === "tty") {
      this.#erase();
      const mark = event.error === "CANCELED" ? "CANCELED " : event.error !== undefined ? "ERROR " : event.cached ? "CACHED " : "";
      this.#out.write(`${this.#row(` => ${mark}${shown.name}`, seconds(event.seconds))}\n`);
    }
  }

  #print(number: number | undefined, line: string): void {
    if (this.#mode === "quiet") return;
    this.#erase();
    // Lines of steps that run side by side: a gap where another one goes on.
    if (this.#mode === "plain" && number !== undefined && this.#lastPrinted !== undefined && this.#lastPrinted !== number) this.#out.write("\n");
    this.#lastPrinted = number;
    this.#out.write(`${number === undefined ? "" : `#${number} `}${line}\n`);
  }

  get #width(): number {
    return Math.max(20, (this.#out.columns || 80) - 1);
  }

  #row(left: string, right: string): string {
    const room = this.#width - right.length - 1;
    return `${left.length > room ? `${left.slice(0, room - 3)}...` : left.padEnd(room)} ${right}`;
  }

  #erase(): void {
    if (this.#rows > 0) this.#out.write(`\x1b[${this.#rows}A\x1b[J`);
    this.#rows = 0;
  }

  #draw(force: boolean): void {
    if (this.#mode !== "tty" || (!force && this.#nowMs() - this.#drawnMs < REDRAW_MS)) return;
    this.#drawnMs = this.#nowMs();
    const rows = [`[+] Building ${this.elapsedS} (${this.#finished}/${this.#count})`];
    for (const vertex of this.#active) {
      const shown = this.#vertices.get(vertex)!;
      rows.push(this.#row(` => ${shown.name}`, seconds((this.#nowMs() - shown.startedMs) / 1000)));
      if (shown.status !== "") rows.push(` => => ${shown.status}`.slice(0, this.#width));
      for (const line of shown.lines.slice(-TAIL_LINES)) rows.push(` => => # ${line}`.slice(0, this.#width));
    }
    this.#erase();
    this.#out.write(`${rows.join("\n")}\n`);
    this.#rows = rows.length;
  }
}
