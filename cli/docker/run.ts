// `run` and `create`: makes the pod, tells what it waits for, and stays with it as docker does.
import { existsSync, readFileSync } from "node:fs";
import { randomInt } from "node:crypto";
import { GantryError, describeError, isCode } from "../../base/errors.ts";
import { lifecycleOf } from "../../base/kube/desired-state.ts";
import { DEPLOYMENTS, NODES, PODS, RUNTIME_CLASSES } from "../../base/kube/resources.ts";
import type { Deployment, Node, Pod } from "../../base/kube/types.gen.ts";
import type { Explanation } from "../../control-plane/state/explain.ts";
import type { ApiClient } from "../api-client.ts";
import { deleteObject, waitUntilGone } from "../delete.ts";
import { followObject } from "../follow-object.ts";
import { FOLLOW } from "../logs.ts";
import { SHOW_AFTER_MS, type Progress } from "../progress.ts";
import { bindMounts, namedVolumes, toPodTemplate, RUN_LABEL, type ContainerRequest } from "./container-request.ts";
import { findContainer } from "./find-container.ts";
import { applyImageSettings } from "./image-settings.ts";
import { hostsOfLink, mountsFrom } from "./other-containers.ts";
import { withRandomPorts } from "./port-mapping.ts";
import { ENGINE_FAILED, exitCodeOf, startState } from "./start-state.ts";
import { ensureVolume } from "./volumes.ts";

/** Ends `run` with docker's exit code for it. */
export class RunError extends GantryError {
  readonly exitCode: number;

  constructor(exitCode: number, message: string, cause?: unknown) {
    super("FailedPrecondition", message, cause === undefined ? {} : { cause });
    this.exitCode = exitCode;
  }
}

const BOOT_ID = "/proc/sys/kernel/random/boot_id";

/** Names of the nodes that run on this machine: several share it in a cluster of `gantry up`. */
export const nodesHere = (nodes: readonly Node[], bootId: string): readonly string[] => nodes.filter((n) => n.status?.nodeInfo?.bootID === bootId).map((n) => n.metadata.name!);

/** Folders of this machine are only on its own nodes. */
export const placeBindMounts = async (client: ApiClient, request: ContainerRequest, warn: (text: string) => void): Promise<ContainerRequest> => {
  const paths = bindMounts(request);
  if (paths.length === 0) return request;
  const { items } = await client.list(NODES);
  const here = nodesHere(items, readFileSync(BOOT_ID, "utf8").trim());
  if (here.length === items.length || request.nodes.length > 0 || request.nodeSelector.has("kubernetes.io/hostname")) return request;
  if (here.length > 0) return { ...request, nodes: here };
  warn(`this machine is no node: ${paths.join(", ")} ${paths.length === 1 ? "is a path" : "are paths"} on whichever node the container comes to; choose one with --node`);
  return request;
};

/** Host ports that pods of the whole cluster have: which node the new one comes to isn't known yet. */
export const choosePorts = async (client: ApiClient, request: ContainerRequest): Promise<ContainerRequest> => {
  if (!request.ports.some((p) => p.hostPort === 0)) return request;
  const { items } = await client.list(PODS);
  const taken = new Set(items.flatMap((p) => (p.spec?.containers ?? []).flatMap((c) => (c.ports ?? []).flatMap((x) => x.hostPort ?? []))));
  return { ...request, ports: withRandomPorts(request.ports, taken, (n) => randomInt(n)) };
};

/** docker makes the folder that a bind mount lacks; a file or a socket that is there is taken as it is. */
const withMissingFolders = (request: ContainerRequest): ContainerRequest => ({ ...request, mounts: request.mounts.map((m) => (m.type === "bind" && !existsSync(m.source) ? { ...m, create: true } : m)) });

