// The pod service on a fake runtime and a fake clock: whole lives of pods in milliseconds.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { FakeClock, settle } from "../../base/clock.ts";
import { GantryError, isCode } from "../../base/errors.ts";
import { silentLogger } from "../../base/logger.ts";
import { Metrics } from "../../base/metrics.ts";
import type { ContainerState, PodStatus, StreamFrame } from "../../proto/gen/gantry/v1/agent.ts";
import type { Image } from "../images/image-service.ts";
import { LocalState } from "../local-state.ts";
import { FakeMachine, FakeRuntime } from "../runtime/fake-runtime.ts";
import { VolumeService } from "../volumes/volume-service.ts";
import type { Assignment } from "./assignment.ts";
import { createPodService } from "./local-pod-service.ts";
import { containerId } from "./pod-record.ts";
import type { PodService } from "./pod-service.ts";
import { podHostname } from "./sandbox.ts";
import { makePod, type PodShape } from "./testing.ts";

const IMAGE: Image = {
  id: "sha256:aa", manifestDigest: "sha256:bb", names: ["docker.io/library/app:1"], sizeBytes: 1, architecture: "amd64", layerDirs: ["/layer"],
  config: { entrypoint: [], cmd: ["sh", "-c", "forever"], env: [], workingDir: "", user: "", stopSignal: "", volumes: [], labels: {}, exposedPorts: [] },
};

class Bench {
  readonly directory = mkdtempSync(join(tmpdir(), "gantry-pods-"));
  readonly clock = new FakeClock();
  readonly machine = new FakeMachine();
  readonly attached = new Set<string>();
  readonly pinned = new Set<string>();
  readonly cgroups = new Set<string>();
  readonly images = new Map<string, Image>([["app:1", IMAGE], [IMAGE.id, IMAGE]]);
  pulls: string[] = [];
  pullError: Error | undefined;
  attachError: Error | undefined;
  reports: PodStatus[] = [];
  runtime!: FakeRuntime;
  state!: LocalState;
  service!: PodService;

  constructor(t: ExecutionContext) {
    t.teardown(() => rmSync(this.directory, { recursive: true, force: true }));
  }

  async open(): Promise<this> {
    const { clock } = this;
    this.runtime = new FakeRuntime({ clock, machine: this.machine });
    this.state = LocalState.open(join(this.directory, "state.db"), silentLogger);
    this.service = createPodService({
      state: this.state, runtime: this.runtime, clock, random: () => 0.5, logger: silentLogger, metrics: new Metrics(),
      images: {
        resolve: (reference) => this.images.get(reference),
        pull: (reference) => {
          this.pulls.push(reference);
          return this.pullError ? Promise.reject(this.pullError) : Promise.resolve(IMAGE);
        },
      },
      network: {
        attach: (uid) => {
          if (this.attachError) throw this.attachError;
          this.attached.add(uid);
          return { ip: "10.1.2.3", gateway: "10.1.2.1", prefixLength: 24 };
        },
        detach: (uid) => void this.attached.delete(uid), reconcile: () => undefined,
      },
      namespaces: {
        pinNamespaces: ({ net, ipc, uts }) => { for (const path of [net, ipc, uts]) if (path) this.pinned.add(path); },
        unpin: (path) => void this.pinned.delete(path), isPinned: (path) => this.pinned.has(path),
      },
      mounts: { mountTmpfs: () => undefined, unmount: () => undefined },
      cgroups: { create: (path) => void this.cgroups.add(path), remove: async (path) => void this.cgroups.delete(path) },
      volumes: new VolumeService({ root: join(this.directory, "volumes"), localRoot: join(this.directory, "local") }),
      options: { runRoot: join(this.directory, "run"), logRoot: join(this.directory, "logs"), nodeMemoryBytes: 8e9, defaultPidsLimit: 0, maxLogBytes: 100, maxLogFiles: 3, hostIp: () => "192.0.2.1" },
    });
    this.service.onStatus((status) => this.reports.push(status));
    await this.service.recover();
    return this;
  }

  /** SIGKILL and a new agent: nothing is told to the old one. */
  async restart(): Promise<void> {
    await settle();
    this.runtime.close();
    await this.service.close();
    this.state[Symbol.dispose]();
    this.reports = [];
    await this.open();
    await this.rest();
  }

