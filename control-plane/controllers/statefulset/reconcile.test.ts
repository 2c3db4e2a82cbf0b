import test from "ava";
import { isAhead, STAGED_REPLICAS, stagedReplicasText, startingAt } from "../../../base/kube/staging.ts";
import type { Pod, PersistentVolumeClaim, StatefulSet, StatefulSetSpec } from "../../../base/kube/types.gen.ts";
import { isReady, isTerminal } from "../objects.ts";
import { REVISION_HASH } from "../revision-history.ts";
import { NS, template } from "../testing.ts";
import { newStatefulPod, ordinalOf, revisionOf, withClaimOwners, withIdentity } from "./identity.ts";
import { reconcile } from "./reconcile.ts";

const NOW = Date.UTC(2026, 0, 1, 12);
const at = (secondsAgo: number): string => `${new Date(NOW - secondsAgo * 1000).toISOString().slice(0, 19)}Z`;
const IDS = { uid: () => "u", suffix: () => "xxxxx" };

const set = (replicas: number, more: Partial<StatefulSetSpec> = {}): StatefulSet => ({
  apiVersion: "apps/v1", kind: "StatefulSet", metadata: { name: "db", namespace: NS, uid: "db", generation: 3 },
  spec: { replicas, selector: { matchLabels: { app: "db" } }, template: template({ app: "db" }), serviceName: "svc", podManagementPolicy: "OrderedReady", updateStrategy: { type: "RollingUpdate", rollingUpdate: { partition: 0 } }, ...more },
});
interface Traits { revision?: string; ready?: number; leaving?: boolean; phase?: string }
const pod = (ordinal: number, { revision = "old", ready = 100, leaving, phase = "Running" }: Traits = {}): Pod => ({
  apiVersion: "v1", kind: "Pod", metadata: { name: `db-${ordinal}`, namespace: NS, uid: `db-${ordinal}`, labels: { app: "db", [REVISION_HASH]: revision }, ...(leaving && { deletionTimestamp: at(0) }) },
  spec: { containers: [] }, status: { phase, ...(ready >= 0 && phase === "Running" && { conditions: [{ type: "Ready", status: "True", lastTransitionTime: at(ready) }] }) },
});
const BROKEN = { ready: -1 };
const plan = (s: StatefulSet, pods: readonly Pod[], updateRevision = "old") => reconcile({ set: s, pods, currentRevision: "old", updateRevision, nowMs: NOW });
const parallel = { podManagementPolicy: "Parallel" };
const rolling = (rollingUpdate: object, more: Partial<StatefulSetSpec> = {}): Partial<StatefulSetSpec> => ({ updateStrategy: { type: "RollingUpdate", rollingUpdate }, ...more });

