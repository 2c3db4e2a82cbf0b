// What tests run on a cluster: pods and deployments of the example image, and what their statuses say.
import { EXAMPLE_IMAGE } from "../../cli/example-image.ts";
import type { ContainerStatus, Deployment, Pod } from "../../base/kube/types.gen.ts";

export interface Workload {
  /** For /bin/sh -c; or the whole command. Default: sleeps. */
  readonly run?: string | readonly string[];
  /** Merged into the pod's spec. */
  readonly spec?: object;
  /** Merged into the container. */
  readonly container?: object;
  readonly labels?: Readonly<Record<string, string>>;
}

const podSpec = ({ run = ["/bin/sleep", "1000000"], spec = {}, container = {} }: Workload): object => ({
  terminationGracePeriodSeconds: 1, containers: [{ name: "main", image: EXAMPLE_IMAGE, imagePullPolicy: "IfNotPresent", command: typeof run === "string" ? ["/bin/sh", "-c", run] : run, ...container }], ...spec,
});

export const pod = (name: string, workload: Workload = {}): object =>
  ({ apiVersion: "v1", kind: "Pod", metadata: { name, labels: { app: name, ...workload.labels } }, spec: podSpec(workload) });

export const deployment = (name: string, replicas: number, workload: Workload = {}): object => ({
  apiVersion: "apps/v1", kind: "Deployment", metadata: { name, labels: { app: name } },
  spec: { replicas, selector: { matchLabels: { app: name } }, template: { metadata: { labels: { app: name, ...workload.labels } }, spec: podSpec(workload) } },
});

export const isReady = (p: Pod): boolean => p.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True") === true;
export const phaseIs = (phase: string) => (p: Pod): boolean => p.status?.phase === phase;
export const container = (p: Pod): ContainerStatus => p.status!.containerStatuses![0]!;
export const exitCode = (p: Pod): number | undefined => p.status?.containerStatuses?.[0]?.state?.terminated?.exitCode;

/** As `kubectl rollout status` sees it. */
export const isRolledOut = (d: Deployment, replicas: number): boolean =>
  (d.status?.observedGeneration ?? 0) >= (d.metadata.generation ?? 0) && (d.status?.replicas ?? 0) === replicas && (d.status?.readyReplicas ?? 0) === replicas && (d.status?.updatedReplicas ?? 0) === replicas;
