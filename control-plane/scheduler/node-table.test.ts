import test from "ava";
import type { Node, Pod } from "../../base/kube/types.gen.ts";
import { NodeTable } from "./node-table.ts";
import { ClassPlacer } from "./placement.ts";
import { classOf } from "./pod-class.ts";
import { fits } from "./filters.ts";
import { score } from "./scores.ts";
import { seededRandom } from "../state/store-contract.ts";
import { aNode, aPod } from "./testing.ts";

const describe = (table: NodeTable): unknown =>
  [...table.rows()].map((row) => ({
    name: table.nodeName(row), cpu: [table.allocatable(row, "cpu"), table.requested(row, "cpu")], memory: [table.allocatable(row, "memory"), table.requested(row, "memory")],
    pods: table.requested(row, "pods"), ports: table.hostPorts(row).map((p) => p.port).sort(), owners: ["o0", "o1"].map((o) => table.ownerCount(row, o)),
  })).sort((a, b) => (a.name < b.name ? -1 : 1));

for (const seed of [1, 2, 3, 4, 5]) {
  test(`any sequence of changes leaves what a rebuild from scratch gives, and the heap's choice is the best row (seed ${seed})`, (t) => {
    const random = seededRandom(seed);
    const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)]!;
    const table = new NodeTable();
    const nodes = new Map<string, Node>();
    const pods = new Map<string, { pod: Pod; node: string }>();
    const probePod = aPod("probe", { cpu: "500m", owner: "o0" });
    const probe = classOf(probePod);
    const placer = new ClassPlacer(probe, table);
    for (let step = 0; step < 400; step++) {
      const name = `n${Math.floor(random() * 6)}`;
      const action = random();
      if (action < 0.25) {
        const node = aNode(name, { cpu: pick(["1", "2", "4"]), unschedulable: random() < 0.1 });
        nodes.set(name, node);
        table.setNode(node);
      } else if (action < 0.32) {
        nodes.delete(name);
        table.removeNode(name);
      } else if (action < 0.75) {
        const pod = aPod(`p${Math.floor(random() * 30)}`, { cpu: pick(["100m", "300m"]), owner: pick(["o0", "o1"]), ...(random() < 0.2 ? { hostPort: 8080 } : {}) });
        const uid = pod.metadata.uid!;
        table.remove(uid);
        pods.set(uid, { pod, node: name });
        table.place(pod, name);
      } else if (pods.size > 0) {
        const uid = pick([...pods.keys()]);
        pods.delete(uid);
        table.remove(uid);
      }
      if (step % 7 === 0) {
        const best = Math.max(...[...table.rows()].filter((r) => fits(probe, table, r)).map((r) => score(probe, table, r)), -Infinity);
        const chosen = placer.choose(probePod);
        t.is(chosen === undefined ? -Infinity : score(probe, table, chosen), best);
      }
    }
    const rebuilt = new NodeTable();
    for (const node of nodes.values()) rebuilt.setNode(node);
    for (const { pod, node } of pods.values()) rebuilt.place(pod, node);
    t.deepEqual(describe(table), describe(rebuilt));
  });
}

test("a pod that is bound to a node not yet seen counts once the node appears", (t) => {
  const table = new NodeTable();
  table.place(aPod("p", { cpu: "500m" }), "late");
  table.setNode(aNode("late"));
  t.is(table.requested(table.rowOf("late")!, "cpu"), 500);
});

test("replicas of one owner are spread evenly over equal nodes", (t) => {
  const table = new NodeTable();
  for (const name of ["a", "b", "c"]) table.setNode(aNode(name, { cpu: "32", memory: "64Gi", pods: "200" }));
  const placer = new ClassPlacer(classOf(aPod("x", { cpu: "10m", owner: "o" })), table);
  for (let i = 0; i < 99; i++) table.place(aPod(`p${i}`, { cpu: "10m", owner: "o" }), table.nodeName(placer.choose(aPod("x"))!));
  t.deepEqual(["a", "b", "c"].map((n) => table.ownerCount(table.rowOf(n)!, "o")), [33, 33, 33]);
});

test("a node that has the image is preferred among equals", (t) => {
  const table = new NodeTable();
  table.setNode(aNode("a"));
  table.setNode(aNode("b", { images: [{ names: ["i"], sizeBytes: 2 ** 30 }] }));
  t.is(table.nodeName(new ClassPlacer(classOf(aPod("p")), table).choose(aPod("p"))!), "b");
});
