// What ResourceQuotas count: how much of which resource an object uses, which quotas it falls under, and what is too much. Pure.
// https://kubernetes.io/docs/concepts/policy/resource-quotas/ ; upstream: k8s.io/apiserver/pkg/quota/v1 and pkg/quota/v1/evaluator/core.
import { fromLabelSelector, selectorMatches } from "./labels.ts";
import { podRequests } from "./pod-requests.ts";
import type { Amounts } from "./pod-requests.ts";
import { formatQuantity, toMilli, toUnits } from "./quantity.ts";
import { qosClassOf } from "./qos-class.ts";
import { PERSISTENT_VOLUME_CLAIMS, PODS } from "./resources.ts";
import type { KubeObject, ResourceType } from "./resources.ts";
import type { PersistentVolumeClaim, Pod, ResourceQuota, ScopedResourceSelectorRequirement } from "./types.gen.ts";

/** Kinds of the core group that a quota may also name without `count/`. */
export const COUNTED_BY_NAME: ReadonlySet<string> = new Set(["pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps", "persistentvolumeclaims"]);
/** The resources that a container must say something about where a quota limits them. */
const MUST_BE_SPECIFIED = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
const CLASS_SUFFIX = ".storageclass.storage.k8s.io/";

const baseName = (resource: string): string => resource.replace(/^(requests|limits)\./, "");
/** In milli-CPU or whole units, as everywhere. */
export const quotaAmount = (resource: string, quantity: string): number => (baseName(resource) === "cpu" ? toMilli(quantity) : toUnits(quantity));
export const quotaAmounts = (quantities: Readonly<Record<string, string>> | undefined): Amounts => Object.fromEntries(Object.entries(quantities ?? {}).map(([name, q]) => [name, quotaAmount(name, q)]));
export const quotaQuantities = (amounts: Amounts): Record<string, string> => Object.fromEntries(Object.entries(amounts).sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, n]) => [name, formatQuantity(name, n)]));

const isTerminal = (pod: Pod): boolean => pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";

const podUsage = (pod: Pod): Amounts => {
  const usage: Amounts = { "count/pods": 1 };
  if (!pod.spec || isTerminal(pod)) return usage;
  usage["pods"] = 1;
  for (const [name, amount] of Object.entries(podRequests(pod.spec))) {
    usage[`requests.${name}`] = amount;
    if (!name.includes("/")) usage[name] = amount;
  }
  for (const [name, amount] of Object.entries(podRequests(pod.spec, "limits"))) usage[`limits.${name}`] = amount;
  return usage;
};

const claimUsage = (claim: PersistentVolumeClaim): Amounts => {
  const storage = toUnits(claim.spec?.resources?.requests?.["storage"] ?? "0");
  const own = { persistentvolumeclaims: 1, "requests.storage": storage };
  const className = claim.spec?.storageClassName ?? "";
  return { "count/persistentvolumeclaims": 1, ...own, ...(className === "" ? {} : Object.fromEntries(Object.entries(own).map(([name, amount]) => [`${className}${CLASS_SUFFIX}${name}`, amount]))) };
};

const known = new WeakMap<KubeObject, Amounts>();

/** Everything of an object that a quota can count. Objects don't change, so each is looked at once. */
export const usageOf = (type: ResourceType, object: KubeObject): Amounts => {
  let usage = known.get(object);
  if (usage === undefined) {
    usage = type.name === PODS.name ? podUsage(object) : type.name === PERSISTENT_VOLUME_CLAIMS.name ? claimUsage(object)
      : { [`count/${type.name}`]: 1, ...(type.group === "" && COUNTED_BY_NAME.has(type.plural) && { [type.plural]: 1 }) };
    known.set(object, usage);
  }
  return usage;
};

/** Whether a quota that limits `resource` has to look at objects of this type. */
export const isCountedBy = (type: ResourceType, resource: string): boolean => {
  if (resource === `count/${type.name}`) return true;
  if (type.name === PERSISTENT_VOLUME_CLAIMS.name) return resource === "persistentvolumeclaims" || resource === "requests.storage" || resource.includes(CLASS_SUFFIX);
  if (type.name !== PODS.name) return type.group === "" && type.plural === resource && COUNTED_BY_NAME.has(resource);
  return !resource.startsWith("count/") && resource !== "requests.storage" && !resource.includes(CLASS_SUFFIX) && (resource === "pods" || !COUNTED_BY_NAME.has(resource));
};

export type Scope = Pick<ScopedResourceSelectorRequirement, "scopeName" | "operator" | "values">;

/** All scopes of a quota, plain and selected. */
export const scopesOf = ({ spec }: ResourceQuota): Scope[] => [
  ...(spec?.scopes ?? []).map((scopeName) => ({ scopeName, operator: "Exists" })), ...(spec?.scopeSelector?.matchExpressions ?? []),
];