  async rest(): Promise<void> {
    for (let i = 0; i < 6; i++) await settle();
  }

  async run(...pods: readonly Assignment[]): Promise<void> {
    for (const p of pods) this.service.upsert(p);
    await this.rest();
  }

  last(uid = "u"): PodStatus {
    return this.service.statuses().find((s) => s.uid === uid)!;
  }

  id(name = "main", attempt = 0, uid = "u"): string {
    return containerId(uid, name, attempt);
  }
}

const open = (t: ExecutionContext): Promise<Bench> => new Bench(t).open();
const pod = (shape: PodShape = {}): Assignment => makePod({ ...shape, containers: (shape.containers ?? [{}]).map((c) => ({ name: "main", image: "app:1", ...c })) });
const deleted = (p: Assignment, graceMs = 5000): Assignment => ({ ...p, generation: p.generation + 1, deletion: { requestedMs: 0, graceMs } });
const show = (state: ContainerState | undefined): string => {
  const s = state?.state;
  return s?.$case === "waiting" ? `waiting ${s.value.reason}` : s?.$case === "terminated" ? `terminated ${s.value.reason} ${s.value.exitCode}` : (s?.$case ?? "nothing");
};

test("a pod that comes up at once costs one report, with its address, times and stages", async (t) => {
  const b = await open(t);
  await b.run(pod());
  t.is(b.reports.length, 1);
  const [status] = b.reports;
  t.like(status, { phase: "Running", generation: 1, podIps: ["10.1.2.3"], hostIp: "192.0.2.1", initialized: true, gone: false });
  t.like(status!.containers[0], { ready: true, started: true, restartCount: 0, containerId: `fake://${b.id()}`, imageId: "sha256:aa" });
  t.deepEqual(Object.keys(status!.stagesMs), ["accepted", "pulled", "sandboxed", "created", "started"]);
  t.deepEqual([...b.service.imagesInUse()], ["sha256:aa"]);
});

test("a deleted pod is asked, then killed, reported gone once, and leaves nothing", async (t) => {
  const b = await open(t);
  const stubborn = pod();
  const polite = pod({ uid: "v", containers: [{ command: ["sh", "-c", "trap"] }] });
  await b.run(stubborn, polite);
  await b.run(deleted(stubborn), deleted(polite));
  t.true(b.last("v").gone, "SIGTERM was enough");
  t.false(b.last("u").gone);
  await b.clock.advance(5000);
  await b.rest();
  t.true(b.last("u").gone);
  t.is(b.reports.filter((s) => s.gone).length, 2);
  t.deepEqual(show(b.last("u").containers[0]!.state), "terminated Error 137");
  t.deepEqual([b.attached.size, b.pinned.size, b.cgroups.size, b.machine.containers.size], [0, 0, 0, 0]);
  b.service.remove("u");
  b.service.remove("v");
  await b.rest();
  t.deepEqual(b.service.statuses(), []);
  t.is(b.state.records().size, 0);
});

test("a crash is restarted at once, then with back-off, shown as CrashLoopBackOff with its last end", async (t) => {
  const b = await open(t);
  await b.run(pod({ containers: [{ command: ["sh", "-c", "exit 4"] }] }));
  await b.rest();
  const container = b.last().containers[0]!;
  t.is(show(container.state), "waiting CrashLoopBackOff");
  t.regex(container.state!.state?.$case === "waiting" ? container.state!.state.value.message : "", /^back-off 10s restarting failed container=main pod=p_ns\(u\)$/);
  t.is(show(container.lastState), "terminated Error 4");
  t.is(container.restartCount, 1);
  t.is(b.last().phase, "Running");
  await b.clock.advance(10_000);
  await b.rest();
  t.is(b.last().containers[0]!.restartCount, 2);
  t.is(b.machine.containers.size, 0, "those that ended are removed");
});

