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
].join("\n"));
const CLOSED: Cage = { mounts: MOUNTS, cwdMountId: 100, masked: [{ path: "/proc/keys", is: "nullDevice" }, { path: "/proc/scsi", is: "missing" }, { path: "/sys/firmware", is: "directory" }] };

test("a container that is closed", (t) => {
  t.is(holeIn(CLOSED), undefined);
  t.is(holeIn({ ...CLOSED, cwdMountId: 102, masked: [] }), undefined);
});

for (const [title, change, hole] of [
  ["a working directory on one of the host's mounts (CVE-2024-21626)", { cwdMountId: 31 }, /working directory is outside/],
  ["a masked file that is something else than /dev/null (CVE-2025-31133)", { masked: [{ path: "/proc/keys", is: "something" }] }, /\/proc\/keys, which is to be hidden, shows something/],
  ["a masked folder that is the real one", { masked: [{ path: "/proc/scsi", is: "directory" }] }, /\/proc\/scsi.*real folder/],
  ["a /proc that is a folder of the image (CVE-2019-19921)", { mounts: MOUNTS.filter((m) => m.type !== "proc") }, /\/proc is not a proc file system/],
  ["a /proc with something over it", { mounts: [...MOUNTS, { ...MOUNTS[0]!, id: 105, target: "/proc", type: "tmpfs" }] }, /\/proc is not a proc file system/],
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
