// What `run` and `create` do once their flags are read.
import { DEPLOYMENTS } from "../../base/kube/resources.ts";
import type { ApiClient } from "../api-client.ts";
import { followObject } from "../follow-object.ts";
import { Progress } from "../progress.ts";
import type { ContainerRequest } from "./container-request.ts";
import { createDeployment, createPod, followLogs, prepare, removePod, RunError, waitForExit, waitUntilStarted } from "./run.ts";
import { ENGINE_FAILED } from "./start-state.ts";

export interface RunOptions {
  readonly detach: boolean;
  /** 0: a pod; else a deployment. */
  readonly replicas: number;
  readonly warn: (text: string) => void;
}

/** A client that is killed can't remove its container: the control plane does it, but not before this one has read what was written. */
const READ_OUTPUT_WITHIN = "60s";

const passingOnCodes = async (run: () => Promise<number>): Promise<number> => {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    console.error(`gantry: ${error.message}`);
    return error.exitCode;
  }
};

export const runContainer = (client: ApiClient, namespace: string, wanted: ContainerRequest, options: RunOptions): Promise<number> =>
  passingOnCodes(async () => {
    if (options.replicas > 0) return runDeployment(client, namespace, await prepare(client, namespace, wanted, options.warn), options.replicas);
    const removes = wanted.removeAfter !== undefined;
    const request = await prepare(client, namespace, removes && !options.detach ? { ...wanted, removeAfter: READ_OUTPUT_WITHIN } : wanted, options.warn);
    const pod = await createPod(client, namespace, request);
    const progress = new Progress();
    const started = await waitUntilStarted(client, pod, progress);
    if (options.detach) {
      console.log(pod.metadata.name!);
      return 0;
    }
    const end = new AbortController();
    const logs = followLogs(client, started, end.signal);
    const code = await waitForExit(client, started);
    await logs;
    if (removes) await removePod(client, started, 0);
    return code;
  });

export const createContainer = (client: ApiClient, namespace: string, wanted: ContainerRequest, { warn }: Pick<RunOptions, "warn">): Promise<number> =>
  passingOnCodes(async () => {
    const pod = await createPod(client, namespace, await prepare(client, namespace, wanted, warn), { "gantry.io/desired-state": "created" });
    await waitUntilStarted(client, pod, new Progress(), { isCreated: true });
    console.log(pod.metadata.name!);
    return 0;
  });

const runDeployment = async (client: ApiClient, namespace: string, request: ContainerRequest, replicas: number): Promise<number> => {
  const made = await createDeployment(client, namespace, request, replicas);
  const progress = new Progress();
  for await (const now of followObject(client, DEPLOYMENTS, namespace, made.metadata.name!)) {
    if (!now) throw new RunError(ENGINE_FAILED, `deployment ${made.metadata.name!} was removed before it was ready`);
    const ready = now.status?.readyReplicas ?? 0;
    progress.update(`${ready} of ${replicas} ready`);
    const late = now.status?.conditions?.find((c) => c.type === "Progressing" && c.status === "False");
    if (late) throw new RunError(ENGINE_FAILED, `${ready} of ${replicas} came up: ${late.message ?? late.reason ?? ""} (gantry ps -a --filter label=gantry.io/run=${request.name})`);
    if (ready >= replicas) break;
  }
  progress.clear();
  console.log(made.metadata.name!);
  return 0;
};
