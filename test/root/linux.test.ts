// System calls that need root: namespaces without a process, overlays, binds, nodes and attributes.
import test from "ava";
import type { ExecutionContext } from "ava";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, ftruncateSync, lstatSync, mkdirSync, openSync, readFileSync, readdirSync, readlinkSync, statSync, symlinkSync, writeFileSync, writeSync, constants } from "node:fs";
import { getPriority, hostname, setPriority } from "node:os";
import { join } from "node:path";
import { O_PATH, Resolve, getXattr, listXattrs, makeNode, openConfined, removeXattr, setXattr } from "../../node-agent/linux/files.ts";
import * as libc from "../../node-agent/linux/libc.ts";
import { bindMount, detachElsewhere, ensureTmpfs, isBelow, mountOverlay, mountTmpfs, readMounts, unmount, unmountAllBelow } from "../../node-agent/linux/mount.ts";
import { SystemClock } from "../../base/clock.ts";
import { inNetworkNamespace, isPinned, pinNamespaces, unpin } from "../../node-agent/linux/namespaces.ts";
import { execHeld } from "../../node-agent/linux/held-exec.ts";
import { isStopped, processStartTime } from "../../node-agent/linux/process.ts";
import { coarseNowMs } from "../../node-agent/linux/coarse-clock.ts";
import { Pins } from "../../node-agent/linux/pins.ts";
import { goFirst, urgently } from "../../node-agent/linux/scheduling.ts";
import { sealedCopy } from "../../node-agent/linux/sealed-copy.ts";
import { eventually, runIn, temporaryDirectory } from "../helpers/hosts.ts";

const here = (): readonly string[] => ["net", "ipc", "uts"].map((type) => readlinkSync(`/proc/thread-self/ns/${type}`));

test("namespaces are pinned with loopback up and their own hostname, and this thread stays where it was", async (t) => {
  const directory = temporaryDirectory(t);
  const before = here();
  const name = hostname();
  const paths = { net: join(directory, "p/net"), ipc: join(directory, "p/ipc"), uts: join(directory, "p/uts") };
  pinNamespaces({ ...paths, hostname: "a-pod" });
  t.deepEqual(here(), before);
  t.is(hostname(), name);
  t.true(Object.values(paths).every(isPinned));
  t.regex((await runIn(paths.net, ["ip", "-br", "addr", "show", "lo"])).stdout, /127\.0\.0\.1/);
  t.is((await runIn(paths.net, ["nsenter", `--uts=${paths.uts}`, "hostname"])).stdout.trim(), "a-pod");

  const inode = lstatSync(paths.net).ino;
  pinNamespaces({ ...paths, hostname: "other" });
  t.is(lstatSync(paths.net).ino, inode, "what is pinned stays");

  for (const path of Object.values(paths)) {
    await unpin(path);
    await unpin(path);
  }
  t.false(Object.values(paths).some((path) => existsSync(path)));
  t.deepEqual(readMounts().filter((mount) => mount.target.startsWith(directory)), []);
});