const hasForeignAffinity = ({ spec }: Pod): boolean => {
  const terms = [spec?.affinity?.podAffinity, spec?.affinity?.podAntiAffinity].flatMap((a) => [
    ...(a?.requiredDuringSchedulingIgnoredDuringExecution ?? []), ...(a?.preferredDuringSchedulingIgnoredDuringExecution ?? []).map((p) => p.podAffinityTerm)]);
  return terms.some((term) => (term?.namespaces?.length ?? 0) > 0 || term?.namespaceSelector !== undefined);
};

const isInScope = ({ scopeName, operator, values = [] }: Scope, pod: Pod): boolean => {
  const isBestEffort = (): boolean => pod.spec !== undefined && qosClassOf(pod.spec) === "BestEffort";
  switch (scopeName) {
    case "Terminating": return (pod.spec?.activeDeadlineSeconds ?? -1) >= 0;
    case "NotTerminating": return (pod.spec?.activeDeadlineSeconds ?? -1) < 0;
    case "BestEffort": return isBestEffort();
    case "NotBestEffort": return !isBestEffort();
    case "CrossNamespacePodAffinity": return hasForeignAffinity(pod);
    case "PriorityClass": {
      const name = pod.spec?.priorityClassName ?? "";
      return selectorMatches(fromLabelSelector({ matchExpressions: [{ key: scopeName, operator, values }] }), name === "" ? {} : { [scopeName]: name });
    }
    default: return false;
  }
};

export type Counts = (type: ResourceType, object: KubeObject) => boolean;

/** Tells of objects of the quota's namespace whether it counts them. Scopes are of pods alone: a quota that has some counts nothing else. */
export const countedBy = (quota: ResourceQuota): Counts => {
  const names = Object.keys(quota.spec?.hard ?? {});
  const scopes = scopesOf(quota);
  const types = new Map<string, boolean>();
  return (type, object) => {
    let counts = types.get(type.name);
    if (counts === undefined) types.set(type.name, (counts = (scopes.length === 0 || type.name === PODS.name) && names.some((name) => isCountedBy(type, name))));
    return counts && scopes.every((scope) => isInScope(scope, object as Pod));
  };
};

/** Of an amount that `names` has. */
export const masked = (amounts: Amounts, names: Readonly<Record<string, unknown>>): Amounts => Object.fromEntries(Object.entries(amounts).filter(([name]) => Object.hasOwn(names, name)));

/** Names of the containers that say nothing of what the quota limits, or undefined: `cpu for: a,b; memory for: a`. */
export const unspecified = (quota: ResourceQuota, pod: Pod): string | undefined => {
  const missing = MUST_BE_SPECIFIED.filter((name) => Object.hasOwn(quota.spec?.hard ?? {}, name)).flatMap((name) => {
    const containers = [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? [])].filter(({ resources }) => {
      const limit = resources?.limits?.[baseName(name)];
      return (name.startsWith("limits.") ? limit : resources?.requests?.[baseName(name)] ?? limit) === undefined;
    });
    return containers.length === 0 ? [] : [`${name} for: ${containers.map((c) => c.name).sort().join(",")}`];
  });
  return missing.length === 0 ? undefined : missing.join("; ");
};

/** What would be too much, in upstream's words; undefined when it fits. Only what grows is held against the quota. */
export const exceeded = (quota: ResourceQuota, used: Amounts, delta: Amounts): string | undefined => {
  const hard = quotaAmounts(quota.spec?.hard);
  const names = Object.keys(delta).filter((name) => Object.hasOwn(hard, name) && delta[name]! > 0 && (used[name] ?? 0) + delta[name]! > hard[name]!).sort();
  if (names.length === 0) return undefined;
  const text = (amounts: Amounts): string => names.map((name) => `${name}=${formatQuantity(name, amounts[name] ?? 0)}`).join(",");
  return `exceeded quota: ${quota.metadata.name!}, requested: ${text(delta)}, used: ${text(used)}, limited: ${text(hard)}`;
};

/** a + b, or a - b, in every name that either has. */
export const plus = (a: Amounts, b: Amounts, factor: 1 | -1 = 1): Amounts => {
  const sum = { ...a };
  for (const [name, amount] of Object.entries(b)) sum[name] = (sum[name] ?? 0) + factor * amount;
  return sum;
};

/**
 * What was charged for objects that may not be seen yet, by `RESOURCE/UID`, in an annotation of the quota. Without it a recount, which
 * goes by the objects that are there, would give away once more what an object on its way has been granted.
 */
export const PENDING_ANNOTATION = "gantry.io/quota-pending";
/** An object that isn't seen this long after its charge was not made. */
export const PENDING_MS = 60_000;
/** A user's update may not leave more than 256 KiB of annotations. */
export const MAX_PENDING = 1000;

export interface PendingCharge {
  readonly atMs: number;
  /** All that the object uses, not what is new. */
  readonly usage: Amounts;
}
export type Pending = Readonly<Record<string, PendingCharge>>;

export const pendingKey = (type: ResourceType, object: KubeObject): string => `${type.name}/${object.metadata.uid ?? object.metadata.name ?? ""}`;

