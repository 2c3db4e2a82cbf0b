// ResourceQuota: https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/resource-quota-v1/
import type { FieldCause } from "../../../base/errors.ts";
import { tryParseQuantity } from "../../../base/kube/quantity.ts";
import { COUNTED_BY_NAME, PENDING_ANNOTATION, scopesOf } from "../../../base/kube/quota.ts";
import { RESOURCE_QUOTAS } from "../../../base/kube/resources.ts";
import type { ResourceQuota, ResourceQuotaSpec } from "../../../base/kube/types.gen.ts";
import { ageColumn, column, nameColumn } from "./columns.ts";
import type { ResourceDefinition } from "./definition.ts";
import { duplicate, invalid, NON_NEGATIVE, notSupported, required } from "./faults.ts";
import { without } from "./fill.ts";
import { immutable, validateMetadata } from "./metadata.ts";
import { isQualifiedName } from "./names.ts";

const SCOPES = ["BestEffort", "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "PriorityClass", "Terminating"];
const CONFLICTING = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] as const;
const OPERATORS = ["DoesNotExist", "Exists", "In", "NotIn"];
const AMOUNTS = new Set(["cpu", "memory", "ephemeral-storage", "requests.cpu", "requests.memory", "requests.ephemeral-storage", "requests.storage", "limits.cpu", "limits.memory", "limits.ephemeral-storage"]);
const NAMES = new Set([...AMOUNTS, ...COUNTED_BY_NAME, "services.nodeports", "services.loadbalancers"]);
/** What of a pod a quota with scopes may limit; of best-effort pods, which ask for nothing, only their number. */
const OF_PODS = new Set(["pods", "cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"]);

const validateName = (path: string, name: string): FieldCause[] => {
  const faults = isQualifiedName(name).map((m) => invalid(path, name, m));
  if (faults.length > 0) return faults;
  return name.includes("/") || NAMES.has(name) || /^(requests\.)?hugepages-/.test(name) ? [] : [invalid(path, name, "must be a standard resource for quota")];
};

const validateHard = (hard: Readonly<Record<string, string>>): FieldCause[] => Object.entries(hard).flatMap(([name, quantity]) => {
  const at = `spec.hard[${name}]`;
  const value = tryParseQuantity(quantity) ?? Number.NaN;
  const isCount = name.startsWith("count/") || COUNTED_BY_NAME.has(name) || name.startsWith("services.");
  return [
    ...validateName(at, name),
    ...(value < 0 ? [invalid(at, quantity, NON_NEGATIVE)] : []),
    ...(isCount && !Number.isInteger(value) ? [invalid(at, quantity, "must be an integer")] : []),
  ];
});

const validateScopes = (quota: ResourceQuota, spec: ResourceQuotaSpec): FieldCause[] => {
  const names = new Set(scopesOf(quota).map((s) => s.scopeName));
  const path = spec.scopes?.length ? "spec.scopes" : "spec.scopeSelector";
  const isFit = (resource: string): boolean => [...names].every((scope) => (scope === "BestEffort" ? resource === "pods" : OF_PODS.has(resource)));
  return [
    ...(spec.scopes ?? []).filter((s) => !SCOPES.includes(s)).map((s) => notSupported("spec.scopes", s, SCOPES)),
    ...(spec.scopes ?? []).filter((s, i, all) => all.indexOf(s) !== i).map((s) => duplicate("spec.scopes", s)),
    ...(spec.scopeSelector?.matchExpressions ?? []).flatMap(({ scopeName, operator, values = [] }, i) => {
      const at = `spec.scopeSelector.matchExpressions[${i}]`;
      return [
        ...(SCOPES.includes(scopeName) ? [] : [notSupported(`${at}.scopeName`, scopeName, SCOPES)]),
        ...(OPERATORS.includes(operator) ? [] : [notSupported(`${at}.operator`, operator, OPERATORS)]),
        ...(SCOPES.includes(scopeName) && scopeName !== "PriorityClass" && operator !== "Exists" ? [invalid(`${at}.operator`, operator, "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity")] : []),
        ...((operator === "In" || operator === "NotIn") && values.length === 0 ? [required(`${at}.values`, "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector")] : []),
        ...((operator === "Exists" || operator === "DoesNotExist") && values.length > 0 ? [invalid(`${at}.values`, values, "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector")] : []),
      ];
    }),
    ...CONFLICTING.filter((pair) => pair.every((s) => names.has(s))).map(() => invalid(path, [...names], "conflicting scopes")),
    ...(names.size === 0 ? [] : Object.keys(spec.hard ?? {}).filter((name) => !isFit(name)).map((name) => invalid(path, [...names], `unsupported scope applied to resource ${name}`))),
  ];
};

const shares = (quota: ResourceQuota, ofLimits: boolean): string => Object.entries(quota.status?.hard ?? {}).filter(([name]) => name.startsWith("limits") === ofLimits)
  .sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, hard]) => `${name}: ${quota.status?.used?.[name] ?? "0"}/${hard}`).join(", ");

export const RESOURCE_QUOTA: ResourceDefinition<ResourceQuota> = {
  type: RESOURCE_QUOTAS,
  singular: "resourcequota",
  shortNames: ["quota"],
  categories: [],
  schema: "core/v1.ResourceQuota",
  defaults: (quota) => quota,
  validate: (quota, previous) => [
    ...validateMetadata(RESOURCE_QUOTAS, quota, previous), ...validateHard(quota.spec?.hard ?? {}), ...validateScopes(quota, quota.spec ?? {}),
    ...(previous ? immutable([["spec.scopes", quota.spec?.scopes, previous.spec?.scopes], ["spec.scopeSelector", quota.spec?.scopeSelector, previous.spec?.scopeSelector]]) : []),
  ],
  strategy: {
    prepareForCreate: (quota) => without(withPending(quota, undefined), "status"),
    // Nobody's but admission's: lost, it would let through what was granted to others already.
    prepareForUpdate: (next, current) => withPending(next, current.metadata.annotations?.[PENDING_ANNOTATION]),
    generationOf: () => undefined,
  },
  columns: [
    nameColumn(), column("Request", "string", "Request represents a minimum amount of cpu/memory that a container may consume.", (q) => shares(q, false)),
    column("Limit", "string", "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.", (q) => shares(q, true)), ageColumn(),
  ],
  fieldSelectors: {},
  subresources: { status: true },
};

const withPending = (quota: ResourceQuota, pending: string | undefined): ResourceQuota => {
  if (quota.metadata.annotations?.[PENDING_ANNOTATION] === pending) return quota;
  const { [PENDING_ANNOTATION]: _, ...others } = quota.metadata.annotations ?? {};
  return { ...quota, metadata: { ...quota.metadata, annotations: pending === undefined ? others : { ...others, [PENDING_ANNOTATION]: pending } } };
};