test("pins of pods lie in a mount namespace of their own, outlive who made them, and leave nothing", async (t) => {
  const root = temporaryDirectory(t);
  const mine = (): readonly string[] => readMounts().map((mount) => mount.target).filter((target) => isBelow(target, root)).sort();
  const [here, home] = [process.cwd(), readlinkSync("/proc/thread-self/ns/mnt")];
  const pins = Pins.open(root);
  t.teardown(() => unmountAllBelow(root));
  const before = mine();
  const [net, ipc, uts] = ["net", "ipc", "uts"].map((type) => join(root, "pods/a/ns", type)) as [string, string, string];
  pins.pinNamespaces({ net, ipc, uts, hostname: "a-pod" });
  pins.pinNamespaces({ net, ipc, uts, hostname: "again" });
  t.deepEqual(mine(), before, "not one mount more here");
  t.false(isPinned(net));
  t.true([net, ipc, uts].every((path) => pins.isPinned(pins.pathOf(path))));
  t.is((await runIn(pins.pathOf(net), ["nsenter", `--uts=${pins.pathOf(uts)}`, "hostname"])).stdout.trim(), "a-pod");
  t.throws(() => pins.pinNamespaces({ uts: join(root, "pods/b/ns/uts"), hostname: "x".repeat(100) }), { code: "Invalid", message: /sethostname/ });
  t.false(existsSync(join(root, "pods/b/ns/uts")));
  t.is(readlinkSync("/proc/thread-self/ns/mnt"), home);
  t.is(process.cwd(), here);
  t.is(readlinkSync("/proc/thread-self/cwd"), here);
  // File systems that others unmount are not held.
  t.deepEqual(pins.inside(readMounts).map((mount) => mount.target).filter((target) => !isBelow(root, target) && !isBelow(target, root)), ["/proc"]);

  const inode = statSync(pins.pathOf(net)).ino;
  pins[Symbol.dispose]();
  using next = Pins.open(root);
  t.deepEqual(mine(), before);
  t.is(statSync(next.pathOf(net)).ino, inode, "the agent after this one finds them");
  const plain = join(root, "pods/c/ns/net");
  pinNamespaces({ net: plain });
  await Promise.all([net, ipc, uts, plain, join(root, "missing")].map((path) => next.unpin(path)));
  t.deepEqual([net, ipc, uts, plain].filter((path) => existsSync(path) || next.isPinned(next.pathOf(path))), []);
  t.deepEqual(next.inside(readMounts).filter((mount) => mount.type === "nsfs"), []);
  t.deepEqual(mine(), before);
});

