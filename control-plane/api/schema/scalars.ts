// The JSON scalars that are more than JSON types: checked and brought into the one form that upstream stores.
import { canonicalQuantity } from "./quantity-form.ts";

/** A normalized value, or why there is none (in the words of Go's decoder). */
export type Scalar = { readonly value: string } | { readonly fault: string };

const RFC3339 = /^(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,9}))?(?:Z|[+-]\d{2}:\d{2})$/;

const parseTime = (text: string): { date: Date; fraction: string } | undefined => {
  const match = RFC3339.exec(text);
  const date = new Date(match ? text.replace(/\.\d+/, "") : Number.NaN);
  // 2026-02-30 would silently become March 2nd
  if (!match || Number.isNaN(date.getTime()) || new Date(`${text.slice(0, 10)}T00:00:00Z`).getUTCDate() !== Number(match[3])) return undefined;
  return { date, fraction: match[7] ?? "" };
};

const badTime = (text: string, layout: string): Scalar => ({
  fault: `parsing time ${JSON.stringify(JSON.stringify(text))} as ${JSON.stringify(JSON.stringify(layout))}: cannot parse ${JSON.stringify(text)} as an RFC 3339 time`,
});

/** meta/v1 Time: whole seconds in UTC. */
export const normalizeTime = (text: string): Scalar => {
  const parsed = parseTime(text);
  return parsed ? { value: `${parsed.date.toISOString().slice(0, 19)}Z` } : badTime(text, "2006-01-02T15:04:05Z07:00");
};

/** meta/v1 MicroTime: always six decimals. */
export const normalizeMicroTime = (text: string): Scalar => {
  const parsed = parseTime(text);
  if (!parsed) return badTime(text, "2006-01-02T15:04:05.000000Z07:00");
  return { value: `${parsed.date.toISOString().slice(0, 19)}.${parsed.fraction.padEnd(6, "0").slice(0, 6)}Z` };
};

export const normalizeQuantity = (input: string | number): Scalar => {
  const value = canonicalQuantity(String(input).trim());
  return value === undefined
    ? { fault: `quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$': ${JSON.stringify(input)} is none, write for example 500m, 1.5, 64Mi or 2G` }
    : { value };
};

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** Standard base64 with padding; line breaks are allowed, as in Go. */
export const normalizeBytes = (text: string): Scalar => {
  const value = /[\r\n]/.test(text) ? text.replaceAll(/[\r\n]/g, "") : text;
  if (BASE64.test(value)) return { value };
  const at = value.search(/[^A-Za-z0-9+/]/);
  return { fault: `illegal base64 data at input byte ${at === -1 ? value.length : at}` };
};
