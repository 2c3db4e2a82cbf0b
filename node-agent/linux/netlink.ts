// Netlink (RFC 3549): messages and attributes to and from bytes (pure), and a socket that sends a batch and collects its answers. Knows
// nothing of links and routes: those are in network/rtnetlink.ts. Integers are in the host's order, little-endian on all that we support.
import { GantryError } from "../../base/errors.ts";
import * as libc from "./libc.ts";
import { SystemCallError, isErrno } from "./libc.ts";

const HEADER_BYTES = 16;
const ATTRIBUTE_HEADER_BYTES = 4;
const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;

export const MessageType = { error: 2, done: 3 } as const;
export const MessageFlags = {
  request: 0x1, multi: 0x2, ack: 0x4, dumpInterrupted: 0x10, dump: 0x300, replace: 0x100, exclusive: 0x200, create: 0x400,
} as const;

const align = (lengthBytes: number): number => (lengthBytes + 3) & ~3;

/** Writes messages one behind the other. Grows as needed; `bytes()` is a view that the next write may invalidate. */
export class MessageWriter {
  #buffer = Buffer.alloc(1024);
  #length = 0;

  /** One message: its header, then what `body` writes. */
  message(type: number, flags: number, sequence: number, body: (writer: MessageWriter) => void): this {
    const start = this.#reserve(HEADER_BYTES);
    body(this);
    this.#buffer.writeUInt32LE(this.#length - start, start);
    this.#buffer.writeUInt16LE(type, start + 4);
    this.#buffer.writeUInt16LE(flags, start + 6);
    this.#buffer.writeUInt32LE(sequence, start + 8);
    this.#buffer.writeUInt32LE(0, start + 12); // to the kernel
    return this;
  }

  /** A family's fixed header, or any other bytes, padded to four. */
  bytes(data: Uint8Array): this {
    const at = this.#reserve(data.length);
    this.#buffer.set(data, at);
    return this;
  }

  attribute(type: number, data: Uint8Array): this {
    const at = this.#reserve(ATTRIBUTE_HEADER_BYTES + data.length);
    this.#buffer.writeUInt16LE(ATTRIBUTE_HEADER_BYTES + data.length, at);
    this.#buffer.writeUInt16LE(type, at + 2);
    this.#buffer.set(data, at + ATTRIBUTE_HEADER_BYTES);
    return this;
  }

  u8(type: number, value: number): this {
    return this.attribute(type, Uint8Array.of(value));
  }

  u32(type: number, value: number): this {
    const data = Buffer.alloc(4);
    data.writeUInt32LE(value >>> 0);
    return this.attribute(type, data);
  }

  /** Zero-terminated. */
  string(type: number, value: string): this {
    return this.attribute(type, Buffer.from(`${value}\0`));
  }

  nested(type: number, body: (writer: MessageWriter) => void): this {
    const start = this.#reserve(ATTRIBUTE_HEADER_BYTES);
    body(this);
    this.#buffer.writeUInt16LE(this.#length - start, start);
    this.#buffer.writeUInt16LE(type | NLA_F_NESTED, start + 2);
    return this;
  }

