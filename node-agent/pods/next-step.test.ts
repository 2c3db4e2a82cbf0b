import test from "ava";
import type { Assignment } from "./assignment.ts";
import { nextStep, outcome, runsAgain, type Situation, type Step } from "./next-step.ts";
import { newContainerRecord, newPodRecord, type ContainerRecord, type PodRecord } from "./pod-record.ts";
import { restartDelayMs, retryDelayMs } from "./restart-delay.ts";
import { makePod as pod } from "./testing.ts";

const NOW = 1_800_000_000_000;

const record = (assignment: Assignment, containers: Record<string, Partial<ContainerRecord>> = {}, changes: Partial<PodRecord> = {}): PodRecord => {
  const made = newPodRecord(assignment, NOW - 1000);
  for (const [name, own] of Object.entries(containers)) made.containers[name] = { ...newContainerRecord(), ...own };
  return { ...made, sandbox: true, volumesGeneration: 1, ...changes };
};

const ended = (exitCode: number, agoMs = 0, ranMs = 1000): Partial<ContainerRecord> => ({
  phase: "ended", imageId: "i", collected: true,
  end: { containerId: "c", exitCode, signal: 0, reason: exitCode === 0 ? "Completed" : "Error", message: "", startedAtMs: NOW - agoMs - ranMs, finishedAtMs: NOW - agoMs },
});
const running: Partial<ContainerRecord> = { phase: "running", imageId: "i", startedAtMs: NOW - 500, started: true, ready: true };

const step = (assignment: Assignment, own: PodRecord, situation: Partial<Situation> = {}): string => describe(nextStep(assignment, own, { nowMs: NOW, unassigned: false, ...situation }));
const describe = (s: Step): string => {
  switch (s.kind) {
    case "wait": return s.untilMs === undefined ? "wait" : `wait ${s.untilMs - NOW}`;
    case "signal": case "kill": case "unpause": return `${s.kind} ${s.containers.map((c) => c.name).join(",")}`;
    case "stop": return `stop ${s.stop.reason}${s.stop.deadlineMs > 0 ? ` ${s.stop.deadlineMs - NOW}` : ""}${s.verdict ? ` ${s.verdict.reason}` : ""}`;
    case "sandbox": case "volumes": case "resize": case "release": case "finish": case "halt": case "halted": case "rerun": case "revive": return s.kind;
    default: return `${s.kind} ${s.container.name}`;
  }
};

test("a new pod: image, sandbox, volumes, create, start, and then nothing", (t) => {
  const p = pod();
  const own = newPodRecord(p, NOW);
  const main = own.containers["main"]!;
  t.is(step(p, own), "pull main");
  main.imageId = "i";
  t.is(step(p, own), "sandbox");
  own.sandbox = true;
  t.is(step(p, own), "volumes");
  own.volumesGeneration = 1;
  t.is(step(p, own), "create main");
  main.phase = "created";
  t.is(step(p, own), "start main");
  Object.assign(main, running);
  t.is(step(p, own), "wait");
});

test("init containers run one after the other before the rest; a sidecar only has to be started", (t) => {
  const p = pod({ initContainers: [{ name: "a" }, { name: "side", restartPolicy: "Always" }, { name: "b" }], containers: [{ name: "x" }, { name: "y" }] });
  const ready: Partial<ContainerRecord> = { imageId: "i" };
  t.is(step(p, record(p, { a: ready })), "create a");
  t.is(step(p, record(p, { a: running, side: ready })), "wait");
  t.is(step(p, record(p, { a: ended(0), side: ready })), "create side");
  t.is(step(p, record(p, { a: ended(0), side: { ...running, started: false } })), "wait");
  t.is(step(p, record(p, { a: ended(0), side: running, b: ready })), "create b");
  t.is(step(p, record(p, { a: ended(0), side: running, b: ended(0), x: ready })), "create x");
  t.is(step(p, record(p, { a: ended(0), side: running, b: ended(0), x: running, y: ready })), "create y");
  t.is(step(p, record(p, { a: ended(1), side: ready })), "restart a");
  t.is(step(pod({ ...p, restartPolicy: "Never" }), record(p, { a: ended(1) })), "stop finished 30000");
});

