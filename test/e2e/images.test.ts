// Images on a whole cluster: the commands as a user types them, and what 100 pods cost a registry.
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import test from "ava";
import { DEPLOYMENTS, PODS } from "../../base/kube/resources.ts";
import { hexOf } from "../../node-agent/images/digest.ts";
import { useCluster, type Ran } from "../helpers/cluster.ts";
import { busyboxFiles, testImage } from "../helpers/images.ts";
import { pushImage, startProxy, startRegistry, TEST_PASSWORD, TEST_USER } from "../helpers/registry.ts";
import { deployment, isReady, isRolledOut, pod } from "../helpers/workloads.ts";

const run = promisify(execFile);
const cluster = useCluster(test, { env: { GANTRY_INSECURE_REGISTRIES: "0.0.0.0/0", GANTRY_IMAGE_GC_PERIOD: "1h" } });

const gantry = async (...args: readonly string[]): Promise<string> => {
  const ran = await cluster().gantry(args);
  if (ran.code !== 0) throw new Error(`gantry ${args.join(" ")} ended with ${ran.code}: ${ran.err}${ran.out}`);
  return ran.out;
};
const refused = async (...args: readonly string[]): Promise<Ran> => {
  const ran = await cluster().gantry(args);
  if (ran.code === 0) throw new Error(`gantry ${args.join(" ")} should have failed: ${ran.out}`);
  return ran;
};
/** As the nodes, which are hosts of their own, reach this machine. */
const at = (host: string): string => `${cluster().state.gateway}:${host.split(":")[1]!}`;

test.serial("100 pods on three nodes cost the registry one download of each blob", async (t) => {
  const registry = await startRegistry(t, { everywhere: true });
  const image = await testImage({ layers: [await busyboxFiles(), [{ path: "layer", content: "two" }]] });
  await pushImage(registry.origin, "team/app", "v1", image);
  const proxy = await startProxy(t, registry.origin, () => undefined, "0.0.0.0");
  const ns = await cluster().namespace(t, "many");
  await cluster().create(DEPLOYMENTS, ns, deployment("many", 100, { container: { image: `${at(proxy.host)}/team/app:v1`, imagePullPolicy: "Always" } }));
  await cluster().until(DEPLOYMENTS, ns, ([d]) => d !== undefined && isRolledOut(d, 100));
  const nodes = new Set((await cluster().client.list(PODS, ns)).items.map((p) => (p as { spec?: { nodeName?: string } }).spec?.nodeName));
  t.is(nodes.size, 3);
  for (const digest of image.blobs.keys()) if (digest !== image.manifestDigest) t.is(proxy.blobRequests(hexOf(digest)).length, 1, digest);
});

