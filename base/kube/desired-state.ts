// What users ask of a pod's containers beyond "run": stopped, paused, only created. Kubernetes has no word for it, so it stands in
// annotations, which may change while the pod lives; the agent obeys them (docs/design/pods.md). Pure.
import { signalNumber } from "../signals.ts";

export const Annotation = {
  /** running (as when absent), stopped, paused, created. */
  desiredState: "gantry.io/desired-state",
  /** Between the stop signal and SIGKILL when stopped or restarted by request. Absent: the pod's terminationGracePeriodSeconds. */
  stopGraceSeconds: "gantry.io/stop-grace-seconds",
  /** In place of the image's STOPSIGNAL. */
  stopSignal: "gantry.io/stop-signal",
  /** Any new value: the containers are started anew, once. Also those of a pod that has ended. */
  restartRequest: "gantry.io/restart-request",
  /** "true": files that a container wrote are there after its restart, and its log goes on; as docker's containers do. Fixed from the pod's creation on. */
  keepWritableLayer: "gantry.io/keep-writable-layer",
} as const;

export type DesiredState = "running" | "stopped" | "paused" | "created";

const STATES: readonly DesiredState[] = ["running", "stopped", "paused", "created"];
/** A day: longer is a mistyped number. */
const MOST_GRACE_SECONDS = 86_400;

type Annotations = Readonly<Record<string, string>>;

export interface Lifecycle {
  readonly desiredState: DesiredState;
  readonly stopGraceSeconds: number | undefined;
  readonly stopSignal: string;
  readonly restartRequest: string;
  readonly keepWritableLayer: boolean;
}

/** Values that validation would refuse (an object from before it) count as absent. */
export const lifecycleOf = (annotations: Annotations | undefined): Lifecycle => {
  const value = (name: string): string => annotations?.[name] ?? "";
  const state = value(Annotation.desiredState) as DesiredState;
  const grace = value(Annotation.stopGraceSeconds);
  const signal = value(Annotation.stopSignal);
  return {
    desiredState: STATES.includes(state) ? state : "running",
    stopGraceSeconds: isGrace(grace) ? Number(grace) : undefined,
    stopSignal: signalNumber(signal) === undefined ? "" : signal,
    restartRequest: value(Annotation.restartRequest),
    keepWritableLayer: value(Annotation.keepWritableLayer) === "true",
  };
};

const isGrace = (text: string): boolean => /^\d{1,5}$/.test(text) && Number(text) <= MOST_GRACE_SECONDS;

export interface AnnotationFault {
  readonly name: string;
  readonly value: string;
  readonly fault: { readonly supported: readonly string[] } | { readonly invalid: string } | { readonly forbidden: string };
}

/** `previous`: the annotations before an update; undefined for a new pod. */
export const lifecycleFaults = (annotations: Annotations | undefined, previous?: { readonly annotations: Annotations | undefined }): AnnotationFault[] => {
  const faults: AnnotationFault[] = [];
  const check = (name: string, isWrong: (value: string) => AnnotationFault["fault"] | undefined): void => {
    const value = annotations?.[name];
    const fault = value === undefined ? undefined : isWrong(value);
    if (fault) faults.push({ name, value: value!, fault });
  };
  check(Annotation.desiredState, (v) => (STATES.includes(v as DesiredState) ? undefined : { supported: STATES }));
  check(Annotation.stopGraceSeconds, (v) => (isGrace(v) ? undefined : { invalid: `must be a whole number of seconds from 0 to ${MOST_GRACE_SECONDS}` }));
  check(Annotation.stopSignal, (v) => (signalNumber(v) === undefined ? { invalid: "must be a signal's name or number, such as SIGTERM, TERM or 15" } : undefined));
  check(Annotation.restartRequest, (v) => (v.length > 128 ? { invalid: "must have at most 128 characters" } : undefined));
  check(Annotation.keepWritableLayer, (v) => (v === "true" || v === "false" ? undefined : { supported: ["true", "false"] }));
  if (!previous) return faults;
  const [now, before] = [lifecycleOf(annotations), lifecycleOf(previous.annotations)];
  if (now.keepWritableLayer !== before.keepWritableLayer) {
    faults.push({ name: Annotation.keepWritableLayer, value: String(now.keepWritableLayer), fault: { forbidden: "a pod's containers keep their files over restarts or they don't: this is fixed when the pod is created" } });
  }
  if (now.desiredState === "created" && before.desiredState !== "created") {
    faults.push({ name: Annotation.desiredState, value: "created", fault: { forbidden: `a pod can be created without being started, but not go back there from ${before.desiredState}; use stopped` } });
  }
  return faults;
};
