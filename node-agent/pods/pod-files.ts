// The files that every container of a pod finds in /etc: hosts, hostname, resolv.conf. Pure text building.
import type { DnsConfig, HostAlias } from "../../proto/gen/gantry/v1/agent.ts";

export const hostsFile = (pod: { readonly ip: string; readonly hostname: string; readonly fqdn: string; readonly aliases: readonly HostAlias[] }): string =>
  [
    "# Written by Gantry for this pod.", "127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback", "fe00::0\tip6-localnet", "fe00::0\tip6-mcastprefix", "fe00::1\tip6-allnodes", "fe00::2\tip6-allrouters",
    ...(pod.ip === "" ? [] : [`${pod.ip}\t${pod.fqdn === "" || pod.hostname.split(" ").includes(pod.fqdn) ? "" : `${pod.fqdn}\t`}${pod.hostname}`]),
    ...pod.aliases.map((a) => `${a.ip}\t${a.hostnames.join(" ")}`), "",
  ].join("\n");

/** Limits of resolv.conf(5), glibc: what is beyond them is ignored by the resolver. */
const MAX_NAMESERVERS = 3;

/**
 * "None" takes only what the pod says, "Default" what the node has; "ClusterFirst" (the usual) takes the cluster's servers where there
 * are any, and the node's otherwise. What the pod says is added to each. `node` is the text of the node's own file.
 */
export const resolvConf = (dns: DnsConfig | undefined, cluster: { readonly servers: readonly string[]; readonly domain: string; readonly namespace: string }, node: string): string => {
  const policy = dns?.policy ?? "ClusterFirst";
  const values = (keyword: string): string[] => node.split("\n").map((l) => l.trim().split(/\s+/)).filter((w) => w[0] === keyword).flatMap((w) => w.slice(1));
  const clusterFirst = policy.startsWith("ClusterFirst") && cluster.servers.length > 0;
  // A server on the node's loopback (systemd-resolved) can't be reached from a pod; its own upstreams would be needed.
  const nodeServers = values("nameserver").filter((s) => !s.startsWith("127.") && s !== "::1");
  const base = policy === "None" ? { servers: [], searches: [], options: [] }
    : clusterFirst ? { servers: [...cluster.servers], searches: [`${cluster.namespace}.svc.${cluster.domain}`, `svc.${cluster.domain}`, cluster.domain, ...values("search")], options: ["ndots:5"] }
      : { servers: nodeServers, searches: values("search"), options: values("options") };
  const unique = (list: readonly string[]): string[] => [...new Set(list)];
  // "ndots:2" of the pod replaces "ndots:5" of the cluster.
  const options = new Map([...base.options, ...(dns?.options ?? [])].map((o) => [o.split(":")[0]!, o]));
  const searches = unique([...base.searches, ...(dns?.searches ?? [])]);
  return [
    ...unique([...base.servers, ...(dns?.nameservers ?? [])]).slice(0, MAX_NAMESERVERS).map((s) => `nameserver ${s}`),
    ...(searches.length > 0 ? [`search ${searches.join(" ")}`] : []), ...(options.size > 0 ? [`options ${[...options.values()].join(" ")}`] : []), "",
  ].join("\n");
};
