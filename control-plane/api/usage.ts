// Owns metrics.k8s.io/v1beta1: what pods and nodes use now, asked of the nodes' agents when a client asks. Nothing is stored and nothing
// measured in between. https://kubernetes.io/docs/tasks/debug/debug-cluster/resource-metrics-pipeline/
import { timestamp } from "../../base/kube/meta.ts";
import { NODES, PODS } from "../../base/kube/resources.ts";
import type { KubeObject, ResourceType } from "../../base/kube/resources.ts";
import type { Node, Pod } from "../../base/kube/types.gen.ts";
import type { CpuUsage, MemoryUsage, PodUsage, StatsSample } from "../../proto/gen/gantry/v1/agent.ts";
import { usageByPod } from "../state/usage-reader.ts";
import type { UsageReader } from "../state/usage-reader.ts";
import type { ApiContext } from "./context.ts";
import type { Exchange } from "./exchange.ts";
import { ageColumn, nameColumn } from "./resources/columns.ts";
import type { ResourceDefinition } from "./resources/definition.ts";
import { definitionOf } from "./resources/registry.ts";
import { selectionOf } from "./selection.ts";
import { StatusError, noSuchResource, notFound } from "./status.ts";

export const METRICS_GROUP = "metrics.k8s.io";
const API_VERSION = `${METRICS_GROUP}/v1beta1`;

const define = (kind: string, plural: string, namespaced: boolean): ResourceDefinition => ({
  type: { name: `${plural}.${METRICS_GROUP}`, group: METRICS_GROUP, version: "v1beta1", apiVersion: API_VERSION, kind, plural, namespaced },
  singular: "", shortNames: [], categories: [], schema: "", verbs: ["get", "list"],
  defaults: (object) => object, validate: () => [], strategy: {}, columns: [nameColumn(), ageColumn()], fieldSelectors: {}, subresources: {},
});

/** For discovery: they are not stored, so they are in no registry. */
export const USAGE_DEFINITIONS: readonly ResourceDefinition[] = [define("NodeMetrics", "nodes", false), define("PodMetrics", "pods", true)];

const seconds = (ms: number): string => `${Math.max(0, ms) / 1000}s`;
const usage = (cpu: CpuUsage | undefined, memory: MemoryUsage | undefined): object => ({ cpu: `${cpu?.nanoCores ?? 0}n`, memory: `${Math.ceil((memory?.workingSetBytes ?? 0) / 1024)}Ki` });

const metadataOf = ({ metadata: { name, namespace, labels } }: KubeObject, atMs: number): object => ({
  name, ...(namespace === undefined ? {} : { namespace }), creationTimestamp: timestamp(atMs), ...(labels ? { labels } : {}),
});

const nodeMetrics = (node: Node, { atMs, node: used }: StatsSample): object => ({
  kind: "NodeMetrics", apiVersion: API_VERSION, metadata: metadataOf(node, atMs), timestamp: timestamp(atMs), window: seconds(used?.cpu?.windowMs ?? 0), usage: usage(used?.cpu, used?.memory),
});

const podMetrics = (pod: Pod, atMs: number, used: PodUsage): object => ({
  kind: "PodMetrics", apiVersion: API_VERSION, metadata: metadataOf(pod, atMs), timestamp: timestamp(atMs),
  window: seconds(Math.max(0, ...used.containers.map((c) => c.cpu?.windowMs ?? 0))),
  containers: used.containers.map((c) => ({ name: c.name, usage: usage(c.cpu, c.memory) })),
});

const definitionFor = (type: ResourceType): ResourceDefinition => definitionOf(type.group, type.version, type.plural)!;

/** GET below /apis/metrics.k8s.io/v1beta1. */
export const serveUsage = async (exchange: Exchange, context: ApiContext, reader: UsageReader): Promise<void> => {
  const { info, query, signal } = exchange;
  const isNodes = info.resource === "nodes" && info.namespace === "";
  if (info.version !== "v1beta1" || info.subresource !== "" || (!isNodes && info.resource !== "pods")) throw noSuchResource();
  if (info.verb !== "get" && info.verb !== "list") throw new StatusError("MethodNotAllowed", "the server does not allow this method on the requested resource", {});
  await context.freshness.ownWrites();
  const respond = (kind: string, items: readonly object[], type: ResourceType): void => {
    if (info.verb === "list") return exchange.value(200, { kind: `${kind}List`, apiVersion: API_VERSION, metadata: {}, items });
    if (items.length === 0) throw notFound({ ...type, group: METRICS_GROUP, name: `${info.resource}.${METRICS_GROUP}` }, info.name);
    exchange.value(200, items[0]);
  };
  if (isNodes) {
    const nodes = selectionOf(definitionFor(NODES), info, query).from(context.cache.resource(NODES)).map((s) => s.object as Node);
    const samples = await reader.of(nodes.map((n) => n.metadata.name!), signal);
    return respond("NodeMetrics", nodes.flatMap((node) => {
      const sample = samples.get(node.metadata.name!);
      return sample ? [nodeMetrics(node, sample)] : [];
    }), NODES);
  }
  const pods = selectionOf(definitionFor(PODS), info, query).from(context.cache.resource(PODS)).map((s) => s.object as Pod).filter((p) => p.spec?.nodeName && p.status?.phase === "Running");
  const samples = await reader.of([...new Set(pods.map((p) => p.spec!.nodeName!))], signal);
  respond("PodMetrics", pods.flatMap((pod) => {
    const sample = samples.get(pod.spec!.nodeName!);
    const used = sample && usageByPod(sample).get(pod.metadata.uid!);
    // One that measures nothing yet would count as idle.
    return used && used.containers.length > 0 ? [podMetrics(pod, sample.atMs, used)] : [];
  }), PODS);
};
