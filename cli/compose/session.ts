// What every compose command works on: the project (from its file, or by its name alone), and what of it is in the cluster.
import { readFileSync, statSync } from "node:fs";
import { spawn } from "node:child_process";
import { GantryError } from "../../base/errors.ts";
import { DEPLOYMENTS, PODS } from "../../base/kube/resources.ts";
import type { Deployment, Pod } from "../../base/kube/types.gen.ts";
import type { ApiClient } from "../api-client.ts";
import { nameFrom } from "../docker/names.ts";
import { loadProject, type LoadedProject } from "./load.ts";
import { Label, planProject, type ProjectPlan } from "./project.ts";

export interface ProjectFlags {
  readonly file: readonly string[];
  readonly project: string;
  readonly profile: readonly string[];
  readonly envFile: readonly string[];
  readonly projectDirectory: string;
}

export const warn = (text: string): void => console.error(`Warning: ${text}`);

/** undefined where there is no file. */
export const readIfThere = (path: string): string | undefined => {
  if (path === "-") return readFileSync(0, "utf8");
  if (!statSync(path, { throwIfNoEntry: false })?.isFile()) return undefined;
  return readFileSync(path, "utf8");
};

const load = (flags: ProjectFlags, complain: (text: string) => void): LoadedProject | undefined =>
  loadProject({ files: flags.file, projectName: flags.project, projectDirectory: flags.projectDirectory, envFiles: flags.envFile, cwd: process.cwd(), env: process.env, read: readIfThere, warn: complain });

/** "BadRequest" when there is no file. */
export const loadedProject = (flags: ProjectFlags): LoadedProject => {
  const loaded = load(flags, warn);
  if (!loaded) throw new GantryError("BadRequest", "no compose.yaml, compose.yml, docker-compose.yaml or docker-compose.yml here or in a folder above: name one with -f");
  return loaded;
};

export const plannedProject = (flags: ProjectFlags, wanted: readonly string[]): ProjectPlan =>
  planProject(loadedProject(flags), { profiles: [...flags.profile, ...(process.env["COMPOSE_PROFILES"] ?? "").split(",").filter((p) => p !== "")], wanted, read: readIfThere, warn });

/** For commands that need no more than it: with -p there need be no file. */
export const projectName = (flags: ProjectFlags): string => {
  if (flags.project !== "") return nameFrom(flags.project);
  const loaded = load(flags, () => undefined);
  const name = loaded?.name ?? nameFrom(process.env["COMPOSE_PROJECT_NAME"] ?? "");
  if (name === "") throw new GantryError("BadRequest", "which project? There is no Compose file here: name one with -f, or the project with -p");
  return name;
};

export interface Present {
  readonly pods: readonly Pod[];
  readonly deployments: readonly Deployment[];
}

export const present = async (client: ApiClient, namespace: string, project: string): Promise<Present> => {
  const query = { labelSelector: `${Label.project}=${project}` };
  const [pods, deployments] = await Promise.all([client.list(PODS, namespace, query), client.list(DEPLOYMENTS, namespace, query)]);
  return { pods: pods.items, deployments: deployments.items };
};

export const serviceOf = (object: { readonly metadata: Pod["metadata"] }): string => object.metadata.labels?.[Label.service] ?? "";
export const isOneOff = (pod: Pod): boolean => pod.metadata.labels?.[Label.oneOff] === "True";

/** "BadRequest" for a service that has nothing in the cluster. Ordered by name and number. */
export const podsOfServices = (pods: readonly Pod[], services: readonly string[]): readonly Pod[] => {
  const own = pods.filter((p) => !isOneOff(p));
  const absent = services.find((s) => !own.some((p) => serviceOf(p) === nameFrom(s)));
  if (absent !== undefined) throw new GantryError("NotFound", `service ${JSON.stringify(absent)} has no containers`);
  return own.filter((p) => services.length === 0 || services.some((s) => nameFrom(s) === serviceOf(p))).sort((a, b) => a.metadata.name!.localeCompare(b.metadata.name!, "en", { numeric: true }));
};

/** Another gantry command, with our standard streams: build, pull, rmi. */
export const runGantry = (args: readonly string[]): Promise<number> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...process.execArgv, process.argv[1]!, ...args], { stdio: "inherit" });
    child.on("error", reject);
    child.on("exit", (code, signal) => resolve(code ?? (signal === "SIGINT" ? 130 : 1)));
  });
