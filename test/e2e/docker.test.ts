// What hands know from docker, on a cluster of two nodes: run, ps, inspect, rm, Compose files whose services find each other by name.
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { EXAMPLE_IMAGE as IMAGE } from "../../cli/example-image.ts";
import { PODS } from "../../base/kube/resources.ts";
import { Following, GANTRY, useCluster } from "../helpers/cluster.ts";

const cluster = useCluster(test, { nodes: 2 });
const gantry = (...args: readonly string[]) => cluster().gantry(args);
const ok = async (...args: readonly string[]): Promise<string> => {
  const ran = await gantry(...args);
  if (ran.code !== 0) throw new Error(`gantry ${args.join(" ")} ended with ${ran.code}: ${ran.err}`);
  return ran.out;
};

test.serial("a container in the foreground: both outputs, its exit code, and nothing left with --rm", async (t) => {
  t.like(await gantry("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7"), { code: 7, out: "out\n", err: "err\n" });
  t.like(await cluster().gantry(["run", "--rm", "-i", IMAGE, "cat"], { input: "to and fro\n" }), { code: 0, out: "to and fro\n" });
  const missing = await gantry("run", IMAGE, "/no/such");
  t.is(missing.code, 127);
  t.regex(missing.err, /no such file/);
  t.is((await gantry("run", "--nmae", "x", IMAGE)).code, 125);
  t.like(await gantry("run", "--pull", "never", "nosuch.local/image:1"), { code: 125 });
  t.is(await ok("ps", "-aq"), "");
});

test.serial("a container in the background: ps, port, inspect, a name in use, a port that is taken, rm", async (t) => {
  t.is(await ok("run", "-d", "--name", "My_Web", "-p", "38080:8080", "-l", "tier=front", "-u", "nobody", "--node", "node-1", IMAGE, "httpd", "-f", "-p", "8080", "-h", "/www"), "my-web\n");
  t.regex(await ok("ps"), /^CONTAINER ID +IMAGE +COMMAND +CREATED +STATUS +PORTS +NAMES +NODE\n[0-9a-f]{12} .*"httpd -f -p 8080 -h…?.* Up .* 0\.0\.0\.0:38080->8080\/tcp +my-web +node-1\n$/);
  t.is(await ok("ps", "--filter", "label=tier=front", "--format", "{{.Names}} {{.State}}"), "my-web running\n");
  t.regex(await ok("port", "my-web", "8080"), /:38080\n$/);
  t.is(await ok("inspect", "-f", "{{.State.Status}} {{.Config.User}}", "my-web"), "running nobody\n");
  t.is((JSON.parse(await ok("inspect", "node-1", "--type", "node")) as { Status: { State: string } }[])[0]!.Status.State, "ready");
  t.regex(await ok("exec", "my-web", "--", "id"), /uid=65534/);
  t.regex((await gantry("run", "-d", "--name", "my-web", IMAGE)).err, /"my-web" is in use.*gantry rm -f my-web/);
  const taken = await gantry("run", "-d", "--node", "node-1", "-p", "38080:80", IMAGE);
  t.is(taken.code, 125);
  t.regex(taken.err, /host port 38080\/TCP is taken/);
  t.regex(await cluster().ok("get pods -l gantry.io/run=my-web -o name"), /pod\/my-web/);
  t.regex((await gantry("rm", "my-web")).err, /is running: stop it first/);
  t.regex(await ok("stats", "--no-stream"), /CPU %[\s\S]*my-web .*%/);
  await ok("rm", "-f", "my-web");
  t.is(await ok("ps", "-aq"), "");
  t.regex(await ok("events", "--since", "10m", "--until", "0s", "--filter", "type=kubernetes"), /kubernetes FailedScheduling pod\//);
});

test.serial("Ctrl-C reaches the container, whose exit code comes back; a container of --rm -d goes by itself", async (t) => {
  const child = spawn(GANTRY, ["run", "--rm", "--name", "trap", IMAGE, "sh", "-c", "trap 'echo got it; exit 9' INT; echo ready; while :; do sleep 0.1; done"], { env: { ...process.env, KUBECONFIG: cluster().layout.kubeconfig }, stdio: ["ignore", "pipe", "pipe"] });
  const following = new Following(child);
  t.teardown(() => following.stop());
  await following.until(/ready/);
  child.kill("SIGINT");
  t.is(await following.ended, 9);
  t.regex(following.text, /got it/);
  await ok("run", "-d", "--rm", "--name", "short", IMAGE, "true");
  await cluster().until(PODS, "default", (pods) => pods.length === 0);
  t.pass();
});

test.serial("a Compose project: order, health, names, bind mounts, secrets, scale, change, down", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "gantry-compose-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, "pages"));
  writeFileSync(join(folder, "pages/index.html"), "hello from a bind mount\n", { mode: 0o644 });
  writeFileSync(join(folder, "pw.txt"), "secret");
  writeFileSync(join(folder, ".env"), `IMAGE=${IMAGE}\n`);
  const compose = (text: string): void => writeFileSync(join(folder, "compose.yaml"), text);
  const file = (greeting: string): string => `
name: shop
x-common: &common {image: "\${IMAGE}", stop_grace_period: 0s}
services:
  web:
    <<: *common
    command: sh -c 'wget -qO- http://db:8080/; cat /run/secrets/pw; echo " \${GREETING:-${greeting}}"; sleep 1000'
    depends_on: {db: {condition: service_healthy}}
    secrets: [pw]
  db:
    <<: *common
    command: httpd -f -p 8080 -h /pages
    volumes: [./pages:/pages:ro]
    healthcheck: {test: wget -qO- http://127.0.0.1:8080/, interval: 1s, timeout: 2s}
secrets: {pw: {file: pw.txt}}
`;
  const at = (...args: readonly string[]) => ok("compose", "-f", join(folder, "compose.yaml"), ...args);
  compose(file("one"));
  await at("up", "-d");
  t.regex(await at("ps"), /shop-db-1 .*Up .*\(healthy\)[\s\S]*shop-web-1 .*Up /);
  await cluster().until(PODS, "default", (pods) => pods.length === 2);
  const logs = new Following(spawn(GANTRY, ["compose", "-f", join(folder, "compose.yaml"), "logs", "-f", "web"], { env: { ...process.env, KUBECONFIG: cluster().layout.kubeconfig }, stdio: ["ignore", "pipe", "pipe"] }));
  t.teardown(() => logs.stop());
  await logs.until(/web-1 +\| hello from a bind mount\n.*secret one/);
  const before = await cluster().client.get(PODS, "default", "shop-db-1");
  compose(file("two"));
  await at("up", "-d", "--scale", "web=2");
  t.is((await cluster().client.get(PODS, "default", "shop-db-1")).metadata.uid, before.metadata.uid, "what didn't change is left alone");
  t.regex(await at("logs", "--no-log-prefix", "web"), /secret two/);
  t.regex(await at("exec", "-T", "db", "cat", "/etc/hosts"), /\tshop-web-1 web\n[\s\S]*\tshop-web-2 web\n/, "a running container learns the names of those that came later");
  t.like(await cluster().gantry(["compose", "-f", join(folder, "compose.yaml"), "run", "--rm", "web", "sh", "-c", "wget -qO- http://db:8080/; exit 5"]), { code: 5, out: "hello from a bind mount\n" });
  await at("down");
  t.is(await ok("ps", "-aq"), "");
});
