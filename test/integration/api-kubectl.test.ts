// The API judged by clients that nobody here wrote: real kubectl binaries, from the PATH or beside what the PATH's kubectl links
// to. A version that is not on this machine says so in its test's title.
import { execFile, spawn } from "node:child_process";
import { chmod, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import test from "ava";
import type { ExecutionContext } from "ava";
import type { StreamFrame } from "../../proto/gen/gantry/v1/agent.ts";
import { startTestApi } from "../helpers/api-server.ts";
import type { TestApi } from "../helpers/api-server.ts";
import { findKubectl } from "../helpers/kubectl.ts";

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

class Kubectl {
  readonly #path: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #t: ExecutionContext;

  constructor(t: ExecutionContext, path: string, api: TestApi, env: NodeJS.ProcessEnv = {}) {
    this.#t = t;
    this.#path = path;
    // A cache of its own: discovery of another server must not leak in.
    this.#env = { PATH: process.env["PATH"], HOME: api.directory, KUBECONFIG: api.kubeconfig, KUBECACHEDIR: join(api.directory, "cache"), ...env };
  }

  run(args: readonly string[], input = ""): Promise<Ran> {
    return new Promise((resolve) => {
      const child = execFile(this.#path, args, { env: this.#env, timeout: 30_000, maxBuffer: 16 << 20 }, (error, out, err) =>
        resolve({ code: error ? Number(error.code ?? 1) : 0, out, err }));
      child.stdin?.end(input);
    });
  }

  /** Must succeed; gives what it printed. */
  async ok(args: string, input?: string): Promise<string> {
    const { code, out, err } = await this.run(args.split(" "), input);
    this.#t.is(code, 0, `kubectl ${args}: ${err}`);
    return out;
  }

  /** Must fail; gives what it complained. */
  async fails(args: string, input?: string): Promise<string> {
    const { code, err } = await this.run(args.split(" "), input);
    this.#t.not(code, 0, `kubectl ${args} should have failed`);
    return err;
  }

  /** A process whose output a test waits for. */
  follow(args: string): { line(match: RegExp): Promise<string>; done: Promise<number> } {
    const child = spawn(this.#path, args.split(" "), { env: this.#env, stdio: ["ignore", "pipe", "pipe"] });
    this.#t.teardown(() => child.kill("SIGKILL"));
    let text = "";
    const waiting: { match: RegExp; resolve: (line: string) => void }[] = [];
    const look = (): void => {
      for (const w of waiting) {
        const found = text.split("\n").find((line) => w.match.test(line));
        if (found !== undefined) w.resolve(found);
      }
    };
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      look();
    });
    return {
      line: (match) => new Promise((resolve, reject) => {
        waiting.push({ match, resolve });
        child.on("exit", () => {
          look();
          reject(new Error(`kubectl ${args} ended without ${match}: ${text}`));
        });
        look();
      }),
      done: new Promise((resolve) => child.on("exit", (code) => resolve(code ?? -1))),
    };
  }
}

const DEPLOYMENT = (image: string, extra = ""): string => `apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: main
        image: ${image}
        ports: [{containerPort: 80}]
        env: [{name: A, value: "1"}]
${extra}`;

const POD = `apiVersion: v1
kind: Pod
metadata: {name: box, labels: {app: box, tier: back}}
spec:
  nodeName: n1
  terminationGracePeriodSeconds: 3
  containers: [{name: main, image: "box:1"}]
`;

const say = (text: string): StreamFrame => ({ frame: { $case: "stdout", value: Buffer.from(text) } });
const result = (exitCode: number): StreamFrame => ({ frame: { $case: "result", value: { code: "", message: "", exitCode, names: [] } } });