test("restarts by policy, the first at once, then after 10 s, 20 s ... 5 min; a long run is a new beginning", (t) => {
  const p = pod();
  t.is(step(p, record(p, { main: { ...ended(1), collected: false } })), "collect main");
  t.is(step(p, record(p, { main: ended(1) })), "restart main");
  t.is(step(p, record(p, { main: { ...ended(1), crashes: 1 } })), "wait 10000");
  t.is(step(p, record(p, { main: { ...ended(0, 4000), crashes: 2 } })), "wait 16000");
  t.is(step(p, record(p, { main: { ...ended(1), crashes: 50 } })), "wait 300000");
  t.is(step(p, record(p, { main: { ...ended(1, 0, 600_000), crashes: 50 } })), "restart main");
  t.is(step(pod({ restartPolicy: "OnFailure" }), record(p, { main: ended(1) })), "restart main");
  t.is(step(pod({ restartPolicy: "OnFailure" }), record(p, { main: ended(0) })), "stop finished 30000");
  const twice = pod({ restartPolicy: "OnFailure", annotations: { "gantry.io/max-restarts": "2" } });
  t.is(step(twice, record(p, { main: { ...ended(1), attempt: 1 } })), "restart main");
  t.is(step(twice, record(p, { main: { ...ended(1), attempt: 2 } })), "stop finished 30000", "docker's on-failure:2");
  t.is(step(pod({ restartPolicy: "Never" }), record(p, { main: ended(3) })), "stop finished 30000");
  t.deepEqual([1, 2, 3, 4, 5, 6, 7, 99].map(restartDelayMs), [0, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]);
  t.deepEqual([1, 2, 6].map(retryDelayMs), [10_000, 20_000, 300_000]);
});

test("how a pod ended", (t) => {
  const never = pod({ restartPolicy: "Never", containers: [{ name: "a" }, { name: "b" }] });
  t.is(outcome(never, record(never, { a: ended(0), b: running })), undefined);
  t.is(outcome(never, record(never, { a: ended(0), b: ended(0) })), "Succeeded");
  t.is(outcome(never, record(never, { a: ended(0), b: ended(2) })), "Failed");
  const always = pod();
  t.is(outcome(always, record(always, { main: ended(0) })), undefined);
  t.is(outcome(always, record(always, {}, { verdict: { reason: "DeadlineExceeded", message: "" } })), "Failed");
});

test("deletion: asked, given time, killed, released, gone", (t) => {
  const p = pod({ deletion: { requestedMs: NOW, graceMs: 5000 }, containers: [{ name: "x" }, { name: "y" }] });
  t.is(step(p, record(p, { x: running, y: running })), "stop deleted 5000");
  const stop = { reason: "deleted", deadlineMs: NOW + 5000 } as const;
  t.is(step(p, record(p, { x: running, y: running }, { stop })), "signal x,y");
  t.is(step(p, record(p, { x: { ...running, signalled: true }, y: { ...running, signalled: true } }, { stop })), "wait 5000");
  t.is(step(p, record(p, { x: { ...running, signalled: true }, y: ended(0) }, { stop: { ...stop, deadlineMs: NOW } })), "kill x");
  t.is(step(p, record(p, { x: ended(0), y: ended(137) }, { stop })), "release");
  t.is(step(p, record(p, { x: ended(0), y: ended(137) }, { stop, released: true })), "finish");
  t.is(step(p, record(p, { x: ended(0), y: ended(137) }, { stop, released: true, gone: true })), "wait");
  t.is(step(p, record(p, { x: { phase: "created" } }, { stop })), "release", "what was never started needs no signal");
  const now = pod({ ...p, deletion: { requestedMs: NOW, graceMs: 0 } });
  t.is(step(now, record(p, { x: running, y: running }, { stop })), "stop deleted 0", "kubectl delete --now cuts a grace period short");
});

