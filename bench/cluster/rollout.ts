// A rolling update as a user sees it: a running Deployment gets another template, and a watch tells when it is complete and when the
// last old pod is gone.
import { setTimeout as delay } from "node:timers/promises";
import type { Deployment, Pod } from "../../base/kube/types.gen.ts";
import { DEPLOYMENTS, PODS } from "../../base/kube/resources.ts";
import type { ApiClient } from "../../cli/api-client.ts";
import { median } from "../statistics.ts";
import { IMAGE, row, withCluster } from "./bench-cluster.ts";

const NAME = "rollout";
const TIMEOUT_MS = 120_000;
const SETTLE_MS = 2000;

const deployment = (replicas: number, maxUnavailable: string): Deployment => ({
  apiVersion: "apps/v1", kind: "Deployment", metadata: { name: NAME, namespace: "default" },
  spec: {
    replicas, selector: { matchLabels: { app: NAME } }, strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: "25%", maxUnavailable } },
    template: {
      metadata: { labels: { app: NAME } },
      spec: {
        terminationGracePeriodSeconds: 1,
        containers: [{ name: "sleep", image: IMAGE, imagePullPolicy: "IfNotPresent", command: ["/bin/sleep", "86400"], resources: { requests: { cpu: "1m", memory: "1Mi" } } }],
      },
    },
  },
});

/** As `kubectl rollout status` sees it. */
const isComplete = ({ metadata, spec, status }: Deployment): boolean => {
  const { replicas } = spec!;
  return (status?.observedGeneration ?? 0) >= metadata.generation! && status?.updatedReplicas === replicas && status?.replicas === replicas && status?.availableReplicas === replicas;
};

interface Round {
  /** From the patch to the status that `kubectl rollout status` waits for. */
  readonly completeMs: number;
  /** From the patch to the last old pod's deletion. */
  readonly goneMs: number;
  /** Fewest available and most pods that were not marked for deletion, from the deployment's status. */
  readonly fewest: number;
  readonly most: number;
}

export const rolloutRound = async (client: ApiClient, replicas: number, round: number): Promise<Round> => {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const [{ items: old, metadata: podsAt }, { metadata: deploymentsAt }] = await Promise.all([client.list(PODS, "default", { labelSelector: `app=${NAME}` }), client.list(DEPLOYMENTS, "default")]);
  const left = new Set(old.map((pod) => pod.metadata.uid!));
  let fewest = replicas;
  let most = replicas;
  const startedMs = performance.now();
  const gone = (async () => {
    for await (const { type, object } of client.watch<Pod>(client.pathOf(PODS, "default"), { labelSelector: `app=${NAME}`, resourceVersion: podsAt.resourceVersion }, signal)) {
      if (type === "DELETED" && left.delete(object.metadata.uid!) && left.size === 0) return performance.now() - startedMs;
    }
    throw new Error(`${left.size} old pods are still there`);
  })();
  const complete = (async () => {
    for await (const { object } of client.watch<Deployment>(client.pathOf(DEPLOYMENTS, "default"), { resourceVersion: deploymentsAt.resourceVersion }, signal)) {
      if (object.metadata.name !== NAME || object.metadata.annotations?.["bench"] !== String(round)) continue;
      fewest = Math.min(fewest, object.status?.availableReplicas ?? 0);
      most = Math.max(most, object.status?.replicas ?? 0);
      if (isComplete(object)) return performance.now() - startedMs;
    }
    throw new Error("the rollout did not complete");
  })();
  await client.json("PATCH", client.pathOf(DEPLOYMENTS, "default", NAME), {
    contentType: "application/merge-patch+json", body: { metadata: { annotations: { bench: String(round) } }, spec: { template: { metadata: { annotations: { round: String(round) } } } } },
  });
  const [completeMs, goneMs] = await Promise.all([complete, gone]);
  return { completeMs, goneMs, fewest, most };
};

const untilReady = async (client: ApiClient): Promise<void> => {
  const { items, metadata } = await client.list(DEPLOYMENTS, "default");
  if (items.some((d) => d.metadata.name === NAME && isComplete(d))) return;
  for await (const { object } of client.watch<Deployment>(client.pathOf(DEPLOYMENTS, "default"), { resourceVersion: metadata.resourceVersion }, AbortSignal.timeout(TIMEOUT_MS))) {
    if (object.metadata.name === NAME && isComplete(object)) return;
  }
  throw new Error("the deployment was not ready in time");
};

export const benchRollout = async (options: { readonly nodes: number; readonly replicas: number; readonly rounds: number }): Promise<void> => {
  const { nodes, replicas, rounds } = options;
  await withCluster(nodes, async ({ client }) => {
    console.log(`\nRolling update of ${replicas} replicas on ${nodes} nodes, readiness immediate (median of ${rounds} rounds after one that warms up)`);
    for (const maxUnavailable of ["25%", "0%"]) {
      await client.json("POST", client.pathOf(DEPLOYMENTS, "default"), { body: deployment(replicas, maxUnavailable) });
      await untilReady(client);
      const measured: Round[] = [];
      for (let i = 0; i <= rounds; i++) {
        await delay(SETTLE_MS);
        const round = await rolloutRound(client, replicas, i);
        if (i > 0) measured.push(round);
      }
      const seconds = (of: (round: Round) => number): string => `${(median(measured.map(of)) / 1000).toFixed(2)} s`;
      row(`maxSurge 25 %, maxUnavailable ${maxUnavailable.replace("%", " %")}`, `${seconds((r) => r.completeMs)} complete`, "6 s");
      row("  the last old pod gone", seconds((r) => r.goneMs));
      row("  pods on the way", `${Math.min(...measured.map((r) => r.fewest))} available at least, ${Math.max(...measured.map((r) => r.most))} at most`);
      await client.json("DELETE", client.pathOf(DEPLOYMENTS, "default", NAME), { body: { apiVersion: "v1", kind: "DeleteOptions", propagationPolicy: "Foreground" } });
      for (let waited = 0; (await client.list(PODS, "default", { labelSelector: `app=${NAME}` })).items.length > 0; waited += 250) {
        if (waited > TIMEOUT_MS) throw new Error("the pods did not go");
        await delay(250);
      }
    }
  });
};
