// A Compose project: its services in the order of their needs, its volumes, its secrets and configs. Pure but for files, which are read
// through `read`.
import { createHash } from "node:crypto";
import { resolve } from "node:path";
import { GantryError } from "../../base/errors.ts";
import type { PodTemplateSpec } from "../../base/kube/types.gen.ts";
import { toPodTemplate, type ContainerRequest } from "../docker/container-request.ts";
import { nameFrom, objectName } from "../docker/names.ts";
import { bool, fault, isMapping, mapping, pairs, text, type Mapping } from "./fields.ts";
import type { LoadedProject } from "./load.ts";
import { nameOfEntry, planService, type ServicePlan } from "./service.ts";

export const Label = {
  project: "com.docker.compose.project", service: "com.docker.compose.service", number: "com.docker.compose.container-number", hash: "com.docker.compose.config-hash", oneOff: "com.docker.compose.oneoff",
  volume: "com.docker.compose.volume",
} as const;

export interface VolumePlan {
  readonly key: string;
  readonly claim: string;
  /** Must be there already. */
  readonly external: boolean;
  readonly labels: Readonly<Record<string, string>>;
}

export interface FilePlan {
  readonly kind: "secret" | "config";
  readonly object: string;
  readonly entry: string;
  readonly content: string;
}

export interface ProjectPlan {
  readonly name: string;
  readonly folder: string;
  /** Those of active profiles, each behind what it depends on. */
  readonly services: readonly ServicePlan[];
  /** Names of all services of the file. */
  readonly known: readonly string[];
  readonly volumes: readonly VolumePlan[];
  readonly files: readonly FilePlan[];
}

export interface PlanOptions {
  readonly profiles: readonly string[];
  /** Named on the command line: their profiles count as active. Empty: all. */
  readonly wanted: readonly string[];
  readonly read: (path: string) => string | undefined;
  readonly warn: (text: string) => void;
}

const TOP_LEVEL = ["name", "version", "services", "volumes", "networks", "secrets", "configs"];

const externalName = (path: string, entry: Mapping, key: string): string | undefined => {
  const { external } = entry;
  if (external === undefined || external === false) return undefined;
  if (isMapping(external)) return text(`${path}.external.name`, external["name"]) || key;
  return bool(`${path}.external`, external) ? text(`${path}.name`, entry["name"]) || key : undefined;
};

const planVolumes = (project: string, file: Mapping, warn: (text: string) => void): readonly VolumePlan[] =>
  Object.entries(mapping("volumes", file["volumes"])).map(([key, value]) => {
    const path = `volumes.${key}`;
    const entry = mapping(path, value);
    const external = externalName(path, entry, key);
    const driver = text(`${path}.driver`, entry["driver"]);
    if (driver !== "" && driver !== "local") throw fault(`${path}.driver`, `${JSON.stringify(driver)} is not supported: only local`);
    if (entry["driver_opts"] !== undefined) warn(`${path}.driver_opts has no effect here`);
    const labels = Object.fromEntries([...pairs(`${path}.labels`, entry["labels"])].map(([k, v]) => [k, v ?? ""]));
    return { key, external: external !== undefined, labels, claim: external !== undefined ? objectName(path, external) : objectName(path, text(`${path}.name`, entry["name"]) || `${project}-${nameFrom(key)}`) };
  });

const planFiles = (kind: "secret" | "config", project: string, file: Mapping, folder: string, env: Readonly<Record<string, string | undefined>>, read: PlanOptions["read"]): readonly (FilePlan & { readonly key: string })[] =>
  Object.entries(mapping(`${kind}s`, file[`${kind}s`])).flatMap(([key, value]) => {
    const path = `${kind}s.${key}`;
    const entry = mapping(path, value);
    const external = externalName(path, entry, key);
    const object = external ?? nameFrom(text(`${path}.name`, entry["name"]) || `${project}-${key}`);
    if (external !== undefined) return [{ key, kind, object, entry: "", content: "" }];
    const [from, variable, inline] = (["file", "environment", "content"] as const).map((k) => (entry[k] === undefined ? undefined : text(`${path}.${k}`, entry[k])));
    const given = from !== undefined ? read(resolve(folder, from)) : variable !== undefined ? env[variable] : inline;
    if (given === undefined) throw fault(path, from !== undefined ? `no such file: ${resolve(folder, from)}` : variable !== undefined ? `variable ${variable} is not set` : "needs file, environment or content");
    return [{ key, kind, object, entry: nameOfEntry(key), content: given }];
  });

