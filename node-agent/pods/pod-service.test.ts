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
import type { PublishedPod } from "../network/pod-network.ts";
import { VolumeService } from "../volumes/volume-service.ts";
import type { Assignment } from "./assignment.ts";
import { BOOKS_AFTER_MS } from "./bursts.ts";
import { createPodService } from "./local-pod-service.ts";
import { containerId } from "./pod-record.ts";
import type { PodService } from "./pod-service.ts";
import { podHostname } from "./sandbox.ts";
import { makePod, type PodShape } from "./testing.ts";
import { IDS_PER_POD } from "./user-ids.ts";
import type { UserNamespaces } from "./user-namespaces.ts";

const IMAGE: Image = {
  id: "sha256:aa", manifestDigest: "sha256:bb", names: ["docker.io/library/app:1"], sizeBytes: 1, architecture: "amd64", createdMs: 0, manifestBytes: 0, mediaType: "", layers: [], layerDirs: ["/layer"],
  config: { entrypoint: [], cmd: ["sh", "-c", "forever"], env: [], workingDir: "", user: "", stopSignal: "", volumes: [], labels: {}, exposedPorts: [] },
};

class Bench {
  readonly directory = mkdtempSync(join(tmpdir(), "gantry-pods-"));
  readonly clock = new FakeClock();
  readonly machine = new FakeMachine();
  readonly attached = new Set<string>();
  readonly published = new Map<string, PublishedPod>();
  readonly pinned = new Set<string>();
  readonly cgroups = new Set<string>();
  readonly images = new Map<string, Image>([["app:1", IMAGE], [IMAGE.id, IMAGE]]);
  /** Which ids the pods with a user namespace got, by the path of its pin. */
  readonly userIds = new Map<string, number>();
  userNamespaces: UserNamespaces = {
    isSupported: true, range: { firstId: IDS_PER_POD, pods: 2 },
    pin: ({ firstId, user, net, ipc, uts }) => {
      this.userIds.set(user, firstId);
      for (const path of [user, net, ipc, uts]) this.pinned.add(path);
    },
  };
  pulls: string[] = [];
  pullError: Error | undefined;
  /** How long a pull takes. */
  pullMs = 0;
  attachError: Error | undefined;
  reports: PodStatus[] = [];
  runtime!: FakeRuntime;
  state!: LocalState;
  service!: PodService;

  constructor(t: ExecutionContext) {
    // What a log's reader waits for keeps no process alive.
    const alive = setInterval(() => undefined, 60_000);
    t.teardown(async () => {
      clearInterval(alive);
      await this.service.close();
      await settle(); // what is in the midst of a step writes no more then
      rmSync(this.directory, { recursive: true, force: true });
    });
  }

