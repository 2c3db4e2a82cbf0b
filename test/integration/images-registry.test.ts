// Pulls against a real docker-registry, partly through a proxy that misbehaves.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { createReadStream } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import test, { type ExecutionContext } from "ava";
import { SystemClock } from "../../base/clock.ts";
import { isCode, type ErrorCode } from "../../base/errors.ts";
import { silentLogger } from "../../base/logger.ts";
import { Metrics } from "../../base/metrics.ts";
import { digestOf, hexOf } from "../../node-agent/images/digest.ts";
import { buildImage, ociArchive } from "../../node-agent/images/image-builder.ts";
import type { PullOptions } from "../../node-agent/images/image-service.ts";
import { LinuxImageService, type ImageServiceOptions } from "../../node-agent/images/linux-image-service.ts";
import { writeTar } from "../../node-agent/images/tar-writer.ts";
import { testImage, writeOciLayout } from "../helpers/images.ts";
import { pushImage, pushManifest, startProxy, startRegistry, TEST_PASSWORD, TEST_USER } from "../helpers/registry.ts";

const run = promisify(execFile);
const options = (credentials: PullOptions["credentials"] = []): PullOptions => ({ credentials, signal: new AbortController().signal });
const credential = (registry: string, password = TEST_PASSWORD, username = TEST_USER): PullOptions["credentials"][number] => ({ registry, username, password, identityToken: "" });

const directory = async (t: ExecutionContext): Promise<string> => {
  const path = await mkdtemp(join(tmpdir(), "gantry-images-"));
  t.teardown(() => rm(path, { recursive: true, force: true }));
  return path;
};

/** `random` 0 makes retries immediate. */
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

/** Large enough to arrive in several pieces; incompressible, so that bytes on the wire are what they seem. */
const bulk = (bytes: number, seed: number): Buffer => {
  const buffer = Buffer.alloc(bytes);
  let x = seed;
  for (let i = 0; i < bytes; i++) {
    x = (Math.imul(x, 1103515245) + 12345) >>> 0;
    buffer[i] = x >>> 24;
  }
  return buffer;
};

test("pulls by tag and by digest, unpacks, and finds the image by every name it has", async (t) => {
  const registry = await startRegistry(t);
  const image = await testImage({ layers: [[{ path: "a", content: "lower" }], [{ path: "b", content: "upper" }]] });
  await pushImage(registry.origin, "team/app", "v1", image);
  const service = await openService(t);
  const reference = `${registry.host}/team/app:v1`;
  t.is(service.resolve(reference), undefined);
  const progress: number[] = [];
  const pulled = await service.pull(reference, { ...options(), onProgress: ({ bytes, totalBytes }) => progress.push(bytes / totalBytes) });
  t.is(pulled.id, image.configDigest);
  t.is(pulled.manifestDigest, image.manifestDigest);
  t.deepEqual(pulled.names, [reference]);
  t.deepEqual(pulled.config.cmd, ["sleep", "86400"]);
  t.is(progress.at(-1), 1);
  t.deepEqual(await Promise.all(pulled.layerDirs.map((d, i) => readFile(join(d, i === 0 ? "a" : "b"), "utf8"))), ["lower", "upper"]);
  const byDigest = `${registry.host}/team/app@${image.manifestDigest}`;
  await service.pull(byDigest, options());
  for (const name of [reference, byDigest, image.configDigest, hexOf(image.configDigest), image.manifestDigest]) t.is(service.resolve(name)?.id, image.configDigest, name);
});

test("a pull of what is here asks only for the manifest; a moved tag brings the new image", async (t) => {
  const registry = await startRegistry(t);
  const [one, two] = [await testImage({ layers: [[{ path: "a", content: "1" }]] }), await testImage({ layers: [[{ path: "a", content: "2" }]] })];
  await pushImage(registry.origin, "app", "latest", one);
  const proxy = await startProxy(t, registry.origin, () => undefined);
  const service = await openService(t);
  const reference = `${proxy.host}/app`;
  await service.pull(reference, options());
  const before = proxy.requests.length;
  await service.pull(reference, options());
  t.is(proxy.requests.length, before + 1);
  await pushImage(registry.origin, "app", "latest", two);
  t.is((await service.pull(reference, options())).id, two.configDigest);
  t.is(service.resolve(reference)?.id, two.configDigest);
  t.deepEqual(service.resolve(one.configDigest)?.names, []);
});

