// What hands know from docker, on a cluster of two nodes: run, ps, inspect, rm, Compose files whose services find each other by name.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { EXAMPLE_IMAGE as IMAGE } from "../../cli/example-image.ts";
import { PODS } from "../../base/kube/resources.ts";
import { Following, GANTRY, until, useCluster } from "../helpers/cluster.ts";
import { findKubectl } from "../helpers/kubectl.ts";
import { Terminal } from "../helpers/terminal.ts";

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
  const id = (await ok("ps", "-q")).trim();
  t.regex(await ok("exec", "-u", "5:6", id, "id"), /uid=5 gid=6/);
  t.is(await ok("logs", id), await ok("logs", "my-web"));
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

  writeFileSync(join(folder, "Dockerfile"), `FROM ${IMAGE}\nARG WHO\nRUN echo built for $WHO > /www/who\nCMD ["sleep", "1000"]\n`);
  compose("name: shop\nservices:\n  page: {build: {context: ., args: {WHO: compose}}, volumes: [data:/data], init: true, ulimits: {nofile: 700}, stop_grace_period: 0s}\nvolumes: {data: {}}\n");
  await at("build");
  await at("up", "-d");
  t.is(await at("exec", "-T", "page", "sh", "-c", "cat /www/who /proc/1/comm; ulimit -n"), "built for compose\ninit\n700\n");
  await at("down", "--rmi", "local", "-v");
  t.notRegex(await ok("images"), /shop-page/);
  t.notRegex(await ok("volume", "ls"), /shop-data/);
});

const terminal = (t: ExecutionContext, ...args: readonly string[]): Terminal => new Terminal(t, [GANTRY, ...args], { env: { ...process.env, KUBECONFIG: cluster().layout.kubeconfig } });
/** busybox asks a terminal where its cursor is, and draws anew when it gets no answer. */
const PROMPT = /# \S*$/;
const DETACH = "\u0010\u0011"; // ctrl-p ctrl-q
const CTRL_C = "\u0003";
/** Said by what is to be interrupted: while a shell is still starting it, Ctrl-C is for the shell, which then waits all the same. */
const GO = "sh -c 'echo go; exec sleep 100'\n";