export const pendingOf = ({ metadata }: ResourceQuota): Pending => {
  try {
    const value = JSON.parse(metadata.annotations?.[PENDING_ANNOTATION] ?? "{}") as Pending | null;
    return Object.fromEntries(Object.entries(value ?? {}).filter(([, charge]) => typeof charge?.atMs === "number" && typeof charge.usage === "object" && charge.usage !== null));
  } catch {
    // Written over by somebody: what was on its way is counted when it is there.
    return {};
  }
};

/** The quota with what it has been counted to, and what is pending. */
export const withCount = (quota: ResourceQuota, { used, pending }: Pick<Count, "used" | "pending">): ResourceQuota => {
  const { [PENDING_ANNOTATION]: _, ...others } = quota.metadata.annotations ?? {};
  const annotations = Object.keys(pending).length === 0 ? others : { ...others, [PENDING_ANNOTATION]: JSON.stringify(pending) };
  return {
    ...quota, metadata: { ...quota.metadata, annotations: Object.keys(annotations).length === 0 ? undefined : annotations },
    status: { ...quota.status, hard: quota.spec?.hard ?? {}, used: quotaQuantities(used) },
  };
};

export interface CountInput {
  readonly quota: ResourceQuota;
  /** All objects of its namespace, of every type that it counts. */
  readonly objects: Iterable<{ readonly type: ResourceType; readonly object: KubeObject }>;
  /** Keys of objects that were there and are gone. */
  readonly isGone: (key: string) => boolean;
  readonly nowMs: number;
}

export interface Count {
  readonly used: Amounts;
  readonly pending: Record<string, PendingCharge>;
  /** When time alone changes the count. */
  readonly againMs: number | undefined;
}

/** A pod whose time to end is over may sit on a lost node for long: it doesn't keep others out (upstream). */
const overdueAtMs = ({ metadata }: KubeObject): number =>
  (metadata.deletionTimestamp === undefined ? Infinity : Date.parse(metadata.deletionTimestamp) + (metadata.deletionGracePeriodSeconds ?? 0) * 1000);

/** Counts from nothing. The quota and the objects must be of one version of the store, or what was just made counts twice or not at all. */
export const recount = ({ quota, objects, isGone, nowMs }: CountInput): Count => {
  const names = Object.keys(quota.spec?.hard ?? {});
  const charges = pendingOf(quota);
  const counts = countedBy(quota);
  const pending: Record<string, PendingCharge> = {};
  const used: Amounts = Object.fromEntries(names.map((name) => [name, 0]));
  const found = new Set<string>();
  let nextMs = Infinity;
  const add = (usage: Amounts): void => {
    for (const name of names) used[name]! += usage[name] ?? 0;
  };
  const waitsFor = (key: string, charge: PendingCharge): boolean => {
    if (nowMs - charge.atMs >= PENDING_MS) return false;
    pending[key] = charge;
    nextMs = Math.min(nextMs, charge.atMs + PENDING_MS);
    return true;
  };
  for (const { type, object } of objects) {
    if (!counts(type, object)) continue;
    const key = pendingKey(type, object);
    found.add(key);
    const overdueMs = type.name === PODS.name ? overdueAtMs(object) : Infinity;
    if (overdueMs <= nowMs) continue;
    nextMs = Math.min(nextMs, overdueMs);
    const usage = usageOf(type, object);
    const charge = charges[key];
    // More was granted than is seen: a resize that is on its way. What has ended uses nothing any more.
    const isMore = charge !== undefined && !isTerminal(object) && Object.entries(charge.usage).some(([name, amount]) => amount > (usage[name] ?? 0));
    add(isMore && waitsFor(key, charge) ? Object.fromEntries(names.map((name) => [name, Math.max(usage[name] ?? 0, charge.usage[name] ?? 0)])) : usage);
  }
  for (const [key, charge] of Object.entries(charges)) if (!found.has(key) && !isGone(key) && waitsFor(key, charge)) add(charge.usage);
  return { used, pending, againMs: nextMs === Infinity ? undefined : Math.max(1, nextMs - nowMs) };
};

/** What of `delta` has to be granted. */
export const growthOf = (quota: ResourceQuota, delta: Amounts): Amounts =>
  Object.fromEntries(Object.entries(masked(delta, quota.spec?.hard ?? {})).filter(([, amount]) => amount > 0));

/** Takes `delta` for the object from what the count leaves of the quota, or says what the quota has against it. Changes the count in place. */
export const take = (quota: ResourceQuota, count: { used: Amounts; pending: Record<string, PendingCharge> }, key: string, usage: Amounts, delta: Amounts, nowMs: number): string | undefined => {
  const fault = exceeded(quota, count.used, delta);
  if (fault !== undefined) return fault;
  const growth = Object.entries(growthOf(quota, delta));
  for (const [name, amount] of growth) count.used[name] = (count.used[name] ?? 0) + amount;
  if (growth.length > 0) count.pending[key] = { atMs: nowMs, usage: masked(usage, quota.spec?.hard ?? {}) };
  return undefined;
};
