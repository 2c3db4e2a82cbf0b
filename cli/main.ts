// The gantry command: finds the command, parses its flags, runs it. Exit codes: 0 done, 1 failed, 2 wrong usage; exec passes on the
// container's own.
import { readFileSync } from "node:fs";
import { describeOptions, nearest, parseOptions } from "../base/config.ts";
import { GantryError, describeError, isCode } from "../base/errors.ts";
import { VERSION } from "../base/version.ts";
import { ApiError } from "./api-client.ts";
import type { Command } from "./command.ts";
import { COMMANDS } from "./commands.ts";

const GROUPS: readonly (readonly [Command["group"], string])[] = [
  ["cluster", "A cluster on this machine"],
  ["workloads", "Everyday work with a cluster"],
  ["daemons", "Daemons, on one machine or many"],
];

const overview = (): string => [
  "gantry runs containers on a cluster of Linux hosts, through the Kubernetes API.", "",
  "Usage: gantry COMMAND [flags]",
  ...GROUPS.flatMap(([group, title]) => ["", `${title}:`, ...COMMANDS.filter((c) => c.group === group).map((c) => `  ${c.name.padEnd(14)} ${c.summary}`)]),
  "", "'gantry COMMAND --help' says more. kubectl works too: KUBECONFIG=.gantry/admin.kubeconfig kubectl get pods",
].join("\n");

const helpOf = (c: Command): string =>
  [`${c.summary}.`, "", `Usage: gantry ${c.name}${c.usage ? ` ${c.usage}` : ""}${Object.keys(c.options).length > 0 ? " [flags]" : ""}`,
    ...(c.details ? ["", c.details] : []), ...(Object.keys(c.options).length > 0 ? ["", "Flags:", describeOptions(c.options, c.daemon)] : [])].join("\n");

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
  const wanted = asksForHelp ? args[0]! : name;
  const found = COMMANDS.find((c) => c.name === wanted);
  if (!found) {
    const hint = nearest(wanted, COMMANDS.map((c) => c.name));
    throw new GantryError("BadRequest", `unknown command ${JSON.stringify(wanted)}${hint ? `; did you mean ${hint}?` : ""} ('gantry --help' lists them)`);
  }
  const parsed = parseOptions(found.options, {
    argv: args,
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
  return found.run(parsed);
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
  process.exitCode = isCode(error, "BadRequest") && !(error instanceof ApiError) ? 2 : 1;
}
