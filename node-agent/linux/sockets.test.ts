import { once } from "node:events";
import { connect, createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { connectLoopback, connectPackets } from "./sockets.ts";

test("a port on loopback: both ways, with half-close, by IPv4 and, where nobody listens there, IPv6", async (t) => {
  for (const host of ["127.0.0.1", "::1"]) {
    const server = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
    await new Promise<void>((resolve, reject) => server.once("error", reject).listen(0, host, resolve));
    const socket = connectLoopback("host", (server.address() as AddressInfo).port);
    socket.end("x".repeat(200_000));
    let size = 0;
    for await (const chunk of socket) size += (chunk as Buffer).length;
    t.is(size, 200_000, host);
    await new Promise((resolve) => server.close(resolve));
  }
});

test("a port that nobody listens on is said at once", async (t) => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  // A client's own port: taken while it is connected, so that no server of another test gets it.
  const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
  t.teardown(() => {
    client.destroy();
    server.close();
  });
  await once(client, "connect");
  t.throws(() => connectLoopback("host", client.localPort!), { code: "ServiceUnavailable", message: /nobody listens on port \d+ in the pod/ });
});

test("a packet socket that isn't there", (t) => {
  t.throws(() => connectPackets(join(tmpdir(), "gantry-no-such-socket")), { code: "NotFound" });
});