test("hundreds of mounts are detached without this thread waiting; what is none, or is not there, is fine, and what can't be says why", async (t) => {
  const directory = temporaryDirectory(t);
  const targets = Array.from({ length: 300 }, (_, i) => join(directory, String(i)));
  for (const target of targets) {
    mkdirSync(target);
    mountTmpfs(target);
  }
  await Promise.all([...targets, ...targets.slice(0, 3), join(directory, "missing")].map(detachElsewhere));
  t.deepEqual(readMounts().filter((mount) => isBelow(mount.target, directory)), []);
  await t.throwsAsync(detachElsewhere(join(directory, "x".repeat(300))), { code: "Invalid", message: /umount2\(.*ENAMETOOLONG/ });
});

test("a pin that fails half-way leaves nothing pinned and this thread where it was", (t) => {
  const directory = temporaryDirectory(t);
  const before = here();
  const paths = { net: join(directory, "net"), uts: join(directory, "uts") };
  t.throws(() => pinNamespaces({ ...paths, hostname: "x".repeat(100) }), { code: "Invalid", message: /sethostname/ });
  t.deepEqual(here(), before);
  t.false(existsSync(paths.net) || existsSync(paths.uts));
  t.deepEqual(readMounts().filter((mount) => mount.target.startsWith(directory)), []);
});

test("work in another network namespace comes back also when it throws, and may not be asynchronous", (t) => {
  const directory = temporaryDirectory(t);
  const net = join(directory, "net");
  pinNamespaces({ net });
  const before = here();
  t.is(inNetworkNamespace(net, () => here()[0]), `net:[${lstatSync(net).ino}]`);
  t.throws(() => inNetworkNamespace(net, () => { throw new Error("inside"); }), { message: "inside" });
  t.throws(() => inNetworkNamespace(net, () => Promise.resolve()), { message: /must be synchronous/ });
  t.throws(() => inNetworkNamespace(join(directory, "missing"), () => undefined), { code: "ENOENT" });
  t.deepEqual(here(), before);
});

test("an overlay shows the upper layers first and keeps what is written out of the lower ones", (t) => {
  const directory = temporaryDirectory(t);
  const [low, high, upper, work, target] = ["low", "high", "upper", "work", "target"].map((name) => join(directory, name)) as [string, string, string, string, string];
  for (const path of [low, high, upper, work, target]) mkdirSync(path);
  writeFileSync(join(low, "both"), "low");
  writeFileSync(join(low, "hidden"), "low");
  writeFileSync(join(high, "both"), "high");
  makeNode(join(high, "hidden"), { type: "character", mode: 0 });
  mountOverlay({ lowerDirs: [low, high], upper, work, target });
  t.is(readFileSync(join(target, "both"), "utf8"), "high");
  t.false(existsSync(join(target, "hidden")));
  writeFileSync(join(target, "both"), "mine");
  t.is(readFileSync(join(high, "both"), "utf8"), "high");
  t.is(readFileSync(join(upper, "both"), "utf8"), "mine");
  unmount(target);
  unmount(target);
  t.false(existsSync(join(target, "both")));
});

test("200 layers with long names, and names with separators in them, fit", (t) => {
  const directory = temporaryDirectory(t);
  const lowerDirs = Array.from({ length: 200 }, (_, i) => join(directory, `sha256-${"0123456789abcdef".repeat(4)}-${i}`));
  for (const path of lowerDirs) mkdirSync(path);
  writeFileSync(join(lowerDirs[0]!, "deep"), "found");
  const target = join(directory, "target");
  mkdirSync(target);
  mountOverlay({ lowerDirs, target });
  t.is(readFileSync(join(target, "deep"), "utf8"), "found");
  unmount(target);

  const odd = join(directory, "a:b,c");
  mkdirSync(odd);
  writeFileSync(join(odd, "file"), "odd");
  mountOverlay({ lowerDirs: [lowerDirs[0]!, odd], target });
  t.is(readFileSync(join(target, "file"), "utf8"), "odd");
  t.throws(() => mountOverlay({ lowerDirs: Array.from({ length: 300 }, () => lowerDirs[0]!), target }), { code: "Invalid", message: /300 layers are too many/ });
});

test("a read-only bind is read-only, with what is below it when it is recursive", (t) => {
  const directory = temporaryDirectory(t);
  const [source, target] = [join(directory, "source"), join(directory, "target")];
  mkdirSync(join(source, "below"), { recursive: true });
  mkdirSync(target);
  mountTmpfs(join(source, "below"), { sizeBytes: 1 << 20, mode: 0o700 });
  t.is(lstatSync(join(source, "below")).mode & 0o777, 0o700);
  bindMount(source, target, { readOnly: true, recursive: true, propagation: "private" });
  t.throws(() => writeFileSync(join(target, "x"), ""), { code: "EROFS" });
  t.throws(() => writeFileSync(join(target, "below/x"), ""), { code: "EROFS" });
  writeFileSync(join(source, "below/x"), "");
  t.deepEqual([...unmountAllBelow(target)].sort(), [target, join(target, "below")].sort());
  t.true(existsSync(join(source, "below/x")));
});

test("a directory gets a tmpfs once", (t) => {
  const parent = temporaryDirectory(t);
  const directory = join(parent, "run");
  const onTmpfs = readMounts().filter((mount) => isBelow(parent, mount.target)).at(-1)?.type === "tmpfs";
  ensureTmpfs(directory, { sizeBytes: 1 << 20 });
  ensureTmpfs(directory);
  ensureTmpfs(join(directory, "inner"));
  t.deepEqual(readMounts().filter((mount) => mount.target.startsWith(directory)).map((mount) => [mount.target, mount.type]), onTmpfs ? [] : [[directory, "tmpfs"]]);
});

test("devices, pipes and attributes are made on the link itself, not on what it points to", (t) => {
  const directory = temporaryDirectory(t);
  makeNode(join(directory, "null"), { type: "character", mode: 0o600, major: 1, minor: 3 });
  const stat = lstatSync(join(directory, "null"));
  t.true(stat.isCharacterDevice());
  t.is(stat.rdev, 0x103);
  makeNode(join(directory, "pipe"), { type: "fifo", mode: 0o600 });
  t.true(lstatSync(join(directory, "pipe")).isFIFO());

  writeFileSync(join(directory, "file"), "");
  symlinkSync("file", join(directory, "link"));
  setXattr(join(directory, "link"), "trusted.gantry", Buffer.from("on the link"));
  t.is(getXattr(join(directory, "link"), "trusted.gantry")?.toString(), "on the link");
  t.is(getXattr(join(directory, "file"), "trusted.gantry"), undefined);
  t.deepEqual(listXattrs(join(directory, "link")), ["trusted.gantry"]);
  removeXattr(join(directory, "link"), "trusted.gantry");
  removeXattr(join(directory, "link"), "trusted.gantry");
  t.deepEqual(listXattrs(join(directory, "link")), []);
});

test("a confined path does not leave its directory by .., by a link or absolutely", (t) => {
  const directory = temporaryDirectory(t);
  const root = join(directory, "root");
  mkdirSync(join(root, "etc"), { recursive: true });
  writeFileSync(join(root, "etc/passwd"), "inside");
  symlinkSync("/etc", join(root, "absolute"));
  symlinkSync("../../..", join(root, "up"));
  const fd = openSync(root, constants.O_DIRECTORY);
  const read = (path: string, resolve: number): string => {
    const opened = openConfined(fd, path, { flags: constants.O_RDONLY, resolve });
    const text = readFileSync(`/proc/self/fd/${opened}`, "utf8");
    libc.close(opened);
    return text;
  };
  for (const path of ["etc/passwd", "absolute/passwd", "up/etc/passwd", "/etc/passwd", "../../etc/passwd"]) t.is(read(path, Resolve.inRoot), "inside", path);
  for (const path of ["absolute/passwd", "up/etc/passwd", "/etc/passwd", "../etc/passwd"]) {
    t.throws(() => read(path, Resolve.beneath), { code: "Invalid", message: /EXDEV/ }, path);
  }
  t.throws(() => read("absolute/passwd", Resolve.noLinks), { message: /ELOOP/ });
  const parent = openConfined(fd, "etc", { flags: O_PATH | constants.O_DIRECTORY, resolve: Resolve.beneath });
  writeFileSync(`/proc/self/fd/${parent}/new`, "through the descriptor");
  libc.close(parent);
  t.is(readFileSync(join(root, "etc/new"), "utf8"), "through the descriptor");
});

test("the clock that programs are told runs behind the other, and not far", (t) => {
  for (let i = 0; i < 1000; i++) {
    const coarse = coarseNowMs();
    t.true(coarse < Date.now() + 1);
  }
  t.true(Math.abs(coarseNowMs() - Date.now()) < 1000);
  const { stdout } = spawnSync("/bin/busybox", ["date", "+%s"], { encoding: "utf8" });
  t.true(Number(stdout) * 1000 <= coarseNowMs());
});

test("a sealed copy runs and can't be changed, by whoever has it open", (t) => {
  const copy = sealedCopy("/bin/busybox", "shell");
  t.is(spawnSync(copy, ["echo", "runs"], { argv0: "busybox", encoding: "utf8" }).stdout, "runs\n");
  const fd = openSync(copy, "r+");
  t.throws(() => writeSync(fd, "pwned"), { code: "EPERM" });
  t.throws(() => ftruncateSync(fd, 1), { code: "EPERM" });
  closeSync(fd);
  t.deepEqual(readFileSync(copy), readFileSync("/bin/busybox"));
  t.throws(() => sealedCopy("/nonexistent", "none"), { code: "ENOENT" });
});

test("a process that goes first, its threads with it, starts ordinary processes, also after work that could not wait", async (t) => {
  t.teardown(() => setPriority(0));
  const threads = readdirSync("/proc/self/task").map(Number);
  t.teardown(() => {
    for (const thread of threads) setPriority(thread, 0);
  });
  t.true(await goFirst());
  urgently(() => undefined);
  t.is(getPriority(), -10);
  t.deepEqual(threads.filter((thread) => getPriority(thread) !== -10), []);
  t.is(execFileSync("nice", { encoding: "utf8" }), "0\n");
});

const HOLD = { clock: new SystemClock(), timeoutMs: 5000 };

interface Waiting {
  readonly pid: number;
  readonly release: () => void;
  readonly hasRun: () => boolean;
  readonly isGone: () => boolean;
}

/** A process that waits for a byte and then executes `program`: no child of ours, for those libuv waits itself. */
const waiting = async (t: ExecutionContext, program?: string): Promise<Waiting> => {
  const directory = temporaryDirectory(t);
  const [gate, trace] = [join(directory, "gate"), join(directory, "trace")];
  execFileSync("mkfifo", [gate]);
  const parent = spawn("sh", ["-c", `sh -c 'read -r _ < ${gate}; exec ${program ?? `touch ${trace}`}' 2>/dev/null & echo $!; wait`], { stdio: ["ignore", "pipe", "ignore"] });
  const pid = Number(String((await once(parent.stdout, "data"))[0]));
  const ticks = processStartTime(pid);
  const isGone = (): boolean => processStartTime(pid) !== ticks;
  t.teardown(async () => {
    if (!isGone()) process.kill(pid, "SIGKILL");
    if (parent.exitCode === null) await once(parent, "exit");
  });
  const open = (): number | undefined => {
    try {
      return openSync(gate, constants.O_WRONLY | constants.O_NONBLOCK);
    } catch {
      return undefined; // it is not there yet
    }
  };
  let fd: number | undefined;
  t.true(await eventually(() => (fd = open()) !== undefined));
  return { pid, release: () => writeFileSync(fd!, "\n"), hasRun: () => existsSync(trace), isGone };
};

/** As an agent: what it does when it is about to let the process go is `act`. */
const tracer = (t: ExecutionContext, pid: number, act: string): ReturnType<typeof spawn> => {
  const script = `
    import { execHeld } from ${JSON.stringify(join(import.meta.dirname, "../../node-agent/linux/held-exec.ts"))};
    import { SystemClock } from ${JSON.stringify(join(import.meta.dirname, "../../base/clock.ts"))};
    await execHeld(${pid}, () => { ${act} }, { clock: new SystemClock(), timeoutMs: 5000 });`;
  const child = spawn(process.execPath, ["--input-type=module-typescript", "--disable-warning=ExperimentalWarning", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  t.teardown(() => child.kill("SIGKILL"));
  return child;
};

test("a process is held after its exec, without anybody who watches it, and goes on when it is told to", async (t) => {
  const { pid, release, hasRun, isGone } = await waiting(t);
  t.is(await execHeld(pid, release, HOLD), "held");
  t.true(await eventually(() => isStopped(pid, processStartTime(pid)!)));
  t.regex(readFileSync(`/proc/${pid}/cmdline`, "utf8"), /^touch/);
  t.regex(readFileSync(`/proc/${pid}/status`, "utf8"), /TracerPid:\s+0\n/);
  await new Promise((wake) => setTimeout(wake, 100));
  t.false(hasRun());
  process.kill(pid, "SIGCONT");
  t.true(await eventually(isGone));
  t.true(hasRun());
});

test("what comes to no program has ended; what takes too long is ended", async (t) => {
  const nothing = await waiting(t, "/no/such/program");
  t.is(await execHeld(nothing.pid, nothing.release, HOLD), "ended");
  t.true(await eventually(nothing.isGone));
  const slow = await waiting(t);
  t.is(await execHeld(slow.pid, () => undefined, { ...HOLD, timeoutMs: 50 }), "ended");
  t.true(await eventually(slow.isGone));
  t.false(slow.hasRun());
});

test("whose agent dies in the midst of it dies too, and has run nothing; where tracing is refused nothing is let go", async (t) => {
  const doomed = await waiting(t);
  const agent = tracer(t, doomed.pid, "console.log('now'); while (true) {}");
  await once(agent.stdout!, "data");
  t.is(await execHeld(doomed.pid, () => t.fail("let go"), HOLD), "refused", "another traces it");
  doomed.release();
  t.true(await eventually(() => /State:\s+t/.test(readFileSync(`/proc/${doomed.pid}/status`, "utf8"))), "it has come to its program");
  agent.kill("SIGKILL");
  t.true(await eventually(doomed.isGone));
  t.false(doomed.hasRun());
});
