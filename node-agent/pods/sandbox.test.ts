import test from "ava";
import { PodAssignment } from "../../proto/gen/gantry/v1/agent.ts";
import { podLimits } from "./sandbox.ts";

const container = (milliCpu: number, memoryBytes: number, restartPolicy = "") => ({ restartPolicy, requests: { milliCpu }, limits: { milliCpu, memoryBytes } });
const of = (containers: object[], initContainers: object[] = [], qosClass = "Burstable") => podLimits(PodAssignment.fromPartial({ containers, initContainers, qosClass }));

for (const [title, containers, initContainers, milliCpu, memoryBytes] of [
  ["the sum of its containers", [container(100, 10), container(200, 20)], [], 300, 30],
  ["sidecars run beside", [container(100, 10)], [container(50, 5, "Always")], 150, 15],
  ["an init container that has more than all after it", [container(100, 10)], [container(50, 5, "Always"), container(400, 5)], 450, 15],
  ["unlimited when one is", [container(100, 10), container(100, 0)], [], 200, 0],
  ["unlimited when an init container is", [container(100, 10)], [container(100, 0)], 100, 0],
] as const) test(`what a pod may have as a whole: ${title}`, (t) => {
  t.deepEqual(of([...containers], [...initContainers]), { cpuShares: Math.floor((milliCpu * 1024) / 1000), cpuQuotaMilli: milliCpu, memoryBytes, pids: 0 });
});

test("a pod that asks for nothing has its class's weight, and no limits of its own", (t) => {
  t.is(of([container(0, 0)], [], "BestEffort"), undefined);
});
