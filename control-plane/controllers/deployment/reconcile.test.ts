import test from "ava";
import type { Deployment, ReplicaSet } from "../../../base/kube/types.gen.ts";
import { deployment, template } from "../testing.ts";
import { reconcile } from "./reconcile.ts";
import { DESIRED_REPLICAS, MAX_REPLICAS, newReplicaSet, REVISION, templateHash } from "./revisions.ts";
import { boundsOf, rollingSizes, scaledSizes, sizeOf } from "./sizes.ts";

const NOW = Date.UTC(2026, 0, 1);

const rolling = (replicas: number, maxSurge: number | string, maxUnavailable: number | string): Deployment =>
  deployment("web", replicas, { strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge, maxUnavailable } } });

const set = (of: Deployment, uid: string, image: string, size: number, available = size, revision = 1): ReplicaSet => {
  const made = newReplicaSet({ ...of, spec: { ...of.spec!, template: template({ app: "web" }, image) } }, size, revision, of.spec!.replicas!, NOW + revision, uid);
  return { ...made, status: { replicas: size, readyReplicas: available, availableReplicas: available, observedGeneration: 1 } };
};

for (const [replicas, surge, unavailable, expected] of [
  [10, "25%", "25%", { maxSurge: 3, maxUnavailable: 2 }],
  [1, "25%", "25%", { maxSurge: 1, maxUnavailable: 0 }],
  [2, 0, "25%", { maxSurge: 0, maxUnavailable: 1 }],
  [3, 0, 0, { maxSurge: 0, maxUnavailable: 1 }],
  [5, 2, 9, { maxSurge: 2, maxUnavailable: 5 }],
  [0, "25%", "25%", { maxSurge: 0, maxUnavailable: 0 }],
] as const) {
  test(`${replicas} replicas with surge ${surge} and unavailable ${unavailable}`, (t) => t.deepEqual(boundsOf(rolling(replicas, surge, unavailable)), { replicas, ...expected }));
}

test("the hash is stable, whatever the order of keys, and differs by template and by collision", (t) => {
  const one = template({ app: "web", tier: "x" });
  t.is(templateHash(one), templateHash({ spec: one.spec!, metadata: { labels: { tier: "x", app: "web" } } }));
  t.not(templateHash(one), templateHash(template({ app: "web", tier: "y" })));
  t.not(templateHash(one), templateHash(one, 1));
  t.regex(templateHash(one), /^[bcdfghjklmnpqrstvwxz2456789]{10}$/);
});

test("pods that never worked make way before working ones", (t) => {
  const d = rolling(10, 0, 3);
  const sizes = rollingSizes(boundsOf(d), set(d, "new", "3", 0), [set(d, "good", "1", 7, 7, 1), set(d, "bad", "2", 3, 0, 2)]);
  t.is(sizes.get("bad"), 0);
  t.is(sizes.get("good"), undefined);
});

test("a scale in the middle of a rollout is shared out in proportion", (t) => {
  const d = rolling(20, 5, 5);
  const current = { ...set(d, "new", "2", 5, 5, 2) };
  const old = set(d, "old", "1", 10, 8, 1);
  for (const rs of [current, old]) rs.metadata.annotations = { ...rs.metadata.annotations, [DESIRED_REPLICAS]: "10", [MAX_REPLICAS]: "15" };
  const sizes = scaledSizes(d, boundsOf(d), current, [old]);
  t.deepEqual([sizes.get("new"), sizes.get("old")], [8, 17]);
});

test("scaling keeps the revision and marks all sets as handled", (t) => {
  const before = rolling(10, 3, 2);
  const rs = set(before, "a", "example:1", 10);
  const plan = reconcile({ deployment: rolling(4, 3, 2), replicaSets: [rs], oldPodsRun: false, nowMs: NOW, uid: () => "u" });
  t.is(plan.create, undefined);
  t.is(plan.update.length, 1);
  t.is(plan.update[0]!.after.spec!.replicas, 4);
  t.like(plan.update[0]!.after.metadata.annotations, { [DESIRED_REPLICAS]: "4", [REVISION]: "1" });
  t.is(plan.update[0]!.after.metadata.generation, 2);
});

test("any rollout, with pods that start in any order, ends complete and stays within its bounds (seeded)", (t) => {
  let state = 3;
  const random = (n: number): number => (state = (state * 48271) % 2147483647) % n;
  for (let run = 0; run < 60; run++) {
    const replicas = 1 + random(12);
    let d = rolling(replicas, random(4), random(4));
    const bounds = boundsOf(d);
    let sets: ReplicaSet[] = [set(d, "first", "example:0", replicas, replicas)];
    let uid = 0;
    for (let step = 0, changes = 0; ; step++) {
      t.true(step < 500, `seed run ${run} does not end`);
      if (changes < 3 && random(10) === 0) d = { ...d, spec: { ...d.spec!, template: template({ app: "web" }, `example:${++changes}`) }, metadata: { ...d.metadata, generation: changes + 1 } };
      const plan = reconcile({ deployment: d, replicaSets: sets, oldPodsRun: false, nowMs: NOW + step * 1000, uid: () => `rs-${uid++}` });
      d = { ...d, status: plan.status };
      sets = sets.filter((rs) => !plan.remove.includes(rs)).map((rs) => plan.update.find((u) => u.before === rs)?.after ?? rs);
      if (plan.create) sets.push(plan.create);
      t.true(sets.reduce((sum, rs) => sum + sizeOf(rs), 0) <= replicas + bounds.maxSurge);
      // The ReplicaSet controller and agents: sizes take effect, some pods become available.
      sets = sets.map((rs) => {
        const size = sizeOf(rs);
        const available = Math.min(size, (rs.status?.availableReplicas ?? 0) + random(3));
        return { ...rs, status: { replicas: size, readyReplicas: available, availableReplicas: available, observedGeneration: rs.metadata.generation ?? 0 } };
      });
      const total = sets.reduce((sum, rs) => sum + (rs.status!.availableReplicas ?? 0), 0);
      t.true(total >= replicas - bounds.maxUnavailable, `only ${total} of ${replicas} available`);
      if (changes === 3 && plan.status.conditions?.find((c) => c.type === "Progressing")?.reason === "NewReplicaSetAvailable" && plan.update.length === 0) break;
    }
    t.deepEqual(sets.filter((rs) => sizeOf(rs) > 0).map((rs) => [rs.spec!.template!.spec!.containers[0]!.image, sizeOf(rs)]), [["example:3", replicas]]);
    t.like(d.status, { replicas, updatedReplicas: replicas, availableReplicas: replicas });
  }
});