/** A node with one container that logs, echoes its input, and exits as it is told. */
const addNode = (api: TestApi): void => {
  api.nodes.set("n1", async function* (request, input, signal) {
    if (request.kind?.$case === "logs") {
      const { tailLines, follow, previous, timestamps } = request.kind.value;
      const lines = [previous ? "before" : "one", "two", "three"].slice(-(tailLines ?? 3));
      for (const line of lines) yield say(`${timestamps ? "2026-01-01T00:00:00.000000000Z " : ""}${line}\n`);
      if (follow) {
        await new Promise((resolve) => setTimeout(resolve, 100));
        if (!signal.aborted) yield say("late\n");
      }
      return;
    }
    if (request.kind?.$case === "portForward") {
      if (request.kind.value.port === 9) {
        yield { frame: { $case: "result", value: { code: "ServiceUnavailable", message: "nobody listens on port 9 in the pod", exitCode: 0, names: [] } } };
        return;
      }
      // A server that says back what it hears, and ends after the first line.
      for await (const { frame } of input) {
        if (frame?.$case === "stdin") yield { frame: { $case: "stdout", value: frame.value } };
        if (frame?.$case === "stdinClosed" || (frame?.$case === "stdin" && frame.value.includes(10))) break;
      }
      yield result(0);
      return;
    }
    if (request.kind?.$case === "attach") {
      for await (const { frame } of input) {
        if (frame?.$case === "stdin") yield say(`heard ${frame.value.toString()}`);
        if (frame?.$case === "stdinClosed") break;
      }
      yield result(0);
      return;
    }
    if (request.kind?.$case !== "exec") return;
    const { command, stdin } = request.kind.value;
    if (command[0] === "cat" && stdin) {
      for await (const { frame } of input) {
        if (frame?.$case === "stdin") yield { frame: { $case: "stdout", value: frame.value } };
        if (frame?.$case === "stdinClosed") break;
      }
      yield result(0);
    } else {
      yield say(`ran ${command.join(" ")}\n`);
      yield { frame: { $case: "stderr", value: Buffer.from("to stderr\n") } };
      yield result(command[0] === "false" ? 3 : 0);
    }
  });
};

const running = async (api: TestApi): Promise<void> => {
  const now = "2026-01-01T00:00:00Z";
  await api.call("PATCH", "/api/v1/namespaces/default/pods/box/status", {
    contentType: "application/merge-patch+json",
    body: { status: { phase: "Running", podIP: "10.64.0.9", hostIP: "10.0.0.1", startTime: now, conditions: [{ type: "Ready", status: "True", lastTransitionTime: now }],
      containerStatuses: [{ name: "main", image: "box:1", imageID: "", ready: true, restartCount: 0, state: { running: { startedAt: now } }, lastState: { terminated: { exitCode: 1, reason: "Error", containerID: "x" } } }] } },
  });
};

const rolledOut = async (api: TestApi): Promise<void> => {
  const { json } = await api.call("GET", "/apis/apps/v1/namespaces/default/deployments/web");
  const replicas = (json as { spec: { replicas: number } }).spec.replicas;
  await api.call("PATCH", "/apis/apps/v1/namespaces/default/deployments/web/status", {
    contentType: "application/merge-patch+json",
    body: { status: { observedGeneration: (json as { metadata: { generation: number } }).metadata.generation, replicas, updatedReplicas: replicas, readyReplicas: replicas, availableReplicas: replicas,
      conditions: [{ type: "Available", status: "True", reason: "MinimumReplicasAvailable", message: "ok", lastUpdateTime: "2026-01-01T00:00:00Z", lastTransitionTime: "2026-01-01T00:00:00Z" }] } },
  });
};

/** One line there and back through a forwarded port; "" when the connection is closed before. */
const echoed = (port: string, line: string): Promise<string> =>
  new Promise((resolve, reject) => {
    let text = "";
    const socket = connect(Number(port), "127.0.0.1", () => socket.write(line));
    socket.on("data", (data) => (text += data.toString()));
    socket.on("close", () => resolve(text));
    socket.on("error", reject);
  });

/** Several connections at once, a large one, and one to a port that nobody listens on. */
const forwards = async (t: ExecutionContext, kubectl: Kubectl): Promise<void> => {
  const forwarding = kubectl.follow("port-forward box :80 :9");
  const [, open] = /:(\d+) -> 80/.exec(await forwarding.line(/127\.0\.0\.1:\d+ -> 80/))!;
  const [, closed] = /:(\d+) -> 9/.exec(await forwarding.line(/127\.0\.0\.1:\d+ -> 9/))!;
  const lines = ["one\n", "two\n", `${"x".repeat(500_000)}\n`];
  t.deepEqual((await Promise.all(lines.map((line) => echoed(open!, line)))).map((l) => l.length), lines.map((l) => l.length));
  t.is(await echoed(closed!, "x\n").catch(() => ""), "");
  await forwarding.line(/nobody listens on port 9 in the pod/);
};

