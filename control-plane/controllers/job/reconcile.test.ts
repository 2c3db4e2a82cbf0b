import test from "ava";
import type { Job, JobSpec, Pod, PodFailurePolicyRule } from "../../../base/kube/types.gen.ts";
import { isActive, isTerminal } from "../objects.ts";
import { NS, template } from "../testing.ts";
import { HOLD, isHeld } from "./counting.ts";
import { newJob } from "./defaults.ts";
import { judge } from "./failure-policy.ts";
import { COMPLETION_INDEX, FAILURE_COUNT, IGNORED_FAILURE_COUNT, metSuccessRule, parseIndexes, templateAt } from "./indexes.ts";
import { reconcile } from "./reconcile.ts";
import type { Plan } from "./reconcile.ts";

const NOW = Date.UTC(2026, 0, 1, 12);
const at = (secondsAgo: number): string => `${new Date(NOW - secondsAgo * 1000).toISOString().slice(0, 19)}Z`;

const job = (spec: Partial<JobSpec>): Job => {
  const plain = template({});
  return newJob({ name: "j", namespace: NS, uid: "j", creationTimestamp: at(1000) }, { template: { ...plain, spec: { ...plain.spec!, restartPolicy: "Never" } }, ...spec });
};

interface Traits { phase?: string; index?: number; failures?: number; ignored?: number; code?: number; container?: string; condition?: string; held?: boolean; deleting?: boolean; node?: string; ended?: number; init?: boolean }
const pod = (name: string, { phase = "Running", index, failures, ignored, code, container = "main", condition, held = true, deleting = false, node = "n", ended = 1000, init = false }: Traits = {}): Pod => {
  const statuses = code === undefined ? [] : [{ name: container, ready: false, restartCount: 0, image: "", imageID: "", state: { terminated: { exitCode: code, finishedAt: at(ended) } } }];
  return {
    apiVersion: "v1", kind: "Pod",
    metadata: {
      name, namespace: NS, uid: name, creationTimestamp: at(ended + 1), ...(held && { finalizers: [HOLD] }), ...(deleting && { deletionTimestamp: at(ended) }),
      annotations: {
        ...(index !== undefined && { [COMPLETION_INDEX]: String(index) }), ...(failures !== undefined && { [FAILURE_COUNT]: String(failures) }),
        ...(ignored !== undefined && { [IGNORED_FAILURE_COUNT]: String(ignored) }),
      },
    },
    spec: { containers: [], ...(node && { nodeName: node }) },
    status: { phase, ...(init ? { initContainerStatuses: statuses } : { containerStatuses: statuses }), ...(condition && { conditions: [{ type: condition, status: "True" }] }) },
  };
};
const ending = (plan: Plan): readonly (readonly string[])[] => (plan.status.conditions ?? []).filter((c) => c.status === "True").map((c) => [c.type, c.reason!]);
const attempts = (plan: Plan) => plan.create.map((a) => [a!.index, a!.failures?.counted, a!.failures?.ignored]);

const RULES: readonly PodFailurePolicyRule[] = [
  { action: "FailJob", onExitCodes: { containerName: "main", operator: "In", values: [42] } },
  { action: "Ignore", onPodConditions: [{ type: "DisruptionTarget" }] },
  { action: "FailIndex", onExitCodes: { operator: "In", values: [7, 8] } },
  { action: "Count", onExitCodes: { operator: "NotIn", values: [1, 2] } },
];

for (const [title, given, action, message] of [
  ["a code in the list of its container", { code: 42 }, "FailJob", "Container main for pod default/p failed with exit code 42 matching FailJob rule at index 0"],
  ["the same code of another container goes on to the next rule", { code: 42, container: "side" }, "Count", "Container side for pod default/p failed with exit code 42 matching Count rule at index 3"],
  ["a condition", { condition: "DisruptionTarget", code: 137 }, "Ignore", "Pod default/p has condition DisruptionTarget matching Ignore rule at index 1"],
  ["any container, an init container too", { code: 8, init: true }, "FailIndex", "Container main for pod default/p failed with exit code 8 matching FailIndex rule at index 2"],
  ["NotIn", { code: 9 }, "Count", "Container main for pod default/p failed with exit code 9 matching Count rule at index 3"],
  ["no rule", { code: 1 }, "Count", ""],
  ["success never matches NotIn", { code: 0 }, "Count", ""],
] as const) {
  test(`failure policy: ${title}`, (t) => t.deepEqual(judge({ rules: [...RULES] }, pod("p", { phase: "Failed", ...given })), { action, message }));
}

