// Owns the one mapping from errors to the API's Status objects and HTTP codes, and the wording of the errors that clients know.
// Source: k8s.io/apimachinery/pkg/api/errors.
import { GantryError, describeError } from "../../base/errors.ts";
import type { ErrorCode, FieldCause } from "../../base/errors.ts";
import type { ResourceType } from "../../base/kube/resources.ts";
import type { Status, StatusDetails } from "../../base/kube/types.gen.ts";

const HTTP_CODE: Readonly<Record<ErrorCode, number>> = {
  BadRequest: 400, Unauthorized: 401, Forbidden: 403, NotFound: 404, MethodNotAllowed: 405, NotAcceptable: 406, AlreadyExists: 409,
  Conflict: 409, Expired: 410, RequestEntityTooLarge: 413, UnsupportedMediaType: 415, Invalid: 422, TooManyRequests: 429,
  InternalError: 500, ServiceUnavailable: 503, Timeout: 504, Cancelled: 503, FailedPrecondition: 400, Fenced: 503,
};

/** Codes that are ours alone and what clients get to see instead. */
const REASON: Readonly<Partial<Record<ErrorCode, string>>> = { Cancelled: "ServiceUnavailable", Fenced: "ServiceUnavailable", FailedPrecondition: "BadRequest" };

/** An error whose Status says more than code, message and field causes. */
export class StatusError extends GantryError {
  readonly details: StatusDetails;

  constructor(code: ErrorCode, message: string, details: StatusDetails) {
    super(code, message, details.retryAfterSeconds === undefined ? {} : { retryAfterSeconds: details.retryAfterSeconds });
    this.details = details;
  }
}

const SUCCESS = { kind: "Status", apiVersion: "v1", metadata: {} } as const;

export const statusOf = (error: unknown): Status & { code: number } => {
  const known = error instanceof GantryError ? error : new GantryError("InternalError", `Internal error occurred: ${describeError(error)}`);
  const causes = known.causes.map(({ reason, message, field }) => ({ reason, message, field }));
  const details: StatusDetails = {
    ...(known instanceof StatusError ? known.details : {}),
    ...(causes.length > 0 ? { causes } : {}),
    ...(known.retryAfterSeconds === undefined ? {} : { retryAfterSeconds: known.retryAfterSeconds }),
  };
  return {
    ...SUCCESS, status: "Failure", message: known.message, reason: REASON[known.code] ?? known.code,
    ...(Object.keys(details).length > 0 ? { details } : {}),
    code: HTTP_CODE[known.code],
  };
};

/** What a finished delete answers. */
export const deletedStatus = (type: ResourceType, name: string, uid: string | undefined): Status => ({
  ...SUCCESS, status: "Success", details: { name, ...groupOf(type), kind: type.plural, ...(uid === undefined ? {} : { uid }) },
});

export const successStatus = (code: number): Status => ({ ...SUCCESS, status: "Success", code });

const groupOf = (type: { group: string }): { group?: string } => (type.group === "" ? {} : { group: type.group });
const detailsOf = (type: ResourceType, name: string): StatusDetails => ({ ...(name === "" ? {} : { name }), ...groupOf(type), kind: type.plural });

export const notFound = (type: ResourceType, name: string): GantryError => new StatusError("NotFound", `${type.name} "${name}" not found`, detailsOf(type, name));

/** The path leads nowhere: no such group, version, resource or subresource. */
export const noSuchResource = (): GantryError => new StatusError("NotFound", "the server could not find the requested resource", {});

export const alreadyExists = (type: ResourceType, name: string): GantryError =>
  new StatusError("AlreadyExists", `${type.name} "${name}" already exists`, detailsOf(type, name));

export const conflict = (type: ResourceType, name: string, why = "the object has been modified; please apply your changes to the latest version and try again"): GantryError =>
  new StatusError("Conflict", `Operation cannot be fulfilled on ${type.name} "${name}": ${why}`, detailsOf(type, name));

export const forbidden = (type: ResourceType, name: string, why: string, cause?: { reason: string; message: string; field: string }): GantryError =>
  new StatusError("Forbidden", `${type.name}${name === "" ? "" : ` "${name}"`} is forbidden: ${why}`, { ...detailsOf(type, name), ...(cause ? { causes: [cause] } : {}) });

export const invalid = (kind: { group: string; kind: string }, name: string, causes: readonly FieldCause[]): GantryError => {
  const faults = [...new Set(causes.map((c) => (c.field === "" ? c.message : `${c.field}: ${c.message}`)))];
  const qualified = kind.group === "" ? kind.kind : `${kind.kind}.${kind.group}`;
  return new StatusError("Invalid", `${qualified} "${name}" is invalid: ${faults.length === 1 ? faults[0]! : `[${faults.join(", ")}]`}`, {
    name, ...groupOf(kind), kind: kind.kind, causes: causes.map(({ reason, message, field }) => ({ reason, message, field })),
  });
};

/** A resourceVersion that this process has not seen in time. Clients (client-go's reflector) know it by its cause. */
export const tooLargeResourceVersion = (asked: number, current: number): GantryError =>
  new StatusError("Timeout", `Timeout: Too large resource version: ${asked}, current: ${current}`, {
    causes: [{ reason: "ResourceVersionTooLarge", message: "Too large resource version" }], retryAfterSeconds: 1,
  });

/** Gives the store's errors the details that clients look at; their words are the API's already. Everything else passes unchanged. */
export const withDetails = (error: unknown, type: ResourceType, name: string): unknown =>
  error instanceof GantryError && !(error instanceof StatusError) && (error.code === "NotFound" || error.code === "AlreadyExists" || error.code === "Conflict")
    ? new StatusError(error.code, error.message, detailsOf(type, name)) : error;
