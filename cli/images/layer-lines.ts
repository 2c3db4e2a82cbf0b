// Progress of pulls and pushes as docker shows it: a line for each layer that rewrites itself on a terminal; elsewhere a line for each change of a
// layer's state. Several nodes at once are shown as one: a layer is as far as it is on the slowest. Writes to stderr's neighbour, standard output,
// as docker does.
import { humanSize } from "../human.ts";

export interface LayerLine {
  readonly node: string;
  readonly id: string;
  readonly status: string;
  readonly currentBytes: number;
  readonly totalBytes: number;
}

/** Of these, the earliest is where several nodes together are. */
const ORDER = ["Preparing", "Pulling fs layer", "Downloading", "Pushing", "Extracting", "Pull complete", "Pushed", "Mounted from another repository", "Already exists", "Layer already exists"];
const BAR = 30;
const rank = (status: string): number => ORDER.indexOf(status);

/** Docker's bar: [=====>     ]  1.2MB/3MB. */
export const progressBar = (currentBytes: number, totalBytes: number): string => {
  const share = totalBytes <= 0 ? 0 : Math.min(1, currentBytes / totalBytes);
  const filled = Math.floor(share * BAR);
  return `[${"=".repeat(filled)}${filled < BAR ? ">" : ""}${" ".repeat(Math.max(0, BAR - filled - 1))}]  ${humanSize(currentBytes)}/${humanSize(totalBytes)}`;
};

export class LayerLines {
  readonly #out: Pick<NodeJS.WriteStream, "write" | "isTTY" | "columns" | "rows">;
  readonly #live: boolean;
  readonly #layers = new Map<string, Map<string, LayerLine>>();
  readonly #told = new Map<string, string>();
  #drawn = 0;

  constructor(out: Pick<NodeJS.WriteStream, "write" | "isTTY" | "columns" | "rows"> = process.stdout, terminal = process.env["TERM"]) {
    this.#out = out;
    this.#live = out.isTTY && terminal !== "dumb";
  }

  update(line: LayerLine): void {
    const nodes = this.#layers.get(line.id) ?? new Map<string, LayerLine>();
    this.#layers.set(line.id, nodes);
    nodes.set(line.node, line);
    const slowest = this.#slowest(nodes);
    if (this.#live) {
      this.#draw();
      return;
    }
    if (this.#told.get(line.id) === slowest.status) return;
    this.#told.set(line.id, slowest.status);
    this.#out.write(`${shortDigest(line.id)}: ${slowest.status}\n`);
  }

  /** What stands there stays. */
  end(): void {
    this.#drawn = 0;
  }

  #slowest(nodes: ReadonlyMap<string, LayerLine>): LayerLine {
    return [...nodes.values()].reduce((a, b) => (rank(b.status) < rank(a.status) || (b.status === a.status && b.currentBytes < a.currentBytes) ? b : a));
  }

  #draw(): void {
    const width = (this.#out.columns || 80) - 1;
    // More lines than the screen has can't be rewritten: the last ones are those that move.
    const lines = [...this.#layers].map(([id, nodes]) => {
      const { status, currentBytes, totalBytes } = this.#slowest(nodes);
      const moving = status === "Downloading" || status === "Pushing";
      return `${shortDigest(id)}: ${status}${moving ? ` ${progressBar(currentBytes, totalBytes)}` : ""}`.slice(0, width);
    }).slice(-Math.max(1, (this.#out.rows || 24) - 1));
    this.#out.write(`${this.#drawn > 0 ? `\u001B[${this.#drawn}A` : ""}${lines.map((line) => `\u001B[2K${line}\n`).join("")}`);
    this.#drawn = lines.length;
  }
}

const shortDigest = (digest: string): string => digest.replace(/^sha\d+:/, "").slice(0, 12);
