// Hundreds of commands in an order that a seed decides, several at once, on few names, with agents killed in between; then calm, and what
// is on the nodes must be what the API says. Repeat a failure with GANTRY_WALK_SEED=N; GANTRY_WALK_OPERATIONS=N for more or fewer;
// GANTRY_WALK_VERBOSE=1 says why commands were refused.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { NODES, PERSISTENT_VOLUMES, PODS } from "../../base/kube/resources.ts";
import { EXAMPLE_IMAGE } from "../../cli/example-image.ts";
import { until, useCluster } from "../helpers/cluster.ts";
import { InProcessCommands } from "../helpers/in-process.ts";
import { differences } from "../helpers/node-truth.ts";
import { pickFrom, randomFrom } from "../helpers/random.ts";
import { isRightRefusal } from "../helpers/walk-refusals.ts";

const SEED = Number(process.env["GANTRY_WALK_SEED"] ?? 20_261_125);
const OPERATIONS = Number(process.env["GANTRY_WALK_OPERATIONS"] ?? 250);
const WALKERS = 6;
const KILL_EVERY = 50;
/** So many commands may begin after a killed agent is back, and still meet what its death broke. */
const AWAY_OPERATIONS = 15;
const SETTLE_MS = 60_000;
/** What takes longer hangs. */
const COMMAND_MS = 60_000;

/** Undefined when it takes longer. */
const within = async <T>(ms: number, promise: Promise<T>): Promise<T | undefined> => {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => { timer = setTimeout(() => resolve(undefined), ms); });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
};
const cluster = useCluster(test, { nodes: 2 });

