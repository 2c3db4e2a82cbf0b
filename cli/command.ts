// What a command of the CLI is. main.ts finds it, parses its flags, prints its --help and turns errors into messages and exit codes.
import type { OptionTable, OptionValues } from "../base/config.ts";

export interface CommandInput<T extends OptionTable> {
  readonly values: OptionValues<T>;
  readonly positionals: readonly string[];
  readonly rest: readonly string[];
}

export interface Command<T extends OptionTable = OptionTable> {
  readonly name: string;
  /** Words after the name: "(TYPE NAME | TYPE/NAME)". */
  readonly usage: string;
  readonly summary: string;
  /** Examples and details for --help. */
  readonly details?: string;
  readonly group: "cluster" | "workloads" | "daemons";
  readonly options: T;
  /** A daemon's options can come from the environment and a config file too: --help says so. */
  readonly daemon?: boolean;
  /** Flags end after this many positionals (exec: what follows is another command's). */
  readonly stopAtPositional?: number;
  /** Resolves to the exit code. Loaded on demand by the command itself: `gantry --help` must be instant. */
  run(input: CommandInput<T>): Promise<number>;
}

/** Keeps a command's option types together. */
export const command = <T extends OptionTable>(c: Command<T>): Command => c;
