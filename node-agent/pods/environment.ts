// The environment of a container: order, $(NAME) references, fields that only the node knows. Pure.
// https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
import type { EnvVar } from "../../proto/gen/gantry/v1/agent.ts";

/**
 * Replaces $(NAME) by its value; one that is not known stays as it is, and $$(NAME) is a literal $(NAME).
 * Rules of k8s.io/kubernetes/third_party/forked/golang/expansion.
 */
export const expand = (text: string, values: ReadonlyMap<string, string>): string =>
  text.replaceAll(/\$(?:\$|\(([^()]*)\))/g, (match, name: string | undefined) => (name === undefined ? "$" : (values.get(name) ?? match)));

/** Later entries win and may refer to earlier ones. `field` resolves status.podIP and the like. Name -> value, in order. */
export const buildEnvironment = (env: readonly EnvVar[], field: (fieldPath: string) => string): ReadonlyMap<string, string> => {
  const values = new Map<string, string>();
  for (const { name, source } of env) values.set(name, source?.$case === "fieldPath" ? field(source.value) : expand(source?.value ?? "", values));
  return values;
};

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** As NAME=value: the image's, under the pod's, with PATH, HOSTNAME and (for a terminal) TERM where nobody says otherwise. */
export const environmentList = (image: readonly string[], pod: ReadonlyMap<string, string>, more: { readonly hostname: string; readonly tty: boolean }): readonly string[] => {
  const all = new Map<string, string>([["PATH", DEFAULT_PATH], ["HOSTNAME", more.hostname], ...(more.tty ? [["TERM", "xterm"] as const] : [])]);
  for (const entry of image) {
    const equals = entry.indexOf("=");
    if (equals > 0) all.set(entry.slice(0, equals), entry.slice(equals + 1));
  }
  for (const [name, value] of pod) all.set(name, value);
  return [...all].map(([name, value]) => `${name}=${value}`);
};
