import test from "ava";
import type { Container, PodSpec } from "./types.gen.ts";
import { podRequests } from "./pod-requests.ts";

const c = (name: string, requests: Record<string, string>, more: Partial<Container> = {}): Container => ({ name, resources: { requests }, ...more });

test("containers add up, in milli-CPU and bytes", (t) => {
  t.deepEqual(podRequests({ containers: [c("a", { cpu: "100m", memory: "1Mi" }), c("b", { cpu: "1", "example.com/gpu": "2" })] }), { cpu: 1100, memory: 1_048_576, "example.com/gpu": 2 });
});

test("init containers run one by one: the largest counts, beside the sidecars that started before it", (t) => {
  const spec: PodSpec = {
    containers: [c("main", { cpu: "300m" })],
    initContainers: [c("first", { cpu: "500m" }), c("sidecar", { cpu: "100m" }, { restartPolicy: "Always" }), c("second", { cpu: "450m" })],
  };
  t.deepEqual(podRequests(spec), { cpu: 550 });
});

test("a limit without a request is requested whole; overhead is added", (t) => {
  t.deepEqual(podRequests({ containers: [{ name: "a", resources: { limits: { cpu: "2", memory: "1Ki" }, requests: { cpu: "1" } } }], overhead: { cpu: "50m" } }), { cpu: 1050, memory: 1024 });
});