test("a hundred pulls at once download each blob once", async (t) => {
  const registry = await startRegistry(t);
  const image = await testImage({ layers: [[{ path: "a", content: bulk(300_000, 7) }]] });
  await pushImage(registry.origin, "app", "a", image);
  await pushImage(registry.origin, "other", "b", image);
  const proxy = await startProxy(t, registry.origin, () => undefined);
  const service = await openService(t);
  const pulls = Array.from({ length: 100 }, (_, i) => service.pull(`${proxy.host}/${i % 2 === 0 ? "app:a" : "other:b"}`, options()));
  for (const pulled of await Promise.all(pulls)) t.is(pulled.id, image.configDigest);
  t.is(proxy.blobRequests(hexOf(digestOf(image.layers[0]!))).length, 1);
});

test("a caller that gives up does not take the download from the others", async (t) => {
  const registry = await startRegistry(t);
  const image = await testImage({ layers: [[{ path: "a", content: bulk(400_000, 9) }]] });
  await pushImage(registry.origin, "app", "v1", image);
  const service = await openService(t);
  const abort = new AbortController();
  const first = service.pull(`${registry.host}/app:v1`, { credentials: [], signal: abort.signal });
  const second = service.pull(`${registry.host}/app:v1`, options());
  abort.abort();
  await fails(t, first, "Cancelled", /cancelled/);
  t.is((await second).id, image.configDigest);
});

test("takes this node's platform out of an index, and says what there is when there is none", async (t) => {
  const registry = await startRegistry(t);
  const platforms = [{ architecture: "s390x" }, { architecture: "arm64", variant: "v8" }, { architecture: "amd64" }, { architecture: "amd64", variant: "v4" }];
  const built = await Promise.all(platforms.map((p, i) => testImage({ architecture: p.architecture, layers: [[{ path: "which", content: String(i) }]] })));
  for (const image of built) await pushImage(registry.origin, "multi", image.manifestDigest, image);
  const index = (from: number, to: number): Buffer => Buffer.from(JSON.stringify({
    schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json",
    manifests: built.slice(from, to).map((image, i) => ({
      mediaType: "application/vnd.oci.image.manifest.v1+json", digest: image.manifestDigest, size: image.manifest.length, platform: { os: "linux", ...platforms[from + i] },
    })),
  }));
  await pushManifest(registry.origin, "multi", "all", index(0, 4), "application/vnd.oci.image.index.v1+json");
  await pushManifest(registry.origin, "multi", "foreign", index(0, 1), "application/vnd.oci.image.index.v1+json");
  const which = async (platform: { architecture: string; variant: string }): Promise<string> => {
    const service = await openService(t, { platform: { os: "linux", ...platform } });
    return readFile(join((await service.pull(`${registry.host}/multi:all`, options())).layerDirs[0]!, "which"), "utf8");
  };
  t.is(await which({ architecture: "amd64", variant: "v3" }), "2");
  t.is(await which({ architecture: "amd64", variant: "v4" }), "3");
  t.is(await which({ architecture: "arm64", variant: "v8" }), "1");
  const service = await openService(t, { platform: { os: "linux", architecture: "amd64", variant: "v1" } });
  await fails(t, service.pull(`${registry.host}/multi:foreign`, options()), "NotFound", /multi:foreign has no image for linux\/amd64\/v1.*linux\/s390x/);
});

test("an index can be pulled by its own digest and found by it again", async (t) => {
  const registry = await startRegistry(t);
  const image = await testImage({ layers: [[{ path: "a", content: "x" }]] });
  await pushImage(registry.origin, "app", "v1", image);
  const bytes = Buffer.from(JSON.stringify({
    schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json",
    manifests: [{ mediaType: "application/vnd.oci.image.manifest.v1+json", digest: image.manifestDigest, size: image.manifest.length, platform: { os: "linux", architecture: process.arch === "x64" ? "amd64" : process.arch } }],
  }));
  await pushManifest(registry.origin, "app", "index", bytes, "application/vnd.oci.image.index.v1+json");
  const service = await openService(t);
  const reference = `${registry.host}/app@${digestOf(bytes)}`;
  await service.pull(reference, options());
  t.is(service.resolve(reference)?.id, image.configDigest);
});

