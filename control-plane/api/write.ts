// Owns create, update and patch. What a kind allows comes from its definition; here stands what is the same for all: identity,
// metadata, generation, dry run, the existence of the namespace.
// Source: k8s.io/apiserver/pkg/registry/rest/{create,update}.go.
import { GantryError, isCode } from "../../base/errors.ts";
import { nameSuffix, newUid } from "../../base/ids.ts";
import { timestamp } from "../../base/kube/meta.ts";
import { usageOf } from "../../base/kube/quota.ts";
import { NAMESPACES, PODS, PRIORITY_CLASSES } from "../../base/kube/resources.ts";
import type { KubeObject } from "../../base/kube/resources.ts";
import type { ObjectMeta, Pod } from "../../base/kube/types.gen.ts";
import { admitted, checkAmongOthers, createCharged, whileCharged } from "../state/admission.ts";
import { priorityClassesOf } from "../state/priority-classes.ts";
import { hasQuota, quotasOf } from "../state/quotas.ts";
import type { Preconditions } from "../state/store.ts";
import { checkObject, dryRunOf, fieldValidationOf, parseJson, parseYamlText, readBody, receiveObject } from "./body.ts";
import type { ExpectedKind } from "./body.ts";
import { WRITER, commitChange, updateOrRemove } from "./commit.ts";
import type { Outcome } from "./commit.ts";
import { keyOf, readNewest, strategyContext } from "./context.ts";
import type { ResourceRequest } from "./context.ts";
import { parseMediaType } from "./negotiate.ts";
import { applyJsonPatch } from "./patch/json-patch.ts";
import { applyJsonMerge } from "./patch/json-merge.ts";
import { applyStrategicMerge } from "./patch/strategic-merge.ts";
import { renderingOf } from "./read.ts";
import { renderObject } from "./render.ts";
import { shownAs, storedFrom } from "./resources/definition.ts";
import type { ResourceDefinition } from "./resources/definition.ts";
import { sameJson } from "./resources/same-json.ts";
import { alreadyExists, conflict, forbidden, invalid, notFound, withDetails } from "./status.ts";

/** Attempts to find a free name under generateName (5 random characters: a second one is next to never needed). */
const NAME_ATTEMPTS = 8;
/** Each that fails, another resize of the same pod got through. */
const CHARGE_ATTEMPTS = 10;
/** Longest name that generateName makes: a label value's length, which a pod's name often becomes. */
const MAX_GENERATED_NAME = 63;

/**
 * What a client reads and writes under a path: the object itself, its status, its scale. An update or patch is made on what is
 * shown, and `merge` puts it back into the whole.
 */
export interface View {
  readonly expected: ExpectedKind;
  show(object: KubeObject): KubeObject;
  merge(edited: KubeObject, current: KubeObject, request: ResourceRequest): KubeObject;
}

export const expectedKindOf = ({ schema, type: { group, version, kind } }: ResourceDefinition): ExpectedKind => ({ schema, group, version, kind });

const generationPart = ({ strategy }: ResourceDefinition, object: KubeObject): unknown =>
  strategy.generationOf ? strategy.generationOf(object) : (object as { spec?: unknown }).spec;

/** Throws Invalid with all faults; what is taken but not heeded becomes a Warning header. */
export const checkValid = ({ definition, ...request }: ResourceRequest, object: KubeObject, previous: KubeObject | undefined): void => {
  const causes = definition.validate(object, previous, strategyContext({ definition, ...request }));
  if (causes.length > 0) throw invalid(definition.type, object.metadata.name ?? "", causes);
  for (const text of definition.warnings?.(object) ?? []) request.exchange.warn(text);
};