test("a fatal failure ends the job at once, and what runs is ended and counted", (t) => {
  const j = job({ parallelism: 3, completions: 5, podFailurePolicy: { rules: [...RULES] } });
  const plan = reconcile(j, [pod("a", { phase: "Failed", code: 42 }), pod("b")], NOW);
  t.deepEqual(ending(plan), [["FailureTarget", "PodFailurePolicy"]]);
  t.deepEqual([plan.end.map((p) => p.metadata.name), plan.remove, plan.create], [["b"], [], []]);
  t.is(plan.status.failed, 1);
  const later = reconcile({ ...j, status: plan.status }, [pod("b", { phase: "Failed", code: 137 })], NOW);
  t.deepEqual(ending(later), [["FailureTarget", "PodFailurePolicy"], ["Failed", "PodFailurePolicy"]]);
  t.regex(later.status.conditions!.at(-1)!.message!, /exit code 42/);
  t.is(later.status.failed, 2);
});

test("an ignored failure is replaced and never counted", (t) => {
  const j = job({ backoffLimit: 0, podFailurePolicy: { rules: [...RULES] } });
  const lost = pod("a", { phase: "Failed", condition: "DisruptionTarget", code: 137 });
  const plan = reconcile(j, [lost], NOW);
  t.is(plan.status.failed, undefined);
  t.deepEqual(plan.status.uncountedTerminatedPods, {});
  t.deepEqual(plan.release, [lost]);
  t.is(plan.create.length, 1);
});

test("with a failure policy a pod on its way out is neither failed nor replaced before it ended", (t) => {
  const j = job({ podFailurePolicy: { rules: [...RULES] } });
  t.is(j.spec!.podReplacementPolicy, "Failed");
  const plan = reconcile(j, [pod("a", { deleting: true })], NOW);
  t.deepEqual([plan.create.length, plan.status.failed, plan.status.terminating], [0, undefined, 1]);
  // Never placed: no agent will ever tell.
  t.is(reconcile(j, [pod("a", { deleting: true, node: "" })], NOW).status.failed, 1);
});

test("each index has its own limit and its own delay, and its last failed pod stays until its successor is there", (t) => {
  const j = job({ completionMode: "Indexed", completions: 4, parallelism: 4, backoffLimitPerIndex: 2 });
  t.is(j.spec!.backoffLimit, 2 ** 31 - 1);
  const pods = [
    pod("zero", { index: 0, failures: 0, phase: "Failed", code: 1, ended: 5 }), pod("one", { index: 1, failures: 1, phase: "Failed", code: 1, ended: 30 }),
    pod("two", { index: 2, failures: 2, phase: "Failed", code: 1 }), pod("three", { index: 3, failures: 0 }),
  ];
  const plan = reconcile(j, pods, NOW);
  t.is(plan.status.failedIndexes, "2");
  t.is(plan.status.failed, 3);
  t.deepEqual(attempts(plan), [[1, 2, 0]]);
  t.is(plan.againMs, 5000);
  t.deepEqual(plan.release.map((p) => p.metadata.name), ["two"]);
  const next = reconcile({ ...j, status: plan.status }, [...pods, pod("one-again", { index: 1, failures: 2 })], NOW);
  t.deepEqual(next.release.map((p) => p.metadata.name), ["one", "two"]);
  t.is(next.status.failed, 3);
});

test("an ignored failure lengthens an index's delay but not its count", (t) => {
  const j = job({ completionMode: "Indexed", completions: 1, backoffLimitPerIndex: 1, podFailurePolicy: { rules: [...RULES] } });
  const plan = reconcile(j, [pod("a", { index: 0, failures: 1, ignored: 3, phase: "Failed", condition: "DisruptionTarget" })], NOW);
  t.is(plan.status.failedIndexes, "");
  t.deepEqual(attempts(plan), [[0, 1, 4]]);
});