test("restartPolicy Never and OnFailure: Succeeded and Failed release all but the status", async (t) => {
  const b = await open(t);
  await b.run(pod({ restartPolicy: "Never", containers: [{ command: ["sh", "-c", "exit 0"] }] }), pod({ uid: "v", restartPolicy: "Never", containers: [{ command: ["sh", "-c", "exit 9"] }] }));
  t.is(b.last("u").phase, "Succeeded");
  t.is(show(b.last("u").containers[0]!.state), "terminated Completed 0");
  t.is(b.last("v").phase, "Failed");
  t.deepEqual([b.attached.size, b.pinned.size, b.cgroups.size, b.machine.containers.size], [0, 0, 0, 0]);
  await b.run(deleted(pod({ restartPolicy: "Never", containers: [{ command: ["sh", "-c", "exit 0"] }] })));
  t.true(b.last("u").gone);
});

test("init containers come first; the pod is PodInitializing until then", async (t) => {
  const b = await open(t);
  await b.run(pod({ initContainers: [{ name: "init", image: "app:1" }] }));
  t.is(show(b.last().initContainers[0]!.state), "running");
  t.is(show(b.last().containers[0]!.state), "waiting PodInitializing");
  t.is(b.last().phase, "Pending");
  b.runtime.end(b.id("init"), 0);
  await b.rest();
  t.is(b.last().phase, "Running");
  t.true(b.last().initialized);
  t.is(show(b.last().initContainers[0]!.state), "terminated Completed 0");
});

test("image faults have their names, and pulls back off", async (t) => {
  const b = await open(t);
  b.pullError = new GantryError("NotFound", "no such image other:1");
  await b.run(pod({ containers: [{ image: "other:1" }] }));
  t.is(show(b.last().containers[0]!.state), "waiting ErrImagePull");
  await b.clock.advance(1000);
  await b.rest();
  const { state } = b.last().containers[0]!;
  t.is(show(state), "waiting ImagePullBackOff");
  t.regex(state!.state?.$case === "waiting" ? state!.state.value.message : "", /Back-off pulling image "other:1": ErrImagePull: no such image/);
  t.is(b.pulls.length, 1);
  b.pullError = undefined;
  await b.clock.advance(9000);
  await b.rest();
  t.is(b.last().phase, "Running");
  await b.run(pod({ uid: "v", containers: [{ image: "other:1", imagePullPolicy: "Never" }] }), pod({ uid: "w", containers: [{ image: "NOT valid" }] }));
  t.is(show(b.last("v").containers[0]!.state), "waiting ErrImageNeverPull");
  t.is(show(b.last("w").containers[0]!.state), "waiting InvalidImageName");
});

test("what can't be run: StartError is an end, config errors and runtime errors wait", async (t) => {
  const b = await open(t);
  await b.run(pod({ restartPolicy: "Never", containers: [{ command: ["nope"] }] }));
  t.is(b.last().phase, "Failed");
  t.is(show(b.last().containers[0]!.state), "terminated StartError 128");
  await b.run(pod({ uid: "v", containers: [{ mounts: [{ volume: "none", path: "/x", readOnly: false, subPath: "", propagation: "" }] }] }));
  t.is(show(b.last("v").containers[0]!.state), "waiting CreateContainerConfigError");
  b.runtime.failNext.set("create", new GantryError("InternalError", "disk full"));
  await b.run(pod({ uid: "w" }));
  t.is(show(b.last("w").containers[0]!.state), "waiting CreateContainerError");
  await b.clock.advance(10_000);
  await b.rest();
  t.is(b.last("w").phase, "Running");
  await b.run(pod({ uid: "x", unresolved: { main: "configmap \"c\" not found" } }));
  t.is(show(b.last("x").containers[0]!.state), "waiting CreateContainerConfigError");
  await b.run(pod({ uid: "x", generation: 2 }));
  t.is(b.last("x").phase, "Running", "the new assignment has it");
});

test("without an address yet the sandbox is tried again soon", async (t) => {
  const b = await open(t);
  b.attachError = new GantryError("FailedPrecondition", "this node has no pod CIDR yet");
  await b.run(pod());
  t.is(b.pinned.size, 0, "what was made is undone");
  await b.clock.advance(400);
  await b.rest();
  t.like(b.reports.at(-1), { phase: "Pending" });
  const { state } = b.last().containers[0]!;
  t.regex(state!.state?.$case === "waiting" ? state!.state.value.message : "", /no pod CIDR/);
  b.attachError = undefined;
  await b.clock.advance(2000);
  await b.rest();
  t.is(b.last().phase, "Running");
});

