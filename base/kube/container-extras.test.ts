import test from "ava";
import { extrasAnnotations, extrasFaults, parseBlkioWeight, parseDevice, parseDeviceRate, parseExtras, parseTmpfsOptions, parseUlimit, type ContainerExtras } from "./container-extras.ts";

test("what is written is read again", (t) => {
  const extras: ContainerExtras = {
    ulimits: [{ name: "nofile", soft: 1024, hard: 2048 }, { name: "core", soft: -1, hard: -1 }], devices: [{ source: "/dev/fuse", target: "/dev/f", access: "rw" }], init: true, groups: ["audio", "video"],
    pidsLimit: 100, cpuShares: 512, cpusetCpus: "0-1,3", cpusetMems: "0", memorySwapBytes: -1, oomScoreAdj: -500, blkioWeight: 500, deviceReadBps: [{ device: "/dev/vda", rate: 1024 }, { device: "/dev/vdb", rate: 5 }], deviceWriteBps: [{ device: "/dev/vda", rate: 7 }], deviceReadIops: [{ device: "/dev/vda", rate: 8 }],
    deviceWriteIops: [{ device: "/dev/vda", rate: 9 }], consoleSize: { height: 30, width: 90 },
  };
  t.deepEqual(parseExtras(extrasAnnotations(extras)), extras);
  t.deepEqual(extrasAnnotations(parseExtras(undefined)), {});
});

test("docker's short forms", (t) => {
  t.deepEqual(parseUlimit("--ulimit", "nproc=64"), { name: "nproc", soft: 64, hard: 64 });
  t.deepEqual(parseDevice("--device", "/dev/fuse"), { source: "/dev/fuse", target: "/dev/fuse", access: "rwm" });
  t.deepEqual(parseDevice("--device", "/dev/fuse:rw"), { source: "/dev/fuse", target: "/dev/fuse", access: "rw" });
  t.deepEqual(parseTmpfsOptions("x", "mode=1770,noexec,uid=5,dev"), { data: ["mode=1770", "uid=5"], noExec: true, noSuid: true, noDev: false });
});

test("what can't be is named, with what would be right", (t) => {
  const message = (run: () => unknown): string => t.throws(run).message;
  t.regex(message(() => parseUlimit("--ulimit", "files=1")), /--ulimit: "files=1" is not NAME=SOFT\[:HARD\]/);
  t.regex(message(() => parseUlimit("--ulimit", "nofile=3:2")), /soft limit may not be above/);
  t.regex(message(() => parseUlimit("--ulimit", "nofile=-1:2")), /soft limit may not be above/);
  for (const text of ["fuse", "/dev/a:b", "/dev/a:/dev/b:rx", "/dev/a:/dev/b:rr", "/a:/b:/c:rw"]) t.regex(message(() => parseDevice("--device", text)), /^--device: .* is not \/dev\/NAME/);
  t.regex(message(() => parseTmpfsOptions("t", "mode=9")), /"mode=9" is not mode=1777/);
  for (const text of ["/dev/a", "dev/a:1", "/dev/a:b:1"]) t.regex(message(() => parseDeviceRate("--device-read-bps", text)), /^--device-read-bps: .* is not \/dev\/NAME:RATE/);
  t.regex(message(() => parseDeviceRate("--device-read-iops", "/dev/a:0")), /^--device-read-iops: "0" is not a whole number from 1/);
  t.regex(message(() => parseDeviceRate("--device-read-bps", "/dev/a:0b", () => 0)), /with a rate above 0/);
  t.regex(message(() => parseBlkioWeight("--blkio-weight", "5")), /"5" is not a whole number from 10 to 1000/);
  t.deepEqual(extrasFaults({ "gantry.io/cpu-shares": "1", "gantry.io/init": "yes", "tmpfs.gantry.io/t": "x", other: "1" }), [
    { name: "gantry.io/cpu-shares", value: "1", message: '"1" is not a whole number from 2 to 262144' }, { name: "gantry.io/init", value: "yes", message: '"yes" is not true or false' },
    { name: "tmpfs.gantry.io/t", value: "x", message: '"x" is not mode=1777, uid=N, gid=N, nr_inodes=N, noexec, exec, nosuid, suid, nodev, dev' },
  ]);
});
