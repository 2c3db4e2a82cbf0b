import test from "ava";
import type { Affinity, Pod, PodAffinityTerm, TopologySpreadConstraint } from "../../base/kube/types.gen.ts";
import { explainClass } from "./explain.ts";
import { fits } from "./filters.ts";
import { NodeTable } from "./node-table.ts";
import { ClassPlacer } from "./placement.ts";
import { classOf } from "./pod-class.ts";
import { seededRandom } from "../state/store-contract.ts";
import { aNode, aPod } from "./testing.ts";
import { topologyCheck } from "./topology.ts";

const HOST = "kubernetes.io/hostname";
const near = (app: string, topologyKey = "zone", more: Partial<PodAffinityTerm> = {}): PodAffinityTerm => ({ topologyKey, labelSelector: { matchLabels: { app } }, ...more });
const wants = (affinity: Affinity): { spec: { affinity: Affinity } } => ({ spec: { affinity } });
const required = (...terms: PodAffinityTerm[]) => ({ requiredDuringSchedulingIgnoredDuringExecution: terms });
const spread = (more: Partial<TopologySpreadConstraint> = {}): TopologySpreadConstraint => ({ maxSkew: 1, topologyKey: "zone", whenUnsatisfiable: "DoNotSchedule", labelSelector: { matchLabels: { app: "web" } }, ...more });

/** Nodes a1 and a2 in zone a, b1 in zone b, and one without a zone. */
const tableOf = (...placed: readonly (readonly [Pod, string])[]): NodeTable => {
  const table = new NodeTable((selector) => (selector.matchLabels?.["team"] === "blue" ? ["blue"] : []));
  for (const [name, zone] of [["a1", "a"], ["a2", "a"], ["b1", "b"], ["nowhere", ""]] as const) table.setNode(aNode(name, { labels: zone === "" ? {} : { zone } }));
  for (const [pod, node] of placed) table.place(pod, node);
  return table;
};
const allowed = (table: NodeTable, pod: Pod): string[] => {
  const podClass = classOf(pod, undefined, (selector) => (selector.matchLabels?.["team"] === "blue" ? ["blue"] : []));
  const check = topologyCheck(pod, podClass, table);
  return [...table.rows()].filter((row) => fits(podClass, table, row) && check?.failure(row) === undefined).map((row) => table.nodeName(row)).sort();
};
const web = (name: string, more: Parameters<typeof aPod>[1] = {}): Pod => aPod(name, { labels: { app: "web" }, ...more });

