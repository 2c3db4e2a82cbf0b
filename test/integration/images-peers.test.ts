// Several nodes' image services that give each other blobs, over real TLS with certificates of one CA, before a registry whose requests are counted.
import { mkdtemp, rm } from "node:fs/promises";
import https from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { SystemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/logger.ts";
import { Metrics } from "../../base/metrics.ts";
import { createAuthority, issue, type Authority } from "../../base/tls/authority.ts";
import { nodeCommonName } from "../../base/tls/node-identity.ts";
import { hexOf } from "../../node-agent/images/digest.ts";
import { ociArchive } from "../../node-agent/images/image-builder.ts";
import { LinuxImageService } from "../../node-agent/images/linux-image-service.ts";
import { createPeerServer, type PeerCredentials, type PeerServer } from "../../node-agent/peers/peer-server.ts";
import { Peers } from "../../node-agent/peers/peers.ts";
import { inPieces, testImage } from "../helpers/images.ts";
import { pushImage, startProxy, startRegistry, TEST_PASSWORD, TEST_USER } from "../helpers/registry.ts";

const clock = new SystemClock();
const signal = new AbortController().signal;
const options = () => ({ credentials: [], signal });

interface TestNode {
  readonly name: string;
  readonly images: LinuxImageService;
  readonly peers: Peers;
  readonly server: PeerServer;
}

const certificate = async (authority: Authority, commonName: string, organizations: readonly string[]): Promise<PeerCredentials> => {
  const pair = await issue(authority, { commonName, organizations, usage: "both", validForMs: 3_600_000, clock });
  return { caPem: authority.certificatePem, certificatePem: pair.certificatePem, privateKeyPem: pair.privateKeyPem };
};

const startNodes = async (t: ExecutionContext, count: number): Promise<{ readonly nodes: readonly TestNode[]; readonly authority: Authority }> => {
  const authority = await createAuthority("test cluster", clock);
  const nodes = await Promise.all(Array.from({ length: count }, async (_, i): Promise<TestNode> => {
    const name = `node-${i + 1}`;
    const credentials = await certificate(authority, nodeCommonName(name), ["system:nodes"]);
    const root = await mkdtemp(join(tmpdir(), "gantry-peers-"));
    const peers: Peers = new Peers({ nodeName: name, credentials: () => credentials, hasBlob: (digest) => images.hasBlob(digest), clock, logger: silentLogger, metrics: new Metrics() });
    const images: LinuxImageService = await LinuxImageService.open({ root, clock, random: () => 0, logger: silentLogger, metrics: new Metrics(), peers });
    const server = createPeerServer({ credentials, blobs: images, sourceFor: (...args) => peers.sourceFor(...args), logger: silentLogger, metrics: new Metrics() });
    await server.listen("127.0.0.1", 0);
    t.teardown(async () => {
      images.close();
      peers[Symbol.dispose]();
      await server.close();
      await rm(root, { recursive: true, force: true });
    });
    return { name, images, peers, server };
  }));
  const all = nodes.map(({ name, server }) => ({ nodeName: name, address: "127.0.0.1", port: server.port }));
  for (const { peers } of nodes) peers.setPeers(all);
  return { nodes, authority };
};

const bulk = (bytes: number, seed: number): Buffer => {
  const buffer = Buffer.alloc(bytes);
  for (let i = 0, x = seed; i < bytes; i++) {
    x = (Math.imul(x, 1103515245) + 12345) >>> 0;
    buffer[i] = x >>> 24;
  }
  return buffer;
};

const severalLayers = () => testImage({ layers: [1, 2, 3, 4].map((seed) => [{ path: `f${seed}`, content: bulk(500_000, seed) }]) });

test("a hundred pulls on five nodes cost the registry one download of each blob", async (t) => {
  const registry = await startRegistry(t);
  const image = await severalLayers();
  await pushImage(registry.origin, "team/app", "v1", image);
  const proxy = await startProxy(t, registry.origin, () => undefined);
  const { nodes } = await startNodes(t, 5);
  const pulls = Array.from({ length: 100 }, (_, i) => nodes[i % 5]!.images.pull(`${proxy.host}/team/app:v1`, options()));
  for (const pulled of await Promise.all(pulls)) t.is(pulled.id, image.configDigest);
  for (const digest of image.blobs.keys()) if (digest !== image.manifestDigest) t.is(proxy.blobRequests(hexOf(digest)).length, 1, digest);
});

test("a node that comes later gets everything from the others, also what was loaded there and was in no registry", async (t) => {
  const { nodes } = await startNodes(t, 3);
  const image = await severalLayers();
  await nodes[0]!.images.load(inPieces(ociArchive([{ name: "loaded:v1", image }])));
  const held = nodes[0]!.images.resolve("loaded:v1")!;
  for (const node of nodes.slice(1)) {
    const received = await node.images.receive({ names: ["loaded:v1"], manifestDigest: image.manifestDigest, manifestBytes: held.manifestBytes, mediaType: held.mediaType, node: "node-1" }, { signal });
    t.is(received.id, image.configDigest);
    t.deepEqual(received.names, ["docker.io/library/loaded:v1"]);
  }
  const registry = await startRegistry(t);
  await pushImage(registry.origin, "loaded", "v1", image);
  const proxy = await startProxy(t, registry.origin, () => undefined);
  const { nodes: [stranger] } = await startNodes(t, 1);
  t.truthy(await stranger!.images.pull(`${proxy.host}/loaded:v1`, options()));
  t.true(proxy.requests.some((r) => r.path.includes("/blobs/")), "alone it asks the registry");
});

test("an image that was made in the cluster comes by its name to a node that was not there; what a registry gave is not told by name", async (t) => {
  const registry = await startRegistry(t);
  let isShut = false;
  const proxy = await startProxy(t, registry.origin, () => (isShut ? { refuse: true, status: 403 } : undefined));
  const [made, pulled] = [await severalLayers(), await testImage({ layers: [[{ path: "other", content: bulk(1000, 9) }]] })];
  await pushImage(registry.origin, "team/app", "v1", pulled);
  const { nodes } = await startNodes(t, 3);
  const [a, b, c] = nodes as [TestNode, TestNode, TestNode];
  await a.images.load(inPieces(ociArchive([{ name: `${proxy.host}/made:v1`, image: made }])));
  await a.images.pull(`${proxy.host}/team/app:v1`, options());
  const wanted = { ...options(), orFromCluster: true };
  t.is((await b.images.pull(`${proxy.host}/made:v1`, wanted)).id, made.configDigest, "the registry has no such image");
  t.is(a.images.findMade(`${proxy.host}/team/app:v1`), undefined);
  await t.throwsAsync(c.images.pull(`${proxy.host}/made:v1`, options()), { code: "NotFound" }, "who asks for the registry's gets the registry's");
  await t.throwsAsync(c.images.pull(`${proxy.host}/none:v1`, wanted), { code: "NotFound" });
  isShut = true;
  await t.throwsAsync(c.images.pull(`${proxy.host}/team/app:v1`, wanted), { message: /team\/app/ });
  // A node that has it from another one gives it like the one that made it.
  await a.server.close();
  t.is((await c.images.pull(`${proxy.host}/made:v1`, wanted)).id, made.configDigest);
  // Named anew here, it is the cluster's.
  await a.images.tag(`${proxy.host}/team/app:v1`, "ours:v1");
  t.is(a.images.findMade("docker.io/library/ours:v1")?.digest, pulled.manifestDigest);
});

test("peers that are gone, cut off in the midst, or lie cost another way, not the pull", async (t) => {
  const registry = await startRegistry(t);
  const image = await severalLayers();
  await pushImage(registry.origin, "app", "v1", image);
  const { nodes, authority } = await startNodes(t, 3);
  const [a, b, c] = nodes as [TestNode, TestNode, TestNode];
  await a.images.pull(`${registry.host}/app:v1`, options());
  // A node of the cluster, by its certificate, that says it has everything and sends rubbish, or breaks off.
  const credentials = await certificate(authority, nodeCommonName("node-9"), ["system:nodes"]);
  let lies = 0;
  const liar = createPeerServer({
    credentials, logger: silentLogger, metrics: new Metrics(), sourceFor: async () => "node-9",
    blobs: {
      hasBlob: () => true, findMade: () => undefined,
      readBlob: (digest, start) => {
        const sizeBytes = image.blobs.get(digest)?.length ?? 1;
        lies++;
        return { sizeBytes, bytes: (async function* () {
          yield Buffer.alloc(Math.max(0, (lies % 2 === 0 ? sizeBytes : Math.floor(sizeBytes / 2)) - start), 7);
          if (lies % 2 === 1) throw new Error("broken");
        })() };
      },
    },
  });
  await liar.listen("127.0.0.1", 0);
  t.teardown(() => liar.close());
  await c.server.close();
  b.peers.setPeers([
    { nodeName: "node-1", address: "127.0.0.1", port: a.server.port }, { nodeName: "node-3", address: "127.0.0.1", port: 1 }, { nodeName: "node-9", address: "127.0.0.1", port: liar.port },
  ]);
  t.is((await b.images.pull(`${registry.host}/app:v1`, options())).id, image.configDigest);
  t.true(lies > 0, "it was asked");
});

test("only nodes of the cluster are let in, and only to blobs", async (t) => {
  const { nodes: [node], authority } = await startNodes(t, 1);
  const image = await severalLayers();
  await node!.images.load(inPieces(ociArchive([{ name: "secret:v1", image }])));
  const ask = (credentials: Partial<PeerCredentials>, path = `/v1/blobs/${image.configDigest}`): Promise<number | string> => new Promise((resolve) => {
    const request = https.get({
      host: "127.0.0.1", port: node!.server.port, path, rejectUnauthorized: false,
      ...(credentials.certificatePem === undefined ? {} : { cert: credentials.certificatePem, key: credentials.privateKeyPem }),
    }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    request.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
  const own = await certificate(authority, nodeCommonName("node-7"), ["system:nodes"]);
  t.is(await ask(own), 200);
  t.is(await ask(own, "/v1/blobs/..%2f..%2findex.json"), 404);
  t.is(await ask(own, `/v1/blobs/sha256:${"0".repeat(64)}`), 404);
  t.is(await ask(await certificate(authority, "kubernetes-admin", ["system:masters"])), 403, "an administrator's certificate is not a node's");
  t.is(await ask(await certificate(authority, nodeCommonName("node-8"), [])), 403, "a node's name alone does not make a node");
  for (const stranger of [{}, await certificate(await createAuthority("other", clock), nodeCommonName("node-1"), ["system:nodes"])]) t.is(typeof (await ask(stranger)), "string", "refused in the handshake");
});

test("a private image is not given to a pod without credentials, although a node next to it has the blobs", async (t) => {
  const registry = await startRegistry(t, { basicAuth: true });
  const { nodes: [a, b] } = await startNodes(t, 2);
  const image = await testImage({ layers: [[{ path: "a", content: "private" }]] });
  const name = `${registry.host}/private/app:v1`;
  const credential = { registry: registry.host, username: TEST_USER, password: TEST_PASSWORD, identityToken: "" };
  await a!.images.load(inPieces(ociArchive([{ name, image }])));
  await a!.images.push(name, { credentials: [credential], signal });
  await t.throwsAsync(b!.images.pull(name, options()), { message: /denies/ });
  t.is((await b!.images.pull(name, { credentials: [credential], signal })).id, image.configDigest);
});
