// `compose run`: one more container of a service, beside those of `up`.
import { randomBytes } from "node:crypto";
import { GantryError } from "../../base/errors.ts";
import type { ApiClient } from "../api-client.ts";
import { DEFAULT_DETACH_KEYS, parseDetachKeys } from "../detach-keys.ts";
import type { ContainerRequest } from "../docker/container-request.ts";
import { parseEnvFlag } from "../docker/env-file.ts";
import { parseVolumeFlag } from "../docker/mount-flag.ts";
import { nameFrom, objectName } from "../docker/names.ts";
import { parsePortMapping } from "../docker/port-mapping.ts";
import { runContainer } from "../docker/run-container.ts";
import { Label, serviceLabels, type ProjectPlan } from "./project.ts";
import { warn } from "./session.ts";
import { up } from "./up.ts";

export interface OneOffOptions {
  readonly command: readonly string[];
  readonly detach: boolean;
  readonly rm: boolean;
  readonly name: string;
  readonly env: readonly string[];
  readonly noDeps: boolean;
  readonly noTty: boolean;
  readonly servicePorts: boolean;
  readonly publish: readonly string[];
  readonly volume: readonly string[];
  readonly user: string;
  readonly workdir: string;
  readonly entrypoint: string;
}

/** The service's request with what the command line says instead. Pure but for the terminal and the folder, which are arguments. */
export const oneOffRequest = (plan: ProjectPlan, service: string, options: OneOffOptions, { suffix, terminal, env, cwd }: { readonly suffix: string; readonly terminal: boolean; readonly env: Readonly<Record<string, string | undefined>>; readonly cwd: string }): ContainerRequest => {
  const found = plan.services.find((s) => s.name === service);
  if (!found) throw new GantryError("BadRequest", `no such service: ${service}; there are: ${plan.known.join(", ")}`);
  const { request } = found;
  const tty = terminal && !options.noTty && !options.detach;
  return {
    ...request, name: options.name === "" ? nameFrom(`${plan.name}-${service}-run-${suffix}`) : objectName("--name", options.name),
    args: options.command.length > 0 ? options.command : options.entrypoint === "" ? request.args : [], entrypoint: options.entrypoint === "" ? request.entrypoint : [options.entrypoint],
    env: new Map([...request.env, ...options.env.flatMap((e) => [parseEnvFlag("--env", e, env)].filter((p) => p !== undefined))]),
    ports: [...(options.servicePorts ? request.ports : []), ...options.publish.flatMap((p) => parsePortMapping("--publish", p))],
    mounts: [...request.mounts, ...options.volume.map((v) => parseVolumeFlag("--volume", v, cwd))], user: options.user || request.user, workingDir: options.workdir || request.workingDir,
    // Its output is the command's, and it is no part of the service: the others find it by its own name only.
    aliases: [], restart: { policy: "no", most: 0 }, health: undefined, imageHealth: undefined, tty, stdin: !options.detach, removeAfter: options.rm ? "0s" : undefined,
    labels: new Map([...request.labels, ...Object.entries({ ...serviceLabels(plan.name, found), [Label.oneOff]: "True" })]),
  };
};

export const runOneOff = async (client: ApiClient, namespace: string, plan: ProjectPlan, service: string, options: OneOffOptions): Promise<number> => {
  const request = oneOffRequest(plan, service, options, { suffix: randomBytes(4).toString("hex"), terminal: process.stdin.isTTY, env: process.env, cwd: process.cwd() });
  const only = new Set(options.noDeps ? [] : plan.services.map((s) => s.name).filter((n) => n !== service));
  await up(client, namespace, plan, { forceRecreate: false, noRecreate: true, removeOrphans: false, only, scale: new Map(), wait: false, waitTimeoutMs: undefined, noStart: false });
  return runContainer(client, namespace, request, { detach: options.detach, replicas: 0, detachKeys: parseDetachKeys(DEFAULT_DETACH_KEYS), sigProxy: true, warn });
};
