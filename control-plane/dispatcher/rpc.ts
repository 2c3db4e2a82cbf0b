// The shape that every RPC of a node has: nothing runs before the caller's identity is known, and whatever goes wrong reaches
// the caller as a status that says so.
import type { EventEmitter } from "node:events";
import type { sendUnaryData, ServerUnaryCall, UntypedServiceImplementation } from "@grpc/grpc-js";
import { GantryError } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import { toServiceError } from "../../proto/grpc-errors.ts";
import type { Caller, NodeIdentity } from "./listener.ts";

type ServiceError = ReturnType<typeof toServiceError>;

export interface RpcOptions {
  /** Throws "Unauthorized" for a caller that is no node. */
  readonly identify: (call: Caller) => NodeIdentity;
  /** Sees every error before it goes out. */
  readonly onError: (error: unknown) => void;
  readonly leader: () => string | undefined;
  readonly logger: Logger;
}

export class Rpc {
  readonly #options: RpcOptions;

  constructor(options: RpcOptions) {
    this.#options = options;
  }

  unary<I, O>(method: string, handle: (identity: NodeIdentity, request: I) => Promise<O>): (call: ServerUnaryCall<I, O>, callback: sendUnaryData<O>) => void {
    return (call, callback) => void this.#reply(method, async () => handle(this.#options.identify(call), call.request), callback);
  }

  streaming<C extends Caller & EventEmitter>(method: string, handle: (identity: NodeIdentity, call: C) => void | Promise<void>): (call: C) => void {
    return (call) => {
      const run = async (): Promise<void> => handle(this.#options.identify(call), call);
      run().catch((error: unknown) => call.emit("error", this.#failure(method, error)));
    };
  }

  /** For callers that have no identity to begin with. */
  open<I, O>(method: string, handle: (request: I) => Promise<O>): (call: ServerUnaryCall<I, O>, callback: sendUnaryData<O>) => void {
    return (call, callback) => void this.#reply(method, () => handle(call.request), callback);
  }

  /** An implementation of a service whose every method says why the caller may not use it. */
  refuseAll(methods: readonly string[]): UntypedServiceImplementation {
    const refuse = (): never => {
      throw new GantryError("Unauthorized", "a node certificate of this cluster is needed");
    };
    return Object.fromEntries(methods.map((method) => {
      const [unary, streaming] = [this.unary<unknown, never>(method, refuse), this.streaming(method, refuse)];
      return [method, (call: ServerUnaryCall<unknown, never>, callback?: sendUnaryData<never>): void => (callback ? unary(call, callback) : streaming(call))];
    }));
  }

  async #reply<O>(method: string, run: () => Promise<O>, callback: sendUnaryData<O>): Promise<void> {
    let response: O;
    try {
      response = await run();
    } catch (error) {
      callback(this.#failure(method, error));
      return;
    }
    callback(null, response);
  }

  #failure(method: string, error: unknown): ServiceError {
    const { logger, onError, leader } = this.#options;
    if (error instanceof GantryError) logger.debug("RPC refused", { method, code: error.code, err: error });
    else logger.error("RPC failed", { method, err: error });
    onError(error);
    return toServiceError(error, leader());
  }
}
