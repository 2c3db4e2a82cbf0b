// Which container is meant when nobody says: as kubectl, the one that the pod's annotation names, else its first. Pure.
import type { Pod } from "../base/kube/types.gen.ts";

const ANNOTATION = "kubectl.kubernetes.io/default-container";

/** With a remark for the user where there was a choice. */
export const defaultContainer = (pod: Pod): { readonly container: string; readonly remark: string | undefined } => {
  const names = (pod.spec?.containers ?? []).map((c) => c.name);
  const named = pod.metadata.annotations?.[ANNOTATION];
  const container = named !== undefined && names.includes(named) ? named : (names[0] ?? "");
  return { container, remark: names.length > 1 && container !== named ? `Defaulted container "${container}" out of: ${names.join(", ")}` : undefined };
};
