// The known ways out of a container, tried through this engine on both runtimes: whatever a runtime of this machine's age lets through, the
// engine has to catch. Each attack is as its advisory describes it, on a stand-in for the host's file. Each has a control beside it: the same container
// without the attack runs, and a refusal is the one for this attack, so that none passes because nothing ran.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { makeNode } from "../../node-agent/linux/files.ts";
import { mount, readMounts, unmountAllBelow } from "../../node-agent/linux/mount.ts";
import type { ContainerSpec, RuntimeMount } from "../../node-agent/runtime/container-runtime.ts";
import { findCommand } from "../../node-agent/runtime/oci-runtime.ts";
import { VolumeService } from "../../node-agent/volumes/volume-service.ts";
import { execute, exitOf, FOR_EVER } from "../../node-agent/runtime/runtime-contract.ts";
import { makeRootfs, openMachine, start, type Machine } from "../helpers/runtime-machine.ts";

const RUNTIMES = ["crun", "runc"].filter((name) => findCommand(name));

for (const name of RUNTIMES) {
  /** Lines that the container wrote. */
  const run = async (machine: Machine, spec: ContainerSpec): Promise<readonly string[]> => {
    try {
      const exited = exitOf(machine.runtime, spec.id);
      await start(machine, spec);
      await exited;
      // P: the line goes on in the next.
      const text = [...machine.log(spec.id).matchAll(/^\S+ \S+ ([FP]) (.*)$/gm)].map(([, tag, part]) => (tag === "P" ? part : `${part}\n`)).join("");
      return text.split("\n").map((line) => line.trimEnd()).filter((line) => line !== "");
    } finally {
      await machine.runtime.remove(spec.id);
    }
  };
  /** The same; undefined when the container was refused, in words that `refusal` knows. */
  const attempt = async (t: ExecutionContext, machine: Machine, spec: ContainerSpec, refusal: RegExp): Promise<readonly string[] | undefined> => {
    try {
      return await run(machine, spec);
    } catch (error) {
      t.regex((error as Error).message, refusal);
      return undefined;
    }
  };
  /** The real runtime behind a script that runs `meddle` first: `$root` is the container's root, `$config` its config.json, `$*` the arguments. */
  const openMeddled = async (t: ExecutionContext, meddle: string): Promise<Machine & { readonly command: string; readonly outside: string }> => {
    const outside = mkdtempSync(join(tmpdir(), "gantry-meddled-"));
    t.teardown(() => rmSync(outside, { recursive: true, force: true }));
    const command = join(outside, name);
    writeFileSync(command, `#!/bin/sh
for id; do :; done
bundle=\${1#--root=}/../containers/$id root=/proc/$(cat $bundle/pid 2>/dev/null)/root config=$bundle/config.json outside=${outside}
case " $* " in ${meddle} esac
exec ${findCommand(name)} "$@"
`, { mode: 0o755 });
    return Object.assign(await openMachine(t, command), { command, outside });
  };
  const secretOf = (machine: Machine): string => {
    const path = join(machine.directory, "secret-of-the-host");
    writeFileSync(path, "secret\n");
    return path;
  };
  const escapes = (title: string, run: (t: ExecutionContext, machine: Machine) => Promise<void>): void => {
    test.serial(`${name}: ${title}`, async (t) => {
      const machine = await openMachine(t, name);
      const before = new Set(readMounts().map((m) => m.target));
      await run(t, machine);
      // Other tests' clusters come and go meanwhile, below /run and their own folders.
      const foreign = readMounts().map((m) => m.target).filter((target) => !before.has(target) && !target.startsWith(machine.directory) && !/gantry|crun|runc/.test(target));
      t.deepEqual(foreign, [], "no mount of a container came to lie on the host");
    });
  };

  // A descriptor of the runtime's that is still open when the working directory is entered leads to the host's tree.
  escapes("CVE-2024-21626: a working directory through a descriptor that leaked", async (t, machine) => {
    const secret = secretOf(machine);
    const look = `cat ../../../../../../../../../..${secret} ..${secret} 2>/dev/null; echo looked`;
    const descriptors = [3, 4, 5, 6, 7, 8, 9];
    const own = makeRootfs(join(machine.directory, "image"));
    for (const fd of descriptors) symlinkSync(`/proc/self/fd/${fd}`, join(own, `innocent-${fd}`));
    symlinkSync("/tmp", join(own, "really-innocent"));
    t.deepEqual(await run(machine, machine.spec(look, { layerDirs: [own], cwd: "/really-innocent" })), ["looked"]);
    const shown: RuntimeMount = { type: "bind", source: machine.directory, destination: machine.directory, options: ["rbind", "ro"] };
    t.deepEqual(await run(machine, machine.spec(look, { mounts: [shown] })), ["secret", "secret", "looked"], "where the host's file is in reach, it is read");

    const refusal = /chdir `\S+`: (?:No such file or|Not a) directory|mkdir \S+: (?:not a directory|no such file or directory|file exists)|outside of (?:the )?container/;
    const ways = descriptors.flatMap((fd) => [`/proc/self/fd/${fd}`, `/innocent-${fd}`]);
    for (const cwd of ways) t.deepEqual(await attempt(t, machine, machine.spec(look, { layerDirs: [own], cwd }), refusal) ?? ["looked"], ["looked"], cwd);
    const id = await start(machine, machine.spec(FOR_EVER, { layerDirs: [own] }));
    t.is((await execute(machine.runtime, id, ["sh", "-c", look], { cwd: "/really-innocent" })).out, "looked\n");
    for (const cwd of ways) t.regex((await t.throwsAsync(execute(machine.runtime, id, ["sh", "-c", look], { cwd }))).message, /^working directory "\S+": (?:there is no such folder|it leads through a link of \/proc)/, cwd);
  });

  // The same with a link that a process inside makes between the engine's look and the runtime's: here the runtime's command itself does, at the worst moment.
  test.serial(`${name}: CVE-2024-21626: the working directory of a command is swapped for a link to a descriptor that leaked`, async (t) => {
    const machine = await openMeddled(t, `*" exec "*) [ -L "$root/work" ] || { mv "$root/work" "$root/was" 2>/dev/null && ln -s /proc/self/fd/9 "$root/work"; }; exec 9<$outside ;;`);
    writeFileSync(join(machine.outside, "file"), "secret\n");
    const id = await start(machine, machine.spec(FOR_EVER));
    await execute(machine.runtime, id, ["sh", "-c", "busybox mkdir /before; echo own > /before/file; printf '#!/bin/sh\\necho $0; pwd; [ -e /proc/$$/fd/3 ] && echo 3 is open' > /before/script; busybox chmod +x /before/script"]);
    t.is((await execute(machine.runtime, id, ["./script"], { cwd: "/before" })).out, name === "crun" ? "/before/script\n/before\n" : "./script\n/before\n3 is open\n", "a relative script is found");
    await execute(machine.runtime, id, ["busybox", "mv", "/before", "/work"]);
    t.is((await execute(machine.runtime, id, ["sh", "-c", "cat file; pwd"], { cwd: "/work" })).out, "own\n/was\n", "it ran in the folder that was found, wherever that went");
    const plain = spawnSync(machine.command, [`--root=${join(machine.directory, "run/oci")}`, "exec", "--cwd", "/work", id, "/bin/cat", "file"], { encoding: "utf8" });
    t.regex(plain.stdout + plain.stderr, /^secret\n|outside of container|chdir to cwd/, "told the name, the runtime goes astray or says so");
    t.regex((await t.throwsAsync(execute(machine.runtime, id, ["/bin/cat", "file"], { cwd: "/work" }))).message, /working directory "\/work": there is no such folder/);
  });

  // What an unfixed runtime would leave open is found before the container's program runs.
  test.serial(`${name}: a runtime that hides, protects or mounts too little is caught`, async (t) => {
    const machine = await openMeddled(t, `*" create "*) sed -i "$(cat $outside/edit)" "$config" ;;`);
    for (const [edit, hole] of [
      ["", undefined],
      [String.raw`s/"maskedPaths":\[[^]]*\]/"maskedPaths":[]/`, /not closed: \/proc\/\w+, which is to be hidden, (?:shows something|is the real folder)/],
      [String.raw`s/"readonlyPaths":\[[^]]*\]/"readonlyPaths":[]/`, /not closed: \/proc\/bus, which is to be read-only, can be written to/],
      [String.raw`s/"readonlyPaths":\["\/proc\/bus",/"readonlyPaths":[/`, /not closed: \/proc\/bus, which is to be read-only, can be written to/],
      [String.raw`s/"type":"sysfs","source":"sysfs","options":\[[^]]*\]/"type":"tmpfs","source":"tmpfs","options":[]/`, /not closed: \/sys is not a sysfs file system/],
    ] as const) {
      writeFileSync(join(machine.outside, "edit"), edit);
      const made = run(machine, machine.spec("echo ran"));
      if (hole) t.regex((await t.throwsAsync(made, undefined, edit)).message, hole, edit);
      else t.deepEqual(await made, ["ran"]);
    }
  });

  // The runtime's own program, seen from inside as /proc/PID/exe, is opened and overwritten once it no longer runs.
  escapes("CVE-2019-5736: the runtime's program is overwritten through /proc/PID/exe", async (t, machine) => {
    const programs = [name, "conmon"].map((p) => findCommand(p)!);
    const sums = (): string[] => programs.map((p) => createHash("sha256").update(readFileSync(p)).digest("hex"));
    const before = sums();
    const overwrite = "echo waiting; while :; do for p in /proc/[0-9]*; do case $p in /proc/1|/proc/$$) ;; *) (exec 9<$p/exe; sleep 0.05; echo pwned > /proc/self/fd/9; echo pwned > $p/exe) 2>/dev/null & esac; done; wait; done";
    const own = makeRootfs(join(machine.directory, "image"));
    // And the other way round: what the host runs in there is the runtime itself.
    writeFileSync(join(own, "bin/self"), "#!/proc/self/exe\n", { mode: 0o755 });
    // The control: a program of the image's own, which does fall.
    mkdirSync(join(own, "victim"));
    copyFileSync("/bin/busybox", join(own, "victim/sleep"));
    const id = await start(machine, machine.spec(overwrite, { layerDirs: [own] }));
    const written = join(machine.directory, "root/containers", id, "upper/victim/sleep");
    const hasFallen = (): boolean => existsSync(written) && readFileSync(written, "latin1") === "pwned\n";
    for (let i = 0; i < 15 || (!hasFallen() && i < 300); i++) await execute(machine.runtime, id, hasFallen() ? ["sh", "-c", "exit 0"] : ["/victim/sleep", "0.1"]).catch(() => undefined);
    t.true(hasFallen(), "what has no protection is overwritten");
    for (const command of ["self", "/proc/self/exe", "/proc/1/exe"]) await execute(machine.runtime, id, [command]).catch(() => undefined);
    await machine.runtime.kill(id, 9);
    t.deepEqual(sums(), before);
  });

  // Where a mount is to lie is in somebody else's hands: a shared volume, in which a directory becomes a link between the look and the mount.
  escapes("CVE-2021-30465: a mount's target is swapped for a link out of the container", async (t, machine) => {
    const host = join(machine.directory, "of-the-host");
    mkdirSync(join(host, "inner"), { recursive: true });
    writeFileSync(join(host, "secret"), "secret\n");
    const volume = join(machine.directory, "volume");
    const treasure = join(machine.directory, "treasure");
    mkdirSync(treasure);
    writeFileSync(join(treasure, "own"), "own\n");
    const mounts: RuntimeMount[] = [
      { type: "bind", source: volume, destination: "/v", options: ["rbind", "rw"] },
      { type: "bind", source: treasure, destination: "/v/target/inner", options: ["rbind", "rw"] },
    ];
    const look = `cat /v/target/secret ${host}/secret /secret /v/target/inner/own 2>/dev/null; echo looked`;
    const refusal = /v\/target/;
    mkdirSync(join(volume, "target/inner"), { recursive: true });
    t.deepEqual(await run(machine, machine.spec(look, { mounts })), ["own", "looked"]);
    for (const to of [host, `/../../../../../..${host}`, "/proc/1/root", "/proc/self/cwd", "/proc/self/fd/7"]) {
      rmSync(volume, { recursive: true, force: true });
      mkdirSync(volume);
      symlinkSync(to, join(volume, "target"));
      t.false((await attempt(t, machine, machine.spec(look, { mounts }), refusal))?.includes("secret") ?? false, to);
    }
    // And in motion.
    rmSync(volume, { recursive: true, force: true });
    mkdirSync(join(volume, "target/inner"), { recursive: true });
    symlinkSync(host, join(volume, "link"));
    const swapping = await start(machine, machine.spec("cd /v; while :; do mv -T target dir && mv -T link target; mv -T target link && mv -T dir target; done", { mounts: mounts.slice(0, 1), layerDirs: [withApplet(machine, "mv")] }));
    for (let i = 0; i < 10; i++) t.false((await attempt(t, machine, machine.spec(look, { mounts }), refusal))?.includes("secret") ?? false, `round ${i}`);
    await machine.runtime.kill(swapping, 9);
    t.false(readMounts().some((m) => m.target.startsWith(host)), "nothing was mounted over the host's folder");
  });

  // /dev/null is the runtime's own tool for hiding files: a link in its place makes it show, or even writable, what it points at. /dev/console is where it
  // mounts a container's terminal (CVE-2025-52565).
  escapes("CVE-2025-31133: /dev/null or /dev/console is a link, so that masked files are shown instead of hidden", async (t, machine) => {
    const volume = join(machine.directory, "dev");
    const terminals = join(machine.directory, "pts");
    mkdirSync(terminals);
    mount({ source: "devpts", target: terminals, type: "devpts", data: "newinstance,ptmxmode=0666,mode=0620" });
    const before = readFileSync("/proc/sys/kernel/core_pattern", "utf8");
    // A terminal that came to lie there would be read for ever.
    const probe = "for f in /proc/kcore /proc/keys /proc/timer_list; do echo \"$f: $(busybox timeout 1 head -c 16 $f 2>/dev/null | cat)\"; done; for f in /proc/sysrq-trigger /proc/sys/kernel/core_pattern; do echo '|/pwned' > $f; done 2>/dev/null; echo probed";
    const refusal = /failed open\(\)ing \/dev\/null: |stat \/dev\/null: no such file|not closed: \/proc\/\w+, which is to be hidden, shows something/;
    const cases: readonly { readonly links: Readonly<Record<string, string>>; readonly tty: boolean }[] = [
      { links: {}, tty: false }, { links: {}, tty: true },
      { links: { null: "/proc/sys/kernel/core_pattern" }, tty: false }, { links: { null: "/proc/sysrq-trigger" }, tty: false },
      { links: { console: "/proc/sys/kernel/core_pattern" }, tty: true }, { links: { console: "/proc/keys" }, tty: true },
    ];
    for (const { links, tty } of cases) {
      const title = `${JSON.stringify(links)} ${tty ? "with" : "without"} a terminal`;
      rmSync(volume, { recursive: true, force: true });
      mkdirSync(volume);
      if (!("null" in links)) makeNode(join(volume, "null"), { type: "character", mode: 0o666, major: 1, minor: 3 });
      if (!("console" in links)) writeFileSync(join(volume, "console"), "");
      for (const [link, to] of Object.entries({ ptmx: "pts/ptmx", ...links })) symlinkSync(to, join(volume, link));
      const out = await attempt(t, machine, machine.spec(probe, { tty, mounts: [
        { type: "bind", source: volume, destination: "/dev", options: ["rbind", "rw"] },
        { type: "bind", source: terminals, destination: "/dev/pts", options: ["bind", "rw"] },
      ] }), refusal);
      t.is(readFileSync("/proc/sys/kernel/core_pattern", "utf8"), before, title);
      if (Object.keys(links).length === 0) t.truthy(out, title);
      if (out) for (const line of ["/proc/kcore:", "/proc/keys:", "/proc/timer_list:", "probed"]) t.true(out.includes(line), `${title}: ${out.join("; ")}`);
    }
  });

  // /proc itself is a link or a folder of the image's: what is written "to /proc" goes elsewhere, and what is to be hidden stays in sight.
  escapes("CVE-2019-19921: /proc and /sys of the image lead elsewhere", async (t, machine) => {
    const probe = "exec 2>&1; head -c 16 /proc/keys | cat; grep -E ' /(elsewhere|proc|sys) ' /proc/mounts; echo 1 > /proc/sys/kernel/printk; echo ended";
    for (const where of [undefined, "proc", "sys", "dev"]) {
      const own = makeRootfs(join(machine.directory, `image-${where}`));
      mkdirSync(join(own, "elsewhere"));
      if (where) symlinkSync("/elsewhere", join(own, where));
      const out = await attempt(t, machine, machine.spec(probe, { layerDirs: [own] }), /the target `\/(?:proc|sys)` is invalid|open \/dev directory in|must be mounted on ordinary directory|setting up ptmx|is not a (?:proc|sysfs) file system/);
      if (where === undefined) t.truthy(out, "without a link it runs");
      if (!out) continue;
      t.false(out.some((line) => /^[0-9a-f]{8} I/.test(line)), `${where}: the keys are shown`);
      t.true(out.includes("sh: can't create /proc/sys/kernel/printk: Read-only file system"), `${where}: ${out.join("; ")}`);
    }
  });
}

