// `make bench`: all harnesses, one after another. Arguments choose some: node bench/main.ts cluster
import { spawn } from "node:child_process";
import { join } from "node:path";
import { benchCluster } from "./cluster/main.ts";
import { benchRollout } from "./cluster/rollout.ts";

/** Harnesses that measure themselves (their process's memory, their event loop) run in a process of their own. */
const apart = (script: string): Promise<void> => new Promise((resolve, reject) => {
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", join(import.meta.dirname, script)], { stdio: "inherit" });
  child.on("error", reject);
  child.on("exit", (code) => (code === 0 ? resolve() : reject(new Error(`${script} ended with code ${code ?? "none"}`))));
});

const HARNESSES: Readonly<Record<string, () => Promise<void>>> = {
  cluster: () => benchCluster({ nodes: Number(process.env["NODES"] ?? 3), replicas: Number(process.env["REPLICAS"] ?? 100), rounds: Number(process.env["ROUNDS"] ?? 5), idleSeconds: Number(process.env["IDLE_SECONDS"] ?? 30) }),
  rollout: () => benchRollout({ nodes: Number(process.env["NODES"] ?? 3), replicas: Number(process.env["REPLICAS"] ?? 100), rounds: Number(process.env["ROUNDS"] ?? 5) }),
  engine: async () => {
    for (const part of ["start", "pull", "build"]) await apart(`engine/${part}.ts`);
  },
  cron: () => apart("cron/main.ts"),
  scheduler: () => apart("scheduler/main.ts"),
  store: () => apart("store/main.ts"),
};

const wanted = process.argv.slice(2);
const unknown = wanted.find((w) => !(w in HARNESSES));
if (unknown !== undefined) {
  console.error(`bench: no harness ${JSON.stringify(unknown)}; there are: ${Object.keys(HARNESSES).join(", ")}`);
  process.exit(2);
}
for (const [name, harness] of Object.entries(HARNESSES)) if (wanted.length === 0 || wanted.includes(name)) await harness();
