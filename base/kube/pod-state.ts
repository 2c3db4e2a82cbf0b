// What a pod's status and spec say in one word. Pure.
import type { Pod } from "./types.gen.ts";

export const isTerminal = (pod: Pod): boolean => pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";

export const isReady = (pod: Pod): boolean => pod.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True") ?? false;

export const priorityOf = (pod: Pod): number => pod.spec?.priority ?? 0;