for (const [title, s, pods, create, remove, revision] of [
  ["in order one is made after the other", set(3), [], ["0 old"], [], "old"],
  ["the next waits until the last is ready", set(3), [pod(0, BROKEN)], [], [], "old"],
  ["and available", set(3, { minReadySeconds: 200 }), [pod(0)], [], [], "old"],
  ["then it comes", set(3), [pod(0)], ["1 old"], [], "old"],
  ["a gap is filled first", set(3), [pod(0), pod(2)], ["1 old"], [], "old"],
  ["in parallel all come at once", set(3, parallel), [pod(1, BROKEN)], ["0 old", "2 old"], [], "old"],
  ["ordinals start where they are told to", set(2, { ordinals: { start: 5 } }), [pod(5)], ["6 old"], [], "old"],
  ["one that ended is made anew, and what follows waits", set(2), [pod(0, { phase: "Failed" })], [], ["db-0"], "old"],
  ["scaling down takes the last, one by one", set(1), [pod(0), pod(1), pod(2)], [], ["db-2"], "old"],
  ["and waits for it to be gone", set(1), [pod(0), pod(1), pod(2, { leaving: true })], [], [], "old"],
  ["one that works goes, although one before it is broken", set(1), [pod(0), pod(1, BROKEN), pod(2)], [], ["db-2"], "old"],
  ["a broken one goes when it is its turn", set(1), [pod(0), pod(1), pod(2, BROKEN)], [], ["db-2"], "old"],
  ["but not while one before it is broken too", set(1), [pod(0), pod(1, BROKEN), pod(2, BROKEN)], [], [], "old"],
  ["nobody waits for two that have ended", set(1), [pod(0), pod(1, { phase: "Failed" }), pod(2, { phase: "Failed" })], [], ["db-2"], "old"],
  ["in parallel all go at once", set(1, parallel), [pod(0), pod(1), pod(2, BROKEN)], [], ["db-1", "db-2"], "old"],
  ["a higher start leaves the lower ones behind", set(2, { ordinals: { start: 1 } }), [pod(0), pod(1), pod(2)], [], ["db-0"], "old"],
  ["an update begins at the last", set(3), [pod(0), pod(1), pod(2)], [], ["db-2"], "new"],
  ["and goes on when that one works", set(3), [pod(0), pod(1), pod(2, { revision: "new" })], [], ["db-1"], "new"],
  ["and waits while it doesn't", set(3), [pod(0), pod(1), pod(2, { revision: "new", ...BROKEN })], [], [], "new"],
  ["what is made anew is of the new revision", set(3), [pod(0), pod(1)], ["2 new"], [], "new"],
  ["below the partition nothing changes", set(3, rolling({ partition: 2 })), [pod(0), pod(1), pod(2, { revision: "new" })], [], [], "new"],
  ["also what is made anew", set(3, rolling({ partition: 2 })), [pod(1), pod(2)], ["0 old"], [], "new"],
  ["the partition counts from the start", set(2, rolling({ partition: 1 }, { ordinals: { start: 5 } })), [pod(5), pod(6)], [], ["db-6"], "new"],
  ["several at a time", set(4, rolling({ partition: 0, maxUnavailable: 2 })), [pod(0), pod(1), pod(2), pod(3)], [], ["db-2", "db-3"], "new"],
  ["a share of them rounds down, to one at least", set(3, rolling({ partition: 0, maxUnavailable: "50%" })), [pod(0), pod(1), pod(2)], [], ["db-2"], "new"],
  ["OnDelete replaces nothing", set(2, { updateStrategy: { type: "OnDelete" } }), [pod(0), pod(1)], [], [], "new"],
  ["but makes anew by the new template", set(2, { updateStrategy: { type: "OnDelete" } }), [pod(0)], ["1 new"], [], "new"],
  ["in parallel an old broken one doesn't hold up the update", set(2, parallel), [pod(0, BROKEN), pod(1)], [], ["db-1"], "new"],
  ["in order a broken one holds up the way back until somebody deletes it", set(2), [pod(0), pod(1, { revision: "bad", ...BROKEN })], [], [], "old"],
] as const) {
  test(title, (t) => {
    const made = plan(s, pods, revision);
    t.deepEqual([made.create.map((c) => `${c.ordinal} ${c.revision}`), made.remove.map((p) => p.metadata.name!).sort()], [[...create], [...remove]]);
  });
}

test("what the next one waits for is named", (t) => {
  t.is(plan(set(3), [pod(0), pod(1, BROKEN)]).waitsFor?.metadata.name, "db-1");
});

test("the status counts both revisions, and the update becomes current when all run it", (t) => {
  const s = set(3, { minReadySeconds: 60 });
  const half = plan(s, [pod(0), pod(1, { revision: "new", ready: 20 }), pod(2, { revision: "new", leaving: true })], "new");
  t.deepEqual(half.status, { observedGeneration: 3, replicas: 3, readyReplicas: 3, availableReplicas: 2, currentReplicas: 1, updatedReplicas: 1, currentRevision: "old", updateRevision: "new" });
  t.is(half.againMs, 40_000);
  const whole = plan(s, [0, 1, 2].map((i) => pod(i, { revision: "new" })), "new");
  t.like(whole.status, { currentRevision: "new", updateRevision: "new", currentReplicas: 3, updatedReplicas: 3 });
});

test("a pod knows who it is, and its claims come before volumes of the same name", (t) => {
  const s = set(1, { volumeClaimTemplates: [{ apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name: "data" }, spec: {} }] });
  const plain = template({ app: "db" });
  const made = newStatefulPod(s, { ...plain, spec: { ...plain.spec!, volumes: [{ name: "data", emptyDir: {} }, { name: "tmp", emptyDir: {} }] } }, "rev", 4, NOW, IDS);
  t.like(made.metadata, { name: "db-4", labels: { app: "db", "statefulset.kubernetes.io/pod-name": "db-4", "apps.kubernetes.io/pod-index": "4", [REVISION_HASH]: "rev" } });
  t.like(made.spec, { hostname: "db-4", subdomain: "svc" });
  t.deepEqual(made.spec!.volumes, [{ name: "data", persistentVolumeClaim: { claimName: "data-db-4" } }, { name: "tmp", emptyDir: {} }]);
  t.is(withIdentity(s, made), undefined);
  t.is(withIdentity(s, { ...made, metadata: { ...made.metadata, labels: { app: "db" } } })!.metadata.labels!["apps.kubernetes.io/pod-index"], "4");
  for (const [name, ordinal] of [["db-0", 0], ["db-12", 12], ["db-01", -1], ["db-x", -1], ["other-1", -1], ["db--1", -1]] as const) t.is(ordinalOf(s, { ...made, metadata: { name } }), ordinal, name);
});

