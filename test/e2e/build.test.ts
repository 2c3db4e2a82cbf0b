// `gantry build` on a cluster: what users type, and what they can do with the image afterwards, on every node. Containers run from it as pods.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { gzipSync } from "node:zlib";
import test, { type ExecutionContext } from "ava";
import { PODS } from "../../base/kube/resources.ts";
import { writeTar } from "../../node-agent/images/tar-writer.ts";
import { baseArchive } from "../helpers/builder.ts";
import { GANTRY, until, useCluster, type Ran, type RunOptions } from "../helpers/cluster.ts";
import { nodeArchive } from "../helpers/node-image.ts";

const cluster = useCluster(test, { nodes: 2, image: false });

const context = (t: ExecutionContext, files: Readonly<Record<string, string>>): string => {
  const directory = mkdtempSync(join(tmpdir(), "gantry-context-"));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(directory, path, ".."), { recursive: true });
    writeFileSync(join(directory, path), content);
  }
  return directory;
};

const load = async (archive: Buffer): Promise<void> => {
  const response = await cluster().client.send("POST", "/apis/gantry.io/v1/images", { stream: Readable.from([archive]), contentType: "application/x-tar" });
  for await (const _ of response);
};

const ok = async (args: readonly string[], options: RunOptions = {}): Promise<Ran> => {
  const ran = await cluster().gantry(["build", ...args], options);
  if (ran.code !== 0) throw new Error(`gantry build ${args.join(" ")} ended with ${ran.code}: ${ran.err}`);
  return ran;
};

/** Runs the image once on each node; what it wrote. */
const runEverywhere = async (t: ExecutionContext, namespace: string, image: string, command?: readonly string[], imagePullPolicy = "Never"): Promise<readonly string[]> => {
  const nodes = cluster().nodes;
  const prefix = `run-${Math.abs(image.length * 31 + (command?.join(" ").length ?? 0))}-${t.title.length}`;
  await Promise.all(nodes.map((nodeName) => cluster().create(PODS, namespace, {
    metadata: { name: `${prefix}-${nodeName}`, labels: { app: prefix } }, spec: { nodeName, restartPolicy: "Never", containers: [{ name: "main", image, imagePullPolicy, ...(command === undefined ? {} : { command }) }] },
  })));
  const pods = await cluster().until(PODS, namespace, (items) => items.length === nodes.length && items.every((pod) => ["Succeeded", "Failed"].includes(pod.status?.phase ?? "")), { selector: `app=${prefix}` });
  return Promise.all(pods.map((pod) => cluster().ok(["logs", "-n", namespace, pod.metadata.name!])));
};

test.serial.before("a base image is on every node", () => load(baseArchive("base:1")));

