// Rules for amounts of resources: pkg/apis/core/validation ValidateResourceRequirements and its kin.
import type { FieldCause } from "../../../base/errors.ts";
import { isHugePages, pageBytesOf } from "../../../base/kube/huge-pages.ts";
import { tryParseQuantity } from "../../../base/kube/quantity.ts";
import type { ResourceRequirements } from "../../../base/kube/types.gen.ts";
import { forbidden, invalid, NON_NEGATIVE, required } from "./faults.ts";
import { isQualifiedName } from "./names.ts";

type Amounts = Readonly<Record<string, string>>;

const STANDARD = new Set(["cpu", "memory", "ephemeral-storage", "pods", "storage"]);
const CONTAINER = new Set(["cpu", "memory", "ephemeral-storage"]);
const INTEGER_ONLY = "must be an integer";

const validateResourceName = (path: string, name: string, standard: ReadonlySet<string>): FieldCause[] => {
  const faults = isQualifiedName(name).map((m) => invalid(path, name, m));
  if (faults.length > 0) return faults;
  return name.includes("/") || standard.has(name) || isHugePages(name) ? []
    : [invalid(path, name, "must be a standard resource type or fully qualified")];
};

/** Amounts as a node has them; with `names` as a container may ask for them. */
export const validateAmounts = (path: string, amounts: Amounts | undefined, names: ReadonlySet<string> = STANDARD): FieldCause[] =>
  Object.entries(amounts ?? {}).flatMap(([name, quantity]) => {
    const value = tryParseQuantity(quantity) ?? Number.NaN;
    const at = `${path}[${name}]`;
    return [
      ...validateResourceName(at, name, names),
      ...(value < 0 ? [invalid(at, quantity, NON_NEGATIVE)] : []),
      ...((name.includes("/") || name === "pods") && !Number.isInteger(value) ? [invalid(at, quantity, INTEGER_ONLY)] : []),
    ];
  });

const validateRequest = (path: string, name: string, request: string, limits: Amounts): FieldCause[] => {
  const limit = Object.hasOwn(limits, name) ? limits[name] : undefined;
  const overcommits = CONTAINER.has(name);
  if (limit === undefined) return overcommits ? [] : [required(`${path}.limits`, "Limit must be set for non overcommitable resources")];
  const [asked, allowed] = [tryParseQuantity(request) ?? 0, tryParseQuantity(limit) ?? 0];
  if (!overcommits && asked !== allowed) return [invalid(`${path}.requests`, request, `must be equal to ${name} limit of ${limit}`)];
  return asked > allowed ? [invalid(`${path}.requests`, request, `must be less than or equal to ${name} limit of ${limit}`)] : [];
};

/** Whole pages, and something to run on besides: upstream's validateResourceQuantityHugePageValue. */
const validateHugePages = (path: string, resources: ResourceRequirements): FieldCause[] => {
  const given = (["limits", "requests"] as const).flatMap((kind) => Object.entries(resources[kind] ?? {}).map(([name, quantity]) => ({ at: `${path}.${kind}[${name}]`, name, quantity })));
  const pages = given.filter(({ name }) => isHugePages(name));
  return [
    ...pages.filter(({ name, quantity }) => (tryParseQuantity(quantity) ?? 0) % (pageBytesOf(name) ?? Number.NaN) !== 0).map(({ at, name, quantity }) => invalid(at, quantity, `is not positive integer multiple of ${name}`)),
    ...(pages.length === 0 || given.some(({ name }) => name === "cpu" || name === "memory") ? [] : [forbidden(path, "HugePages require cpu or memory")]),
  ];
};

export const validateResources = (path: string, resources: ResourceRequirements | undefined): FieldCause[] => [
  ...validateAmounts(`${path}.limits`, resources?.limits, CONTAINER),
  ...validateAmounts(`${path}.requests`, resources?.requests, CONTAINER),
  ...Object.entries(resources?.requests ?? {}).flatMap(([name, request]) => validateRequest(path, name, request, resources?.limits ?? {})),
  ...(resources ? validateHugePages(path, resources) : []),
  ...(resources?.claims?.length ? [invalid(`${path}.claims`, resources.claims, "dynamic resource allocation is not supported by Gantry")] : []),
];
