import test from "ava";
import type { Pod } from "../base/kube/types.gen.ts";
import { defaultContainer } from "./default-container.ts";

const pod = (names: readonly string[], annotations: Record<string, string> = {}): Pod =>
  ({ apiVersion: "v1", kind: "Pod", metadata: { annotations }, spec: { containers: names.map((name) => ({ name })) } });

test("the first container is meant, and said where there are several", (t) => {
  t.deepEqual(defaultContainer(pod(["main"])), { container: "main", remark: undefined });
  t.deepEqual(defaultContainer(pod(["main", "side"])), { container: "main", remark: 'Defaulted container "main" out of: main, side' });
});

test("an annotation chooses, if it names one that is there", (t) => {
  const annotation = "kubectl.kubernetes.io/default-container";
  t.deepEqual(defaultContainer(pod(["main", "side"], { [annotation]: "side" })), { container: "side", remark: undefined });
  t.is(defaultContainer(pod(["main", "side"], { [annotation]: "gone" })).container, "main");
});
