// Lines of the CRI log format, as conmon writes them: "2026-01-02T03:04:05.123456789+00:00 stdout F text". Pure.
// https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md

export type LogStream = "stdout" | "stderr";

export interface LogLine {
  /** As it stands in the file: RFC 3339 with nanoseconds. */
  readonly timestamp: string;
  readonly stream: LogStream;
  /** More of the same line follows: it was too long for the writer's buffer, or the process ended in the middle of it. */
  readonly partial: boolean;
  readonly text: Buffer;
}

const SPACE = 0x20;
const NEWLINE = 0x0a;

/** Of one line without its newline; undefined for what no writer of the format writes (a torn line after a crash of the machine). */
export const parseLine = (line: Buffer): LogLine | undefined => {
  const first = line.indexOf(SPACE);
  const second = line.indexOf(SPACE, first + 1);
  const third = line.indexOf(SPACE, second + 1);
  if (first < 0 || second < 0) return undefined;
  const stream = line.toString("latin1", first + 1, second);
  // A tag may stand last, without the space, when the text is empty.
  const tag = line.toString("latin1", second + 1, third < 0 ? line.length : third);
  if ((stream !== "stdout" && stream !== "stderr") || (tag !== "F" && tag !== "P")) return undefined;
  return { timestamp: line.toString("latin1", 0, first), stream, partial: tag === "P", text: third < 0 ? Buffer.alloc(0) : line.subarray(third + 1) };
};

/** Unix epoch ms, fractions kept. */
export const timeOf = (line: LogLine): number => {
  const fraction = /\.(\d+)/.exec(line.timestamp)?.[1] ?? "0";
  return Date.parse(line.timestamp.replace(/\.\d+/, "")) + Number(`0.${fraction}`) * 1000;
};

/** What the user sees of it. */
export const renderLine = (line: LogLine, timestamps: boolean): Buffer => {
  const text = line.partial ? line.text : Buffer.concat([line.text, Buffer.of(NEWLINE)]);
  return timestamps ? Buffer.concat([Buffer.from(`${line.timestamp} `), text]) : text;
};

/** Cuts chunks into lines; keeps an unfinished last line until its rest comes. */
export class LineSplitter {
  #rest: Buffer = Buffer.alloc(0);

  *push(chunk: Buffer): Iterable<Buffer> {
    const data = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let start = 0;
    for (let end = data.indexOf(NEWLINE); end >= 0; end = data.indexOf(NEWLINE, start)) {
      yield data.subarray(start, end);
      start = end + 1;
    }
    this.#rest = Buffer.from(data.subarray(start));
  }
}
