// JSON patch: RFC 6902, by the rfc6902 package; this file owns the checks and the words of what goes wrong.
import { applyPatch, type Operation } from "rfc6902";
import { GantryError } from "../../../base/errors.ts";
import { isPlainObject, MAX_PATCH_DEPTH, tooDeep } from "./json-merge.ts";

/** Upstream's limit (apiserver's maxJSONPatchOperations). */
const MAX_OPERATIONS = 10_000;
const OPS = ["add", "remove", "replace", "move", "copy", "test"];

const depthOf = (value: unknown, limit: number): number => {
  if (typeof value !== "object" || value === null) return 0;
  if (limit === 0) throw tooDeep();
  return 1 + Math.max(0, ...Object.values(value).map((v) => depthOf(v, limit - 1)));
};

const checkOperation = (operation: unknown, index: number): Operation => {
  const fault = (why: string): GantryError => new GantryError("BadRequest", `operation ${index} of the JSON patch ${why}`);
  if (!isPlainObject(operation)) throw fault("is not an object");
  const { op, path, from } = operation;
  if (typeof op !== "string" || !OPS.includes(op)) throw fault(`has op ${JSON.stringify(op)}: must be one of ${OPS.join(", ")}`);
  if (typeof path !== "string" || (path !== "" && !path.startsWith("/"))) throw fault(`has path ${JSON.stringify(path)}: must be a JSON pointer such as /spec/replicas`);
  if ((op === "move" || op === "copy") && (typeof from !== "string" || !from.startsWith("/"))) throw fault(`has from ${JSON.stringify(from)}: ${op} needs a JSON pointer there`);
  if ((op === "add" || op === "replace" || op === "test") && !("value" in operation)) throw fault(`has no value, which ${op} needs`);
  // The package guards against it too; a clear refusal beats a silent one.
  if (/\/(?:__proto__|constructor\/prototype)(?:\/|$)/.test(`${path}${typeof from === "string" ? from : ""}`)) throw fault(`has path ${JSON.stringify(path)}, which is not allowed`);
  depthOf(operation["value"], MAX_PATCH_DEPTH);
  return operation as unknown as Operation;
};

/**
 * A new value; the arguments stay. BadRequest for a patch that isn't one, RequestEntityTooLarge for too many operations,
 * Invalid (422, as upstream) when an operation doesn't fit the object or a test fails.
 */
export const applyJsonPatch = (original: unknown, operations: unknown): unknown => {
  if (!Array.isArray(operations)) throw new GantryError("BadRequest", "a JSON patch must be an array of operations");
  if (operations.length > MAX_OPERATIONS) {
    throw new GantryError("RequestEntityTooLarge", `The allowed maximum operations in a JSON patch is ${MAX_OPERATIONS}, got ${operations.length}`);
  }
  const checked = operations.map(checkOperation);
  // An object wraps the value so that an operation on the whole ("") can replace it.
  const holder = { value: structuredClone(original) };
  const under = (pointer: string): string => `/value${pointer}`;
  for (const [i, operation] of checked.entries()) {
    const moved = { ...operation, path: under(operation.path), ...("from" in operation ? { from: under(operation.from) } : {}) } as Operation;
    const [error] = applyPatch(holder, [moved]);
    if (error) {
      const why = error.name === "TestError" ? "testing value failed" : `doesn't fit the object (${error.message.replace("path: /value", "path: ")})`;
      throw new GantryError("Invalid", `operation ${i} of the JSON patch, ${operation.op} ${JSON.stringify(operation.path)}: ${why}`);
    }
  }
  return holder.value;
};
