// The pieces that descriptions are made of.
import type { Toleration } from "../../base/kube/types.gen.ts";

const LABEL_WIDTH = 16;
const LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration";

/** "Name:           value", or "<none>". */
export const field = (name: string, value: string | number | boolean | undefined, indent = ""): string =>
  `${`${indent}${name}:`.padEnd(LABEL_WIDTH - 1 + indent.length)} ${value === undefined || value === "" ? "<none>" : value}`;

/** Several values of one field, one below the other. */
export const fields = (name: string, values: readonly string[], indent = ""): string[] =>
  values.length === 0 ? [field(name, undefined, indent)] : values.map((v, i) => (i === 0 ? field(name, v, indent) : `${" ".repeat(LABEL_WIDTH + indent.length)}${v}`));

export const mapLines = (name: string, map: Readonly<Record<string, string>> | undefined, indent = ""): string[] =>
  fields(name, Object.entries(map ?? {}).filter(([k]) => k !== LAST_APPLIED).map(([k, v]) => `${k}=${v}`), indent);

/** Two columns: names and amounts. */
export const amountLines = (name: string, amounts: Readonly<Record<string, string>> | undefined, indent = ""): string[] =>
  amounts === undefined ? [] : [`${indent}${name}:`, ...Object.entries(amounts).map(([k, v]) => field(k, v, `${indent}  `))];

/** Indented columns below a line of names, two spaces apart. */
export const table = (header: readonly string[], rows: readonly (readonly string[])[]): string[] => {
  const all = [header, ...rows];
  const widths = header.map((_, i) => Math.max(...all.map((row) => row[i]!.length)));
  return all.map((row) => `  ${row.map((cell, i) => cell.padEnd(widths[i]!)).join("  ")}`.trimEnd());
};

/** Time since, in the largest unit that leaves two digits of sense, as in tables. */
export const age = (timestamp: string | undefined, nowMs: number): string => (timestamp ? span(nowMs - Date.parse(timestamp)) : "<unknown>");

export const span = (ms: number): string => {
  const s = Math.max(0, Math.floor(ms / 1000));
  return s < 120 ? `${s}s` : s < 7200 ? `${Math.floor(s / 60)}m` : s < 172_800 ? `${Math.floor(s / 3600)}h` : `${Math.floor(s / 86_400)}d`;
};

export const conditionLines = (conditions: readonly { readonly type: string; readonly status: string; readonly reason?: string | undefined; readonly message?: string | undefined }[] | undefined): string[] =>
  conditions?.length ? ["Conditions:", ...table(["Type", "Status", "Reason", "Message"], conditions.map((c) => [c.type, c.status, c.reason ?? "", c.message ?? ""]))] : [field("Conditions", undefined)];

export const tolerationText = (t: Toleration): string =>
  `${t.key ?? ""}${t.value ? `=${t.value}` : ""}${t.effect ? `:${t.effect}` : ""}${t.operator === "Exists" ? " op=Exists" : ""}${t.tolerationSeconds === undefined ? "" : ` for ${t.tolerationSeconds}s`}`.trim();

/** Maps whose keys are the users' own words: not to be rewritten as titles. */
const FREE_MAPS = new Set(["labels", "annotations", "matchLabels", "nodeSelector", "limits", "requests", "capacity", "allocatable", "data", "stringData"]);

const title = (key: string): string => key.replace(/^./, (c) => c.toUpperCase()).replaceAll(/([a-z])([A-Z])/g, "$1 $2");

/** Nested values of any kind as indented "Key: value" lines. */
export const indentedLines = (value: unknown, indent = "", free = false): string[] => {
  if (Array.isArray(value)) {
    return value.flatMap((item) => (typeof item === "object" && item !== null ? indentedLines(item, `${indent}  `).map((line, i) => (i === 0 ? `${indent}- ${line.trimStart()}` : line)) : [`${indent}- ${String(item)}`]));
  }
  if (typeof value !== "object" || value === null) return [`${indent}${String(value)}`];
  return Object.entries(value as Record<string, unknown>).flatMap(([key, v]) => {
    if (v === null || v === undefined) return [];
    const name = free ? key : title(key);
    if (typeof v !== "object") return [`${indent}${name}: ${v as string | number | boolean}`];
    const inner = indentedLines(v, `${indent}  `, FREE_MAPS.has(key));
    return inner.length === 0 ? [] : [`${indent}${name}:`, ...inner];
  });
};