test("a pod that is no longer assigned is killed at once and forgotten, also in the midst of a gentle end and after it was reported gone", (t) => {
  const p = pod({ deletion: { requestedMs: NOW, graceMs: 5000 } });
  const stop = { reason: "deleted", deadlineMs: NOW + 5000 } as const;
  const gone = { unassigned: true };
  t.is(step(p, record(p, { main: running }), gone), "stop unassigned");
  t.is(step(p, record(p, { main: running }, { stop }), gone), "stop unassigned");
  const forced = { reason: "unassigned", deadlineMs: 0 } as const;
  t.is(step(p, record(p, { main: running }, { stop: forced }), gone), "kill main");
  t.is(step(p, record(p, { main: ended(137) }, { stop: forced, released: true, gone: true }), gone), "finish");
});

test("sidecars end after the containers that they serve", (t) => {
  const p = pod({ initContainers: [{ name: "side", restartPolicy: "Always" }], deletion: { requestedMs: NOW, graceMs: 5000 } });
  const stop = { reason: "deleted", deadlineMs: NOW + 5000 } as const;
  t.is(step(p, record(p, { side: running, main: running }, { stop })), "signal main");
  t.is(step(p, record(p, { side: running, main: ended(0) }, { stop })), "signal side");
});

test("the active deadline fails the pod; while it runs, the pod waits for it", (t) => {
  const p = pod({ activeDeadlineMs: 3000 });
  t.is(step(p, record(p, { main: running })), "wait 2000");
  t.is(step(p, record(p, { main: running }, { startTimeMs: NOW - 3000 })), "stop failed 30000 DeadlineExceeded");
  t.is(step(p, record(p, { main: ended(137) }, { verdict: { reason: "DeadlineExceeded", message: "" }, stop: { reason: "failed", deadlineMs: NOW }, released: true })), "wait");
});

test("failures wait for their time, or for another assignment", (t) => {
  const p = pod();
  const failure = { message: "m", atMs: NOW - 100, retryAtMs: NOW + 9900, count: 1 };
  t.is(step(p, record(p, { main: { failure: { ...failure, reason: "CreateContainerError" } } })), "wait 9900");
  t.is(step(p, record(p, { main: { failure: { ...failure, reason: "ErrImagePull" } } })), "wait 900", "to show it as ImagePullBackOff");
  t.is(step(p, record(p, { main: { failure: { ...failure, reason: "ErrImagePull", atMs: NOW - 1000 } } })), "wait 9900");
  t.is(step(p, record(p, { main: { failure: { ...failure, reason: "ErrImagePull", retryAtMs: NOW } } })), "pull main");
  t.is(step(p, record(p, {}, { failure: { ...failure, reason: "FailedCreatePodSandBox" } })), "wait 9900");
  t.is(step(pod({ unresolved: { main: "configmap \"x\" not found" } }), record(p)), "wait");
  t.is(step(pod({ unresolved: { "": "secret \"y\" not found" } }), record(p)), "wait");
  const two = pod({ containers: [{ name: "main" }, { name: "other" }], unresolved: { main: "x" } });
  t.is(step(two, record(two, { other: { imageId: "i" } })), "create other", "one that can't start doesn't hold up the others");
});

test("a staged start: created ahead, started at its instant", (t) => {
  const p = pod({ startAtMs: NOW + 60_000 });
  t.is(step(p, record(p, { main: { imageId: "i" } })), "create main");
  t.is(step(p, record(p, { main: { imageId: "i", phase: "created" } })), "load main");
  t.is(step(p, record(p, { main: { imageId: "i", phase: "created", loaded: true } })), "wait 60000");
  t.is(step(p, record(p, { main: { imageId: "i", phase: "created" } }), { nowMs: NOW + 60_000 }), "start main");
});