const minorOf = (version: string): number => Number(version.split(".")[1]);

for (const version of ["1.33", "1.30", "1.27"]) {
  const path = findKubectl(version);
  if (path === undefined) {
    test(`kubectl ${version} is not on this machine: other clients judge`, (t) => t.pass());
    continue;
  }

  const setUp = async (t: ExecutionContext): Promise<{ api: TestApi; kubectl: Kubectl }> => {
    const api = await startTestApi();
    t.teardown(() => api[Symbol.asyncDispose]());
    addNode(api);
    return { api, kubectl: new Kubectl(t, path, api) };
  };

  test(`kubectl ${version}: version, cluster-info, api-resources, explain`, async (t) => {
    const { kubectl } = await setUp(t);
    t.regex(await kubectl.ok("version"), /Server Version: .*v1\.33\.0\+gantry/);
    t.regex(await kubectl.ok("cluster-info"), /control plane.* is running at/);
    t.regex(await kubectl.ok("api-resources"), /deployments +deploy +apps\/v1 +true +Deployment/);
    t.regex(await kubectl.ok("api-versions"), /batch\/v1/);
    t.regex(await kubectl.ok("explain deployment.spec.replicas"), /replicas\s+<integer>/);
    t.regex(await kubectl.ok("get --raw /readyz?verbose"), /\[\+\]store ok/);
  });

  test(`kubectl ${version}: apply creates, changes nothing, changes, prunes fields; diff and edit`, async (t) => {
    const { api, kubectl } = await setUp(t);
    t.regex(await kubectl.ok("apply -f -", DEPLOYMENT("img:1", "        command: [sleep]\n")), /created/);
    t.regex(await kubectl.ok("apply -f -", DEPLOYMENT("img:1", "        command: [sleep]\n")), /unchanged/);
    t.regex(await kubectl.ok("apply -f -", DEPLOYMENT("img:2")), /configured/);
    t.is(await kubectl.ok("get deploy web -o jsonpath={.spec.template.spec.containers[0].image}|{.spec.template.spec.containers[0].command}"), "img:2|");
    t.regex(await kubectl.ok("apply --dry-run=server -f -", DEPLOYMENT("img:3")), /configured \(server dry run\)/);
    t.regex(await kubectl.fails("apply -f -", DEPLOYMENT("img:1", "        colour: red\n")), /unknown field "spec\.template\.spec\.containers\[0\]\.colour"/);
    t.regex(await kubectl.fails("apply -f -", DEPLOYMENT("img:1").replace("replicas: 2", "replicas: -2")), /The Deployment "web" is invalid: spec\.replicas: Invalid value: -2: must be greater than or equal to 0/);
    t.regex(await kubectl.fails("apply -f -", DEPLOYMENT("img:1").replace("replicas: 2", "replicas: two")), /replicas|unmarshal|invalid/);
    const editor = join(api.directory, "editor");
    await writeFile(editor, "#!/bin/sh\nsed -i 's/replicas: 2/replicas: 4/' \"$1\"\n");
    await chmod(editor, 0o755);
    const edited = await new Kubectl(t, path, api, { EDITOR: editor }).ok("edit deploy web");
    t.regex(edited, /edited/);
    t.is(await kubectl.ok("get deploy web -o jsonpath={.spec.replicas}"), "4");
    if (minorOf(version) >= 28) t.regex(await kubectl.fails("apply --server-side -f -", DEPLOYMENT("img:1")), /server-side apply|unsupported media type|415/i);
    t.regex(await kubectl.ok("delete -f -", DEPLOYMENT("img:1")), /deleted/);
  });

  test(`kubectl ${version}: create, get in every form, label, annotate, patch, scale, set image, describe, delete`, async (t) => {
    const { api, kubectl } = await setUp(t);
    t.regex(await kubectl.ok("create deployment web --image=img:1 --replicas=3"), /created/);
    t.regex(await kubectl.ok("create configmap conf --from-literal=a=1"), /created/);
    t.regex(await kubectl.ok("create secret generic hush --from-literal=password=swordfish"), /created/);
    t.regex(await kubectl.ok("create namespace team"), /created/);
    t.regex(await kubectl.ok("create job once --image=img:1 -- sleep 1"), /created/);
    t.regex(await kubectl.ok("create cronjob night --image=img:1 --schedule=0_0_*_*_* -- sleep 1".replaceAll("_", " ").replace("--schedule=0 0 * * *", "--schedule=@daily")), /created/);
    t.regex(await kubectl.ok("create -f - --validate=strict", POD), /pod\/box created/);
    t.regex(await kubectl.fails("create -f -", POD), /AlreadyExists.*pods "box" already exists/s);
    t.regex(await kubectl.fails("create configmap Bad_Name"), /Invalid value: "Bad_Name"/);
    t.regex(await kubectl.ok("get pods -o wide"), /^NAME +READY +STATUS +RESTARTS +AGE +IP +NODE +NOMINATED NODE +READINESS GATES\nbox +0\/1 +Pending +0 +\S+ +<none> +n1 /);
    t.regex(await kubectl.ok("get pods -A"), /NAMESPACE +NAME +READY.*\ndefault +box /);
    t.regex(await kubectl.ok("get pods,deploy,cm -l app=box"), /pod|box/);
    t.is(await kubectl.ok("get pods -l app=box,tier!=front -o name"), "pod/box\n");
    t.is(await kubectl.ok("get pods -l app=nothing"), "");
    t.is(await kubectl.ok("get pods --field-selector spec.nodeName=n1 -o name"), "pod/box\n");
    t.is((JSON.parse(await kubectl.ok("get deploy web -o json")) as { spec: { replicas: number } }).spec.replicas, 3);
    t.regex(await kubectl.ok("get secret hush -o yaml"), /password: c3dvcmRmaXNo/);
    t.regex(await kubectl.ok("get deploy"), /NAME +READY +UP-TO-DATE +AVAILABLE +AGE\nweb +0\/3 /);
    t.regex(await kubectl.ok("get pods --sort-by=.metadata.name"), /box/);
    t.regex(await kubectl.ok("get all"), /deployment\.apps\/web/);
    t.regex(await kubectl.fails("get pod nope"), /Error from server \(NotFound\): pods "nope" not found/);
    await kubectl.ok("label pod box colour=red");
    t.is(await kubectl.ok("get pods -l colour=red -o name"), "pod/box\n");
    await kubectl.ok("label pod box colour-");
    await kubectl.ok("annotate pod box note=hello");
    t.is(await kubectl.ok("get pod box -o jsonpath={.metadata.annotations.note}"), "hello");
    await kubectl.ok('patch deploy web -p {"spec":{"replicas":4}}');
    await kubectl.ok('patch deploy web --type=merge -p {"spec":{"paused":true}}');
    await kubectl.ok('patch deploy web --type=json -p [{"op":"remove","path":"/spec/paused"}]');
    t.is(await kubectl.ok("get deploy web -o jsonpath={.spec.replicas}{.spec.paused}"), "4");
    t.regex(await kubectl.ok("scale deploy web --replicas=7"), /scaled/);
    t.regex(await kubectl.fails("scale deploy web --replicas=9 --current-replicas=1"), /Expected replicas to be 1/);
    t.regex(await kubectl.ok("set image deploy/web img=img:9"), /updated/);
    t.is(await kubectl.ok("get deploy web -o jsonpath={.spec.replicas}:{.spec.template.spec.containers[0].image}"), "7:img:9");
    t.regex(await kubectl.ok("describe deploy web"), /Replicas: +7 desired/);
    t.regex(await kubectl.ok("describe pod box"), /Node: +n1/);
    t.regex(await kubectl.ok("describe ns team"), /Status: +Active/);
    t.is(await kubectl.ok("get events"), "");
    const uid = await kubectl.ok("get pod box -o jsonpath={.metadata.uid}");
    await api.call("POST", "/api/v1/namespaces/default/events", { body: {
      metadata: { name: "box.1" }, involvedObject: { apiVersion: "v1", kind: "Pod", namespace: "default", name: "box", uid }, type: "Warning", reason: "Unlucky", message: "it rained", count: 3,
      firstTimestamp: "2026-01-01T00:00:00Z", lastTimestamp: "2026-01-01T00:00:05Z", source: { component: "weather" },
    } });
    t.regex(await kubectl.ok("get events"), /Warning +Unlucky +pod\/box +it rained/);
    t.regex(await kubectl.ok("events --for pod/box"), /Unlucky/);
    t.regex(await kubectl.ok("describe pod box"), /Warning +Unlucky .*it rained/);
    if (minorOf(version) >= 28) t.regex(await kubectl.ok("get deploy web --subresource=status"), /web +0\/7/);
    t.regex(await kubectl.ok("delete pod box --grace-period=0 --force"), /deleted/);
    t.regex(await kubectl.ok("delete deploy,cm,job,cronjob --all --wait=false"), /deployment\.apps "web" deleted/);
    t.is(await kubectl.ok("get deploy,cm -o name"), "");
  });

  test(`kubectl ${version}: get -w, wait, rollout status and restart, delete --wait`, async (t) => {
    const { api, kubectl } = await setUp(t);
    const follow = kubectl.follow("get pods -w");
    await kubectl.ok("create -f -", POD);
    t.regex(await follow.line(/^box/), /Pending/);
    await running(api);
    t.regex(await follow.line(/Running/), /box +1\/1 +Running/);
    t.regex(await kubectl.ok("wait --for=condition=Ready pod/box --timeout=10s"), /condition met/);
    t.regex(await kubectl.ok("wait --for=jsonpath={.status.phase}=Running pod/box --timeout=10s"), /condition met/);
    await kubectl.ok("create deployment web --image=img:1 --replicas=2");
    const rollout = kubectl.follow("rollout status deploy/web --timeout=20s");
    await rollout.line(/Waiting for deployment/);
    await rolledOut(api);
    t.is(await rollout.done, 0);
    t.regex(await kubectl.ok("rollout restart deploy/web"), /restarted/);
    await kubectl.ok("scale deploy web --replicas=5");
    const deleting = kubectl.follow("delete pod box");
    await deleting.line(/deleted/);
    await api.call("DELETE", "/api/v1/namespaces/default/pods/box?gracePeriodSeconds=0");
    t.is(await deleting.done, 0);
  });

  test(`kubectl ${version}: logs (tail, since, previous, follow, selector), their errors, exec, attach and port-forward`, async (t) => {
    const { api, kubectl } = await setUp(t);
    await kubectl.ok("create -f -", POD);
    t.regex(await kubectl.fails("logs box"), /container "main" in pod "box" is not available/);
    await running(api);
    t.is(await kubectl.ok("logs box"), "one\ntwo\nthree\n");
    t.is(await kubectl.ok("logs box --tail=1"), "three\n");
    t.is(await kubectl.ok("logs box -p --since=1h"), "before\ntwo\nthree\n");
    t.is(await kubectl.ok("logs -f box --tail=1"), "three\nlate\n");
    t.is(await kubectl.ok("logs -l app=box --prefix --tail=1"), "[pod/box/main] three\n");
    t.regex(await kubectl.ok("logs box --timestamps --tail=1"), /^2026-01-01T/);
    t.is(await kubectl.ok("logs box --limit-bytes=5"), "one\nt");
    t.regex(await kubectl.fails("logs box -c nope"), /container nope is not valid for pod box/);
    const ran = await kubectl.run(["exec", "box", "--", "echo", "a b"]);
    t.like(ran, { code: 0, out: "ran echo a b\n", err: "to stderr\n" });
    t.is((await kubectl.run(["exec", "box", "--", "false"])).code, 3);
    const big = "x".repeat(300_000);
    t.is((await kubectl.run(["exec", "-i", "box", "--", "cat"], big)).out.length, big.length);
    t.regex(await kubectl.fails("exec nope -- true"), /pods "nope" not found/);
    t.regex((await kubectl.run(["attach", "-i", "box"], "hello\n")).out, /heard hello/);
    await forwards(t, kubectl);
    api.nodes.delete("n1");
    t.regex(await kubectl.fails("exec box -- true"), /node n1 is not connected/);
  });
}