/** Each service behind those that it needs. "BadRequest" for a circle. */
const inOrder = (services: readonly ServicePlan[]): readonly ServicePlan[] => {
  const byName = new Map(services.map((s) => [s.name, s]));
  const done = new Set<ServicePlan>();
  const visit = (service: ServicePlan, chain: readonly string[]): void => {
    if (done.has(service)) return;
    if (chain.includes(service.name)) throw fault(`services.${service.name}.depends_on`, `goes round in a circle: ${[...chain, service.name].join(" -> ")}`);
    for (const { service: other } of service.dependsOn) if (byName.has(other)) visit(byName.get(other)!, [...chain, service.name]);
    done.add(service);
  };
  for (const service of services) visit(service, []);
  return [...done];
};

export const planProject = ({ name: project, folder, file, env }: LoadedProject, { profiles, wanted, read, warn }: PlanOptions): ProjectPlan => {
  for (const key of Object.keys(file)) if (!TOP_LEVEL.includes(key) && !key.startsWith("x-")) throw fault(key, key === "include" ? "is not supported: name the other file with a second -f" : "there is no such key");
  const volumes = planVolumes(project, file, warn);
  const [secrets, configs] = [planFiles("secret", project, file, folder, env, read), planFiles("config", project, file, folder, env, read)];
  const networks = Object.keys(mapping("networks", file["networks"]));
  if (networks.length > 1) warn(`networks ${networks.join(", ")}: all containers of the project reach one another`);
  const known = Object.entries(mapping("services", file["services"]));
  const names = known.map(([n]) => n);
  const missing = wanted.find((w) => !names.includes(w));
  if (missing !== undefined) throw new GantryError("BadRequest", `no such service: ${missing}; there are: ${names.join(", ")}`);
  const surroundings = {
    project, folder, env, read, warn, volumes: new Map(volumes.map((v) => [v.key, v.claim])), secrets: new Map(secrets.map((s) => [s.key, s.object])), configs: new Map(configs.map((c) => [c.key, c.object])),
  };
  const plans = known.map(([name, service]) => planService(name, mapping(`services.${name}`, service), surroundings));
  const byName = new Map(plans.map((p) => [p.name, p]));
  for (const plan of plans) {
    for (const { service, required } of plan.dependsOn) if (required && !byName.has(service)) throw fault(`services.${plan.name}.depends_on`, `there is no service ${JSON.stringify(service)}`);
  }
  const active = new Set<ServicePlan>();
  const activate = (plan: ServicePlan): void => {
    if (active.has(plan)) return;
    active.add(plan);
    for (const { service } of plan.dependsOn) if (byName.has(service)) activate(byName.get(service)!);
  };
  for (const plan of plans) {
    const isActive = plan.profiles.length === 0 || plan.profiles.some((p) => profiles.includes(p) || profiles.includes("*"));
    if (wanted.length > 0 ? wanted.includes(plan.name) : isActive) activate(plan);
  }
  return { name: project, folder, services: inOrder(plans.filter((p) => active.has(p))), known: names, volumes, files: [...secrets, ...configs].filter((f) => f.entry !== "") };
};

/** docker's names: shop-web-1. */
export const containerName = (project: string, service: ServicePlan, number: number): string => (service.containerName === "" ? nameFrom(`${project}-${service.name}-${number}`) : objectName(`services.${service.name}.container_name`, service.containerName));

export const deploymentName = (project: string, service: ServicePlan): string => nameFrom(`${project}-${service.name}`);

/** What the container would be; "up" makes it anew when this changes. The contents of secrets and configs count: files mounted one by one stay as they were. */
export const configHash = (service: ServicePlan, files: readonly FilePlan[]): string => {
  const mounted = files.filter((f) => service.request.mounts.some((m) => (m.type === "secret" || m.type === "config") && m.source === f.object));
  return createHash("sha256").update(JSON.stringify([toPodTemplate(service.request, {}), mounted, service.asDeployment])).digest("hex").slice(0, 63);
};

export const serviceLabels = (project: string, service: ServicePlan): Record<string, string> => ({ [Label.project]: project, [Label.service]: nameFrom(service.name), [Label.oneOff]: "False" });

export const templateOf = (plan: Pick<ProjectPlan, "name" | "files">, service: ServicePlan, request: ContainerRequest, more: Readonly<Record<string, string>>): PodTemplateSpec =>
  toPodTemplate(request, { ...serviceLabels(plan.name, service), [Label.hash]: configHash(service, plan.files), ...more });
