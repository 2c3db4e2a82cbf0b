import test from "ava";
import { isCode } from "../../base/errors.ts";
import type { NodeCondition, NodeDescription } from "../../proto/gen/gantry/v1/agent.ts";
import { checkDescription, newNode, withConditions, withDescription } from "./node-object.ts";
import { formatCidr, parseCidr, PodCidrAllocator } from "./pod-cidrs.ts";

const NOW_MS = Date.UTC(2026, 0, 1);
const resources = { milliCpu: 1500, memoryBytes: 2 ** 31, ephemeralStorageBytes: 2 ** 30, pods: 110, extended: { "example.com/gpu": 1, "hugepages-2Mi": 2 ** 24, "hugepages-1Gi": 0 } };
const description = (change: Partial<NodeDescription> = {}): NodeDescription => ({
  hostname: "host-a", addresses: ["10.0.0.1"], machineId: "m", bootId: "b", kernelVersion: "6.1", osImage: "Debian", architecture: "amd64", agentVersion: "v0.1.0", runtimeVersion: "crun://1.8.1",
  capacity: resources, allocatable: resources, labels: { zone: "a" }, taints: [{ key: "dedicated", value: "", effect: "NoSchedule" }], cgroupNotes: [], images: [], peerPort: 0, runtimeHandlers: [], ...change,
});
const networkUp: NodeCondition = { type: "NetworkUnavailable", status: false, reason: "PodNetworkReady", message: "" };
const ready = (node: ReturnType<typeof newNode>): string | undefined => node.status!.conditions!.find((c) => c.type === "Ready")!.status;

test("a new node is not Ready before its network is", (t) => {
  const node = newNode("node-a", "u1", description(), "10.64.0.0/24", NOW_MS);
  t.is(ready(node), "False");
  t.deepEqual(node.status!.capacity, { cpu: "1500m", memory: "2Gi", "ephemeral-storage": "1Gi", pods: "110", "example.com/gpu": "1", "hugepages-2Mi": "16Mi", "hugepages-1Gi": "0" });
  t.deepEqual(node.spec, { taints: [{ key: "dedicated", effect: "NoSchedule" }], podCIDR: "10.64.0.0/24", podCIDRs: ["10.64.0.0/24"] });
  const up = withConditions(node, [networkUp], NOW_MS + 1000);
  t.is(ready(up), "True");
  t.is(withConditions(up, [networkUp], NOW_MS + 9000), up, "a heartbeat without news writes nothing");
  t.is(ready(withConditions(up, [networkUp, { type: "Ready", status: false, reason: "DiskFull", message: "m" }], NOW_MS)), "False");
  const pressed = withConditions(up, [networkUp, { type: "MemoryPressure", status: true, reason: "Low", message: "m" }], NOW_MS);
  t.is(pressed.status!.conditions!.find((c) => c.type === "MemoryPressure")!.status, "True");
});

test("what users and others set on a node stays", (t) => {
  const node = newNode("node-a", "u1", description(), "10.64.0.0/24", NOW_MS);
  const edited = { ...node, metadata: { ...node.metadata, labels: { ...node.metadata.labels, mine: "x" } }, spec: { ...node.spec, unschedulable: true, taints: [] } };
  const again = withDescription(edited, description({ kernelVersion: "6.2" }), "10.64.0.0/24");
  t.is(again.metadata.labels!["mine"], "x");
  t.like(again.spec, { unschedulable: true, taints: [] }, "taints are given to new nodes only");
  t.is(again.status!.nodeInfo!.kernelVersion, "6.2");
  t.is(withDescription(again, description({ kernelVersion: "6.2" }), "10.64.0.0/24"), again);
});

test("a description that breaks things is refused by field", (t) => {
  for (const [change, why] of [
    [{ addresses: [] }, /node\.addresses/], [{ labels: { a: "not ok!" } }, /node\.labels\[a\]: "not ok!"/], [{ taints: [{ key: "", value: "", effect: "NoSchedule" }] }, /node\.taints/], [{ capacity: undefined }, /node\.capacity/],
  ] as const) {
    const error = t.throws(() => checkDescription(description(change as unknown as Partial<NodeDescription>)));
    t.true(isCode(error, "Invalid"));
    t.regex(error.message, why);
  }
  t.throws(() => checkDescription(undefined), { message: /required/ });
});

test("ranges are cut from the cluster's, each given once, the longest unused first", (t) => {
  const allocator = new PodCidrAllocator("10.64.0.0/22", 24);
  t.true(allocator.reserve("kept", "10.64.1.0/24"));
  t.false(allocator.reserve("thief", "10.64.1.0/24"));
  t.true(allocator.reserve("kept", "10.64.1.0/24"));
  t.deepEqual(["a", "b", "c"].map((n) => allocator.allocate(n)), ["10.64.0.0/24", "10.64.2.0/24", "10.64.3.0/24"]);
  const full = t.throws(() => allocator.allocate("d"));
  t.true(isCode(full, "TooManyRequests"));
  t.regex(full.message, /10\.64\.0\.0\/22 holds 4 ranges/);
  allocator.release("b", "10.64.2.0/24");
  allocator.release("b", "10.64.3.0/24");
  t.is(allocator.allocate("d"), "10.64.2.0/24", "another's range is not released");
});

test("a range that is none is named", (t) => {
  for (const [text, why] of [["10.64.0.0", /four numbers/], ["10.64.0.1/24", /first address/], ["10.64.300.0/24", /above 255/], ["10.64.0.0/33", /above 32/]] as const) t.throws(() => parseCidr(text), { message: why });
  t.throws(() => new PodCidrAllocator("10.0.0.0/24", 16), { message: /node mask 16/ });
  t.is(formatCidr(parseCidr("255.255.255.0/24")), "255.255.255.0/24");
});