/** What the server alone decides stays as it is; what a client leaves out or may not set comes from the current object. */
const keepServerMetadata = (edited: ObjectMeta, current: ObjectMeta): ObjectMeta => {
  const { managedFields: _, selfLink: __, ...metadata } = edited;
  return {
    ...metadata,
    name: metadata.name ?? current.name, namespace: metadata.namespace ?? current.namespace, generateName: metadata.generateName ?? current.generateName,
    uid: metadata.uid ?? current.uid, creationTimestamp: metadata.creationTimestamp ?? current.creationTimestamp, resourceVersion: current.resourceVersion,
    generation: current.generation,
    deletionTimestamp: metadata.deletionTimestamp ?? current.deletionTimestamp, deletionGracePeriodSeconds: metadata.deletionGracePeriodSeconds ?? current.deletionGracePeriodSeconds,
  };
};

/** Defaults, validates, counts the generation on; the same reference when nothing changed, so that nothing is written. */
export const finishUpdate = (request: ResourceRequest, next: KubeObject, current: KubeObject): KubeObject => {
  const { definition } = request;
  const complete = definition.defaults(next);
  checkValid(request, complete, current);
  checkAmongOthers(definition.type, complete, priorityClassesOf(request.context.cache));
  if (sameJson(complete, current)) return current;
  if (sameJson(generationPart(definition, complete), generationPart(definition, current))) return complete;
  return { ...complete, metadata: { ...complete.metadata, generation: (current.metadata.generation ?? 0) + 1 } };
};

/** The object itself. */
export const wholeView = (definition: ResourceDefinition): View => ({
  expected: expectedKindOf(definition),
  show: (object) => shownAs(definition, object),
  merge: (received, current, request) => {
    const edited = storedFrom(definition, received);
    const next = {
      ...edited, metadata: keepServerMetadata(edited.metadata, current.metadata),
      ...(definition.subresources.status ? { status: (current as { status?: unknown }).status } : {}),
    };
    return finishUpdate(request, definition.strategy.prepareForUpdate?.(next, current, strategyContext(request)) ?? next, current);
  },
});

const answer = (request: ResourceRequest, code: number, object: KubeObject, view: View): void => {
  // Subresources of another kind (Scale) have no columns of their own.
  request.exchange.value(code, view.expected.kind === request.definition.type.kind ? renderObject(renderingOf(request), object) : view.show(object));
};

export const isDryRun = ({ exchange }: ResourceRequest): boolean => dryRunOf(exchange.query.getAll("dryRun"));

/** Throws BadRequest unless the object's namespace is the path's. */
const namespaceOf = ({ definition, exchange }: ResourceRequest, object: KubeObject): string => {
  const { namespace = "" } = object.metadata;
  if (!definition.type.namespaced) {
    if (namespace !== "") throw new GantryError("BadRequest", "namespace should not be specified on cluster-scoped resources");
    return "";
  }
  if (namespace !== "" && namespace !== exchange.info.namespace) {
    throw new GantryError("BadRequest", `the namespace of the provided object does not match the namespace sent on the request: ${JSON.stringify(namespace)} is not ${JSON.stringify(exchange.info.namespace)}`);
  }
  return exchange.info.namespace;
};

/** Throws NotFound or Forbidden: nothing new comes into a namespace that isn't there or that is going. */
const checkNamespaceIsOpen = async ({ context, definition }: ResourceRequest, namespace: string, name: string): Promise<void> => {
  if (namespace === "") return;
  const key = { type: NAMESPACES, namespace: "", name: namespace };
  // The cache may lag behind: what it lacks is looked up before the client is told no.
  const found = context.cache.resource(NAMESPACES).get("", namespace) ?? (await context.store.get(key));
  if (!found) throw notFound(NAMESPACES, namespace);
  if (found.object.metadata.deletionTimestamp === undefined) return;
  throw forbidden(definition.type, name, `unable to create new content in namespace ${namespace} because it is being terminated`,
    { reason: "NamespaceTerminating", message: `namespace ${namespace} is being terminated`, field: "metadata.namespace" });
};

