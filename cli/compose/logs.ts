// Logs of a project: each line behind its container's name, as docker compose prints them.
import { isCode } from "../../base/errors.ts";
import { PODS } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import type { ApiClient } from "../api-client.ts";
import { followObject } from "../follow-object.ts";
import { FOLLOW, wholeLines } from "../logs.ts";

export interface ComposeLogOptions {
  readonly follow: boolean;
  readonly timestamps: boolean;
  readonly prefix: boolean;
  readonly color: boolean;
  readonly tailLines: number | undefined;
  readonly sinceSeconds: number | undefined;
  readonly signal?: AbortSignal;
}

const COLORS = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

/** "web-1  | ": names in one column. Pure. */
export const prefixes = (names: readonly string[], color: boolean): readonly string[] => {
  const width = Math.max(0, ...names.map((n) => n.length));
  return names.map((name, i) => (color ? `\u001B[${COLORS[i % COLORS.length]!}m${name.padEnd(width)}  |\u001B[0m ` : `${name.padEnd(width)}  | `));
};

const hasRun = (pod: Pod): boolean => (pod.status?.containerStatuses ?? []).some((c) => c.state?.running || c.state?.terminated || c.restartCount > 0);

/** One that is about to start has nothing to print, and will have. */
const untilItRuns = async (client: ApiClient, pod: Pod, signal: AbortSignal | undefined): Promise<boolean> => {
  for await (const now of followObject(client, PODS, pod.metadata.namespace!, pod.metadata.name!, signal)) {
    if (!now) return false;
    if (hasRun(now)) return true;
  }
  return false;
};

export const printProjectLogs = async (client: ApiClient, pods: readonly Pod[], project: string, options: ComposeLogOptions): Promise<void> => {
  const heads = prefixes(pods.map((p) => p.metadata.name!.replace(new RegExp(`^${project}-`), "")), options.color);
  const query = new URLSearchParams({
    ...(options.follow ? FOLLOW : {}), ...(options.timestamps ? { timestamps: "true" } : {}), ...(options.tailLines === undefined ? {} : { tailLines: String(options.tailLines) }),
    ...(options.sinceSeconds === undefined ? {} : { sinceSeconds: String(options.sinceSeconds) }),
  });
  const print = async (pod: Pod, head: string): Promise<void> => {
    try {
      if (!hasRun(pod) && !(options.follow && (await untilItRuns(client, pod, options.signal)))) return;
      const response = await client.send("GET", `${client.pathOf(PODS, pod.metadata.namespace, pod.metadata.name, "log")}?${query.toString()}`, { accept: "*/*", signal: options.signal });
      for await (const chunk of wholeLines(response, options.prefix ? head : "")) if (!process.stdout.write(chunk)) await new Promise((resume) => process.stdout.once("drain", resume));
    } catch (error) {
      // Gone meanwhile, or the user has seen enough.
      if (!options.signal?.aborted && !isCode(error, "NotFound", "BadRequest")) throw error;
    }
  };
  if (options.follow) await Promise.all(pods.map((pod, i) => print(pod, heads[i]!)));
  else for (const [i, pod] of pods.entries()) await print(pod, heads[i]!);
};
