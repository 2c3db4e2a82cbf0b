import test from "ava";
import type { Pod } from "../../../base/kube/types.gen.ts";
import { readLogOptions } from "./logs.ts";
import { checkHasLog, checkRuns, containerOf } from "./pod-target.ts";

const pod = (names: readonly string[], part: Partial<Pod> & { annotations?: Record<string, string> } = {}): Pod => ({
  apiVersion: "v1", kind: "Pod", metadata: { name: "box", namespace: "default", annotations: part.annotations },
  spec: { nodeName: "n1", containers: names.map((name) => ({ name, image: "x" })), initContainers: [{ name: "prepare", image: "x" }] }, status: part.status,
});

const withState = (state: object, lastState: object = {}): Pod =>
  pod(["main"], { status: { phase: "Running", containerStatuses: [{ name: "main", image: "", imageID: "", ready: false, restartCount: 0, state, lastState }] } });

test("the container: the one asked for, the only one, the annotated one; else the choice is told", (t) => {
  t.is(containerOf(pod(["a"]), null), "a");
  t.is(containerOf(pod(["a", "b"]), "b"), "b");
  t.is(containerOf(pod(["a"]), "prepare"), "prepare");
  t.is(containerOf(pod(["a", "b"], { annotations: { "kubectl.kubernetes.io/default-container": "b" } }), ""), "b");
  t.throws(() => containerOf(pod(["a", "b"]), null), { code: "BadRequest", message: "a container name must be specified for pod box, choose one of: [a b] or one of the init containers: [prepare]" });
  t.throws(() => containerOf(pod(["a"]), "z"), { code: "BadRequest", message: "container z is not valid for pod box" });
});

for (const [title, state, lastState, previous, message] of [
  ["no status yet", undefined, {}, false, 'container "main" in pod "box" is not available'],
  ["pulling", { waiting: { reason: "ContainerCreating" } }, {}, false, 'container "main" in pod "box" is waiting to start: ContainerCreating'],
  ["no image", { waiting: { reason: "ImagePullBackOff" } }, {}, false, 'container "main" in pod "box" is waiting to start: trying and failing to pull image'],
  ["never restarted", { running: {} }, {}, true, 'previous terminated container "main" in pod "box" not found'],
  ["running", { running: {} }, {}, false, undefined],
  ["ended", { terminated: { exitCode: 0 } }, {}, false, undefined],
  ["crash loop", { waiting: { reason: "CrashLoopBackOff" } }, { terminated: { exitCode: 1 } }, false, undefined],
  ["restarted", { running: {} }, { terminated: { exitCode: 1 } }, true, undefined],
] as const) {
  test(`log of a container: ${title}${previous ? ", previous" : ""}`, (t) => {
    const subject = state === undefined ? pod(["main"]) : withState(state, lastState);
    if (message === undefined) t.notThrows(() => checkHasLog(subject, "main", previous));
    else t.throws(() => checkHasLog(subject, "main", previous), { code: "BadRequest", message });
  });
}

test("exec needs a running container", (t) => {
  t.notThrows(() => checkRuns(withState({ running: {} }), "main"));
  t.throws(() => checkRuns(withState({ waiting: {} }), "main"), { code: "NotFound", message: /not running/ });
  t.throws(() => checkRuns(pod(["main"], { status: { phase: "Succeeded" } }), "main"), { code: "BadRequest", message: /completed pod; current phase is Succeeded/ });
});

test("log options are read, and all that is wrong with them is told", (t) => {
  t.deepEqual(readLogOptions(new URLSearchParams("follow=true&tailLines=5&sinceSeconds=10&timestamps=1&limitBytes=9"), 100_000),
    { follow: true, overRestarts: false, previous: false, timestamps: true, tailLines: 5, limitBytes: 9, sinceMs: 90_000 });
  t.is(readLogOptions(new URLSearchParams("sinceTime=2026-01-01T00:00:00Z"), 0).sinceMs, Date.UTC(2026, 0, 1));
  t.throws(() => readLogOptions(new URLSearchParams("tailLines=-1&limitBytes=0"), 0), { code: "Invalid", message: /tailLines: Invalid value: -1: must be greater than or equal to 0.*limitBytes: Invalid value: 0/ });
  t.throws(() => readLogOptions(new URLSearchParams("sinceTime=yesterday"), 0), { message: /sinceTime.*RFC 3339/ });
  t.throws(() => readLogOptions(new URLSearchParams("sinceTime=2026-01-01T00:00:00Z&sinceSeconds=5"), 0), { message: /at most one/ });
});
