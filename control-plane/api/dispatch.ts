// Owns which handler serves which request for a resource. Everything follows from the definitions; nothing here knows a kind
// beyond the names of the special subresources.
import { GantryError } from "../../base/errors.ts";
import { PODS } from "../../base/kube/resources.ts";
import type { PodExplainer } from "../state/explain.ts";
import type { NodeStreams } from "../state/node-streams.ts";
import { UsageReader } from "../state/usage-reader.ts";
import type { ApiContext, ResourceRequest } from "./context.ts";
import { remove, removeCollection } from "./delete.ts";
import type { Exchange } from "./exchange.ts";
import { get, getShown, list } from "./read.ts";
import type { ResourceDefinition } from "./resources/definition.ts";
import type { RequestInfo, Verb } from "./router.ts";
import { isTrue } from "./router.ts";
import { isReadOnly, servedDefinition } from "./served.ts";
import { StatusError, noSuchResource } from "./status.ts";
import { imageOperation, isImageOperation } from "./streams/image-operations.ts";
import { serveCommit, serveDiff, serveKill, serveReadArchive, serveTop, serveWriteArchive } from "./streams/container-commands.ts";
import { serveBuild } from "./streams/builds.ts";
import { serveImageLoad } from "./streams/images.ts";
import { serveLogs } from "./streams/logs.ts";
import { serveStats } from "./streams/stats.ts";
import { evict } from "./eviction.ts";
import { bind, ephemeralView, finalizeView, resizeView, scaleView, statusView } from "./subresources.ts";
import { METRICS_GROUP, serveUsage } from "./usage.ts";
import { create, patch, update, wholeView } from "./write.ts";
import type { View } from "./write.ts";
import { WatchHub } from "./watch.ts";

/** Gantry's own API, beside the Kubernetes one. What is no kind with objects is not in discovery: kubectl would ask it for types. */
export const GANTRY_GROUP = "gantry.io";

type Handler = (request: ResourceRequest) => Promise<void>;

const methodNotAllowed = (): GantryError => new StatusError("MethodNotAllowed", "the server does not allow this method on the requested resource", {});

/** Requests that end only when somebody wants them to: they are not counted against the limit of requests in flight. */
export const isLongRunning = ({ isResource, verb, group, resource, subresource, query }: RequestInfo): boolean =>
  isResource && (verb === "watch" || subresource === "exec" || subresource === "attach" || subresource === "portforward" || (subresource === "log" && isTrue(query.get("follow"))) || (group === GANTRY_GROUP && (resource === "images" || resource === "builds" || subresource === "stats" || subresource === "archive" || subresource === "commit")));

/** For metrics: bounded, whatever clients ask for. */
export const metricResource = ({ isResource, group, version, resource, subresource, path }: RequestInfo): string => {
  if (!isResource) return path.split("/")[1] ?? "";
  const known = servedDefinition(group, version, resource);
  if (!known) return group === GANTRY_GROUP || group === METRICS_GROUP ? group : "other";
  return subresource === "" ? known.type.name : hasSubresource(known, subresource) ? `${known.type.name}/${subresource}` : "other";
};

const hasSubresource = ({ subresources }: ResourceDefinition, name: string): boolean =>
  (name === "status" && subresources.status === true) || (name === "scale" && subresources.scale !== undefined) || (subresources.custom?.some((c) => c.name === name) ?? false);

/** The one definition that a request is about. Throws NotFound when the path leads nowhere. */
export const definitionFor = (info: RequestInfo): ResourceDefinition => {
  const definition = servedDefinition(info.group, info.version, info.resource);
  if (!definition) throw noSuchResource();
  if (!definition.type.namespaced && info.namespace !== "" && definition.type.name !== "namespaces") throw noSuchResource();
  if (definition.type.namespaced && info.namespace === "" && info.verb !== "list" && info.verb !== "watch") throw info.name === "" ? methodNotAllowed() : noSuchResource();
  if (info.subresource !== "" && !hasSubresource(definition, info.subresource)) throw noSuchResource();
  return definition;
};

export interface DispatchOptions {
  readonly context: ApiContext;
  readonly streams: NodeStreams;
  readonly explainer: PodExplainer;
}

export class Dispatch {
  readonly #options: DispatchOptions;
  readonly #usage: UsageReader;
  readonly watches: WatchHub;

  constructor(options: DispatchOptions) {
    this.#options = options;
    this.#usage = new UsageReader(options.streams, options.context.clock, options.context.logger);
    this.watches = new WatchHub(options.context);
  }

