// What the kinds share that make pods from a template: rules for templates and selectors, counts as numbers or percentages.
import type { FieldCause } from "../../../base/errors.ts";
import { fromLabelSelector, selectorMatches } from "../../../base/kube/labels.ts";
import type { LabelSelector, PodTemplateSpec } from "../../../base/kube/types.gen.ts";
import { forbidden, invalid, nonNegative, required } from "./faults.ts";
import { validateAnnotations, validateLabels, validateLabelSelector } from "./metadata.ts";
import { validateLifecycle, validatePodSpec, validateStartAt } from "./pod-validation.ts";

export const validateTemplate = (path: string, template: PodTemplateSpec | undefined, restartPolicies: readonly string[]): FieldCause[] => {
  if (!template) return [required(path)];
  return [
    ...validateLabels(`${path}.labels`, template.metadata?.labels),
    ...validateAnnotations(`${path}.annotations`, template.metadata?.annotations), ...validateStartAt(`${path}.annotations`, template.metadata?.annotations),
    ...validateLifecycle(`${path}.annotations`, template.metadata?.annotations),
    ...(template.spec ? validatePodSpec(`${path}.spec`, template.spec, restartPolicies) : [required(`${path}.spec.containers`)]),
  ];
};

/** For kinds that keep pods running for ever, and whose selector the user writes. `kind` is for messages. */
export const validateReplicated = (kind: string, spec: { replicas?: number | undefined; minReadySeconds?: number | undefined; selector?: LabelSelector | undefined; template?: PodTemplateSpec | undefined }): FieldCause[] => {
  const { selector, template } = spec;
  const empty = selector !== undefined && Object.keys(selector.matchLabels ?? {}).length + (selector.matchExpressions?.length ?? 0) === 0;
  const matches = selector === undefined || template === undefined || selectorMatches(fromLabelSelector(selector), template.metadata?.labels);
  return [
    ...nonNegative("spec.replicas", spec.replicas), ...nonNegative("spec.minReadySeconds", spec.minReadySeconds),
    ...(selector === undefined ? [required("spec.selector")] : validateLabelSelector("spec.selector", selector)),
    ...(empty ? [invalid("spec.selector", selector, `empty selector is invalid for ${kind}`)] : []),
    ...(matches ? [] : [invalid("spec.template.metadata.labels", template.metadata?.labels ?? {}, "`selector` does not match template `labels`")]),
    ...validateTemplate("spec.template", template, ["Always"]),
    ...(template?.spec?.activeDeadlineSeconds === undefined ? [] : [forbidden("spec.template.spec.activeDeadlineSeconds", `activeDeadlineSeconds in ${kind} is not supported: its pods run for ever`)]),
  ];
};

const PERCENT = /^\d+%$/;

/** An absolute number or a percentage. */
export const validateCountOrPercent = (path: string, value: number | string | undefined): FieldCause[] => {
  if (value === undefined) return [];
  if (typeof value === "number") return nonNegative(path, value);
  return PERCENT.test(value) ? [] : [invalid(path, value, "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')")];
};

export const isZero = (value: number | string | undefined): boolean => value === 0 || value === "0%";

const percentAbove = (value: number | string | undefined): boolean => typeof value === "string" && Number.parseInt(value, 10) > 100;
export const notAboveHundred = (path: string, value: number | string | undefined): FieldCause[] => (percentAbove(value) ? [invalid(path, value, "must not be greater than 100%")] : []);
