// Kubernetes' strategic merge patch: like a JSON merge patch, but lists whose schema names a merge key are merged element by
// element. https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/ and
// k8s.io/apimachinery/pkg/util/strategicpatch. Directives: $patch (replace, merge, delete), $retainKeys,
// $deleteFromPrimitiveList/FIELD, $setElementOrder/FIELD.
import { GantryError } from "../../../base/errors.ts";
import { messageSchema, type FieldSchema, type MessageSchema } from "../schema/schema.ts";
import { isPlainObject, MAX_PATCH_DEPTH, tooDeep } from "./json-merge.ts";

type JsonObject = Record<string, unknown>;

const DELETE_FROM = "$deleteFromPrimitiveList/";
const SET_ORDER = "$setElementOrder/";

const bad = (message: string): GantryError => new GantryError("BadRequest", message);

/** Schema of what lies under a field: a message's fields, or undefined where the schema ends (maps of scalars, raw JSON). */
const below = (field: FieldSchema | undefined): MessageSchema | undefined => (field?.r ? messageSchema(field.t) : undefined);

const fieldOf = (schema: MessageSchema | undefined, name: string): FieldSchema | undefined =>
  schema !== undefined && Object.hasOwn(schema, name) ? schema[name] : undefined;

const hasStrategy = (field: FieldSchema | undefined, strategy: "merge" | "retainKeys"): boolean => field?.ps?.split(",").includes(strategy) ?? false;

const directiveOf = (patch: JsonObject, path: string): "replace" | "merge" | "delete" | undefined => {
  const directive = patch["$patch"];
  if (directive === undefined || directive === "replace" || directive === "merge" || directive === "delete") return directive;
  throw bad(`${path}$patch is ${JSON.stringify(directive)}: must be replace, merge or delete`);
};

/** What a patch leaves where there was nothing: the directives go. */
const withoutDirectives = (schema: MessageSchema | undefined, patch: unknown, path: string, depth: number): unknown =>
  (isPlainObject(patch) ? mergeObject(schema, {}, patch, path, depth) : patch);

const checkList = (value: unknown, path: string): readonly unknown[] => {
  if (!Array.isArray(value)) throw bad(`${path}: expected a list, got ${JSON.stringify(value)?.slice(0, 60)}`);
  return value;
};

const keyOf = (item: unknown, mergeKey: string, path: string): string => {
  const key = isPlainObject(item) ? item[mergeKey] : undefined;
  if (key === undefined || key === null) throw bad(`${path}: map: ${JSON.stringify(item)?.slice(0, 120)} does not contain declared merge key: ${mergeKey}`);
  return JSON.stringify(key);
};

/**
 * Elements in the order that the patch's author sees: those that `order` names in its sequence, each of the server's own before
 * the named ones that it stood before. Elements with the same key (a port by TCP and UDP) stay together.
 */
const inOrder = <T>(items: readonly T[], key: (item: T) => string, serverKeys: readonly string[], order: readonly string[]): T[] => {
  const groups = Map.groupBy(items, key);
  const named = new Set(order);
  const own = [...groups.keys()].filter((k) => !named.has(k));
  const serverAt = new Map(serverKeys.map((k, i) => [k, i]));
  const result: string[] = [];
  let next = 0;
  for (const k of named) {
    if (!groups.has(k)) continue;
    while (next < own.length && (serverAt.get(own[next]!) ?? Number.POSITIVE_INFINITY) < (serverAt.get(k) ?? -1)) result.push(own[next++]!);
    result.push(k);
  }
  return [...result, ...own.slice(next)].flatMap((k) => groups.get(k)!);
};

/**
 * Where the element that a patch means stands. The merge key alone would take port 53 by UDP for port 53 by TCP: an element
 * that agrees in all of the list's keys comes first.
 */
const indexOf = (items: readonly unknown[], patch: JsonObject, mergeKey: string, listKeys: readonly string[], path: string): number => {
  const key = keyOf(patch, mergeKey, path);
  const candidates = [...items.keys()].filter((i) => keyOf(items[i], mergeKey, path) === key);
  return candidates.find((i) => listKeys.every((k) => (items[i] as JsonObject)[k] === patch[k])) ?? candidates[0] ?? -1;
};

const mergeKeyedList = (field: FieldSchema, mergeKey: string, original: readonly unknown[], patch: readonly unknown[], path: string, depth: number): unknown[] => {
  const schema = below(field);
  const replaces = (p: unknown): boolean => isPlainObject(p) && p["$patch"] === "replace" && !(mergeKey in p);
  if (patch.some(replaces)) return patch.filter((p) => !replaces(p)).map((p, i) => withoutDirectives(schema, p, `${path}[${i}].`, depth));
  let result = [...original];
  for (const [i, item] of patch.entries()) {
    const at = `${path}[${i}]`;
    const key = keyOf(item, mergeKey, at);
    if (!isPlainObject(item)) continue;
    const found = indexOf(result, item, mergeKey, field.lk ?? [], at);
    if (directiveOf(item, `${at}.`) === "delete") result = result.filter((r) => keyOf(r, mergeKey, at) !== key);
    else if (found === -1) result.push(mergeObject(schema, {}, item, `${at}.`, depth + 1));
    else result[found] = mergeObject(schema, result[found] as JsonObject, item, `${at}.`, depth + 1);
  }
  return result;
};

