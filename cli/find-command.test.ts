import test from "ava";
import { booleanOption, eachOption, stringOption } from "../base/config.ts";
import { isCode } from "../base/errors.ts";
import { command } from "./command.ts";
import { COMMANDS, FAMILIES } from "./commands.ts";
import { REFUSED_COMMANDS } from "./docker/refused-commands.ts";
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

test("commands that people know from docker are told what to use instead, but not in place of those that are there", (t) => {
  const instead = { swarm: "use up", "compose top": "use top", "image import": "use build", ps: "never" };
  const message = (line: string): string => t.throws(() => findCommand(commands, families, line.split(" "), instead)).message;
  t.is(message("swarm init"), 'there is no command "swarm" here: use up');
  t.is(message("compose top web"), 'there is no command "compose top" here: use top');
  t.notThrows(() => findCommand(commands, families, ["ps"], instead));
  t.notThrows(() => findCommand(commands, families, ["compose", "--help"], instead));
});

/** docker's management forms, by `docker COMMAND --help` of 28.0. */
const DOCKER: Readonly<Record<string, string>> = {
  container: "attach commit cp create diff exec export inspect kill logs ls pause port prune rename restart rm run start stats stop top unpause update wait",
  image: "build history import inspect load ls prune pull push rm save tag", volume: "create inspect ls prune rm update", network: "connect create disconnect inspect ls prune rm", system: "df events info prune",
  compose: "attach build config cp create down events exec images kill logs ls pause port ps pull push restart rm run scale start stats stop top unpause up version wait watch",
  "": "attach build builder buildx checkpoint commit compose config container context cp create diff events exec export history image images import info inspect kill load login logout logs manifest network node pause plugin port ps pull push rename restart rm rmi run save search secret service stack start stats stop swarm system tag top trust unpause update version volume wait",
};

test("each of docker's commands is there, or told what to use instead", (t) => {
  for (const [family, names] of Object.entries(DOCKER)) {
    for (const name of names.split(" ")) {
      const words = family === "" ? [name] : [family, name];
      try {
        findCommand(COMMANDS, FAMILIES, words, REFUSED_COMMANDS);
      } catch (error) {
        t.regex((error as Error).message, /^there is no command /, words.join(" "));
      }
    }
  }
  for (const name of Object.keys(REFUSED_COMMANDS)) t.throws(() => findCommand(COMMANDS, FAMILIES, name.split(" "), REFUSED_COMMANDS), { message: /^there is no command / }, name);
  t.pass();
});
