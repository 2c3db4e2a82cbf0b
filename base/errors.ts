// The one error class. Code is matched, never message text; it is mapped to an HTTP Status (control-plane/api) and to a gRPC
// code (control-plane/dispatcher, node-agent/session) exactly once, at each boundary.

/** Stable codes. The names are those of Kubernetes' Status reasons where one exists. */
export type ErrorCode =
  | "BadRequest" | "Unauthorized" | "Forbidden" | "NotFound" | "MethodNotAllowed" | "NotAcceptable" | "AlreadyExists" | "Conflict"
  | "Expired" | "RequestEntityTooLarge" | "UnsupportedMediaType" | "Invalid" | "TooManyRequests" | "InternalError"
  | "ServiceUnavailable" | "Timeout" | "Cancelled" | "FailedPrecondition" | "Fenced";

/** Codes after which the same request may well succeed later. */
const RETRYABLE: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["Conflict", "TooManyRequests", "ServiceUnavailable", "Timeout"]);

/** One field's fault, as in Status.details.causes: `field` is a path such as `spec.containers[0].image`. */
export interface FieldCause {
  readonly field: string;
  readonly reason: "FieldValueRequired" | "FieldValueInvalid" | "FieldValueNotSupported" | "FieldValueDuplicate" | "FieldValueForbidden" | "FieldValueTypeInvalid" | "FieldValueTooLong" | "FieldValueTooMany" | "FieldValueNotFound";
  readonly message: string;
}

export interface GantryErrorOptions {
  readonly cause?: unknown;
  readonly retryable?: boolean;
  readonly causes?: readonly FieldCause[];
  /** Seconds after which a retry makes sense (TooManyRequests, ServiceUnavailable). */
  readonly retryAfterSeconds?: number;
}

export class GantryError extends Error {
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly causes: readonly FieldCause[];
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ErrorCode, message: string, options: GantryErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "GantryError";
    this.code = code;
    this.retryable = options.retryable ?? RETRYABLE.has(code);
    this.causes = options.causes ?? [];
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

export const isCode = (error: unknown, ...codes: readonly ErrorCode[]): error is GantryError =>
  error instanceof GantryError && codes.includes(error.code);

/** Message of anything thrown, with its chain of causes: for logs and for statuses that users read. */
export const describeError = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? "" : `: ${describeError(error.cause)}`;
  return `${error.message}${cause}`;
};
