// The rows of `network ls`. Pure.
import { HOSTS_GROUP_LABEL, NETWORK_ANNOTATION } from "../../base/kube/pod-extras.ts";
import type { Node, Pod } from "../../base/kube/types.gen.ts";

export const NETWORK_FORMAT = {
  headings: { Name: "NAME", Driver: "DRIVER", Scope: "SCOPE", Subnets: "SUBNETS", Containers: "CONTAINERS" },
  table: "{{.Name}}\t{{.Driver}}\t{{.Scope}}\t{{.Subnets}}\t{{.Containers}}",
};

export const networkRows = (pods: readonly Pod[], nodes: readonly Node[]): readonly Record<string, string>[] => {
  const count = (test: (pod: Pod) => boolean): string => String(pods.filter(test).length);
  const isNone = (p: Pod): boolean => p.metadata.annotations?.[NETWORK_ANNOTATION] === "none";
  const subnets = nodes.map((n) => n.spec?.podCIDR ?? "").filter((c) => c !== "").sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const names = [...new Set(pods.flatMap((p) => p.metadata.labels?.[HOSTS_GROUP_LABEL] ?? []))].sort();
  return [
    { Name: "bridge", Driver: "gantry", Scope: "cluster", Subnets: subnets.join(","), Containers: count((p) => !p.spec?.hostNetwork && !isNone(p)) },
    { Name: "host", Driver: "host", Scope: "node", Subnets: "", Containers: count((p) => p.spec?.hostNetwork === true) },
    { Name: "none", Driver: "null", Scope: "node", Subnets: "", Containers: count(isNone) },
    ...names.map((name) => ({ Name: name, Driver: "hosts", Scope: "namespace", Subnets: "", Containers: count((p) => p.metadata.labels?.[HOSTS_GROUP_LABEL] === name) })),
  ];
};
