import test from "ava";
import type { ContainerStatus, Pod } from "../../base/kube/types.gen.ts";
import { exitOf } from "./wait.ts";

const pod = (part: Partial<ContainerStatus>, phase = "Running"): Pod => ({ apiVersion: "v1", kind: "Pod", metadata: { name: "p" }, status: { phase, containerStatuses: [{ name: "c", ready: true, restartCount: 0, image: "", imageID: "", ...part }] } });
const running = pod({ state: { running: {} } });
const ended = pod({ state: { terminated: { exitCode: 3 } } });
const restarted = pod({ state: { running: {} }, lastState: { terminated: { exitCode: 4 } }, restartCount: 1 });

test("an exit is seen as a state, in a restart, and in the wait for one", (t) => {
  t.is(exitOf(running, running, "c", "not-running"), undefined);
  t.is(exitOf(running, ended, "c", "not-running"), 3);
  t.is(exitOf(ended, ended, "c", "not-running"), 3, "already over");
  t.is(exitOf(ended, ended, "c", "next-exit"), undefined);
  t.is(exitOf(running, restarted, "c", "not-running"), 4);
  t.is(exitOf(running, restarted, "c", "next-exit"), 4);
  t.is(exitOf(restarted, restarted, "c", "not-running"), undefined, "an earlier restart is not what was waited for");
  t.is(exitOf(running, pod({ state: { waiting: { reason: "CrashLoopBackOff" } }, lastState: { terminated: { exitCode: 7 } } }), "c", "next-exit"), 7);
  t.is(exitOf(running, ended, "c", "removed"), undefined);
  t.is(exitOf(pod({}), pod({}, "Failed"), "c", "not-running"), 1, "a pod that failed without having run it");
});
