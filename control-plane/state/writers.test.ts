import test from "ava";
import { checkCreate, checkDelete, checkUpdate } from "./writers.ts";

const pod = { apiVersion: "v1", kind: "Pod", metadata: { name: "p", resourceVersion: "1" }, spec: { containers: [{ name: "c", image: "i" }] }, status: { phase: "Pending" } };

test("each writer changes its own part of a pod and nothing else", (t) => {
  t.notThrows(() => checkUpdate("pods", "scheduler", pod, { ...pod, spec: { ...pod.spec, nodeName: "n" } }));
  t.notThrows(() => checkUpdate("pods", "agent", pod, { ...pod, status: { phase: "Running", podIP: "10.0.0.1" } }));
  t.notThrows(() => checkUpdate("pods", "agent", { ...pod, status: undefined }, pod));
  t.throws(() => checkUpdate("pods", "agent", pod, { ...pod, spec: { ...pod.spec, nodeName: "n" } }), { message: /writer "agent" may not change spec\.nodeName of pods/ });
  t.throws(() => checkUpdate("pods", "scheduler", pod, { ...pod, spec: { containers: [{ name: "c", image: "other" }] } }), { message: /spec\.containers\[0\]\.image/ });
  t.throws(() => checkUpdate("pods", "controller", pod, { ...pod, status: { phase: "Failed" } }), { message: /status/ });
});

test("a parent that only holds an allowed field may appear with it", (t) => {
  const { status: _, ...bare } = pod;
  t.notThrows(() => checkUpdate("pods", "scheduler", bare, { ...bare, status: { conditions: [] } }));
  t.throws(() => checkUpdate("pods", "scheduler", bare, { ...bare, status: { phase: "Failed" } }), { message: /status\.phase/ });
});

test("an equal copy is no change, nor is the version that the store assigns", (t) => {
  t.notThrows(() => checkUpdate("pods", "agent", pod, structuredClone(pod)));
  t.notThrows(() => checkUpdate("pods", "agent", pod, { ...pod, metadata: { name: "p" } }));
});

test("creating and deleting are rights of their own", (t) => {
  t.notThrows(() => checkCreate("pods", "controller"));
  t.throws(() => checkCreate("pods", "scheduler"), { message: /writer "scheduler" may not create pods/ });
  t.throws(() => checkDelete("deployments.apps", "agent"), { message: /may not delete deployments\.apps/ });
});
