// `logs`: what containers of one or several pods wrote; several at once when followed.
import { GantryError } from "../base/errors.ts";
import { parseDurationMs } from "../base/config.ts";
import { formatSelector, fromLabelSelector } from "../base/kube/labels.ts";
import { PODS, type KubeObject, type ResourceType } from "../base/kube/resources.ts";
import type { LabelSelector, Pod } from "../base/kube/types.gen.ts";
import type { ApiClient } from "./api-client.ts";
import { defaultContainer } from "./default-container.ts";

export interface LogOptions {
  readonly container: string;
  readonly allContainers: boolean;
  readonly follow: boolean;
  readonly previous: boolean;
  readonly timestamps: boolean;
  /** Undefined: all lines. */
  readonly tailLines: number | undefined;
  /** Unix epoch. */
  readonly sinceMs: number | undefined;
  readonly untilMs: number | undefined;
  /** Each line begins with the pod's labels. */
  readonly details: boolean;
  /** Each line begins with [pod/NAME/CONTAINER]. */
  readonly prefix: boolean;
}

/** The pods that `logs` is asked for: one by its name, those of a workload, or, when no name is given, those that a label selector selects. */
export const podsOf = async (client: ApiClient, namespace: string, target: { readonly type: ResourceType; readonly name: string | undefined }, labelSelector: string): Promise<readonly Pod[]> => {
  let selector = labelSelector;
  if (target.name !== undefined) {
    if (target.type.name === PODS.name) return [await client.get(PODS, namespace, target.name)];
    const workload: KubeObject & { readonly spec?: { readonly selector?: LabelSelector } } = await client.get(target.type, namespace, target.name);
    if (!workload.spec?.selector) throw new GantryError("BadRequest", `${target.type.plural} have no pods: name a pod, or a deployment, replicaset, statefulset, daemonset or job`);
    // A replication controller's selector is labels alone.
    const chosenBy = target.type.kind === "ReplicationController" ? { matchLabels: workload.spec.selector as Record<string, string> } : workload.spec.selector;
    selector = formatSelector(fromLabelSelector(chosenBy));
  }
  const { items } = await client.list(PODS, namespace, { labelSelector: selector });
  if (items.length === 0) throw new GantryError("NotFound", `no pods in namespace ${namespace} have the labels ${selector}`);
  return items;
};

/** docker's follow: on into the next instance, where Kubernetes' ends with the present one. Another server than Gantry's takes no notice of the second. */
export const FOLLOW = { follow: "true", "gantry-over-restarts": "true" } as const;

const chosen = (pod: Pod): string => {
  const { container, remark } = defaultContainer(pod);
  if (remark !== undefined) console.error(remark);
  return container;
};

export const printLogs = async (client: ApiClient, pods: readonly Pod[], options: LogOptions): Promise<void> => {
  const streams = pods.flatMap((pod) => {
    const containers = options.allContainers ? [...(pod.spec?.initContainers ?? []), ...(pod.spec?.containers ?? [])].map((c) => c.name) : [options.container || chosen(pod)];
    return containers.map((container) => ({ pod, container }));
  });
  const print = async ({ pod, container }: (typeof streams)[number]): Promise<void> => {
    const query = new URLSearchParams({
      ...(container ? { container } : {}), ...(options.follow ? FOLLOW : {}), ...(options.previous ? { previous: "true" } : {}), ...(options.timestamps || options.untilMs !== undefined ? { timestamps: "true" } : {}),
      ...(options.tailLines === undefined ? {} : { tailLines: String(options.tailLines) }), ...(options.sinceMs === undefined ? {} : { sinceTime: new Date(options.sinceMs).toISOString() }),
    });
    const response = await client.send("GET", `${client.pathOf(PODS, pod.metadata.namespace ?? "", pod.metadata.name, "log")}?${query.toString()}`, { accept: "*/*" });
    const labels = Object.entries(pod.metadata.labels ?? {}).map(([k, v]) => `${k}=${v}`).sort().join(",");
    const prefix = `${options.prefix ? `[pod/${pod.metadata.name!}/${container || (pod.spec?.containers[0]?.name ?? "")}] ` : ""}${options.details && labels !== "" ? `${labels} ` : ""}`;
    const bounded = options.untilMs === undefined ? response : linesUntil(response, options.untilMs, options.timestamps);
    for await (const chunk of streams.length === 1 && prefix === "" ? bounded : wholeLines(bounded, prefix)) {
      if (!process.stdout.write(chunk as Buffer)) await new Promise((resolve) => process.stdout.once("drain", resolve));
    }
  };
  if (options.follow) await Promise.all(streams.map(print));
  else for (const stream of streams) await print(stream);
};

/** "5m" before now, a time (RFC 3339), or seconds of the Unix epoch as docker takes them; "": none. */
export const timeOf = (text: string, nowMs: number, flag: string): number | undefined => {
  if (text === "") return undefined;
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?(?:ms|s|m|h))/g)].map((m) => m[1]!);
  if (parts.length > 0 && parts.join("") === text) return nowMs - parts.reduce((sum, part) => sum + parseDurationMs(part)!, 0);
  if (/^\d{9,11}(?:\.\d+)?$/.test(text)) return Number(text) * 1000;
  const ms = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(ms)) throw new GantryError("BadRequest", `${flag}: ${JSON.stringify(text)} is neither a duration such as 5m or 1h30m nor a time such as 2026-01-02T15:04:05Z`);
  return ms;
};

const NEWLINE = 10;

/** Up to the first line that is newer; the lines begin with their times, which are taken off unless they are wanted. */
export const linesUntil = async function* (chunks: AsyncIterable<Buffer>, untilMs: number, timestamps: boolean): AsyncGenerator<Buffer> {
  for await (const lines of wholeLines(chunks, "")) {
    const kept: Buffer[] = [];
    let isOver = false;
    for (let start = 0; start < lines.length && !isOver;) {
      const end = lines.indexOf(NEWLINE, start) + 1 || lines.length;
      const line = lines.subarray(start, end);
      const space = line.indexOf(0x20);
      isOver = Date.parse(line.toString("latin1", 0, space)) > untilMs;
      if (!isOver) kept.push(timestamps ? line : line.subarray(space + 1));
      start = end;
    }
    if (kept.length > 0) yield Buffer.concat(kept);
    if (isOver) return;
  }
};

/** Chunks that end at ends of lines, so that several streams don't mix within a line; each line behind `prefix`. */
export const wholeLines = async function* (chunks: AsyncIterable<Buffer>, prefix: string): AsyncGenerator<Buffer> {
  // Bytes as they are: what containers write need not be UTF-8.
  const marked = (lines: Buffer): Buffer => (prefix === "" ? lines : Buffer.from(lines.toString("latin1").replaceAll(/[^\n]*\n/g, (line) => prefix + line), "latin1"));
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of chunks) {
    const all = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    const end = all.lastIndexOf(NEWLINE) + 1;
    if (end > 0) yield marked(all.subarray(0, end));
    rest = all.subarray(end);
  }
  if (rest.length > 0) yield marked(Buffer.concat([rest, Buffer.of(NEWLINE)]));
};