test("OOMKilled is said; a deadline fails the pod", async (t) => {
  const b = await open(t);
  await b.run(pod({ restartPolicy: "Never" }), pod({ uid: "v", activeDeadlineMs: 60_000, terminationGraceMs: 1000, restartPolicy: "Never" }));
  b.runtime.end(b.id(), 137, 9, true);
  await b.clock.advance(62_000);
  await b.rest();
  t.is(show(b.last("u").containers[0]!.state), "terminated OOMKilled 137");
  t.like(b.last("v"), { phase: "Failed", reason: "DeadlineExceeded" });
  t.is(b.machine.containers.size, 0);
});

test("SIGKILL of the agent: same processes, no restart counted, exits of meanwhile are right, generations go on", async (t) => {
  const b = await open(t);
  await b.run(pod(), pod({ uid: "v", restartPolicy: "Never" }), pod({ uid: "w", restartPolicy: "Never" }));
  const before = b.runtime.inspect(b.id());
  const generation = b.last("v").generation;
  b.runtime.close();
  b.runtime.end(b.id("main", 0, "v"), 42);
  await b.restart();
  t.deepEqual(b.runtime.inspect(b.id()), before);
  t.like(b.last("u"), { phase: "Running", podIps: ["10.1.2.3"] });
  t.is(b.last("u").containers[0]!.restartCount, 0);
  t.is(show(b.last("v").containers[0]!.state), "terminated Error 42");
  t.true(b.last("v").generation > generation);
  t.is(b.runtime.calls.filter((c) => c.startsWith("create") || c.startsWith("kill")).length, 0);
  // The complete set lacks w: it is not this node's any more.
  b.service.setAll([pod(), pod({ uid: "v", restartPolicy: "Never" })]);
  await b.rest();
  t.deepEqual(b.service.statuses().map((s) => s.uid).sort(), ["u", "v"]);
  t.is(b.machine.containers.size, 1);
});

test("killed at any step, a pod still comes up once: no second container, no restart counted", async (t) => {
  for (const kind of ["create", "start"] as const) {
    const b = await open(t);
    // The step is done, but the agent dies before it can note it.
    const dead = new Promise<never>(() => undefined);
    const real = b.runtime[kind].bind(b.runtime);
    b.runtime[kind] = (async (argument: never) => {
      await real(argument);
      return dead;
    });
    await b.run(pod());
    await b.restart();
    t.is(b.last().phase, "Running", kind);
    t.is(b.last().containers[0]!.restartCount, 0, kind);
    t.is(b.machine.containers.size, 1, kind);
  }
});

test("the node's records lost: containers go on where the set names them, and are removed where it doesn't", async (t) => {
  const b = await open(t);
  await b.run(pod(), pod({ uid: "v" }));
  const before = b.runtime.inspect(b.id());
  await settle();
  b.runtime.close();
  await b.service.close();
  b.state[Symbol.dispose]();
  rmSync(join(b.directory, "state.db"));
  await b.open();
  t.is(b.service.statuses().length, 0);
  b.service.setAll([pod()]);
  await b.rest();
  t.deepEqual(b.runtime.inspect(b.id()), before);
  t.is(b.last().containers[0]!.restartCount, 0);
  t.is(b.machine.containers.size, 1);
  t.deepEqual([...b.attached], ["u"]);
});

test("after a restart of the machine containers are started anew, as a restart, with a new sandbox", async (t) => {
  const b = await open(t);
  await b.run(pod());
  b.machine.containers.clear();
  b.pinned.clear();
  await b.restart();
  t.is(b.last().phase, "Running");
  t.is(b.last().containers[0]!.restartCount, 1);
  t.is(show(b.last().containers[0]!.lastState), "terminated ContainerStatusUnknown 137");
  t.true(b.pinned.size > 0);
});

test("a pod that a complete set lacks is stopped even while it pulls", async (t) => {
  const b = await open(t);
  await b.run(pod({ containers: [{ image: "slow:1" }] }));
  b.service.setAll([]);
  await b.rest();
  t.deepEqual(b.service.statuses(), []);
  t.deepEqual([b.attached.size, b.machine.containers.size], [0, 0]);
});