  result(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  /** Zeroed space, so that padding never carries old bytes to the kernel. Returns where it starts. */
  #reserve(lengthBytes: number): number {
    const start = this.#length;
    this.#length += align(lengthBytes);
    if (this.#length > this.#buffer.length) {
      const grown = Buffer.alloc(Math.max(this.#length, this.#buffer.length * 2));
      grown.set(this.#buffer.subarray(0, start));
      this.#buffer = grown;
    }
    return start;
  }
}

export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  /** Without the netlink header. */
  readonly payload: Buffer;
}

/** All whole messages of a datagram; what is cut off or has an impossible length ends the list. */
export const parseMessages = (data: Buffer): readonly Message[] => {
  const messages: Message[] = [];
  for (let at = 0; at + HEADER_BYTES <= data.length;) {
    const lengthBytes = data.readUInt32LE(at);
    if (lengthBytes < HEADER_BYTES || at + lengthBytes > data.length) break;
    messages.push({
      type: data.readUInt16LE(at + 4), flags: data.readUInt16LE(at + 6), sequence: data.readUInt32LE(at + 8), payload: data.subarray(at + HEADER_BYTES, at + lengthBytes),
    });
    at += align(lengthBytes);
  }
  return messages;
};

/** By type, flags taken off. Of a type that occurs twice the last one counts. */
export const parseAttributes = (data: Buffer): ReadonlyMap<number, Buffer> => {
  const attributes = new Map<number, Buffer>();
  for (let at = 0; at + ATTRIBUTE_HEADER_BYTES <= data.length;) {
    const lengthBytes = data.readUInt16LE(at);
    if (lengthBytes < ATTRIBUTE_HEADER_BYTES || at + lengthBytes > data.length) break;
    attributes.set(data.readUInt16LE(at + 2) & NLA_TYPE_MASK, data.subarray(at + ATTRIBUTE_HEADER_BYTES, at + lengthBytes));
    at += align(lengthBytes);
  }
  return attributes;
};

/** Zero-terminated text of an attribute. */
export const textOf = (data: Buffer | undefined): string => data?.toString("utf8").replace(/\0.*$/s, "") ?? "";

/** An NLMSG_ERROR's errno (0: it is an acknowledgement) and the kernel's own words (extended acknowledgement, NLMSGERR_ATTR_MSG). */
export const parseError = (message: Message): { readonly errno: number; readonly reason: string } => {
  const NLM_F_CAPPED = 0x100;
  const NLM_F_ACK_TLVS = 0x200;
  const errno = 0 - message.payload.readInt32LE(0);
  if (!(message.flags & NLM_F_ACK_TLVS)) return { errno, reason: "" };
  const echoedBytes = message.flags & NLM_F_CAPPED ? HEADER_BYTES : align(message.payload.readUInt32LE(4));
  return { errno, reason: textOf(parseAttributes(message.payload.subarray(4 + echoedBytes)).get(1)) };
};

/** One request: `what` is for error messages ("add route 10.1.0.0/24 via 192.0.2.7"). */
export interface Request {
  readonly what: string;
  readonly type: number;
  /** Beyond request and ack, which are always set. */
  readonly flags?: number;
  /** An errno's name: failing with it is as good as done. */
  readonly doneBy?: string;
  readonly body: (writer: MessageWriter) => void;
}

export class NetlinkError extends SystemCallError {
  constructor(what: string, errno: number, reason: string) {
    super("netlink", errno);
    this.name = "NetlinkError";
    this.message = `can't ${what}: ${reason ? `${reason} (${this.errno})` : this.message}`;
  }
}

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
const SIOCGIFINDEX = 0x8933;
const RECEIVE_BYTES = 64 * 1024;
/** rtnetlink answers before send() returns; only a broken kernel or a wrong message type makes one wait. */
const ANSWER_TIMEOUT_SECONDS = 5;

const receiveBuffer = Buffer.alloc(RECEIVE_BYTES);

/** A socket in the network namespace in which the thread is at the time; it stays there for good. */
export class NetlinkSocket implements Disposable {
  readonly #fd: number;
  #sequence = 0;

  constructor(protocol = 0 /* NETLINK_ROUTE */) {
    this.#fd = libc.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, protocol);
    const on = Uint8Array.of(1, 0, 0, 0);
    const timeout = Buffer.alloc(16);
    timeout.writeBigInt64LE(BigInt(ANSWER_TIMEOUT_SECONDS));
    libc.setsockopt(this.#fd, SOL_SOCKET, SO_RCVTIMEO, timeout, timeout.length);
    for (const option of [NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK]) {
      try {
        libc.setsockopt(this.#fd, SOL_NETLINK, option, on, on.length);
      } catch (error) {
        if (!isErrno(error, "ENOPROTOOPT")) throw error; // an older kernel: plainer errors
      }
    }
  }

  /** Sends all requests at once. The kernel carries them out in order, also those behind one that fails. One result each. */
  attempt(requests: readonly Request[]): readonly (NetlinkError | undefined)[] {
    if (requests.length === 0) return [];
    const first = this.#sequence + 1;
    this.#send(this.#written(requests));
    return this.#answers(requests, first);
  }

  /**
   * As attempt, without making this thread wait for the kernel: deleting a link takes tens of ms, or more where others change links too. The
   * socket must not be used for anything else meanwhile.
   */
  async attemptElsewhere(requests: readonly Request[]): Promise<readonly (NetlinkError | undefined)[]> {
    const first = this.#sequence + 1;
    const data = this.#written(requests);
    if (!(await libc.sendElsewhere(this.#fd, data, data.length, 0))) this.#send(data);
    return this.#answers(requests, first);
  }

  #written(requests: readonly Request[]): Uint8Array {
    const writer = new MessageWriter();
    for (const request of requests) {
      writer.message(request.type, MessageFlags.request | MessageFlags.ack | (request.flags ?? 0), ++this.#sequence, request.body);
    }
    return writer.result();
  }

  #answers(requests: readonly Request[], first: number): readonly (NetlinkError | undefined)[] {
    const results: (NetlinkError | undefined)[] = requests.map(() => undefined);
    for (let missing = requests.length; missing > 0;) {
      for (const message of this.#receive()) {
        const index = message.sequence - first;
        const request = requests[index];
        if (!request || message.type !== MessageType.error) continue; // an answer to a request that was given up
        const { errno, reason } = parseError(message);
        const error = errno === 0 ? undefined : new NetlinkError(request.what, errno, reason);
        if (error && !(request.doneBy !== undefined && isErrno(error, request.doneBy))) results[index] = error;
        missing--;
      }
    }
    return results;
  }

  /** Sends all requests and throws the first error. Later ones have been carried out all the same. */
  run(requests: readonly Request[]): void {
    throwFirst(this.attempt(requests));
  }

  /** As run, with attemptElsewhere. */
  async runElsewhere(requests: readonly Request[]): Promise<void> {
    throwFirst(await this.attemptElsewhere(requests));
  }

  /** Of the link with this name, in the socket's network namespace. Other than by a request, nobody waits who changes links meanwhile. netdevice(7). */
  indexOf(linkName: string): number {
    const request = Buffer.alloc(40); // struct ifreq: name[16], index
    request.write(linkName, 0, 15, "latin1");
    libc.ioctl(this.#fd, SIOCGIFINDEX, request);
    return request.readInt32LE(16);
  }

  /** All answers to a dump request. Repeated when the kernel says that the table changed while it was being read. */
  dump(what: string, type: number, body: (writer: MessageWriter) => void): readonly Message[] {
    for (let attempt = 0; attempt < 10; attempt++) {
      const messages = this.#dumpOnce(what, type, body);
      if (messages) return messages;
    }
    throw new GantryError("ServiceUnavailable", `can't ${what}: it changed during each of 10 readings`);
  }

  close(): void {
    libc.close(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #dumpOnce(what: string, type: number, body: (writer: MessageWriter) => void): readonly Message[] | undefined {
    const sequence = ++this.#sequence;
    this.#send(new MessageWriter().message(type, MessageFlags.request | MessageFlags.dump, sequence, body).result());
    const found: Message[] = [];
    let interrupted = false;
    for (;;) {
      for (const message of this.#receive()) {
        if (message.sequence !== sequence) continue;
        interrupted ||= (message.flags & MessageFlags.dumpInterrupted) !== 0;
        if (message.type === MessageType.done) return interrupted ? undefined : found;
        if (message.type === MessageType.error) {
          const { errno, reason } = parseError(message);
          throw new NetlinkError(what, errno, reason);
        }
        found.push(message);
      }
    }
  }

  #send(data: Uint8Array): void {
    retryInterrupted(() => libc.send(this.#fd, data, data.length, 0));
  }

  #receive(): readonly Message[] {
    const lengthBytes = retryInterrupted(() => libc.recv(this.#fd, receiveBuffer, receiveBuffer.length, 0));
    return parseMessages(Buffer.from(receiveBuffer.subarray(0, lengthBytes)));
  }
}

const throwFirst = (results: readonly (NetlinkError | undefined)[]): void => {
  const error = results.find((result) => result !== undefined);
  if (error) throw error;
};

/** SIGCHLD and the profiler interrupt a receive with a timeout, SA_RESTART or not. */
const retryInterrupted = <T>(call: () => T): T => {
  for (;;) {
    try {
      return call();
    } catch (error) {
      if (!isErrno(error, "EINTR")) throw error;
    }
  }
};