for (const [title, spec, pods, expected] of [
  ["FailIndex spares the other indexes", {}, [pod("a", { index: 0, failures: 0, phase: "Failed", code: 7 }), pod("b", { index: 1, failures: 0 })], []],
  ["all indexes ended, some failed", {}, [pod("a", { index: 0, failures: 0, phase: "Failed", code: 7 }), pod("b", { index: 1, phase: "Succeeded" }), pod("c", { index: 2, phase: "Succeeded" })], [["FailureTarget", "FailedIndexes"], ["Failed", "FailedIndexes"]]],
  ["more failed indexes than allowed", { maxFailedIndexes: 0 }, [pod("a", { index: 0, failures: 0, phase: "Failed", code: 7 }), pod("b", { index: 1, failures: 0 })], [["FailureTarget", "MaxFailedIndexesExceeded"]]],
  ["the leader is done", { successPolicy: { rules: [{ succeededIndexes: "0" }] } }, [pod("a", { index: 0, phase: "Succeeded" }), pod("b", { index: 1, failures: 0 })], [["SuccessCriteriaMet", "SuccessPolicy"]]],
  ["failure goes before success", { maxFailedIndexes: 0, successPolicy: { rules: [{ succeededCount: 1 }] } }, [pod("a", { index: 0, phase: "Succeeded" }), pod("b", { index: 1, phase: "Failed", code: 7 })], [["FailureTarget", "MaxFailedIndexesExceeded"], ["Failed", "MaxFailedIndexesExceeded"]]],
] as const) {
  test(`ending: ${title}`, (t) => {
    const j = job({ completionMode: "Indexed", completions: 3, parallelism: 3, backoffLimitPerIndex: 1, podFailurePolicy: { rules: [...RULES] }, ...spec as Partial<JobSpec> });
    t.deepEqual(ending(reconcile(j, pods, NOW)), expected);
  });
}

test("after the success policy is met, what runs is ended, and the job completes when it is gone", (t) => {
  const j = job({ completionMode: "Indexed", completions: 3, parallelism: 3, successPolicy: { rules: [{ succeededIndexes: "0" }] } });
  const plan = reconcile(j, [pod("a", { index: 0, phase: "Succeeded" }), pod("b", { index: 1 })], NOW);
  t.is(plan.status.conditions![0]!.message, "Matched rules at index 0");
  t.deepEqual(plan.end.map((p) => p.metadata.name), ["b"]);
  const later = reconcile({ ...j, status: plan.status }, [pod("a", { index: 0, phase: "Succeeded" })], NOW);
  t.deepEqual(ending(later).map(([type]) => type), ["SuccessCriteriaMet", "Complete"]);
  t.like(later.status, { succeeded: 1, completedIndexes: "0" });
});

for (const [succeeded, rules, expected] of [
  ["0-2", [{ succeededCount: 3 }], 0],
  ["0-1", [{ succeededCount: 3 }], undefined],
  ["1-4", [{ succeededIndexes: "0" }, { succeededIndexes: "0-9", succeededCount: 4 }], 1],
  ["0,2", [{ succeededIndexes: "0,2" }], 0],
  ["0", [{ succeededIndexes: "0,2" }], undefined],
] as const) {
  test(`success policy ${JSON.stringify(rules)} with ${succeeded} done`, (t) => t.is(metSuccessRule({ rules: rules.map((r) => ({ ...r })) }, parseIndexes(succeeded)), expected));
}

test("completions may shrink with parallelism: results beyond them no longer count", (t) => {
  const j = job({ completionMode: "Indexed", completions: 2, parallelism: 2 });
  const plan = reconcile({ ...j, status: { completedIndexes: "0,3", succeeded: 2 } }, [pod("b", { index: 1 }), pod("d", { index: 3 })], NOW);
  t.like(plan.status, { completedIndexes: "0", succeeded: 1 });
  t.deepEqual(plan.remove.map((p) => p.metadata.name), ["d"]);
});