test("changed files are brought up to date in a running pod", (t) => {
  const p = pod({ generation: 7 });
  t.is(step(p, record(p, { main: running })), "volumes");
  t.is(step(p, record(p, { main: running }, { volumesGeneration: 7 })), "wait");
});

/** xorshift32: a property test must fail again with the same numbers. */
const random = (seed: number) => (): number => {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return (seed >>> 0) / 2 ** 32;
};

test("property: from any history a deleted pod comes to its end in few steps, releasing once, and never starts anything on the way", (t) => {
  for (let seed = 1; seed <= 300; seed++) {
    const next = random(seed * 7919);
    const pick = <T>(...items: readonly T[]): T => items[Math.floor(next() * items.length)]!;
    const p = pod({
      restartPolicy: pick("Always", "OnFailure", "Never"), activeDeadlineMs: pick(0, 0, 500),
      initContainers: Array.from({ length: Math.floor(next() * 3) }, (_, i) => ({ name: `i${i}`, restartPolicy: pick("", "", "Always") })),
      containers: Array.from({ length: 1 + Math.floor(next() * 3) }, (_, i) => ({ name: `c${i}` })),
    });
    const states = (): Partial<ContainerRecord> => pick<Partial<ContainerRecord>>({}, { imageId: "i" }, { imageId: "i", phase: "created" }, running, ended(0), ended(1), { ...ended(1), collected: false, crashes: 3 });
    const own = record(p, Object.fromEntries([...p.initContainers, ...p.containers].map((c) => [c.name, states()])), pick<Partial<PodRecord>>({}, { sandbox: false, volumesGeneration: -1 }));
    p.deletion = { requestedMs: NOW, graceMs: pick(0, 1000) };
    let nowMs = NOW;
    const seen: string[] = [];
    for (let i = 0; i < 40 && !own.gone; i++) {
      const s = nextStep(p, own, { nowMs, unassigned: false });
      seen.push(describe(s));
      if (s.kind === "stop") own.stop = s.stop;
      else if (s.kind === "signal") for (const c of s.containers) own.containers[c.name]!.signalled = true;
      else if (s.kind === "kill") for (const c of s.containers) Object.assign(own.containers[c.name]!, ended(137));
      else if (s.kind === "release") own.released = true;
      else if (s.kind === "finish") own.gone = true;
      else if (s.kind === "wait" && s.untilMs !== undefined) nowMs = s.untilMs;
      else return t.fail(`seed ${seed}: ${seen.join("; ")}`);
    }
    if (!own.gone) return t.fail(`seed ${seed} doesn't end: ${seen.join("; ")}`);
    t.is(seen.filter((s) => s === "release").length, 1);
  }
});

test("stopped by request: signal, grace, kill, collect, and then nothing until it is taken back", (t) => {
  const p = pod({ desiredState: "stopped", stopGraceMs: 5000 });
  t.is(step(p, record(p, { main: running })), "halt");
  const halt = { sinceMs: NOW - 1000 };
  t.is(step(p, record(p, { main: running }, { halt })), "signal main");
  t.is(step(p, record(p, { main: { ...running, signalled: true } }, { halt })), "wait 4000");
  t.is(step(p, record(p, { main: { ...running, signalled: true } }, { halt: { sinceMs: NOW - 5000 } })), "kill main");
  t.is(step(p, record(p, { main: { ...running, signalled: true } }, { halt: { sinceMs: NOW - 6000, killedAtMs: NOW - 1000 } })), "wait 9000");
  t.is(step(p, record(p, { main: { ...ended(143), collected: false } }, { halt })), "collect main");
  t.is(step(p, record(p, { main: ended(143) }, { halt })), "halted");
  t.is(step(p, record(p, { main: ended(143) })), "wait");
  t.is(step(pod({ ...p, stopGraceMs: 0 }), record(p, { main: running }, { halt })), "kill main", "a shorter grace counts at once");
  t.is(step(pod({ ...p, stopGraceMs: undefined }), record(p, { main: { ...running, signalled: true } }, { halt })), "wait 29000", "the pod's own grace otherwise");
});

