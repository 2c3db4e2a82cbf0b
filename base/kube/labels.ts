// Label selectors: the object form (matchLabels, matchExpressions) and the query-string form ("app=web,tier in (a,b),!old").
// Semantics: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
import { GantryError } from "../errors.ts";
import type { LabelSelector } from "./types.gen.ts";

export type Labels = Readonly<Record<string, string>>;
export type Operator = "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt";

export interface Requirement {
  readonly key: string;
  readonly operator: Operator;
  readonly values: readonly string[];
}

/** All requirements must hold. An empty list matches everything. */
export type Selector = readonly Requirement[];

export const requirementMatches = ({ key, operator, values }: Requirement, labels: Labels): boolean => {
  const value = Object.hasOwn(labels, key) ? labels[key] : undefined;
  switch (operator) {
    case "In": return value !== undefined && values.includes(value);
    case "NotIn": return value === undefined || !values.includes(value);
    case "Exists": return value !== undefined;
    case "DoesNotExist": return value === undefined;
    case "Gt": return value !== undefined && Number(value) > Number(values[0]);
    case "Lt": return value !== undefined && Number(value) < Number(values[0]);
  }
};

export const selectorMatches = (selector: Selector, labels: Labels | undefined): boolean =>
  selector.every((r) => requirementMatches(r, labels ?? {}));

/** From the object form. An absent selector is `undefined` here and matches nothing (upstream: nil selects nothing, {} selects all). */
export const fromLabelSelector = (selector: LabelSelector): Selector => [
  ...Object.entries(selector.matchLabels ?? {}).map(([key, value]): Requirement => ({ key, operator: "In", values: [value] })),
  ...(selector.matchExpressions ?? []).map((e): Requirement => ({ key: e.key, operator: e.operator as Operator, values: e.values ?? [] })),
];

const LABEL_KEY = /^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const LABEL_VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;
export const isLabelKey = (key: string): boolean => key.length <= 317 && LABEL_KEY.test(key);
export const isLabelValue = (value: string): boolean => LABEL_VALUE.test(value);

/** From the query-string form. Throws BadRequest, naming the part that can't be read. */
export const parseSelector = (text: string): Selector => {
  const parts = text.match(/(?:[^,(]|\([^)]*\))+/g) ?? [];
  return parts.map((part) => {
    const term = part.trim();
    const fault = (why: string): GantryError => new GantryError("BadRequest", `unable to parse requirement ${JSON.stringify(term)} of the selector ${JSON.stringify(text)}: ${why}`);
    const requirement = (key: string, operator: Operator, values: readonly string[]): Requirement => {
      if (!isLabelKey(key)) throw fault(`${JSON.stringify(key)} is not a label key`);
      const bad = values.find((v) => !isLabelValue(v));
      if (bad !== undefined) throw fault(`${JSON.stringify(bad)} is not a label value`);
      return { key, operator, values };
    };
    const set = /^(\S+)\s+(in|notin)\s*\(([^)]*)\)$/.exec(term);
    if (set) return requirement(set[1]!, set[2] === "in" ? "In" : "NotIn", set[3]!.split(",").map((v) => v.trim()));
    const compare = /^([^\s=!<>]+)\s*(==|=|!=|>|<)\s*([^\s=!<>]*)$/.exec(term);
    if (compare) {
      const operator = ({ "=": "In", "==": "In", "!=": "NotIn", ">": "Gt", "<": "Lt" } as const)[compare[2] as "="];
      return requirement(compare[1]!, operator, [compare[3]!]);
    }
    if (/^!\s*[^\s=!]+$/.test(term)) return requirement(term.slice(1).trim(), "DoesNotExist", []);
    if (/^[^\s=!()]+$/.test(term)) return requirement(term, "Exists", []);
    throw fault("expected key, !key, key=value, key!=value, key in (a,b) or key notin (a,b)");
  });
};

export const formatSelector = (selector: Selector): string =>
  selector.map(({ key, operator, values }) => {
    switch (operator) {
      case "In": return values.length === 1 ? `${key}=${values[0]!}` : `${key} in (${values.join(",")})`;
      case "NotIn": return values.length === 1 ? `${key}!=${values[0]!}` : `${key} notin (${values.join(",")})`;
      case "Exists": return key;
      case "DoesNotExist": return `!${key}`;
      case "Gt": return `${key}>${values[0]!}`;
      case "Lt": return `${key}<${values[0]!}`;
    }
  }).join(",");