test.serial("on a terminal: its size from the first moment, changes of it, keys, leaving and coming back, the exit code; and then it is as it was", async (t) => {
  const run = terminal(t, "run", "-it", "--name", "shell", IMAGE, "sh", "-c", "stty size; exec sh");
  const before = run.attributes();
  t.notRegex(await run.until(/30 90\r\n[\s\S]*# /), /\r\r/, "what the container writes is shown as it is");
  run.resize({ rows: 41, columns: 101 });
  run.type("until [ \"$(stty size)\" = '41 101' ]; do sleep 0.05; done; echo resized\n");
  await run.until(/\nresized[\s\S]*# /);
  run.type(GO);
  await run.until(/\ngo\r/);
  run.type(CTRL_C);
  await run.until(/\^C[\s\S]*# /);
  run.type(DETACH);
  t.is(await run.ended, 0);
  t.is(run.attributes(), before, "raw mode is over");
  t.regex(await ok("ps", "--filter", "name=shell"), /shell/);
  const back = terminal(t, "attach", "shell");
  await back.until(PROMPT);
  back.type("stty size; exit 7\n");
  await back.until(/30 90/);
  t.is(await back.ended, 7);
  await ok("rm", "shell");
  t.like(await cluster().gantry(["run", "--rm", "-it", IMAGE, "cat"], { input: "x" }), { code: 1, err: "gantry: the input device is not a TTY: leave out --tty\n" });
});

test.serial("exec on a terminal: size and its changes, Ctrl-C, the exit code; stats goes on until Ctrl-C; kubectl debug -it", async (t) => {
  await ok("run", "-d", "--name", "box", IMAGE, "sleep", "1000");
  const exec = terminal(t, "exec", "-it", "box", "--", "sh");
  await exec.until(PROMPT);
  exec.type("stty size\n");
  await exec.until(/30 90/);
  exec.resize({ rows: 50, columns: 100 });
  exec.type("until [ \"$(stty size)\" = '50 100' ]; do sleep 0.05; done; echo resized\n");
  await exec.until(/\nresized[\s\S]*# /);
  exec.type(GO);
  await exec.until(/\ngo\r/);
  exec.type(CTRL_C);
  await exec.until(/\^C[\s\S]*# /);
  exec.type("exit 9\n");
  t.is(await exec.ended, 9);
  const stats = terminal(t, "stats");
  await stats.until(/box .*%[\s\S]*box .*%/);
  stats.type(CTRL_C);
  t.not(await stats.ended, 1);
  const kubectl = findKubectl("1.33");
  if (kubectl !== undefined) {
    const debug = new Terminal(t, [kubectl, "debug", "-it", "box", "--image", IMAGE, "--image-pull-policy=IfNotPresent", "--target=box", "--profile=general", "--", "sh"], { env: { ...process.env, KUBECONFIG: cluster().layout.kubeconfig } });
    await debug.until(PROMPT);
    // kubectl says a wrong size first, so that programs draw anew.
    debug.type("until [ \"$(stty size)\" = '30 90' ]; do sleep 0.05; done; ps; exit\n");
    await debug.until(/ sleep 1000/);
    t.is(await debug.ended, 0);
  }
  await ok("rm", "-f", "box");
});

test.serial("limits, devices, an init, options of a tmpfs, an id in a file, another one's names and volumes", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "gantry-flags-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const cid = join(folder, "cid");
  await ok("run", "-d", "--name", "first", "-v", "shared:/data", "--node", "node-1", "--pids-limit", "100", "--cpu-shares", "512", "--blkio-weight", "500", "-m", "64m", "--cidfile", cid, IMAGE, "sh", "-c", "echo kept > /data/f; httpd -f -p 8080 -h /data");
  t.is(await ok("inspect", "-f", "{{.Id}}", "first"), `${readFileSync(cid, "utf8")}\n`);
  t.regex((await gantry("run", "--cidfile", cid, IMAGE)).err, /--cidfile: .* exists already/);
  const all = ["--ulimit", "nofile=512:1024", "--ulimit", "core=-1", "--device", "/dev/full:/dev/mine:rw", "--tmpfs", "/t:mode=0710,uid=5,size=1m", "--oom-score-adj", "700", "--link", "first:other", "--volumes-from", "first:ro"];
  const script = "ulimit -n; ulimit -Hn; ulimit -c; (echo x > /dev/mine) 2>&1; grep ' /t ' /proc/mounts; stat -c '%a %u' /t; cat /proc/self/oom_score_adj /data/f; wget -qO- http://other:8080/f; touch /data/g";
  const ran = await gantry("run", "--rm", ...all, IMAGE, "sh", "-c", script);
  t.regex(ran.out, /^512\n1024\nunlimited\n.*No space left on device\ntmpfs \/t tmpfs rw,nosuid,nodev,noexec,.*size=1024k,mode=710,uid=5.*\n710 5\n700\nkept\nkept\n$/);
  t.regex(ran.err, /touch: \/data\/g: Read-only file system/);
  t.is(await ok("update", "-m", "80m", "--cpus", "0.5", "first"), "first\n");
  const [process_] = cluster().containers().filter((c) => c.containerId === readFileSync(cid, "utf8"));
  const groups = readFileSync(`/proc/${process_!.pid}/cgroup`, "utf8");
  const setting = (controller: string, v1: string, v2: string): string => {
    const path = new RegExp(`^\\d+:${controller}:(.*)$`, "m").exec(groups)?.[1];
    return readFileSync(path === undefined ? `/sys/fs/cgroup${/^0::(.*)$/m.exec(groups)![1]!}/${v2}` : `/sys/fs/cgroup/${controller}${path}/${v1}`, "utf8").trim();
  };
  t.is(setting("pids", "pids.max", "pids.max"), "100");
  t.is(setting("memory", "memory.limit_in_bytes", "memory.max"), String(80 << 20));
  t.is(await ok("inspect", "-f", "{{.HostConfig.BlkioWeight}}", "first"), "500\n");
  if (existsSync("/sys/fs/cgroup/blkio") && !existsSync("/sys/fs/cgroup/blkio/blkio.weight")) {
    await until(async () => /Warning +LimitsDiscarded +.*Block I\/O weight .*Weight discarded\./.test(await cluster().ok(["get", "events"])), "an event tells that the weight is left out");
  }
  await ok("rm", "-f", "first");
  await ok("volume", "rm", "shared");
  const withInit = await gantry("run", "--rm", "--init", IMAGE, "sh", "-c", "cat /proc/1/comm; exit 5");
  t.like(withInit, { code: 5, out: "init\n" });
  t.regex((await gantry("run", "--rm", "--device", "/dev/nosuch", IMAGE)).err, /device "\/dev\/nosuch": this node has no such device/);
});

test.serial("an image's health check holds, and -P opens its ports; logs -f goes on over restarts, and ends with the last", async (t) => {
  const built = await cluster().gantry(["build", "-q", "-t", "healthy:1", "-"], { input: `FROM ${IMAGE}\nEXPOSE 8080\nHEALTHCHECK --interval=1s CMD wget -qO- http://127.0.0.1:8080/\nCMD ["httpd", "-f", "-p", "8080", "-h", "/www"]\n` });
  t.is(built.code, 0, built.err);
  await ok("run", "-d", "-P", "--name", "healthy", "healthy:1");
  await cluster().until(PODS, "default", ([p]) => p?.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True") === true);
  t.regex(await ok("ps"), /\(healthy\) .*0\.0\.0\.0:\d+->8080\/tcp/);
  await ok("rm", "-f", "healthy");
  t.like(await gantry("run", "--name", "again", "--restart", "on-failure:1", IMAGE, "sh", "-c", "echo once; exit 3"), { code: 3, out: "once\nonce\n" });
  await ok("rm", "again");
  await cluster().create(PODS, "default", { metadata: { name: "plain" }, spec: { restartPolicy: "OnFailure", containers: [{ name: "main", image: IMAGE, imagePullPolicy: "IfNotPresent", command: ["sh", "-c", "echo hello; [ -e /x/go ] && exit 0; until [ -e /x/go ]; do sleep 0.05; done; exit 1"], volumeMounts: [{ name: "x", mountPath: "/x" }] }], volumes: [{ name: "x", emptyDir: {} }] } });
  await cluster().until(PODS, "default", ([p]) => p?.status?.containerStatuses?.[0]?.state?.running !== undefined);
  const logs = cluster().followGantry(t, ["logs", "-f", "plain"]);
  await logs.until(/hello/);
  await cluster().gantry(["exec", "plain", "--", "touch", "/x/go"]); // the container may end, and take it along, before it is done
  t.is(await logs.ended, 0);
  t.is(logs.text, "hello\nhello\n", "also of a container whose instances have a log each");
  await ok("rm", "plain");
});
