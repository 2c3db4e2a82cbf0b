import test from "ava";
import type { Container, Pod } from "../../../base/kube/types.gen.ts";
import { placedRequests } from "../../../base/kube/pod-requests.ts";
import { validateResize, withResourcesOf } from "./pod-resize.ts";

type Resources = NonNullable<Container["resources"]>;
const pod = (resources: Resources, change: Partial<Container> = {}, status: Pod["status"] = {}): Pod =>
  ({ apiVersion: "v1", kind: "Pod", metadata: { name: "p" }, spec: { containers: [{ name: "main", image: "a:1", resources, ...change }] }, status });
const faults = (from: Pod, to: Pod): string[] => validateResize(to, withResourcesOf(from, to), from).map((f) => `${f.field}: ${f.message}`);
const small: Resources = { requests: { cpu: "100m", memory: "64Mi" }, limits: { cpu: "200m" } };

test("a resize takes the resources and nothing else", (t) => {
  const wanted = pod({ ...small, requests: { cpu: "150m", memory: "64Mi" } }, { image: "other:1" });
  t.deepEqual(withResourcesOf(pod(small), wanted).spec!.containers, [{ name: "main", image: "a:1", resources: wanted.spec!.containers[0]!.resources }]);
  t.deepEqual(faults(pod(small), wanted), []);
});

const BAD: readonly (readonly [string, Pod, Pod, RegExp])[] = [
  ["another resource", pod(small), pod({ ...small, requests: { ...small.requests, "ephemeral-storage": "1Gi" } }), /requests: Forbidden: only cpu and memory resources are mutable/],
  ["a limit taken away", pod(small), pod({ requests: small.requests! }), /limits: Forbidden: resource limits cannot be removed: cpu/],
  ["a request above its limit", pod(small), pod({ ...small, requests: { cpu: "300m", memory: "64Mi" } }), /must be less than or equal to cpu limit/],
  ["another class", pod(small), pod({ limits: { cpu: "200m", memory: "64Mi" }, requests: { cpu: "200m", memory: "64Mi" } }), /spec: .*Pod QOS Class may not change as a result of resizing/],
  ["another container", pod(small), pod(small, { name: "other" }), /may not add containers, and the pod has no "other"/],
  ["a pod that has ended", pod(small, {}, { phase: "Failed" }), pod(small), /the pod has ended \(Failed\)/],
];
for (const [what, from, to, message] of BAD) test(`${what} is refused`, (t) => t.regex(faults(from, to).join("; "), message));

test("a pod counts for the most of what it asks for, was given, and has", (t) => {
  const status = (allocated: Record<string, string>, actual: Record<string, string>, conditions: NonNullable<Pod["status"]>["conditions"] = []): Pod["status"] =>
    ({ conditions, containerStatuses: [{ name: "main", ready: true, restartCount: 0, image: "", imageID: "", allocatedResources: allocated, resources: { requests: actual } }] });
  const asked: Resources = { requests: { cpu: "500m", memory: "10" } };
  t.deepEqual(placedRequests(pod(asked)), { cpu: 500, memory: 10 });
  t.deepEqual(placedRequests(pod(asked, {}, status({ cpu: "100m", memory: "20" }, { cpu: "100m", memory: "30" }))), { cpu: 500, memory: 30 });
  t.deepEqual(placedRequests(pod(asked, {}, status({ cpu: "100m", memory: "20" }, { cpu: "100m", memory: "20" }, [{ type: "PodResizePending", status: "True", reason: "Infeasible" }]))), { cpu: 100, memory: 20 });
});
