// How a GantryError crosses gRPC, in one place for both ends: the status says what every gRPC tool understands, the metadata
// carries the exact code, the message stays as it was.
import { Metadata, status as Status } from "@grpc/grpc-js";
import type { ServiceError, StatusObject } from "@grpc/grpc-js";
import { describeError, GantryError } from "../base/errors.ts";
import type { ErrorCode } from "../base/errors.ts";

/** https://grpc.github.io/grpc/core/md_doc_statuscodes.html */
const TO_STATUS: Readonly<Record<ErrorCode, Status>> = {
  BadRequest: Status.INVALID_ARGUMENT, Unauthorized: Status.UNAUTHENTICATED, Forbidden: Status.PERMISSION_DENIED, NotFound: Status.NOT_FOUND,
  MethodNotAllowed: Status.UNIMPLEMENTED, NotAcceptable: Status.INVALID_ARGUMENT, AlreadyExists: Status.ALREADY_EXISTS, Conflict: Status.ABORTED,
  Expired: Status.OUT_OF_RANGE, RequestEntityTooLarge: Status.RESOURCE_EXHAUSTED, UnsupportedMediaType: Status.INVALID_ARGUMENT, Invalid: Status.INVALID_ARGUMENT,
  TooManyRequests: Status.RESOURCE_EXHAUSTED, InternalError: Status.INTERNAL, ServiceUnavailable: Status.UNAVAILABLE, Timeout: Status.DEADLINE_EXCEEDED,
  Cancelled: Status.CANCELLED, FailedPrecondition: Status.FAILED_PRECONDITION, Fenced: Status.UNAVAILABLE,
};

/** For peers that sent no code of ours, such as gRPC itself. */
const FROM_STATUS: Readonly<Partial<Record<Status, ErrorCode>>> = {
  [Status.CANCELLED]: "Cancelled", [Status.INVALID_ARGUMENT]: "BadRequest", [Status.DEADLINE_EXCEEDED]: "Timeout", [Status.NOT_FOUND]: "NotFound",
  [Status.ALREADY_EXISTS]: "AlreadyExists", [Status.PERMISSION_DENIED]: "Forbidden", [Status.RESOURCE_EXHAUSTED]: "TooManyRequests",
  [Status.FAILED_PRECONDITION]: "FailedPrecondition", [Status.ABORTED]: "Conflict", [Status.OUT_OF_RANGE]: "Expired", [Status.UNIMPLEMENTED]: "MethodNotAllowed",
  [Status.UNAVAILABLE]: "ServiceUnavailable", [Status.UNAUTHENTICATED]: "Unauthorized",
};

const CODE_KEY = "gantry-code";
/** Where to dial instead: host:port of the leader (with UNAVAILABLE). */
const LEADER_KEY = "gantry-leader";

/** `code` of unknown origin, such as a frame of a peer of another version. */
export const asErrorCode = (code: string): ErrorCode => (Object.hasOwn(TO_STATUS, code) ? (code as ErrorCode) : "InternalError");

/** For a call's callback, or `call.destroy` of a stream. */
export const toServiceError = (error: unknown, leader?: string): Error & StatusObject => {
  const code: ErrorCode = error instanceof GantryError ? error.code : "InternalError";
  const metadata = new Metadata();
  metadata.set(CODE_KEY, code);
  if (leader !== undefined && leader !== "") metadata.set(LEADER_KEY, leader);
  const details = describeError(error);
  return Object.assign(new Error(details), { code: TO_STATUS[code], details, metadata });
};

const isServiceError = (error: unknown): error is ServiceError => error instanceof Error && "code" in error && "details" in error;

/** Of what a client's call failed with. */
export const fromServiceError = (error: unknown): GantryError => {
  if (error instanceof GantryError) return error;
  if (!isServiceError(error)) return new GantryError("InternalError", describeError(error), { cause: error });
  const sent = error.metadata?.get(CODE_KEY)[0];
  const code = sent === undefined ? (FROM_STATUS[error.code] ?? "InternalError") : asErrorCode(String(sent));
  return new GantryError(code, error.details);
};

export const leaderOf = (error: unknown): string | undefined => {
  const leader = isServiceError(error) ? error.metadata?.get(LEADER_KEY)[0] : undefined;
  return leader === undefined ? undefined : String(leader);
};

/** Both ends: an assignment of a pod with several full Secrets is larger than gRPC's default of 4 MiB. */
export const MAX_MESSAGE_BYTES = 64 << 20;
/** What one message should hold at most; larger sets and batches are split. */
export const TARGET_MESSAGE_BYTES = 1 << 20;
