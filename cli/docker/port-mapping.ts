// `-p 127.0.0.1:8080:80/udp`: what docker and Compose files say of ports. Pure.
import { isIP } from "node:net";
import { GantryError } from "../../base/errors.ts";

export interface PortMapping {
  /** "": all addresses of the node. */
  readonly hostIp: string;
  /** 0: any that is free. Undefined: not on the host at all. */
  readonly hostPort: number | undefined;
  readonly containerPort: number;
  readonly protocol: "TCP" | "UDP" | "SCTP";
}

const range = (fault: (why: string) => GantryError, text: string): { readonly from: number; readonly to: number } => {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text);
  const from = Number(match?.[1]);
  const to = Number(match?.[2] ?? match?.[1]);
  if (!match || from < 1 || to > 65_535 || to < from) throw fault(`${JSON.stringify(text)} is not a port from 1 to 65535, or a range of them`);
  return { from, to };
};

/** `[[IP:]HOSTPORT:]PORT[/PROTOCOL]`, each port perhaps a range. "BadRequest" says what is wrong. */
export const parsePortMapping = (where: string, text: string): readonly PortMapping[] => {
  const fault = (why: string): GantryError => new GantryError("BadRequest", `${where}: ${JSON.stringify(text)}: ${why} (80, 8080:80, 127.0.0.1:8080:80, each with /udp)`);
  const [ports = "", protocol = "tcp", ...more] = text.split("/");
  const upper = protocol.toUpperCase();
  if (more.length > 0 || !["TCP", "UDP", "SCTP"].includes(upper)) throw fault(`${JSON.stringify(protocol)} is not tcp, udp or sctp`);
  const match = /^(?:(?:\[([0-9a-fA-F:]+)\]|([^:[\]]+)):)?(?:([\d-]*):)?([\d-]+)$/.exec(ports);
  if (!match) throw fault("can't be read");
  const [, v6, v4, hostPart, containerPart] = match;
  // 8080:80 has two parts: the first is a port and not an address.
  const isPort = v4 !== undefined && hostPart === undefined && /^[\d-]+$/.test(v4);
  const hostIp = v6 ?? (isPort ? "" : (v4 ?? ""));
  const hostText = isPort ? v4 : (hostPart ?? "");
  if (hostIp !== "" && isIP(hostIp) === 0) throw fault(`${JSON.stringify(hostIp)} is not an IP address`);
  const inside = range(fault, containerPart!);
  const outside = hostText === "" ? undefined : range(fault, hostText);
  const count = inside.to - inside.from + 1;
  if (outside && outside.to - outside.from + 1 !== count) throw fault("both ranges must have the same length");
  return Array.from({ length: count }, (_, i) => ({
    hostIp: hostIp === "0.0.0.0" || hostIp === "::" ? "" : hostIp, hostPort: outside ? outside.from + i : 0, containerPort: inside.from + i, protocol: upper as PortMapping["protocol"],
  }));
};

/** Ports that clients' connections don't come from (IANA's dynamic ones begin at 49152; Linux takes 32768 to 60999). */
const RANDOM_FROM = 20_000;
const RANDOM_COUNT = 10_000;

/** Gives each mapping that asks for any port one that is not in `taken`. `random(n)` is a whole number below n. */
export const withRandomPorts = (mappings: readonly PortMapping[], taken: ReadonlySet<number>, random: (n: number) => number): readonly PortMapping[] => {
  const used = new Set([...taken, ...mappings.flatMap((m) => m.hostPort ?? [])]);
  return mappings.map((mapping) => {
    if (mapping.hostPort !== 0) return mapping;
    const start = random(RANDOM_COUNT);
    const offset = Array.from({ length: RANDOM_COUNT }, (_, i) => (start + i) % RANDOM_COUNT).find((o) => !used.has(RANDOM_FROM + o));
    if (offset === undefined) throw new GantryError("FailedPrecondition", `every host port from ${RANDOM_FROM} to ${RANDOM_FROM + RANDOM_COUNT - 1} is taken: name one with -p HOSTPORT:${mapping.containerPort}`);
    used.add(RANDOM_FROM + offset);
    return { ...mapping, hostPort: RANDOM_FROM + offset };
  });
};
