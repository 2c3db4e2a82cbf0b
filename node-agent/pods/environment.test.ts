import test from "ava";
import { EnvVar } from "../../proto/gen/gantry/v1/agent.ts";
import { buildEnvironment, environmentList, expand } from "./environment.ts";
import { hostsFile, resolvConf } from "./pod-files.ts";

const plain = (name: string, value: string) => EnvVar.fromPartial({ name, source: { $case: "value", value } });

test("references are expanded, unknown ones stay, $$ escapes", (t) => {
  const values = new Map([["A", "1"], ["B", "$(A)"]]);
  t.is(expand("$(A)-$(B)-$(C)-$$(A)-$A-$(", values), "1-$(A)-$(C)-$(A)-$A-$(");
  t.is(expand("$$$(A)", values), "$1");
});

test("a variable sees those before it, and the node's fields", (t) => {
  const env = [plain("A", "1"), plain("B", "$(A)$(C)"), plain("C", "3"), EnvVar.fromPartial({ name: "IP", source: { $case: "fieldPath", value: "status.podIP" } }), plain("URL", "http://$(IP)")];
  t.deepEqual([...buildEnvironment(env, () => "10.0.0.7")], [["A", "1"], ["B", "1$(C)"], ["C", "3"], ["IP", "10.0.0.7"], ["URL", "http://10.0.0.7"]]);
});

test("the pod's variables win over the image's, which win over the defaults", (t) => {
  const list = environmentList(["PATH=/image", "X=image", "EMPTY="], new Map([["X", "pod"]]), { hostname: "h", tty: false });
  t.deepEqual(list, ["PATH=/image", "HOSTNAME=h", "X=pod", "EMPTY="]);
});

test("the hosts file has the pod and its aliases", (t) => {
  const text = hostsFile({ ip: "10.0.0.7", hostname: "web-0", fqdn: "web-0.web.ns.svc.cluster.local", aliases: [{ ip: "1.2.3.4", hostnames: ["a", "b"] }] });
  t.regex(text, /^10\.0\.0\.7\tweb-0\.web\.ns\.svc\.cluster\.local\tweb-0$/m);
  t.regex(text, /^1\.2\.3\.4\ta b$/m);
});

test("resolv.conf follows the policy", (t) => {
  const node = "nameserver 127.0.0.53\nnameserver 192.0.2.53\nsearch example.com\noptions edns0\n";
  const cluster = { servers: ["10.96.0.10"], domain: "cluster.local", namespace: "ns" };
  const dns = (policy: string, more = {}) => ({ policy, nameservers: [], searches: [], options: [], ...more });
  t.is(resolvConf(dns("Default"), cluster, node), "nameserver 192.0.2.53\nsearch example.com\noptions edns0\n");
  t.is(resolvConf(dns("ClusterFirst", { options: ["ndots:2"] }), cluster, node), "nameserver 10.96.0.10\nsearch ns.svc.cluster.local svc.cluster.local cluster.local example.com\noptions ndots:2\n");
  t.is(resolvConf(dns("ClusterFirst"), { ...cluster, servers: [] }, node), resolvConf(dns("Default"), cluster, node));
  t.is(resolvConf(dns("None", { nameservers: ["9.9.9.9"] }), cluster, node), "nameserver 9.9.9.9\n");
});
