// `compose up` without -d: the output of all containers until they have ended. Ctrl-C stops them, a second one kills them.
import { describeError } from "../../base/errors.ts";
import type { ApiClient } from "../api-client.ts";
import { waitForExit } from "../docker/run.ts";
import { stop } from "../lifecycle/changes.ts";
import { printProjectLogs } from "./logs.ts";
import type { ProjectPlan } from "./project.ts";
import { podsOfServices, present } from "./session.ts";

const INTERRUPTED = 130;

export const runAttached = async (client: ApiClient, namespace: string, plan: ProjectPlan, wanted: readonly string[], options: { readonly prefix: boolean; readonly color: boolean; readonly timestamps: boolean; readonly abortOnExit: boolean; readonly sinceSeconds: number }): Promise<number> => {
  const all = podsOfServices((await present(client, namespace, plan.name)).pods, []);
  const services = new Set(wanted.length > 0 ? podsOfServices(all, wanted) : all);
  const pods = all.filter((p) => services.has(p));
  const end = new AbortController();
  let code = 0;
  let interrupts = 0;
  const stopAll = (graceSeconds: number | undefined): Promise<unknown> => Promise.all(all.map((pod) => stop(client, pod, { graceSeconds, signal: "" }).catch((error: unknown) => console.error(`gantry: ${pod.metadata.name!}: ${describeError(error)}`))));
  const onSignal = (): void => {
    code = INTERRUPTED;
    console.error(interrupts === 0 ? "\nstopping the containers; Ctrl-C again kills them" : "");
    void stopAll(interrupts++ === 0 ? undefined : 0).then(() => end.abort());
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  try {
    const logs = printProjectLogs(client, pods, plan.name, { ...options, follow: true, tailLines: undefined, signal: end.signal });
    const exits = pods.map(async (pod) => {
      const exit = await waitForExit(client, pod, end.signal).catch(() => undefined);
      if (exit === undefined || end.signal.aborted) return;
      console.error(` ${pod.metadata.name!}  exited with code ${exit}`);
      if (!options.abortOnExit || interrupts > 0) return;
      interrupts++;
      code = exit;
      await stopAll(undefined);
      end.abort();
    });
    await Promise.race([Promise.all(exits), new Promise((resolve) => end.signal.addEventListener("abort", resolve, { once: true }))]);
    await logs;
  } finally {
    process.off("SIGINT", onSignal);
    process.off("SIGTERM", onSignal);
  }
  return code;
};
