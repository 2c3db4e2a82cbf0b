// What the commands that talk to a cluster have in common.
import { listOption, stringOption, type OptionTable } from "../../base/config.ts";
import { GantryError, describeError } from "../../base/errors.ts";
import { ApiClient, findKubeconfig, loadKubeconfig } from "../api-client.ts";
import type { Target } from "../discovery.ts";

export const CLIENT_OPTIONS = {
  kubeconfig: stringOption("Which kubeconfig to use (default: KUBECONFIG, .gantry/admin.kubeconfig here or above, ~/.kube/config)", "", { placeholder: "FILE" }),
  context: stringOption("Which context of it", "", { placeholder: "NAME" }),
} as const satisfies OptionTable;

export const NAMESPACED_OPTIONS = { ...CLIENT_OPTIONS, namespace: stringOption("Namespace (default: the kubeconfig's)", "", { short: "n", placeholder: "NAME" }) } as const satisfies OptionTable;

export const fileOption = listOption("Manifest: a file, a folder or - for standard input", [], { short: "f", placeholder: "FILE" });

export const connect = (values: { readonly kubeconfig: string; readonly context: string }): ApiClient =>
  new ApiClient(loadKubeconfig(findKubeconfig(values.kubeconfig, process.env, process.cwd()), values.context), (warning) => console.error(`Warning: ${warning}`));

export const namespaceOf = (client: ApiClient, values: { readonly namespace: string }): string => values.namespace || client.target.namespace;

/** Runs `step` for each item, prints failures, and goes on: the exit code is 1 when any failed. */
export const forEach = async <T>(items: readonly T[], step: (item: T) => Promise<void>): Promise<number> => {
  let failed = 0;
  for (const item of items) {
    try {
      await step(item);
    } catch (error) {
      failed++;
      console.error(`gantry: ${describeError(error)}`);
    }
  }
  return failed === 0 ? 0 : 1;
};

/** A selector beside a name would be ignored: who gives both means something else. */
export const refuseNamesWith = (flag: string, value: string | boolean, targets: readonly Target[]): void => {
  const named = targets.find((t) => t.name !== undefined);
  if (value && named) throw new GantryError("BadRequest", `${flag} chooses among all ${named.type.plural}: it can't go with the name ${JSON.stringify(named.name)}`);
};

export const sayNothingFound = (namespace: string | undefined, targets: readonly Target[]): void =>
  console.error(`No resources found${namespace !== undefined && targets.some((t) => t.type.namespaced) ? ` in ${namespace} namespace` : ""}.`);