test("what ended by request runs again when it may, at once and whatever the policy, and is no outcome of the pod", (t) => {
  for (const restartPolicy of ["Always", "OnFailure", "Never"]) {
    const p = pod({ restartPolicy });
    const end = ended(0);
    const own = record(p, { main: { ...end, crashes: 9, end: { ...end.end!, byRequest: true } } });
    t.is(outcome(p, own), undefined);
    t.is(step(p, own), "restart main");
    t.is(step(pod({ ...p, desiredState: "stopped" }), own), "wait");
  }
});

test("a stopped pod begins nothing, neither pulls nor restarts, but is deleted like others", (t) => {
  const p = pod({ desiredState: "stopped" });
  t.is(step(p, newPodRecord(p, NOW)), "wait");
  t.is(step(p, record(p, { main: ended(1) })), "wait");
  t.is(step(p, record(p, { main: { phase: "created", imageId: "i" } })), "wait");
  t.is(step(pod({ ...p, deletion: { requestedMs: NOW, graceMs: 7000 } }), record(p, { main: running }, { halt: { sinceMs: NOW } })), "stop deleted 7000");
  t.is(step(pod({ ...p, restartPolicy: "Never" }), record(p, { main: ended(1) })), "stop finished 30000", "what ended by itself before stays ended by itself");
});

test("a restart by request: the same, and then all anew; once for each value", (t) => {
  const p = pod({ restartRequest: "r2" });
  t.is(step(p, record(p, { main: running })), "wait", "one that was there from the start is none");
  const old = { restartRequest: "r1" };
  t.is(step(p, record(p, { main: running }, old)), "halt");
  t.is(step(p, record(p, { main: running }, { ...old, halt: { sinceMs: NOW } })), "signal main");
  t.is(step(p, record(p, { main: ended(0) }, { ...old, halt: { sinceMs: NOW } })), "rerun");
  t.is(step(p, record(p, { main: { ...ended(1), crashes: 20 } }, old)), "rerun", "a container in its back-off doesn't wait");
  t.is(step(p, record(p, { main: { imageId: "i" } }, { restartRequest: "r2", halt: { sinceMs: NOW } })), "halted");
  t.is(step(pod({ ...p, desiredState: "stopped" }), record(p, { main: ended(0) }, old)), "wait", "beside stopped it waits");
  t.is(step(pod(), record(p, { main: running }, old)), "wait", "taking the request back asks for nothing");
});

test("a pod that ended by itself runs again when asked, after it was released; one that was deleted or overdue does not", (t) => {
  const p = pod({ restartPolicy: "Never", restartRequest: "r2" });
  const finished = { restartRequest: "r1", stop: { reason: "finished", deadlineMs: NOW } } as const;
  t.is(step(p, record(p, { main: ended(0) }, finished)), "release");
  t.is(step(p, record(p, { main: ended(0) }, { ...finished, released: true })), "revive");
  t.is(step(p, record(p, { main: ended(0) }, { ...finished, restartRequest: "r2", released: true })), "wait");
  t.is(step(p, record(p, { main: ended(0) }, { ...finished, stop: { reason: "failed", deadlineMs: NOW }, released: true })), "wait");
  t.is(step(pod({ ...p, deletion: { requestedMs: NOW, graceMs: 0 } }), record(p, { main: ended(0) }, { ...finished, released: true })), "stop deleted 0");
});

test("paused: what runs is frozen, what is frozen is thawed before anything else can end it", (t) => {
  const p = pod({ desiredState: "paused" });
  const frozen = { ...running, paused: true };
  t.is(step(p, record(p, { main: running })), "pause main");
  t.is(step(p, record(p, { main: frozen })), "wait");
  t.is(step(p, record(p, { main: { phase: "created", imageId: "i" } })), "start main");
  t.is(step(pod(), record(p, { main: frozen })), "unpause main");
  t.is(step(pod({ desiredState: "stopped" }), record(p, { main: frozen }, { halt: { sinceMs: NOW - 99_000 } })), "unpause main");
  t.is(step(p, record(p, { main: frozen }, { stop: { reason: "deleted", deadlineMs: NOW } })), "unpause main");
});

