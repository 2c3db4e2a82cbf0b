// bench/scheduler: placements a second in memory, without the store: 5,000 nodes in 10 zones, one workload after another. What the rules about other
// pods cost is the ratio to a pod without any.
import { classOf } from "../../control-plane/scheduler/pod-class.ts";
import { NodeTable } from "../../control-plane/scheduler/node-table.ts";
import { ClassPlacer } from "../../control-plane/scheduler/placement.ts";
import { aNode, aPod } from "../../control-plane/scheduler/testing.ts";
import type { PodSpec } from "../../base/kube/types.gen.ts";

const NODES = Number(process.env["NODES"] ?? 5000);
const PODS = Number(process.env["PODS"] ?? 2000);
const HOST = "kubernetes.io/hostname";
const selector = { labelSelector: { matchLabels: { app: "web" } } };

const WORKLOADS: readonly (readonly [string, Partial<PodSpec>])[] = [
  ["no rule about others", {}],
  ["required anti-affinity, one a node", { affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [{ topologyKey: HOST, ...selector }] } } }],
  ["preferred anti-affinity", { affinity: { podAntiAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 100, podAffinityTerm: { topologyKey: HOST, ...selector } }] } } }],
  ["required affinity, one zone", { affinity: { podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [{ topologyKey: "zone", ...selector }] } } }],
  ["spread over zones, required", { topologySpreadConstraints: [{ maxSkew: 1, topologyKey: "zone", whenUnsatisfiable: "DoNotSchedule", ...selector }] }],
  ["spread over zones and nodes, preferred", { topologySpreadConstraints: ["zone", HOST].map((topologyKey) => ({ maxSkew: 1, topologyKey, whenUnsatisfiable: "ScheduleAnyway", ...selector })) }],
];

const rate = (spec: Partial<PodSpec>): number => {
  const table = new NodeTable();
  for (let i = 0; i < NODES; i++) table.setNode(aNode(`n${i}`, { cpu: "32", memory: "64Gi", labels: { zone: `z${i % 10}` } }));
  const pods = Array.from({ length: PODS }, (_, i) => aPod(`p${i}`, { cpu: "100m", memory: "100Mi", owner: "o", labels: { app: "web" }, spec }));
  const startedMs = performance.now();
  const placer = new ClassPlacer(classOf(pods[0]!), table);
  for (const pod of pods) {
    const row = placer.choose(pod);
    if (row === undefined) throw new Error(`${pod.metadata.name!} fits nowhere`);
    table.place(pod, table.nodeName(row));
  }
  return PODS / ((performance.now() - startedMs) / 1000);
};

console.log(`\nPlacements in memory: ${PODS} pods on ${NODES} nodes`);
// Compiled by then.
for (let i = 0; i < 3; i++) rate({});
const plain = rate({});
for (const [title, spec] of WORKLOADS) {
  const own = rate(spec);
  console.log(`  ${title.padEnd(40)} ${own.toFixed(0).padStart(8)} pods/s   ${(own / plain).toFixed(3)} of a plain pod's`);
}
