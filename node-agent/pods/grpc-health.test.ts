import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import { Server, ServerCredentials, status, type ServiceDefinition } from "@grpc/grpc-js";
import test, { type ExecutionContext } from "ava";
import { checkHealth } from "./grpc-health.ts";

const SERVICE: ServiceDefinition = {
  check: {
    path: "/grpc.health.v1.Health/Check", requestStream: false, responseStream: false,
    requestSerialize: (x: Buffer) => x, requestDeserialize: (bytes: Buffer) => ({ service: bytes.length === 0 ? "" : ((reader) => (reader.uint32(), reader.string()))(new BinaryReader(bytes)) }),
    responseSerialize: (code: number) => Buffer.from(new BinaryWriter().uint32(8).int32(code).finish()), responseDeserialize: (x: Buffer) => x,
  },
};

const serve = async (t: ExecutionContext, answer: ((service: string) => number) | undefined): Promise<number> => {
  const server = new Server();
  t.teardown(() => server.forceShutdown());
  if (answer) server.addService(SERVICE, { check: (call: { readonly request: { readonly service: string } }, done: (error: object | null, code?: number) => void) => {
    const code = answer(call.request.service);
    if (code === 0) done({ code: status.NOT_FOUND, details: "unknown service" });
    else if (code > 0) done(null, code);
  } });
  return new Promise((resolve, reject) => server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => (error ? reject(error) : resolve(port))));
};
const soon = (): AbortSignal => AbortSignal.timeout(10_000);

test("SERVING is well, of the server and of one of its services; all else is not, in words", async (t) => {
  const port = await serve(t, (service) => ({ "": 1, "shop": 1, "ill": 2 })[service] ?? 0);
  await checkHealth("127.0.0.1", port, "", soon());
  await checkHealth("127.0.0.1", port, "shop", soon());
  await t.throwsAsync(checkHealth("127.0.0.1", port, "ill", soon()), { message: 'service unhealthy (responded with "NOT_SERVING")' });
  await t.throwsAsync(checkHealth("127.0.0.1", port, "lost", soon()), { message: /knows no service "lost"/ });
});

test("a server without the protocol, none at all, and one that never answers", async (t) => {
  await t.throwsAsync(checkHealth("127.0.0.1", await serve(t, undefined), "", soon()), { message: /does not implement the grpc health protocol/ });
  await t.throwsAsync(checkHealth("127.0.0.1", 1, "", soon()), { message: /failed to connect service "127\.0\.0\.1:1"/ });
  const port = await serve(t, () => -1);
  await t.throwsAsync(checkHealth("127.0.0.1", port, "", AbortSignal.timeout(100)));
});