test("basic authentication: right, wrong and missing credentials", async (t) => {
  const registry = await startRegistry(t, { basicAuth: true });
  const image = await testImage({ layers: [[{ path: "a", content: "x" }]] });
  const archive = join(await directory(t), "image.tar");
  await writeFile(archive, ociArchive([{ name: "app:v1", image }]));
  await run("skopeo", ["copy", "--dest-tls-verify=false", "--dest-creds", `${TEST_USER}:${TEST_PASSWORD}`, `oci-archive:${archive}:app:v1`, `docker://${registry.host}/private/app:v1`]);
  const reference = `${registry.host}/private/app:v1`;
  const service = await openService(t);
  await fails(t, service.pull(reference, options()), "Unauthorized", /private\/app:v1.*denies.*imagePullSecret/);
  await fails(t, service.pull(reference, options([credential(registry.host, "wrong")])), "Unauthorized", /denies.*"gantry".*password/);
  await fails(t, service.pull(reference, options([credential("elsewhere.example")])), "Unauthorized", /without credentials/);
  t.is((await service.pull(reference, options([credential(registry.host, "wrong"), credential(`${registry.host}/private`)]))).id, image.configDigest);
});

test("TLS: a registry of an unknown CA is refused with what to do, and accepted with its CA", async (t) => {
  const registry = await startRegistry(t, { tls: true });
  const unknown = await openService(t, { registries: { [registry.host]: { http: false } } });
  await fails(t, unknown.pull(`${registry.host}/app:v1`, options()), "ServiceUnavailable", /certificate is not trusted.*caPem/);
  const known = await openService(t, { registries: { [registry.host]: { http: false, caPem: registry.caPem } } });
  await fails(t, known.pull(`${registry.host}/app:v1`, options()), "NotFound", /no tag "v1" in repository app/);
  const careless = await openService(t, { registries: { [registry.host]: { http: false, skipTlsVerify: true } } });
  await fails(t, careless.pull(`${registry.host}/app:v1`, options()), "NotFound", /no tag "v1"/);
  const plain = await openService(t);
  await fails(t, plain.pull(`${registry.host}/app:v1`, options()), "ServiceUnavailable", /answered 400.*TLS/);
});

test("bearer tokens: asked for with the credentials, used again, renewed when they end", async (t) => {
  const registry = await startRegistry(t);
  const image = await testImage({ layers: [[{ path: "a", content: "x" }]] });
  await pushImage(registry.origin, "app", "v1", image);
  let valid = "";
  let tokens = 0;
  const proxy = await startProxy(t, registry.origin, ({ path, headers }) => {
    if (path.startsWith("/token")) {
      if (headers.authorization !== `Basic ${Buffer.from(`${TEST_USER}:${TEST_PASSWORD}`).toString("base64")}`) return { status: 401, body: () => Buffer.from("{}") };
      valid = `t${++tokens}`;
      return { status: 200, body: () => Buffer.from(JSON.stringify({ token: valid, expires_in: 300, path })) };
    }
    if (headers.authorization === `Bearer ${valid}`) return undefined;
    return { status: 401, headers: { "www-authenticate": `Bearer realm="http://${proxy.host}/token",service="reg",scope="repository:app:pull"` } };
  });
  const service = await openService(t);
  await fails(t, service.pull(`${proxy.host}/app:v1`, options()), "Unauthorized", /token service.*401.*anonymous/);
  t.is((await service.pull(`${proxy.host}/app:v1`, options([credential(proxy.host)]))).id, image.configDigest);
  t.is(tokens, 1);
  t.true(proxy.requests.some((r) => r.path === "/token?service=reg&scope=repository%3Aapp%3Apull"));
  valid = "revoked";
  await service.pull(`${proxy.host}/app:v1`, options([credential(proxy.host)]));
  t.is(tokens, 2);
});