test("readiness decides on ready; a failed liveness probe ends the container", async (t) => {
  const b = await open(t);
  const probe = { initialDelayMs: 0, periodMs: 1000, timeoutMs: 1000, successThreshold: 1, failureThreshold: 2, terminationGraceMs: 0 };
  const exec = (script: string) => ({ ...probe, handler: { handler: { $case: "exec" as const, value: { command: ["sh", "-c", script] } } } });
  await b.run(pod({ containers: [{ readiness: exec("exit 0") }] }), pod({ uid: "v", terminationGraceMs: 1000, containers: [{ liveness: exec("exit 1") }] }));
  t.false(b.last("u").containers[0]!.ready);
  await b.clock.advance(10);
  await b.rest();
  t.true(b.last("u").containers[0]!.ready);
  for (let i = 0; i < 4; i++) {
    await b.clock.advance(1000);
    await b.rest();
  }
  t.true(b.last("v").containers[0]!.restartCount >= 1);
});

test("exec and logs: frames go through, and wrong requests say what there is", async (t) => {
  const b = await open(t);
  await b.run(pod());
  const frames: StreamFrame[] = [];
  const request = { podUid: "u", container: "", command: ["sh", "-c", "cat; exit 2"], stdin: true, stdout: true, stderr: true, tty: false };
  const input = (async function* (): AsyncIterable<StreamFrame> {
    yield await Promise.resolve({ frame: { $case: "stdin" as const, value: Buffer.from("hello") } });
    yield { frame: { $case: "stdinClosed" as const, value: true } };
  })();
  t.deepEqual(await b.service.exec(request, input, async (frame) => void frames.push(frame), new AbortController().signal), { exitCode: 2 });
  t.deepEqual(frames.map((f) => (f.frame?.$case === "stdout" ? f.frame.value.toString() : "?")), ["hello"]);
  const none = async function* (): AsyncIterable<StreamFrame> { yield* []; };
  const wrong = await t.throwsAsync(b.service.exec({ ...request, container: "typo" }, none(), async () => undefined, new AbortController().signal));
  t.true(isCode(wrong, "NotFound"));
  t.regex(wrong.message, /container "typo" is not valid for pod p; there are: main/);
  const previous = b.service.logs({ podUid: "u", container: "main", follow: false, previous: true, timestamps: false }, new AbortController().signal);
  t.regex((await t.throwsAsync(async () => { for await (const _ of previous) t.fail(); })).message, /previous terminated container "main" in pod "p" not found/);
});

test("a sandbox whose pod nobody remembers is taken down with the first complete set", async (t) => {
  const b = await open(t);
  b.pullError = new GantryError("NotFound", "no such image");
  await b.run(pod({ initContainers: [{ name: "init", image: "app:1" }] }));
  b.runtime.end(b.id("init"), 0);
  await b.rest();
  b.runtime.close();
  await b.service.close();
  b.state[Symbol.dispose]();
  b.machine.containers.clear();
  rmSync(join(b.directory, "state.db"));
  await b.open();
  t.deepEqual([b.attached.size, b.pinned.size, b.cgroups.size], [1, 3, 1]);
  b.service.setAll([]);
  await b.rest();
  t.deepEqual([b.attached.size, b.pinned.size, b.cgroups.size], [0, 0, 0]);
});

test("a log that has grown is rotated, and one whose rotation was cut short is finished", async (t) => {
  const b = await open(t);
  await b.run(pod());
  const folder = join(b.directory, "logs/ns_p_u/main");
  const path = join(folder, "0.log");
  mkdirSync(folder, { recursive: true });
  for (let i = 1; i <= 4; i++) {
    writeFileSync(path, "x".repeat(i === 2 ? 50 : 101));
    await b.clock.advance(10_000);
    t.is(existsSync(path), i === 2, `round ${i}`);
  }
  t.deepEqual(readdirSync(folder), ["0.log.2", "0.log.3"], "no more than two beside the present one");
  const reopened = () => b.runtime.calls.filter((c) => c === `reopenLog ${b.id()}`).length;
  t.is(reopened(), 3);
  await b.clock.advance(10_000);
  t.is(reopened(), 4, "the file is not there: conmon still writes to the one that was renamed");
});

test("a pod's long name is cut to a host name", (t) => {
  t.is(podHostname(makePod({ name: `${"a".repeat(62)}-b` })), "a".repeat(62));
  t.is(podHostname(makePod({ name: "p", hostname: "h" })), "h");
});
