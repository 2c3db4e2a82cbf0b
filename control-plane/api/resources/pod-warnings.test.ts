import test from "ava";
import { podWarnings } from "./pod-warnings.ts";

test("what is taken but not heeded is said, by field", (t) => {
  t.deepEqual(podWarnings("spec", { containers: [{ name: "c" }], affinity: { podAntiAffinity: {} }, priority: 5 }).map((w) => w.split(":")[0]),
    ["spec.priority"]);
  t.deepEqual(podWarnings("spec", { hostNetwork: true, containers: [{ name: "c", ports: [{ containerPort: 80, hostPort: 80 }] }] }), []);
  t.deepEqual(podWarnings("spec", undefined), []);
});
