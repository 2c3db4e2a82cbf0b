// The known ways out of a container, tried through this engine on both runtimes: whatever a runtime of this machine's age lets through, the
// engine has to catch. Each attack is as its advisory describes it, on a stand-in for the host's file.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { readMounts, unmountAllBelow } from "../../node-agent/linux/mount.ts";
import type { ContainerSpec, RuntimeMount } from "../../node-agent/runtime/container-runtime.ts";
import { findCommand } from "../../node-agent/runtime/oci-runtime.ts";
import { VolumeService } from "../../node-agent/volumes/volume-service.ts";
import { execute, exitOf, FOR_EVER } from "../../node-agent/runtime/runtime-contract.ts";
import { makeRootfs, openMachine, start, type Machine } from "../helpers/runtime-machine.ts";

const RUNTIMES = ["crun", "runc"].filter((name) => findCommand(name));

for (const name of RUNTIMES) {
  /** What the container wrote, or why it was not made. */
  const attempt = async (machine: Machine, spec: ContainerSpec): Promise<string> => {
    try {
      const exited = exitOf(machine.runtime, spec.id);
      await start(machine, spec);
      await exited;
      return machine.log(spec.id);
    } catch (error) {
      return `refused: ${(error as Error).message}`;
    } finally {
      await machine.runtime.remove(spec.id);
    }
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
    for (let fd = 3; fd < 16; fd++) {
      const own = makeRootfs(join(machine.directory, `image-${fd}`));
      symlinkSync(`/proc/self/fd/${fd}`, join(own, "innocent"));
      for (const cwd of [`/proc/self/fd/${fd}`, "/innocent"]) t.notRegex(await attempt(machine, machine.spec(look, { layerDirs: [own], cwd })), /^\S+ \S+ \S secret/m, cwd);
    }
    const own = makeRootfs(join(machine.directory, "image"));
    for (let fd = 3; fd < 16; fd++) symlinkSync(`/proc/self/fd/${fd}`, join(own, `innocent-${fd}`));
    const id = await start(machine, machine.spec(FOR_EVER, { layerDirs: [own] }));
    for (let fd = 3; fd < 16; fd++) {
      for (const cwd of [`/proc/self/fd/${fd}`, `/innocent-${fd}`]) {
        const said = await machine.runtime.exec(id, {
          command: ["sh", "-c", look], tty: false, stdin: undefined, cwd, signal: new AbortController().signal,
          onStdout: async (data) => void t.notRegex(Buffer.from(data).toString(), /^secret/m, `exec in ${cwd}`), onStderr: async () => undefined,
        }).catch((error: unknown) => String(error));
        t.truthy(said);
      }
    }
  });

  // The same with a link that a process inside makes between the engine's look and the runtime's: here the runtime's command itself does, at the worst moment.
  test.serial(`${name}: CVE-2024-21626: the working directory of a command is swapped for a link to a descriptor that leaked`, async (t) => {
    const directory = mkdtempSync(join(tmpdir(), "gantry-leaky-"));
    t.teardown(() => rmSync(directory, { recursive: true, force: true }));
    const host = join(directory, "of-the-host");
    mkdirSync(host);
    writeFileSync(join(host, "file"), "secret\n");
    const leaky = join(directory, name);
    writeFileSync(leaky, `#!/bin/sh
for id; do :; done
root=\${1#--root=}/../containers/$id/rootfs
case " $* " in *" exec "*) [ -L "$root/work" ] || { mv "$root/work" "$root/was" 2>/dev/null && ln -s /proc/self/fd/9 "$root/work"; }; exec 9<${host} ;; esac
exec ${findCommand(name)} "$@"
`, { mode: 0o755 });
    const machine = await openMachine(t, leaky);
    const id = await start(machine, machine.spec(FOR_EVER));
    await execute(machine.runtime, id, ["sh", "-c", "busybox mkdir /before; echo own > /before/file; printf '#!/bin/sh\\necho $0; pwd; [ -e /proc/$$/fd/3 ] && echo 3 is open' > /before/script; busybox chmod +x /before/script"]);
    t.is((await execute(machine.runtime, id, ["./script"], { cwd: "/before" })).out, name === "crun" ? "/before/script\n/before\n" : "./script\n/before\n3 is open\n", "a relative script is found");
    await execute(machine.runtime, id, ["busybox", "mv", "/before", "/work"]);
    t.is((await execute(machine.runtime, id, ["sh", "-c", "cat file; pwd"], { cwd: "/work" })).out, "own\n/was\n", "it ran in the folder that was found, wherever that went");
    const plain = spawnSync(leaky, [`--root=${join(machine.directory, "run/oci")}`, "exec", "--cwd", "/work", id, "/bin/cat", "file"], { encoding: "utf8" });
    t.regex(plain.stdout + plain.stderr, /^secret\n|outside of container|chdir to cwd/, "told the name, the runtime goes astray or says so");
    t.regex((await t.throwsAsync(execute(machine.runtime, id, ["/bin/cat", "file"], { cwd: "/work" }))).message, /working directory "\/work": there is no such folder/);
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
    const id = await start(machine, machine.spec(overwrite, { layerDirs: [own] }));
    for (let i = 0; i < 15; i++) await execute(machine.runtime, id, ["sh", "-c", "exit 0"]);
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
    const mounts: RuntimeMount[] = [
      { type: "bind", source: volume, destination: "/v", options: ["rbind", "rw"] },
      { type: "bind", source: treasure, destination: "/v/target/inner", options: ["rbind", "rw"] },
    ];
    const look = `cat /v/target/secret ${host}/secret /secret 2>/dev/null; echo looked`;
    for (const to of [host, `/../../../../../..${host}`, "/proc/1/root", "/proc/self/cwd", "/proc/self/fd/7"]) {
      rmSync(volume, { recursive: true, force: true });
      mkdirSync(volume);
      symlinkSync(to, join(volume, "target"));
      t.notRegex(await attempt(machine, machine.spec(look, { mounts })), /^\S+ \S+ \S secret/m, to);
    }
    // And in motion.
    rmSync(volume, { recursive: true, force: true });
    mkdirSync(join(volume, "target/inner"), { recursive: true });
    symlinkSync(host, join(volume, "link"));
    const swapping = await start(machine, machine.spec("cd /v; while :; do mv -T target dir && mv -T link target; mv -T target link && mv -T dir target; done", { mounts: mounts.slice(0, 1), layerDirs: [withApplet(machine, "mv")] }));
    for (let i = 0; i < 12; i++) t.notRegex(await attempt(machine, machine.spec(look, { mounts })), /^\S+ \S+ \S secret/m, `round ${i}`);
    await machine.runtime.kill(swapping, 9);
    t.false(readMounts().some((m) => m.target.startsWith(host)), "nothing was mounted over the host's folder");
  });

  // /dev/null is the runtime's own tool for hiding files: a link in its place makes it show, or even writable, what it points at.
  escapes("CVE-2025-31133: /dev/null is a link, so that masked files are shown instead of hidden", async (t, machine) => {
    const volume = join(machine.directory, "dev");
    for (const [link, to] of [["null", "/proc/sys/kernel/core_pattern"], ["null", "/proc/sysrq-trigger"], ["console", "/proc/sys/kernel/core_pattern"]] as const) {
      rmSync(volume, { recursive: true, force: true });
      mkdirSync(volume);
      symlinkSync(to, join(volume, link));
      const before = readFileSync("/proc/sys/kernel/core_pattern", "utf8");
      const out = await attempt(machine, machine.spec("for f in /proc/kcore /proc/keys /proc/timer_list /proc/sysrq-trigger /proc/sys/kernel/core_pattern; do echo \"$f: $(head -c 16 $f 2>/dev/null | cat)\"; echo '|/pwned' > $f; done 2>/dev/null; grep -c core_pattern /proc/mounts", {
        mounts: [{ type: "bind", source: volume, destination: "/dev", options: ["rbind", "rw"] }],
      }));
      t.is(readFileSync("/proc/sys/kernel/core_pattern", "utf8"), before);
      if (!out.startsWith("refused")) for (const line of out.split("\n").filter((l) => /\/proc\/(?:kcore|keys|timer_list): /.test(l))) t.regex(line, /: $/, `${link} -> ${to}: ${line}`);
    }
  });

  // /proc itself is a link or a folder of the image's: what is written "to /proc" goes elsewhere, and what is to be hidden stays in sight.
  escapes("CVE-2019-19921: /proc and /sys of the image lead elsewhere", async (t, machine) => {
    for (const where of ["proc", "sys", "dev"]) {
      const own = makeRootfs(join(machine.directory, `image-${where}`));
      mkdirSync(join(own, "elsewhere"));
      symlinkSync("/elsewhere", join(own, where));
      const out = await attempt(machine, machine.spec(`head -c 16 /proc/keys | cat; grep -E ' /(elsewhere|proc|sys) ' /proc/mounts; echo 1 > /proc/sys/kernel/printk; echo ended`, { layerDirs: [own] }));
      t.notRegex(out, /^\S+ \S+ \S [0-9a-f]{8} I/m, where);
      t.true(out.startsWith("refused") || /can't create \/proc\/sys\/kernel\/printk: Read-only|nonexistent/.test(out), out);
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