for (const [title, pod, placed, nodes] of [
  ["affinity: where one is", aPod("p", wants({ podAffinity: required(near("web")) })), [[web("w"), "a1"]], ["a1", "a2"]],
  ["affinity: on the same node", aPod("p", wants({ podAffinity: required(near("web", HOST)) })), [[web("w"), "a1"]], ["a1"]],
  ["affinity: nobody is there", aPod("p", wants({ podAffinity: required(near("web")) })), [], []],
  ["affinity to its own kind: the first may go where the key is", web("p", wants({ podAffinity: required(near("web")) })), [], ["a1", "a2", "b1"]],
  ["affinity to its own kind: the second follows", web("p", wants({ podAffinity: required(near("web")) })), [[web("w"), "b1"]], ["b1"]],
  ["affinity: two terms of one pod", aPod("p", wants({ podAffinity: required(near("web"), near("web", HOST)) })), [[web("w"), "a1"]], ["a1"]],
  ["affinity: one pod has to match both", aPod("p", wants({ podAffinity: required(near("web"), { topologyKey: "zone", labelSelector: { matchLabels: { tier: "x" } } }) })), [[web("w"), "a1"], [aPod("x", { labels: { tier: "x" } }), "a1"]], []],
  ["affinity: other namespaces don't count", aPod("p", wants({ podAffinity: required(near("web")) })), [[web("w", { namespace: "blue" }), "a1"]], []],
  ["affinity: named namespaces do", aPod("p", wants({ podAffinity: required(near("web", "zone", { namespaces: ["blue"] })) })), [[web("w", { namespace: "blue" }), "a1"]], ["a1", "a2"]],
  ["affinity: those that a selector finds do", aPod("p", wants({ podAffinity: required(near("web", "zone", { namespaceSelector: { matchLabels: { team: "blue" } } })) })), [[web("w", { namespace: "blue" }), "a1"], [web("v"), "b1"]], ["a1", "a2"]],
  ["affinity: an empty namespace selector is all", aPod("p", wants({ podAffinity: required(near("web", "zone", { namespaceSelector: {} })) })), [[web("w", { namespace: "green" }), "b1"]], ["b1"]],
  ["affinity: an absent label selector matches nothing", aPod("p", wants({ podAffinity: required({ topologyKey: "zone" }) })), [[web("w"), "a1"]], []],
  ["affinity: matchLabelKeys takes the pod's own value", aPod("p", { labels: { v: "2" }, ...wants({ podAffinity: required(near("web", "zone", { matchLabelKeys: ["v"] })) }) }), [[aPod("w", { labels: { app: "web", v: "1" } }), "a1"], [aPod("x", { labels: { app: "web", v: "2" } }), "b1"]], ["b1"]],
  ["affinity: mismatchLabelKeys leaves out those of the pod's own value", aPod("p", { labels: { v: "2" }, ...wants({ podAffinity: required(near("web", "zone", { mismatchLabelKeys: ["v"] })) }) }), [[aPod("w", { labels: { app: "web", v: "1" } }), "a1"], [aPod("x", { labels: { app: "web", v: "2" } }), "b1"]], ["a1", "a2"]],
  ["anti-affinity: away from the zone, a node without one is fine", web("p", wants({ podAntiAffinity: required(near("web")) })), [[web("w"), "a1"]], ["b1", "nowhere"]],
  ["anti-affinity: away from the node", web("p", wants({ podAntiAffinity: required(near("web", HOST)) })), [[web("w"), "a1"], [web("v"), "b1"]], ["a2", "nowhere"]],
  ["anti-affinity: each term by itself", aPod("p", wants({ podAntiAffinity: required(near("web", HOST), near("db")) })), [[web("w"), "b1"], [aPod("d", { labels: { app: "db" } }), "a1"]], ["nowhere"]],
  ["anti-affinity of those that are there", web("p"), [[aPod("loner", { ...wants({ podAntiAffinity: required(near("web")) }) }), "a2"]], ["b1", "nowhere"]],
  ["anti-affinity of those that are there, about others", aPod("p", { labels: { app: "db" } }), [[aPod("loner", wants({ podAntiAffinity: required(near("web")) })), "a2"]], ["a1", "a2", "b1", "nowhere"]],
  ["spread: the emptier zone", web("p", { spec: { topologySpreadConstraints: [spread()] } }), [[web("w"), "a1"]], ["b1"]],
  ["spread: within the skew", web("p", { spec: { topologySpreadConstraints: [spread({ maxSkew: 2 })] } }), [[web("w"), "a1"]], ["a1", "a2", "b1"]],
  ["spread: a pod that is no part of it", aPod("p", { spec: { topologySpreadConstraints: [spread()] } }), [[web("w"), "a1"]], ["a1", "a2", "b1"]],
  ["spread: pods on their way out don't count", web("p", { spec: { topologySpreadConstraints: [spread()] } }), [[{ ...web("w"), metadata: { ...web("w").metadata, deletionTimestamp: "2026-01-01T00:00:00Z" } }, "a1"]], ["a1", "a2", "b1"]],
  ["spread: too few domains", web("p", { spec: { topologySpreadConstraints: [spread({ minDomains: 3 })] } }), [[web("w"), "a1"]], ["b1"]],
  ["spread: too few domains, all taken", web("p", { spec: { topologySpreadConstraints: [spread({ minDomains: 3 })] } }), [[web("w"), "a1"], [web("v"), "b1"]], []],
  ["spread: only nodes of the pod's selector are domains", web("p", { spec: { nodeSelector: { zone: "a" }, topologySpreadConstraints: [spread()] } }), [[web("w"), "a1"], [web("v"), "a1"]], ["a1", "a2"]],
  ["spread: or all are", web("p", { spec: { nodeSelector: { zone: "a" }, topologySpreadConstraints: [spread({ nodeAffinityPolicy: "Ignore" })] } }), [[web("w"), "a1"], [web("v"), "a1"]], []],
  ["spread: over zones and nodes", web("p", { spec: { topologySpreadConstraints: [spread({ maxSkew: 2 }), spread({ topologyKey: HOST })] } }), [[web("w"), "a1"], [web("v"), "b1"]], ["a2"]],
] as const satisfies readonly (readonly [string, Pod, readonly (readonly [Pod, string])[], readonly string[]])[]) {
  test(title, (t) => t.deepEqual(allowed(tableOf(...placed), pod), nodes));
}

for (const [title, pod, placed, node] of [
  ["preferred affinity wins over room", aPod("p", wants({ podAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 100, podAffinityTerm: near("web", HOST) }] } })), [[web("w", { cpu: "2" }), "b1"]], "b1"],
  ["preferred anti-affinity", aPod("p", wants({ podAntiAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 100, podAffinityTerm: near("web", "zone") }] } })), [[web("w"), "a1"], [aPod("x", { cpu: "3" }), "b1"], [aPod("y", { cpu: "3" }), "nowhere"]], "b1"],
  ["a soft spread", web("p", { spec: { topologySpreadConstraints: [spread({ whenUnsatisfiable: "ScheduleAnyway" })] } }), [[web("w"), "a1"], [web("v"), "a2"], [web("u"), "a2"], [web("s"), "a2"]], "b1"],
] as const satisfies readonly (readonly [string, Pod, readonly (readonly [Pod, string])[], string])[]) {
  test(`chooses: ${title}`, (t) => {
    const table = tableOf(...placed);
    t.is(table.nodeName(new ClassPlacer(classOf(pod), table).choose(pod)!), node);
  });
}