test("a redirect to another host does not carry the authorization along", async (t) => {
  const registry = await startRegistry(t);
  const image = await testImage({ layers: [[{ path: "a", content: "x" }]] });
  await pushImage(registry.origin, "app", "v1", image);
  const storage = await startProxy(t, registry.origin, () => undefined);
  const proxy = await startProxy(t, registry.origin, ({ path, headers }) => {
    if (headers.authorization === undefined) return { status: 401, headers: { "www-authenticate": "Basic realm=x" } };
    return path.includes("/blobs/") ? { status: 307, headers: { location: `http://${storage.host}${path}` } } : undefined;
  });
  const service = await openService(t);
  t.is((await service.pull(`${proxy.host}/app:v1`, options([credential(proxy.host)]))).id, image.configDigest);
  t.is(storage.requests.length, 2);
  for (const request of storage.requests) t.is(request.headers.authorization, undefined);
});

test("a download that is cut goes on where it was cut", async (t) => {
  const registry = await startRegistry(t);
  const image = await testImage({ layers: [[{ path: "a", content: bulk(500_000, 3) }]], compression: "none" });
  await pushImage(registry.origin, "app", "v1", image);
  const hex = hexOf(digestOf(image.layers[0]!));
  const proxy = await startProxy(t, registry.origin, ({ path }, nth) => (path.includes(hex) && nth <= 2 ? { cutAfterBytes: 200_000 } : undefined));
  const service = await openService(t);
  t.is((await service.pull(`${proxy.host}/app:v1`, options())).id, image.configDigest);
  const ranges = proxy.blobRequests(hex).map((r) => Number(/bytes=(\d+)-/.exec(r.headers.range ?? "bytes=0-")?.[1]));
  t.is(ranges.length, 3);
  t.true(ranges[0] === 0 && ranges[1]! > 0 && ranges[2]! > ranges[1]!, String(ranges));
});

test("what an earlier process downloaded is not downloaded again", async (t) => {
  const registry = await startRegistry(t);
  const image = await testImage({ layers: [[{ path: "a", content: bulk(500_000, 5) }]], compression: "none" });
  await pushImage(registry.origin, "app", "v1", image);
  const hex = hexOf(digestOf(image.layers[0]!));
  let broken = true;
  const proxy = await startProxy(t, registry.origin, ({ path }, nth) => (broken && path.includes(hex) ? (nth === 1 ? { cutAfterBytes: 300_000 } : { status: 404 }) : undefined));
  const root = await directory(t);
  const first = await openService(t, { root });
  await fails(t, first.pull(`${proxy.host}/app:v1`, options()), "NotFound", /no blob/);
  first.close();
  broken = false;
  const second = await openService(t, { root });
  t.is((await second.pull(`${proxy.host}/app:v1`, options())).id, image.configDigest);
  t.regex(proxy.blobRequests(hex).at(-1)?.headers.range ?? "", /^bytes=[1-9]\d+-$/);
});

test("a registry that ignores ranges, or a damaged part on disk, makes a download start over", async (t) => {
  const registry = await startRegistry(t);
  const image = await testImage({ layers: [[{ path: "a", content: bulk(300_000, 11) }]], compression: "none" });
  await pushImage(registry.origin, "app", "v1", image);
  const layer = image.layers[0]!;
  const proxy = await startProxy(t, registry.origin, ({ path }, nth) => {
    if (!path.includes(hexOf(digestOf(layer)))) return undefined;
    if (nth === 1) return { cutAfterBytes: 100_000, body: (b) => Buffer.concat([Buffer.from("damaged"), b.subarray(7)]) };
    return nth === 2 ? { status: 200, body: () => layer, headers: { "content-range": "" } } : undefined;
  });
  const service = await openService(t);
  t.is((await service.pull(`${proxy.host}/app:v1`, options())).id, image.configDigest);
  t.is(proxy.blobRequests(hexOf(digestOf(layer))).length, 2);
});

