// What pods can be told beyond Kubernetes' fields, for what docker's flags say and Kubernetes has no word for. Labels and annotations, so
// that any client may set them. Pure. (Desired states have a file of their own.)
import { parseDurationMs } from "../config.ts";
import type { Pod } from "./types.gen.ts";

/** Label. Pods of a namespace with the same value find each other by name, through /etc/hosts (docs/design/pods.md). */
export const HOSTS_GROUP_LABEL = "gantry.io/hosts-group";
/** By which names the others of its group know a pod, besides its own: "db,db-1". */
export const HOSTS_NAMES_ANNOTATION = "gantry.io/hosts-names";
/** The pod is removed this long after it has ended: "0s", "60s". */
export const AUTO_REMOVE_ANNOTATION = "gantry.io/auto-remove";
/** "user[:group]" by names, which only the image's /etc/passwd knows; for containers without a runAsUser. */
export const USER_ANNOTATION = "gantry.io/user";
/** "none": a network namespace with nothing but the loopback. */
export const NETWORK_ANNOTATION = "gantry.io/network";
/** With restartPolicy OnFailure: a container that failed is restarted so many times and no more. */
export const MAX_RESTARTS_ANNOTATION = "gantry.io/max-restarts";
/** Condition of a pod: the node left out limits that its kernel doesn't know; which, the message says. */
export const LIMITS_DISCARDED = "gantry.io/LimitsDiscarded";

const HOST_NAME = /^[a-z0-9]([-a-z0-9._]*[a-z0-9])?$/i;

/** A pod's names in its group; those that can't stand in a hosts file are left out. */
export const hostsNames = (metadata: Pick<Pod["metadata"], "name" | "annotations">): readonly string[] =>
  [...new Set([metadata.name ?? "", ...(metadata.annotations?.[HOSTS_NAMES_ANNOTATION] ?? "").split(",").map((n) => n.trim())])].filter((n) => HOST_NAME.test(n));

/** Undefined: the pod stays. What can't be read counts as absent: nothing is removed by mistake. */
export const autoRemoveMs = (annotations: Readonly<Record<string, string>> | undefined): number | undefined => parseDurationMs(annotations?.[AUTO_REMOVE_ANNOTATION] ?? "");

/** 0: no bound. */
export const maxRestarts = (annotations: Readonly<Record<string, string>> | undefined): number => {
  const text = annotations?.[MAX_RESTARTS_ANNOTATION] ?? "";
  return /^\d{1,6}$/.test(text) ? Number(text) : 0;
};
