// Runs all controllers on the leader. When one dies, all stop and the error goes to the election, which gives leadership up:
// half a set of controllers is worse than another leader.
import { autoRemoveController } from "./auto-remove/controller.ts";
import { cronJobController } from "./cronjob/controller.ts";
import { daemonSetController } from "./daemonset/controller.ts";
import { deploymentController } from "./deployment/controller.ts";
import { disruptionController } from "./disruption/controller.ts";
import { garbageCollector } from "./garbage-collector/controller.ts";
import { horizontalPodAutoscalerController } from "./horizontal-pod-autoscaler/controller.ts";
import { jobController } from "./job/controller.ts";
import { namespaceController } from "./namespace/controller.ts";
import { nodeLifecycleController } from "./node-lifecycle/controller.ts";
import { volumeController } from "./volumes/controller.ts";
import { DEFAULT_CONTROLLER_OPTIONS, runController } from "./reconcile-loop.ts";
import type { Controller, ControllerContext, ControllerOptions } from "./reconcile-loop.ts";
import { replicaSetController, replicationController } from "./replicaset/controller.ts";
import { resourceQuotaController } from "./resource-quota/controller.ts";
import { scheduledScalerController } from "./scheduled-scaler/controller.ts";
import { statefulSetController } from "./statefulset/controller.ts";

/** The cache is started and in sync; the signal is aborted when leadership ends. */
export interface StartControllersOptions extends Omit<ControllerContext, "options"> {
  readonly options?: Partial<ControllerOptions> | undefined;
}

const CONTROLLERS: readonly ((context: ControllerContext) => Controller)[] = [
  deploymentController, replicaSetController, replicationController, daemonSetController, statefulSetController, jobController, cronJobController, scheduledScalerController, garbageCollector, namespaceController,
  nodeLifecycleController, volumeController, autoRemoveController, disruptionController, resourceQuotaController, horizontalPodAutoscalerController,
];

/** Resolves after the signal aborted, rejects after one controller did; when it settles, none writes any more. */
export const startControllers = async (given: StartControllersOptions, controllers = CONTROLLERS): Promise<void> => {
  const stop = new AbortController();
  const context: ControllerContext = {
    ...given, metrics: given.metrics, signal: AbortSignal.any([given.signal, stop.signal]), options: { ...DEFAULT_CONTROLLER_OPTIONS, ...given.options },
  };
  const running = controllers.map((make) => runController(context, make(context)));
  try {
    await Promise.all(running);
  } finally {
    stop.abort();
    await Promise.allSettled(running);
  }
};
