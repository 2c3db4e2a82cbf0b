import { fstatSync, statSync } from "node:fs";
import test from "ava";
import { parseMountInfo } from "../linux/mount.ts";
import { openExecDirectory, holeIn, type Cage } from "./check-cage.ts";

const MOUNTS = parseMountInfo([
  "100 1 0:50 / / rw - overlay overlay rw",
  "101 100 0:51 / /proc rw,nosuid - proc proc rw",
  "102 100 0:52 / /sys ro - sysfs sysfs ro",
  "103 101 0:53 /null /proc/keys rw - tmpfs tmpfs rw",
  "104 102 0:54 / /sys/firmware ro - tmpfs tmpfs ro",
  "105 101 0:51 /sys /proc/sys ro,nosuid - proc proc rw",
  "106 101 0:51 /1 /proc/bus rw - proc proc rw",
  "107 101 0:55 / /proc/irq ro - tmpfs tmpfs ro",
].join("\n"));
const PROC = { path: "/proc", is: "directory", mountId: 101, type: "proc" } as const;
const SYS = { path: "/sys", is: "directory", mountId: 102, type: "sysfs" } as const;
const CLOSED: Cage = {
  mounts: MOUNTS, cwdMountId: 100, fileSystems: [PROC, SYS],
  masked: [{ path: "/proc/keys", is: "nullDevice", mountId: 103 }, { path: "/proc/scsi", is: "missing", mountId: -1 }, { path: "/sys/firmware", is: "directory", mountId: 104 }],
  readOnly: [{ path: "/proc/sys", is: "directory", mountId: 105 }, { path: "/proc/fs", is: "missing", mountId: -1 }],
};

test("a container that is closed", (t) => {
  t.is(holeIn(CLOSED), undefined);
  t.is(holeIn({ ...CLOSED, cwdMountId: 102, fileSystems: [], masked: [], readOnly: [] }), undefined);
});

for (const [title, change, hole] of [
  ["a working directory on one of the host's mounts (CVE-2024-21626)", { cwdMountId: 31 }, /working directory is outside/],
  ["a masked file that is something else than /dev/null (CVE-2025-31133)", { masked: [{ path: "/proc/keys", is: "something", mountId: 101 }] }, /\/proc\/keys, which is to be hidden, shows something/],
  ["a masked folder that is the real one", { masked: [{ path: "/proc/scsi", is: "directory", mountId: 101 }] }, /\/proc\/scsi.*real folder/],
  ["a /proc that is a folder of the image (CVE-2019-19921)", { fileSystems: [{ ...PROC, mountId: 100 }] }, /\/proc is not a proc file system/],
  ["a /proc that is a link of the image's", { fileSystems: [{ ...PROC, is: "something", mountId: -1 }] }, /\/proc is not a proc file system/],
  ["a /proc that is a part of one", { fileSystems: [{ ...PROC, mountId: 105 }] }, /\/proc is not a proc file system/],
  ["a /proc with something over it", { fileSystems: [{ ...PROC, mountId: 107 }] }, /\/proc is not a proc file system/],
  ["a /sys that is a folder of the image", { fileSystems: [PROC, { ...SYS, mountId: 100 }] }, /\/sys is not a sysfs file system/],
  ["a read-only path on the writable /proc", { readOnly: [{ path: "/proc/sysrq-trigger", is: "something", mountId: 101 }] }, /\/proc\/sysrq-trigger, which is to be read-only, can be written to/],
  ["a read-only path on a mount of its own that is writable", { readOnly: [{ path: "/proc/bus", is: "directory", mountId: 106 }] }, /\/proc\/bus, which is to be read-only, can be written to/],
  ["a read-only path that protects something else", { readOnly: [{ path: "/proc/irq", is: "directory", mountId: 107 }] }, /\/proc\/irq, which is to be read-only, is not that of the proc/],
  ["a read-only path behind a link", { readOnly: [{ path: "/proc/irq", is: "something", mountId: -1 }] }, /\/proc\/irq, which is to be read-only, is not that of the proc/],
] as const) test(`open: ${title}`, (t) => t.regex(holeIn({ ...CLOSED, ...(change as Partial<Cage>) }) ?? "", hole));

test("a command's working directory may be any folder, but not lie behind a link of /proc", (t) => {
  using folder = openExecDirectory(process.pid, "/tmp/../usr");
  t.is(folder.path, "/usr");
  t.is(fstatSync(folder.fd).ino, statSync("/usr").ino);
  for (const [cwd, message] of [
    ["/not/there", /"\/not\/there": there is no such folder in the container/],
    ["/etc/passwd", /"\/etc\/passwd": it is not a folder/],
    [`/proc/${process.pid}/fd/0/..`, /it leads through a link of \/proc/],
    ["/proc/self/cwd", /"\/proc\/self\/cwd": it leads/],
  ] as const) t.regex(t.throws(() => openExecDirectory(process.pid, cwd)).message, message);
});
