// Which command is meant by a command line: one word, or two of a family ("volume ls"), with the family's own flags in between
// ("compose -f FILE up"). Pure.
import { nearest, parseOptions } from "../base/config.ts";
import { GantryError } from "../base/errors.ts";
import type { Command, CommandFamily } from "./command.ts";

export interface FoundCommand {
  readonly command: Command;
  readonly args: readonly string[];
  readonly family: Readonly<Record<string, unknown>>;
}

/** Help was asked for a family, or it was named alone. */
export interface FoundFamily {
  readonly familyName: string;
}

const names = (c: Command): readonly string[] => [c.name, ...(c.aliases ?? [])];
const isHelp = (word: string | undefined): boolean => word === "--help" || word === "-h";

/** "BadRequest" for words that are no command, with the nearest that is one; `absent`: what to do instead of commands that people know from elsewhere. */
export const findCommand = (commands: readonly Command[], families: readonly CommandFamily[], argv: readonly string[], absent: Readonly<Record<string, string>> = {}): FoundCommand | FoundFamily => {
  const [first = "", ...after] = argv;
  const refuse = (name: string): void => {
    if (Object.hasOwn(absent, name)) throw new GantryError("BadRequest", `there is no command ${JSON.stringify(name)} here: ${absent[name]!}`);
  };
  const known = (name: string): Command | undefined => commands.find((c) => names(c).includes(name));
  const members = commands.filter((c) => names(c).some((n) => n.startsWith(`${first} `)));
  if (members.length > 0) {
    const options = families.find((f) => f.name === first)?.options ?? {};
    const before = known(first) && !isHelp(after[0]) && after[0]?.startsWith("-") ? undefined : parseOptions(options, { argv: after, stopAtPositional: 0 });
    if (before && (before.help || (before.positionals.length === 0 && !known(first)))) {
      // All that is there of it are other names for commands of one word.
      if (!families.some((f) => f.name === first)) refuse(first);
      return { familyName: first };
    }
    const [second, ...args] = before?.positionals ?? [];
    const command = second === undefined ? undefined : known(`${first} ${second}`);
    if (command) return { command, args: [...args, ...(before!.rest.length > 0 ? ["--", ...before!.rest] : [])], family: before!.values };
    if (!known(first)) {
      refuse(`${first} ${second!}`);
      refuse(first);
      const words = members.flatMap(names).filter((n) => n.startsWith(`${first} `)).map((n) => n.slice(first.length + 1));
      const hint = nearest(second!, words);
      throw new GantryError("BadRequest", `unknown command ${JSON.stringify(`${first} ${second!}`)}${hint ? `; did you mean ${hint}?` : ""} (there are: ${words.join(", ")})`);
    }
  }
  const command = known(first);
  if (command) return { command, args: after, family: {} };
  refuse(`${first} ${after[0] ?? ""}`);
  refuse(first);
  const hint = nearest(first, commands.flatMap((c) => names(c).map((n) => n.split(" ")[0]!)));
  throw new GantryError("BadRequest", `unknown command ${JSON.stringify(first)}${hint ? `; did you mean ${hint}?` : ""} ('gantry --help' lists them)`);
};
