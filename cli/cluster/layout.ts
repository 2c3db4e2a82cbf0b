// Where the cluster of `gantry up` keeps what: everything below one folder (.gantry), but for sockets and mounts, whose paths must be
// short and on a local file system (/run). The id, made from the folder's path, keeps clusters of several checkouts apart.
import { createHash } from "node:crypto";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

export interface Layout {
  readonly id: string;
  readonly root: string;
  readonly runDir: string;
  readonly dataDir: string;
  readonly logDir: string;
  readonly kubeconfig: string;
  readonly stateFile: string;
  readonly socketDir: string;
  /** Bridge of the hosts' network; at most 11 bytes. */
  readonly bridge: string;
  readonly hostsDir: string;
}

export const layoutOf = (root: string): Layout => {
  const absolute = resolve(root);
  const id = createHash("sha256").update(absolute).digest("hex").slice(0, 6);
  return {
    id, root: absolute, runDir: join(absolute, "run"), dataDir: join(absolute, "data"), logDir: join(absolute, "logs"), kubeconfig: join(absolute, "admin.kubeconfig"),
    stateFile: join(absolute, "run/cluster.json"), socketDir: `/run/gantry/${id}`, hostsDir: `/run/gantry/${id}/hosts`, bridge: `gty${id}`,
  };
};

/** A process that up started. Its start time (clock ticks since boot) tells it from a later process with the same pid. */
export interface StartedProcess {
  readonly name: string;
  readonly pid: number;
  readonly startTime: number;
}

export interface Host {
  readonly name: string;
  readonly netnsPath: string;
  readonly address: string;
}

/** What `down` and a second `up` need to know. Written before each thing is made, so that an interrupted up can be undone. */
export interface ClusterState {
  readonly id: string;
  readonly subnet: string;
  readonly hostCount: number;
  readonly gateway: string;
  readonly apiPort: number;
  readonly agentPort: number;
  readonly processes: readonly StartedProcess[];
  readonly hosts: readonly Host[];
  /** Settings of the machine as they were before, for down to put back. */
  readonly previous: { readonly ipForward?: string; readonly mountedCgroups?: readonly string[] };
}

export const readState = (layout: Layout): ClusterState | undefined =>
  existsSync(layout.stateFile) ? (JSON.parse(readFileSync(layout.stateFile, "utf8")) as ClusterState) : undefined;

export const writeState = (layout: Layout, state: ClusterState): void => {
  writeFileSync(`${layout.stateFile}.new`, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${layout.stateFile}.new`, layout.stateFile);
};
