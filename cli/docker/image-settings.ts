// What a container takes over from its image that has to stand in its pod: the health check, and with -P the ports. The config comes from whichever node has
// the image; where none has, one node fetches it first, with the credentials of `gantry login`, and shows that as docker does. Nodes get it from each other.
import { GantryError, describeError, isCode } from "../../base/errors.ts";
import { isNodeReady } from "../../base/kube/node-taints.ts";
import { NODES } from "../../base/kube/resources.ts";
import type { Node } from "../../base/kube/types.gen.ts";
import { parseReference, formatReference } from "../../node-agent/images/reference.ts";
import type { ApiClient } from "../api-client.ts";
import { dockerConfigPath, readCredentials } from "../images/docker-config.ts";
import { LayerLines } from "../images/layer-lines.ts";
import { inspectImage, pullImage } from "../images/operations.ts";
import { HEALTH_DEFAULTS, type ContainerRequest, type HealthCheck } from "./container-request.ts";
import { exposedPorts } from "./other-containers.ts";

/** The part of an image's config that is read here; a stranger's: each field is checked. */
interface ImageSettings {
  readonly ExposedPorts?: unknown;
  readonly Healthcheck?: unknown;
  readonly Cmd?: unknown;
}

const NANOS_PER_MS = 1e6;

/** https://github.com/moby/docker-image-spec/blob/main/spec.md: Test is [], ["NONE"], ["CMD", ...] or ["CMD-SHELL", TEXT]; times are ns, 0 for the default. Undefined: none that can be run. */
export const healthOfImage = (healthcheck: unknown): HealthCheck | undefined => {
  if (typeof healthcheck !== "object" || healthcheck === null) return undefined;
  const { Test, Interval, Timeout, StartPeriod, Retries } = healthcheck as Readonly<Record<string, unknown>>;
  if (!Array.isArray(Test) || !Test.every((word) => typeof word === "string")) return undefined;
  const [kind, ...words] = Test;
  if ((kind !== "CMD" && kind !== "CMD-SHELL") || words.length === 0) return undefined;
  const ms = (nanos: unknown, fallback: number): number => (typeof nanos === "number" && nanos > 0 ? nanos / NANOS_PER_MS : fallback);
  const { intervalMs, timeoutMs, startPeriodMs, retries } = HEALTH_DEFAULTS;
  return {
    command: kind === "CMD" ? words : ["/bin/sh", "-c", words.join(" ")], intervalMs: ms(Interval, intervalMs), timeoutMs: ms(Timeout, timeoutMs), startPeriodMs: ms(StartPeriod, startPeriodMs),
    retries: typeof Retries === "number" && Retries > 0 ? Retries : retries,
  };
};

/** The request with what the image adds. Ports that are there already stay as they are; those of the image may be any of the node. */
export const withSettings = (request: ContainerRequest, settings: ImageSettings): ContainerRequest => {
  const ofImage = request.imageHealth && healthOfImage(settings.Healthcheck);
  const health = request.health ?? (ofImage && { ...ofImage, ...request.imageHealth });
  // Without an entrypoint the command is all that there is, be it the image's.
  const cmd = Array.isArray(settings.Cmd) && settings.Cmd.every((word) => typeof word === "string") ? settings.Cmd : [];
  const args = request.entrypoint?.length === 0 && request.args.length === 0 ? cmd : request.args;
  if (!request.publishAll) return { ...request, health, args };
  const names = typeof settings.ExposedPorts === "object" && settings.ExposedPorts !== null ? Object.keys(settings.ExposedPorts) : [];
  const has = (port: { readonly containerPort: number; readonly protocol: string }): boolean => request.ports.some((p) => p.containerPort === port.containerPort && p.protocol === port.protocol);
  const added = exposedPorts(names).filter((p) => !has(p)).map((p) => ({ ...p, hostIp: "", hostPort: 0 }));
  return { ...request, health, args, ports: [...request.ports.map((p) => (p.hostPort === undefined ? { ...p, hostPort: 0 } : p)), ...added] };
};

