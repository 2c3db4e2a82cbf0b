// One tick of a CronJob of N pods, measured by the pods' own processes: each prints the wall clock, in microseconds, as the first thing it does.
import { setTimeout as delay } from "node:timers/promises";
import { CRON_JOBS, JOBS, PODS } from "../../base/kube/resources.ts";
import { STAGE_AHEAD } from "../../base/kube/staging.ts";
import type { CronJob, Job, Pod } from "../../base/kube/types.gen.ts";
import { text, type ApiClient } from "../../cli/api-client.ts";

export interface Burst {
  readonly tickMs: number;
  /** Of each container, ms after the tick (negative: before it). */
  readonly startsMs: readonly number[];
  /** Pods that were staged a second before the tick. */
  readonly staged: number;
}

const NAMESPACE = "default";
/** What busybox's shell (1.34 and later) has in EPOCHREALTIME: seconds with six digits. */
const CLOCK = /^(\d+\.\d{6})$/m;

/** Six fields for one instant, UTC. */
export const scheduleAt = (ms: number): string => {
  const at = new Date(ms);
  return `${at.getUTCSeconds()} ${at.getUTCMinutes()} ${at.getUTCHours()} ${at.getUTCDate()} ${at.getUTCMonth() + 1} *`;
};

export const nextSecond = (afterMs: number): number => Math.ceil(afterMs / 1000) * 1000;

export const cronJob = (name: string, tickMs: number, aheadSeconds: number, job: NonNullable<Job["spec"]>): CronJob => ({
  apiVersion: "batch/v1", kind: "CronJob", metadata: { name, namespace: NAMESPACE, annotations: { [STAGE_AHEAD]: `${aheadSeconds}s` } },
  spec: { schedule: scheduleAt(tickMs), timeZone: "Etc/UTC", jobTemplate: { spec: job } },
});

const burstJob = (count: number, image: string): NonNullable<Job["spec"]> => ({
  parallelism: count, completions: count,
  template: {
    spec: {
      restartPolicy: "Never", terminationGracePeriodSeconds: 0,
      containers: [{ name: "clock", image, imagePullPolicy: "IfNotPresent", stdin: true, command: ["/bin/sh", "-c", "echo $EPOCHREALTIME; read -r _"], resources: { requests: { cpu: "1m", memory: "1Mi" } } }],
    },
  },
});

const podsOf = async (client: ApiClient): Promise<readonly Pod[]> => (await client.list<Pod>(PODS, NAMESPACE, {})).items;

const untilMs = (ms: number): Promise<void> => delay(Math.max(0, ms - Date.now()));

const startOf = async (client: ApiClient, pod: Pod): Promise<number> => {
  for (let tries = 0; ; tries++) {
    let log = "";
    try {
      log = await text(await client.send("GET", `${client.pathOf(PODS, NAMESPACE, pod.metadata.name)}/log`, { accept: "*/*" }));
    } catch (error) {
      if (tries > 100) throw error;
    }
    const seconds = CLOCK.exec(log)?.[1];
    if (seconds !== undefined) return Number(seconds) * 1000;
    if (tries > 100) throw new Error(`pod ${pod.metadata.name!} did not say when it started: ${log}`);
    await delay(100);
  }
};

export const burst = async (client: ApiClient, name: string, options: { readonly count: number; readonly image: string; readonly aheadSeconds: number; readonly leadMs: number }): Promise<Burst> => {
  const tickMs = nextSecond(Date.now() + options.leadMs);
  await client.json("POST", client.pathOf(CRON_JOBS, NAMESPACE), { body: cronJob(name, tickMs, options.aheadSeconds, burstJob(options.count, options.image)) });
  await untilMs(tickMs - 1000);
  const staged = (await podsOf(client)).filter((p) => p.status?.reason === "Staged").length;
  await untilMs(tickMs + 3000);
  let pods: readonly Pod[] = [];
  for (let tries = 0; tries < 300; tries++) {
    pods = (await podsOf(client)).filter((p) => p.status?.phase === "Running");
    if (pods.length >= options.count) break;
    await delay(100);
  }
  if (pods.length < options.count) throw new Error(`only ${pods.length} of ${options.count} containers run 30 s after the tick`);
  const starts: number[] = [];
  for (let i = 0; i < pods.length; i += 10) starts.push(...(await Promise.all(pods.slice(i, i + 10).map((pod) => startOf(client, pod)))));
  await client.json("DELETE", client.pathOf(CRON_JOBS, NAMESPACE, name), { body: { apiVersion: "v1", kind: "DeleteOptions", propagationPolicy: "Background" } });
  for (let tries = 0; tries < 600 && ((await podsOf(client)).length > 0 || (await client.list(JOBS, NAMESPACE, {})).items.length > 0); tries++) await delay(50);
  return { tickMs, startsMs: starts.map((ms) => ms - tickMs), staged };
};