for (const [whenDeleted, whenScaled, condemned, owner] of [
  ["Retain", "Retain", true, undefined], ["Delete", "Retain", true, "StatefulSet"], ["Retain", "Delete", true, "Pod"], ["Retain", "Delete", false, undefined], ["Delete", "Delete", true, "Pod"], ["Delete", "Delete", false, "StatefulSet"],
] as const) {
  test(`claims with whenDeleted ${whenDeleted} and whenScaled ${whenScaled} of a pod that ${condemned ? "goes" : "stays"} belong to ${owner ?? "nobody"}`, (t) => {
    const s = set(1, { persistentVolumeClaimRetentionPolicy: { whenDeleted, whenScaled } });
    const foreign = { apiVersion: "v1", kind: "ConfigMap", name: "c", uid: "c" };
    const claim: PersistentVolumeClaim = { apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name: "data-db-0", namespace: NS, ownerReferences: [foreign, { apiVersion: "v1", kind: "Pod", name: "db-0", uid: "earlier" }] } };
    const after = withClaimOwners(s, claim, condemned ? pod(0) : undefined);
    t.deepEqual(after.metadata.ownerReferences!.map((r) => r.kind), ["ConfigMap", ...(owner ? [owner] : [])]);
    t.is(withClaimOwners(s, after, condemned ? pod(0) : undefined), after);
  });
}

const staging = (more: number, atMs: number): Pick<StatefulSet, "metadata"> => ({ metadata: { ...set(0).metadata, annotations: { [STAGED_REPLICAS]: stagedReplicasText({ more, atMs, by: "night" }) } } });
const SOON = NOW + 20_000;
const ahead = (ordinal: number, atMs = SOON, traits: Traits = {}): Pod => startingAt(pod(ordinal, { phase: "Pending", ...traits }), atMs);
const staged = (replicas: number, more: number, atMs = SOON, spec: Partial<StatefulSetSpec> = {}): StatefulSet => ({ ...set(replicas, spec), ...staging(more, atMs) });

for (const [title, s, pods, create, remove] of [
  ["in parallel all are made", staged(1, 3, SOON, parallel), [pod(0)], ["1 ahead", "2 ahead", "3 ahead"], []],
  ["but those that are there", staged(1, 3, SOON, parallel), [pod(0), ahead(2)], ["1 ahead", "3 ahead"], []],
  ["beside what is lacking now", staged(2, 1, SOON, parallel), [pod(0)], ["1", "2 ahead"], []],
  ["in order the next one is", staged(1, 3), [pod(0)], ["1 ahead"], []],
  ["and no other", staged(1, 3), [pod(0), ahead(1)], [], []],
  ["while it need not wait for others", staged(2, 3), [pod(0), pod(1, BROKEN)], [], []],
  ["else it goes again", staged(2, 3), [pod(0), pod(1, BROKEN), ahead(2)], [], ["db-2"]],
  ["for another instant they are made anew", staged(1, 1, SOON, parallel), [pod(0), ahead(1, SOON + 5000)], [], ["db-1"]],
  ["of an old revision too", staged(1, 1, SOON, parallel), [pod(0), ahead(1, SOON, { revision: "older" })], [], ["db-1"]],
  ["called off, they go at once", set(1), [pod(0), ahead(1)], [], ["db-1"]],
  ["an ordinal that is wanted now can't wait for its instant", set(2), [pod(0), ahead(1)], [], ["db-1"]],
  ["at the instant they are replicas, also before the set is scaled", staged(1, 2, NOW, parallel), [pod(0), ahead(1, NOW), ahead(2, NOW)], [], []],
  ["in order the others then follow", staged(1, 2, NOW), [pod(0), startingAt(pod(1), NOW)], ["2"], []],
] as const) {
  test(`ahead of a scale-up: ${title}`, (t) => {
    const made = plan(s, pods);
    t.deepEqual([made.create.map((c) => `${c.ordinal}${c.startAtMs === SOON ? " ahead" : ""}`), made.remove.map((p) => p.metadata.name!)], [[...create], [...remove]]);
    t.is(made.status.replicas, pods.filter((p) => !isAhead(p, NOW)).length, "what waits is no replica");
  });
}

