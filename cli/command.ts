// What a command of the CLI is. main.ts finds it, parses its flags, prints its --help and turns errors into messages and exit codes.
import type { OptionTable, OptionValues } from "../base/config.ts";

export interface CommandInput<T extends OptionTable> {
  readonly values: OptionValues<T>;
  readonly positionals: readonly string[];
  readonly rest: readonly string[];
  /** Values of the family's own flags, which stand before the second word (`compose -f FILE up`); {} where it has none. */
  readonly family: Readonly<Record<string, unknown>>;
}

/** Commands that share their first word. */
export interface CommandFamily {
  readonly name: string;
  readonly summary: string;
  readonly group: CommandGroup;
  /** Flags between the first word and the second. */
  readonly options?: OptionTable;
}

export type CommandGroup = "cluster" | "containers" | "images" | "workloads" | "daemons";

export interface Command<T extends OptionTable = OptionTable> {
  /** One word, or two: "volume ls". */
  readonly name: string;
  /** Other names for the same; not listed. */
  readonly aliases?: readonly string[];
  /** Words after the name: "(TYPE NAME | TYPE/NAME)". */
  readonly usage: string;
  readonly summary: string;
  /** Examples and details for --help. */
  readonly details?: string;
  readonly group: CommandGroup;
  readonly options: T;
  /** A daemon's options can come from the environment and a config file too: --help says so. */
  readonly daemon?: boolean;
  /** Flags end after this many positionals (exec: what follows is another command's). */
  readonly stopAtPositional?: number;
  /** Exit code of wrong usage and of failures before the command has one of its own (docker run: 125). Default: 2 and 1. */
  readonly failureCode?: number;
  /** Takes its words as they stand, flags too. */
  readonly raw?: boolean;
  /** Works for other programs: --help leaves it out. */
  readonly hidden?: boolean;
  /** Resolves to the exit code. Loaded on demand by the command itself: `gantry --help` must be instant. */
  run(input: CommandInput<T>): Promise<number>;
}

/** Keeps a command's option types together. */
export const command = <T extends OptionTable>(c: Command<T>): Command => c;