/** The object with what it gets from other objects of the cluster, or a refusal by them. */
const admit = async ({ context, definition }: ResourceRequest, object: KubeObject): Promise<KubeObject> => {
  const { cache, store, freshness } = context;
  // Who deletes something to make room in a quota, or makes another class the default, has it so for the next object.
  if (definition.type.namespaced ? hasQuota(cache, object.metadata.namespace!) : definition.type.name === PRIORITY_CLASSES.name) await freshness.ownWrites();
  const classes = priorityClassesOf(cache);
  const name = definition.type.name === PODS.name ? ((object as Pod).spec?.priorityClassName ?? "") : "";
  // The cache may lag behind: what it lacks is looked up before the client is told no.
  const own = name === "" ? undefined : classes.byName(name) ?? (await store.get({ type: PRIORITY_CLASSES, namespace: "", name }))?.object;
  return admitted(context, definition.type, object, { ...classes, byName: () => own });
};

/** A new object, complete and valid, but for being stored. */
const newObject = (request: ResourceRequest, received: KubeObject, namespace: string): KubeObject => {
  const { context: { clock }, definition } = request;
  const { generateName = "" } = received.metadata;
  const { managedFields: _, selfLink: __, deletionTimestamp: ___, deletionGracePeriodSeconds: ____, resourceVersion: _____, ...metadata } = received.metadata;
  const name = metadata.name ?? (generateName === "" ? "" : generateName.slice(0, MAX_GENERATED_NAME - 5) + nameSuffix());
  const identified: KubeObject = {
    ...received,
    metadata: {
      ...metadata, ...(name === "" ? {} : { name }), ...(namespace === "" ? {} : { namespace }), uid: newUid(),
      creationTimestamp: timestamp(clock.nowMs()), generation: undefined,
    },
  };
  const prepared = definition.defaults(definition.strategy.prepareForCreate?.(identified, strategyContext(request)) ?? identified);
  checkValid(request, prepared, undefined);
  return generationPart(definition, prepared) === undefined ? prepared : { ...prepared, metadata: { ...prepared.metadata, generation: 1 } };
};

export const create = async (request: ResourceRequest): Promise<void> => {
  const { context: { store, freshness }, definition, exchange } = request;
  const dryRun = isDryRun(request);
  const received = storedFrom(definition, await receiveObject(exchange, expectedKindOf(definition)));
  if ((received.metadata.resourceVersion ?? "") !== "") throw new GantryError("BadRequest", "resourceVersion should not be set on objects to be created");
  const namespace = namespaceOf(request, received);
  const view = wholeView(definition);
  const mayRetry = received.metadata.name === undefined;
  for (let attempt = 1; ; attempt++) {
    const object = await admit(request, newObject(request, received, namespace));
    const name = object.metadata.name!;
    await checkNamespaceIsOpen(request, namespace, name);
    if (dryRun) {
      if (await store.get({ type: definition.type, namespace, name })) throw alreadyExists(definition.type, name);
      if (definition.type.namespaced) await quotasOf(request.context).charge(definition.type, object, { dryRun });
      return answer(request, 201, object, view);
    }
    try {
      const stored = freshness.wrote(await createCharged(request.context, definition.type, object, () => store.create({ type: definition.type, namespace, name }, object, WRITER)));
      return answer(request, 201, stored.object, view);
    } catch (error) {
      if (!mayRetry || attempt === NAME_ATTEMPTS || !isCode(error, "AlreadyExists")) throw withDetails(error, definition.type, name);
    }
  }
};

/** Stores what `edit` makes of what the view shows. */
const change = async (request: ResourceRequest, view: View, edit: (shown: KubeObject) => KubeObject, preconditions: Preconditions): Promise<void> => {
  const { context, definition, exchange: { info } } = request;
  const dryRun = isDryRun(request);
  if (definition.type.name === PRIORITY_CLASSES.name) await context.freshness.ownWrites();
  const next = (current: KubeObject): KubeObject => view.merge(edit(view.show(current)), current, request);
  const commit: Commit = (check) => commitChange(context, keyOf(request), (current) => {
    const changed = next(current);
    check?.(current, changed);
    return updateOrRemove(changed);
  }, { preconditions, dryRun });
  // All else that an update may change is nothing that a quota counts.
  const isCharged = info.subresource === "resize" && hasQuota(context.cache, info.namespace);
  const { object } = await (isCharged ? commitCharged(request, next, commit) : commit());
  answer(request, 200, object, view);
};

