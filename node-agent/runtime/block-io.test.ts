import test from "ava";
import { discardedLimits, ociBlockIo } from "./block-io.ts";
import type { OciDevice } from "./bundle.ts";

const disk = (path: string): readonly OciDevice[] =>
  (path === "/dev/vda" ? [{ path, type: "b", major: 254, minor: 3, fileMode: 0o660, uid: 0, gid: 6 }] : path === "/dev/null" ? [{ path, type: "c", major: 1, minor: 3, fileMode: 0o666, uid: 0, gid: 0 }] : []);
const ALL = { ioWeight: true, ioRates: true };
const rate = (n: number) => [{ device: "/dev/vda", rate: n }];

test("weight and rates by the device's number; none where none is asked for", (t) => {
  t.deepEqual(ociBlockIo({ blkioWeight: 500, deviceReadBps: rate(1), deviceWriteBps: rate(2), deviceReadIops: rate(3), deviceWriteIops: rate(4) }, ALL, disk), {
    weight: 500, throttleReadBpsDevice: [{ major: 254, minor: 3, rate: 1 }], throttleWriteBpsDevice: [{ major: 254, minor: 3, rate: 2 }],
    throttleReadIOPSDevice: [{ major: 254, minor: 3, rate: 3 }], throttleWriteIOPSDevice: [{ major: 254, minor: 3, rate: 4 }],
  });
  t.is(ociBlockIo({}, ALL, disk), undefined);
});

test("what is no block device is said", (t) => {
  for (const device of ["/dev/nosuch", "/dev/null"]) t.throws(() => ociBlockIo({ deviceReadBps: [{ device, rate: 1 }] }, ALL, disk), { code: "Invalid", message: `device "${device}": this node has no such block device` });
});

test("what the kernel can't do is left out, and said as docker says it", (t) => {
  const annotations = { "gantry.io/blkio-weight": "500", "gantry.io/device-write-iops": "/dev/vda:4" };
  const without = { ioWeight: false, ioRates: true };
  t.deepEqual(ociBlockIo({ blkioWeight: 500, deviceWriteIops: rate(4) }, without, disk), { throttleWriteIOPSDevice: [{ major: 254, minor: 3, rate: 4 }] });
  t.deepEqual(discardedLimits(annotations, without), ["The node's kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."]);
  t.is(ociBlockIo({ blkioWeight: 500, deviceWriteIops: rate(4) }, { ioWeight: false, ioRates: false }, disk), undefined);
  t.is(discardedLimits(annotations, { ioWeight: false, ioRates: false }).length, 2);
  t.deepEqual(discardedLimits(annotations, ALL), []);
});