/** Words of a fault, whatever else the message says. */
const FAULT = /TypeError|RangeError|ReferenceError|undefined|\[object|InternalError/;

test.serial(`${OPERATIONS} commands in a seeded order (seed ${SEED}), agents killed in between: afterwards the nodes hold what the API says`, async (t) => {
  t.timeout(600_000);
  const c = cluster();
  const random = randomFrom(SEED);
  const pick = pickFrom(random);
  const directory = mkdtempSync(join(tmpdir(), "gantry-walk-"));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  writeFileSync(join(directory, "Dockerfile"), `FROM ${EXAMPLE_IMAGE}\nCOPY file /file\nRUN echo built > /built\n`);
  writeFileSync(join(directory, "file"), "content");
  writeFileSync(join(directory, "compose.yaml"), `services:\n  a: { image: "${EXAMPLE_IMAGE}", command: [sleep, "1000000"], stop_grace_period: 1s }\n  b: { image: "${EXAMPLE_IMAGE}", command: [sleep, "1000000"], stop_grace_period: 1s, depends_on: [a] }\n`);
  const names = Array.from({ length: 14 }, (_, i) => `walk-${i}`);
  const volumes = ["left", "right"];
  const quick = "trap 'exit 0' TERM; echo started; touch /mark; while :; do sleep 1000000 & wait $!; done";
  const walks: Readonly<Record<string, () => readonly string[]>> = {
    run: () => {
      const name = pick(names);
      // A port for each name: two pods with the same one would wait for one another.
      const port = random() < 0.3 ? ["-p", `${18_000 + names.indexOf(name)}:80`] : [];
      return ["run", "-d", "--name", name, ...port, ...(random() < 0.4 ? ["-v", `${pick(volumes)}:/data`] : []), ...(random() < 0.3 ? ["-m", "64m"] : []), ...(random() < 0.3 ? ["--restart", "always"] : []), EXAMPLE_IMAGE, "/bin/sh", "-c", pick([quick, quick, "exit 3", "sleep 0.2"])];
    },
    create: () => ["create", "--name", pick(names), EXAMPLE_IMAGE, "/bin/sh", "-c", quick],
    stop: () => ["stop", "-t", "1", pick(names)],
    start: () => ["start", pick(names)],
    restart: () => ["restart", "-t", "1", pick(names)],
    kill: () => ["kill", pick(names)],
    pause: () => ["pause", pick(names)],
    unpause: () => ["unpause", pick(names)],
    remove: () => ["rm", "-f", pick(names)],
    "remove gently": () => ["rm", pick(names)],
    exec: () => ["exec", pick(names), "--", "/bin/sh", "-c", "echo more >> /mark"],
    logs: () => ["logs", pick(names)],
    ps: () => ["ps", "-a"],
    inspect: () => ["inspect", pick(names)],
    top: () => ["top", pick(names)],
    diff: () => ["diff", pick(names)],
    "copy in": () => ["cp", join(directory, "file"), `${pick(names)}:/copied`],
    "copy out": () => ["cp", `${pick(names)}:/mark`, join(directory, `out-${Math.floor(random() * 1e6)}`)],
    commit: () => ["commit", pick(names), `committed:${pick(["1", "2"])}`],
    build: () => ["build", "-q", "-t", `built:${pick(["1", "2"])}`, ...(random() < 0.3 ? ["--no-cache"] : []), directory],
    tag: () => ["tag", pick(["built:1", "committed:1", EXAMPLE_IMAGE]), `tagged:${pick(["1", "2"])}`],
    "remove image": () => ["rmi", pick(["built:1", "built:2", "committed:1", "committed:2", "tagged:1", "tagged:2"])],
    images: () => ["images"],
    "make volume": () => ["volume", "create", pick(volumes)],
    "remove volume": () => ["volume", "rm", pick(volumes)],
    "compose up": () => ["compose", "-f", join(directory, "compose.yaml"), "-p", "walk", "up", "-d"],
    "compose down": () => ["compose", "-f", join(directory, "compose.yaml"), "-p", "walk", "down"],
  };
  const often = ["run", "run", "run", "stop", "start", "restart", "remove", "remove", "pause", "unpause", "exec", "kill"];
  const rarely = new Set(["build", "compose up", "compose down", "commit"]);
  const next = (): string => {
    const name = random() < 0.5 ? pick(often) : pick(Object.keys(walks));
    return rarely.has(name) && random() < 0.6 ? "run" : name;
  };

  const faults: string[] = [];
  const done = new Map<string, { ok: number; refused: number }>();
  const reasons = new Map<string, number>();
  {
    using commands = new InProcessCommands(c.layout.kubeconfig);
    let begun = 0;
    let killing = Promise.resolve();
    /** The number of the first command that must find every agent. */
    let backAt = 0;
    const kill = async (): Promise<void> => {
      const node = pick(c.nodes);
      const sessions = (): number => c.logText(node).split("pod network is up").length;
      const before = sessions();
      backAt = Infinity;
      c.kill(node, "SIGKILL");
      await c.gone(node);
      await c.up();
      await until(() => sessions() > before, `${node} has its session again`);
      backAt = begun + AWAY_OPERATIONS;
    };
    const walk = async (): Promise<void> => {
      while (begun < OPERATIONS) {
        const number = ++begun;
        if (begun % KILL_EVERY === 0 && begun < OPERATIONS) killing = killing.then(kill);
        const name = next();
        const argv = walks[name]!();
        const startedMs = performance.now();
        const backAtStart = backAt;
        const { code, err } = await within(COMMAND_MS, commands.call(argv)) ?? { code: -1, err: `it did not return within ${COMMAND_MS / 1000} s` };
        if (performance.now() - startedMs > COMMAND_MS / 4) t.log(`${argv.join(" ")} took ${((performance.now() - startedMs) / 1000).toFixed(0)} s`);
        const count = done.get(name) ?? { ok: 0, refused: 0 };
        done.set(name, count);
        if (code === 0) count.ok++;
        else count.refused++;
        // An exit code alone is the command's own.
        const isOwn = name === "exec" && !err.includes("gantry:") && !err.includes("OCI runtime");
        const reason = `${name}: ${err.trim().replaceAll(/walk-\d+|[0-9a-f]{12,}|[0-9a-f-]{36}/g, "X").slice(0, 110)}`;
        if (code !== 0 && !isOwn) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
        if (FAULT.test(err) || (code !== 0 && !isOwn && !isRightRefusal(name, err, number < backAtStart || backAt !== backAtStart))) faults.push(`${argv.join(" ")}: ${code}: ${err.trim()}`);
      }
    };
    await Promise.all(Array.from({ length: WALKERS }, walk));
    await killing;
    t.log([...done].map(([name, { ok, refused }]) => `${name} ${ok}+${refused}`).join(", "));
    if (process.env["GANTRY_WALK_VERBOSE"]) t.log([...reasons].sort((a, b) => b[1] - a[1]).map(([reason, n]) => `${n} ${reason}`).join("\n"));
    t.deepEqual(faults, []);
    await c.until(NODES, undefined, (nodes) => nodes.every((n) => n.status?.conditions?.find((x) => x.type === "Ready")?.status === "True"));

    const settled = async (what: string): Promise<void> => {
      const deadline = performance.now() + SETTLE_MS;
      for (;;) {
        const [{ items: pods }, { items: held }] = await Promise.all([c.client.list(PODS), c.client.list(PERSISTENT_VOLUMES)]);
        const left = [...(await differences(c, pods, held)), ...pods.filter((p) => p.metadata.deletionTimestamp).map((p) => `${p.metadata.name} is still being deleted`)];
        if (left.length === 0) return;
        if (performance.now() > deadline) throw new Error(`${what}:\n${left.join("\n")}\n${c.logs(20)}`);
        await new Promise((wake) => setTimeout(wake, 250));
      }
    };
    await settled("after the walk the nodes and the API differ");

    await commands.call(walks["compose down"]!());
    await commands.call(["delete", "pods", "--all"]);
    await commands.call(["volume", "rm", ...volumes]);
    const { items } = await c.client.list(PODS);
    t.deepEqual(items.map((p) => p.metadata.name), []);
    await settled("after everything was removed something is left");
    t.deepEqual(c.containers(), []);
    t.deepEqual(c.conmons(), []);
  }
  for (const name of ["control-plane", ...c.nodes]) t.notRegex(c.logText(name), /uncaught|unhandled|TypeError|RangeError|a pod's worker failed/i, name);
});
