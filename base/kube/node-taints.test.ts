import test from "ava";
import { keepingDefaultTolerations, NOT_READY, UNREACHABLE, withDefaultTolerations } from "./node-taints.ts";
import type { Pod, Toleration } from "./types.gen.ts";

const pod = (...tolerations: Toleration[]): Pod => ({ apiVersion: "v1", kind: "Pod", metadata: { name: "p" }, spec: { containers: [], ...(tolerations.length > 0 && { tolerations }) } });
const passing = (key: string, seconds = 30): Toleration => ({ key, operator: "Exists", effect: "NoExecute", tolerationSeconds: seconds });
const ALL: Toleration = { operator: "Exists" };

for (const [title, given, expected] of [
  ["none of its own", [], [passing(NOT_READY), passing(UNREACHABLE)]],
  ["one for something else", [{ key: "gpu", operator: "Exists" }], [{ key: "gpu", operator: "Exists" }, passing(NOT_READY), passing(UNREACHABLE)]],
  ["one for one of them", [passing(UNREACHABLE, 5)], [passing(UNREACHABLE, 5), passing(NOT_READY)]],
  ["one for another effect", [{ key: NOT_READY, operator: "Exists", effect: "NoSchedule" }], [{ key: NOT_READY, operator: "Exists", effect: "NoSchedule" }, passing(NOT_READY), passing(UNREACHABLE)]],
  ["one for everything", [ALL], [ALL]],
] as const) test(`default tolerations of a pod with ${title}`, (t) => t.deepEqual(withDefaultTolerations(pod(...given), 30).spec!.tolerations, [...expected]));

test("a manifest that is applied again keeps the pod's default tolerations, unless it has others for the same", (t) => {
  const gpu: Toleration = { key: "gpu", operator: "Exists" };
  const stored = withDefaultTolerations(pod(gpu), 30);
  t.deepEqual(keepingDefaultTolerations(pod(gpu), stored).spec, stored.spec);
  t.is(keepingDefaultTolerations(stored, stored), stored);
  t.deepEqual(keepingDefaultTolerations(pod(gpu, passing(UNREACHABLE, 600)), stored).spec!.tolerations, [gpu, passing(UNREACHABLE, 600), passing(NOT_READY)]);
});
