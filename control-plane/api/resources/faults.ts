// The words of a validation fault, as k8s.io/apimachinery/pkg/util/validation/field writes them: scripts and people know them.
// A FieldCause's message is without the path (Status.details.causes); status.ts composes the sentence with it.
import type { FieldCause } from "../../../base/errors.ts";

const text = (value: unknown): string => JSON.stringify(value) ?? "null";

export const required = (field: string, detail = ""): FieldCause =>
  ({ field, reason: "FieldValueRequired", message: detail ? `Required value: ${detail}` : "Required value" });
export const invalid = (field: string, value: unknown, detail: string): FieldCause =>
  ({ field, reason: "FieldValueInvalid", message: `Invalid value: ${text(value)}: ${detail}` });
export const notSupported = (field: string, value: unknown, supported: readonly string[]): FieldCause =>
  ({ field, reason: "FieldValueNotSupported", message: `Unsupported value: ${text(value)}: supported values: ${[...supported].sort().map(text).join(", ")}` });
export const duplicate = (field: string, value: unknown): FieldCause =>
  ({ field, reason: "FieldValueDuplicate", message: `Duplicate value: ${text(value)}` });
export const forbidden = (field: string, detail: string): FieldCause =>
  ({ field, reason: "FieldValueForbidden", message: `Forbidden: ${detail}` });
export const notFound = (field: string, value: unknown): FieldCause =>
  ({ field, reason: "FieldValueNotFound", message: `Not found: ${text(value)}` });
export const tooLong = (field: string, maxBytes: number): FieldCause =>
  ({ field, reason: "FieldValueTooLong", message: `Too long: may not be more than ${maxBytes} bytes` });
export const tooMany = (field: string, count: number, max: number): FieldCause =>
  ({ field, reason: "FieldValueTooMany", message: `Too many: ${count}: must have at most ${max} items` });

/** `field` must be one of `supported`; absent is fine (the defaults fill it in). */
export const oneOf = (field: string, value: string | undefined, supported: readonly string[]): FieldCause[] =>
  value === undefined || supported.includes(value) ? [] : [notSupported(field, value, supported)];

export const NON_NEGATIVE = "must be greater than or equal to 0";
export const nonNegative = (field: string, value: number | undefined): FieldCause[] =>
  value !== undefined && value < 0 ? [invalid(field, value, NON_NEGATIVE)] : [];
export const positive = (field: string, value: number | undefined): FieldCause[] =>
  value !== undefined && value <= 0 ? [invalid(field, value, "must be greater than zero")] : [];

export const IMMUTABLE = "field is immutable";