/** A list of the field, merged by the patch's list, deletions and order; the field's own strategy says how. */
const mergeList = (field: FieldSchema | undefined, original: unknown, patch: JsonObject, name: string, path: string, depth: number): unknown[] => {
  const at = `${path}${name}`;
  const existing = Array.isArray(original) ? (original as unknown[]) : [];
  const given = patch[name] === undefined ? undefined : checkList(patch[name], at);
  const deletions = patch[`${DELETE_FROM}${name}`];
  const order = patch[`${SET_ORDER}${name}`];
  const { pk: mergeKey } = field ?? {};
  const primitive = mergeKey === undefined;
  const key = (item: unknown): string => (primitive ? JSON.stringify(item) : keyOf(item, mergeKey, at));

  let merged: unknown[];
  if (!hasStrategy(field, "merge")) merged = given === undefined ? existing : given.map((p, i) => withoutDirectives(below(field), p, `${at}[${i}].`, depth));
  else if (primitive) {
    const gone = new Set(deletions === undefined ? [] : checkList(deletions, `${path}${DELETE_FROM}${name}`).map(key));
    const seen = new Set<string>();
    merged = [...existing.filter((v) => !gone.has(key(v))), ...(given ?? [])].filter((v) => !seen.has(key(v)) && seen.add(key(v)));
  } else merged = mergeKeyedList(field!, mergeKey, existing, given ?? [], at, depth);

  if (order === undefined || !hasStrategy(field, "merge")) return merged;
  const wanted = checkList(order, `${path}${SET_ORDER}${name}`).map(key);
  const missing = (given ?? []).find((item) => !(isPlainObject(item) && "$patch" in item) && !wanted.includes(key(item)));
  if (missing !== undefined) throw bad(`${at}: the order in ${SET_ORDER}${name} doesn't name the patch's element ${key(missing)}`);
  return inOrder(merged, key, existing.map(key), wanted);
};

const retain = (original: JsonObject, keys: unknown, patch: JsonObject, path: string): JsonObject => {
  if (keys === undefined) return original;
  const kept = new Set(checkList(keys, `${path}$retainKeys`));
  const strays = Object.entries(patch).filter(([k, v]) => !k.startsWith("$") && v !== null && !kept.has(k));
  if (strays.length > 0) throw bad(`${path}$retainKeys doesn't name ${strays.map(([k]) => k).join(", ")}, which the patch sets`);
  return Object.fromEntries(Object.entries(original).filter(([k]) => kept.has(k)));
};

const mergeObject = (schema: MessageSchema | undefined, original: JsonObject, patch: JsonObject, path: string, depth: number): JsonObject => {
  if (depth > MAX_PATCH_DEPTH) throw tooDeep();
  const directive = directiveOf(patch, path);
  if (directive === "delete") return {};
  const start = directive === "replace" ? {} : retain(original, patch["$retainKeys"], patch, path);
  const result = new Map(Object.entries(start));
  const lists = new Set<string>();
  for (const [name, value] of Object.entries(patch)) {
    if (name === "$patch" || name === "$retainKeys") continue;
    const list = name.startsWith(DELETE_FROM) ? name.slice(DELETE_FROM.length) : name.startsWith(SET_ORDER) ? name.slice(SET_ORDER.length) : undefined;
    if (list !== undefined) {
      lists.add(list);
      continue;
    }
    if (name.startsWith("$")) throw bad(`${path}${name}: there is no such directive`);
    const field = fieldOf(schema, name);
    if (value === null) result.delete(name);
    else if (Array.isArray(value)) lists.add(name);
    else if (isPlainObject(value)) {
      const old = result.get(name);
      if (value["$patch"] === "delete") result.delete(name);
      else result.set(name, mergeObject(field?.map || field?.list ? undefined : below(field), isPlainObject(old) ? old : {}, value, `${path}${name}.`, depth + 1));
    } else result.set(name, value);
  }
  for (const name of lists) {
    if (patch[name] === null) continue;
    const old = result.get(name);
    if (old === undefined && patch[name] === undefined) continue; // orders or deletes from what isn't there
    result.set(name, mergeList(fieldOf(schema, name), old, patch, name, path, depth));
  }
  return Object.fromEntries(result);
};

/**
 * `schemaKey` as in schema.gen.json, such as "apps/v1.Deployment". Returns a new value; neither argument changes. BadRequest for a
 * patch that isn't an object, for unknown directives, and for list elements without their merge key.
 */
export const applyStrategicMerge = (schemaKey: string, original: unknown, patch: unknown): unknown => {
  if (!isPlainObject(patch)) throw bad("a strategic merge patch must be an object");
  return mergeObject(messageSchema(schemaKey), isPlainObject(original) ? original : {}, patch, "", 0);
};