test.serial("build, plain progress, and the image runs on every node; again everything is cached and the image is the same", async (t) => {
  const namespace = await cluster().namespace(t, "built");
  const directory = context(t, { Dockerfile: "FROM base:1\nRUN echo made here > /made\nCOPY greeting /\nCMD cat /made /greeting\n", greeting: "hello\n", "left/out": "", ".dockerignore": "left\n" });
  const first = await ok(["-t", "web:1", "--iidfile", join(directory, "iid"), directory]);
  t.regex(first.err, /^#(\d+) \[2\/3\] RUN echo made here > \/made\n[\s\S]*^#\1 DONE \d+\.\ds$/m);
  t.regex(first.err, /#\d+ loading onto 2 nodes\n#\d+ DONE/);
  t.regex(first.err, /built sha256:[0-9a-f]{64} as docker.io\/library\/web:1 in/);
  t.deepEqual(await runEverywhere(t, namespace, "web:1"), ["made here\nhello\n", "made here\nhello\n"]);
  const again = await ok(["-t", "web:1", "-q", directory]);
  t.is(again.out.trim(), readFileSync(join(directory, "iid"), "utf8"));
  t.is(again.err, "");
  t.regex((await ok(["-t", "web:2", directory])).err, /#(\d+) \[2\/3\] RUN echo made here > \/made\n[\s\S]*#\1 CACHED/);
  // A node that came later, or has lost it, gets it from one that has it.
  await cluster().ok(["delete", "pods", "-n", namespace, "--all", "--now"]);
  t.is((await cluster().gantry(["rmi", "-f", "--node", "node-2", "web:1", "web:2"])).code, 0);
  t.deepEqual(await runEverywhere(t, namespace, "web:1", undefined, "IfNotPresent"), ["made here\nhello\n", "made here\nhello\n"]);
});

test.serial("contexts from standard input: a Dockerfile, a tar with a .dockerignore, a compressed tar in a file", async (t) => {
  t.regex((await ok(["-t", "in:1", "-"], { input: "FROM base:1\nRUN echo from stdin\n" })).err, /#\d+ \d\.\d{3} from stdin/);
  const files = [{ path: "df/My", content: "FROM base:1\nCOPY . /all\nRUN ls /all\n" }, { path: "kept", content: "" }, { path: "secret", content: "" }, { path: ".dockerignore", content: "secret\n" }];
  const packed = join(context(t, { x: "" }), "context.tar.gz");
  writeFileSync(packed, gzipSync(writeTar(files)));
  const { err } = await ok(["-t", "in:2", "-f", "df/My", packed]);
  t.regex(err, /kept/);
  t.notRegex(err, /\d secret/);
  const namespace = await cluster().namespace(t, "stdin");
  t.deepEqual(await runEverywhere(t, namespace, "in:2", ["ls", "/all"]), ["df\nkept\n", "df\nkept\n"]);
});

test.serial("errors: the line in the Dockerfile, wrong usage, no such stage", async (t) => {
  const directory = context(t, { Dockerfile: "FROM base:1 AS one\n\nRUN echo about to fail && exit 7\n" });
  const failed = await cluster().gantry(["build", "-t", "x", "--progress", "quiet", directory]);
  t.is(failed.code, 1);
  t.regex(failed.err, /------\n > \[2\/2\] RUN echo about to fail[\s\S]*about to fail\n------\ngantry: Dockerfile:3: process "\/bin\/sh -c echo about to fail && exit 7" did not complete successfully: exit code: 7\n[\s\S]*3 \| >>> RUN echo about/);
  for (const [args, message, code] of [
    [["build"], /exactly one CONTEXT/, 2], [["build", "/no/such"], /no directory \/no\/such/, 2], [["build", "-f", "none", directory], /-f: there is no file none/, 2],
    [["build", "--target", "two", directory], /"two" could not be found; Dockerfile has one/, 1], [["build", "-t", "UPPER", directory], /must be in lower case/, 1], [["build", "--secret", "src=x", directory], /has no id/, 2],
    [["build", "--node", "none", directory], /none is not connected/, 1], [["build", "--platform", "linux/s390x", directory], /no node builds for it/, 1], [["build", "https://x/y.git"], /not supported; clone/, 2],
  ] as const) {
    const ran = await cluster().gantry(args);
    t.regex(ran.err, message);
    t.is(ran.code, code, args.join(" "));
  }
});

test.serial("Ctrl-C stops the build on its node; so does a client that is killed", async (t) => {
  for (const signal of ["SIGINT", "SIGKILL"] as const) {
    const child = spawn(GANTRY, ["build", "-t", "slow", "--no-cache", "--kubeconfig", cluster().layout.kubeconfig, context(t, { Dockerfile: "FROM base:1\nRUN echo begun; exec sleep 1234\n" })], { stdio: ["ignore", "ignore", "pipe"] });
    t.teardown(() => void child.kill("SIGKILL"));
    let said = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => void (said += text));
    const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
    await until(() => said.includes("begun"), "the step runs");
    await until(() => sleepers().length === 1, "it sleeps");
    child.kill(signal);
    if (signal === "SIGINT") {
      t.is(await ended, 130);
      t.regex(said, /canceled\n$/);
    }
    await until(() => sleepers().length === 0 && workspaces().length === 0, "nothing of the build is left");
  }
});

const sleepers = (): readonly string[] => readdirSync("/proc").filter((pid) => /^\d+$/.test(pid) && commandOf(pid) === "sleep\u00001234\u0000");
const commandOf = (pid: string): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
};
const workspaces = (): readonly string[] => cluster().nodes.flatMap((node) => {
  const directory = join(cluster().layout.dataDir, node, "build/work");
  return existsSync(directory) ? readdirSync(directory) : [];
});

test.serial("an agent that is killed in the middle leaves nothing of the build when it is back", async (t) => {
  const child = spawn(GANTRY, ["build", "-t", "slow", "--no-cache", "--node", "node-1", "--kubeconfig", cluster().layout.kubeconfig, context(t, { Dockerfile: "FROM base:1\nRUN echo begun; exec sleep 1234\n" })], { stdio: ["ignore", "ignore", "pipe"] });
  t.teardown(() => void child.kill("SIGKILL"));
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => void (said += text));
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  await until(() => said.includes("begun"), "the step runs");
  cluster().kill("node-1", "SIGKILL");
  await cluster().gone("node-1");
  t.is(await ended, 1);
  t.regex(said, /broke/);
  await cluster().up();
  await until(() => sleepers().length === 0 && workspaces().length === 0, "nothing of the build is left");
  await until(async () => (await cluster().gantry(["build", "-t", "after:1", "--node", "node-1", context(t, { Dockerfile: "FROM base:1\nRUN true\n" })])).code === 0, "it builds again");
});

test.serial("FROM node:12 with a server: built unchanged, and it answers with its hostname", async (t) => {
  await load(nodeArchive(["node:12", "node:12.18.4"], { npm: true }));
  const app = "const http = require('http');\nconst os = require('os');\nhttp.createServer((request, response) => { response.end('You have hit ' + os.hostname() + '\\n'); }).listen(8080);\n";
  await ok(["-t", "kubia", context(t, { Dockerfile: "FROM node:12\nCOPY app.js /app.js\nENTRYPOINT [\"node\", \"app.js\"]\n", "app.js": app })]);
  const namespace = await cluster().namespace(t, "kubia");
  await cluster().create(PODS, namespace, { metadata: { name: "kubia" }, spec: { containers: [{ name: "main", image: "kubia", imagePullPolicy: "IfNotPresent" }] } });
  await cluster().until(PODS, namespace, (items) => items[0]?.status?.phase === "Running");
  let answer = "";
  await until(async () => {
    const ran = await cluster().gantry(["exec", "-n", namespace, "kubia", "--", "wget", "-qO-", "http://127.0.0.1:8080/"]);
    answer = ran.out;
    return ran.code === 0;
  }, "the server answers");
  t.is(answer, "You have hit kubia\n");
});

/** npm's registry with one package, as far as `npm install -g` asks. */
const startNpmRegistry = async (t: ExecutionContext, address: string, name: string, program: string): Promise<string> => {
  const manifest = { name, version: "1.0.0", bin: { [name]: "main.js" } };
  const tarball = gzipSync(writeTar([{ path: "package/package.json", content: JSON.stringify(manifest) }, { path: "package/main.js", content: program, mode: 0o755 }]));
  const server = createServer((request, response) => {
    const dist = { tarball: `http://${address}:${(server.address() as AddressInfo).port}/${name}.tgz`, integrity: `sha512-${createHash("sha512").update(tarball).digest("base64")}` };
    if (request.url === `/${name}.tgz`) return response.end(tarball);
    response.statusCode = request.url === `/${name}` ? 200 : 404;
    return response.end(JSON.stringify({ name, "dist-tags": { latest: "1.0.0" }, versions: { "1.0.0": { ...manifest, dist } } }));
  });
  await new Promise<void>((listening) => server.listen(0, address, listening));
  t.teardown(() => { server.close(); });
  return `http://${address}:${(server.address() as AddressInfo).port}/`;
};

const SERVER = `#!/usr/bin/env node
const [, port, root] = process.argv.slice(2);
require('http').createServer((request, response) => response.end(require('fs').readFileSync(root + '/index.html'))).listen(Number(port));
`;

test.serial("FROM node:12.18.4 with http-server of npm: run with this folder and a port, it serves what is in it now", async (t) => {
  const registry = await startNpmRegistry(t, cluster().state.gateway, "http-server", SERVER);
  await ok(["-q", "-t", "node:12.18.4", context(t, { Dockerfile: `FROM node:12.18.4\nENV npm_config_registry=${registry} npm_config_update_notifier=false npm_config_audit=false\n` })]);
  const site = context(t, { Dockerfile: "FROM node:12.18.4\nRUN npm install -g http-server\nWORKDIR /home/node/app\nCMD [\"http-server\", \"-p\", \"8080\", \"./public\"]\n", "public/index.html": "first\n" });
  await ok(["-t", "site", site]);
  const run = await cluster().gantry(["run", "-d", "--name", "site", "-v", `${site}:/home/node/app`, "-p", "8080:8080", "site"]);
  t.is(run.code, 0, run.err);
  const address = (await cluster().gantry(["port", "site", "8080"])).out.trim();
  const page = async (): Promise<string> => (await fetch(`http://${address}/`, { headers: { connection: "close" } })).text();
  await until(() => page().then(() => true, () => false), "the server answers");
  t.is(await page(), "first\n");
  writeFileSync(join(site, "public/index.html"), "second\n");
  t.is(await page(), "second\n");
  await cluster().gantry(["rm", "-f", "site"]);
});
