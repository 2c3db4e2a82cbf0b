// Rules for every object's metadata: k8s.io/apimachinery/pkg/api/validation/objectmeta.go.
import type { FieldCause } from "../../../base/errors.ts";
import type { KubeObject, ResourceType } from "../../../base/kube/resources.ts";
import type { LabelSelector } from "../../../base/kube/types.gen.ts";
import { sameJson } from "./same-json.ts";
import { duplicate, forbidden, IMMUTABLE, invalid, nonNegative, oneOf, required, tooLong } from "./faults.ts";
import { isDnsLabel, isDnsSubdomain, isLabelValue, isQualifiedName, type NameRule } from "./names.ts";

const MAX_ANNOTATION_BYTES = 256 * 1024;

export const validateLabels = (path: string, labels: Readonly<Record<string, string>> | undefined): FieldCause[] =>
  Object.entries(labels ?? {}).flatMap(([key, value]) => [
    ...isQualifiedName(key).map((m) => invalid(path, key, m)),
    ...isLabelValue(value).map((m) => invalid(path, value, m)),
  ]);

export const validateAnnotations = (path: string, annotations: Readonly<Record<string, string>> | undefined): FieldCause[] => {
  const entries = Object.entries(annotations ?? {});
  const total = entries.reduce((sum, [k, v]) => sum + Buffer.byteLength(k) + Buffer.byteLength(v), 0);
  return [
    ...entries.flatMap(([key]) => isQualifiedName(key.toLowerCase()).map((m) => invalid(path, key, m))),
    ...(total > MAX_ANNOTATION_BYTES ? [tooLong(path, MAX_ANNOTATION_BYTES)] : []),
  ];
};

const validateOwners = (object: KubeObject): FieldCause[] => {
  const owners = object.metadata.ownerReferences ?? [];
  const path = "metadata.ownerReferences";
  const controllers = owners.filter((o) => o.controller === true);
  return [
    ...owners.flatMap((o, i) => [
      ...(o.apiVersion ? [] : [invalid(`${path}[${i}].apiVersion`, o.apiVersion ?? "", "version must not be empty")]),
      ...(o.kind ? [] : [invalid(`${path}[${i}].kind`, o.kind ?? "", "must not be empty")]),
      ...(o.name ? [] : [invalid(`${path}[${i}].name`, o.name ?? "", "must not be empty")]),
      ...(o.uid ? [] : [invalid(`${path}[${i}].uid`, o.uid ?? "", "must not be empty")]),
    ]),
    ...(controllers.length > 1
      ? [invalid(path, owners, `Only one reference can have Controller set to true. Found "true" in references for ${controllers.slice(0, 2).map((o) => `${o.kind}/${o.name}`).join(" and ")}`)] : []),
  ];
};

const validateFinalizers = (object: KubeObject): FieldCause[] => {
  const finalizers = object.metadata.finalizers ?? [];
  const path = "metadata.finalizers";
  return [
    ...finalizers.flatMap((f) => [
      ...isQualifiedName(f).map((m) => invalid(path, f, m)),
      ...(f.includes("/") || f === "orphan" || f === "foregroundDeletion" || f === "kubernetes" ? [] : [invalid(path, f, "name is neither a standard finalizer name nor is it fully qualified")]),
    ]),
    ...(finalizers.includes("orphan") && finalizers.includes("foregroundDeletion") ? [invalid(path, finalizers, "finalizer orphan and foregroundDeletion cannot be both set")] : []),
  ];
};

