// Where in a Dockerfile something stands, and errors that show it.
import { GantryError, describeError, isCode } from "../../base/errors.ts";

export interface Source {
  /** As the user named it: "Dockerfile". */
  readonly file: string;
  readonly lines: readonly string[];
}

/** Lines from 1, both inclusive. */
export interface Location {
  readonly source: Source;
  readonly first: number;
  readonly last: number;
}

const AROUND = 2;
/** Of a long heredoc the beginning is enough. */
const MOST_LINES = 12;

/** `Dockerfile:3`, and the lines around it, those that are meant marked. */
export const excerpt = ({ source, first, last }: Location): string => {
  const end = Math.min(last, first + MOST_LINES - 1);
  const [from, to] = [Math.max(1, first - AROUND), Math.min(source.lines.length, end + AROUND)];
  const rows = Array.from({ length: to - from + 1 }, (_, i) => from + i).map((n) => `${String(n).padStart(4)} | ${n >= first && n <= last ? ">>>" : "   "} ${source.lines[n - 1] ?? ""}`.trimEnd());
  return `${source.file}:${first}\n--------------------\n${rows.join("\n")}\n--------------------`;
};

/** The error with its place, unless it has one already. */
export class BuildError extends GantryError {
  static at(location: Location, error: unknown): unknown {
    if (error instanceof BuildError || isCode(error, "Cancelled") || (error as Error).name === "AbortError") return error;
    const code = error instanceof GantryError ? error.code : "InternalError";
    return new BuildError(code, `${location.source.file}:${location.first}: ${describeError(error)}\n\n${excerpt(location)}`, { cause: undefined });
  }
}

export const within = <T>(location: Location, work: () => T): T => {
  try {
    return work();
  } catch (error) {
    throw BuildError.at(location, error);
  }
};
