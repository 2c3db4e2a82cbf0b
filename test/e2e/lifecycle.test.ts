// What becomes of one container, with gantry's own words and kubectl's: stopped, started, paused, killed, waited for, attached to, copied
// from, made an image of. One node; each test has pods of its own.
import test from "ava";
import { Annotation } from "../../base/kube/desired-state.ts";
import { PODS } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import { EXAMPLE_IMAGE } from "../../cli/example-image.ts";
import { useCluster } from "../helpers/cluster.ts";

const cluster = useCluster(test, { nodes: 1 });

const NS = "default";

/** As `gantry run` makes them. */
const podOf = (name: string, script: string, changes: { readonly spec?: object; readonly container?: object; readonly annotations?: Record<string, string> } = {}): object => ({
  metadata: { name, annotations: { [Annotation.keepWritableLayer]: "true", ...changes.annotations } },
  spec: { restartPolicy: "Never", terminationGracePeriodSeconds: 1, containers: [{ name: "main", image: EXAMPLE_IMAGE, imagePullPolicy: "IfNotPresent", command: ["sh", "-c", script], ...changes.container }], ...changes.spec },
});

const podIs = (name: string, isSo: (pod: Pod) => boolean): Promise<Pod> =>
  cluster().until(PODS, NS, (items) => items.some((p) => p.metadata.name === name && isSo(p))).then((items) => items.find((p) => p.metadata.name === name)!);

const running = (name: string): Promise<Pod> => podIs(name, (p) => p.status?.containerStatuses?.[0]?.state?.running !== undefined);

const gantry = async (...args: readonly string[]): Promise<string> => {
  const { code, out, err } = await cluster().gantry(args);
  if (code !== 0) throw new Error(`gantry ${args.join(" ")} ended with ${code}: ${err}${out}`);
  return out.trim();
};

const status = async (name: string): Promise<string> => (await cluster().ok(["get", "pod", name, "--no-headers"])).split(/\s+/)[2]!;

/** Ends with 7 at SIGTERM, with 8 at SIGUSR1; each start leaves a line. */
const POLITE = "echo start >> /runs; trap 'exit 7' TERM; trap 'exit 8' USR1; wc -l < /runs; while :; do sleep 0.05; done";

test("stop and start: signal, exit code, address, files and log stay", async (t) => {
  await cluster().create(PODS, NS, podOf("keeper", POLITE));
  const before = await running("keeper");
  t.is(await gantry("stop", "keeper"), "keeper");
  const stopped = await podIs("keeper", (p) => p.status?.reason === "Stopped");
  t.like(stopped.status?.containerStatuses?.[0]?.state?.terminated, { exitCode: 7, reason: "Stopped" });
  t.is(stopped.status?.podIP, before.status?.podIP);
  t.is(await status("keeper"), "Stopped");
  t.is(await gantry("wait", "keeper"), "7");
  t.is(await gantry("stop", "keeper"), "keeper", "again is no error");

  const [, id] = /crun:\/\/(\w{12})/.exec(before.status!.containerStatuses![0]!.containerID!)!;
  t.is(await gantry("start", id!), id!);
  const again = await running("keeper");
  t.is(again.status?.containerStatuses?.[0]?.containerID, before.status?.containerStatuses?.[0]?.containerID);
  t.is(await gantry("exec", "keeper", "--", "cat", "/runs"), "start\nstart");
  t.is((await gantry("logs", "keeper")).replaceAll(/\s+/g, " "), "1 2");

  t.is(await gantry("restart", "-t", "0", "keeper"), "keeper");
  t.is(await gantry("exec", "keeper", "--", "wc", "-l", "/runs"), "3 /runs");
  const waiting = cluster().gantry(["wait", "--condition", "next-exit", "keeper"]);
  t.is(await gantry("kill", "-s", "USR1", "keeper"), "keeper");
  t.is((await waiting).out.trim(), "8");
  t.is((await podIs("keeper", (p) => p.status?.phase === "Failed")).status?.reason, undefined);
  await gantry("start", "keeper");
  t.is(await gantry("exec", "keeper", "--", "wc", "-l", "/runs"), "4 /runs");
  await gantry("kill", "keeper");
  t.is(await gantry("wait", "keeper"), "137");
  await cluster().ok(["delete", "pod", "keeper"]);
});

test.serial("pause: nothing moves until unpause, also over the agent's death; wrong orders are refused", async (t) => {
  await cluster().create(PODS, NS, podOf("frozen", "i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.02; done"));
  await running("frozen");
  t.regex((await cluster().gantry(["unpause", "frozen"])).err, /not paused/);
  await gantry("pause", "frozen");
  t.is(await status("frozen"), "Paused");
  t.regex((await cluster().gantry(["exec", "frozen", "--", "true"])).err, /paused/);
  t.regex((await cluster().gantry(["pause", "frozen"])).err, /already paused/);
  cluster().kill("node-1", "SIGKILL");
  await cluster().gone("node-1");
  await cluster().up();
  t.is(await status("frozen"), "Paused");
  await gantry("unpause", "frozen");
  const count = await gantry("exec", "frozen", "--", "cat", "/count");
  t.true(Number(count) > 0);
  await gantry("pause", "frozen");
  await cluster().ok(["delete", "pod", "frozen"]);
});

test("many at once; what can't be is said by name, and the rest is done", async (t) => {
  for (const name of ["one", "two"]) await cluster().create(PODS, NS, podOf(name, POLITE));
  await Promise.all(["one", "two"].map(running));
  const ran = await cluster().gantry(["stop", "one", "none", "two"]);
  t.like(ran, { code: 1, out: "one\ntwo\n" });
  t.regex(ran.err, /"none" not found/);
  t.regex((await cluster().gantry(["kill", "-s", "NOPE", "one"])).err, /NOPE/);
  t.regex(await cluster().fails(["annotate", "pod", "one", `${Annotation.desiredState}=halted`, "--overwrite"]), /desired-state\]: Unsupported value: "halted": supported values: "created", "paused", "running", "stopped"/);
  await cluster().ok(["delete", "pod", "one", "two"]);
});

test("top lists the container's processes and no others", async (t) => {
  await cluster().create(PODS, NS, podOf("busy", "sleep 1000 & exec sleep 2000"));
  await running("busy");
  const lines = (await gantry("top", "busy")).split("\n");
  t.regex(lines[0]!, /^UID +PID +PPID +C +STIME +TTY +TIME +CMD$/);
  t.deepEqual(lines.slice(1).map((l) => l.slice(lines[0]!.indexOf("CMD"))).sort(), ["sleep 1000", "sleep 2000"]);
  await cluster().ok(["delete", "pod", "busy", "--now"]);
});
