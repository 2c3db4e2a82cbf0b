// Sockets that node:net can't make: packet sockets of the Unix family, and TCP sockets inside of another network namespace. What comes out
// is a node socket like any other.
import { closeSync, openSync } from "node:fs";
import { Socket, type SocketConstructorOpts } from "node:net";
import { basename, dirname } from "node:path";
import { GantryError } from "../../base/errors.ts";
import * as libc from "./libc.ts";
import { isErrno } from "./libc.ts";
import { inNetworkNamespace } from "./namespaces.ts";

const AF = { unix: 1, inet: 2, inet6: 10 } as const;
const SOCK = { stream: 1, packets: 5 } as const;
const SOCK_CLOEXEC = 0o2000000;
const FLAGS = SOCK_CLOEXEC | 0o4000; // SOCK_NONBLOCK
const SOL_SOCKET = 1;
const SO_SNDTIMEO = 21;
/** struct timeval, 20 ms: a handshake on loopback takes microseconds; one that takes longer (its backlog is full) goes on in the background. */
const CONNECT_TIMEOUT = Buffer.alloc(16);
CONNECT_TIMEOUT.writeBigInt64LE(20_000n, 8);
const O_CLOEXEC = 0o2000000;
const O_PATH_DIRECTORY = 0o10000000 | 0o200000;
/** Of sockaddr_un, with the zero at its end. */
const MAX_UNIX_PATH_BYTES = 107;

const unixAddress = (path: string): Buffer => {
  const address = Buffer.alloc(2 + Buffer.byteLength(path) + 1);
  address.writeUInt16LE(AF.unix, 0);
  address.write(path, 2);
  return address;
};

/**
 * Connects to a SOCK_SEQPACKET socket. Each write arrives as one packet if its callback is awaited before the next; each packet is one "data".
 * node:net refuses a descriptor of this type but reads and writes it as well as any: so it is given a stream socket, which is exchanged
 * before anything was read. "NotFound" when nobody listens.
 */
export const connectPackets = (path: string): Socket => {
  const place = libc.socket(AF.unix, SOCK.stream | FLAGS, 0);
  let fd: number | undefined;
  let directory: number | undefined;
  try {
    fd = libc.socket(AF.unix, SOCK.packets | FLAGS, 0);
    let name = path;
    if (Buffer.byteLength(path) > MAX_UNIX_PATH_BYTES) {
      directory = openSync(dirname(path), O_PATH_DIRECTORY);
      name = `/proc/self/fd/${directory}/${basename(path)}`;
    }
    const address = unixAddress(name);
    libc.connect(fd, address, address.length);
    // manualStart: without it node would begin to read at once.
    const socket = new Socket({ fd: place, readable: true, writable: true, allowHalfOpen: true, manualStart: true } as SocketConstructorOpts);
    libc.dup3(fd, place, O_CLOEXEC);
    return socket;
  } catch (error) {
    libc.close(place);
    if (isErrno(error, "ENOENT", "ECONNREFUSED")) throw new GantryError("NotFound", `nobody listens at ${path}`, { cause: error });
    throw error;
  } finally {
    if (fd !== undefined) libc.close(fd);
    if (directory !== undefined) closeSync(directory);
  }
};

/** 127.0.0.1 or ::1. */
const loopback = (family: "inet" | "inet6", port: number): Buffer => {
  const address = Buffer.alloc(family === "inet" ? 16 : 28);
  address.writeUInt16LE(AF[family], 0);
  address.writeUInt16BE(port, 2);
  if (family === "inet") address.writeUInt32BE(0x7f000001, 4);
  else address[23] = 1;
  return address;
};

/**
 * A TCP connection to `port` on the loopback of a network namespace ("host": this one), IPv4 before IPv6. Only making the socket takes place in
 * there. "ServiceUnavailable" when nobody listens.
 */
export const connectLoopback = (namespace: string, port: number): Socket => {
  let refused: unknown;
  for (const family of ["inet", "inet6"] as const) {
    const make = (): number => libc.socket(AF[family], SOCK.stream | SOCK_CLOEXEC, 0);
    try {
      const fd = namespace === "host" ? make() : inNetworkNamespace(namespace, make);
      try {
        const address = loopback(family, port);
        libc.setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, CONNECT_TIMEOUT, CONNECT_TIMEOUT.length);
        libc.connect(fd, address, address.length);
      } catch (error) {
        if (!isErrno(error, "EINPROGRESS", "EAGAIN")) {
          libc.close(fd);
          throw error;
        }
      }
      return new Socket({ fd, readable: true, writable: true, allowHalfOpen: true });
    } catch (error) {
      if (!isErrno(error, "ECONNREFUSED", "EADDRNOTAVAIL", "EAFNOSUPPORT", "ENETUNREACH")) throw error;
      refused ??= error;
    }
  }
  throw new GantryError("ServiceUnavailable", `nobody listens on port ${port} in the pod`, { cause: refused });
};
