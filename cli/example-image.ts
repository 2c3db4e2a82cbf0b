// Makes gantry.local/example:latest, the image of the example manifests: busybox of about 1 MB, from this host's static busybox, since
// a fresh machine may have no registry to pull from. The same bytes each time for the same busybox.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { rename, writeFile } from "node:fs/promises";
import { GantryError } from "../base/errors.ts";
import { buildImage, ociArchive } from "../node-agent/images/image-builder.ts";
import { detectPlatform } from "../node-agent/images/platform.ts";
import { writeTar, type TarInput } from "../node-agent/images/tar-writer.ts";

export const EXAMPLE_IMAGE = "gantry.local/example:latest";

const PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";
const GROUP = "root:x:0:\nnogroup:x:65534:\n";
const INDEX_HTML = "<!doctype html>\n<title>Gantry</title>\n<h1>It works</h1>\n<p>Served by busybox httpd in a container that Gantry runs.</p>\n";

/** An ELF file without an interpreter needs no shared libraries: a dynamic busybox would not start in an image that has none. */
const isStatic = (elf: Buffer): boolean => {
  if (elf.length < 64 || elf.readUInt32BE(0) !== 0x7f454c46 || elf[4] !== 2 || elf[5] !== 1) return false;
  const [tableAt, entrySize, entries] = [Number(elf.readBigUInt64LE(32)), elf.readUInt16LE(54), elf.readUInt16LE(56)];
  const PT_INTERP = 3;
  return Array.from({ length: entries }, (_, i) => elf.readUInt32LE(tableAt + i * entrySize)).every((type) => type !== PT_INTERP);
};

/**
 * Writes an OCI archive. Errors: "NotFound" when there is no busybox at `busyboxPath`, "FailedPrecondition" when it is not static:
 * both say what to install.
 */
export const buildExampleImage = async (outFile: string, { busyboxPath }: { readonly busyboxPath: string }): Promise<void> => {
  const install = "install a static one (Debian and Ubuntu: busybox-static; Fedora: busybox; Alpine: busybox-static)";
  let busybox: Buffer;
  try {
    busybox = readFileSync(busyboxPath);
  } catch (cause) {
    throw new GantryError("NotFound", `no busybox at ${busyboxPath}: ${install}`, { cause });
  }
  if (!isStatic(busybox)) throw new GantryError("FailedPrecondition", `${busyboxPath} is not a statically linked 64-bit program: ${install}`);
  const applets = execFileSync(busyboxPath, ["--list"], { encoding: "utf8" }).split("\n").filter((name) => name !== "" && name !== "busybox").sort();
  const directory = (path: string, mode = 0o755): TarInput => ({ path, type: "directory", mode });
  const layer = writeTar([
    ...["bin/", "dev/", "etc/", "proc/", "root/", "sys/", "usr/", "usr/bin/", "var/", "www/"].map((path) => directory(path)),
    directory("tmp/", 0o1777),
    directory("run/"),
    { path: "bin/busybox", content: busybox, mode: 0o755 },
    ...applets.map((name): TarInput => ({ path: `bin/${name}`, type: "hardlink", linkPath: "bin/busybox", mode: 0o755 })),
    // Scripts often start with #!/usr/bin/env.
    { path: "usr/bin/env", type: "hardlink", linkPath: "bin/busybox", mode: 0o755 },
    { path: "etc/passwd", content: PASSWD },
    { path: "etc/group", content: GROUP },
    { path: "www/index.html", content: INDEX_HTML },
  ]);
  const image = buildImage({
    architecture: detectPlatform().architecture, layers: [layer],
    config: {
      Cmd: ["sleep", "86400"], Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
      Labels: { "org.opencontainers.image.title": "Gantry's example image" },
    },
  });
  // Renamed into place, so that a half-written archive is never taken for the image.
  await writeFile(`${outFile}.new`, ociArchive([{ name: EXAMPLE_IMAGE, image }]));
  await rename(`${outFile}.new`, outFile);
};
