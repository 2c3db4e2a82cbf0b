// Shares and limits of block devices: as an OCI bundle has them, and what this node has to leave out. Pure.
// https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#block-io
import { GantryError } from "../../base/errors.ts";
import { ExtrasAnnotation, type BlockIo, type DeviceRate } from "../../base/kube/container-extras.ts";
import type { CgroupFeatures } from "../cgroups/cgroup-tree.ts";
import type { OciDevice } from "./bundle.ts";

/** "Invalid" names a path at which the node has no block device. */
const rates = (given: readonly DeviceRate[] | undefined, devicesAt: (path: string) => readonly OciDevice[]): readonly { readonly major: number; readonly minor: number; readonly rate: number }[] | undefined =>
  given?.map(({ device, rate }) => {
    const found = devicesAt(device).find(({ path, type }) => path === device && type === "b");
    if (!found) throw new GantryError("Invalid", `device ${JSON.stringify(device)}: this node has no such block device`);
    return { major: found.major, minor: found.minor, rate };
  });

/** linux.resources.blockIO; undefined when nothing of it is asked for, or can be done. */
export const ociBlockIo = (io: BlockIo, { ioWeight, ioRates }: Pick<CgroupFeatures, "ioWeight" | "ioRates">, devicesAt: (path: string) => readonly OciDevice[]): Readonly<Record<string, unknown>> | undefined => {
  const fields = {
    weight: ioWeight ? io.blkioWeight : undefined,
    ...(ioRates ? {
      throttleReadBpsDevice: rates(io.deviceReadBps, devicesAt), throttleWriteBpsDevice: rates(io.deviceWriteBps, devicesAt),
      throttleReadIOPSDevice: rates(io.deviceReadIops, devicesAt), throttleWriteIOPSDevice: rates(io.deviceWriteIops, devicesAt),
    } : {}),
  };
  const given = Object.entries(fields).filter(([, value]) => value !== undefined);
  return given.length === 0 ? undefined : Object.fromEntries(given);
};

const WORDS = {
  blkioWeight: ["ioWeight", "Block I/O weight", "Weight"],
  deviceReadBps: ["ioRates", "BPS Block I/O read limit", "Block I/O BPS read limit"], deviceWriteBps: ["ioRates", "BPS Block I/O write limit", "Block I/O BPS write limit"],
  deviceReadIops: ["ioRates", "IOPS Block read limit", "Block I/O IOPS read limit"], deviceWriteIops: ["ioRates", "IOPS Block write limit", "Block I/O IOPS write limit"],
} as const satisfies Record<keyof BlockIo, readonly [keyof CgroupFeatures, string, string]>;

/** What a pod's annotations ask for and the node leaves out, in docker's words for it. */
export const discardedLimits = (annotations: Readonly<Record<string, string>>, features: Pick<CgroupFeatures, "ioWeight" | "ioRates">): readonly string[] =>
  (Object.keys(WORDS) as readonly (keyof BlockIo)[]).flatMap((key) => {
    const [feature, what, left] = WORDS[key];
    return annotations[ExtrasAnnotation[key]] === undefined || features[feature] ? [] : [`The node's kernel does not support ${what} or the cgroup is not mounted. ${left} discarded.`];
  });