for (const [what, tamper] of Object.entries({
  "a layer": (image: { layers: readonly Buffer[] }) => hexOf(digestOf(image.layers[0]!)),
  "the config": (image: { config: Buffer }) => hexOf(digestOf(image.config)),
})) {
  test(`${what} with the wrong content is refused and leaves nothing in the store`, async (t) => {
    const registry = await startRegistry(t);
    const image = await testImage({ layers: [[{ path: "a", content: "right" }]], compression: "none" });
    await pushImage(registry.origin, "app", "v1", image);
    const proxy = await startProxy(t, registry.origin, ({ path }) => (path.includes(tamper(image)) ? { body: (b) => Buffer.from(b.map((x, i) => (i === 40 ? x ^ 1 : x))) } : undefined));
    const root = await directory(t);
    const service = await openService(t, { root });
    await fails(t, service.pull(`${proxy.host}/app:v1`, options()), "Invalid", /app:v1, blob sha256:.*tampered/);
    t.is(service.resolve(`${proxy.host}/app:v1`), undefined);
    t.false((await readdir(join(root, "blobs/sha256"))).includes(tamper(image)));
    t.deepEqual(await readdir(join(root, "layers")), []);
  });
}

test("a manifest that is not what was asked for is refused", async (t) => {
  const registry = await startRegistry(t);
  const image = await testImage({ layers: [[{ path: "a", content: "x" }]] });
  await pushImage(registry.origin, "app", "v1", image);
  const proxy = await startProxy(t, registry.origin, ({ path }) => (path.includes("/manifests/") ? { body: (b) => Buffer.concat([b, Buffer.from(" ")]) } : undefined));
  const service = await openService(t);
  await fails(t, service.pull(`${proxy.host}/app@${image.manifestDigest}`, options()), "Invalid", /tampered/);
  await fails(t, service.pull(`${proxy.host}/app:v1`, options()), "Invalid", /tampered/);
});

test("a layer longer than announced is refused at once", async (t) => {
  const registry = await startRegistry(t);
  const image = await testImage({ layers: [[{ path: "a", content: "x" }]] });
  await pushImage(registry.origin, "app", "v1", image);
  const proxy = await startProxy(t, registry.origin, ({ path }) => (path.includes(hexOf(digestOf(image.layers[0]!))) ? { body: (b) => Buffer.concat([b, Buffer.alloc(1_000_000)]) } : undefined));
  const service = await openService(t);
  await fails(t, service.pull(`${proxy.host}/app:v1`, options()), "Invalid", /more than the announced/);
});

test("no such tag, no such repository, registry down: each says which registry and what to do", async (t) => {
  const registry = await startRegistry(t);
  const service = await openService(t);
  await fails(t, service.pull(`${registry.host}/nowhere:v1`, options()), "NotFound", new RegExp(`${registry.host}/nowhere:v1: registry http://${registry.host} has no tag "v1" in repository nowhere`));
  await registry.stop();
  await fails(t, service.pull(`${registry.host}/nowhere:v1`, options()), "ServiceUnavailable", new RegExp(`nowhere:v1: cannot reach registry http://${registry.host}: nothing listens`));
  await fails(t, service.pull("registry.invalid/app", options()), "ServiceUnavailable", /registry\.invalid\/app:latest: cannot reach.*name cannot be resolved/);
  await fails(t, service.pull("Not A Name", options()), "Invalid", /white space/);
});

test("a registry that fails for a moment is asked again; one that says nothing is given up on", async (t) => {
  const registry = await startRegistry(t);
  const image = await testImage({ layers: [[{ path: "a", content: "x" }]] });
  await pushImage(registry.origin, "app", "v1", image);
  const flaky = await startProxy(t, registry.origin, (_, nth) => (nth <= 2 ? { status: nth === 1 ? 503 : 429, body: () => Buffer.from("{}") } : undefined));
  const service = await openService(t);
  t.is((await service.pull(`${flaky.host}/app:v1`, options())).id, image.configDigest);
  const silent = await startProxy(t, registry.origin, () => ({ silent: true }));
  const impatient = await openService(t, { idleTimeoutMs: 30 });
  await fails(t, impatient.pull(`${silent.host}/app:v1`, options()), "ServiceUnavailable", /sent nothing for 0.03 s/);
  // Takes connections, and that is all: the TLS handshake never ends.
  const hung = createServer().listen(0, "127.0.0.1");
  t.teardown(() => void hung.close());
  await once(hung, "listening");
  await fails(t, impatient.pull(`0.0.0.0:${(hung.address() as AddressInfo).port}/app:v1`, options()), "ServiceUnavailable", /cannot reach registry https:.*: no connection within 0\.03 s; check its name and port/);
});