/** Names and mounts of containers that are there. Folders of the node lead to that container's node; a target of the new one's own stays its own. */
const fromOthers = async (client: ApiClient, namespace: string, request: ContainerRequest): Promise<ContainerRequest> => {
  const { links, volumesFrom } = request;
  if (links.length + volumesFrom.length === 0) return request;
  const { items } = await client.list(PODS, namespace);
  const hosts = links.flatMap((link) => hostsOfLink(link, findContainer(items, link.container).pod));
  let [mounts, nodes] = [request.mounts, request.nodes];
  for (const { container, readOnly } of volumesFrom) {
    const source = findContainer(items, container);
    const added = mountsFrom(source, readOnly).filter((m) => !mounts.some((own) => own.target === m.target));
    mounts = [...mounts, ...added];
    if (added.some((m) => m.type === "bind") && source.pod.spec?.nodeName) nodes = [source.pod.spec.nodeName];
  }
  return { ...request, mounts, nodes, extraHosts: [...request.extraHosts, ...hosts] };
};

const checkRuntime = async (client: ApiClient, { runtimeClass }: ContainerRequest): Promise<void> => {
  if (runtimeClass === "") return;
  const { items } = await client.list(RUNTIME_CLASSES);
  if (items.some((c) => c.metadata.name === runtimeClass)) return;
  throw new GantryError("NotFound", `--runtime: there is no RuntimeClass ${JSON.stringify(runtimeClass)}${items.length > 0 ? `; there are: ${items.map((c) => c.metadata.name).join(", ")}` : ", nor any other: make one whose handler is a runtime of the nodes, such as crun or runc"}`);
};

export const prepare = async (client: ApiClient, namespace: string, given: ContainerRequest, warn: (text: string) => void): Promise<ContainerRequest> => {
  await checkRuntime(client, given);
  const request = await placeBindMounts(client, withMissingFolders(await fromOthers(client, namespace, given)), warn);
  const complete = await applyImageSettings(client, request, warn);
  for (const volume of namedVolumes(complete)) await ensureVolume(client, namespace, volume, {});
  return choosePorts(client, complete);
};

/** "AlreadyExists" says how to make room. */
export const createPod = async (client: ApiClient, namespace: string, request: ContainerRequest, annotations: Readonly<Record<string, string>> = {}): Promise<Pod> => {
  const template = toPodTemplate(request, { [RUN_LABEL]: request.name });
  const body = { apiVersion: "v1", kind: "Pod", metadata: { name: request.name, ...template.metadata, annotations: { ...template.metadata?.annotations, ...annotations } }, spec: template.spec };
  try {
    return await client.json<Pod>("POST", client.pathOf(PODS, namespace), { body });
  } catch (error) {
    if (!isCode(error, "AlreadyExists")) throw error;
    throw new GantryError("AlreadyExists", `the name ${JSON.stringify(request.name)} is in use by another container: remove it (gantry rm -f ${request.name}), or choose another name`, { cause: undefined });
  }
};

export const createDeployment = async (client: ApiClient, namespace: string, request: ContainerRequest, replicas: number): Promise<Deployment> => {
  const template = toPodTemplate({ ...request, restart: { policy: "always", most: 0 } }, { [RUN_LABEL]: request.name });
  const labels = { [RUN_LABEL]: request.name };
  const body = { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: request.name, labels }, spec: { replicas, selector: { matchLabels: labels }, template } };
  try {
    return await client.json<Deployment>("POST", client.pathOf(DEPLOYMENTS, namespace), { body });
  } catch (error) {
    if (!isCode(error, "AlreadyExists")) throw error;
    throw new GantryError("AlreadyExists", `there is a deployment ${JSON.stringify(request.name)} already: remove it (gantry rm -f ${request.name}), or choose another name`);
  }
};

/** "fits nowhere: host port 8080 is taken on ...": the scheduler's own words. */
const whyNowhere = async (client: ApiClient, pod: Pod, fallback: string): Promise<string> => {
  try {
    const explanation = await client.json<Explanation>("GET", `/apis/gantry.io/v1/namespaces/${encodeURIComponent(pod.metadata.namespace!)}/pods/${encodeURIComponent(pod.metadata.name!)}/why`);
    const reasons = explanation.groups.flatMap((g) => g.failed.map((f) => `${g.nodes.join(", ")}: ${f.message}`));
    return [explanation.summary || fallback, ...new Set(reasons), ...(explanation.suggestion ? [`smallest change: ${explanation.suggestion}`] : [])].join("\n  ");
  } catch {
    return fallback;
  }
};

