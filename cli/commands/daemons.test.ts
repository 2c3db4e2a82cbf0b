// What deploy/ says must be what the daemons know.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { parse } from "yaml";
import { parseOptions, type OptionTable } from "../../base/config.ts";
import { CONTROL_PLANE_OPTIONS } from "../../control-plane/options.ts";
import { NODE_AGENT_OPTIONS } from "../../node-agent/options.ts";
import { COMMANDS } from "../commands.ts";

const DEPLOY = join(import.meta.dirname, "../../deploy");
const DAEMONS: readonly (readonly [string, OptionTable])[] = [["control-plane", CONTROL_PLANE_OPTIONS], ["node-agent", NODE_AGENT_OPTIONS]];

const values = (table: OptionTable, text: string): Record<string, unknown> =>
  parseOptions(table, { argv: ["--config", "settings"], daemon: { env: {}, readFile: () => text } }).values;

for (const [name, options] of DAEMONS) {
  const text = readFileSync(join(DEPLOY, "config", `${name}.yaml`), "utf8");

  test(`the settings of ${name} are known options, also those that stand in comments`, (t) => {
    t.notThrows(() => values(options, text));
    const everything = text.replaceAll(/^#(?=\w+:)/gm, "");
    t.notThrows(() => values(options, everything));
    t.true(Object.keys(parse(everything) as object).length >= 10);
  });

  test(`a commented setting of ${name} that shows a default shows the right one`, (t) => {
    // Examples that are no defaults: names, addresses and what has none.
    const examples = new Set(["logFormat", "reservedCpu", "reservedMemory", "metricsAddress"]);
    const given = values(options, text.replaceAll(/^#(?=\w+:)/gm, ""));
    for (const [key, option] of Object.entries(options)) {
      const empty = option.fallback === "" || (Array.isArray(option.fallback) && option.fallback.length === 0);
      if (!empty && !examples.has(key)) t.deepEqual(given[key], option.fallback, key);
    }
  });

  test(`the systemd unit of ${name} starts it with that file, and it keeps its data where systemd makes the folder`, (t) => {
    const unit = readFileSync(join(DEPLOY, "systemd", `gantry-${name}.service`), "utf8");
    t.regex(unit, new RegExp(`^ExecStart=/opt/gantry/cli/gantry ${name} --config /etc/gantry/${name}\\.yaml$`, "m"));
    t.deepEqual(values(options, "")["dataDir"], `/var/lib/${/^StateDirectory=(.*)$/m.exec(unit)![1]!}`);
    t.true(COMMANDS.some((c) => c.name === name && c.daemon));
  });
}

test("the agent's run folder is in the one that outlives its restart", (t) => {
  const unit = readFileSync(join(DEPLOY, "systemd/gantry-node-agent.service"), "utf8");
  t.true(NODE_AGENT_OPTIONS.runDir.fallback.startsWith(`/run/${/^RuntimeDirectory=(.*)$/m.exec(unit)![1]!}/`));
  t.regex(unit, /^RuntimeDirectoryPreserve=yes$/m);
  t.regex(unit, /^KillMode=process$/m);
});

test("no two options of a command have the same short flag, and none takes -h but where docker does: the host name of run and create", (t) => {
  for (const command of COMMANDS) {
    const short = Object.values(command.options).flatMap((o) => o.short ?? []);
    t.deepEqual([...new Set(short)], short, command.name);
    t.is(short.includes("h"), ["run", "create"].includes(command.name), command.name);
  }
});