  async open(): Promise<this> {
    const { clock } = this;
    this.runtime = new FakeRuntime({ clock, machine: this.machine });
    this.state = LocalState.open(join(this.directory, "state.db"), silentLogger);
    this.service = createPodService({
      state: this.state, runtime: this.runtime, clock, random: () => 0.5, logger: silentLogger, metrics: new Metrics(),
      images: {
        resolve: (reference) => this.images.get(reference),
        pull: async (reference) => {
          this.pulls.push(reference);
          if (this.pullMs > 0) await this.clock.sleep(this.pullMs);
          if (this.pullError) throw this.pullError;
          return IMAGE;
        },
      },
      network: {
        attach: async (uid) => {
          if (this.attachError) throw this.attachError;
          this.attached.add(uid);
          return { ip: "10.1.2.3", gateway: "10.1.2.1", prefixLength: 24 };
        },
        detach: (uid) => void this.attached.delete(uid), reconcile: () => undefined,
        publish: async (uid, pod) => void this.published.set(uid, pod), withdraw: async (uid) => void this.published.delete(uid),
        restorePublished: async (pods) => {
          this.published.clear();
          for (const [uid, pod] of pods) this.published.set(uid, pod);
        },
      },
      namespaces: {
        pinNamespaces: ({ net, ipc, uts }) => { for (const path of [net, ipc, uts]) if (path) this.pinned.add(path); },
        unpin: async (path) => void this.pinned.delete(path), pathOf: (path) => path, isPinned: (path) => this.pinned.has(path),
      },
      mounts: { mountTmpfs: () => undefined, detachElsewhere: async () => undefined },
      userNamespaces: this.userNamespaces,
      cgroups: { features: () => ({ swap: true, oomGroup: false, hugePageSizes: [], ioWeight: false, ioRates: true }), create: (path) => void this.cgroups.add(path), remove: async (path) => void this.cgroups.delete(path), apply: () => undefined, readStats: () => undefined },
      volumes: new VolumeService({ root: join(this.directory, "volumes"), localRoot: join(this.directory, "local") }),
      options: { runRoot: join(this.directory, "run"), logRoot: join(this.directory, "logs"), allocatable: () => ({ milliCpu: 4000, memoryBytes: 8e9, ephemeralStorageBytes: 0, pods: 100, extended: {} }), nodeMemoryBytes: 8e9, defaultPidsLimit: 0, maxLogBytes: 100, maxLogFiles: 3, hostIp: () => "192.0.2.1" },
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
    for (let i = 0; i < 12; i++) await settle();
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

test("a pull that takes its time is told, once", async (t) => {
  const b = await open(t);
  b.pullMs = 5000;
  await b.run(pod({ containers: [{ image: "other:1" }] }));
  await b.clock.advance(900);
  t.is(b.reports.length, 0);
  await b.clock.advance(3000);
  t.deepEqual(b.reports.map((r) => show(r.containers[0]!.state)), ["waiting ContainerCreating"]);
  await b.clock.advance(2000);
  await b.rest();
  t.is(b.last().phase, "Running");
});

test("what can't be run: StartError is an end, config errors and runtime errors wait", async (t) => {
  const b = await open(t);
  await b.run(pod({ restartPolicy: "Never", containers: [{ command: ["nope"] }] }));
  t.is(b.last().phase, "Failed");
  t.is(show(b.last().containers[0]!.state), "terminated StartError 128");
  await b.run(pod({ uid: "v", containers: [{ mounts: [{ volume: "none", path: "/x", readOnly: false, subPath: "", subPathExpr: "", propagation: "" }] }] }));
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

const PROBE = { initialDelayMs: 0, periodMs: 1000, timeoutMs: 1000, successThreshold: 1, failureThreshold: 1, terminationGraceMs: 0 };
const sh = (script: string) => ({ handler: { $case: "exec" as const, value: { command: ["sh", "-c", script] } } });
const incidents = (b: Bench, uid = "u"): string[] => b.reports.filter((r) => r.uid === uid).flatMap((r) => r.incidents.map((i) => `${i.type} ${i.reason} ${i.container}: ${i.message}`));

test("each failed probe is told, and so is what comes of it, once", async (t) => {
  const b = await open(t);
  await b.run(pod({ containers: [{ readiness: { ...PROBE, handler: sh("echo busy; exit 3") } }] }), pod({ uid: "v", restartPolicy: "Never", containers: [{ command: ["sh", "-c", "trap"], liveness: { ...PROBE, handler: sh("exit 1") } }] }));
  const busy = 'Warning Unhealthy main: Readiness probe failed: command ["sh","-c","echo busy; exit 3"] ended with exit code 3: busy';
  await b.clock.advance(10);
  await b.rest();
  t.deepEqual(incidents(b), [busy]);
  await b.clock.advance(1000);
  await b.rest();
  t.deepEqual(incidents(b), [busy, busy], "news even though its status is the same");
  t.deepEqual(incidents(b, "v"), ['Warning Unhealthy main: Liveness probe failed: command ["sh","-c","exit 1"] ended with exit code 1', "Normal Killing main: Container main failed liveness probe"]);
  t.deepEqual(b.last("u").incidents, []);
});

test("the SIGKILL that was to follow a failed probe doesn't hit the instance after it, which has the same id where files are kept", async (t) => {
  const b = await open(t);
  b.runtime.failNext.set("exec", new GantryError("InternalError", "no"));
  await b.run(pod({ keepWritableLayer: true, containers: [{ command: ["sh", "-c", "trap"], liveness: { ...PROBE, handler: sh("exit 0") } }] }));
  await b.clock.advance(10);
  await b.rest();
  t.like(b.last().containers[0], { restartCount: 1, containerId: `fake://${b.id()}` });
  await b.clock.advance(31_000);
  await b.rest();
  t.like(b.last().containers[0], { restartCount: 1, state: { state: { $case: "running" } } });
});

test("a postStart hook takes as long as it likes, and other pods start meanwhile", async (t) => {
  const b = await open(t);
  const slow = { postStart: { handler: { $case: "sleep" as const, value: { durationMs: 60_000 } } } };
  const first = pod({ uid: "a", containers: [slow] });
  await b.run(first, ...["b", "c", "d"].map((uid) => pod({ uid, containers: [slow] })), pod());
  t.is(b.last().phase, "Running");
  t.true(b.last().containers[0]!.ready);
  t.false(b.last("d").containers[0]!.ready);
  await b.run({ ...first, generation: 2 }); // by which it is saved as it is
  await b.restart();
  t.like(b.last("a").containers[0], { ready: true, restartCount: 0 }, "what its agent doesn't live to see is not waited for, and no end of the container");
});

test("a container is ready when its postStart hook is done", async (t) => {
  const b = await open(t);
  await b.run(pod({ containers: [{ postStart: { handler: { $case: "sleep" as const, value: { durationMs: 60_000 } } } }] }));
  t.false(b.last().containers[0]!.ready);
  await b.clock.advance(60_000);
  await b.rest();
  t.true(b.last().containers[0]!.ready);
});

test("a container whose postStart hook fails is asked to end, and killed when its grace is over", async (t) => {
  const b = await open(t);
  const hook = { postStart: sh("exit 1"), readiness: { ...PROBE, handler: sh("exit 0") } };
  await b.run(pod({ restartPolicy: "Never", containers: [{ command: ["sh", "-c", "trap"], ...hook }] }), pod({ uid: "v", restartPolicy: "Never", containers: [hook] }));
  t.is(show(b.last().containers[0]!.state), "terminated Completed 0");
  t.deepEqual(incidents(b), ['Warning FailedPostStartHook main: PostStartHook failed: command ["sh","-c","exit 1"] ended with exit code 1']);
  await b.clock.advance(29_000);
  await b.rest();
  t.like(b.last("v").containers[0], { ready: false, state: { state: { $case: "running" } } });
  await b.clock.advance(1000);
  await b.rest();
  t.is(show(b.last("v").containers[0]!.state), "terminated Error 137");
});

test("a preStop hook that fails is told; one that its container doesn't outlive is not", async (t) => {
  const b = await open(t);
  const p = pod({ containers: [{ command: ["sh", "-c", "trap"], preStop: sh("exit 7") }] });
  const q = pod({ uid: "v", containers: [{ command: ["sh", "-c", "trap"], preStop: { handler: { $case: "sleep" as const, value: { durationMs: 3000 } } } }] });
  await b.run(p, q);
  await b.run(deleted(p), deleted(q));
  t.deepEqual(incidents(b), ['Warning FailedPreStopHook main: PreStopHook failed: command ["sh","-c","exit 7"] ended with exit code 7']);
  b.runtime.end(b.id("main", 0, "v"), 1);
  await b.rest();
  t.true(b.last("v").gone);
  t.deepEqual(incidents(b, "v"), []);
});

test("a pull that takes long is told, with its end", async (t) => {
  const b = await open(t);
  b.images.delete("app:1");
  b.pullMs = 2500;
  await b.run(pod());
  await b.clock.advance(2500);
  await b.rest();
  t.deepEqual(incidents(b), ['Normal Pulling main: Pulling image "app:1"', 'Normal Pulled main: Successfully pulled image "app:1" in 2.5s. Image size: 1 bytes.']);
});

test("exec and logs: frames go through, and wrong requests say what there is", async (t) => {
  const b = await open(t);
  await b.run(pod());
  const frames: StreamFrame[] = [];
  const request = { podUid: "u", container: "", command: ["sh", "-c", "cat; exit 2"], stdin: true, stdout: true, stderr: true, tty: false, env: [], user: "", workingDir: "", detach: false };
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
  const previous = b.service.logs({ podUid: "u", container: "main", follow: false, previous: true, timestamps: false, overRestarts: false }, new AbortController().signal);
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

const changed = (p: Assignment, generation: number, changes: Partial<Assignment>): Assignment => ({ ...p, generation, ...changes });

test("stopped by request it stays, with address and id, and runs again when the request is taken back; whatever its policy", async (t) => {
  const b = await open(t);
  const p = pod({ restartPolicy: "Never", keepWritableLayer: true, containers: [{ command: ["sh", "-c", "trap"] }] });
  await b.run(p);
  await b.run(changed(p, 2, { desiredState: "stopped" }));
  t.like(b.last(), { phase: "Running", reason: "Stopped", podIps: ["10.1.2.3"] });
  t.is(show(b.last().containers[0]!.state), "terminated Stopped 0");
  t.deepEqual([b.attached.size, b.machine.containers.size, b.machine.layers.size], [1, 0, 1], "address and files stay");
  await b.restart();
  t.is(b.last().reason, "Stopped");
  await b.run(changed(p, 3, {}));
  t.like(b.last(), { phase: "Running", reason: "" });
  t.like(b.last().containers[0], { ready: true, restartCount: 1, containerId: `fake://${b.id()}` });
  await b.run(changed(deleted(p, 0), 4, {}));
  await b.rest();
  t.true(b.last().gone);
  t.deepEqual([b.attached.size, b.machine.containers.size, b.machine.layers.size], [0, 0, 0]);
});

test("one that doesn't hear the stop signal is killed after the grace, also by an agent that was started meanwhile", async (t) => {
  const b = await open(t);
  const p = pod();
  await b.run(p);
  await b.run(changed(p, 2, { desiredState: "stopped", stopGraceMs: 4000, stopSignal: "USR1" }));
  t.true(b.runtime.calls.includes(`kill ${b.id()} 10`));
  t.is(show(b.last().containers[0]!.state), "running");
  await b.restart();
  await b.clock.advance(4000);
  await b.rest();
  t.is(show(b.last().containers[0]!.state), "terminated Stopped 137");
  t.deepEqual(b.machine.layers.size, 0, "a plain pod's files go with its container");
});

test("a restart by request happens once, is no crash, and brings back a pod that had ended", async (t) => {
  const b = await open(t);
  const p = pod({ restartRequest: "r0" });
  await b.run(p);
  await b.run(changed(p, 2, { restartRequest: "r1", stopGraceMs: 0 }));
  await b.rest();
  t.like(b.last().containers[0], { restartCount: 1, ready: true });
  await b.restart();
  await b.run(changed(p, 3, { restartRequest: "r1" }));
  t.is(b.last().containers[0]!.restartCount, 1);
  b.runtime.end(b.id("main", 1), 1);
  await b.rest();
  t.like(b.last().containers[0], { restartCount: 2, ready: true }, "the first crash is restarted at once");

  const once = pod({ uid: "v", restartPolicy: "Never", keepWritableLayer: true, containers: [{ command: ["sh", "-c", "trap"] }] });
  await b.run(once);
  b.runtime.end(b.id("main", 0, "v"), 3);
  await b.rest();
  t.is(b.last("v").phase, "Failed");
  t.deepEqual([b.attached.size, [...b.machine.layers]], [1, [b.id("main", 0, "v")]], "its address is given back, its files are not");
  await b.run(changed(once, 2, { restartRequest: "again" }));
  t.like(b.last("v"), { phase: "Running" });
  t.is(show(b.last("v").containers[0]!.lastState), "terminated Error 3");
  b.runtime.end(b.id("main", 0, "v"), 0);
  await b.rest();
  t.is(b.last("v").phase, "Succeeded");
  await b.run(changed(deleted(once), 3, {}));
  t.true(b.last("v").gone);
  t.is(b.machine.layers.size, 0);
});

test("paused it is frozen, not ready, found so by the next agent, and can still be stopped", async (t) => {
  const b = await open(t);
  const p = pod({ containers: [{ command: ["sh", "-c", "trap"] }] });
  await b.run(p);
  await b.run(changed(p, 2, { desiredState: "paused" }));
  t.true(b.machine.frozen.has(b.id()));
  t.like(b.last(), { phase: "Running", reason: "Paused" });
  t.like(b.last().containers[0], { ready: false, started: true });
  const none = (async function* () { yield* [] as StreamFrame[]; })();
  t.true(isCode(await t.throwsAsync(b.service.exec({ podUid: "u", container: "", command: ["sh"], stdin: false, stdout: true, stderr: true, tty: false, env: [], user: "", workingDir: "", detach: false }, none, async () => undefined, new AbortController().signal)), "BadRequest"));
  await b.restart();
  t.is(b.last().reason, "Paused");
  await b.run(changed(p, 3, {}));
  t.false(b.machine.frozen.has(b.id()));
  t.like(b.last().containers[0], { ready: true, restartCount: 0 });
  await b.run(changed(p, 4, { desiredState: "paused" }));
  await b.run(changed(p, 5, { desiredState: "stopped" }));
  await b.rest();
  t.is(b.last().reason, "Stopped");
  t.is(show(b.last().containers[0]!.state), "terminated Stopped 0");
});

test("a pod that can't be frozen says so and is tried again", async (t) => {
  const b = await open(t);
  await b.run(pod());
  b.runtime.failNext.set("pause", new GantryError("FailedPrecondition", "no freezer here"));
  await b.run(changed(pod(), 2, { desiredState: "paused" }));
  t.like(b.last(), { reason: "", message: "no freezer here" });
  await b.clock.advance(10_000);
  await b.rest();
  t.is(b.last().reason, "Paused");
});

test("created: everything is there but the process; start is then at once", async (t) => {
  const b = await open(t);
  const p = pod({ desiredState: "created" });
  await b.run(p);
  t.like(b.last(), { phase: "Pending" });
  t.is(show(b.last().containers[0]!.state), "waiting Created");
  t.is(b.machine.containers.get(b.id())?.state.phase, "created");
  await b.run(changed(p, 2, { desiredState: "running", restartRequest: "x" }));
  t.like(b.last().containers[0], { ready: true, restartCount: 0 });
});

test("kept files of a pod that nobody knows any more are removed", async (t) => {
  const b = await open(t);
  b.machine.layers.add("forgotten");
  await b.run(pod({ keepWritableLayer: true }));
  b.service.setAll([pod({ keepWritableLayer: true })]);
  await b.rest();
  t.deepEqual([...b.machine.layers], [b.id()]);
});

test("staged pods: made ahead, shown as Staged, started together at their instant; the books follow", async (t) => {
  const b = await open(t);
  const atMs = b.clock.nowMs() + 60_000;
  const pods = ["u", "v", "w"].map((uid) => pod({ uid, name: uid, startAtMs: atMs, restartPolicy: "Never", containers: [{}, { name: "side" }] }));
  await b.run(...pods);
  t.true(b.last().staged);
  t.is(show(b.last("v").containers[0]!.state), "waiting Staged");
  await b.clock.advance(59_999);
  await b.rest();
  t.false(b.runtime.calls.some((c) => c.startsWith("start")));
  const reports = b.reports.length;
  await b.clock.advance(1);
  t.is(b.runtime.calls.filter((c) => c.startsWith("start")).length, 6, "all in one turn");
  t.is(b.reports.length, reports);
  await b.clock.advance(BOOKS_AFTER_MS);
  await b.rest();
  t.is(b.reports.length, reports + 3);
  t.like(b.last("w"), { phase: "Running", staged: false });
  const started = b.last("w").containers[0]!.state?.state;
  t.is(started?.$case === "running" ? started.value.startedAtMs : 0, atMs);
});

test("staged pods survive their agent: what is due when it comes back starts at once, what was deleted never does", async (t) => {
  const b = await open(t);
  const atMs = b.clock.nowMs() + 60_000;
  const [late, gone] = ["u", "v"].map((uid) => pod({ uid, name: uid, startAtMs: atMs }));
  await b.run(late!, gone!);
  await b.run(deleted(gone!, 0));
  t.true(b.last("v").gone);
  t.is(b.machine.containers.size, 1);
  await b.restart();
  t.is(b.machine.containers.size, 1, "adopted, not made anew");
  t.true(b.last("u").staged);
  b.clock.stepWall(90_000);
  await b.restart();
  await b.clock.advance(200);
  await b.rest();
  t.is(b.last("u").phase, "Running");
  t.false(b.runtime.calls.includes(`start ${b.id("main", 0, "v")}`));
});

test("what ends before its instant has not run: it is made anew, also when its agent was away, and counts as no end", async (t) => {
  const b = await open(t);
  const atMs = b.clock.nowMs() + 60_000;
  await b.run(pod({ startAtMs: atMs, restartPolicy: "Never" }));
  t.deepEqual(b.runtime.calls.filter((c) => c.startsWith("load")), [`load ${b.id()}`]);
  b.runtime.end(b.id(), 137, 9, true);
  await b.rest();
  t.is(show(b.last().containers[0]!.state), "waiting CreateContainerError");
  await b.clock.advance(10_000);
  await b.rest();
  t.true(b.last().staged);
  b.machine.listener = undefined;
  b.runtime.end(b.id(), 137, 9);
  b.clock.stepWall(60_000);
  await b.restart();
  await b.clock.advance(200);
  await b.rest();
  t.like(b.last(), { phase: "Running", containers: [{ restartCount: 0 }] });
});

test("a program that can't be loaded ahead: said, and tried once more at the instant", async (t) => {
  const b = await open(t);
  b.runtime.failNext.set("load", new GantryError("InternalError", "execve: Exec format error"));
  await b.run(pod({ startAtMs: b.clock.nowMs() + 5000, restartPolicy: "Never" }));
  t.is(show(b.last().containers[0]!.state), "waiting CreateContainerError");
  await b.clock.advance(5000);
  await b.rest();
  t.is(b.last().phase, "Running");
});

test("a staged command that can't run is said ahead, and ends the pod only at its instant", async (t) => {
  const b = await open(t);
  await b.run(pod({ restartPolicy: "Never", startAtMs: b.clock.nowMs() + 60_000, containers: [{ command: ["nonsense"] }] }));
  t.is(show(b.last().containers[0]!.state), "waiting CreateContainerError");
  t.is(b.last().phase, "Pending");
  await b.clock.advance(61_000);
  await b.rest();
  t.is(show(b.last().containers[0]!.state), "terminated StartError 128");
  t.is(b.last().phase, "Failed");
});

test("the wall clock steps: the start follows it", async (t) => {
  const b = await open(t);
  const atMs = b.clock.nowMs() + 60_000;
  await b.run(pod({ startAtMs: atMs }));
  b.clock.stepWall(-30_000);
  await b.clock.advance(60_000);
  await b.rest();
  t.true(b.last().staged);
  await b.clock.advance(30_200);
  await b.rest();
  t.is(b.last().phase, "Running");
});

test("attach: what is typed reaches the container, what it writes from now on comes back, until it ends", async (t) => {
  const b = await open(t);
  const p = pod({ desiredState: "created", containers: [{ stdin: true, tty: true }] });
  await b.run(p);
  const log = b.machine.containers.get(b.id())!.spec.logPath;
  mkdirSync(join(log, ".."), { recursive: true });
  const line = (text: string, tag = "F"): void => writeFileSync(log, `2026-01-01T00:00:00.000000001Z stdout ${tag} ${text}\n`, { flag: "a" });
  line("before");
  const inputs: ((frame: StreamFrame | undefined) => void)[] = [];
  const sent: StreamFrame[] = [{ frame: { $case: "resize", value: { width: 80, height: 24 } } }, { frame: { $case: "stdin", value: Buffer.from("ls\n") } }];
  const input = (async function* (): AsyncIterable<StreamFrame> {
    yield* sent;
    await new Promise<void>((resolve) => inputs.push(() => resolve()));
  })();
  let out = "";
  const all = Promise.withResolvers<void>();
  const request = { podUid: "u", container: "main", stdin: true, stdout: true, stderr: true, tty: true, fromStart: false };
  const attached = b.service.commands.attach(request, input, async ({ frame }) => {
    if (frame?.$case === "stdout") out += frame.value.toString();
    if (out.endsWith("file\n")) all.resolve();
  }, new AbortController().signal);
  // Nothing is typed before it has found its place in the log.
  while (!b.machine.inputs.has(b.id())) await settle();
  await b.run(changed(p, 2, {}));
  line("$ ", "P");
  line("file");
  await all.promise;
  t.is(out, "$ file\n");
  t.deepEqual(b.machine.inputs.get(b.id()), ["ls\n"]);
  b.runtime.end(b.id(), 0);
  await attached;
  await t.throwsAsync(b.service.commands.attach({ ...request, podUid: "none" }, input, async () => undefined, new AbortController().signal), { message: /no pod none/ });
});

test("attach: the first to a container that was made for it gets what it wrote before, the next does not", async (t) => {
  const b = await open(t);
  await b.run(pod({ containers: [{ stdin: true, stdinOnce: true }] }));
  const log = b.machine.containers.get(b.id())!.spec.logPath;
  mkdirSync(join(log, ".."), { recursive: true });
  writeFileSync(log, "2026-01-01T00:00:00.000000001Z stdout F early\n");
  const attached = async (): Promise<string> => {
    let out = "";
    const client = new AbortController();
    const request = { podUid: "u", container: "main", stdin: false, stdout: true, stderr: true, tty: false, fromStart: false };
    const over = b.service.commands.attach(request, (async function* () {})(), async ({ frame }) => {
      if (frame?.$case === "stdout") out += frame.value.toString();
      if (out.endsWith("late\n")) client.abort();
    }, client.signal);
    // Until it has found its place in the log and sees one of them.
    while (!client.signal.aborted) {
      writeFileSync(log, "2026-01-01T00:00:00.000000002Z stdout F late\n", { flag: "a" });
      await settle();
    }
    await over.catch(() => undefined);
    return out;
  };
  t.regex(await attached(), /^early\n(late\n)+$/);
  t.regex(await attached(), /^(late\n)+$/);
});

test("kill and top are for what runs; a paused container is only killed for good", async (t) => {
  const b = await open(t);
  await b.run(pod());
  await b.service.commands.kill({ podUid: "u", container: "", signal: 12 });
  t.true(b.runtime.calls.includes(`kill ${b.id()} 12`));
  t.deepEqual(b.service.commands.top({ podUid: "u", container: "main" }).processes.map((p) => p.pid).filter((pid) => pid !== 100), []);
  await b.run(changed(pod(), 2, { desiredState: "paused" }));
  t.true(isCode(await t.throwsAsync(b.service.commands.kill({ podUid: "u", container: "", signal: 15 })), "Conflict"));
  await b.run(changed(pod({ restartPolicy: "Never" }), 3, { desiredState: "stopped", stopGraceMs: 0 }));
  await b.rest();
  t.true(isCode(await t.throwsAsync(b.service.commands.kill({ podUid: "u", container: "", signal: 9 })), "Conflict"));
  t.true(isCode(t.throws(() => b.service.commands.top({ podUid: "u", container: "" })), "Conflict"));
});

test("host ports come with the sandbox, survive the agent, and go with the pod", async (t) => {
  const b = await open(t);
  const ports = [{ name: "", containerPort: 80, hostPort: 8080, hostIp: "", protocol: "TCP" }, { name: "", containerPort: 81, hostPort: 0, hostIp: "", protocol: "TCP" }];
  const p = pod({ containers: [{ command: ["sh", "-c", "trap"], ports }] });
  await b.run(p, pod({ uid: "v", hostNetwork: true, containers: [{ ports }] }));
  const expected = [["u", { name: "ns/p", ip: "10.1.2.3", ports: [{ port: 8080, hostIp: "", protocol: "TCP", containerPort: 80 }] }]];
  t.deepEqual([...b.published], expected as never);
  b.published.set("ghost", { name: "ns/ghost", ip: "10.1.2.9", ports: [] });
  await b.restart();
  t.deepEqual([...b.published], expected as never);
  await b.run(deleted(p));
  t.deepEqual([...b.published], []);
});

test("a pod that is over needs its image no more, unless it keeps its files and may be started again", async (t) => {
  for (const keepWritableLayer of [false, true]) {
    const b = await open(t);
    const p = pod({ restartPolicy: "Never", keepWritableLayer, containers: [{ command: ["sh", "-c", "trap"] }] });
    await b.run(p);
    const users = b.service.imageUsers();
    t.like(users[0], { imageId: "sha256:aa" });
    t.regex(users[0]!.container, /^[^/]+\/[^/]+\/[^/]+$/);
    b.runtime.end(b.id(), 0);
    await b.rest();
    t.is(b.reports.at(-1)?.phase, "Succeeded");
    t.deepEqual([...b.service.imagesInUse()], keepWritableLayer ? ["sha256:aa"] : [], String(keepWritableLayer));
  }
});
