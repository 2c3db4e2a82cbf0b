// The network that joins the hosts of `gantry up`: a /24 of 100.96.0.0/11 (shared address space, RFC 6598) that this machine doesn't use.
import { networkInterfaces } from "node:os";
import { GantryError } from "../../base/errors.ts";

/** Starts from the cluster's id, so that clusters of several checkouts seldom ask for the same. */
export const chooseSubnet = (id: string, taken: readonly string[] = Object.values(networkInterfaces()).flatMap((i) => i ?? []).map((i) => i.address)): string => {
  const first = Number.parseInt(id, 16);
  for (let i = 0; i < 256; i++) {
    const prefix = `100.${96 + ((first >> 8) % 32)}.${(first + i) % 256}`;
    if (!taken.some((address) => address.startsWith(`${prefix}.`))) return `${prefix}.0/24`;
  }
  throw new GantryError("FailedPrecondition", "no free /24 for the nodes in 100.96.0.0/11");
};
