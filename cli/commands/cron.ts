// cron ls, next, report: schedules, what they mean, and how punctual they were.
import { writeFileSync } from "node:fs";
import { booleanOption, numberOption, stringOption } from "../../base/config.ts";
import { nextAfter, parseCron } from "../../base/cron.ts";
import { GantryError } from "../../base/errors.ts";
import { CRON_JOBS, JOBS, PODS } from "../../base/kube/resources.ts";
import { stageAheadMs } from "../../base/kube/staging.ts";
import type { CronJob } from "../../base/kube/types.gen.ts";
import { TimeZone } from "../../base/time-zone.ts";
import { command, type Command, type CommandFamily } from "../command.ts";
import { table } from "../describe/text.ts";
import { NAMESPACED_OPTIONS, connect, namespaceOf } from "./client.ts";

export const CRON_FAMILY: CommandFamily = { name: "cron", group: "workloads", summary: "Scheduled work: what is due when, and how punctual it was" };

/** With the zone's own clock: 2026-10-25 02:30:00 +01:00. */
const inZone = (ms: number, timeZone: string | undefined): string => {
  const zone = TimeZone.of(timeZone);
  const offset = zone.offsetMs(ms) / 60_000;
  const two = (n: number): string => String(Math.trunc(n)).padStart(2, "0");
  return `${new Date(zone.wallAt(ms)).toISOString().slice(0, 19).replace("T", " ")} ${offset < 0 ? "-" : "+"}${two(Math.abs(offset) / 60)}:${two(Math.abs(offset) % 60)}`;
};

/** Without a zone of its own a CronJob goes by its control plane's, which is not known here. */
const zoneOf = (cronJob: CronJob): string => cronJob.spec.timeZone ?? "Etc/UTC";

const nextOf = (cronJob: CronJob, nowMs: number, count: number): number[] => {
  const schedule = parseCron(cronJob.spec.schedule);
  const times: number[] = [];
  for (let ms = nextAfter(schedule, nowMs, zoneOf(cronJob)); ms !== undefined && times.length < count; ms = nextAfter(schedule, ms, zoneOf(cronJob))) times.push(ms);
  return times;
};

const one = (positionals: readonly string[], what: string): string => {
  if (positionals.length !== 1) throw new GantryError("BadRequest", `${what} takes the name of one CronJob`);
  return positionals[0]!.replace(/^(?:cj|cronjobs?(?:\.batch)?)\//, "");
};

const seconds = (ms: number): string => (ms === 0 ? "off" : `${ms / 1000}s`);

export const CRON_COMMANDS: readonly Command[] = [
  command({
    name: "cron ls", aliases: ["cron list"], usage: "", group: "workloads", summary: "CronJobs with their last and next times",
    options: { ...NAMESPACED_OPTIONS, allNamespaces: booleanOption("Of all namespaces", { short: "A" }) },
    run: async ({ values }) => {
      using client = connect(values);
      const { items } = await client.list<CronJob>(CRON_JOBS, values.allNamespaces ? undefined : namespaceOf(client, values), {});
      const nowMs = Date.now();
      const rows = items.map((c) => [
        ...(values.allNamespaces ? [c.metadata.namespace ?? ""] : []), c.metadata.name ?? "", c.spec.schedule, c.spec.timeZone ?? "<control plane's>", seconds(stageAheadMs(c)),
        c.status?.lastScheduleTime ? inZone(Date.parse(c.status.lastScheduleTime), zoneOf(c)) : "<none>", c.spec.suspend ? "<suspended>" : ((ms) => (ms === undefined ? "<never>" : inZone(ms, zoneOf(c))))(nextOf(c, nowMs, 1)[0]),
      ]);
      console.log(table([...(values.allNamespaces ? ["NAMESPACE"] : []), "NAME", "SCHEDULE", "TIME ZONE", "STAGED AHEAD", "LAST", "NEXT"], rows).map((line) => line.slice(2)).join("\n"));
      return 0;
    },
  }),
  command({
    name: "cron next", usage: "(NAME | --schedule EXPRESSION)", group: "workloads", summary: "The next times of a CronJob, or of an expression",
    details: 'Examples:\n  gantry cron next midnight -c 10\n  gantry cron next --schedule "30 2 * * *" --time-zone Europe/Berlin',
    options: {
      ...NAMESPACED_OPTIONS, count: numberOption("How many", 5, { short: "c", least: 1, most: 1000 }),
      schedule: stringOption("An expression instead of a CronJob", "", { placeholder: "EXPRESSION" }), timeZone: stringOption("Its time zone", "Etc/UTC", { placeholder: "ZONE" }),
    },
    run: async ({ values, positionals }) => {
      const print = (cronJob: CronJob): number => {
        const times = nextOf(cronJob, Date.now(), values.count);
        for (const ms of times) console.log(`${inZone(ms, zoneOf(cronJob))}  ${new Date(ms).toISOString()}`);
        if (times.length === 0) console.error("This never comes.");
        return 0;
      };
      if (values.schedule !== "") {
        if (positionals.length > 0) throw new GantryError("BadRequest", "give a CronJob's name or --schedule, not both");
        return print({ apiVersion: "batch/v1", kind: "CronJob", metadata: {}, spec: { schedule: values.schedule, timeZone: values.timeZone, jobTemplate: {} } });
      }
      using client = connect(values);
      return print(await client.get<CronJob>(CRON_JOBS, namespaceOf(client, values), one(positionals, "cron next")));
    },
  }),
  command({
    name: "cron report", usage: "NAME", group: "workloads", summary: "How far after each tick its containers started",
    details: "Draws the runs of which there still are pods (see successfulJobsHistoryLimit). Staged runs are known to the millisecond, by their nodes' clocks.\n\nExamples:\n  gantry cron report midnight\n  gantry cron report midnight --svg midnight.svg",
    options: { ...NAMESPACED_OPTIONS, svg: stringOption("Draw it into this file, too", "", { placeholder: "FILE" }) },
    run: async ({ values, positionals }) => {
      using client = connect(values);
      const namespace = namespaceOf(client, values);
      const name = one(positionals, "cron report");
      const cronJob = await client.get<CronJob>(CRON_JOBS, namespace, name);
      const [jobs, pods] = await Promise.all([client.list(JOBS, namespace, {}), client.list(PODS, namespace, {})]);
      const { renderSvg, renderText, runsOf } = await import("../cron-report.ts");
      const runs = runsOf(jobs.items.filter((j) => j.metadata.ownerReferences?.some((r) => r.uid === cronJob.metadata.uid)), pods.items);
      if (runs.length === 0) {
        console.error(`No run of ${name} has pods: it has not been due yet, or they are gone (successfulJobsHistoryLimit, ttlSecondsAfterFinished).`);
        return 0;
      }
      console.log(renderText(name, runs));
      if (values.svg !== "") writeFileSync(values.svg, renderSvg(name, runs));
      return 0;
    },
  }),
];