export const removePod = async (client: ApiClient, pod: Pod, gracePeriodSeconds: number | undefined, wait = true): Promise<void> => {
  const [namespace, name] = [pod.metadata.namespace!, pod.metadata.name!];
  try {
    await deleteObject(client, PODS, namespace, name, { propagationPolicy: "Background", gracePeriodSeconds });
    if (wait) await waitUntilGone(client, PODS, namespace, name, pod.metadata.uid, undefined);
  } catch (error) {
    if (!isCode(error, "NotFound")) throw error;
  }
};

/** Resolves when the container runs, has ended, or, with `isCreated`, is created. A pod that can't start is removed: its name is free again. */
export const waitUntilStarted = async (client: ApiClient, pod: Pod, progress: Progress, { isCreated = false, signal }: { readonly isCreated?: boolean; readonly signal?: AbortSignal } = {}): Promise<Pod> => {
  // A start takes a fraction of a second: only what takes longer is worth a line.
  let text = "";
  const show = setTimeout(() => {
    shown = true;
    progress.update(text);
  }, SHOW_AFTER_MS);
  let shown = false;
  using _ = { [Symbol.dispose]: () => clearTimeout(show) };
  const fail = async (exitCode: number, message: string): Promise<never> => {
    progress.clear();
    await removePod(client, pod, 0).catch((error: unknown) => console.error(`gantry: ${pod.metadata.name!} could not be removed: ${describeError(error)}`));
    throw new RunError(exitCode, message);
  };
  for await (const now of followObject(client, PODS, pod.metadata.namespace!, pod.metadata.name!, signal)) {
    if (!now) throw new RunError(ENGINE_FAILED, `${pod.metadata.name!} was removed before it started`);
    const state = startState(now);
    switch (state.kind) {
      case "waiting":
        // It will not start by itself: who stopped it may start it again.
        if (lifecycleOf(now.metadata.annotations).desiredState === "stopped") throw new RunError(ENGINE_FAILED, `${pod.metadata.name!} was stopped before it started`);
        text = `${pod.metadata.name!}: ${state.text}`;
        if (shown) progress.update(text);
        break;
      case "unschedulable": return await fail(ENGINE_FAILED, `no node can run it: ${await whyNowhere(client, now, state.message)}`);
      case "failed": return await fail(state.exitCode, state.message);
      case "created":
        if (!isCreated) break;
        progress.clear();
        return now;
      case "running": case "ended":
        progress.clear();
        return now;
    }
  }
  throw new RunError(ENGINE_FAILED, `${pod.metadata.name!} could not be watched`);
};

/** The exit code; 137 when the pod was removed under way, as docker says of what was killed. */
export const waitForExit = async (client: ApiClient, pod: Pod, signal?: AbortSignal): Promise<number> => {
  for await (const now of followObject(client, PODS, pod.metadata.namespace!, pod.metadata.name!, signal)) {
    if (!now) return 137;
    const code = exitCodeOf(now);
    if (code !== undefined) return code;
  }
  return ENGINE_FAILED;
};

/** All that it writes, from its first byte and over restarts, until it is over. */
export const followLogs = async (client: ApiClient, pod: Pod, signal: AbortSignal): Promise<void> => {
  const path = `${client.pathOf(PODS, pod.metadata.namespace, pod.metadata.name, "log")}?${new URLSearchParams(FOLLOW).toString()}`;
  try {
    const response = await client.send("GET", path, { accept: "*/*", signal });
    for await (const chunk of response) {
      if (!process.stdout.write(chunk as Buffer)) await new Promise((resume) => process.stdout.once("drain", resume));
    }
  } catch (error) {
    if (!signal.aborted && !isCode(error, "NotFound", "BadRequest")) throw error;
  }
};