test.serial("pull, images, tag, history, inspect, save, load, rmi: on all nodes as on one machine", async (t) => {
  const registry = await startRegistry(t, { everywhere: true });
  const image = await testImage({ layers: [[...(await busyboxFiles()), { path: "tools", content: "x" }]], config: { Cmd: ["sleep", "1000"], Env: ["PATH=/bin"], Labels: { tier: "test" } } });
  await pushImage(registry.origin, "tools/app", "v1", image);
  const name = `${at(registry.host)}/tools/app:v1`;
  const pulled = await gantry("pull", name);
  t.regex(pulled, /^v1: Pulling from .*tools\/app\n[^]*: Pull complete\nDigest: sha256:[0-9a-f]{64}\nStatus: Downloaded newer image for /);
  t.regex(await gantry("pull", name), /Image is up to date/);
  t.is((await gantry("pull", "-q", name)).trim(), name);
  t.is((await gantry("images", "--format", "{{.Repository}}:{{.Tag}} {{.Nodes}}", "--filter", "label=tier=test")).trim(), `${name} node-1,node-2,node-3`);

  await gantry("tag", name, "app");
  await gantry("tag", "app", "app:v2");
  t.regex(await gantry("images", "app"), /^REPOSITORY +TAG +IMAGE ID +CREATED +SIZE\napp +latest +[0-9a-f]{12} +N\/A +[\d.]+[kM]B\napp +v2 /);
  t.is(JSON.parse((await gantry("images", "--format", "json", "app:v2")).trim()).Tag, "v2");
  t.is((await gantry("images", "-q", "--no-trunc", "app")).trim(), image.configDigest);
  t.regex(await gantry("history", "app"), /^IMAGE +CREATED +CREATED BY +SIZE +COMMENT\n[0-9a-f]{12} /);
  t.deepEqual(JSON.parse(await gantry("image", "inspect", image.configDigest.slice(7, 20))).map((i: { Id: string; Config: { Cmd: string[] } }) => [i.Id, i.Config.Cmd]), [[image.configDigest, ["sleep", "1000"]]]);
  t.is((await gantry("image", "inspect", "-f", "{{json .Config.Labels}}", "app")).trim(), '{"tier":"test"}');

  const dir = mkdtempSync(join(tmpdir(), "gantry-e2e-images-"));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const archive = join(dir, "app.tar");
  await gantry("save", "-o", archive, "app:v2");
  const { stdout } = await run("skopeo", ["inspect", "--config", `docker-archive:${archive}:app:v2`]);
  t.deepEqual(JSON.parse(stdout).config.Cmd, ["sleep", "1000"]);
  t.deepEqual((await gantry("rmi", "app:v2")).trim().split("\n"), ["Untagged: app:v2"]);
  t.regex(await gantry("load", "-i", archive), /loaded app:v2 on 3 nodes/);

  const ns = await cluster().namespace(t, "users");
  await cluster().create(PODS, ns, pod("user", { container: { image: "app:v2" }, spec: { nodeName: "node-2" } }));
  await cluster().until(PODS, ns, ([p]) => p !== undefined && isReady(p));
  for (const other of ["app", name]) await gantry("rmi", other);
  const inUse = await refused("rmi", "app:v2");
  t.regex(inUse.err, /node-2: unable to remove app:v2: it is used by the container users\/user\/main/);
  t.deepEqual((await gantry("images", "--format", "{{.Nodes}}", "app:v2")).trim(), "node-2", "the others had no reason to keep it");
  t.regex((await refused("rmi", "never-was")).err, /No such image: never-was/);
  t.regex((await refused("pull", `${at(registry.host)}/tools/none:v1`)).err, /node-1, node-2, node-3: .*has no tag "v1" in repository tools\/none/);
  t.regex((await refused("images", "--filter", "colour=red")).err, /no filter "colour"/);

  await gantry("image", "prune", "-f", "-a", "--filter", "until=1h");
  t.regex(await gantry("images", "app:v2"), /v2/, "in use");
  t.regex(await gantry("system", "df"), /^TYPE +TOTAL +ACTIVE +SIZE +RECLAIMABLE\nImages +\d+ +\d+ +[\d.]+[kMG]B +[\d.]+[kM]?B \(\d+%\)\nContainers +\d+ +\d+ /);
});

test.serial("login, push with its credentials, logout; a pod with the same as its secret", async (t) => {
  const registry = await startRegistry(t, { everywhere: true, basicAuth: true });
  const host = at(registry.host);
  const config = join(cluster().layout.root, ".docker", "config.json");
  const login = (password: string) => cluster().gantry(["login", "--insecure", "-u", TEST_USER, "--password-stdin", host], { input: `${password}\n` });
  const wrong = await login("wrong");
  t.is(wrong.code, 1);
  t.regex(wrong.err, /denies access to user "gantry"/);
  const right = await login(TEST_PASSWORD);
  t.is(right.code, 0, right.err);
  t.regex(right.out, /Login Succeeded/);
  t.is(statSync(config).mode & 0o777, 0o600);
  t.truthy(JSON.parse(readFileSync(config, "utf8")).auths[host].auth);

  const example = (await gantry("images", "--format", "{{.ID}}", "--filter", "reference=*/example")).trim().split("\n")[0] ?? "";
  const source = example === "" ? (await gantry("images", "-q")).trim().split("\n")[0]! : example;
  await gantry("tag", source, `${host}/private/app:v1`);
  t.regex(await gantry("push", `${host}/private/app:v1`), /The push refers to repository \[.*private\/app\]\n[^]*: Pushed\nv1: digest: sha256:/);
  t.regex(await gantry("push", `${host}/private/app:v1`), /: Layer already exists\n/);
  await gantry("rmi", `${host}/private/app:v1`);
  await gantry("pull", "--node", "node-1", `${host}/private/app:v1`);
  t.is((await gantry("images", "--format", "{{.Nodes}}", `${host}/private/app`)).trim(), "node-1");
  await gantry("logout", host);
  t.regex((await refused("pull", `${host}/private/app:v1`)).err, /denies repository private\/app without credentials.*gantry login/);
});
