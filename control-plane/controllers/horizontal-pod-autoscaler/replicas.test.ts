import test from "ava";
import type { Pod } from "../../../base/kube/types.gen.ts";
import { randomFrom } from "../../../test/helpers/random.ts";
import { timestamp } from "../objects.ts";
import { replicasForAverage, replicasForUtilization } from "./replicas.ts";
import type { Answer, Question, Reading } from "./replicas.ts";

const NOW = Date.UTC(2026, 0, 1, 12);
const TOLERANCES = { up: 0.1, down: 0.1 };

interface Given {
  /** Milli-CPU; undefined: no reading. */
  readonly uses?: number | undefined;
  readonly requests?: string | undefined;
  readonly phase?: string;
  readonly ready?: boolean;
  readonly startedS?: number;
  readonly readyS?: number;
  readonly marked?: boolean;
}

/** Pods that have been ready for long, each with one container that requests a CPU, unless told otherwise. */
const question = (replicas: number, given: readonly Given[], tolerances = TOLERANCES): Question => {
  const pods = given.map(({ requests = "1", phase = "Running", ready = true, startedS = 3600, readyS = startedS, marked }, i): Pod => ({
    apiVersion: "v1", kind: "Pod", metadata: { name: `p${i}`, namespace: "default", ...(marked && { deletionTimestamp: timestamp(NOW) }) },
    spec: { containers: [{ name: "c", image: "i", ...(requests !== "" && { resources: { requests: { cpu: requests } } }) }] },
    status: { phase, startTime: timestamp(NOW - startedS * 1000), conditions: [{ type: "Ready", status: ready ? "True" : "False", lastTransitionTime: timestamp(NOW - readyS * 1000) }] },
  }));
  const readings = new Map(given.flatMap(({ uses }, i): [string, Reading][] => (uses === undefined ? [] : [[`p${i}`, { milli: uses, atMs: NOW, windowMs: 10_000 }]])));
  return { replicas, pods, readings, tolerances, nowMs: NOW };
};
const utilization = (percent: number, replicas: number, given: readonly Given[], tolerances = TOLERANCES): Answer => replicasForUtilization(question(replicas, given, tolerances), "cpu", undefined, percent);
const uses = (...milli: (number | undefined)[]): Given[] => milli.map((n) => ({ uses: n }));

// The cases of upstream's replica_calculator_test.go.
const CASES: readonly (readonly [string, number, number, readonly Given[], number])[] = [
  ["scale up", 30, 3, uses(300, 500, 700), 5],
  ["scale up with an unready pod: it counts as idle", 30, 3, [{ uses: 300, ready: false, readyS: 3600 }, ...uses(500, 700)], 4],
  ["a hot CPU while it starts up counts for nothing", 30, 3, [{ uses: 300, startedS: 120, readyS: 3 }, { uses: 500, startedS: 120, readyS: 3 }, ...uses(700)], 3],
  ["scale up with a failed pod: it isn't counted", 30, 2, [...uses(500, 700), { phase: "Failed" }], 4],
  ["scale up with a pod that is being deleted", 30, 2, [...uses(500, 700), { uses: 100, marked: true }], 4],
  ["scale down", 50, 5, uses(100, 300, 500, 250, 250), 3],
  ["scale down where a pod is not ready", 50, 5, [...uses(100, 300, 500, 250), { uses: 250, ready: false, readyS: 3600 }], 3],
  ["within the tolerance", 100, 3, [{ uses: 1010, requests: "900m" }, { uses: 1030, requests: "1000m" }, { uses: 1020, requests: "1100m" }], 3],
  ["a missing pod on the way up counts as idle", 50, 3, uses(1000, 900, undefined), 4],
  ["... which may take the reason away", 50, 2, uses(900, undefined), 2],
  ["a missing pod on the way down counts as full", 50, 3, uses(100, 100, undefined), 3],
  ["... which may still leave too many", 100, 4, uses(100, 100, 100, undefined), 2],
  ["a pod that is pending", 50, 3, [...uses(1000, 900), { phase: "Pending" }], 4],
];
for (const [name, percent, replicas, given, wanted] of CASES) test(`utilization: ${name}`, (t) => void t.is(utilization(percent, replicas, given).replicas, wanted));

test("what it answers besides: the share and the average, without pods that don't count", (t) => {
  t.like(utilization(30, 3, uses(300, 500, 700)), { percent: 50, averageMilli: 500 });
});

test("an amount per pod: unready pods count where it isn't CPU, missing ones as the target on the way down", (t) => {
  const average = (target: number, replicas: number, given: readonly Given[]): number => replicasForAverage(question(replicas, given), undefined, target).replicas;
  t.is(average(15_000, 3, uses(20_000, 10_000, 30_000)), 4);
  t.is(average(20_000, 5, uses(12_000, 12_000, 12_000, 12_000, 12_000)), 3);
  t.is(average(20_000, 3, [{ uses: 50_000, ready: false, startedS: 60 }, ...uses(10_000, 30_000)]), 5);
  t.is(average(10_000, 2, uses(5000, undefined)), 2);
  t.is(average(10_000, 4, uses(1000, 1000, 1000, undefined)), 2);
});

test("tolerances are each direction's own", (t) => {
  t.is(utilization(100, 10, uses(...Array<number>(10).fill(1100))).replicas, 10);
  t.is(utilization(100, 10, uses(...Array<number>(10).fill(1100)), { up: 0.05, down: 0.1 }).replicas, 11, "not 12, for all that 1.1 is no binary fraction");
  t.is(utilization(100, 10, uses(...Array<number>(10).fill(950)), { up: 0.1, down: 0 }).replicas, 10, "9.5 pods are 10");
  t.is(utilization(100, 10, uses(...Array<number>(10).fill(870)), { up: 0.1, down: 0.2 }).replicas, 10);
});

test("too little is known: which pod, which container, in upstream's words", (t) => {
  t.throws(() => utilization(50, 1, []), { message: "no pods returned by selector while calculating replica count" });
  t.throws(() => utilization(50, 1, [{ phase: "Pending" }]), { message: "did not receive metrics for targeted pods (pods might be unready)" });
  t.throws(() => utilization(50, 1, [{ uses: 1, requests: "" }]), { message: "missing request for cpu in container c of Pod p0" });
});

test("whatever pods do: the answer goes the way of the usage, never past what every pod at once would justify", (t) => {
  const random = randomFrom(5);
  const below = (n: number): number => Math.floor(random() * n);
  for (let i = 0; i < 2000; i++) {
    const given = Array.from({ length: 1 + below(8) }, (): Given => ({
      uses: random() < 0.8 ? below(2000) : undefined, phase: random() < 0.9 ? "Running" : "Pending", ready: random() < 0.8, startedS: below(600), readyS: below(600), marked: random() < 0.1,
    }));
    const percent = 1 + below(150);
    let answer: Answer;
    try {
      answer = utilization(percent, given.length, given);
    } catch {
      continue;
    }
    const ratio = answer.percent! / percent;
    if (ratio >= 0.9 && ratio <= 1.1) t.is(answer.replicas, given.length);
    t.true(answer.replicas >= 0 && Number.isInteger(answer.replicas));
    t.true(answer.replicas <= Math.max(given.length, Math.ceil(ratio * given.length)), JSON.stringify({ given, percent, answer }));
  }
});
