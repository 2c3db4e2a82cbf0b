// What a pod's spec asks for that Gantry takes, keeps and does not heed yet: the user is told, since nothing breaks by it but the
// pods may stand elsewhere than asked.
import type { PodSpec } from "../../../base/kube/types.gen.ts";

/** Texts for the response's Warning headers. `path` is "spec" or "spec.template.spec". */
export const podWarnings = (path: string, spec: PodSpec | undefined): string[] => {
  if (!spec) return [];
  const ignored = [
    ...(spec.priorityClassName || spec.priority ? [spec.priorityClassName ? "priorityClassName" : "priority"] : []),
  ];
  return ignored.map((field) => `${path}.${field}: Gantry's scheduler does not heed this yet`);
};
