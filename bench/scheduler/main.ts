// bench/scheduler: placements in memory, without the store: 5,000 nodes in 10 zones. What the rules about other pods cost is the ratio to a pod without any,
// taken in the same round. Other programs and the order of the workloads must not count: the time is this thread's CPU, each workload was compiled before,
// starts on a collected heap, and has every place in the order once. The plain workload runs twice in each round: what its ratio to itself strays from 1 is noise.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { classOf } from "../../control-plane/scheduler/pod-class.ts";
import { NodeTable } from "../../control-plane/scheduler/node-table.ts";
import { ClassPlacer } from "../../control-plane/scheduler/placement.ts";
import { aNode, aPod } from "../../control-plane/scheduler/testing.ts";
import type { PodSpec } from "../../base/kube/types.gen.ts";
import { median } from "../statistics.ts";

const NODES = Number(process.env["NODES"] ?? 5000);
const PODS = Number(process.env["PODS"] ?? 1000);
const HOST = "kubernetes.io/hostname";
const selector = { labelSelector: { matchLabels: { app: "web" } } };

const PLAIN: readonly [string, Partial<PodSpec>] = ["no rule about others", {}];
const WORKLOADS: readonly (readonly [string, Partial<PodSpec>])[] = [
  ["no rule about others (the same again)", {}],
  ["required anti-affinity, one a node", { affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [{ topologyKey: HOST, ...selector }] } } }],
  ["preferred anti-affinity", { affinity: { podAntiAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 100, podAffinityTerm: { topologyKey: HOST, ...selector } }] } } }],
  ["required affinity, one zone", { affinity: { podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [{ topologyKey: "zone", ...selector }] } } }],
  ["spread over zones, required", { topologySpreadConstraints: [{ maxSkew: 1, topologyKey: "zone", whenUnsatisfiable: "DoNotSchedule", ...selector }] }],
  ["spread over zones and nodes, preferred", { topologySpreadConstraints: ["zone", HOST].map((topologyKey) => ({ maxSkew: 1, topologyKey, whenUnsatisfiable: "ScheduleAnyway", ...selector })) }],
];

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** Pods placed in a second of this thread's CPU. */
const rate = (spec: Partial<PodSpec>): number => {
  const table = new NodeTable();
  for (let i = 0; i < NODES; i++) table.setNode(aNode(`n${i}`, { cpu: "32", memory: "64Gi", labels: { zone: `z${i % 10}` } }));
  const pods = Array.from({ length: PODS }, (_, i) => aPod(`p${i}`, { cpu: "100m", memory: "100Mi", owner: "o", labels: { app: "web" }, spec }));
  collect();
  const before = process.threadCpuUsage();
  const placer = new ClassPlacer(classOf(pods[0]!), table);
  for (const pod of pods) {
    const row = placer.choose(pod);
    if (row === undefined) throw new Error(`${pod.metadata.name!} fits nowhere`);
    table.place(pod, table.nodeName(row));
  }
  const { user, system } = process.threadCpuUsage(before);
  return PODS / ((user + system) / 1e6);
};

const ROUNDS = WORKLOADS.length + 1;
const order = [PLAIN, ...WORKLOADS];
for (const [, spec] of order) rate(spec); // compiled by then
const rates = order.map((): number[] => []);
for (let round = 0; round < ROUNDS; round++) {
  for (let i = 0; i < order.length; i++) {
    const at = (i + round) % order.length;
    rates[at]!.push(rate(order[at]![1]));
  }
}

console.log(`\nPlacements in memory: ${PODS} pods on ${NODES} nodes, by CPU time; median of ${ROUNDS} rounds (least to most)`);
const [plain, ...others] = rates as [number[], ...number[][]];
const range = (values: readonly number[], digits: number): string => `${median(values).toFixed(digits)} (${Math.min(...values).toFixed(digits)} to ${Math.max(...values).toFixed(digits)})`;
console.log(`  ${PLAIN[0].padEnd(40)} ${range(plain, 0).padStart(24)} pods/s`);
others.forEach((own, i) => console.log(`  ${WORKLOADS[i]![0].padEnd(40)} ${range(own, 0).padStart(24)} pods/s   ${range(own.map((value, round) => value / plain[round]!), 3)} of a plain pod's`));
