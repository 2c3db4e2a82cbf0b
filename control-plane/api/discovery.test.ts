import test from "ava";
import { aggregatedDiscovery, apiGroup, apiGroupList, apiResourceList, apiVersions } from "./discovery.ts";
import { DEFINITIONS } from "./resources/registry.ts";

interface Resource { readonly name: string; readonly verbs: readonly string[]; readonly kind: string; readonly shortNames?: readonly string[]; readonly group?: string; readonly version?: string }
const resources = (group: string, version: string): readonly Resource[] => (apiResourceList(DEFINITIONS, group, version) as { resources: readonly Resource[] }).resources;

test("the legacy documents name every group and resource once", (t) => {
  t.deepEqual(apiVersions("10.0.0.1:6443"), { kind: "APIVersions", versions: ["v1"], serverAddressByClientCIDRs: [{ clientCIDR: "0.0.0.0/0", serverAddress: "10.0.0.1:6443" }] });
  const { groups } = apiGroupList(DEFINITIONS) as { groups: readonly { name: string }[] };
  t.deepEqual(groups.map((g) => g.name), ["apps", "autoscaling", "batch", "coordination.k8s.io", "storage.k8s.io", "node.k8s.io", "scheduling.k8s.io", "policy", "gantry.io"]);
  t.like(apiGroup(DEFINITIONS, "batch")!, { kind: "APIGroup", name: "batch", preferredVersion: { groupVersion: "batch/v1", version: "v1" } });
  t.like(apiGroup(DEFINITIONS, "autoscaling")!, { preferredVersion: { version: "v2" }, versions: [{ version: "v2" }, { version: "v1" }] });
  t.deepEqual(resources("", "v1").map((r) => r.name), [
    "pods", "pods/attach", "pods/binding", "pods/ephemeralcontainers", "pods/eviction", "pods/exec", "pods/log", "pods/portforward", "pods/resize", "pods/status", "nodes", "nodes/status", "namespaces", "namespaces/finalize", "namespaces/status", "events", "configmaps", "secrets",
    "replicationcontrollers", "replicationcontrollers/scale", "replicationcontrollers/status", "persistentvolumes", "persistentvolumes/status", "persistentvolumeclaims", "persistentvolumeclaims/status", "resourcequotas", "resourcequotas/status", "limitranges"]);
});

test("what is not there is undefined", (t) => {
  for (const nothing of [apiGroup(DEFINITIONS, "frob"), apiGroup(DEFINITIONS, ""), apiResourceList(DEFINITIONS, "apps", "v2"), apiResourceList(DEFINITIONS, "frob", "v1")]) t.is(nothing, undefined);
});

test("a scale subresource is of kind autoscaling/v1 Scale, and namespaces can't be deleted as a collection", (t) => {
  t.like(resources("apps", "v1").find((r) => r.name === "deployments/scale")!, { kind: "Scale", group: "autoscaling", version: "v1", verbs: ["get", "patch", "update"] });
  t.false(resources("", "v1").find((r) => r.name === "namespaces")!.verbs.includes("deletecollection"));
  t.deepEqual(resources("", "v1").find((r) => r.name === "pods")!.shortNames, ["po"]);
});

test("aggregated discovery says the same in one document", (t) => {
  interface Group { readonly metadata: { readonly name?: string }; readonly versions: readonly { readonly version: string; readonly resources: readonly { readonly resource: string; readonly scope: string; readonly verbs: readonly string[]; readonly subresources?: readonly { readonly subresource: string; readonly responseKind: object }[] }[] }[] }
  for (const version of ["v2", "v2beta1"] as const) {
    const [core, others] = (["/api", "/apis"] as const).map((root) => aggregatedDiscovery(DEFINITIONS, root, version) as { apiVersion: string; items: readonly Group[] });
    t.is(core!.apiVersion, `apidiscovery.k8s.io/${version}`);
    for (const { metadata, versions } of [...core!.items, ...others!.items]) {
      for (const v of versions) {
        const names = v.resources.flatMap((r) => [r.resource, ...(r.subresources ?? []).map((s) => `${r.resource}/${s.subresource}`)]);
        t.deepEqual(names, resources(metadata.name ?? "", v.version).map((r) => r.name));
      }
    }
    const deployments = others!.items[0]!.versions[0]!.resources[0]!;
    t.deepEqual(deployments.subresources![0], { subresource: "scale", responseKind: { group: "autoscaling", version: "v1", kind: "Scale" }, verbs: ["get", "patch", "update"] } as never);
    t.is(core!.items[0]!.versions[0]!.resources.find((r) => r.resource === "nodes")!.scope, "Cluster");
  }
});