test("what is in the way is said in upstream's words, and what would help", (t) => {
  const pod = web("p", { spec: { topologySpreadConstraints: [spread()], affinity: { podAntiAffinity: required(near("web", HOST)) } } });
  const { summary, groups } = explainClass(pod, classOf(pod), tableOf([web("w"), "a1"], [web("v"), "b1"], [web("u"), "b1"], [web("s"), "a2"]));
  t.regex(summary, /^0\/4 nodes are available: 1 node\(s\) didn't match pod topology spread constraints \(missing required label\), 3 node\(s\) didn't match pod anti-affinity rules\.$/);
  t.true(groups.some((g) => g.failed.some((f) => f.message === "a pod with app=web runs where kubernetes.io/hostname=a1")));
});

for (const seed of [1, 2, 3]) {
  test(`counting as pods come and go gives what counting from scratch does; what is chosen breaks no rule, and nothing is refused that breaks none (seed ${seed})`, (t) => {
    const random = seededRandom(seed);
    const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)]!;
    const table = new NodeTable();
    for (let i = 0; i < 9; i++) table.setNode(aNode(`n${i}`, { labels: { zone: `z${i % 3}`, rack: `r${i % 5}` }, pods: "12" }));
    const live = new Map<string, readonly [Pod, string]>();
    const placers = new Map<string, ClassPlacer>();
    const kinds: readonly (() => Parameters<typeof aPod>[1])[] = [
      () => ({ labels: { app: pick(["web", "db"]) } }),
      () => ({ labels: { app: "web" }, ...wants({ podAntiAffinity: required(near("web", pick(["rack", HOST]))) }) }),
      () => ({ labels: { app: "db" }, ...wants({ podAffinity: required(near("web", pick(["zone", "rack"]))) }) }),
      () => ({ labels: { app: "db" }, ...wants({ podAffinity: required(near("db", "zone")) }) }),
      () => ({ labels: { app: "web" }, spec: { topologySpreadConstraints: [spread({ maxSkew: pick([1, 2]) }), spread({ topologyKey: "rack", maxSkew: 2, whenUnsatisfiable: pick(["DoNotSchedule", "ScheduleAnyway"]) })] } }),
    ];
    let refused = 0;
    for (let step = 0; step < 300; step++) {
      if (random() < 0.35 && live.size > 0) {
        const uid = pick([...live.keys()]);
        live.delete(uid);
        table.remove(uid);
        continue;
      }
      if (random() < 0.05) table.setNode(aNode("n3", { labels: { zone: pick(["z0", "z1"]), rack: "r3" }, pods: "12" }));
      const pod = aPod(`p${step}`, pick(kinds)());
      const podClass = classOf(pod);
      const placer = placers.get(podClass.key) ?? new ClassPlacer(podClass, table);
      placers.set(podClass.key, placer);
      const row = placer.choose(pod);
      const scratch = new NodeTable();
      for (const r of table.rows()) scratch.setNode(table.node(r));
      for (const [p, node] of live.values()) scratch.place(p, node);
      const check = topologyCheck(pod, podClass, scratch);
      const mayBe = [...scratch.rows()].filter((r) => fits(podClass, scratch, r) && check?.failure(r) === undefined).map((r) => scratch.nodeName(r));
      if (row === undefined) {
        refused++;
        t.deepEqual(mayBe, []);
        continue;
      }
      const node = table.nodeName(row);
      t.true(mayBe.includes(node), `${node} of ${mayBe.join(", ")}`);
      table.place(pod, node);
      live.set(pod.metadata.uid!, [pod, node]);
    }
    t.true(refused > 0 && live.size > 10, "both happened");
  });
}

for (const [policy, nodes] of [["Ignore", []], ["Honor", ["a1", "a2"]]] as const) {
  test(`spread: nodeTaintsPolicy ${policy}, when the emptier zone is tainted`, (t) => {
    const table = tableOf([web("w"), "a1"]);
    table.setNode(aNode("b1", { labels: { zone: "b" }, taints: [{ key: "x", effect: "NoSchedule" }] }));
    t.deepEqual(allowed(table, web("p", { spec: { topologySpreadConstraints: [spread({ nodeTaintsPolicy: policy })] } })), nodes);
  });
}
test("spread: matchLabelKeys counts only pods of the pod's own revision", (t) => {
  const of = (name: string, v: string): Pod => aPod(name, { labels: { app: "web", v }, spec: { topologySpreadConstraints: [spread({ matchLabelKeys: ["v"] })] } });
  t.deepEqual(allowed(tableOf([of("w", "1"), "a1"]), of("p", "2")), ["a1", "a2", "b1"]);
  t.deepEqual(allowed(tableOf([of("w", "2"), "a1"]), of("p", "2")), ["b1"]);
});
