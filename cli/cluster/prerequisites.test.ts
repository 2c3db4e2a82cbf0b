import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import test from "ava";
import { distributionFamily, findMissing, findOnPath, isStatic } from "./prerequisites.ts";

test("a distribution's family is its own or one that it is like", (t) => {
  t.is(distributionFamily('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n'), "debian");
  t.is(distributionFamily("NAME=Ubuntu\nID=ubuntu\nID_LIKE=debian\n"), "debian");
  t.is(distributionFamily('ID="linuxmint"\nID_LIKE="ubuntu debian"\n'), "debian");
  t.is(distributionFamily('ID="rocky"\nID_LIKE="rhel centos fedora"\n'), "fedora");
  t.is(distributionFamily('ID="opensuse-leap"\nID_LIKE="suse opensuse"\n'), "suse");
  t.is(distributionFamily("ID='alpine'\n"), "alpine");
  t.is(distributionFamily("ID=manjaro\nID_LIKE=arch"), "arch");
  t.is(distributionFamily("ID=nixos\n"), "");
  t.is(distributionFamily(""), "");
});

/** A machine that lacks some commands; the rest are this test's own node, which is no static program. */
const without = (...missing: string[]) => (c: string): string | undefined => (missing.includes(c) ? undefined : c === "busybox" ? staticFile : process.execPath);
const staticFile = join(mkdtempSync(join(tmpdir(), "gantry-elf-")), "static");
test.before(() => writeFileSync(staticFile, elf([1, 2])));
test.after.always(() => rmSync(dirname(staticFile), { recursive: true }));

/** An ELF header with program headers of these types. */
const elf = (types: readonly number[]): Buffer => {
  const file = Buffer.alloc(64 + 56 * types.length);
  file.writeUInt32BE(0x7f454c46, 0);
  file.writeBigUInt64LE(64n, 32);
  file.writeUInt16LE(56, 54);
  file.writeUInt16LE(types.length, 56);
  for (const [i, type] of types.entries()) file.writeUInt32LE(type, 64 + 56 * i);
  return file;
};

test("nothing is said when all is there; runc does where crun is missing", (t) => {
  t.is(findMissing({ find: without("crun"), osRelease: () => "ID=debian" }), undefined);
});

test("what is missing is told with the command that installs it here", (t) => {
  t.is(findMissing({ find: without("conmon", "ip"), osRelease: () => "ID=debian" })!.message, "missing commands: conmon, ip; install them with: apt-get install -y conmon iproute2");
  t.is(findMissing({ find: without("crun", "runc"), osRelease: () => "ID=fedora" })!.message, "missing commands: crun or runc; install them with: dnf install -y crun");
  t.is(findMissing({ find: without("nft"), osRelease: () => "" })!.message, "missing commands: nft; install them with your distribution's package manager");
  t.deepEqual(findMissing({ find: without("crun", "skopeo"), tests: true, osRelease: () => "ID=debian" })!.packages, ["crun", "skopeo"]);
});

test("a busybox that needs a dynamic loader is not one for images", (t) => {
  writeFileSync(`${staticFile}.dynamic`, elf([1, 3, 2]));
  t.true(isStatic(staticFile));
  t.false(isStatic(`${staticFile}.dynamic`));
  t.deepEqual(findMissing({ find: (c) => (c === "busybox" ? `${staticFile}.dynamic` : process.execPath), osRelease: () => "ID=debian" })!.packages, ["busybox-static"]);
});

test("a command is found when it can be executed", (t) => {
  const dir = mkdtempSync(join(tmpdir(), "gantry-path-"));
  t.teardown(() => rmSync(dir, { recursive: true }));
  writeFileSync(join(dir, "tool"), "");
  writeFileSync(join(dir, "text"), "", { mode: 0o600 });
  chmodSync(join(dir, "tool"), 0o755);
  t.is(findOnPath("tool", `/nowhere::${dir}`), join(dir, "tool"));
  t.is(findOnPath("none", dir), undefined);
  mkdirSync(join(dir, "node_modules"));
  writeFileSync(join(dir, "node_modules/nft"), "", { mode: 0o755 });
  t.is(findOnPath("nft", join(dir, "node_modules")), undefined);
});
