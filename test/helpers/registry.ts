// Debian's docker-registry on a loopback port of its own, and a proxy in front of it that cuts, tampers and counts.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { SystemClock } from "../../base/clock.ts";
import { createAuthority, issue } from "../../base/tls/authority.ts";
import type { BuiltImage } from "../../node-agent/images/image-builder.ts";

/** What a helper needs of ava's `t`. */
interface Teardown {
  teardown(fn: () => void | Promise<void>): void;
}

export interface TestRegistry {
  /** "127.0.0.1:PORT", as in image names. */
  readonly host: string;
  readonly origin: string;
  /** Of the CA that signed its certificate; "" without TLS. */
  readonly caPem: string;
  /** Ends it at once, as a crash would. */
  stop(): Promise<void>;
}

export const TEST_USER = "gantry";
export const TEST_PASSWORD = "s3cret-for-tests";
/** bcrypt of TEST_PASSWORD, cost 4: docker-registry takes no other hash. */
const HTPASSWD = `${TEST_USER}:$2b$04$abcdefghijklmnopqrstuunB1GY0OQltJ/RnralrWsObxSKZ7z0ES\n`;

export const startRegistry = async (t: Teardown, options: { readonly basicAuth?: boolean; readonly tls?: boolean; readonly everywhere?: boolean } = {}): Promise<TestRegistry> => {
  const directory = await mkdtemp(join(tmpdir(), "gantry-registry-"));
  const clock = new SystemClock();
  const authority = options.tls === true ? await createAuthority("test registry CA", clock) : undefined;
  const certificate = authority && await issue(authority, { commonName: "registry", ipAddresses: ["127.0.0.1"], usage: "server", validForMs: 3_600_000, clock });
  await writeFile(join(directory, "htpasswd"), HTPASSWD);
  if (certificate !== undefined) {
    await writeFile(join(directory, "tls.crt"), certificate.certificatePem);
    await writeFile(join(directory, "tls.key"), certificate.privateKeyPem);
  }
  // JSON is YAML, too.
  await writeFile(join(directory, "config.yml"), JSON.stringify({
    version: 0.1, log: { level: "info" },
    storage: { filesystem: { rootdirectory: join(directory, "data") }, delete: { enabled: true } },
    http: { addr: `${options.everywhere === true ? "0.0.0.0" : "127.0.0.1"}:0`, ...(certificate === undefined ? {} : { tls: { certificate: join(directory, "tls.crt"), key: join(directory, "tls.key") } }) },
    ...(options.basicAuth === true ? { auth: { htpasswd: { realm: "test", path: join(directory, "htpasswd") } } } : {}),
  }));
  const child = spawn("docker-registry", ["serve", join(directory, "config.yml")], { stdio: ["ignore", "ignore", "pipe"] });
  const exited = once(child, "exit");
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    await exited;
  };
  t.teardown(async () => {
    await stop();
    await rm(directory, { recursive: true, force: true });
  });
  const port = await new Promise<string>((resolve, reject) => {
    const lines: string[] = [];
    createInterface({ input: child.stderr }).on("line", (line) => {
      lines.push(line);
      const found = /listening on [^ ]*?:(\d+)/.exec(line)?.[1];
      if (found !== undefined) resolve(found);
    }).once("close", () => reject(new Error(`docker-registry ended: ${lines.join("\n")}`)));
    child.once("error", reject);
  });
  const host = `127.0.0.1:${port}`;
  return { host, origin: `${certificate === undefined ? "http" : "https"}://${host}`, caPem: authority?.certificatePem ?? "", stop };
};

/** Pushes exactly these bytes (skopeo might compress anew). `origin` is without TLS. */
export const pushImage = async (origin: string, repository: string, tag: string, image: BuiltImage): Promise<void> => {
  for (const [digest, bytes] of image.blobs) if (digest !== image.manifestDigest) await pushBlob(origin, repository, digest, bytes);
  await pushManifest(origin, repository, tag, image.manifest, "application/vnd.oci.image.manifest.v1+json");
};