test("mirrors are asked first, and the registry itself when they fail", async (t) => {
  const [upstream, mirrorTarget] = [await startRegistry(t), await startRegistry(t)];
  const image = await testImage({ layers: [[{ path: "a", content: "x" }]] });
  await pushImage(upstream.origin, "app", "v1", image);
  await pushImage(mirrorTarget.origin, "cache/app", "v1", image);
  const [direct, mirror] = [await startProxy(t, upstream.origin, () => undefined), await startProxy(t, mirrorTarget.origin, () => undefined)];
  const registries = { [direct.host]: { mirrors: [`${mirror.host}/cache`] } };
  await (await openService(t, { registries })).pull(`${direct.host}/app:v1`, options());
  t.is(direct.requests.length, 0);
  await mirror.close();
  await (await openService(t, { registries })).pull(`${direct.host}/app:v1`, options());
  t.true(direct.requests.length > 0);
});

test("images that skopeo pushes in Docker's format are understood, and the store is a layout that skopeo reads", async (t) => {
  const registry = await startRegistry(t);
  const work = await directory(t);
  const image = await testImage();
  await writeOciLayout(join(work, "layout"), [{ name: "busybox", image }]);
  await run("skopeo", ["copy", "--format=v2s2", "--dest-tls-verify=false", `oci:${work}/layout:busybox`, `docker://${registry.host}/busybox:docker`]);
  const root = join(work, "store");
  const service = await openService(t, { root });
  const pulled = await service.pull(`${registry.host}/busybox:docker`, options());
  t.is((await readFile(join(pulled.layerDirs[0]!, "etc/passwd"), "utf8")).split(":")[0], "root");
  // (skopeo's oci: transport passes over manifests in Docker's format.)
  await pushImage(registry.origin, "busybox", "oci", image);
  await service.pull(`${registry.host}/busybox:oci`, options());
  await run("skopeo", ["copy", `oci:${root}:${registry.host}/busybox:oci`, `oci-archive:${work}/out.tar:copy:v1`]);
  t.deepEqual(await (await openService(t)).load(createReadStream(join(work, "out.tar"))), ["docker.io/library/copy:v1"]);
});

test("an artifact that is no image, and a manifest of a dead format, are named as such", async (t) => {
  const registry = await startRegistry(t);
  const image = buildImage({ architecture: "amd64", layers: [writeTar([])] });
  await pushImage(registry.origin, "app", "v1", image);
  const proxy = await startProxy(t, registry.origin, ({ path }) => {
    const manifest = JSON.parse(image.manifest.toString()) as { config: { mediaType: string } };
    const bytes = path.endsWith("/old") ? Buffer.from(JSON.stringify({ schemaVersion: 1 })) : Buffer.from(JSON.stringify({ ...manifest, config: { ...manifest.config, mediaType: "application/vnd.cncf.helm.config.v1+json" } }));
    return { status: 200, body: () => bytes, headers: { "docker-content-digest": digestOf(bytes) } };
  });
  const service = await openService(t);
  await fails(t, service.pull(`${proxy.host}/app:chart`, options()), "UnsupportedMediaType", /helm.*container image is needed/);
  await fails(t, service.pull(`${proxy.host}/app:old`, options()), "UnsupportedMediaType", /schema 1/);
});

