// Ten thousand ticks over the changes of clocks of every time zone, while leaders are killed, the store is away or loses its answers, clocks
// step and agents are slow. What counts is what ran on the (simulated) nodes: each tick once. Seeded: a seed that fails, fails again.
import test from "ava";
import { FakeClock, settle } from "../../../base/clock.ts";
import { GantryError, isCode } from "../../../base/errors.ts";
import { CRON_JOBS, NAMESPACES, PODS } from "../../../base/kube/resources.ts";
import { STAGE_AHEAD, startAtMs } from "../../../base/kube/staging.ts";
import type { CronJob, Pod } from "../../../base/kube/types.gen.ts";
import { silentLogger } from "../../../base/logger.ts";
import { TimeZone } from "../../../base/time-zone.ts";
import type { Store } from "../../state/store.ts";
import { keyOf } from "../../state/store.ts";
import { NO_NODES, createTestState } from "../../state/testing.ts";
import { garbageCollector } from "../garbage-collector/controller.ts";
import { jobController } from "../job/controller.ts";
import { startControllers } from "../run.ts";
import { template } from "../testing.ts";
import { cronJobController } from "./controller.ts";

const NS = "default";
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
/** Local times at which the CronJobs are due. */
const PERIOD = 10 * MINUTE;
const [FROM, TO] = [Date.UTC(2026, 0, 1), Date.UTC(2028, 0, 1)];
/** `GANTRY_SEED=7 ava ...` plays another game. */
const SEED = Number(process.env["GANTRY_SEED"] ?? 1);

/** xorshift32. */
const randomOf = (seed: number) => (): number => {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return (seed >>> 0) / 2 ** 32;
};

/** By the words of the rule: a scheduled local time runs at the first instant at which clocks show it or a later one. */
const ticksOf = (zone: string, fromMs: number, toMs: number): number[] => {
  const format = new Intl.DateTimeFormat("sv-SE", { timeZone: zone, dateStyle: "short", timeStyle: "medium" });
  const wallAt = (ms: number): number => Date.parse(`${format.format(ms).replace(" ", "T")}Z`);
  const ticks: number[] = [];
  // A change of clocks may lie just before: what they have shown then has been.
  let furthest = 0;
  for (let ms = fromMs - 3 * HOUR; ms <= toMs; ms += 5 * MINUTE) {
    const wall = wallAt(ms);
    if (furthest > 0 && wall > furthest && Math.floor(wall / PERIOD) > Math.floor(furthest / PERIOD) && ms > fromMs) ticks.push(ms);
    furthest = Math.max(furthest, wall);
  }
  return ticks;
};

/** The store as one leader sees it: away for a while, losing the answer to a write, or closed to it for good. */
class FaultyStore {
  readonly store: Store;
  readonly #real: Store;
  away = false;
  dead = false;

