import test from "ava";
import type { PodStatus } from "../../base/kube/types.gen.ts";
import { podTroubles } from "./pod-events.ts";

const waiting = (reason: string, message?: string, restartCount = 0, name = "main"): NonNullable<PodStatus["containerStatuses"]>[number] =>
  ({ name, restartCount, ready: false, image: "i", imageID: "", state: { waiting: { reason, ...(message === undefined ? {} : { message }) } } });
const status = (...containerStatuses: NonNullable<PodStatus["containerStatuses"]>): PodStatus => ({ containerStatuses });

test("a container that can't start is told of once, in its own words", (t) => {
  const failed = status(waiting("ErrImagePull", "x:1: no such image"));
  t.deepEqual(podTroubles(undefined, failed), [{ reason: "Failed", message: "ErrImagePull: x:1: no such image" }]);
  t.deepEqual(podTroubles(failed, failed), []);
  t.deepEqual(podTroubles(failed, status(waiting("ImagePullBackOff", "Back-off pulling image"))), [{ reason: "BackOff", message: "Back-off pulling image" }]);
});

test("each crash counts, also with the same words", (t) => {
  const first = status(waiting("CrashLoopBackOff", "back-off 5m0s", 7));
  t.deepEqual(podTroubles(first, status(waiting("CrashLoopBackOff", "back-off 5m0s", 8))), [{ reason: "BackOff", message: "back-off 5m0s" }]);
});

test("a sandbox that fails is one trouble, however many containers wait for it", (t) => {
  const sandbox = status(waiting("ContainerCreating", "no address left"), waiting("ContainerCreating", "no address left", 0, "side"));
  t.deepEqual(podTroubles(undefined, sandbox), [{ reason: "FailedCreatePodSandBox", message: "no address left" }]);
});

test("normal steps are no trouble", (t) => {
  t.deepEqual(podTroubles(undefined, status(waiting("ContainerCreating"), waiting("PodInitializing", undefined, 0, "b"))), []);
  t.deepEqual(podTroubles(status(waiting("ErrImagePull", "x")), { containerStatuses: [{ name: "main", restartCount: 0, ready: true, image: "i", imageID: "", state: { running: {} } }] }), []);
});

test("limits that the node left out are told of once", (t) => {
  const discarded = { conditions: [{ type: "gantry.io/LimitsDiscarded", status: "True", message: "Weight discarded." }] };
  t.deepEqual(podTroubles(undefined, discarded), [{ reason: "LimitsDiscarded", message: "Weight discarded." }]);
  t.deepEqual(podTroubles(discarded, discarded), []);
});
