// Pushes to a real docker-registry, partly through a proxy that misbehaves; archives that docker's and OCI's tools read.
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import test, { type ExecutionContext } from "ava";
import { SystemClock } from "../../base/clock.ts";
import { isCode, type ErrorCode } from "../../base/errors.ts";
import { silentLogger } from "../../base/logger.ts";
import { Metrics } from "../../base/metrics.ts";
import { hexOf } from "../../node-agent/images/digest.ts";
import { ociArchive } from "../../node-agent/images/image-builder.ts";
import type { LayerProgress } from "../../node-agent/images/image-service.ts";
import { LinuxImageService, type ImageServiceOptions } from "../../node-agent/images/linux-image-service.ts";
import { inPieces, testImage } from "../helpers/images.ts";
import { startProxy, startRegistry, TEST_PASSWORD, TEST_USER } from "../helpers/registry.ts";

const run = promisify(execFile);
const signal = new AbortController().signal;
const options = () => ({ credentials: [], signal });

const directory = async (t: ExecutionContext): Promise<string> => {
  const path = await mkdtemp(join(tmpdir(), "gantry-push-"));
  t.teardown(() => rm(path, { recursive: true, force: true }));
  return path;
};

const openService = async (t: ExecutionContext, more: Partial<ImageServiceOptions> = {}): Promise<LinuxImageService> => {
  const service = await LinuxImageService.open({ root: await directory(t), clock: new SystemClock(), random: () => 0, logger: silentLogger, metrics: new Metrics(), ...more });
  t.teardown(() => service.close());
  return service;
};

const fails = async (t: ExecutionContext, work: Promise<unknown>, code: ErrorCode, message: RegExp): Promise<void> => {
  const error = await t.throwsAsync(work);
  t.true(isCode(error, code), `${(error as { code?: string }).code}: ${error?.message}`);
  t.regex(error?.message ?? "", message);
};

/** Incompressible and always the same. */
const bulk = (bytes: number, seed: number): Buffer => {
  const buffer = Buffer.alloc(bytes);
  for (let i = 0, x = seed; i < bytes; i++) {
    x = (Math.imul(x, 1103515245) + 12345) >>> 0;
    buffer[i] = x >>> 24;
  }
  return buffer;
};

test("what is pushed can be pulled again, by us and by skopeo; what is there is not sent again", async (t) => {
  const registry = await startRegistry(t);
  const proxy = await startProxy(t, registry.origin, () => undefined);
  const service = await openService(t);
  const image = await testImage({ layers: [[{ path: "a", content: bulk(200_000, 1) }], [{ path: "b", content: "upper" }]] });
  const name = `${proxy.host}/team/app:v1`;
  await service.load(inPieces(ociArchive([{ name, image }])));
  const seen: LayerProgress[] = [];
  t.is((await service.push(name, { ...options(), onLayer: (p) => seen.push(p) })).id, image.configDigest);
  t.deepEqual(seen.filter((p) => p.status === "Pushed").map((p) => p.digest).sort(), service.resolve(name)!.layers.map((l) => l.digest).sort());
  const other = await openService(t);
  t.is((await other.pull(`${registry.host}/team/app:v1`, options())).manifestDigest, image.manifestDigest);
  const { stdout } = await run("skopeo", ["inspect", "--tls-verify=false", `docker://${registry.host}/team/app:v1`]);
  t.is((JSON.parse(stdout) as { Digest: string }).Digest, image.manifestDigest);

  const uploads = (): number => proxy.requests.filter((r) => r.path.includes("/blobs/uploads/")).length;
  const before = uploads();
  await service.tag(name, `${proxy.host}/team/app:v2`);
  const again: LayerProgress[] = [];
  await service.push(`${proxy.host}/team/app:v2`, { ...options(), onLayer: (p) => again.push(p) });
  t.is(uploads(), before, "nothing was uploaded");
  t.true(again.some((p) => p.status === "Layer already exists"));

  await service.tag(name, `${proxy.host}/elsewhere/app:v1`);
  const mounted: LayerProgress[] = [];
  await service.push(`${proxy.host}/elsewhere/app:v1`, { ...options(), onLayer: (p) => mounted.push(p) });
  t.is(mounted.filter((p) => p.status === "Mounted from another repository").length, 2);
  t.false(proxy.requests.some((r) => r.path.includes("/elsewhere/") && /uploads\/[^?]/.test(r.path)), "no upload was begun");
});

test("large blobs go in chunks; a chunk that failed is sent again from where the registry stands", async (t) => {
  const registry = await startRegistry(t);
  let patches = 0;
  // The third chunk never reaches the registry.
  const proxy = await startProxy(t, registry.origin, (request) => (request.method === "PATCH" && ++patches === 3 ? { status: 503, refuse: true } : undefined));
  const service = await openService(t, { chunkBytes: 64 * 1024 });
  const image = await testImage({ layers: [[{ path: "a", content: bulk(300_000, 2) }]], compression: "none" });
  const name = `${proxy.host}/app:v1`;
  await service.load(inPieces(ociArchive([{ name, image }])));
  await service.push(name, options());
  const sent = proxy.requests.filter((r) => r.method === "PATCH").map((r) => r.headers["content-range"]);
  t.is(sent[0], "0-65535");
  t.is(sent[2], sent[3], "the same chunk again, not all of it");
  t.is(sent.length, 6, sent.join(" "));
  t.is((await (await openService(t)).pull(`${registry.host}/app:v1`, options())).id, image.configDigest);
});