  constructor(real: Store, random: () => number) {
    this.#real = real;
    const faulty = async <T>(write: () => Promise<T>): Promise<T> => {
      if (this.dead) throw new GantryError("Fenced", "no longer the leader");
      if (this.away) throw new GantryError("ServiceUnavailable", "the store is away");
      const result = await write();
      // Killed, or cut off, between the write and its answer.
      if (this.dead || random() < 0.02) throw new GantryError("ServiceUnavailable", "the answer was lost");
      return result;
    };
    this.store = {
      get: (...a) => faulty(() => this.#real.get(...a)), list: (...a) => faulty(() => this.#real.list(...a)), snapshot: () => this.#real.snapshot(),
      create: (...a) => faulty(() => this.#real.create(...a)), update: (...a) => faulty(() => this.#real.update(...a)), delete: (...a) => faulty(() => this.#real.delete(...a)),
      watch: (...a) => this.#real.watch(...a), requestProgress: () => this.#real.requestProgress(), ping: (...a) => this.#real.ping(...a), close: () => this.#real.close(),
    };
  }
}

interface Ran {
  readonly cronJob: string;
  readonly tickMs: number;
  /** It started while its node's clock showed less than its start time. */
  readonly early: boolean;
}

const cronJob = (name: string, timeZone: string, more: Partial<CronJob["spec"]>, annotations: Record<string, string>): CronJob => {
  const plain = template({ app: name });
  return {
    apiVersion: "batch/v1", kind: "CronJob", metadata: { name, namespace: NS, uid: `uid-${name}`, generation: 1, creationTimestamp: "2020-01-01T00:00:00Z", annotations },
    spec: {
      schedule: "*/10 * * * *", timeZone, concurrencyPolicy: "Allow", successfulJobsHistoryLimit: 1, failedJobsHistoryLimit: 1,
      jobTemplate: { spec: { ttlSecondsAfterFinished: 0, template: { ...plain, spec: { ...plain.spec!, restartPolicy: "Never" } } } }, ...more,
    },
  };
};

const KINDS = [
  cronJob("staged", "", {}, {}),
  cronJob("plain", "", { concurrencyPolicy: "Forbid" }, { [STAGE_AHEAD]: "0s" }),
  cronJob("replace", "", { concurrencyPolicy: "Replace" }, { [STAGE_AHEAD]: "2m" }),
] as const;

/** One zone around one of its changes. What ran on the nodes. */
const play = async ({ zone, fromMs, toMs, seed, kinds }: Scene): Promise<readonly Ran[]> => {
  const random = randomOf(seed);
  const between = (least: number, most: number): number => Math.floor(least + random() * (most - least));
  const clock = new FakeClock(fromMs);
  const { store, cache } = await createTestState({ clock });
  await store.create({ type: NAMESPACES, namespace: "", name: NS }, { apiVersion: "v1", kind: "Namespace", metadata: { name: NS, uid: "ns" }, spec: { finalizers: ["kubernetes"] }, status: { phase: "Active" } }, { writer: "api" });
  const ran: Ran[] = [];

  // The nodes. They know what they were told, and start on their own clock whoever leads.
  const taken = new Set<string>();
  const current = (uid: string): Pod | undefined => cache.resource(PODS).byUid(uid)?.object;
  const report = async (uid: string, status: NonNullable<Pod["status"]>): Promise<void> => {
    const pod = current(uid);
    if (!pod) return;
    await store.update(keyOf(PODS, pod), (p) => ({ ...p, status: { ...p.status, ...status } }), { writer: "agent" }).catch((error: unknown) => {
      if (!isCode(error, "NotFound")) throw error;
    });
  };
  const give = async (uid: string): Promise<void> => {
    const pod = current(uid);
    if (!pod) return;
    if (pod.metadata.finalizers?.length) await report(uid, { phase: pod.status?.phase === "Running" ? "Failed" : pod.status?.phase });
    else await store.delete(keyOf(PODS, pod), { writer: "agent" }).catch(() => undefined);
  };
  const begin = async (uid: string): Promise<void> => {
    const pod = current(uid);
    if (!pod || pod.metadata.deletionTimestamp !== undefined) return;
    const [name, tick] = /^(.*)-(\d+)-[a-z0-9]+$/.exec(pod.metadata.name!)!.slice(1);
    ran.push({ cronJob: name!, tickMs: Number(tick) * MINUTE, early: startAtMs(pod) > clock.nowMs() });
    await report(uid, { phase: "Running", reason: undefined });
    clock.setTimer(between(1000, MINUTE), () => void report(uid, { phase: "Succeeded" }).then(() => (current(uid)?.metadata.deletionTimestamp === undefined ? undefined : give(uid))));
  };
  const nodes = cache.resource(PODS).subscribe(({ type, stored: { object: pod } }) => {
    const uid = pod.metadata.uid!;
    if (type === "deleted") return;
    if (pod.metadata.deletionTimestamp !== undefined && taken.has(uid)) clock.setTimer(between(10, 2000), () => void give(uid));
    if (taken.has(uid)) return;
    taken.add(uid);
    // Slow agents: some make their part ready in time, others long after the tick.
    clock.setTimer(between(100, random() < 0.2 ? MINUTE : 20_000), () => {
      if (startAtMs(pod) > clock.nowMs()) {
        void report(uid, { phase: "Pending", reason: "Staged" });
        clock.setAlarm(startAtMs(pod), () => void begin(uid));
      } else void begin(uid);
    });
  });

  // The leaders, one after another.
  let leader: { readonly faulty: FaultyStore; readonly stop: AbortController; readonly done: Promise<void> } | undefined;
  const lead = (): void => {
    const faulty = new FaultyStore(store, random);
    const stop = new AbortController();
    const done = startControllers({
      store: faulty.store, cache, clock, random, logger: silentLogger, fence: undefined, signal: stop.signal, streams: NO_NODES, events: { record: () => undefined, flush: () => Promise.resolve(), [Symbol.dispose]: () => undefined },
    }, [cronJobController, jobController, garbageCollector]).catch((error: unknown) => {
      if (!isCode(error, "Fenced")) throw error;
    });
    leader = { faulty, stop, done };
  };
  const kill = async (): Promise<void> => {
    if (!leader) return;
    leader.faulty.dead = true;
    leader.stop.abort();
    const state = { ended: false };
    void leader.done.then(() => (state.ended = true));
    leader = undefined;
    for (let i = 0; !state.ended; i++) {
      if (i > 1000) throw new Error(`a leader did not end (${zone}, seed ${seed})`);
      await clock.advance(1);
    }
  };
  for (const kind of kinds) await store.create({ type: CRON_JOBS, namespace: NS, name: kind.metadata.name! }, { ...kind, metadata: { ...kind.metadata, creationTimestamp: new Date(fromMs).toISOString() }, spec: { ...kind.spec, timeZone: zone } }, { writer: "api" });
  lead();

  // Mischief, most of it near the ticks. Nobody is away for a whole period, nor does the clock skip one: then a tick would be dropped by rule.
  let owed = 0;
  while (clock.nowMs() < toMs) {
    const toTick = PERIOD - (clock.nowMs() % PERIOD);
    await clock.advance(random() < 0.6 ? Math.max(1, toTick + between(-40_000, 2000)) : between(MINUTE, 4 * MINUTE));
    const dice = random();
    if (dice < 0.25) {
      await kill();
      await clock.advance(between(0, 3 * MINUTE));
      lead();
    } else if (dice < 0.45) {
      leader!.faulty.away = true;
      await clock.advance(between(0, 3 * MINUTE));
      leader!.faulty.away = false;
    } else if (dice < 0.55) {
      const back = between(1000, 12 * MINUTE);
      clock.stepWall(-back);
      owed += back;
    } else if (dice < 0.65 && owed > 0) {
      // Forward by no more than it was set back: ticks that were skipped for good are another test's.
      const forward = Math.min(owed, between(1000, 3 * MINUTE));
      clock.stepWall(forward);
      owed -= forward;
    }
  }
  leader!.faulty.away = false;
  await clock.advance(8 * MINUTE);
  await kill();
  nodes[Symbol.dispose]();
  cache.close();
  await settle();
  return ran;
};

interface Scene {
  readonly zone: string;
  readonly fromMs: number;
  readonly toMs: number;
  readonly seed: number;
  readonly kinds: readonly CronJob[];
}

/** Every change of clocks of two years; zones without any are played at any time. */
const scenes = (): readonly Scene[] => Intl.supportedValuesOf("timeZone").flatMap((zone, i) => {
  const edges: number[] = [];
  for (let ms = FROM; ;) {
    const change = TimeZone.of(zone).transitionBetween(ms, TO);
    // One of each kind: the second year only moves the dates.
    if (!change || edges.length === 2) break;
    edges.push((ms = change.atMs));
  }
  if (edges.length === 0) edges.push(FROM + HOUR * ((i * 37) % 5000));
  return edges.map((edge, k) => ({ zone, fromMs: edge - 35 * MINUTE, toMs: edge + 85 * MINUTE, seed: SEED * 7919 + i * 104_729 + k * 13 + 1, kinds: KINDS.filter((_, n) => n !== (i + k) % KINDS.length) }));
});

const show = (all: readonly number[]): string => all.map((ms) => new Date(ms).toISOString().slice(5, 16)).join(" ");

/** Event-loop turns are what a scene costs: many scenes share them. */
const AT_A_TIME = 48;

test("every zone, over its changes of clocks: no tick missed, none doubled, none early", async (t) => {
  t.timeout(180_000);
  const queue = [...scenes()];
  let ticks = 0;
  const one = async (scene: Scene): Promise<void> => {
    const { zone, fromMs, toMs, seed } = scene;
    const ran = await play(scene);
    const expected = ticksOf(zone, fromMs, toMs);
    for (const { metadata: { name } } of scene.kinds) {
      const own = ran.filter((r) => r.cronJob === name);
      const got = own.map((r) => r.tickMs).filter((ms) => ms <= toMs).sort((a, b) => a - b);
      if (show(got) !== show(expected)) t.fail(`${zone}, seed ${seed}, ${name}: ran ${show(got)}, expected ${show(expected)}`);
      for (const { tickMs, early } of own) if (early) t.fail(`${zone}, seed ${seed}, ${name}: ${show([tickMs])} ran early`);
      ticks += expected.length;
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, async () => {
    for (let scene = queue.pop(); scene; scene = queue.pop()) await one(scene);
  }));
  t.log(`${ticks} ticks`);
  t.true(ticks >= 10_000);
});