type Commit = (check?: (current: KubeObject, changed: KubeObject) => void) => Promise<Outcome>;

/** A change is charged by what it makes of the object as it was read. Should that be another one when it is written, it would make another difference: it is charged anew. */
const commitCharged = async (request: ResourceRequest, next: (current: KubeObject) => KubeObject, commit: Commit): Promise<Outcome> => {
  const { context, definition: { type }, exchange: { info } } = request;
  for (let attempt = 1; ; attempt++) {
    const before = (await readNewest(context, keyOf(request)))?.object;
    if (!before) return commit();
    const charged = next(before);
    let isOther = false;
    try {
      return await whileCharged(await quotasOf(context).charge(type, charged, { before, dryRun: isDryRun(request) }), () => commit((current, changed) => {
        isOther = !sameJson(usageOf(type, current), usageOf(type, before)) || !sameJson(usageOf(type, changed), usageOf(type, charged));
        if (isOther) throw conflict(type, info.name);
      }));
    } catch (error) {
      if (!isOther || attempt === CHARGE_ATTEMPTS) throw error;
    }
  }
};

const nonEmpty = (value: string | undefined): string | undefined => (value === "" ? undefined : value);

export const update = async (request: ResourceRequest, view: View): Promise<void> => {
  const { exchange } = request;
  const received = await receiveObject(exchange, view.expected);
  const { name = "" } = received.metadata;
  if (name !== exchange.info.name) throw new GantryError("BadRequest", name === "" ? "name must be provided" : `the name of the object (${name}) does not match the name on the URL (${exchange.info.name})`);
  namespaceOf(request, received);
  await change(request, view, () => received, { resourceVersion: nonEmpty(received.metadata.resourceVersion), uid: nonEmpty(received.metadata.uid) });
};

type Patch = (shown: KubeObject) => unknown;

const patchOf = (contentType: string, body: Buffer, schema: string): Patch => {
  switch (contentType) {
    case "application/json-patch+json": {
      const operations = parseJson(body);
      return (shown) => applyJsonPatch(shown, operations);
    }
    case "application/merge-patch+json": {
      const patch = parseJson(body);
      return (shown) => applyJsonMerge(shown, patch);
    }
    case "application/strategic-merge-patch+json": {
      // Upstream takes YAML here as well, of which JSON is a part.
      const patch = parseYamlText(body);
      return (shown) => applyStrategicMerge(schema, shown, patch);
    }
    case "application/apply-patch+yaml":
      throw new GantryError("UnsupportedMediaType", "server-side apply (application/apply-patch+yaml) is not served yet: use `kubectl apply` without --server-side");
    default:
      throw new GantryError("UnsupportedMediaType",
        `the body of the request was in an unknown format (${JSON.stringify(contentType)}) - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json`);
  }
};

export const patch = async (request: ResourceRequest, view: View): Promise<void> => {
  const { definition: { type }, exchange } = request;
  const validation = fieldValidationOf(exchange.query);
  const contentType = parseMediaType(exchange.headers["content-type"] ?? "").type;
  const apply = patchOf(contentType, await readBody(exchange), view.expected.schema);
  const edit = (shown: KubeObject): KubeObject => {
    const value = apply(shown);
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw new GantryError("BadRequest", "the patch does not leave an object");
    const edited = checkObject({ value: value as Record<string, unknown>, duplicates: [] }, view.expected, validation, (text) => exchange.warn(text));
    const { resourceVersion, uid } = edited.metadata;
    if (resourceVersion !== undefined && resourceVersion !== shown.metadata.resourceVersion) throw conflict(type, exchange.info.name);
    if (uid !== undefined && uid !== shown.metadata.uid) {
      throw conflict(type, exchange.info.name, `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${shown.metadata.uid}`);
    }
    return edited;
  };
  await change(request, view, edit, {});
};