const pushBlob = async (origin: string, repository: string, digest: string, bytes: Uint8Array): Promise<void> => {
  const started = await fetch(`${origin}/v2/${repository}/blobs/uploads/`, { method: "POST" });
  const location = new URL(started.headers.get("location") ?? "", origin);
  location.searchParams.set("digest", digest);
  const done = await fetch(location, { method: "PUT", body: Buffer.from(bytes), headers: { "content-type": "application/octet-stream" } });
  if (done.status !== 201) throw new Error(`push of ${digest}: ${done.status} ${await done.text()}`);
};

/** `reference` is a tag or a digest. */
export const pushManifest = async (origin: string, repository: string, reference: string, bytes: Uint8Array, mediaType: string): Promise<void> => {
  const done = await fetch(`${origin}/v2/${repository}/manifests/${reference}`, { method: "PUT", body: Buffer.from(bytes), headers: { "content-type": mediaType } });
  if (done.status !== 201) throw new Error(`push of manifest ${reference}: ${done.status} ${await done.text()}`);
};

export interface ProxiedRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: http.IncomingHttpHeaders;
}

/** What to do with one answer; what is absent passes as it is. */
export interface Interference {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: (original: Buffer) => Buffer;
  /** Sends only so many bytes of the body, then breaks the connection. */
  readonly cutAfterBytes?: number;
  /** Answers with `status` without asking the registry. */
  readonly refuse?: boolean;
  /** Answers nothing at all. */
  readonly silent?: boolean;
}

export interface RegistryProxy {
  readonly host: string;
  readonly requests: readonly ProxiedRequest[];
  readonly blobRequests: (hex: string) => readonly ProxiedRequest[];
  close(): Promise<void>;
}

/** `interfere` is asked about each request; undefined passes it on untouched. */
export const startProxy = async (t: Teardown, target: string, interfere: (request: ProxiedRequest, nth: number) => Interference | undefined, address = "127.0.0.1"): Promise<RegistryProxy> => {
  const requests: ProxiedRequest[] = [];
  const server = http.createServer((incoming, outgoing) => void (async () => {
    const request = { method: incoming.method ?? "GET", path: incoming.url ?? "", headers: incoming.headers };
    requests.push(request);
    const nth = requests.filter((r) => r.path === request.path).length;
    const interference = interfere(request, nth) ?? {};
    if (interference.silent === true) return;
    const sent: Buffer[] = [];
    for await (const chunk of incoming as AsyncIterable<Buffer>) sent.push(chunk);
    if (interference.refuse === true) {
      outgoing.writeHead(interference.status ?? 503, { "content-length": "0", ...interference.headers }).end();
      return;
    }
    const { host: _, connection: __, "content-length": ___, ...headers } = incoming.headers;
    const hasBody = request.method !== "GET" && request.method !== "HEAD";
    const answer = await fetch(target + request.path, { method: request.method, headers: headers as Record<string, string>, redirect: "manual", ...(hasBody ? { body: Buffer.concat(sent) } : {}) });
    const original = Buffer.from(await answer.arrayBuffer());
    const body = interference.body?.(original) ?? original;
    const passed = Object.fromEntries([...answer.headers].filter(([name]) => !["content-length", "transfer-encoding", "connection", "keep-alive"].includes(name)));
    // Uploads go on through the proxy.
    if (passed["location"]?.startsWith(target) === true && answer.status < 300) passed["location"] = passed["location"].slice(target.length);
    outgoing.writeHead(interference.status ?? answer.status, { ...passed, "content-length": request.method === "HEAD" ? (answer.headers.get("content-length") ?? "0") : String(body.length), ...interference.headers });
    if (interference.cutAfterBytes === undefined) {
      outgoing.end(body);
      return;
    }
    outgoing.write(body.subarray(0, interference.cutAfterBytes), () => setTimeout(() => outgoing.destroy(), 20));
  })().catch(() => outgoing.destroy()));
  server.listen(0, address);
  await once(server, "listening");
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  t.teardown(close);
  return { host: `127.0.0.1:${(server.address() as AddressInfo).port}`, requests, blobRequests: (hex) => requests.filter((r) => r.path.includes(`/blobs/sha256:${hex}`)), close };
};
