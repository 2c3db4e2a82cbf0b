// Tab completion in real shells: fish, which can be asked what it would offer, and zsh on a terminal. (bash: cli/completion/completion.test.ts.)
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { GANTRY } from "../helpers/cluster.ts";
import { Terminal } from "../helpers/terminal.ts";

const surroundings = (t: ExecutionContext): { readonly folder: string; readonly env: NodeJS.ProcessEnv } => {
  const folder = mkdtempSync(join(tmpdir(), "gantry-completion-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, "compose.yaml"), "services: {website: {image: a}, worker: {image: b}}\n");
  return { folder, env: { ...process.env, HOME: folder, PATH: `${dirname(GANTRY)}${delimiter}${process.env["PATH"]!}` } };
};

test("fish: commands with what they do, values behind =, services, files", (t) => {
  const { folder, env } = surroundings(t);
  const lines = ["gantry compo", "gantry run --pull=n", "gantry compose logs w", "gantry load compose"];
  const script = `gantry completion fish | source; ${lines.map((line) => `complete -C '${line}'`).join("; echo; ")}`;
  const out = execFileSync("fish", ["--no-config", "-c", script], { cwd: folder, encoding: "utf8", env });
  t.deepEqual(out.trim().split("\n\n"), ["compose\tCompose files", "--pull=never", "website\ta\nworker\tb", "compose.yaml"]);
});

test("zsh: a Tab completes commands, values behind =, and files", async (t) => {
  const { folder, env } = surroundings(t);
  const zsh = new Terminal(t, ["env", "-C", folder, "zsh", "-f", "-i"], { env });
  zsh.type("PS1='> '; autoload -Uz compinit; compinit -u -D; source <(gantry completion zsh); echo rea''dy\r");
  await zsh.until(/\nready\r[\s\S]*> /);
  zsh.type("gantry compo\t");
  await zsh.until(/gantry compose/);
  zsh.type("\u0015gantry run --pull=n\t");
  await zsh.until(/--pull=never/);
  zsh.type("\u0015gantry load comp\t");
  await zsh.until(/load compose\.yaml/);
  zsh.type("\u0015exit\r");
  t.is(await zsh.ended, 0);
});
