import test from "ava";
import { HOSTS_GROUP_LABEL, HOSTS_NAMES_ANNOTATION } from "../../base/kube/pod-extras.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import { concernsGroup, groupAliases } from "./hosts-group.ts";

const member = (name: string, ip: string, { group = "shop", names = "", phase = "Running", namespace = "default" } = {}): Pod => ({
  apiVersion: "v1", kind: "Pod",
  metadata: { name, namespace, uid: `uid-${name}`, labels: group === "" ? {} : { [HOSTS_GROUP_LABEL]: group }, ...(names === "" ? {} : { annotations: { [HOSTS_NAMES_ANNOTATION]: names } }) },
  status: { phase, ...(ip === "" ? {} : { podIP: ip }) },
});

test("a pod learns the others that have an address and go on, in the same order whatever order they come in", (t) => {
  const [web, db, late, over, elsewhere] = [member("web-1", "10.0.0.1", { names: "web" }), member("db", "10.0.0.2"), member("late", ""), member("over", "10.0.0.4", { phase: "Succeeded" }), member("db2", "10.0.0.5", { namespace: "other" })];
  const wanted = [{ ip: "10.0.0.2", hostnames: ["db"] }];
  t.deepEqual(groupAliases(web, [elsewhere, over, late, db, web]), wanted);
  t.deepEqual(groupAliases(web, [web, db, late, over, elsewhere]), wanted);
  t.deepEqual(groupAliases(db, [web, db]), [{ ip: "10.0.0.1", hostnames: ["web-1", "web"] }]);
});

test("only what the others see of a pod makes them look again", (t) => {
  const pod = member("web", "10.0.0.1");
  t.false(concernsGroup(pod, { ...pod, status: { ...pod.status, conditions: [] } }));
  t.false(concernsGroup(member("x", "", { group: "" }), member("x", "10.0.0.9", { group: "" })));
  for (const [before, after] of [
    [member("web", ""), pod], [pod, member("web", "10.0.0.2")], [pod, member("web", "10.0.0.1", { phase: "Failed" })], [pod, undefined], [undefined, pod], [pod, member("web", "10.0.0.1", { names: "api" })],
    [pod, member("web", "10.0.0.1", { group: "other" })], [undefined, member("web", "")],
  ] as const) t.true(concernsGroup(before, after), `${JSON.stringify(before)} -> ${JSON.stringify(after)}`);
});
