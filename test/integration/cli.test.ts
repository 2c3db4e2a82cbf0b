// The gantry command as its users run it: processes against a real control plane with a real etcd, and a node whose session is real
// but whose containers are not.
import { spawn, type ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { SystemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/logger.ts";
import { ensureCredentials } from "../../node-agent/session/join.ts";
import { eventually, memoryCredentials, startFakeAgent, type FakeAgent } from "../helpers/fake-agent.ts";

const MAIN = join(import.meta.dirname, "../../cli/main.ts");
const EXAMPLES = join(import.meta.dirname, "../../deploy/examples");
const NODE_FLAGS = ["--disable-warning=ExperimentalWarning", MAIN];

const dir = mkdtempSync(join(tmpdir(), "gantry-cli-"));
const kubeconfig = join(dir, "admin.kubeconfig");
// Compiled anew for each of some hundred commands, it would be half of their time.
const compiled = process.env["NODE_COMPILE_CACHE"];
const environment: NodeJS.ProcessEnv = { PATH: process.env["PATH"], HOME: dir, KUBECONFIG: kubeconfig, ...(compiled === undefined ? {} : { NODE_COMPILE_CACHE: compiled }) };
let controlPlane: ChildProcess;
let agentPort = 0;
let agent: FakeAgent;

interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

const start = (args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess & { readonly seen: { out: string; err: string }; readonly closed: Promise<number | null> } => {
  const child = spawn(process.execPath, [...NODE_FLAGS, ...args], { env: { ...environment, ...env }, cwd: dir, stdio: ["pipe", "pipe", "pipe"] });
  const seen = { out: "", err: "" };
  child.stdout.on("data", (chunk: Buffer) => void (seen.out += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => void (seen.err += chunk.toString()));
  // What doesn't read its input may end before it is written.
  child.stdin.on("error", () => undefined);
  return Object.assign(child, { seen, closed: new Promise<number | null>((resolve) => child.on("close", resolve)) });
};

const gantry = async (args: string, { input = "", env = {} }: { readonly input?: string | Buffer; readonly env?: NodeJS.ProcessEnv } = {}): Promise<Ran> => {
  const child = start(args.split(" ").filter((a) => a !== ""), env);
  child.stdin!.end(input);
  return { code: await child.closed, out: child.seen.out, err: child.seen.err };
};

/** Must succeed without complaints; gives what it printed. */
const ok = async (t: ExecutionContext, args: string, input?: string | Buffer): Promise<string> => {
  const { code, out, err } = await gantry(args, input === undefined ? {} : { input });
  t.is(code, 0, `gantry ${args}: ${err}`);
  t.is(err, "", `gantry ${args}`);
  return out;
};

const fails = async (t: ExecutionContext, args: string, code: 1 | 2, message: RegExp, input?: string): Promise<string> => {
  const ran = await gantry(args, input === undefined ? {} : { input });
  t.is(ran.code, code, `gantry ${args}: ${ran.err}`);
  t.regex(ran.err, message, `gantry ${args}`);
  return ran.out;
};

test.before("a control plane with a node that joined by a token of 'gantry token create'", async (t) => {
  // Flags, environment and config file, each for a part.
  writeFileSync(join(dir, "control-plane.yaml"), `bindAddress: 127.0.0.1\napiPort: 0\nagentPort: 1\nlogFormat: json\nkubeconfig: ${kubeconfig}\n`);
  controlPlane = start(["control-plane", "--config", "control-plane.yaml", "--agent-port", "0"], { GANTRY_DATA_DIR: join(dir, "data") });
  controlPlane.stderr!.resume();
  for await (const line of createInterface({ input: controlPlane.stderr! })) {
    const entry = JSON.parse(line) as { readonly message: string; readonly agents?: string };
    if (entry.message === "serving") {
      agentPort = Number(/:(\d+)$/.exec(entry.agents ?? "")![1]);
      break;
    }
  }
  controlPlane.stderr!.resume();
  const made = JSON.parse(await ok(t, "token create --ttl 5m --description cli-test -o json")) as { readonly token: string; readonly expiration: string };
  const leftMs = Date.parse(made.expiration) - Date.now();
  t.true(leftMs > 200_000 && leftMs <= 300_000, made.expiration);
  const credentials = memoryCredentials(undefined);
  const target = `127.0.0.1:${agentPort}`;
  await ensureCredentials({ token: made.token, controlPlanes: [target], nodeName: "node-1", credentials, clock: new SystemClock(), logger: silentLogger, signal: AbortSignal.timeout(30_000) });
  agent = startFakeAgent({ target, nodeName: "node-1", credentials });
  await eventually(async () => /node-1 +Ready/.test((await gantry("get nodes")).out), "node-1 is Ready", 30_000);
});

test.after.always(async () => {
  await agent?.close();
  controlPlane?.kill("SIGTERM");
  await (controlPlane as ReturnType<typeof start> | undefined)?.closed;
  rmSync(dir, { recursive: true, force: true });
});

test.serial("help, versions and wrong usage: exit codes 0 and 2", async (t) => {
  t.regex(await ok(t, "--help"), /Objects of the Kubernetes API:\n {2}get /);
  t.is(await ok(t, "get --help"), await ok(t, "help get"));
  t.regex(await ok(t, "control-plane --help"), /--data-dir DIR .*\n[^]*GANTRY_DATA_DIR/);
  t.is((await gantry("")).code, 2);
  t.regex(await ok(t, "--version"), /^\d+\.\d+\.\d+\n$/);
  t.regex(await ok(t, "version"), /^client {2}gantry .*\nserver {2}Kubernetes API v1\.33\.\d+\+gantry.* at 127\.0\.0\.1:\d+\n$/);
  t.deepEqual(Object.keys(JSON.parse(await ok(t, "version -o json")) as object), ["client", "server"]);
  await fails(t, "gte pods", 2, /unknown command "gte"; did you mean get\?/);
  await fails(t, "get pods --outptu wide", 2, /unknown flag --outptu; did you mean --output\?/);
  await fails(t, "get pods -o jsonpath", 2, /--output: "jsonpath" is not one of wide, json, yaml, name/);
  await fails(t, "status extra", 2, /takes flags only, not "extra"/);
  await fails(t, "control-plane --api-port many", 2, /--api-port: "many" is not a whole number/);
  await fails(t, "control-plane --config nowhere.yaml", 2, /config file nowhere\.yaml can't be read/);
});

test.serial("variables for the daemons don't change what a command at a prompt does", async (t) => {
  const { code, out } = await gantry("get namespaces", { env: { GANTRY_OUTPUT: "json", GANTRY_NAMESPACE: "nowhere", GANTRY_CONFIG: "nowhere" } });
  t.is(code, 0);
  t.regex(out, /^NAME +STATUS +AGE\ndefault +Active/);
});

test.serial("without a cluster, or with a wrong one, the message says what to do", async (t) => {
  const none = await gantry("get pods", { env: { KUBECONFIG: "" } });
  t.is(none.code, 1);
  t.regex(none.err, /\.kube\/config: can't be read; start a cluster with 'gantry up'/);
  writeFileSync(join(dir, "dead"), readFileSync(kubeconfig, "utf8").replace(/127\.0\.0\.1:\d+/, "127.0.0.1:1"));
  await fails(t, "get pods --kubeconfig dead", 1, /the API server 127\.0\.0\.1:1 can't be reached: connect ECONNREFUSED/);
  await fails(t, "get pods --context nobody", 2, /--context: .* has no context "nobody"; there are: gantry/);
});

test.serial("apply creates, changes, leaves alone, and takes away what an earlier apply said", async (t) => {
  const deployment = (replicas: string, extra = ""): string => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}${extra}}
spec:
  ${replicas}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: "busybox", command: [sleep, "1000"]}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {mode: "0644", when: 2026-01-01}
`;
  const apply = (text: string, flags = ""): Promise<string> => ok(t, `apply -f - ${flags}`, text);
  const first = "deployment.apps/web";
  t.is(await apply(deployment("replicas: 2", ", annotations: {note: a}"), "--dry-run=server"), `${first} created (server dry run)\nconfigmap/settings created (server dry run)\n`);
  await fails(t, "get deploy web", 1, /deployments\.apps "web" not found/);
  t.is(await apply(deployment("replicas: 2", ", annotations: {note: a}")), `${first} created\nconfigmap/settings created\n`);
  t.is(await apply(deployment("replicas: 3", ", annotations: {note: a}"), "--dry-run=client"), `${first} configured (dry run)\nconfigmap/settings unchanged (dry run)\n`);
  t.is(await apply(deployment("replicas: 2", ", annotations: {note: a}")), `${first} unchanged\nconfigmap/settings unchanged\n`);
  await eventually(async () => /web +2\/2/.test((await gantry("get deploy")).out), "2 of 2 ready");
  t.is(await ok(t, "scale deploy/web --replicas 1"), "deployment.apps/web scaled\n");
  // Without replicas the manifest has no say in them: but it had, so they are taken away and defaulted anew.
  t.is(await apply(deployment("replicas: 2")), `${first} configured\nconfigmap/settings unchanged\n`);
  const object = JSON.parse(await ok(t, "get deploy web -o json")) as { metadata: { annotations: Record<string, string> }; spec: { replicas: number } };
  t.is(object.spec.replicas, 2);
  t.is(object.metadata.annotations["note"], undefined);
  t.is(await apply(deployment(""), "-o name"), `${first}\nconfigmap/settings\n`);
  t.is((JSON.parse(await ok(t, "get deploy/web -o json")) as typeof object).spec.replicas, 1);
  // What was read can be applied.
  t.is(await apply(await ok(t, "get configmap settings -o yaml")), "configmap/settings unchanged\n");
});

test.serial("apply refuses what is wrong, says where, and goes on with the rest", async (t) => {
  const cm = (data: string): string => `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n${data}`;
  mkdirSync(join(dir, "manifests"), { recursive: true });
  writeFileSync(join(dir, "manifests/a.yaml"), `${cm("dta: {a: b}")}\n---\n${cm("data: {a: b}")}`);
  t.is(await fails(t, "apply -f manifests", 1, /^gantry: manifests\/a\.yaml: .*unknown field "dta"/), "configmap/b created\n");
  await fails(t, "apply -f -", 1, /^gantry: standard input: .* at line 1/, "{a: b");
  await fails(t, "apply -f -", 1, /no object in standard input/);
  await fails(t, "apply -f -", 1, /standard input: apiVersion is missing/, "kind: Pod");
  await fails(t, "apply -f -", 1, /standard input: the server has no kind "Pood" in v1; did you mean Pod\?/, "{apiVersion: v1, kind: Pood, metadata: {name: x}}");
  await fails(t, "apply -f -", 1, /namespaces "nowhere" not found/, "{apiVersion: v1, kind: ConfigMap, metadata: {name: x, namespace: nowhere}}");
  await fails(t, "apply -f nowhere.yaml", 2, /no such file: nowhere\.yaml/);
  await fails(t, "apply", 2, /needs -f FILE/);
  await fails(t, "apply manifests", 2, /needs -f FILE/);
});

test.serial("get prints tables, names, JSON and YAML, of one type or several, everywhere or here", async (t) => {
  t.regex(await ok(t, "get pods -l app=web"), /^NAME +READY +STATUS +RESTARTS +AGE\nweb-\S+ +1\/1 +Running +0 +\d+\w\n$/);
  t.regex(await ok(t, "get pods -o wide"), / IP +NODE +/);
  t.regex(await ok(t, "get pods -A --no-headers"), /^default +web-\S+ +1\/1/);
  t.regex(await ok(t, "get deploy,rs,cm"), /^NAME +READY[^]*\ndeployment\.apps\/web [^]*\n\nNAME [^]*\nreplicaset\.apps\/web-[^]*\n\nNAME [^]*\nconfigmap\/settings /);
  t.deepEqual((await ok(t, "get cm/b cm/settings ns/default -o name")).split("\n"), ["configmap/b", "configmap/settings", "namespace/default", ""]);
  const list = JSON.parse(await ok(t, "get cm -o json")) as { kind: string; items: { kind: string; apiVersion: string }[] };
  t.is(list.kind, "List");
  t.true(list.items.length >= 2 && list.items.every((i) => i.kind === "ConfigMap" && i.apiVersion === "v1"));
  t.regex(await ok(t, "get cm settings -o yaml"), /^ {2}mode: "0644"\n {2}when: "?2026-01-01"?$/m);
  const empty = await gantry("get jobs");
  t.deepEqual([empty.code, empty.out, empty.err], [0, "", "No resources found in default namespace.\n"]);
  t.regex(await fails(t, "get cm settings nope", 1, /configmaps "nope" not found/), /settings/);
  await fails(t, "get", 2, /name a resource type/);
  await fails(t, "get widgets", 2, /no resource type "widgets"/);
  await fails(t, "get pods web -l a=b", 2, /--selector chooses among all pods: it can't go with the name "web"/);
  await fails(t, "get pods -l =b", 1, /selector/);
  await fails(t, "get pods,cm -w", 2, /--watch shows one type/);
});

test.serial("get -w prints what is there and then what changes", async (t) => {
  const table = start(["get", "cm", "-w", "-l", "watched=yes"]);
  const objects = start(["get", "cm", "-w", "-o", "json"]);
  t.teardown(() => [table, objects].map((c) => c.kill("SIGKILL")));
  await eventually(() => objects.seen.out.includes('"settings"'), "the config maps that are there");
  // Its list is empty, so nothing shows when its watch has begun.
  await delay(300);
  await ok(t, "apply -f -", "{apiVersion: v1, kind: ConfigMap, metadata: {name: seen, labels: {watched: 'yes'}}, data: {a: b}}");
  await eventually(() => /^NAME +DATA +AGE\nseen +1 /.test(table.seen.out), "a row with its header").catch(() => t.fail(table.seen.out + table.seen.err));
  await eventually(() => objects.seen.out.includes('"watched": "yes"'), "the object");
  await ok(t, "delete cm seen");
  await eventually(() => table.seen.out.split("\n").length >= 4, "the deletion");
  t.is(table.exitCode, null);
});

test.serial("a reader that closes early is no error", async (t) => {
  const child = start(["get", "cm", "-w"]);
  child.stdout!.once("data", () => child.stdout!.destroy());
  t.teardown(() => child.kill("SIGKILL"));
  await delay(500);
  await ok(t, "apply -f -", "{apiVersion: v1, kind: ConfigMap, metadata: {name: pipe}}");
  t.is(await child.closed, 0);
  t.is(child.seen.err, "");
  await ok(t, "delete cm pipe --no-wait");
});

test.serial("describe shows objects with their events; why explains a pod", async (t) => {
  t.regex(await ok(t, "describe deploy web"), /^Replicas: +1 desired \| 1 updated \| 1 total \| 1 available \| 0 unavailable$[^]*^Events:$[^]*ScalingReplicaSet/m);
  t.regex(await ok(t, "describe pods -l app=web"), /^Node: +node-1\/127\.0\.0\.1$[^]*State: +Running since/m);
  t.regex(await ok(t, "describe node node-1"), /^Pods: +\(1 in total\)$[^]*^ {2}default +web-/m);
  await fails(t, "describe deploy nope", 1, /"nope" not found/);
  const name = (await ok(t, "get pods -l app=web -o name")).trim();
  t.regex(await ok(t, `why ${name}`), /^Pod default\/web-\S+: Running\nRuns on node-1/);
  await ok(t, "apply -f -", "{apiVersion: v1, kind: Pod, metadata: {name: huge}, spec: {containers: [{name: c, image: x, resources: {requests: {cpu: '64'}}}]}}");
  await eventually(async () => /Unschedulable|FailedScheduling/.test((await gantry("describe pod huge")).out), "the scheduler has looked");
  t.regex(await ok(t, "why pod huge"), /^Pod default\/huge: Pending\nHas no node: 0\/1 nodes are available: 1 Insufficient cpu\.?\n {2}1 node \(node-1\):\n/);
  t.is((JSON.parse(await ok(t, "why pod/huge -o json")) as { pod: string }).pod, "default/huge");
  await fails(t, "why pod nope", 1, /"nope" not found/);
  t.regex(await ok(t, "why deploy web"), /^Deployment default\/web: 1 of 1 ready/);
  await fails(t, "why cm b", 2, /explains [^\n]*, not configmaps/);
  await ok(t, "delete pod huge");
});

test.serial("logs of a pod, of a workload's pods, by label", async (t) => {
  await ok(t, "scale deploy web --replicas=2");
  await eventually(async () => /web +2\/2/.test((await gantry("get deploy web")).out), "2 of 2 ready");
  for (const a of agent.pods.assignments.values()) agent.pods.logLines.set(`${a.uid}/main`, [`one of ${a.name}\n`, "two\n"]);
  const [first, second] = (await ok(t, "get pods -l app=web -o name")).trim().split("\n").map((n) => n.replace("pod/", ""));
  t.is(await ok(t, `logs ${first!}`), `one of ${first!}\ntwo\n`);
  t.is(await ok(t, `logs pod/${first!} -c main`), `one of ${first!}\ntwo\n`);
  const both = [first!, second!].map((n) => `[pod/${n}/main] one of ${n}\n[pod/${n}/main] two\n`).join("");
  t.is(await ok(t, "logs deploy/web --prefix"), both);
  t.is(await ok(t, "logs -l app=web --prefix --all-containers"), both);
  const following = start(["logs", "-f", "deploy/web"]);
  t.teardown(() => following.kill("SIGKILL"));
  await eventually(() => [first!, second!].every((n) => following.seen.out.includes(`one of ${n}\ntwo\n`)), "the lines of both pods");
  t.is(following.exitCode, null);
  t.is(await ok(t, `logs ${first!}/main`), `one of ${first!}\ntwo\n`, "as ps names the containers of a pod with several");
  await fails(t, `logs ${first!}/side`, 1, /has no container "side"; there are: main/);
  await fails(t, "logs deplyo/web", 2, /no resource type "deplyo"; did you mean deploy\?/);
  await fails(t, "logs nope", 1, /pods "nope" not found/);
  await fails(t, "logs", 2, /needs one pod, one TYPE\/NAME, or --selector/);
  await fails(t, "logs cm/settings", 2, /configmaps have no pods/);
  await fails(t, "logs -l app=nobody", 1, /no pods in namespace default have the labels app=nobody/);
  await fails(t, `logs ${first!} -c nope`, 1, /nope/);
});

test.serial("exec passes arguments, input, output and the exit code", async (t) => {
  const name = (await ok(t, "get pods -l app=web -o name")).split("\n")[0]!;
  t.is(await ok(t, `exec ${name} -- ls -l --help`), "ls -l --help");
  t.is(await ok(t, `exec ${name} ls -l`), "ls -l");
  const input = Buffer.alloc(300_001, "x");
  const echo = await gantry(`exec -i ${name} -- cat`, { input });
  t.is(echo.out.length, input.length);
  // The fake's exit code is how many bytes came.
  t.is(echo.code, input.length % 256, echo.err);
  const warned = await gantry(`exec -it ${name} -- cat`, { input: "abc" });
  t.is(warned.code, 3);
  t.regex(warned.err, /Warning: standard input is not a terminal/);
  t.is(await ok(t, `exec ${name}/main ls -l`), "ls -l");
  await fails(t, `exec ${name}/side ls`, 1, /has no container "side"; there are: main/);
  await fails(t, `exec ${name}`, 2, /needs a pod and a command/);
  await fails(t, "exec nope -- ls", 1, /^gantry: pods "nope" not found\n$/);
});

test.serial("load sends an archive to every node, also from standard input", async (t) => {
  const archive = Buffer.alloc(2_000_000, 7);
  writeFileSync(join(dir, "image.tar"), archive);
  const loaded = await gantry("load image.tar --name local/app:1");
  t.is(loaded.code, 0, loaded.err);
  t.is(loaded.out, "loaded local/app:1 on 1 node\n");
  const piped = await gantry("load - --name local/app:2 -o json", { input: archive });
  t.deepEqual(JSON.parse(piped.out), { names: ["local/app:2"], nodes: ["node-1"] }, piped.err);
  t.deepEqual(agent.images.loaded, [{ name: "local/app:1", sizeBytes: archive.length }, { name: "local/app:2", sizeBytes: archive.length }]);
  await fails(t, "load nowhere.tar", 2, /no such file: nowhere\.tar/);
  await fails(t, `load ${dir}`, 2, /is no file/);
  await fails(t, "load image.tar image.tar", 2, /needs one file/);
});

test.serial("delete waits until what it deletes is gone, and says what isn't there", async (t) => {
  t.is(await ok(t, "delete deploy/web"), 'deployment.apps "web" deleted\n');
  await eventually(async () => (await gantry("get pods")).out === "", "its pods are gone too");
  await fails(t, "delete deploy web", 1, /"web" not found/);
  t.is(await ok(t, "delete deploy web --ignore-not-found"), "");
  await fails(t, "delete pods", 2, /name the pods to delete, or give --all or --selector/);
  await fails(t, "delete cm b --all", 2, /--all chooses among all configmaps/);
  await fails(t, "delete -f x.yaml pods", 2, /-f says what to delete/);
  await fails(t, "delete cm b --cascade sideways", 2, /--cascade: "sideways" is not one of background, foreground, orphan/);
  await ok(t, "apply -f -", "{apiVersion: v1, kind: ConfigMap, metadata: {name: stuck, finalizers: [example.io/never]}}");
  const stuck = await gantry("delete cm stuck --timeout 300ms");
  t.is(stuck.code, 1);
  t.regex(stuck.err, /configmaps "stuck" was not gone after 0\.3 s/);
  await ok(t, "apply -f -", "{apiVersion: v1, kind: ConfigMap, metadata: {name: stuck, finalizers: null}}");
  t.regex(await ok(t, "delete cm --all"), /configmap "b" deleted\n[^]*configmap "settings" deleted\n/);
  t.regex(await ok(t, `apply -f ${EXAMPLES}/web.yaml`), /configmap\/web-pages created\ndeployment\.apps\/web created\n/);
  t.is(await ok(t, `delete -f ${EXAMPLES}/web.yaml`), 'configmap "web-pages" deleted\ndeployment.apps "web" deleted\n');
});

test.serial("drain says what may not go, and by which flag it may; then it is gone, and the node can be used again", async (t) => {
  const pod = (name: string, spec: string): string => `{apiVersion: v1, kind: Pod, metadata: {name: ${name}, labels: {of: drain}}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: x}], ${spec}}}\n---\n`;
  await ok(t, "apply -f -", pod("lonely", "nodeName: node-1") + pod("files", "nodeName: node-1, volumes: [{name: v, emptyDir: {}}]"));
  const drain = "drain node/node-1 --pod-selector of=drain";
  await fails(t, drain, 1, /unable to drain node "node-1", which stays cordoned: cannot delete Pods that declare no controller \(use --force to override\): default\/files, default\/lonely; cannot delete Pods with local storage \(use --delete-emptydir-data to override\): default\/files/);
  const dry = await gantry(`${drain} --force --delete-emptydir-data --dry-run`);
  t.regex(dry.out, /^node\/node-1 already cordoned \(dry run\)\n(pod\/(files|lonely) evicted \(dry run\)\n){2}node\/node-1 drained \(dry run\)\n$/);
  t.regex(dry.err, /^Warning: --dry-run is deprecated and can be replaced with --dry-run=client\.\n/);
  const drained = await gantry(`${drain} --force --delete-emptydir-data --timeout 30s`);
  t.is(drained.code, 0, drained.err);
  t.regex(drained.out, /^node\/node-1 already cordoned\n(pod\/(files|lonely) evicted\n){2}node\/node-1 drained\n$/);
  t.regex(drained.err, /Warning: deleting Pods that declare no controller: default\/files, default\/lonely\nWarning: deleting Pods with local storage: default\/files\n(node-1: .*\n)*$/);
  t.is(await ok(t, "uncordon -l kubernetes.io/hostname=node-1"), "node/node-1 uncordoned\n");
  await fails(t, "cordon node-9", 1, /nodes "node-9" not found/);
  await fails(t, "drain", 2, /gantry drain needs the name of a node, or --selector/);
  await fails(t, "drain node-1 -l a=b", 2, /--selector chooses among all nodes: it can't go with the name "node-1"/);
});

test.serial("every example is accepted", async (t) => {
  const out = await ok(t, `apply -f ${EXAMPLES} --dry-run=server -o name`);
  for (const name of ["deployment.apps/hundred", "cronjob.batch/midnight", "deployment.apps/web"]) t.true(out.split("\n").includes(name), out);
});

test.serial("the administrator's kubeconfig is for its owner only; the control plane ends in order", async (t) => {
  t.is(statSync(kubeconfig).mode & 0o777, 0o600);
  await agent.close();
  controlPlane.kill("SIGTERM");
  t.is(await (controlPlane as ReturnType<typeof start>).closed, 0);
});
