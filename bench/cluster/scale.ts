// 0 -> N -> 0 as a user sees it: a Deployment is created through the API, and a watch tells when its pods are ready and when the last is gone.
import type { Deployment, Pod } from "../../base/kube/types.gen.ts";
import { DEPLOYMENTS, PODS } from "../../base/kube/resources.ts";
import { isReady } from "../../base/kube/pod-state.ts";
import type { ApiClient } from "../../cli/api-client.ts";

export interface ScaleRound {
  readonly readyMs: number;
  readonly goneMs: number;
  /** Per pod, from the event of its creation to the event of its readiness, ms. */
  readonly podMs: readonly number[];
}

const TIMEOUT_MS = 120_000;
const NAME = "bench";

const deployment = (replicas: number, image: string): Deployment => ({
  apiVersion: "apps/v1", kind: "Deployment", metadata: { name: NAME, namespace: "default" },
  spec: {
    replicas, selector: { matchLabels: { app: NAME } },
    template: {
      metadata: { labels: { app: NAME } },
      spec: {
        terminationGracePeriodSeconds: 1,
        containers: [{ name: "sleep", image, imagePullPolicy: "IfNotPresent", command: ["/bin/sleep", "86400"], resources: { requests: { cpu: "1m", memory: "1Mi" } } }],
      },
    },
  },
});


/** Rejects with what was still missing when a phase takes longer than two minutes. `between` runs while all are up. */
export const scaleRound = async (client: ApiClient, replicas: number, image: string, between: () => Promise<void>): Promise<ScaleRound> => {
  const abort = new AbortController();
  const created = new Map<string, number>();
  const ready = new Map<string, number>();
  const gone = new Set<string>();
  let wake: () => void = () => undefined;
  const { metadata } = await client.list(PODS, "default", { labelSelector: `app=${NAME}` });
  const watching = (async () => {
    const query = { labelSelector: `app=${NAME}`, resourceVersion: metadata.resourceVersion };
    for await (const { type, object } of client.watch<Pod>(client.pathOf(PODS, "default"), query, abort.signal)) {
      const uid = object.metadata.uid!;
      const now = performance.now();
      if (type === "ADDED" && !created.has(uid)) created.set(uid, now);
      if (type !== "DELETED" && isReady(object) && !ready.has(uid)) ready.set(uid, now);
      if (type === "DELETED") gone.add(uid);
      wake();
    }
  })().catch((error: unknown) => {
    if (!abort.signal.aborted) throw error;
  });
  const until = async (what: string, done: () => boolean): Promise<number> => {
    const deadline = performance.now() + TIMEOUT_MS;
    while (!done()) {
      const left = deadline - performance.now();
      if (left <= 0) throw new Error(`${what}: created ${created.size}, ready ${ready.size}, gone ${gone.size} of ${replicas} after ${TIMEOUT_MS / 1000} s`);
      await Promise.race([new Promise<void>((resolve) => { wake = resolve; }), new Promise((resolve) => setTimeout(resolve, Math.min(left, 1000)).unref()), watching]);
    }
    return performance.now();
  };
  try {
    const started = performance.now();
    await client.json("POST", client.pathOf(DEPLOYMENTS, "default"), { body: deployment(replicas, image) });
    const readyAt = await until("scaling up", () => ready.size >= replicas);
    await between();
    const deleted = performance.now();
    await client.json("DELETE", client.pathOf(DEPLOYMENTS, "default", NAME), { body: { apiVersion: "v1", kind: "DeleteOptions", propagationPolicy: "Background" } });
    const goneAt = await until("scaling down", () => gone.size >= created.size);
    if (created.size !== replicas) throw new Error(`${created.size} pods were created for ${replicas} replicas`);
    return { readyMs: readyAt - started, goneMs: goneAt - deleted, podMs: [...ready].map(([uid, at]) => at - created.get(uid)!) };
  } finally {
    abort.abort();
    await watching;
  }
};
