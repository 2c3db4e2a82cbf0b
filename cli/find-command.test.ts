import test from "ava";
import { booleanOption, eachOption, stringOption } from "../base/config.ts";
import { isCode } from "../base/errors.ts";
import { command } from "./command.ts";
import { findCommand } from "./find-command.ts";

const run = (): Promise<number> => Promise.resolve(0);
const make = (name: string, aliases: readonly string[] = []) => command({ name, aliases, usage: "", summary: name, group: "containers", options: { follow: booleanOption("", { short: "f" }) }, run });
const commands = [make("ps", ["container ls"]), make("compose up"), make("compose logs"), make("images"), make("image ls"), make("image")];
const families = [{ name: "compose", summary: "Compose", group: "containers" as const, options: { file: eachOption("", { short: "f" }), project: stringOption("", "", { short: "p" }) } }];
const find = (line: string) => findCommand(commands, families, line.split(" "));

test("one word, two words, an alias, and a family that is a command itself", (t) => {
  t.like(find("ps -a"), { command: commands[0], args: ["-a"] });
  t.like(find("container ls -a"), { command: commands[0], args: ["-a"] });
  t.like(find("image ls"), { command: commands[4] });
  t.like(find("image something"), { command: commands[5], args: ["something"] });
});

test("a family's flags end at the second word: the same letter means another thing behind it", (t) => {
  const found = find("compose -f a.yaml -f b.yaml -p shop logs -f web -- -x");
  t.like(found, { command: commands[2], args: ["-f", "web", "--", "-x"] });
  t.deepEqual((found as { family: unknown }).family, { file: ["a.yaml", "b.yaml"], project: "shop" });
});

test("help for a family, and words that are no command", (t) => {
  t.deepEqual(find("compose --help"), { familyName: "compose" });
  t.deepEqual(find("compose"), { familyName: "compose" });
  const message = (line: string): string => {
    const error = t.throws(() => find(line));
    t.true(isCode(error, "BadRequest"));
    return error.message;
  };
  t.regex(message("compose upp"), /unknown command "compose upp"; did you mean up\? \(there are: up, logs\)/);
  t.regex(message("pss"), /unknown command "pss"; did you mean ps\?/);
  t.regex(message("compose --fil x up"), /unknown flag --fil; did you mean --file/);
});
