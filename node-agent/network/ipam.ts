// Addresses of a node's pod range. Pure: who holds what is the caller's to remember.
import { GantryError } from "../../base/errors.ts";

/** IPv4, as numbers: `first` is the network address. */
export interface AddressRange {
  readonly first: number;
  readonly size: number;
  readonly prefixLength: number;
}

export const parseIpv4 = (text: string): number | undefined => {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  const bytes = match?.slice(1).map(Number);
  if (!bytes || bytes.some((byte) => byte > 255)) return undefined;
  return bytes.reduce((value, byte) => value * 256 + byte, 0);
};

export const formatIpv4 = (address: number): string => [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join(".");

/** "10.1.2.0/24". Bits beyond the prefix are dropped. "Invalid" names `field`. */
export const parseCidr = (text: string, field: string): AddressRange => {
  const [ip = "", prefix = ""] = text.split("/");
  const address = parseIpv4(ip);
  const prefixLength = Number(prefix);
  if (address === undefined || !/^\d{1,2}$/.test(prefix) || prefixLength > 32) {
    throw new GantryError("Invalid", `${field}: "${text}" is not an IPv4 range; write it as 10.1.2.0/24`);
  }
  const size = 2 ** (32 - prefixLength);
  return { first: address - (address % size), size, prefixLength };
};

export const formatCidr = ({ first, prefixLength }: AddressRange): string => `${formatIpv4(first)}/${prefixLength}`;

export const contains = ({ first, size }: AddressRange, ip: string): boolean => {
  const address = parseIpv4(ip);
  return address !== undefined && address >= first && address < first + size;
};

/** The bridge's own: the first one after the network address. */
export const gatewayOf = ({ first }: AddressRange): string => formatIpv4(first + 1);

/** How many pods find an address: all but network, gateway and broadcast. */
export const capacityOf = ({ size }: AddressRange): number => Math.max(0, size - 3);

/**
 * The next free address after `last`, round the range: one that was just given back stays unused for as long as possible, since
 * others may still have connections, caches and DNS answers with it. undefined when all are taken.
 */
export const allocate = (range: AddressRange, used: ReadonlySet<string>, last: string | undefined): string | undefined => {
  const capacity = capacityOf(range);
  const lowest = range.first + 2;
  const lastAddress = last === undefined ? undefined : parseIpv4(last);
  const start = lastAddress === undefined || lastAddress < lowest || lastAddress >= lowest + capacity ? 0 : lastAddress - lowest + 1;
  for (let i = 0; i < capacity; i++) {
    const candidate = formatIpv4(lowest + ((start + i) % capacity));
    if (!used.has(candidate)) return candidate;
  }
  return undefined;
};