test("created: everything but the start", (t) => {
  const p = pod({ desiredState: "created" });
  t.is(step(p, record(p, { main: { imageId: "i" } })), "create main");
  t.is(step(p, record(p, { main: { phase: "created", imageId: "i" } })), "wait");
  t.is(step(pod(), record(p, { main: { phase: "created", imageId: "i" } })), "start main");
});

test("a deletion without grace kills once and then waits: not again and again within one turn", (t) => {
  const p = pod({ deletion: { requestedMs: NOW, graceMs: 0 } });
  t.is(step(p, record(p, { main: running })), "stop deleted 0");
  t.is(step(p, record(p, { main: running }, { stop: { reason: "deleted", deadlineMs: NOW } })), "kill main");
  t.is(step(p, record(p, { main: { ...running, signalled: true } }, { stop: { reason: "deleted", deadlineMs: NOW, killedAtMs: NOW } })), "wait 10000");
});

test("sidecars end after what they serve, one by one, the last one first", (t) => {
  const p = pod({ initContainers: [{ name: "s1", restartPolicy: "Always" }, { name: "s2", restartPolicy: "Always" }], ephemeralContainers: [{ ...pod().containers[0]!, name: "debug" }] });
  const stop = { stop: { reason: "deleted", deadlineMs: NOW + 5000 } } as const;
  const asked: Partial<ContainerRecord> = { ...running, signalled: true };
  const all = { s1: running, s2: running, main: running, debug: running };
  t.is(step(p, record(p, all, stop)), "signal main,debug");
  t.is(step(p, record(p, { ...all, main: asked, debug: asked }, stop)), "wait 5000");
  t.is(step(p, record(p, { ...all, main: ended(0), debug: ended(0) }, stop)), "signal s2");
  t.is(step(p, record(p, { s1: running, s2: asked, main: ended(0), debug: ended(0) }, stop)), "wait 5000");
  t.is(step(p, record(p, { s1: running, s2: ended(0), main: ended(0), debug: ended(0) }, stop)), "signal s1");
  t.is(step(p, record(p, all, { stop: { reason: "deleted", deadlineMs: NOW } })), "kill s1,s2,main,debug");
});

test("a container for debugging starts as soon as there is a sandbox, also before init containers are done; it is never restarted and doesn't hold the pod", (t) => {
  const p = pod({ initContainers: [{ name: "init" }], ephemeralContainers: [{ ...pod().containers[0]!, name: "debug" }] });
  t.is(step(p, record(p, { init: { imageId: "i" }, debug: { imageId: "i" } }, { sandbox: false })), "sandbox");
  t.is(step(p, record(p, { init: running, debug: { imageId: "i" } })), "create debug");
  t.is(step(p, record(p, { init: running, debug: ended(1, 3_600_000) })), "wait");
  const done = pod({ restartPolicy: "Never", ephemeralContainers: p.ephemeralContainers });
  t.is(outcome(done, record(done, { main: ended(0), debug: running })), "Succeeded");
});

test("whether another instance follows: who reads a log over restarts waits for it, or is done", (t) => {
  const of = (p: Assignment, own: Partial<ContainerRecord>, changes: Partial<PodRecord> = {}) => runsAgain(p, record(p, { main: own }, changes), p.containers[0]!);
  t.true(of(pod(), running));
  t.is(of(pod(), ended(0)), undefined, "on its way");
  t.is(of(pod(), { attempt: 1 }), undefined, "being made");
  t.false(of(pod({ restartPolicy: "Never" }), ended(1)));
  t.false(of(pod({ restartPolicy: "OnFailure" }), ended(0)));
  t.false(of(pod({ desiredState: "stopped" }), ended(0)));
  t.false(of(pod(), ended(0), { released: true }));
});
