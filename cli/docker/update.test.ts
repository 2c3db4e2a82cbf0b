import test from "ava";
import type { Pod, ResourceRequirements } from "../../base/kube/types.gen.ts";
import { limitsFrom } from "./update.ts";

const found = (resources?: ResourceRequirements) => {
  const container = { name: "web", image: "x", ...(resources ? { resources } : {}) };
  return { pod: { metadata: { name: "web" }, spec: { containers: [container] } } as Pod, container, status: undefined };
};
const nothing = { memoryBytes: 0, memoryReservationBytes: 0, milliCpus: 0 };

test("what is given changes, the rest stays; what was reserved whole is so again", (t) => {
  const both = { limits: { cpu: "1", memory: "64Mi" }, requests: { cpu: "0", memory: "64Mi" } };
  t.deepEqual(limitsFrom({ ...nothing, memoryBytes: 128 << 20 }, found(both)), { limits: { cpu: "1", memory: "128Mi" }, requests: { cpu: "0", memory: "128Mi" } });
  t.deepEqual(limitsFrom({ ...nothing, milliCpus: 500 }, found(both)), { limits: { cpu: "500m", memory: "64Mi" }, requests: { cpu: "0", memory: "64Mi" } });
  t.deepEqual(limitsFrom({ ...nothing, memoryBytes: 128 << 20 }, found({ ...both, requests: { cpu: "0", memory: "16Mi" } })).requests, { cpu: "0", memory: "16Mi" });
  t.deepEqual(limitsFrom({ ...nothing, memoryReservationBytes: 8 << 20 }, found(both)).requests, { cpu: "0", memory: "8Mi" });
});

test("what can't be is said", (t) => {
  t.throws(() => limitsFrom({ ...nothing, milliCpus: 500 }, found()), { message: /web was made without limits, and can't get any/ });
  t.throws(() => limitsFrom({ ...nothing, memoryBytes: 1 << 20 }, found({ limits: { memory: "64Mi" }, requests: { memory: "16Mi" } })), { message: /16Mi is more than the limit, 1Mi/ });
});
