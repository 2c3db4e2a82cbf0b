import test from "ava";
import { PodAssignment } from "../../proto/gen/gantry/v1/agent.ts";
import { hugePagesOf, hugePagesOfPod } from "./huge-pages.ts";

const container = (small: number, big = 0, restartPolicy = "") => ({ restartPolicy, limits: { extended: { "hugepages-2Mi": small, "example.com/gpu": 1, ...(big > 0 ? { "hugepages-1Gi": big } : {}) } } });

test("by the size of the pages; other resources are none", (t) => {
  t.deepEqual(hugePagesOf(PodAssignment.fromPartial({ containers: [container(4, 8)] }).containers[0]!.limits), { "2MB": 4, "1GB": 8 });
  t.deepEqual(hugePagesOf(undefined), {});
});

test("a pod has what its containers and sidecars have together, or its largest init container beside the sidecars", (t) => {
  const of = (containers: object[], initContainers: object[]) => hugePagesOfPod(PodAssignment.fromPartial({ containers, initContainers }));
  t.deepEqual(of([container(4), container(2, 8)], []), { "2MB": 6, "1GB": 8 });
  t.deepEqual(of([container(4)], [container(1, 0, "Always"), container(3)]), { "2MB": 5 });
  t.deepEqual(of([container(4)], [container(1, 0, "Always"), container(10, 16)]), { "2MB": 11, "1GB": 16 });
  t.deepEqual(of([{}], []), {});
});
