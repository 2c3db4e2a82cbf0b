import test from "ava";
import type { Pod } from "../../base/kube/types.gen.ts";
import { podOfId } from "./pods.ts";

const pod = (name: string, ...ids: string[]): Pod => ({ apiVersion: "v1", kind: "Pod", metadata: { name }, status: { containerStatuses: ids.map((id, i) => ({ name: `c${i}`, containerID: `crun://${id}` })) } }) as Pod;

test("the beginning of a container's id means its pod, if it means only one", (t) => {
  const pods = [pod("a", "abc123", "abd"), pod("b", "fff0")];
  const found = podOfId(pods, "abc");
  t.deepEqual([found?.pod.metadata.name, found?.container], ["a", "c0"]);
  t.is(podOfId(pods, "fff0")?.pod.metadata.name, "b");
  t.is(podOfId(pods, "123"), undefined);
  t.throws(() => podOfId(pods, "ab"), { code: "BadRequest", message: /several/ });
});
