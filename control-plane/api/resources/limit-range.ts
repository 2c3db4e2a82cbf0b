// LimitRange: https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/limit-range-v1/
import type { FieldCause } from "../../../base/errors.ts";
import { tryParseQuantity } from "../../../base/kube/quantity.ts";
import { LIMIT_RANGES } from "../../../base/kube/resources.ts";
import type { LimitRange, LimitRangeItem } from "../../../base/kube/types.gen.ts";
import { column, nameColumn } from "./columns.ts";
import type { ResourceDefinition } from "./definition.ts";
import { duplicate, forbidden, invalid, NON_NEGATIVE, required } from "./faults.ts";
import { change, each, fill } from "./fill.ts";
import { validateMetadata } from "./metadata.ts";
import { isQualifiedName } from "./names.ts";

type Quantities = Record<string, string>;
const AMOUNTS = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] as const;
const STANDARD_TYPES = new Set(["Container", "Pod", "PersistentVolumeClaim"]);

/** `to` with what it lacks of `from`; the same reference when that is nothing. */
const withMissing = (to: Quantities | undefined, from: Quantities | undefined): Quantities | undefined => (from ? fill(to ?? {}, from) : to);

/** Who may have at most so much gets so much unless told otherwise; upstream's SetDefaults_LimitRangeItem. */
const itemDefaults = (item: LimitRangeItem): LimitRangeItem => {
  if (item.type !== "Container") return item;
  const limits = withMissing(item.default, item.max);
  const requests = withMissing(withMissing(item.defaultRequest, limits), item.min);
  return limits === item.default && requests === item.defaultRequest ? item : { ...item, ...(limits && { default: limits }), ...(requests && { defaultRequest: requests }) };
};

const validateItem = (path: string, item: LimitRangeItem): FieldCause[] => {
  const { type, min, max, maxLimitRequestRatio: ratio, defaultRequest } = item;
  const number = (quantity: string | undefined): number | undefined => (quantity === undefined ? undefined : tryParseQuantity(quantity));
  const names = new Set(AMOUNTS.flatMap((f) => Object.keys(item[f] ?? {})));
  /** `low` of the name may not be more than `high`. */
  const ordered = (name: string, low: readonly [string, Quantities | undefined], high: readonly [string, Quantities | undefined], at: string): FieldCause[] => {
    const [a, b] = [number(low[1]?.[name]), number(high[1]?.[name])];
    return a !== undefined && b !== undefined && a > b ? [invalid(`${path}.${at}[${name}]`, (at === low[0] ? low : high)[1]![name], `${low[0]} value ${low[1]![name]!} is greater than ${high[0]} value ${high[1]![name]!}`)] : [];
  };
  const [lowest, highest, limit, request] = [["min", min], ["max", max], ["default", item.default], ["defaultRequest", defaultRequest]] as const;
  return [
    ...(type ? isQualifiedName(type).map((m) => invalid(`${path}.type`, type, m)) : [required(`${path}.type`)]),
    ...(type && !type.includes("/") && !STANDARD_TYPES.has(type) ? [invalid(`${path}.type`, type, "must be a standard limit type or fully qualified")] : []),
    ...AMOUNTS.flatMap((f) => Object.entries(item[f] ?? {}).flatMap(([name, quantity]) => [
      ...isQualifiedName(name).map((m) => invalid(`${path}.${f}[${name}]`, name, m)), ...((number(quantity) ?? 0) < 0 ? [invalid(`${path}.${f}[${name}]`, quantity, NON_NEGATIVE)] : [])])),
    ...(type === "Pod" ? (["default", "defaultRequest"] as const).filter((f) => Object.keys(item[f] ?? {}).length > 0).map((f) => forbidden(`${path}.${f}`, "may not be specified when `type` is 'Pod'")) : []),
    ...(type === "PersistentVolumeClaim" && min?.["storage"] === undefined && max?.["storage"] === undefined
      ? [required(`${path}.limits`, "either minimum or maximum storage value is required, but neither was provided")] : []),
    ...[...names].sort().flatMap((name) => {
      const most = number(ratio?.[name]);
      const [least, biggest] = [number(min?.[name]), number(max?.[name])];
      return [
        ...ordered(name, lowest, highest, "min"),
        ...ordered(name, lowest, request, "defaultRequest"), ...ordered(name, request, highest, "defaultRequest"), ...ordered(name, request, limit, "defaultRequest"),
        ...ordered(name, lowest, limit, "default"), ...ordered(name, limit, highest, "default"),
        ...(most !== undefined && most < 1 ? [invalid(`${path}.maxLimitRequestRatio[${name}]`, ratio![name], `ratio ${ratio![name]!} is less than 1`)] : []),
        ...(most !== undefined && least !== undefined && biggest !== undefined && least > 0 && most > biggest / least
          ? [invalid(`${path}.maxLimitRequestRatio[${name}]`, ratio![name], `ratio ${ratio![name]!} is greater than max/min = ${(biggest / least).toFixed(6)}`)] : []),
      ];
    }),
  ];
};

export const LIMIT_RANGE: ResourceDefinition<LimitRange> = {
  type: LIMIT_RANGES,
  singular: "limitrange",
  shortNames: ["limits"],
  categories: [],
  schema: "core/v1.LimitRange",
  defaults: (range) => change(range, "spec", (spec) => change(spec, "limits", (limits) => each(limits, itemDefaults))),
  validate: (range, previous) => {
    const limits = range.spec?.limits ?? [];
    return [
      ...validateMetadata(LIMIT_RANGES, range, previous),
      ...limits.flatMap((item, i) => [
        ...validateItem(`spec.limits[${i}]`, item),
        ...(item.type && limits.findIndex((other) => other.type === item.type) < i ? [duplicate(`spec.limits[${i}].type`, item.type)] : []),
      ]),
    ];
  },
  strategy: { generationOf: () => undefined },
  columns: [nameColumn(), column("Created At", "date", "When the object was made.", (r) => r.metadata.creationTimestamp ?? "<unknown>")],
  fieldSelectors: {},
  subresources: {},
};