  async serve(exchange: Exchange): Promise<void> {
    const { info } = exchange;
    if (info.group === GANTRY_GROUP && !servedDefinition(info.group, info.version, info.resource)) return this.#gantry(exchange);
    if (info.group === METRICS_GROUP) return serveUsage(exchange, this.#options.context, this.#usage);
    // POST .../namespaces/NS/bindings is the binding subresource without the pod's name.
    if (info.group === "" && info.resource === "bindings" && info.verb === "create") return bind({ context: this.#options.context, definition: servedDefinition("", "v1", PODS.plural)!, exchange });
    const definition = definitionFor(info);
    const handler = info.subresource === "" ? this.#verb(definition, info) : this.#subresource(definition, info);
    if (!handler) throw methodNotAllowed();
    await handler({ context: this.#options.context, definition, exchange });
  }

  #verb(definition: ResourceDefinition, { verb, name }: RequestInfo): Handler | undefined {
    const onOne = viewHandlers(wholeView(definition));
    if (isReadOnly(definition) && verb !== "get" && verb !== "list" && verb !== "watch") {
      return () => Promise.reject(new StatusError("MethodNotAllowed", `${definition.type.name} are not served yet: they can't be created or changed`, {}));
    }
    switch (verb) {
      case "list": return list;
      case "watch": return (request) => this.watches.serve(request);
      case "create": return name === "" ? create : undefined;
      case "deletecollection": return definition.type.name === "namespaces" ? undefined : removeCollection;
      case "delete": return remove;
      case "get": case "update": case "patch": return name === "" ? undefined : verb === "get" ? get : onOne[verb];
      default: return undefined;
    }
  }

  #subresource(definition: ResourceDefinition, { verb, subresource }: RequestInfo): Handler | undefined {
    switch (subresource) {
      case "status": return { ...viewHandlers(statusView(definition)), get }[verb as "get"];
      case "resize": return { ...viewHandlers(resizeView(definition)), get }[verb as "get"];
      case "scale": return viewHandlers(scaleView(definition))[verb];
      case "ephemeralcontainers": return viewHandlers(ephemeralView(definition))[verb];
      case "finalize": return verb === "update" ? viewHandlers(finalizeView(definition)).update : undefined;
      case "binding": return verb === "create" ? bind : undefined;
      case "eviction": return verb === "create" ? evict : undefined;
      case "log": return verb === "get" ? (request) => serveLogs(request, this.#options.streams) : undefined;
      // Only an upgraded connection can carry it: server.ts sends those to streams/upgrade.ts.
      case "exec": case "attach": case "portforward": return () => Promise.reject(new GantryError("BadRequest", "Upgrade request required"));
      default: return undefined;
    }
  }

  async #gantry(exchange: Exchange): Promise<void> {
    const { info } = exchange;
    if (info.version !== "v1") throw noSuchResource();
    if (info.resource === "images" && info.namespace === "" && info.subresource === "" && isImageOperation(info.name)) {
      const isPost = info.verb === "create";
      if (!isPost && info.verb !== "get" && info.verb !== "list") throw methodNotAllowed();
      if (isPost && info.name === "") return serveImageLoad(exchange, this.#options.streams);
      const operation = imageOperation(info.name, isPost);
      if (!operation) throw methodNotAllowed();
      return operation({ exchange, streams: this.#options.streams, context: this.#options.context });
    }
    if (info.resource === "builds" && info.name === "" && info.namespace === "") {
      if (info.verb !== "create") throw methodNotAllowed();
      return serveBuild(exchange, this.#options.streams, this.#options.context);
    }
    if (info.resource === "pods" && info.subresource === "why" && info.namespace !== "") {
      if (info.verb !== "get") throw methodNotAllowed();
      await this.#options.context.freshness.ownWrites();
      exchange.value(200, this.#options.explainer.explain(info.namespace, info.name));
      return;
    }
    if (info.resource === "pods" && info.subresource === "stats" && info.namespace !== "") {
      if (info.verb !== "get") throw methodNotAllowed();
      return serveStats(exchange, this.#options.context, this.#options.streams);
    }
    const command = info.resource === "pods" && info.namespace !== "" && info.name !== "" ? CONTAINER_COMMANDS[info.subresource] : undefined;
    if (command) {
      const serve = command[info.verb];
      if (!serve) throw methodNotAllowed();
      return serve(exchange, this.#options.context, this.#options.streams);
    }
    throw noSuchResource();
  }
}

type ContainerCommand = (exchange: Exchange, context: ApiContext, streams: NodeStreams) => Promise<void>;

/** By subresource and verb. */
const CONTAINER_COMMANDS: Readonly<Record<string, Readonly<Partial<Record<Verb, ContainerCommand>>>>> = {
  kill: { create: serveKill }, top: { get: serveTop }, archive: { get: serveReadArchive, update: serveWriteArchive }, diff: { get: serveDiff }, commit: { create: serveCommit },
};

const viewHandlers = (view: View): Readonly<Partial<Record<Verb, Handler>>> => ({
  get: (request) => getShown(request, (object) => view.show(object)), update: (request) => update(request, view), patch: (request) => patch(request, view),
});
