// The gantry command: finds the command, parses its flags, runs it. Exit codes: 0 done, 1 failed, 2 wrong usage; exec and run pass on the
// container's own.
import { readFileSync } from "node:fs";
import { describeOptions, parseOptions } from "../base/config.ts";
import { GantryError, describeError, isCode } from "../base/errors.ts";
import { VERSION } from "../base/version.ts";
import { ApiError } from "./api-client.ts";
import type { Command, CommandGroup } from "./command.ts";
import { COMMANDS, FAMILIES } from "./commands.ts";
import { REFUSED_COMMANDS } from "./docker/refused-commands.ts";
import { findCommand } from "./find-command.ts";

const GROUPS: readonly (readonly [CommandGroup, string])[] = [
  ["containers", "Containers, with docker's words"],
  ["images", "Images"],
  ["workloads", "Objects of the Kubernetes API"],
  ["cluster", "A cluster on this machine"],
  ["daemons", "Daemons, on one machine or many"],
];

const familyOf = (c: Command): string | undefined => (c.name.includes(" ") ? c.name.slice(0, c.name.indexOf(" ")) : undefined);
const secondWords = (family: string): string => COMMANDS.filter((c) => familyOf(c) === family && !c.hidden).map((c) => c.name.slice(family.length + 1)).join(", ");

/** One line for a command, one for a whole family. */
const listed = (group: CommandGroup): string[] => {
  const rows = COMMANDS.filter((c) => c.group === group && !c.hidden && familyOf(c) === undefined).map((c) => [c.name, c.summary] as const);
  const families = [...new Set(COMMANDS.filter((c) => c.group === group && !c.hidden).flatMap((c) => familyOf(c) ?? []))];
  return [...rows, ...families.map((f) => [f, `${FAMILIES.find((x) => x.name === f)?.summary ?? "More"}: ${secondWords(f)}`] as const)].map(([name, text]) => `  ${name.padEnd(14)} ${text}`);
};

const overview = (): string => [
  "gantry runs containers on a cluster of Linux hosts, through the Kubernetes API.", "",
  "Usage: gantry COMMAND [flags]",
  ...GROUPS.flatMap(([group, title]) => (listed(group).length === 0 ? [] : ["", `${title}:`, ...listed(group)])),
  "", "'gantry COMMAND --help' says more. kubectl works too: KUBECONFIG=.gantry/admin.kubeconfig kubectl get pods",
].join("\n");

const familyHelp = (name: string): string => {
  const family = FAMILIES.find((f) => f.name === name);
  const options = family?.options ?? {};
  const flags = Object.keys(options).length > 0;
  return [
    `${family?.summary ?? name}.`, "", `Usage: gantry ${name} ${flags ? "[flags] " : ""}COMMAND`, "", "Commands:",
    ...COMMANDS.filter((c) => familyOf(c) === name && !c.hidden).map((c) => `  ${c.name.slice(name.length + 1).padEnd(14)} ${c.summary}`), ...(flags ? ["", "Flags:", describeOptions(options)] : []),
  ].join("\n");
};

const helpOf = (c: Command): string =>
  [`${c.summary}.`, "", `Usage: gantry ${c.name}${c.usage ? ` ${c.usage}` : ""}${Object.keys(c.options).length > 0 ? " [flags]" : ""}`,
    ...(c.details ? ["", c.details] : []), ...(Object.keys(c.options).length > 0 ? ["", "Flags:", describeOptions(c.options, c.daemon)] : [])].join("\n");

/** Of the command that runs. */
let failureCode: number | undefined;

const main = async (argv: readonly string[]): Promise<number> => {
  const [name, ...args] = argv;
  if (name === "--version") {
    console.log(VERSION);
    return 0;
  }
  const asksForHelp = name === "help" || name === "--help" || name === "-h";
  if (name === undefined || (asksForHelp && args.length === 0)) {
    console.log(overview());
    return name === undefined ? 2 : 0;
  }
  const match = findCommand(COMMANDS, FAMILIES, asksForHelp ? args : argv, REFUSED_COMMANDS);
  if ("familyName" in match) {
    console.log(familyHelp(match.familyName));
    return asksForHelp || argv.length > 1 ? 0 : 2;
  }
  const { command: found, family } = match;
  failureCode = found.failureCode;
  if (found.raw && !asksForHelp) return found.run({ values: {}, positionals: match.args, rest: [], family });
  const parsed = parseOptions(found.options, {
    argv: asksForHelp ? [] : match.args,
    ...(found.daemon ? { daemon: { env: process.env, readFile: (path: string) => readFileSync(path, "utf8") } } : {}),
    ...(found.stopAtPositional === undefined ? {} : { stopAtPositional: found.stopAtPositional }),
  });
  if (asksForHelp || parsed.help) {
    console.log(helpOf(found));
    return 0;
  }
  if (found.usage === "" && parsed.positionals.length + parsed.rest.length > 0) {
    throw new GantryError("BadRequest", `gantry ${found.name} takes flags only, not ${JSON.stringify(parsed.positionals[0] ?? parsed.rest[0])}`);
  }
  return found.run({ ...parsed, family });
};

// A reader that closes early (`gantry get pods | head -1`) is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(`gantry: ${process.env["GANTRY_DEBUG"] && error instanceof Error ? error.stack : describeError(error)}`);
  // Only what was typed is wrong usage: a server's BadRequest is a failure like others.
  process.exitCode = failureCode ?? (isCode(error, "BadRequest") && !(error instanceof ApiError) ? 2 : 1);
}