test("a proxy from the environment is used, but not for what NO_PROXY names", async (t) => {
  const registry = await startRegistry(t);
  const image = await testImage({ layers: [[{ path: "a", content: "x" }]] });
  await pushImage(registry.origin, "app", "v1", image);
  // What a proxy gets has the whole URL where other servers get a path.
  const proxied: string[] = [];
  const proxy = http.createServer((request, response) => {
    proxied.push(request.url ?? "");
    const { pathname } = new URL(request.url ?? "");
    http.get(registry.origin + pathname, { headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(response);
    });
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  t.teardown(() => {
    proxy.closeAllConnections();
    proxy.close();
  });
  const env = { HTTP_PROXY: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`, NO_PROXY: registry.host };
  const service = await openService(t, { env, registries: { "registry.invalid": { http: true } } });
  t.is((await service.pull("registry.invalid/app:v1", options())).id, image.configDigest);
  t.is(proxied[0], "http://registry.invalid/v2/app/manifests/v1");
  const count = proxied.length;
  await service.pull(`${registry.host}/app:v1`, options());
  t.is(proxied.length, count);
});

test("a layer that was damaged on disk is fetched anew", async (t) => {
  const registry = await startRegistry(t);
  const image = await testImage({ layers: [[{ path: "a", content: "right" }]] });
  await pushImage(registry.origin, "app", "v1", image);
  const root = await directory(t);
  const first = await openService(t, { root });
  await first.pull(`${registry.host}/app:v1`, options());
  first.close();
  const blob = join(root, "blobs/sha256", hexOf(digestOf(image.layers[0]!)));
  await writeFile(blob, Buffer.from((await readFile(blob)).map((byte, i) => (i === 30 ? byte ^ 1 : byte))));
  await rm(join(root, "layers"), { recursive: true });
  const second = await openService(t, { root });
  t.is(second.resolve(`${registry.host}/app:v1`), undefined);
  const pulled = await second.pull(`${registry.host}/app:v1`, options());
  t.is(await readFile(join(pulled.layerDirs[0]!, "a"), "utf8"), "right");
});

test("a process killed at any moment of a pull leaves a store that verifies, and the next pull succeeds", async (t) => {
  const registry = await startRegistry(t);
  const image = await testImage({ layers: [1, 2, 3].map((seed) => [{ path: `f${seed}`, content: bulk(400_000, seed) }, ...Array.from({ length: 60 }, (_, i) => ({ path: `d${seed}/f${i}`, content: `${seed}.${i}` }))]) });
  await pushImage(registry.origin, "app", "v1", image);
  const work = await directory(t);
  const [root, script] = [join(work, "store"), join(work, "pull.ts")];
  const base = new URL("../../", import.meta.url).pathname;
  const reference = `${registry.host}/app:v1`;
  await writeFile(script, `
    import { LinuxImageService } from "${base}node-agent/images/linux-image-service.ts";
    import { SystemClock } from "${base}base/clock.ts";
    import { silentLogger } from "${base}base/logger.ts";
    import { Metrics } from "${base}base/metrics.ts";
    const service = await LinuxImageService.open({ root: "${root}", clock: new SystemClock(), random: Math.random, logger: silentLogger, metrics: new Metrics() });
    process.stdout.write("ready\\n");
    for (;;) { await service.pull("${reference}", { credentials: [], signal: new AbortController().signal }); await service.remove("${reference}"); await service.collectGarbage(new Set()); }
  `);
  // Seeded: the same moments in each run, as far as a clock can say so.
  let seed = 20260131;
  const random = (): number => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) / 2 ** 32;
  for (let round = 0; round < 8; round++) {
    const delayMs = Math.floor(random() * 150);
    const child = spawn(process.execPath, [script], { stdio: ["ignore", "pipe", "inherit"] });
    await once(child.stdout, "data");
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    child.kill("SIGKILL");
    await once(child, "exit");
    const service = await openService(t, { root });
    for (const hex of await readdir(join(root, "blobs/sha256"))) t.is(hexOf(digestOf(await readFile(join(root, "blobs/sha256", hex)))), hex, `round ${round}`);
    const pulled = await service.pull(reference, options());
    for (const [i, dir] of pulled.layerDirs.entries()) {
      t.deepEqual(await readFile(join(dir, `f${i + 1}`)), bulk(400_000, i + 1), `round ${round}`);
      t.is((await readdir(join(dir, `d${i + 1}`))).length, 60, `round ${round}`);
    }
    t.deepEqual(await readdir(join(root, "ingest")), []);
    service.close();
  }
});