/** That are known to have the image: a few, each with an answer as good as another's. */
export const nodesWith = (nodes: readonly Node[], name: string): readonly string[] =>
  nodes.filter((node) => isNodeReady(node) && node.status?.images?.some((i) => i.names?.includes(name))).slice(0, MOST_ASKED).map((node) => node.metadata.name!);

/** Of the nodes that the container may come to, the first that is ready. */
export const nodeToPullOn = (nodes: readonly Node[], request: Pick<ContainerRequest, "nodeSelector" | "nodes">): string | undefined =>
  nodes.find((node) => isNodeReady(node) && !node.spec?.unschedulable && mayTake(node, request))?.metadata.name;

const mayTake = ({ metadata }: Node, request: Pick<ContainerRequest, "nodeSelector" | "nodes">): boolean =>
  [...request.nodeSelector].every(([key, value]) => metadata.labels?.[key] === value) && (request.nodes.length === 0 || request.nodes.includes(metadata.name!));

/** A node that is cut off answers late or never: nothing that can run waits longer for what can be done without. */
const INSPECT_MS = 5000;
const MOST_ASKED = 3;

/** Whoever answers first. A node that got the image just now doesn't stand among those that are known to have it: then all are asked. */
const inspectAnywhere = async (client: ApiClient, nodes: readonly Node[], image: string, signal: AbortSignal): ReturnType<typeof inspectImage> => {
  const known = nodesWith(nodes, formatReference(parseReference(image)));
  try {
    return await Promise.any(known.map((node) => inspectImage(client, image, [node], signal)));
  } catch {
    return inspectImage(client, image, [], signal);
  }
};

/** Undefined: no node has it. */
const inspect = async (client: ApiClient, request: ContainerRequest, warn: (text: string) => void): Promise<ImageSettings | undefined> => {
  const { items: nodes } = await client.list(NODES);
  const patience = AbortSignal.timeout(INSPECT_MS);
  try {
    const [found] = await inspectAnywhere(client, nodes, request.image, patience);
    return found?.config["config"] ?? {};
  } catch (error) {
    if (isCode(error, "NotFound")) return undefined;
    const why = patience.aborted ? `no answer within ${INSPECT_MS / 1000} s` : describeError(error);
    if (request.publishAll) throw new GantryError("ServiceUnavailable", `--publish-all: the image ${request.image} can't be looked at: ${why}`, { cause: error });
    warn(`the image ${request.image} can't be looked at, so that its HEALTHCHECK is not heeded: ${why}`);
    return {};
  }
};

const pull = async (client: ApiClient, request: ContainerRequest): Promise<void> => {
  const node = nodeToPullOn((await client.list(NODES)).items, request);
  // No node: the scheduler says why.
  if (node === undefined) return;
  const reference = parseReference(request.image);
  const lines = new LayerLines(process.stderr);
  if (request.pull !== "always" && !request.quiet) console.error(`Unable to find image '${request.image}' on any node`);
  await pullImage(client, formatReference(reference), readCredentials(dockerConfigPath(process.env), reference.registry), [node], (line) => {
    if (!request.quiet) lines.update(line);
  });
};

/** "BadRequest" for an image's name that can't be read; errors of the pull as they are. */
export const applyImageSettings = async (client: ApiClient, request: ContainerRequest, warn: (text: string) => void): Promise<ContainerRequest> => {
  let settings = request.pull === "always" ? undefined : await inspect(client, request, warn);
  if (settings === undefined && request.pull !== "never") {
    await pull(client, request);
    settings = await inspect(client, request, warn);
  }
  if (settings === undefined && request.publishAll) throw new GantryError("FailedPrecondition", `--publish-all: no node has the image ${request.image}, which would say its ports`);
  return withSettings(request, settings ?? {});
};