/** `nameRule` is what the kind asks of its name: a DNS subdomain for most, a label for those whose name becomes a label or host name. */
export const validateMetadata = (type: ResourceType, object: KubeObject, previous: KubeObject | undefined, nameRule: NameRule = isDnsSubdomain): FieldCause[] => {
  const meta = object.metadata;
  const causes: FieldCause[] = [];
  if (meta.generateName) causes.push(...nameRule(meta.generateName.replace(/[-.]$/, "a")).map((m) => invalid("metadata.generateName", meta.generateName, m)));
  if (!meta.name) causes.push(required("metadata.name", "name or generateName is required"));
  else if (!previous) causes.push(...nameRule(meta.name).map((m) => invalid("metadata.name", meta.name, m)));
  if (type.namespaced) {
    causes.push(...(meta.namespace ? isDnsLabel(meta.namespace).map((m) => invalid("metadata.namespace", meta.namespace, m)) : [required("metadata.namespace")]));
  } else if (meta.namespace) {
    causes.push(forbidden("metadata.namespace", "not allowed on this type"));
  }
  causes.push(
    ...nonNegative("metadata.generation", meta.generation),
    ...validateLabels("metadata.labels", meta.labels), ...validateAnnotations("metadata.annotations", meta.annotations),
    ...validateOwners(object), ...validateFinalizers(object),
  );
  if (previous) causes.push(...validateMetadataUpdate(object, previous));
  return causes;
};

const validateMetadataUpdate = (object: KubeObject, previous: KubeObject): FieldCause[] => {
  const [next, old] = [object.metadata, previous.metadata];
  const fixed = (["name", "namespace", "uid", "creationTimestamp"] as const)
    .filter((f) => (next[f] ?? "") !== (old[f] ?? ""))
    .map((f) => invalid(`metadata.${f}`, next[f] ?? null, IMMUTABLE));
  const added = old.deletionTimestamp === undefined ? [] : (next.finalizers ?? []).filter((f) => !old.finalizers?.includes(f));
  return [
    ...fixed,
    ...(next.deletionTimestamp === old.deletionTimestamp ? [] : [invalid("metadata.deletionTimestamp", next.deletionTimestamp ?? null, IMMUTABLE)]),
    ...(next.deletionGracePeriodSeconds === old.deletionGracePeriodSeconds ? [] : [invalid("metadata.deletionGracePeriodSeconds", next.deletionGracePeriodSeconds ?? null, IMMUTABLE)]),
    ...(added.length > 0 ? [forbidden("metadata.finalizers", `no new finalizers can be added if the object is being deleted, found new finalizers []string{${added.map((f) => JSON.stringify(f)).join(", ")}}`)] : []),
  ];
};

const SELECTOR_OPERATORS = ["In", "NotIn", "Exists", "DoesNotExist"];

export const validateLabelSelector = (path: string, selector: LabelSelector | undefined): FieldCause[] => [
  ...validateLabels(`${path}.matchLabels`, selector?.matchLabels),
  ...(selector?.matchExpressions ?? []).flatMap((e, i) => {
    const at = `${path}.matchExpressions[${i}]`;
    const values = e.values ?? [];
    const needsValues = e.operator === "In" || e.operator === "NotIn";
    return [
      ...(e.operator ? oneOf(`${at}.operator`, e.operator, SELECTOR_OPERATORS).map(() => invalid(`${at}.operator`, e.operator, "not a valid selector operator")) : [required(`${at}.operator`)]),
      ...(needsValues && values.length === 0 ? [required(`${at}.values`, "must be specified when `operator` is 'In' or 'NotIn'")] : []),
      ...(!needsValues && values.length > 0 ? [forbidden(`${at}.values`, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")] : []),
      ...isQualifiedName(e.key ?? "").map((m) => invalid(`${at}.key`, e.key ?? "", m)),
      ...values.flatMap((v, j) => isLabelValue(v).map((m) => invalid(`${at}.values[${j}]`, v, m))),
    ];
  }),
];

/** One cause for each part that may not change but did. */
export const immutable = (fields: readonly (readonly [path: string, next: unknown, old: unknown])[]): FieldCause[] =>
  fields.filter(([, next, old]) => !sameJson(next, old)).map(([path, next]) => invalid(path, next ?? null, IMMUTABLE));

/** A cause for each value that stood before. */
export const duplicates = <T>(items: readonly T[], key: (item: T) => string, path: (index: number) => string): FieldCause[] => {
  const seen = new Set<string>();
  return items.flatMap((item, i) => {
    const k = key(item);
    const again = seen.has(k);
    seen.add(k);
    return again ? [duplicate(path(i), k)] : [];
  });
};
