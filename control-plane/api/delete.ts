// Owns delete and deletecollection: preconditions, propagation through finalizers (the garbage collector does the rest), and
// graceful deletion. Source: k8s.io/apiserver/pkg/registry/{rest/delete.go,generic/registry/store.go}.
import { GantryError, isCode } from "../../base/errors.ts";
import { timestamp } from "../../base/kube/meta.ts";
import type { KubeObject } from "../../base/kube/resources.ts";
import type { DeleteOptions } from "../../base/kube/types.gen.ts";
import { keyOf as storeKeyOf } from "../state/store.ts";
import type { ObjectKey, Preconditions, Stored } from "../state/store.ts";
import { dryRunOf, parseObject, readBody } from "./body.ts";
import { commitChange, namespaceFinalizers } from "./commit.ts";
import type { Change, Outcome } from "./commit.ts";
import { cacheOf, keyOf } from "./context.ts";
import type { ResourceRequest } from "./context.ts";
import type { Exchange } from "./exchange.ts";
import { renderingOf } from "./read.ts";
import { renderObject } from "./render.ts";
import { shownAs } from "./resources/definition.ts";
import type { ResourceDefinition } from "./resources/definition.ts";
import { decodeError, decodeObject } from "./schema/decode.ts";
import { isTrue } from "./router.ts";
import { selectionOf } from "./selection.ts";
import { deletedStatus, forbidden } from "./status.ts";

type Propagation = "Background" | "Foreground" | "Orphan";

export interface Deletion {
  /** undefined: what the object itself asks for. */
  readonly gracePeriodSeconds: number | undefined;
  /** undefined: what the kind defaults to. */
  readonly propagation: Propagation | undefined;
  readonly preconditions: Preconditions;
  readonly dryRun: boolean;
}

/** Deletes of a collection that are under way at once: enough for full group commits, not so many that others starve. */
const CONCURRENT_DELETES = 256;

/** Namespaces that the cluster can't be without (upstream's NamespaceLifecycle admission). */
const IMMORTAL_NAMESPACES: ReadonlySet<string> = new Set(["default", "kube-system", "kube-public"]);

const ORPHAN = "orphan";
const FOREGROUND = "foregroundDeletion";

const readPropagation = (options: DeleteOptions): Propagation | undefined => {
  const { propagationPolicy: policy, orphanDependents } = options;
  if (policy !== undefined && orphanDependents !== undefined) throw new GantryError("BadRequest", "propagationPolicy: Invalid value: orphanDependents and deletionPropagation cannot be both set");
  if (orphanDependents !== undefined) return orphanDependents ? "Orphan" : "Background";
  if (policy === undefined || policy === "Background" || policy === "Foreground" || policy === "Orphan") return policy;
  throw new GantryError("Invalid", `DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: ${JSON.stringify(policy)}: supported values: "Background", "Foreground", "Orphan"`);
};

/** From the body (which wins, as upstream) or from the query. */
export const receiveDeletion = async (exchange: Exchange): Promise<Deletion> => {
  const { query } = exchange;
  const body = await readBody(exchange);
  let options: DeleteOptions;
  if (body.length > 0) {
    const { value } = parseObject(body, exchange.headers["content-type"]);
    const { kind } = value;
    if (kind !== undefined && kind !== "" && kind !== "DeleteOptions") throw new GantryError("BadRequest", `the body of a delete must be DeleteOptions, not ${JSON.stringify(kind)}`);
    const decoded = decodeObject("meta/v1.DeleteOptions", value);
    if (decoded.causes.length > 0) throw decodeError({ kind: "DeleteOptions", version: "v1" }, decoded.causes);
    options = decoded.object as unknown as DeleteOptions;
  } else {
    const seconds = query.get("gracePeriodSeconds");
    if (seconds !== null && !/^-?\d{1,9}$/.test(seconds)) throw new GantryError("BadRequest", `gracePeriodSeconds: Invalid value: ${JSON.stringify(seconds)}: must be a number of seconds`);
    options = {
      ...(seconds === null ? {} : { gracePeriodSeconds: Number(seconds) }), propagationPolicy: query.get("propagationPolicy") ?? undefined,
      ...(query.get("orphanDependents") === null ? {} : { orphanDependents: isTrue(query.get("orphanDependents")) }), dryRun: query.getAll("dryRun"),
    };
  }
  return deletionFrom(options);
};

/** "BadRequest" or "Invalid" for options that contradict each other. */
export const deletionFrom = (options: DeleteOptions): Deletion => ({
  // Upstream reads a negative grace period as one second.
  gracePeriodSeconds: options.gracePeriodSeconds === undefined ? undefined : options.gracePeriodSeconds < 0 ? 1 : options.gracePeriodSeconds,
  propagation: readPropagation(options), dryRun: dryRunOf(options.dryRun ?? []),
  preconditions: { resourceVersion: options.preconditions?.resourceVersion, uid: options.preconditions?.uid },
});

/** batch/v1 Jobs keep their pods unless told otherwise, for compatibility; kubectl always tells. */
const defaultPropagation = ({ type }: ResourceDefinition): Propagation => (type.name === "jobs.batch" ? "Orphan" : "Background");

