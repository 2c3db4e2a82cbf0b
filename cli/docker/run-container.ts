// What `run` and `create` do once their flags are read.
import { Annotation } from "../../base/kube/desired-state.ts";
import { DEPLOYMENTS } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import type { ApiClient } from "../api-client.ts";
import { followObject } from "../follow-object.ts";
import { attach } from "../lifecycle/attach.ts";
import { annotate } from "../lifecycle/pods.ts";
import { Progress } from "../progress.ts";
import type { ContainerRequest } from "./container-request.ts";
import { createDeployment, createPod, followLogs, prepare, removePod, RunError, waitForExit, waitUntilStarted } from "./run.ts";
import { ENGINE_FAILED } from "./start-state.ts";

export interface RunOptions {
  readonly detach: boolean;
  /** 0: a pod; else a deployment. */
  readonly replicas: number;
  readonly detachKeys: Buffer;
  /** Signals that come here go to the container. */
  readonly sigProxy: boolean;
  readonly warn: (text: string) => void;
  /** Once the container exists. */
  readonly onCreated?: (pod: Pod) => void;
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
    // Its terminal would never see the end of what comes through a pipe.
    if (!options.detach && wanted.tty && wanted.stdin && !process.stdin.isTTY) throw new RunError(1, "the input device is not a TTY: leave out --tty");
    const removes = wanted.removeAfter !== undefined;
    // The container may look at its terminal's size before our first word of it comes.
    const { isTTY, rows: height, columns: width } = process.stdout;
    const extras = wanted.tty && isTTY && width > 0 ? { ...wanted.extras, consoleSize: { height, width } } : wanted.extras;
    const attached = { extras, stdinOnce: wanted.stdin, ...(removes ? { removeAfter: READ_OUTPUT_WITHIN } : {}) };
    const request = await prepare(client, namespace, options.detach ? wanted : { ...wanted, ...attached }, options.warn);
    if (options.detach) {
      const pod = await createPod(client, namespace, request);
      options.onCreated?.(await untilStarted(client, pod, {}));
      console.log(pod.metadata.name!);
      return 0;
    }
    // Attached before it starts: nothing that it writes is missed, and both of its outputs stay apart. What is restarted is followed by its log.
    const joins = request.restart.policy === "no" || request.stdin;
    const pod = await createPod(client, namespace, request, joins ? CREATED : {});
    const started = await untilStarted(client, pod, { isCreated: joins });
    options.onCreated?.(started);
    const code = await (joins ? runJoined(client, started, options) : runFollowed(client, started));
    if (code === "detached") return 0;
    if (removes) await removePod(client, started, 0);
    return code;
  });

const CREATED = { [Annotation.desiredState]: "created" };
const INTERRUPTED = 130;

/** Ctrl-C while it is pulled or waits for a node: nothing is to be left of it. */
const untilStarted = async (client: ApiClient, pod: Pod, how: { readonly isCreated?: boolean }): Promise<Pod> => {
  const interrupted = new AbortController();
  const onSignal = (): void => interrupted.abort();
  process.once("SIGINT", onSignal);
  process.once("SIGTERM", onSignal);
  try {
    return await waitUntilStarted(client, pod, new Progress(), { ...how, signal: interrupted.signal });
  } catch (error) {
    if (!interrupted.signal.aborted) throw error;
    await removePod(client, pod, 0, false);
    throw new RunError(INTERRUPTED, `interrupted: ${pod.metadata.name!} is removed`);
  } finally {
    process.off("SIGINT", onSignal);
    process.off("SIGTERM", onSignal);
  }
};

const runJoined = async (client: ApiClient, pod: Pod, { detachKeys, sigProxy }: Pick<RunOptions, "detachKeys" | "sigProxy">): Promise<number | "detached"> => {
  const go = Promise.withResolvers<undefined>();
  const start = async (): Promise<undefined> => {
    await annotate(client, pod, { [Annotation.desiredState]: null });
    return undefined;
  };
  const end = attach(client, pod, { container: pod.spec!.containers[0]!.name, stdin: true, detachKeys, sigProxy, fromStart: true, onOpen: () => void start().then(go.resolve, go.reject) });
  end.catch(() => undefined); // waited for below
  const code = await Promise.race([end, go.promise]);
  return code ?? end;
};

const runFollowed = async (client: ApiClient, pod: Pod): Promise<number> => {
  const logs = followLogs(client, pod, new AbortController().signal);
  const code = await waitForExit(client, pod);
  await logs;
  return code;
};

export const createContainer = (client: ApiClient, namespace: string, wanted: ContainerRequest, { warn, onCreated }: Pick<RunOptions, "warn" | "onCreated">): Promise<number> =>
  passingOnCodes(async () => {
    const pod = await createPod(client, namespace, await prepare(client, namespace, wanted, warn), CREATED);
    onCreated?.(await untilStarted(client, pod, { isCreated: true }));
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
