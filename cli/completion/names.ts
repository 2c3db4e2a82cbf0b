// Looks up the names of things for completion. Short patience and no complaints: whoever presses Tab wants an answer now or none.
import { NAMESPACES, NODES, PODS } from "../../base/kube/resources.ts";
import { HOSTS_GROUP_LABEL } from "../../base/kube/pod-extras.ts";
import { readFileSync } from "node:fs";
import { parseYaml } from "../../base/yaml.ts";
import { ApiClient, findKubeconfig, loadKubeconfig } from "../api-client.ts";
import { discover, resourcesOf } from "../discovery.ts";
import type { Candidate, Completion } from "./complete.ts";

const PATIENCE_MS = 1000;

type Names = Extract<Completion, { kind: "names" }>;

const shortImage = (name: string): string => name.replace(/^docker\.io\/(library\/)?/, "");

const lookUp = async ({ source, type, flags }: Names): Promise<readonly Candidate[]> => {
  if (source === "services") {
    const { plannedProject } = await import("../compose/session.ts");
    return plannedProject({ file: flags["file"] === undefined ? [] : [flags["file"]], project: flags["project"] ?? "", profile: ["*"], envFile: [], projectDirectory: "" }, []).services.map((s) => ({ value: s.name, help: s.request.image }));
  }
  const kubeconfig = findKubeconfig(flags["kubeconfig"] ?? "", process.env, process.cwd());
  if (source === "contexts") return ((parseYaml(readFileSync(kubeconfig, "utf8")) as { contexts?: { name: string }[] }).contexts ?? []).map((c) => ({ value: c.name }));
  using client = new ApiClient(loadKubeconfig(kubeconfig, flags["context"] ?? ""));
  const namespace = flags["namespace"] ?? client.target.namespace;
  switch (source) {
    case "containers": return (await client.list(PODS, namespace)).items.map((p) => ({ value: p.metadata.name!, help: `${p.spec?.containers[0]?.image ?? ""} ${p.status?.phase ?? ""}` }));
    case "nodes": return (await client.list(NODES)).items.map((n) => ({ value: n.metadata.name! }));
    case "namespaces": return (await client.list(NAMESPACES)).items.map((n) => ({ value: n.metadata.name! }));
    case "images": return [...new Set((await client.list(NODES)).items.flatMap((n) => (n.status?.images ?? []).flatMap((i) => i.names ?? [])).filter((n) => !n.includes("@")).map(shortImage))].map((value) => ({ value }));
    case "volumes": return (await client.list((await import("../docker/volumes.ts")).CLAIMS, namespace)).items.map((v) => ({ value: v.metadata.name! }));
    case "networks": return ["bridge", "host", "none", ...new Set((await client.list(PODS, namespace)).items.flatMap((p) => p.metadata.labels?.[HOSTS_GROUP_LABEL] ?? []))].map((value) => ({ value }));
    case "types": return (await discover(client)).map((r) => ({ value: r.plural, help: r.kind }));
    case "objects": {
      const [resource] = resourcesOf(await discover(client), type!);
      return resource ? (await client.list(resource, resource.namespaced ? namespace : undefined)).items.map((o) => ({ value: o.metadata.name! })) : [];
    }
  }
};

export const findNames = async (wanted: Names): Promise<readonly Candidate[]> => {
  const late = Promise.withResolvers<readonly Candidate[]>();
  const timer = setTimeout(() => late.resolve([]), PATIENCE_MS);
  try {
    return (await Promise.race([lookUp(wanted), late.promise])).map((c) => ({ ...c, value: wanted.prefix + c.value }));
  } catch {
    return [];
  } finally {
    clearTimeout(timer);
  }
};