/** A root filesystem whose busybox does `applet` too. */
const withApplet = (machine: Machine, applet: string): string => {
  const own = makeRootfs(join(machine.directory, `image-${applet}`));
  symlinkSync("busybox", join(own, "bin", applet));
  if (!statSync(join(own, "bin", applet)).isFile()) throw new Error(`busybox has no ${applet}`);
  return own;
};

// A subPath of a shared volume becomes a link between the look and the mount. What is mounted is what was found, by its descriptor.
test.serial("CVE-2021-25741: a subPath that is swapped for a link after it was found", (t) => {
  const directory = mkdtempSync(join(tmpdir(), "gantry-subpath-"));
  t.teardown(() => {
    unmountAllBelow(directory);
    rmSync(directory, { recursive: true, force: true });
  });
  const [volume, host] = [join(directory, "volume"), join(directory, "host")];
  for (const path of [join(volume, "sub"), host]) mkdirSync(path, { recursive: true });
  writeFileSync(join(host, "secret"), "secret\n");
  writeFileSync(join(volume, "sub/own"), "own\n");
  writeFileSync(join(volume, "file"), "own\n");
  const volumes = new VolumeService({ root: join(directory, "pods"), localRoot: join(directory, "local") });
  const [folder, file] = [volumes.pin("pod", "main-0", { volume, subPath: "sub" }), volumes.pin("pod", "main-1", { volume, subPath: "file" })];
  renameSync(join(volume, "sub"), join(volume, "was"));
  symlinkSync(host, join(volume, "sub"));
  rmSync(join(volume, "file"));
  symlinkSync(join(host, "secret"), join(volume, "file"));
  t.deepEqual([readdirSync(folder), readFileSync(file, "utf8")], [["own"], "own\n"]);
  t.throws(() => volumes.pin("pod", "main-0", { volume, subPath: "sub/own" }), { message: /is a symlink to something that the volume doesn't hold/ });
});
