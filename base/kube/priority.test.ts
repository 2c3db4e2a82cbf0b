import test from "ava";
import { withPriority } from "./priority.ts";
import type { Pod, PodSpec, PriorityClass } from "./types.gen.ts";

const made = (name: string, value: number, more: Partial<PriorityClass> = {}): PriorityClass => ({ apiVersion: "scheduling.k8s.io/v1", kind: "PriorityClass", metadata: { name }, value, ...more });
const admitted = (spec: Partial<PodSpec>, ...classes: PriorityClass[]): Partial<PodSpec> => {
  const pod: Pod = { apiVersion: "v1", kind: "Pod", metadata: { name: "p" }, spec: { containers: [], ...spec } };
  const { priority, priorityClassName, preemptionPolicy } = withPriority(pod, { byName: (name) => classes.find((c) => c.metadata.name === name), all: () => classes }).spec!;
  return { priority, priorityClassName, preemptionPolicy };
};
const POLITE = made("polite", 500, { preemptionPolicy: "Never" });

for (const [title, spec, classes, result] of [
  ["no class at all", {}, [], { priority: 0, priorityClassName: undefined, preemptionPolicy: "PreemptLowerPriority" }],
  ["its class", { priorityClassName: "polite" }, [POLITE], { priority: 500, priorityClassName: "polite", preemptionPolicy: "Never" }],
  ["the default class", {}, [POLITE, made("usual", 7, { globalDefault: true })], { priority: 7, priorityClassName: "usual", preemptionPolicy: "PreemptLowerPriority" }],
  ["of two defaults the lowest", {}, [made("a", 9, { globalDefault: true }), made("b", 8, { globalDefault: true })], { priority: 8, priorityClassName: "b", preemptionPolicy: "PreemptLowerPriority" }],
  ["the system's", { priorityClassName: "system-node-critical" }, [], { priority: 2_000_001_000, priorityClassName: "system-node-critical", preemptionPolicy: "PreemptLowerPriority" }],
  ["the number that its class has", { priorityClassName: "polite", priority: 500 }, [POLITE], { priority: 500, priorityClassName: "polite", preemptionPolicy: "Never" }],
] as const) test(`a pod's priority: ${title}`, (t) => t.deepEqual(admitted(spec, ...classes), result));

test("a class that isn't there, and a number that isn't the class's, are refused", (t) => {
  t.throws(() => admitted({ priorityClassName: "lost" }), { message: 'pods "p" is forbidden: no PriorityClass with name lost was found' });
  t.throws(() => admitted({ priorityClassName: "polite", priority: 3 }, POLITE), { message: /the integer value of priority \(3\) must not be provided in pod spec; priority admission controller computed 500/ });
  t.throws(() => admitted({ priorityClassName: "polite", preemptionPolicy: "PreemptLowerPriority" }, POLITE), { message: /string value of PreemptionPolicy \(PreemptLowerPriority\).*computed Never/ });
});