test("interrupted at any write, a job counts every pod exactly once (seeded)", (t) => {
  let state = 5;
  const random = (n: number): number => (state = (state * 48271) % 2147483647) % n;
  for (let run = 0; run < 200; run++) {
    const indexed = run % 2 === 1;
    const perIndex = run % 4 === 3;
    const policy = run % 3 === 0;
    const completions = 1 + random(20);
    let current = job({
      parallelism: 1 + random(8), completions, backoffLimit: 1000, completionMode: indexed ? "Indexed" : "NonIndexed", ...(perIndex && { backoffLimitPerIndex: 2 }),
      ...(policy && { podFailurePolicy: { rules: [{ action: "Ignore", onPodConditions: [{ type: "DisruptionTarget" }] }] } }),
    });
    let pods: Pod[] = [];
    let made = 0;
    /** Uids of pods that ended while their result counted: what must be in the sums at the end. */
    const ended = { won: new Set<string>(), lost: new Set<string>(), ignored: new Set<string>() };
    const marked = new Set<string>();
    const uncounted = new Set<string>();
    const indexesWon = new Set<number>();
    let nowMs = NOW;
    for (let step = 0; step < 600; step++) {
      nowMs += 700_000;
      // Users: a pod is marked for deletion, or the job rests for a while.
      pods = pods.map((p) => (isActive(p) && random(25) === 0 ? { ...p, metadata: { ...p.metadata, deletionTimestamp: at(0) } } : p));
      if (step < 300 ? random(30) === 0 : current.spec!.suspend) current = { ...current, spec: { ...current.spec!, suspend: !current.spec!.suspend } };
      const plan = reconcile(current, pods, nowMs);
      for (const p of pods) if (p.metadata.deletionTimestamp && !uncounted.has(p.metadata.uid!)) marked.add(p.metadata.uid!);
      // No index has two pods at once.
      const running = pods.filter((p) => !isTerminal(p)).map((p) => p.metadata.annotations?.[COMPLETION_INDEX]).concat(plan.create.filter((a) => a !== undefined).map((a) => String(a.index)));
      if (indexed) t.is(new Set(running).size, running.length);
      t.true(pods.filter(isActive).length + plan.create.length <= Math.max(current.spec!.parallelism!, pods.filter(isActive).length));
      // The process may die after each of the writes below, in this order; the next pass begins with what was written.
      const diesAfter = random(6);
      current = { ...current, status: plan.status };
      if (diesAfter === 0) continue;
      const released = new Set(plan.release.slice(0, diesAfter === 1 ? random(plan.release.length + 1) : plan.release.length).map((p) => p.metadata.uid));
      pods = pods.map((p) => (released.has(p.metadata.uid) ? { ...p, metadata: { ...p.metadata, finalizers: undefined } } : p));
      if (diesAfter === 1) continue;
      const removed = new Set(plan.remove.map((p) => p.metadata.uid!));
      const stopped = new Set(plan.end.map((p) => p.metadata.uid!));
      pods = pods.map((p) => {
        if (removed.has(p.metadata.uid!) && isActive(p)) {
          uncounted.add(p.metadata.uid!);
          return { ...p, metadata: { ...p.metadata, finalizers: undefined, deletionTimestamp: at(0) } };
        }
        return stopped.has(p.metadata.uid!) ? { ...p, metadata: { ...p.metadata, deletionTimestamp: at(0) } } : p;
      });
      if (diesAfter === 2) continue;
      for (const attempt of plan.create) {
        const annotations = attempt && templateAt(current, template({}), attempt).metadata!.annotations!;
        pods.push({ apiVersion: "v1", kind: "Pod", metadata: { name: `p${made}`, uid: `u${made++}`, finalizers: [HOLD], creationTimestamp: at(0), ...(annotations && { annotations }) }, spec: { containers: [], nodeName: "n" }, status: { phase: "Running" } });
      }
      // Agents: some pods end. Users and the collector: pods without a hold may vanish at any time, ended or stopped.
      pods = pods.map((p) => {
        if (p.status!.phase !== "Running" || random(p.metadata.deletionTimestamp ? 2 : 4) !== 0) return p;
        const phase = random(4) === 0 ? "Failed" : "Succeeded";
        const ignored = policy && phase === "Failed" && random(2) === 0;
        if (!uncounted.has(p.metadata.uid!)) ended[phase === "Succeeded" ? "won" : ignored ? "ignored" : "lost"].add(p.metadata.uid!);
        if (phase === "Succeeded") indexesWon.add(Number(p.metadata.annotations?.[COMPLETION_INDEX]));
        return { ...p, status: { phase, ...(ignored && { conditions: [{ type: "DisruptionTarget", status: "True" }] }) } };
      });
      pods = pods.filter((p) => isHeld(p) || !(isTerminal(p) || p.metadata.deletionTimestamp) || random(2) === 0);
      if (current.status?.conditions?.some((c) => c.type === "Complete" || c.type === "Failed") && !pods.some(isHeld)) break;
    }
    const { status } = current;
    const done = status?.conditions?.find((c) => c.type === "Complete" || c.type === "Failed");
    t.truthy(done, `run ${run} does not end: ${JSON.stringify(status)} ${JSON.stringify(pods)}`);
    if (perIndex && done!.type === "Failed") t.is(done!.reason, "FailedIndexes");
    const sum = (status!.succeeded ?? 0) + (status!.failed ?? 0);
    if (indexed) {
      t.is(status!.succeeded ?? 0, parseIndexes(status!.completedIndexes).size);
      t.true([...parseIndexes(status!.completedIndexes)].every((i) => indexesWon.has(i)));
      t.is(parseIndexes(status!.completedIndexes).size + parseIndexes(status!.failedIndexes).size, completions);
    } else if (policy) {
      // Only what ended is counted, each by how it ended.
      t.deepEqual([status!.succeeded ?? 0, status!.failed ?? 0], [ended.won.size, ended.lost.size], `run ${run}`);
    } else {
      // A marked pod has failed as soon as it is marked, however it ends then.
      t.is(sum, new Set([...ended.won, ...ended.lost, ...marked]).size, `run ${run}`);
      t.true((status!.succeeded ?? 0) <= ended.won.size && (status!.succeeded ?? 0) >= completions);
    }
  }
});