test("whatever happens to its pods, a set ends as wanted, and keeps order and bounds on the way (seeded)", (t) => {
  let state = 23;
  const random = (n: number): number => (state = (state * 48271) % 2147483647) % n;
  for (let run = 0; run < 120; run++) {
    const ordered = run % 2 === 0;
    const limit = 1 + random(2);
    const start = random(3);
    let s = set(1 + random(6), { podManagementPolicy: ordered ? "OrderedReady" : "Parallel", ordinals: { start }, ...rolling({ partition: 0, maxUnavailable: limit }) });
    let revision = "r0";
    let current = "r0";
    let pods: Pod[] = [];
    for (let step = 0; ; step++) {
      t.true(step < 800, `run ${run} does not end`);
      if (step < 200 && random(30) === 0) s = { ...s, spec: { ...s.spec!, replicas: random(7) } };
      if (step < 200 && random(40) === 0) revision = `r${step}`;
      const nowMs = NOW + step * 1000;
      if (step < 200 && random(15) === 0) s = { ...s, ...staging(random(4), nowMs + random(20) * 1000) };
      if (step >= 200) s = { ...s, metadata: { ...s.metadata, annotations: {} } };
      const next = reconcile({ set: s, pods, currentRevision: current, updateRevision: revision, nowMs });
      current = next.status.currentRevision!;
      const now = next.create.filter((c) => c.startAtMs === undefined);
      if (ordered) {
        t.true(now.length + next.remove.filter((p) => !isAhead(p, nowMs)).length <= limit);
        t.true(next.create.length - now.length <= 1, "one is made ahead");
        const others = pods.filter((p) => !isAhead(p, nowMs) && ordinalOf(s, p) < start + s.spec!.replicas!);
        if (!others.every((p) => isReady(p) && !p.metadata.deletionTimestamp)) t.true(pods.every((p) => !isAhead(p, nowMs) || p.metadata.deletionTimestamp || next.remove.includes(p)), "none may overtake");
        for (const { ordinal } of next.create) t.true(pods.filter((p) => ordinalOf(s, p) < ordinal && ordinalOf(s, p) >= start).every((p) => isReady(p) && !p.metadata.deletionTimestamp), `run ${run}: ${ordinal} came out of order`);
      }
      const wanted = pods.filter((p) => ordinalOf(s, p) >= start && ordinalOf(s, p) < start + s.spec!.replicas!);
      const updated = next.remove.filter((p) => wanted.includes(p) && !isTerminal(p) && !isAhead(p, nowMs));
      t.true(updated.length === 0 || updated.length <= limit, `run ${run}: ${updated.length} at once`);
      t.true(next.create.every((c) => !pods.some((p) => ordinalOf(s, p) === c.ordinal)));
      const removed = new Set(next.remove);
      pods = pods.map((p) => (removed.has(p) ? { ...p, metadata: { ...p.metadata, deletionTimestamp: at(0) } } : p));
      pods.push(...next.create.map((c) => {
        const made = pod(c.ordinal, { revision: c.revision, phase: "Pending" });
        return c.startAtMs === undefined ? made : startingAt(made, c.startAtMs);
      }));
      pods = pods.filter((p) => !p.metadata.deletionTimestamp || random(2) === 0).map((p) => {
        if (p.metadata.deletionTimestamp || isAhead(p, nowMs) || random(3) > 0) return p;
        if (step < 200 && random(20) === 0) return { ...p, status: { phase: "Failed" } };
        return p.status?.phase === "Pending" ? { ...p, status: { phase: "Running", conditions: [{ type: "Ready", status: "True", lastTransitionTime: at(1000) }] } } : p;
      });
      const settled = step >= 200 && pods.length === s.spec!.replicas && pods.every((p) => isReady(p) && !p.metadata.deletionTimestamp && revisionOf(p) === revision);
      if (settled && current === revision) break;
    }
    t.deepEqual(pods.map((p) => ordinalOf(s, p)).sort((a, b) => a - b), Array.from({ length: s.spec!.replicas! }, (_, i) => start + i));
  }
});
