// Loading and unpacking with real owners, devices and attributes, which takes root; and what is left after a crash.
import { spawn } from "node:child_process";
import { createCipheriv } from "node:crypto";
import { once } from "node:events";
import { createReadStream, existsSync, lstatSync, mkdirSync, readFileSync, readdirSync, readlinkSync, statSync, writeFileSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { promisify } from "node:util";
import { execFile } from "node:child_process";
import test, { type ExecutionContext } from "ava";
import { buildExampleImage, EXAMPLE_IMAGE } from "../../cli/example-image.ts";
import { FakeClock, SystemClock } from "../../base/clock.ts";
import { isCode, type ErrorCode } from "../../base/errors.ts";
import { silentLogger } from "../../base/logger.ts";
import { Metrics } from "../../base/metrics.ts";
import { digestOf, hexOf } from "../../node-agent/images/digest.ts";
import { buildImage, ociArchive, ociLayout } from "../../node-agent/images/image-builder.ts";
import { LinuxImageService, type ImageServiceOptions } from "../../node-agent/images/linux-image-service.ts";
import { UnpackThreads } from "../../node-agent/images/unpack-threads.ts";
import { header, writeTar, type TarInput } from "../../node-agent/images/tar-writer.ts";
import { getXattr } from "../../node-agent/linux/files.ts";
import { mountOverlay, unmount } from "../../node-agent/linux/mount.ts";
import { dockerArchive, inPieces, maliciousLayers, testImage, writeOciLayout } from "../helpers/images.ts";

const run = promisify(execFile);

const directory = async (t: ExecutionContext): Promise<string> => {
  const path = await mkdtemp(join(tmpdir(), "gantry-images-"));
  t.teardown(() => rm(path, { recursive: true, force: true }));
  return path;
};

const open = async (t: ExecutionContext, more: Partial<ImageServiceOptions> = {}): Promise<{ readonly service: LinuxImageService; readonly root: string }> => {
  const root = more.root ?? await directory(t);
  const service = await LinuxImageService.open({ root, clock: new SystemClock(), random: Math.random, logger: silentLogger, metrics: new Metrics(), ...more });
  t.teardown(() => service.close());
  return { service, root };
};

const fails = async (t: ExecutionContext, work: Promise<unknown>, code: ErrorCode, message: RegExp): Promise<void> => {
  const error = await t.throwsAsync(work);
  t.true(isCode(error, code), `${(error as { code?: string }).code}: ${error?.message}`);
  t.regex(error?.message ?? "", message);
};

/** Loads one image of these layers and gives its layer directories, lowest first. */
const unpacked = async (t: ExecutionContext, ...layers: readonly (readonly TarInput[])[]): Promise<readonly string[]> => {
  const { service } = await open(t);
  await service.load(inPieces(ociArchive([{ name: "app", image: await testImage({ layers }) }])));
  return service.resolve("app")!.layerDirs;
};

const nothingLeft = (t: ExecutionContext, root: string): void => {
  t.deepEqual(readdirSync(join(root, "layers")), []);
  t.deepEqual(readdirSync(join(root, "ingest")), []);
};

test("owners, modes, times, links, devices, pipes and capabilities are as the layer says", async (t) => {
  // VFS_CAP_REVISION_2 with cap_net_bind_service permitted and effective.
  const capability = Buffer.from("0100000200040000000000000000000000000000", "hex");
  const [dir] = await unpacked(t, [
    { path: "./", type: "directory", mode: 0o711, uid: 5, gid: 6, mtimeMs: 1_000_000_000_000 },
    { path: "d/", type: "directory", mode: 0o1777, uid: 1000, gid: 1001, mtimeMs: 1_100_000_000_000 },
    { path: "d/setuid", content: "x", mode: 0o4755, uid: 1000, gid: 1001, mtimeMs: 1_200_000_000_000, xattrs: { "security.capability": capability, "user.note": Buffer.from("n"), "trusted.overlay.redirect": Buffer.from("/etc") } },
    { path: "d/hard", type: "hardlink", linkPath: "d/setuid" },
    { path: "d/soft", type: "symlink", linkPath: "/etc/passwd", uid: 7, gid: 8, mtimeMs: 1_300_000_000_000 },
    { path: "null", type: "character", device: { major: 1, minor: 3 }, mode: 0o666 },
    { path: "sda", type: "block", device: { major: 8, minor: 0 } },
    { path: "mem", type: "character", device: { major: 1, minor: 1 } },
    { path: "pipe", type: "fifo", mode: 0o622 },
    { path: "implied/parent/file", content: "y" },
  ]);
  const at = (path: string): string => join(dir!, path);
  const of = (path: string): readonly unknown[] => {
    const s = lstatSync(at(path));
    return [s.mode & 0o7777, s.uid, s.gid, s.mtimeMs];
  };
  t.deepEqual(of("."), [0o711, 5, 6, 1_000_000_000_000]);
  t.deepEqual(of("d"), [0o1777, 1000, 1001, 1_100_000_000_000]);
  t.deepEqual(of("d/setuid"), [0o4755, 1000, 1001, 1_200_000_000_000]);
  t.is(lstatSync(at("d/hard")).ino, lstatSync(at("d/setuid")).ino);
  t.is(readlinkSync(at("d/soft")), "/etc/passwd");
  t.deepEqual(of("d/soft").slice(1), [7, 8, 1_300_000_000_000]);
  t.deepEqual(getXattr(at("d/setuid"), "security.capability"), capability);
  t.deepEqual(getXattr(at("d/setuid"), "user.note"), Buffer.from("n"));
  t.is(getXattr(at("d/setuid"), "trusted.overlay.redirect"), undefined);
  t.true(lstatSync(at("null")).isCharacterDevice());
  t.is(lstatSync(at("null")).rdev, 0x103);
  t.is(lstatSync(at("null")).mode & 0o777, 0o666);
  t.true(lstatSync(at("pipe")).isFIFO());
  t.false(existsSync(at("sda")));
  t.false(existsSync(at("mem")));
  t.is(lstatSync(at("implied/parent")).mode & 0o777, 0o755);
});

test("a large layer is unpacked in another thread, with the same files and the same errors", async (t) => {
  const dir = await directory(t);
  const threads = new UnpackThreads(new SystemClock(), undefined);
  t.teardown(() => threads.close());
  // Always the same, and nothing that could be compressed.
  const noise = createCipheriv("aes-128-ctr", Buffer.alloc(16), Buffer.alloc(16)).update(Buffer.alloc(3 << 20));
  const tar = writeTar([{ path: "data/noise", content: noise, mode: 0o640, uid: 7, gid: 8 }]);
  const unpack = async (name: string, blob: Buffer, signal = new AbortController().signal): Promise<string> => {
    const [path, root] = [join(dir, `${name}.blob`), join(dir, name)];
    await writeFile(path, blob);
    mkdirSync(root);
    await threads.run({ blob: path, blobBytes: blob.length, diffId: digestOf(tar), root, what: name, limits: { maxEntries: 10, maxBytes: 1 << 30, maxRatio: 0 } }, signal);
    return root;
  };
  // Two at once, and one after another in the same thread.
  for (const root of [...await Promise.all([unpack("a", gzipSync(tar)), unpack("b", zstdCompressSync(tar))]), await unpack("c", tar)]) {
    t.true(readFileSync(join(root, "data/noise")).equals(noise));
    const { mode, uid, gid } = statSync(join(root, "data/noise"));
    t.deepEqual([mode & 0o777, uid, gid], [0o640, 7, 8]);
  }
  await fails(t, unpack("cut", gzipSync(tar).subarray(0, 2 << 20)), "Invalid", /^cut: the compressed data is damaged or cut off/);
  await fails(t, unpack("other", writeTar([{ path: "x", content: noise }])), "Invalid", /^other unpacks to sha256:\w+, but the image's config says/);
  await fails(t, unpack("given-up", tar, AbortSignal.abort()), "Cancelled", /cancelled/);
  const late = unpack("late", tar);
  await new Promise((wake) => setImmediate(wake));
  threads.close();
  await late.catch((error: unknown) => t.true(isCode(error, "Cancelled"), String(error)));
});

test("whiteouts and opaque directories hide exactly what they should, seen through overlayfs", async (t) => {
  const layers = await unpacked(t,
    ["kept", "gone", "replaced", "opaque/old", "swapped/old", "late/old", "implied/old", "both/old"].map((path): TarInput => ({ path, content: "lower" })),
    [
      { path: ".wh.gone" }, { path: "opaque/", type: "directory" }, { path: "opaque/.wh..wh..opq" }, { path: "opaque/new", content: "upper" },
      { path: ".wh.replaced" }, { path: "replaced", content: "upper" },
      { path: ".wh.swapped" }, { path: "swapped/", type: "directory" }, { path: "swapped/new", content: "upper" },
      { path: "late/", type: "directory" }, { path: "late/new", content: "upper" }, { path: ".wh.late" },
      { path: ".wh.implied" }, { path: "implied/new", content: "upper" },
      { path: "both/", type: "directory" }, { path: "both/new", content: "upper" }, { path: ".wh..wh.plnk" },
    ]);
  const work = await directory(t);
  for (const d of ["upper", "work", "merged"]) mkdirSync(join(work, d));
  mountOverlay({ lowerDirs: layers, upper: join(work, "upper"), work: join(work, "work"), target: join(work, "merged") });
  t.teardown(() => unmount(join(work, "merged"), { detach: true }));
  const seen = (path: string): readonly string[] => readdirSync(join(work, "merged", path)).sort();
  t.deepEqual(seen("."), ["both", "implied", "kept", "late", "opaque", "replaced", "swapped"]);
  t.is(readFileSync(join(work, "merged/replaced"), "utf8"), "upper");
  for (const path of ["opaque", "swapped", "late", "implied"]) t.deepEqual(seen(path), ["new"], path);
  t.deepEqual(seen("both"), ["new", "old"]);
});

test("a later entry replaces an earlier one of any type, and never writes through it", async (t) => {
  const outside = await directory(t);
  writeFileSync(join(outside, "victim"), "untouched");
  const [dir] = await unpacked(t, [
    { path: "a", type: "symlink", linkPath: join(outside, "victim") }, { path: "a", content: "file" },
    { path: "b/", type: "directory" }, { path: "b/inner", content: "x" }, { path: "b", content: "file" },
    { path: "c", content: "x" }, { path: "c/", type: "directory", mode: 0o750 },
    { path: "d", type: "symlink", linkPath: outside }, { path: "d/", type: "directory" }, { path: "d/e", content: "in" },
    { path: "f", content: "1" }, { path: "g", type: "hardlink", linkPath: "f" }, { path: "g", content: "2" },
  ]);
  t.is(readFileSync(join(outside, "victim"), "utf8"), "untouched");
  t.deepEqual(readdirSync(outside), ["victim"]);
  t.is(readFileSync(join(dir!, "a"), "utf8"), "file");
  t.is(readFileSync(join(dir!, "b"), "utf8"), "file");
  t.is(statSync(join(dir!, "c")).mode & 0o777, 0o750);
  t.true(lstatSync(join(dir!, "d")).isDirectory());
  t.is(readFileSync(join(dir!, "f"), "utf8"), "1");
  t.is(readFileSync(join(dir!, "g"), "utf8"), "2");
});

test("entries below symbolic links end up where the container would see them", async (t) => {
  const [dir] = await unpacked(t, [
    { path: "usr/lib/", type: "directory" }, { path: "lib", type: "symlink", linkPath: "usr/lib" }, { path: "lib/x", content: "1" },
    { path: "etc", type: "symlink", linkPath: "/real/etc" }, { path: "etc/passwd", content: "mine" },
    { path: "usr/up", type: "symlink", linkPath: ".." }, { path: "usr/up/top", content: "2" },
    { path: "hard", type: "hardlink", linkPath: "lib/x" },
  ]);
  t.is(readFileSync(join(dir!, "usr/lib/x"), "utf8"), "1");
  t.is(readFileSync(join(dir!, "real/etc/passwd"), "utf8"), "mine");
  t.is(readFileSync(join(dir!, "top"), "utf8"), "2");
  t.is(statSync(join(dir!, "hard")).ino, statSync(join(dir!, "usr/lib/x")).ino);
});

for (const what of Object.keys(maliciousLayers("/"))) {
  test(`refused: ${what}`, async (t) => {
    const outside = await directory(t);
    const { files, error } = maliciousLayers(outside)[what]!;
    writeFileSync(join(outside, "secret"), "secret");
    const { service, root } = await open(t);
    await fails(t, service.load(inPieces(ociArchive([{ name: "evil", image: await testImage({ layers: [files] }) }]))), "Invalid", error);
    t.is(service.resolve("evil"), undefined);
    t.deepEqual(readdirSync(outside), ["secret"]);
    t.is(statSync(join(outside, "secret")).nlink, 1);
    t.false(existsSync(join(root, "evil")));
    nothingLeft(t, root);
    await service.collectGarbage(new Set());
    t.deepEqual(readdirSync(join(root, "blobs/sha256")), []);
  });
}

test("layers that would fill the disk are stopped before they do", async (t) => {
  const { service, root } = await open(t, { limits: { maxBytes: 1_000_000, maxEntries: 50 } });
  const load = async (tar: Buffer): Promise<unknown> => service.load(inPieces(ociArchive([{ name: "bomb", image: buildImage({ architecture: process.arch === "x64" ? "amd64" : process.arch, layers: [tar] }) }])));
  await fails(t, load(writeTar([{ path: "big", content: Buffer.alloc(2_000_000) }])), "RequestEntityTooLarge", /layer 1 of 1.*more than 1000000 bytes.*"big"/);
  await fails(t, load(Buffer.concat([header({ path: "huge" }, "0", 2 ** 50), Buffer.alloc(5120)])), "RequestEntityTooLarge", /"huge", of 1125899906842624 bytes/);
  await fails(t, load(writeTar(Array.from({ length: 60 }, (_, i): TarInput => ({ path: `f${i}` })))), "RequestEntityTooLarge", /more than 50 entries/);
  await fails(t, service.load(inPieces(Buffer.concat([header({ path: `blobs/sha256/${"a".repeat(64)}` }, "0", 2 ** 50), Buffer.alloc(5120)]))), "RequestEntityTooLarge", /bytes to spare/);
  nothingLeft(t, root);
});

test("a layer that unpacks to far more than it is, in files, headers or behind its end, is stopped", async (t) => {
  const { service, root } = await open(t, { limits: { maxRatio: 20, ratioFromBytes: 1_000_000 } });
  const load = async (tar: Buffer): Promise<unknown> => service.load(inPieces(ociArchive([{ name: "bomb", image: buildImage({ architecture: process.arch === "x64" ? "amd64" : process.arch, layers: [tar] }) }])));
  await fails(t, load(writeTar([{ path: "zeros", content: Buffer.alloc(8_000_000) }])), "RequestEntityTooLarge", /more than 20 times its \d+ bytes.*--image-max-ratio/);
  await fails(t, load(Buffer.concat([writeTar([{ path: "a", content: "x" }]), Buffer.alloc(8_000_000)])), "RequestEntityTooLarge", /more than 20 times/);
  await fails(t, load(writeTar(Array.from({ length: 3000 }, (_, i): TarInput => ({ path: `d${i}/`, type: "directory", xattrs: { "user.x": Buffer.alloc(3000) } })))), "RequestEntityTooLarge", /more than 20 times/);
  nothingLeft(t, root);
  await load(writeTar([{ path: "zeros", content: Buffer.alloc(900_000) }]));
  t.truthy(service.resolve("bomb"), "small ones may");
});

test("what links point to outside is never written, and links to links stay links", async (t) => {
  const outside = await directory(t);
  writeFileSync(join(outside, "secret"), "secret");
  const [dir] = await unpacked(t, [
    // A link to the outside under the name of a later file: the file replaces it.
    { path: "soft", type: "symlink", linkPath: join(outside, "secret") }, { path: "soft", content: "mine", mode: 0o777 },
    // A hard link to such a link, then a file: neither opens what the link points to.
    { path: "link", type: "symlink", linkPath: join(outside, "secret") }, { path: "hard", type: "hardlink", linkPath: "link" }, { path: "hard", content: "mine" },
    // Attributes of a link are the link's own.
    { path: "owned", type: "symlink", linkPath: join(outside, "secret"), uid: 12, gid: 34, mode: 0o777, xattrs: { "user.note": Buffer.from("n") } },
    // A directory of the same name as a link to the outside, and a file below it.
    { path: "dir", type: "symlink", linkPath: outside }, { path: "dir/", type: "directory" }, { path: "dir/secret", content: "mine" },
    // A whiteout below a link lands where the container would see it.
    { path: "w", type: "symlink", linkPath: outside }, { path: "w/.wh.secret" },
  ]);
  t.is(readFileSync(join(outside, "secret"), "utf8"), "secret");
  const { mode, uid, gid, nlink } = statSync(join(outside, "secret"));
  t.deepEqual([mode & 0o777, uid, gid, nlink], [0o644, 0, 0, 1]);
  t.deepEqual(readdirSync(outside), ["secret"]);
  for (const path of ["soft", "hard", "dir/secret"]) t.is(readFileSync(join(dir!, path), "utf8"), "mine", path);
  t.true(lstatSync(join(dir!, "link")).isSymbolicLink());
  t.is(statSync(join(dir!, "../..")).mode & 0o777, 0o700, "nobody else gets at a tree that is being written");
});

test("damaged archives: cut off, tampered with, incomplete, no archive at all", async (t) => {
  const { service, root } = await open(t);
  const image = await testImage({ layers: [[{ path: "a", content: Buffer.alloc(100_000, "abc") }]], compression: "none" });
  const whole = ociArchive([{ name: "app", image }]);
  const layer = hexOf(digestOf(image.layers[0]!));
  await fails(t, service.load(inPieces(whole.subarray(0, whole.length - 60_000))), "Invalid", /the image archive is cut off.*blobs\/sha256/);
  const tampered = Buffer.from(whole);
  tampered[tampered.indexOf("abcabc") + 10_000]! ^= 1;
  await fails(t, service.load(inPieces(tampered)), "Invalid", new RegExp(`${layer} has the digest sha256:.*tampered`));
  const without = ociLayout([{ name: "app", image }]).filter((file) => !file.path.endsWith(layer));
  await fails(t, service.load(inPieces(writeTar(without))), "Invalid", new RegExp(`lacks the blob sha256:${layer}.*incomplete`));
  await fails(t, service.load(inPieces(Buffer.from("hello".repeat(500)))), "Invalid", /not a tar archive/);
  await fails(t, service.load(inPieces(writeTar([{ path: "etc/passwd", content: "x" }]))), "Invalid", /neither an index\.json.*nor a manifest\.json/);
  await fails(t, service.load(inPieces(gzipSync(whole).subarray(0, 300))), "Invalid", /damaged or cut off/);
  const lying = buildImage({ architecture: process.arch === "x64" ? "amd64" : process.arch, layers: [writeTar([{ path: "a", content: "x" }])], compression: "none" });
  const other = writeTar([{ path: "a", content: "y" }]);
  const config = JSON.parse(lying.config.toString()) as { rootfs: { diff_ids: string[] } };
  config.rootfs.diff_ids = [digestOf(other)];
  await fails(t, service.load(inPieces(writeTar([
    { path: "c.json", content: JSON.stringify(config) }, { path: "l/layer.tar", content: writeTar([{ path: "a", content: "x" }]) },
    { path: "manifest.json", content: JSON.stringify([{ Config: "c.json", RepoTags: ["app:x"], Layers: ["l/layer.tar"] }]) },
  ]))), "Invalid", /unpacks to sha256:.*but the image's config says/);
  t.deepEqual(service.list(), []);
  nothingLeft(t, root);
  t.true(await service.collectGarbage(new Set()) > 0);
});

test("OCI and docker archives, plain, gzip and zstd, with one or several images", async (t) => {
  const image = await testImage();
  const layerTars = [writeTar([{ path: "shared", content: "s" }]), writeTar([{ path: "own", content: "o" }])];
  const architecture = process.arch === "x64" ? "amd64" : process.arch;
  const [a, b] = [buildImage({ architecture, layers: layerTars, compression: "none" }), buildImage({ architecture, layers: [layerTars[0]!], compression: "none" })];
  const docker = dockerArchive([{ tags: ["one:v1", "registry.example/one:v2"], image: a, layerTars }, { tags: ["two"], image: b, layerTars: [layerTars[0]!] }]);
  for (const pack of [(x: Buffer) => x, (x: Buffer) => gzipSync(x), (x: Buffer) => zstdCompressSync(x)]) {
    const { service, root } = await open(t);
    t.deepEqual(await service.load(inPieces(pack(ociArchive([{ name: "busybox:1", image }])), 10_000)), ["docker.io/library/busybox:1"]);
    t.deepEqual(await service.load(inPieces(pack(docker), 777)), ["docker.io/library/one:v1", "registry.example/one:v2", "docker.io/library/two:latest"]);
    t.is(service.resolve("registry.example/one:v2")?.id, a.configDigest);
    t.deepEqual(service.resolve("one:v1")?.names.length, 2);
    t.is(service.resolve("two")?.layerDirs[0], service.resolve("one:v1")?.layerDirs[0]);
    t.is(readdirSync(join(root, "layers")).length, 3);
    t.true((await run(join(service.resolve("busybox:1")!.layerDirs[0]!, "bin/busybox"), ["echo", "runs"])).stdout.startsWith("runs"));
  }
  for (const compression of ["none", "gzip", "zstd"] as const) {
    const { service } = await open(t);
    await service.load(inPieces(ociArchive([{ name: "app", image: await testImage({ compression }) }])));
    t.true(existsSync(join(service.resolve("app")!.layerDirs[0]!, "bin/sh")), compression);
  }
});

test("an image without a name gets the fallback, or is found by its ID", async (t) => {
  const image = await testImage({ layers: [[{ path: "a" }]] });
  const { service } = await open(t);
  t.deepEqual(await service.load(inPieces(ociArchive([{ image }]))), [image.configDigest]);
  t.is(service.resolve(image.configDigest)?.names.length, 0);
  t.deepEqual(await service.load(inPieces(ociArchive([{ image }])), "mine:v1"), ["docker.io/library/mine:v1"]);
  t.deepEqual(await service.load(inPieces(ociArchive([{ name: "v2", image }])), "mine:v2"), ["docker.io/library/mine:v2"]);
  t.deepEqual(await service.load(inPieces(ociArchive([{ name: "other:v3", image }])), "mine:v2"), ["docker.io/library/other:v3"]);
  await fails(t, service.load(inPieces(ociArchive([{ image }, { image: await testImage({ layers: [[{ path: "b" }]] }) }])), "mine"), "Invalid", /2 images without a name/);
  await fails(t, service.load(inPieces(ociArchive([{ image }])), "Bad Name"), "Invalid", /white space/);
});

test("an image of another architecture is refused by name of both", async (t) => {
  const { service } = await open(t, { platform: { os: "linux", architecture: "amd64", variant: "v1" } });
  const image = await testImage({ architecture: "s390x", layers: [[{ path: "a" }]] });
  await fails(t, service.load(inPieces(ociArchive([{ name: "app", image }]))), "NotFound", /app:latest is for linux\/s390x; this node is linux\/amd64/);
});

test("skopeo's archives of both formats load", async (t) => {
  const work = await directory(t);
  const image = await testImage();
  await writeOciLayout(join(work, "layout"), [{ name: "busybox", image }]);
  await run("skopeo", ["copy", `oci:${work}/layout:busybox`, `docker-archive:${work}/docker.tar:busybox:docker`]);
  await run("skopeo", ["copy", `oci:${work}/layout:busybox`, `oci-archive:${work}/oci.tar:busybox:oci`]);
  const { service } = await open(t);
  t.deepEqual(await service.load(createReadStream(join(work, "docker.tar"))), ["docker.io/library/busybox:docker"]);
  t.deepEqual(await service.load(createReadStream(join(work, "oci.tar"))), ["docker.io/library/busybox:oci"]);
  t.is(service.resolve("busybox:docker")?.layerDirs[0], service.resolve("busybox:oci")?.layerDirs[0]);
});

test("an image whose layer occurs twice mounts: the uppermost counts", async (t) => {
  const layers = await unpacked(t, [{ path: "x", content: "1" }], [{ path: "x", content: "2" }], [{ path: "x", content: "1" }]);
  t.is(layers.length, 2);
  t.is(readFileSync(join(layers[1]!, "x"), "utf8"), "1");
});

test("garbage collection takes what neither a name nor a container needs, and nothing else", async (t) => {
  const shared: readonly TarInput[] = [{ path: "shared", content: "s" }];
  const [a, b] = [await testImage({ layers: [shared, [{ path: "a" }]] }), await testImage({ layers: [shared, [{ path: "b" }]] })];
  const { service, root } = await open(t);
  await service.load(inPieces(ociArchive([{ name: "a", image: a }, { name: "b", image: b }])));
  t.is(await service.collectGarbage(new Set()), 0);
  await service.remove("a");
  t.is(service.resolve("a"), undefined);
  t.is(service.resolve(a.configDigest)?.id, a.configDigest);
  t.is(await service.collectGarbage(new Set([a.configDigest])), 0);
  t.is(service.resolve(a.configDigest)?.id, a.configDigest);
  t.true(await service.collectGarbage(new Set()) > 0);
  t.is(service.resolve(a.configDigest), undefined);
  t.is(readdirSync(join(root, "layers")).length, 2);
  t.true(existsSync(join(service.resolve("b")!.layerDirs[0]!, "shared")));
  await fails(t, service.remove("a"), "NotFound", /"a" is not on this node/);
  await service.remove("b");
  // Several at once, as when images are removed one right after another: what one of them deletes the others don't miss.
  await Promise.all([1, 2, 3].map(() => service.collectGarbage(new Set())));
  t.deepEqual(readdirSync(join(root, "blobs/sha256")), []);
  nothingLeft(t, root);
});

test("garbage collection while an image is being loaded takes nothing of it", async (t) => {
  const { service } = await open(t);
  const image = await testImage();
  const loaded = new AbortController();
  const collected = (async () => {
    for (; !loaded.signal.aborted; await new Promise((resolve) => setImmediate(resolve))) await service.collectGarbage(new Set());
  })();
  await service.load(inPieces(ociArchive([{ name: "app", image }]), 20_000));
  loaded.abort();
  await collected;
  t.true(existsSync(join(service.resolve("app")!.layerDirs[0]!, "bin/busybox")));
});

test("after a restart everything is there; a missing layer is unpacked anew; a missing blob makes the image incomplete until it comes again", async (t) => {
  const image = await testImage({ layers: [[{ path: "a", content: "1" }], [{ path: "b", content: "2" }]] });
  const archive = ociArchive([{ name: "app", image }]);
  const { service, root } = await open(t);
  await service.load(inPieces(archive));
  const before = service.resolve("app");
  service.close();
  t.deepEqual((await open(t, { root })).service.resolve("app"), before);
  await rm(join(root, "layers", hexOf(image.diffIds[0]!)), { recursive: true });
  t.deepEqual((await open(t, { root })).service.resolve("app"), before);
  t.is(readFileSync(join(before!.layerDirs[0]!, "a"), "utf8"), "1");
  await rm(join(root, "layers"), { recursive: true });
  await writeFile(join(root, "blobs/sha256", hexOf(digestOf(image.layers[0]!))), "cut");
  const { service: healed } = await open(t, { root });
  t.is(healed.resolve("app"), undefined);
  t.is(await healed.collectGarbage(new Set()), 0);
  await healed.load(inPieces(archive));
  t.deepEqual(healed.resolve("app"), before);
});

test("layers that may not have reached the disk before the machine went down are unpacked anew", async (t) => {
  const image = await testImage({ layers: [[{ path: "a", content: "right" }]] });
  const { service, root } = await open(t, { bootId: "first" });
  await service.load(inPieces(ociArchive([{ name: "app", image }])));
  const file = join(service.resolve("app")!.layerDirs[0]!, "a");
  service.close();
  await writeFile(file, ""); // What a power cut leaves of a file that was not written back.
  const clock = new FakeClock();
  const { service: second } = await open(t, { root, bootId: "second", clock });
  t.is(await readFile(file, "utf8"), "right");
  second.close();
  await clock.advance(120_000);
  // Settled: the next boot takes it as it is.
  const record = join(root, "layers", hexOf(image.diffIds[0]!), "layer.json");
  for (let i = 0; i < 100 && !(await readFile(record, "utf8")).includes('"bootId":""'); i++) await new Promise((resolve) => setTimeout(resolve, 10));
  const inode = statSync(file).ino;
  await open(t, { root, bootId: "third" });
  t.is(statSync(file).ino, inode);
});

test("a damaged index does not keep the service from starting", async (t) => {
  const { service, root } = await open(t);
  const archive = ociArchive([{ name: "app", image: await testImage({ layers: [[{ path: "a" }]] }) }]);
  await service.load(inPieces(archive));
  await writeFile(join(root, "index.json"), "{ damaged");
  const { service: again } = await open(t, { root });
  t.deepEqual(again.list(), []);
  t.deepEqual(await again.load(inPieces(archive)), ["docker.io/library/app:latest"]);
});

test("a process killed at any moment of a load leaves a store that opens, verifies and loads again", async (t) => {
  const root = await directory(t);
  const archive = join(root, "image.tar");
  const files = Array.from({ length: 400 }, (_, i): TarInput => ({ path: `d${i % 10}/f${i}`, content: Buffer.alloc(5_000, String(i)) }));
  const image = await testImage({ layers: [files.slice(0, 200), files.slice(200)] });
  await writeFile(archive, ociArchive([{ name: "app", image }]));
  const script = join(root, "load.ts");
  const base = new URL("../../", import.meta.url).pathname;
  await writeFile(script, `
    import { createReadStream } from "node:fs";
    import { LinuxImageService } from "${base}node-agent/images/linux-image-service.ts";
    import { SystemClock } from "${base}base/clock.ts";
    import { silentLogger } from "${base}base/logger.ts";
    import { Metrics } from "${base}base/metrics.ts";
    const service = await LinuxImageService.open({ root: "${root}/store", clock: new SystemClock(), random: Math.random, logger: silentLogger, metrics: new Metrics() });
    process.stdout.write("ready\\n");
    for (;;) { await service.load(createReadStream("${archive}")); await service.remove("app"); await service.collectGarbage(new Set()); }
  `);
  for (const delayMs of [1, 12, 27, 41, 66, 90]) {
    const child = spawn(process.execPath, [script], { stdio: ["ignore", "pipe", "inherit"] });
    await once(child.stdout, "data");
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    child.kill("SIGKILL");
    await once(child, "exit");
    const { service } = await open(t, { root: join(root, "store") });
    for (const hex of readdirSync(join(root, "store/blobs/sha256"))) t.is(hexOf(digestOf(readFileSync(join(root, "store/blobs/sha256", hex)))), hex);
    await service.load(createReadStream(archive));
    const dirs = service.resolve("app")!.layerDirs;
    t.is(dirs.reduce((n, dir) => n + readdirSync(dir, { recursive: true, withFileTypes: true }).filter((e) => e.isFile() && statSync(join(e.parentPath, e.name)).size === 5_000).length, 0), 400);
    t.deepEqual(readdirSync(join(root, "store/ingest")), []);
    t.is(readdirSync(join(root, "store/layers")).length, 2);
    service.close();
  }
});

test("the example image is the same each time, loads and runs", async (t) => {
  const work = await directory(t);
  for (const name of ["one.tar", "two.tar"]) await buildExampleImage(join(work, name), { busyboxPath: "/bin/busybox" });
  t.deepEqual(await readFile(join(work, "one.tar")), await readFile(join(work, "two.tar")));
  t.true(statSync(join(work, "one.tar")).size < 1_500_000);
  const { service } = await open(t);
  t.deepEqual(await service.load(createReadStream(join(work, "one.tar"))), [EXAMPLE_IMAGE]);
  const image = service.resolve(EXAMPLE_IMAGE)!;
  t.is(image.config.cmd[0], "sleep");
  const { stdout } = await run("chroot", [image.layerDirs[0]!, "/bin/sh", "-c", "cat /www/index.html; id -un; stat -c %a /tmp"]);
  t.regex(stdout, /It works[\s\S]*root\n1777/);
  await fails(t, buildExampleImage(join(work, "x"), { busyboxPath: join(work, "none") }), "NotFound", /busybox-static/);
  await fails(t, buildExampleImage(join(work, "x"), { busyboxPath: process.execPath }), "FailedPrecondition", /not a statically linked/);
});