const finalizersAfter = (current: readonly string[], propagation: Propagation | undefined, fallback: Propagation): readonly string[] => {
  // Without a wish, a finalizer that is already there speaks for itself.
  if (propagation === undefined && (current.includes(ORPHAN) || current.includes(FOREGROUND))) return current;
  const others = current.filter((f) => f !== ORPHAN && f !== FOREGROUND);
  const policy = propagation ?? fallback;
  return policy === "Orphan" ? [...others, ORPHAN] : policy === "Foreground" ? [...others, FOREGROUND] : others;
};

const graceOf = (current: KubeObject, definition: ResourceDefinition, deletion: Deletion): number => {
  const { deletionTimestamp, deletionGracePeriodSeconds = 0 } = current.metadata;
  const wanted = deletion.gracePeriodSeconds;
  // A second delete may only shorten the wait.
  if (deletionTimestamp !== undefined) return wanted === undefined ? deletionGracePeriodSeconds : Math.min(wanted, deletionGracePeriodSeconds);
  const own = definition.strategy.gracePeriodSeconds?.(current) ?? 0;
  return own === 0 ? 0 : (wanted ?? own);
};

/** What deleting means for an object in this state. Pure. */
export const planDeletion = (current: KubeObject, definition: ResourceDefinition, deletion: Deletion, nowMs: number): Change => {
  const { metadata } = current;
  const before = metadata.finalizers ?? [];
  const finalizers = finalizersAfter(before, deletion.propagation, metadata.deletionTimestamp === undefined ? defaultPropagation(definition) : "Background");
  const grace = graceOf(current, definition, deletion);
  if (finalizers.length === 0 && namespaceFinalizers(current).length === 0 && grace === 0) return { next: current, remove: true };
  const isFirst = metadata.deletionTimestamp === undefined;
  const oldGrace = metadata.deletionGracePeriodSeconds ?? 0;
  const sameFinalizers = finalizers.length === before.length && finalizers.every((f, i) => f === before[i]);
  if (!isFirst && grace === oldGrace && sameFinalizers) return { next: current, remove: false };
  const deadlineMs = isFirst ? nowMs + grace * 1000 : Date.parse(metadata.deletionTimestamp!) - (oldGrace - grace) * 1000;
  const next: KubeObject = {
    ...current,
    metadata: {
      ...metadata, deletionTimestamp: timestamp(deadlineMs), deletionGracePeriodSeconds: grace, finalizers: finalizers.length > 0 ? [...finalizers] : undefined,
      ...(isFirst && metadata.generation !== undefined ? { generation: metadata.generation + 1 } : {}),
    },
  };
  if (current.kind !== "Namespace") return { next, remove: false };
  return { next: { ...next, status: { ...(current as { status?: object }).status, phase: "Terminating" } } as KubeObject, remove: false };
};

const removeOne = ({ context, definition }: ResourceRequest, key: ObjectKey, deletion: Deletion): Promise<Outcome> =>
  commitChange(context, key, (current) => planDeletion(current, definition, deletion, context.clock.nowMs()), deletion);

export const remove = async (request: ResourceRequest): Promise<void> => {
  const { definition, exchange } = request;
  const { name } = exchange.info;
  const deletion = await receiveDeletion(exchange);
  if (definition.type.name === "namespaces" && IMMORTAL_NAMESPACES.has(name)) throw forbidden(definition.type, name, "this namespace may not be deleted");
  if (definition.type.name === "jobs.batch" && deletion.propagation === undefined) {
    exchange.warn("child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning");
  }
  const { object, removed } = await removeOne(request, keyOf(request), deletion);
  // A pod's object is answered even when it is gone already, as upstream does: clients learn its last state.
  if (removed && definition.type.name !== "pods") exchange.value(200, deletedStatus(definition.type, name, object.metadata.uid));
  else exchange.value(200, renderObject(renderingOf(request), object));
};

export const removeCollection = async (request: ResourceRequest): Promise<void> => {
  const { context, definition, exchange } = request;
  const deletion = await receiveDeletion(exchange);
  const selection = selectionOf(definition, exchange.info, exchange.query);
  let targets: readonly Stored[];
  if (context.freshness.consistency === "store") {
    const all = await context.store.list(definition.type, selection.namespace === "" ? {} : { namespace: selection.namespace });
    targets = all.items.filter((stored) => selection.matches(stored.object));
  } else {
    await context.freshness.ownWrites();
    targets = selection.from(cacheOf(request));
  }
  const deleted: KubeObject[] = [];
  for (let at = 0; at < targets.length; at += CONCURRENT_DELETES) {
    const outcomes = await Promise.all(targets.slice(at, at + CONCURRENT_DELETES).map(({ object }) =>
      removeOne(request, storeKeyOf(definition.type, object), deletion).catch((error: unknown) => {
        // Somebody else was faster: that is what the client wanted.
        if (isCode(error, "NotFound")) return undefined;
        throw error;
      })));
    for (const outcome of outcomes) if (outcome) deleted.push(shownAs(definition, outcome.object));
  }
  const { kind, apiVersion } = definition.type;
  exchange.value(200, { kind: `${kind}List`, apiVersion, metadata: { resourceVersion: String(context.cache.resourceVersion) }, items: deleted });
};
