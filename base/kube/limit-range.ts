// What LimitRanges do to new objects: defaults for containers, and bounds for containers, pods and claims. Pure.
// https://kubernetes.io/docs/concepts/policy/limit-range/ ; upstream: plugin/pkg/admission/limitranger/admission.go, whose words these are.
import { parseAmounts, podRequests } from "./pod-requests.ts";
import type { Amounts } from "./pod-requests.ts";
import { formatQuantity } from "./quantity.ts";
import { qosClassOf } from "./qos-class.ts";
import type { Container, LimitRange, LimitRangeItem, PersistentVolumeClaim, Pod, PodSpec, ResourceRequirements } from "./types.gen.ts";

type Quantities = Readonly<Record<string, string>>;

/** Says in a pod which amounts it did not ask for itself. */
export const LIMIT_RANGER_ANNOTATION = "kubernetes.io/limit-ranger";

const itemsOf = (ranges: Iterable<LimitRange>, type: string): LimitRangeItem[] => [...ranges].flatMap((r) => r.spec?.limits ?? []).filter((item) => item.type === type);

/** Of several ranges each fills in what is still missing, as upstream, where their order is by chance; here it is by name. */
const inOrder = (ranges: Iterable<LimitRange>): LimitRange[] => [...ranges].sort((a, b) => ((a.metadata.name ?? "") < (b.metadata.name ?? "") ? -1 : 1));

interface Filled {
  readonly resources: ResourceRequirements;
  readonly requests: readonly string[];
  readonly limits: readonly string[];
}

const filled = (given: ResourceRequirements, requests: Quantities, limits: Quantities): Filled => {
  const missing = (has: Quantities | undefined, from: Quantities): string[] => Object.keys(from).filter((name) => has?.[name] === undefined);
  const [newLimits, newRequests] = [missing(given.limits, limits), missing(given.requests, requests)];
  const add = (has: Quantities | undefined, names: readonly string[], from: Quantities) => (names.length === 0 ? has : { ...has, ...Object.fromEntries(names.map((n) => [n, from[n]!])) });
  // Who limits itself and asks for nothing asks for its limit: a pod straight from a template hasn't seen that default.
  const asked = { ...requests, ...Object.fromEntries(newRequests.flatMap((n) => (given.limits?.[n] === undefined ? [] : [[n, given.limits[n]]]))) };
  return { requests: newRequests, limits: newLimits, resources: { ...given, limits: add(given.limits, newLimits, limits), requests: add(given.requests, newRequests, asked) } };
};

/** The pod with what the namespace's ranges give to containers that don't say; the same reference when they give nothing. */
export const withLimitDefaults = (pod: Pod, ranges: Iterable<LimitRange>): Pod => {
  const said: string[] = [];
  let spec: PodSpec | undefined = pod.spec;
  for (const { default: limits = {}, defaultRequest: requests = {} } of itemsOf(inOrder(ranges), "Container")) {
    if (!spec) break;
    const fill = (kind: string) => (container: Container): Container => {
      const next = filled(container.resources ?? {}, requests, limits);
      if (next.requests.length > 0) said.push(`${[...next.requests].sort().join(", ")} request for ${kind} ${container.name}`);
      if (next.limits.length > 0) said.push(`${[...next.limits].sort().join(", ")} limit for ${kind} ${container.name}`);
      return next.requests.length + next.limits.length === 0 ? container : { ...container, resources: next.resources };
    };
    spec = { ...spec, containers: spec.containers.map(fill("container")), ...(spec.initContainers && { initContainers: spec.initContainers.map(fill("init container")) }) };
  }
  if (said.length === 0) return pod;
  return {
    ...pod, spec, metadata: { ...pod.metadata, annotations: { ...pod.metadata.annotations, [LIMIT_RANGER_ANNOTATION]: `LimitRanger plugin set: ${said.join("; ")}` } },
    ...(pod.status && spec && { status: { ...pod.status, qosClass: qosClassOf(spec) } }),
  };
};

interface Asked {
  readonly requests: Amounts;
  readonly limits: Amounts;
  /** A claim has requests only: they are held against its bounds. */
  readonly only?: "requests";
}

/** Everything in which what is asked for goes beyond the item. */
const faultsOf = ({ type, min, max, maxLimitRequestRatio }: LimitRangeItem, { requests, limits, only }: Asked): string[] => {
  const of = (amounts: Amounts, name: string): number | undefined => (Object.hasOwn(amounts, name) ? amounts[name] : undefined);
  const checks = (bounds: Quantities | undefined, check: (name: string, bound: number, text: string, request: number | undefined, limit: number | undefined) => string | undefined): string[] =>
    Object.entries(bounds ?? {}).flatMap(([name, text]) => check(name, parseAmounts({ [name]: text })[name]!, text, of(requests, name), only === "requests" ? undefined : of(limits, name)) ?? []);
  const shown = (name: string, amount: number): string => formatQuantity(name, amount);
  return [
    ...checks(min, (name, bound, text, request, limit) => {
      const head = `minimum ${name} usage per ${type} is ${text}`;
      if (request === undefined) return `${head}.  No request is specified`;
      if (request < bound) return `${head}, but request is ${shown(name, request)}`;
      return limit !== undefined && limit < bound ? `${head}, but limit is ${shown(name, limit)}` : undefined;
    }),
    ...checks(max, (name, bound, text, request, limit) => {
      const head = `maximum ${name} usage per ${type} is ${text}`;
      if (only === undefined && limit === undefined) return `${head}.  No limit is specified`;
      if (limit !== undefined && limit > bound) return `${head}, but limit is ${shown(name, limit)}`;
      return request !== undefined && request > bound ? `${head}, but request is ${shown(name, request)}` : undefined;
    }),
    ...checks(maxLimitRequestRatio, (name, _, text, request, limit) => {
      const head = `${name} max limit to request ratio per ${type} is ${text}`;
      if (!request) return `${head}, but no request is specified or request is 0`;
      if (!limit) return `${head}, but no limit is specified or limit is 0`;
      // A ratio has no unit: it is as plain a number as it is written.
      return limit / request > ratioOf(text) ? `${head}, but provided ratio is ${(limit / request).toFixed(6)}` : undefined;
    }),
  ];
};

const ratioOf = (text: string): number => parseAmounts({ cpu: text })["cpu"]! / 1000;

/** What the ranges have against the pod; nothing when it may be. */
export const podLimitFaults = (pod: Pod, ranges: Iterable<LimitRange>): string[] => {
  const all = inOrder(ranges);
  const { spec } = pod;
  if (!spec || all.length === 0) return [];
  return [
    ...itemsOf(all, "Container").flatMap((item) => [...spec.containers, ...(spec.initContainers ?? [])]
      .flatMap((c) => faultsOf(item, { requests: parseAmounts({ ...c.resources?.limits, ...c.resources?.requests }), limits: parseAmounts(c.resources?.limits) }))),
    ...itemsOf(all, "Pod").flatMap((item) => faultsOf(item, { requests: podRequests(spec), limits: podRequests(spec, "limits") })),
  ];
};

export const claimLimitFaults = (claim: PersistentVolumeClaim, ranges: Iterable<LimitRange>): string[] =>
  itemsOf(inOrder(ranges), "PersistentVolumeClaim").flatMap((item) => faultsOf(item, { requests: parseAmounts(claim.spec?.resources?.requests), limits: {}, only: "requests" }));
