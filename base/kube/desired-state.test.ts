import test from "ava";
import { Annotation, lifecycleFaults, lifecycleOf } from "./desired-state.ts";

test("no annotations: containers run, with the pod's own grace", (t) => {
  t.deepEqual(lifecycleOf(undefined), { desiredState: "running", stopGraceSeconds: undefined, stopSignal: "", restartRequest: "", keepWritableLayer: false });
});

test("each annotation is read", (t) => {
  t.deepEqual(lifecycleOf({
    [Annotation.desiredState]: "paused", [Annotation.stopGraceSeconds]: "0", [Annotation.stopSignal]: "INT", [Annotation.restartRequest]: "r1", [Annotation.keepWritableLayer]: "true",
  }), { desiredState: "paused", stopGraceSeconds: 0, stopSignal: "INT", restartRequest: "r1", keepWritableLayer: true });
});

test("what can't be read is refused, and counts as absent where it stands nevertheless", (t) => {
  const wrong = { [Annotation.desiredState]: "Stopped", [Annotation.stopGraceSeconds]: "10s", [Annotation.stopSignal]: "SIGFOO", [Annotation.restartRequest]: "x".repeat(129), [Annotation.keepWritableLayer]: "yes" };
  t.deepEqual(lifecycleFaults(wrong).map((f) => f.name), Object.keys(wrong));
  t.like(lifecycleOf(wrong), { desiredState: "running", stopGraceSeconds: undefined, stopSignal: "", keepWritableLayer: false });
  for (const grace of ["", "-1", "1.5", "86401", "1e3"]) t.is(lifecycleFaults({ [Annotation.stopGraceSeconds]: grace }).length, 1, grace);
  t.deepEqual(lifecycleFaults({ [Annotation.stopGraceSeconds]: "86400", [Annotation.desiredState]: "created", other: "x" }), []);
});

test("what may not change later: the kept layer, and going back to created", (t) => {
  const update = (from: Record<string, string> | undefined, to: Record<string, string> | undefined): string[] => lifecycleFaults(to, { annotations: from }).map((f) => f.name);
  t.deepEqual(update({ [Annotation.keepWritableLayer]: "true" }, {}), [Annotation.keepWritableLayer]);
  t.deepEqual(update(undefined, { [Annotation.keepWritableLayer]: "false" }), []);
  t.deepEqual(update(undefined, { [Annotation.desiredState]: "created" }), [Annotation.desiredState]);
  t.deepEqual(update({ [Annotation.desiredState]: "created" }, { [Annotation.desiredState]: "created", [Annotation.stopSignal]: "INT" }), []);
  t.deepEqual(update({ [Annotation.desiredState]: "created" }, undefined), []);
  t.deepEqual(update({ [Annotation.desiredState]: "stopped" }, { [Annotation.desiredState]: "paused" }), []);
});
