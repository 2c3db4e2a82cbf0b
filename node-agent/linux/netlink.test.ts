// Bytes as `ip` sends and the kernel answers them (little-endian), written by hand from linux/netlink.h and rtnetlink.h.
import test from "ava";
import { addAddress, addVeth, deleteLinkGroup, parseAddress, parseLink, parseRoute, replaceRoute, setLink } from "../network/rtnetlink.ts";
import { MessageWriter, NetlinkError, NetlinkSocket, parseAttributes, parseError, parseMessages, textOf } from "./netlink.ts";
import type { Request } from "./netlink.ts";

const hex = (text: string): Buffer => Buffer.from(text.replace(/\s+/g, ""), "hex");
const bytesOf = (request: Request): string =>
  Buffer.from(new MessageWriter().message(request.type, 5 | (request.flags ?? 0), 1, request.body).result()).toString("hex");

test("a message has its length, type, flags and sequence; attributes are padded to four", (t) => {
  const writer = new MessageWriter().message(16, 0x605, 7, (w) => w.bytes(Uint8Array.of(1, 2, 3, 4)).string(3, "br0").u32(4, 1500).u8(9, 5));
  t.is(Buffer.from(writer.result()).toString("hex"), hex(`
    2c000000 1000 0506 07000000 00000000  01020304  0800 0300 62723000  0800 0400 dc050000  0500 0900 05000000`).toString("hex"));
});

test("setting a link up names it and changes that flag only", (t) => {
  t.is(bytesOf(setLink("eth0", { up: true })), hex(`
    2c000000 1300 0500 01000000 00000000  00 00 0000 00000000 01000000 01000000  0900 0300 6574683000 000000`).toString("hex"));
});

test("an address goes with its prefix and broadcast address", (t) => {
  t.is(bytesOf(addAddress(2, { ip: "10.9.0.5", prefixLength: 24 })), hex(`
    30000000 1400 0505 01000000 00000000  02 18 00 00 02000000  0800 0200 0a090005  0800 0100 0a090005  0800 0400 0a0900ff`).toString("hex"));
});

test("a default route has no destination; a route to a range has one, and our protocol number", (t) => {
  t.is(bytesOf(replaceRoute({ gateway: "10.9.0.1" })), hex(`
    24000000 1800 0505 01000000 00000000  02 00 00 00 fe 03 00 01 00000000  0800 0500 0a090001`).toString("hex"));
  t.is(bytesOf(replaceRoute({ destination: { ip: "10.2.0.0", prefixLength: 16 }, gateway: "192.0.2.9", protocol: 103 })), hex(`
    2c000000 1800 0505 01000000 00000000  02 10 00 00 fe 67 00 01 00000000  0800 0100 0a020000  0800 0500 c0000209`).toString("hex"));
});

test("a veth pair is one message, with the other end nested in it", (t) => {
  const bytes = hex(bytesOf(addVeth({ name: "gp0", mtu: 1400, peer: { name: "eth0", netnsFd: 9, mac: Uint8Array.of(10, 88, 10, 9, 0, 5) } })));
  const [message] = parseMessages(bytes);
  const attributes = parseAttributes(message!.payload.subarray(16));
  const info = parseAttributes(attributes.get(18)!);
  const peer = parseAttributes(parseAttributes(info.get(2)!).get(1)!.subarray(16));
  t.deepEqual([textOf(attributes.get(3)), textOf(info.get(1)), textOf(peer.get(3)), peer.get(28)!.readUInt32LE(), peer.get(4)!.readUInt32LE()], ["gp0", "veth", "eth0", 9, 1400]);
  t.deepEqual([...peer.get(1)!], [10, 88, 10, 9, 0, 5]);
});

test("deleting a group names no link", (t) => {
  t.is(bytesOf(deleteLinkGroup(7)), hex("28000000 1100 0500 01000000 00000000 00000000 00000000 00000000 00000000 0800 1b00 07000000").toString("hex"));
});

test("links, addresses and routes are read from the kernel's messages", (t) => {
  const message = (payload: string): Parameters<typeof parseLink>[0] => ({ type: 0, flags: 0, sequence: 0, payload: hex(payload) });
  t.deepEqual(parseLink(message("0000 0100 05000000 43100100 00000000  0800 0300 67703000  0800 0400 dc050000  0800 0a00 02000000  1000 1200 0900 0100 76657468 00000000")),
    { index: 5, name: "gp0", kind: "veth", up: true, mtu: 1500, master: 2 });
  t.deepEqual(parseAddress(message("02 18 80 00 05000000  0800 0100 0a090001  0800 0200 0a090001")), { index: 5, ip: "10.9.0.1", prefixLength: 24 });
  t.deepEqual(parseRoute(message("02 18 00 00 fe 67 00 01 00000000  0800 0f00 fe000000  0800 0100 0a020300  0800 0500 c0000209  0800 0400 03000000")),
    { protocol: 103, destination: { ip: "10.2.3.0", prefixLength: 24 }, gateway: "192.0.2.9", outInterface: 3 });
  t.is(parseRoute(message("02 20 00 00 ff 02 fe 02 00000000  0800 0f00 ff000000")), undefined, "the local table is not ours to read");
});

test("an error has its number and the kernel's words; an acknowledgement has number 0", (t) => {
  const capped = { type: 2, flags: 0x300, sequence: 1, payload: hex("efffffff 20000000 1000 0506 01000000 00000000  0c00 0100 66756c6c2100 0000") };
  t.deepEqual(parseError(capped), { errno: 17, reason: "full!" });
  t.deepEqual(parseError({ type: 2, flags: 0, sequence: 1, payload: hex("00000000 20000000 1000 0506 01000000 00000000") }), { errno: 0, reason: "" });
  t.is(new NetlinkError("add link x", 17, "full!").message, "can't add link x: full! (EEXIST)");
  t.is(new NetlinkError("add link x", 17, "").code, "AlreadyExists");
});

test("cut-off and impossible lengths end the reading instead of running away", (t) => {
  t.deepEqual(parseMessages(hex("ff000000 1000 0000 01000000 00000000")), []);
  t.deepEqual(parseMessages(hex("00000000 1000 0000 01000000 00000000")), []);
  t.deepEqual(parseMessages(hex("1000")), []);
  t.is(parseAttributes(hex("0000 0100 ff00 0200")).size, 0);
  t.is(parseAttributes(hex("0800 0100 01020304 ffff 0200")).size, 1);
});

test("a writer grows past its first buffer and leaves no old bytes in the padding", (t) => {
  const writer = new MessageWriter();
  for (let i = 0; i < 100; i++) writer.message(1, 0, i, (w) => w.attribute(1, Buffer.alloc(33, 0xff)));
  const messages = parseMessages(Buffer.from(writer.result()));
  t.is(messages.length, 100);
  t.deepEqual(messages.map((m) => m.sequence), Array.from({ length: 100 }, (_, i) => i));
  t.true(messages.every((m) => m.payload.subarray(37).every((byte) => byte === 0)));
});

test("the kernel answers a batch one by one, and goes on behind a request that fails", (t) => {
  using socket = new NetlinkSocket();
  const results = socket.attempt([setLink("no-such-link-1", {}), setLink("lo", {}), setLink("no-such-link-2", {})]);
  t.deepEqual(results.map((result) => result?.errno), ["ENODEV", undefined, "ENODEV"]);
  t.regex(results[0]!.message, /^can't set no-such-link-1: /);
});
