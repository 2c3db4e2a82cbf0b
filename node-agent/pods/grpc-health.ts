// Asks a server for its health by the gRPC health protocol, v1: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
import { Client, credentials, status as codes, type ServiceError } from "@grpc/grpc-js";
import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import { GantryError } from "../../base/errors.ts";

const METHOD = "/grpc.health.v1.Health/Check";
/** enum ServingStatus. */
const STATUSES = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const SERVICE_TAG = (1 << 3) | 2;
const STATUS_TAG = (1 << 3) | 0;

const encode = (service: string): Buffer => Buffer.from(service === "" ? new Uint8Array() : new BinaryWriter().uint32(SERVICE_TAG).string(service).finish());

/** The one field that is of interest; others are a newer protocol's. */
const decode = (bytes: Buffer): number => {
  const reader = new BinaryReader(bytes);
  let found = 0;
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === STATUS_TAG) found = reader.int32();
    else reader.skip(tag & 7);
  }
  return found;
};

const explain = (error: ServiceError, address: string, service: string): string => {
  switch (error.code) {
    case codes.UNIMPLEMENTED: return `this server does not implement the grpc health protocol (grpc.health.v1.Health): ${error.details}`;
    case codes.NOT_FOUND: return `the server knows no service ${JSON.stringify(service)}: ${error.details}`;
    default: return `failed to connect service ${JSON.stringify(address)}: ${error.details}`;
  }
};

/** Resolves when `service` ("": the whole server) says SERVING. Certificates are not asked for, as by the kubelet. */
export const checkHealth = (host: string, port: number, service: string, signal: AbortSignal): Promise<void> => {
  const address = `${host.includes(":") ? `[${host}]` : host}:${port}`;
  // A channel of its own, without the node's proxy: a pod that was replaced must not be answered for by an old connection.
  const client = new Client(address, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1, "grpc.enable_http_proxy": 0, "grpc.primary_user_agent": "gantry-probe" });
  return new Promise<void>((resolve, reject) => {
    const call = client.makeUnaryRequest(METHOD, encode, decode, service, (error, status) => {
      if (error) reject(new GantryError("ServiceUnavailable", explain(error, address, service)));
      else if (status !== 1) reject(new GantryError("FailedPrecondition", `service unhealthy (responded with ${JSON.stringify(STATUSES[status ?? 0] ?? String(status))})`));
      else resolve();
    });
    if (signal.aborted) call.cancel();
    signal.addEventListener("abort", () => call.cancel(), { once: true });
  }).finally(() => client.close());
};
