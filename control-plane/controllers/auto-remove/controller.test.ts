import test from "ava";
import { AUTO_REMOVE_ANNOTATION } from "../../../base/kube/pod-extras.ts";
import { PODS } from "../../../base/kube/resources.ts";
import type { Pod } from "../../../base/kube/types.gen.ts";
import { timestamp } from "../objects.ts";
import { NS, createBench, type Bench } from "../testing.ts";
import { autoRemoveController } from "./controller.ts";

const pod = (name: string, after?: string): Pod => ({
  apiVersion: "v1", kind: "Pod", metadata: { name, namespace: NS, uid: `uid-${name}`, ...(after === undefined ? {} : { annotations: { [AUTO_REMOVE_ANNOTATION]: after } }) },
  spec: { containers: [{ name: "main", image: "example:1" }], restartPolicy: "Never", terminationGracePeriodSeconds: 1 }, status: { phase: "Pending" },
});

const end = (bench: Bench, name: string, phase: string): Promise<void> =>
  bench.setPod(bench.get(PODS, name)!, { phase, containerStatuses: [{ name: "main", image: "", imageID: "", ready: false, restartCount: 0, state: { terminated: { exitCode: 3, finishedAt: timestamp(bench.clock.nowMs()) } } }] });

/** Marked, or gone: of a pod that is bound to no node nothing is left to wait for. */
const isGoing = (bench: Bench, name: string): boolean => bench.get(PODS, name)?.metadata.deletionTimestamp !== undefined || bench.get(PODS, name) === undefined;

test("a pod goes when it has ended, at once or after its time, and no other does", async (t) => {
  const bench = await createBench(t, [autoRemoveController]);
  for (const [name, after] of [["now", "0s"], ["later", "60s"], ["stays", undefined], ["nonsense", "true"]] as const) await bench.put(PODS, pod(name, after));
  await bench.startPods();
  await bench.run(120_000);
  t.false(isGoing(bench, "now"), "it runs still");
  for (const name of ["now", "later", "stays", "nonsense"]) await end(bench, name, "Failed");
  await bench.run(1000);
  t.true(isGoing(bench, "now"));
  t.false(isGoing(bench, "later"));
  await bench.run(60_000);
  t.true(isGoing(bench, "later"));
  t.false(isGoing(bench, "stays") || isGoing(bench, "nonsense"));
});

test("what had ended before this process led is caught up with", async (t) => {
  const bench = await createBench(t, []);
  await bench.put(PODS, pod("old", "0s"));
  await bench.startPods();
  await end(bench, "old", "Succeeded");
  const { startControllers } = await import("../run.ts");
  const { silentLogger } = await import("../../../base/logger.ts");
  const { NO_NODES } = await import("../../state/testing.ts");
  const stop = new AbortController();
  const running = startControllers({
    store: bench.store, cache: bench.cache, clock: bench.clock, random: () => 0.5, logger: silentLogger, fence: undefined, signal: stop.signal, streams: NO_NODES,
    events: { record: () => undefined, flush: async () => undefined, [Symbol.dispose]: () => undefined },
  }, [autoRemoveController]);
  await bench.run(100);
  t.true(isGoing(bench, "old"));
  stop.abort();
  await running;
});