test("an upload whose place is lost starts over; a registry that stays broken is given up on", async (t) => {
  const registry = await startRegistry(t);
  let fail: "once" | "always" | "never" = "once";
  const proxy = await startProxy(t, registry.origin, (request) => {
    if (request.method === "PUT" && request.path.includes("/blobs/uploads/") && fail !== "never") {
      if (fail === "once") fail = "never";
      return { status: 500, refuse: true };
    }
    return request.method === "GET" && request.path.includes("/blobs/uploads/") ? { status: 404, refuse: true } : undefined;
  });
  const service = await openService(t);
  const name = `${proxy.host}/app:v1`;
  await service.load(inPieces(ociArchive([{ name, image: await testImage({ layers: [[{ path: "a", content: "x" }]] }) }])));
  await service.push(name, options());
  fail = "always";
  await service.tag(name, `${proxy.host}/other:v1`);
  const second = await openService(t);
  await second.load(inPieces(ociArchive([{ name: `${proxy.host}/fresh:v1`, image: await testImage({ layers: [[{ path: "b", content: "y" }]] }) }])));
  await fails(t, second.push(`${proxy.host}/fresh:v1`, options()), "ServiceUnavailable", /fresh:v1.*500/);
});

test("TLS and credentials: pushed with them, refused without, and said how to get them", async (t) => {
  const registry = await startRegistry(t, { basicAuth: true, tls: true });
  const service = await openService(t, { registries: { [registry.host]: { http: false, caPem: registry.caPem } } });
  const name = `${registry.host}/private/app:v1`;
  await service.load(inPieces(ociArchive([{ name, image: await testImage({ layers: [[{ path: "a", content: "x" }]] }) }])));
  await fails(t, service.push(name, options()), "Unauthorized", /pushing to repository private\/app.*gantry login/);
  const credential = { registry: registry.host, username: TEST_USER, password: TEST_PASSWORD, identityToken: "" };
  await fails(t, service.push(name, { signal, credentials: [{ ...credential, password: "wrong" }] }), "Unauthorized", /to user "gantry"/);
  await service.push(name, { signal, credentials: [credential] });
  t.is((await service.pull(name, { signal, credentials: [credential] })).names.length, 1);
});

test("an insecure registry is reached whether or not it speaks TLS", async (t) => {
  for (const tls of [true, false]) {
    const registry = await startRegistry(t, { tls });
    const service = await openService(t, { registries: { [registry.host]: { insecure: true } } });
    const name = `${registry.host}/app:v1`;
    await service.load(inPieces(ociArchive([{ name, image: await testImage({ layers: [[{ path: "a", content: "x" }]] }) }])));
    await service.push(name, options());
    t.is((await service.pull(name, options())).names.length, 1, `tls ${String(tls)}`);
  }
});

test("what can't be pushed says why", async (t) => {
  const service = await openService(t);
  await fails(t, service.push("nowhere:v1", options()), "NotFound", /docker\.io\/library\/nowhere:v1 is not on this node.*gantry tag/);
  await fails(t, service.push(`app@sha256:${"0".repeat(64)}`, options()), "Invalid", /by its tag/);
  await fails(t, service.tag("nowhere", "x"), "NotFound", /nowhere/);
});

test("a saved archive is read by skopeo in both formats, by buildah, and by us", async (t) => {
  const service = await openService(t);
  const image = await testImage({ layers: [[{ path: "a", content: "lower" }], [{ path: "b", content: "upper" }]] });
  await service.load(inPieces(ociArchive([{ name: "saved:v1", image }])));
  await service.tag("saved:v1", "localhost/other:v2");
  const dir = await directory(t);
  const file = join(dir, "saved.tar");
  await pipeline(service.save(["saved:v1", "localhost/other:v2"]), createWriteStream(file));
  for (const source of [`docker-archive:${file}:saved:v1`, `oci-archive:${file}:v1`]) {
    const { stdout } = await run("skopeo", ["inspect", "--config", source]);
    t.deepEqual((JSON.parse(stdout) as { rootfs: { diff_ids: string[] } }).rootfs.diff_ids, [...image.diffIds], source);
  }
  const again = await openService(t);
  t.deepEqual([...(await again.load(inPieces(await readFile(file))))].sort(), ["docker.io/library/saved:v1", "localhost/other:v2"]);
  t.is(again.resolve("saved:v1")?.manifestDigest, image.manifestDigest);
  await fails(t, (async () => {
    for await (const _ of service.save(["absent"])) t.fail();
  })(), "NotFound", /absent/);
});

test("images go both ways between buildah and us, through a registry", async (t) => {
  const registry = await startRegistry(t);
  const dir = await directory(t);
  await writeFile(join(dir, "hello"), "from buildah\n");
  const storage = ["--root", join(dir, "root"), "--runroot", join(dir, "run"), "--storage-driver", "vfs"];
  const buildah = async (...args: readonly string[]): Promise<string> => (await run("buildah", [...storage, ...args])).stdout.trim();
  const container = await buildah("from", "scratch");
  await buildah("copy", container, join(dir, "hello"), "/hello");
  await buildah("config", "--cmd", "/hello", container);
  for (const format of ["oci", "docker"]) {
    await buildah("commit", "--format", format, container, `ours/${format}`);
    await buildah("push", "--tls-verify=false", `ours/${format}`, `docker://${registry.host}/ours/${format}:v1`);
    const service = await openService(t);
    const pulled = await service.pull(`${registry.host}/ours/${format}:v1`, options());
    t.is(await readFile(join(pulled.layerDirs[0]!, "hello"), "utf8"), "from buildah\n", format);
    t.deepEqual(pulled.config.cmd, ["/hello"], format);
    await service.tag(pulled.id, `${registry.host}/back/${format}:v1`);
    await service.push(`${registry.host}/back/${format}:v1`, options());
    const id = await buildah("pull", "--tls-verify=false", `docker://${registry.host}/back/${format}:v1`);
    t.is(id, hexOf(pulled.id as `sha256:${string}`), format);
  }
});
