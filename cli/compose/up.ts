// `compose up`: makes what the file says of what there is: each service once what it depends on is there, services side by side. Repeatable
// at any point: what is as it should be is left alone, told by the hash of its configuration.
import { GantryError, isCode } from "../../base/errors.ts";
import { isReady, isTerminal } from "../../base/kube/pod-state.ts";
import { DEPLOYMENTS, PODS, type KubeObject } from "../../base/kube/resources.ts";
import type { Deployment, Pod } from "../../base/kube/types.gen.ts";
import { CONFIG_MAPS, SECRETS } from "../../base/kube/resources.ts";
import type { ApiClient } from "../api-client.ts";
import { deleteObject, waitUntilGone } from "../delete.ts";
import { ensureVolume } from "../docker/volumes.ts";
import { followObject } from "../follow-object.ts";
import { prepare, removePod, waitForExit, waitUntilStarted } from "../docker/run.ts";
import { start } from "../lifecycle/changes.ts";
import { Progress } from "../progress.ts";
import { Label, configHash, containerName, deploymentName, serviceLabels, templateOf, type ProjectPlan } from "./project.ts";
import type { Dependency, ServicePlan } from "./service.ts";
import { isOneOff, present, serviceOf, warn, type Present } from "./session.ts";
import { nameFrom } from "../docker/names.ts";

export interface UpOptions {
  readonly forceRecreate: boolean;
  readonly noRecreate: boolean;
  readonly removeOrphans: boolean;
  /** Other services are left as they are. Undefined: none is. */
  readonly only: ReadonlySet<string> | undefined;
  readonly scale: ReadonlyMap<string, number>;
  /** Until all are healthy. */
  readonly wait: boolean;
  readonly waitTimeoutMs: number | undefined;
  /** Only make the containers. */
  readonly noStart: boolean;
}

const say = (name: string, what: string): void => console.error(` ${name}  ${what}`);

const put = async <T extends KubeObject>(client: ApiClient, type: { readonly name: string } & Parameters<ApiClient["pathOf"]>[0], namespace: string, object: T): Promise<T> => {
  try {
    return await client.json<T>("POST", client.pathOf(type, namespace), { body: object });
  } catch (error) {
    if (!isCode(error, "AlreadyExists")) throw error;
    return client.json<T>("PUT", client.pathOf(type, namespace, object.metadata.name), { body: object });
  }
};

/** Secrets, configs and volumes, before what mounts them. */
const prepareProject = async (client: ApiClient, namespace: string, plan: ProjectPlan): Promise<void> => {
  const labels = { [Label.project]: plan.name };
  for (const { kind, object, entry, content } of plan.files) {
    const data = kind === "secret" ? { type: "Opaque", data: { [entry]: Buffer.from(content).toString("base64") } } : { data: { [entry]: content } };
    await put(client, kind === "secret" ? SECRETS : CONFIG_MAPS, namespace, { apiVersion: "v1", kind: kind === "secret" ? "Secret" : "ConfigMap", metadata: { name: object, labels }, ...data });
  }
  const mounted = new Set(plan.services.flatMap((s) => s.request.mounts.flatMap((m) => (m.type === "volume" ? [m.source] : []))));
  for (const volume of plan.volumes.filter((v) => mounted.has(v.claim) && !v.external)) await ensureVolume(client, namespace, volume.claim, { labels: { ...volume.labels, ...labels, [Label.volume]: nameFrom(volume.key) } });
};


class Up {
  readonly #client: ApiClient;
  readonly #namespace: string;
  readonly #plan: ProjectPlan;
  readonly #options: UpOptions;
  readonly #there: Present;
  readonly #progress = new Progress();

  constructor(client: ApiClient, namespace: string, plan: ProjectPlan, options: UpOptions, there: Present) {
    this.#client = client;
    this.#namespace = namespace;
    this.#plan = plan;
    this.#options = options;
    this.#there = there;
  }

  async run(): Promise<void> {
    const done = new Map<string, Promise<void>>();
    for (const service of this.#plan.services) {
      const own = async (): Promise<void> => {
        for (const dependency of service.dependsOn) {
          const before = done.get(dependency.service);
          if (before === undefined) continue;
          await before;
          if (!this.#options.noStart) await this.#condition(service, dependency);
        }
        await this.#service(service);
      };
      const running = own();
      running.catch(() => undefined); // told below, once, by the first that failed
      done.set(service.name, running);
    }
    await Promise.all(done.values());
    if (this.#options.wait) await Promise.all(this.#plan.services.map((s) => this.#healthy(s, this.#options.waitTimeoutMs, true)));
  }

  #count(service: ServicePlan): number {
    return this.#options.scale.get(service.name) ?? service.scale;
  }

  #podsOf(service: ServicePlan): readonly Pod[] {
    return this.#there.pods.filter((p) => serviceOf(p) === nameFrom(service.name) && !isOneOff(p) && p.metadata.deletionTimestamp === undefined);
  }

  async #service(service: ServicePlan): Promise<void> {
    if (this.#options.only && !this.#options.only.has(service.name)) return;
    if (service.asDeployment && !this.#options.noStart) {
      await Promise.all(this.#podsOf(service).filter((p) => !p.metadata.ownerReferences?.length).map((p) => this.#remove(p)));
      await this.#deployment(service);
      return;
    }
    const replaced = this.#there.deployments.find((d) => d.metadata.name === deploymentName(this.#plan.name, service));
    if (replaced) await this.#removeDeployment(replaced);
    const names = Array.from({ length: this.#count(service) }, (_, i) => containerName(this.#plan.name, service, i + 1));
    const surplus = this.#podsOf(service).filter((p) => !names.includes(p.metadata.name!) && !p.metadata.ownerReferences?.length);
    await Promise.all([...surplus.map((p) => this.#remove(p)), ...names.map((name, i) => this.#container(service, name, i + 1))]);
  }

  async #container(service: ServicePlan, name: string, number: number): Promise<void> {
    const now = this.#there.pods.find((p) => p.metadata.name === name);
    const { forceRecreate, noRecreate, noStart } = this.#options;
    const isSame = now?.metadata.labels?.[Label.hash] === configHash(service, this.#plan.files) && now.metadata.deletionTimestamp === undefined;
    if (now && (noRecreate || (isSame && !forceRecreate))) {
      const stands = isTerminal(now) || now.status?.reason === "Stopped" || now.metadata.annotations?.["gantry.io/desired-state"] === "created";
      // What ended well by itself has done its part, as a migration has: it is run again, as docker starts it again.
      if (stands && !noStart) await start(this.#client, now);
      say(name, stands ? (noStart ? "created" : "started") : "running");
      return;
    }
    if (now) await this.#remove(now, "recreated");
    const labels = { [Label.number]: String(number) };
    const request = await prepare(this.#client, this.#namespace, { ...service.request, name }, warn);
    const template = templateOf(this.#plan, service, request, labels);
    const annotations = { ...template.metadata?.annotations, ...(noStart ? { "gantry.io/desired-state": "created" } : {}) };
    const pod = await this.#client.json<Pod>("POST", this.#client.pathOf(PODS, this.#namespace), { body: { apiVersion: "v1", kind: "Pod", metadata: { name, ...template.metadata, annotations }, spec: template.spec } })
      .catch((error: unknown) => {
        throw isCode(error, "AlreadyExists") ? new GantryError("AlreadyExists", `the name ${name} is in use by a container that isn't the project's: remove it (gantry rm -f ${name})`) : error;
      });
    try {
      await waitUntilStarted(this.#client, pod, this.#progress, { isCreated: noStart });
    } catch (error) {
      throw new GantryError("FailedPrecondition", `service ${service.name}: ${(error as Error).message}`, { cause: (error as Error).cause });
    }
    say(name, noStart ? "created" : "started");
  }

  async #deployment(service: ServicePlan): Promise<void> {
    const name = deploymentName(this.#plan.name, service);
    const labels = serviceLabels(this.#plan.name, service);
    const request = await prepare(this.#client, this.#namespace, { ...service.request, restart: { policy: "always", most: 0 } }, warn);
    const template = templateOf(this.#plan, service, request, {});
    if (this.#options.forceRecreate) template.metadata = { ...template.metadata, annotations: { ...template.metadata?.annotations, "kubectl.kubernetes.io/restartedAt": new Date().toISOString() } };
    const selector = { matchLabels: { [Label.project]: labels[Label.project]!, [Label.service]: labels[Label.service]!, [Label.oneOff]: "False" } };
    const made = await put<Deployment>(this.#client, DEPLOYMENTS, this.#namespace, { apiVersion: "apps/v1", kind: "Deployment", metadata: { name, labels }, spec: { replicas: this.#count(service), selector, template } });
    let woken = false;
    for await (const now of followObject(this.#client, DEPLOYMENTS, this.#namespace, name)) {
      if (!now) throw new GantryError("NotFound", `service ${service.name}: its deployment ${name} was removed`);
      const { observedGeneration = 0, updatedReplicas = 0, replicas = 0 } = now.status ?? {};
      if (observedGeneration >= 1 && !woken) {
        // Its containers may have been stopped, one by one, as those of other services.
        await Promise.all(this.#podsOf(service).filter((p) => p.status?.reason === "Stopped").map((p) => start(this.#client, p)));
        woken = true;
      }
      if (observedGeneration >= (made.metadata.generation ?? 0) && updatedReplicas >= this.#count(service) && replicas <= updatedReplicas) break;
    }
    say(name, `started (${this.#count(service)})`);
  }

  async #condition(service: ServicePlan, { service: name, condition }: Dependency): Promise<void> {
    const dependency = this.#plan.services.find((s) => s.name === name)!;
    if (condition === "service_started") return;
    try {
      await (condition === "service_healthy" ? this.#healthy(dependency, undefined, false) : this.#completed(dependency));
    } catch (error) {
      throw new GantryError("FailedPrecondition", `service ${service.name} can't start: ${(error as Error).message}`);
    }
  }

  async #current(service: ServicePlan): Promise<readonly Pod[]> {
    const { pods } = await present(this.#client, this.#namespace, this.#plan.name);
    return pods.filter((p) => serviceOf(p) === nameFrom(service.name) && !isOneOff(p) && p.metadata.deletionTimestamp === undefined);
  }

  async #healthy(service: ServicePlan, timeoutMs: number | undefined, endedWellWillDo: boolean): Promise<void> {
    const { health } = service.request;
    // After so many failures in a row docker calls it unhealthy and waits no longer.
    const patienceMs = timeoutMs ?? (health ? health.startPeriodMs + (health.intervalMs + health.timeoutMs) * (health.retries + 1) + START_MS : undefined);
    const signal = patienceMs === undefined ? undefined : AbortSignal.timeout(patienceMs);
    await Promise.all((await this.#current(service)).map(async (pod) => {
      const name = pod.metadata.name!;
      try {
        for await (const now of followObject(this.#client, PODS, this.#namespace, name, signal)) {
          if (!now) throw new GantryError("NotFound", `${name} was removed`);
          if (isReady(now)) break;
          if (isTerminal(now)) {
            const code = now.status?.containerStatuses?.[0]?.state?.terminated?.exitCode ?? 0;
            if (endedWellWillDo && now.status?.phase === "Succeeded") break;
            throw new GantryError("FailedPrecondition", `${name} has exited (${code}): see gantry logs ${name}`);
          }
        }
      } catch (error) {
        throw signal?.aborted ? new GantryError("Timeout", `${name} is unhealthy: not ready after ${Math.round(patienceMs! / 1000)} s (gantry describe pod ${name})`) : error;
      }
      if (health) say(name, "healthy");
    }));
  }

  async #completed(service: ServicePlan): Promise<void> {
    for (const pod of await this.#current(service)) {
      const code = await waitForExit(this.#client, pod);
      if (code !== 0) throw new GantryError("FailedPrecondition", `${pod.metadata.name!} has exited (${code}): see gantry logs ${pod.metadata.name!}`);
      say(pod.metadata.name!, "exited");
    }
  }

  async #remove(pod: Pod, what = "removed"): Promise<void> {
    await removePod(this.#client, pod, undefined);
    say(pod.metadata.name!, what);
  }

  async #removeDeployment(deployment: Deployment): Promise<void> {
    await deleteObject(this.#client, DEPLOYMENTS, this.#namespace, deployment.metadata.name!, { propagationPolicy: "Foreground", gracePeriodSeconds: undefined });
    await waitUntilGone(this.#client, DEPLOYMENTS, this.#namespace, deployment.metadata.name!, deployment.metadata.uid, undefined);
    say(deployment.metadata.name!, "removed");
  }

  /** Containers of services that the file doesn't have any more. */
  async orphans(): Promise<void> {
    const known = new Set(this.#plan.known.map(nameFrom));
    const pods = this.#there.pods.filter((p) => !known.has(serviceOf(p)) && !isOneOff(p) && !p.metadata.ownerReferences?.length);
    const deployments = this.#there.deployments.filter((d) => !known.has(serviceOf(d)));
    if (pods.length + deployments.length === 0) return;
    if (this.#options.removeOrphans) await Promise.all([...pods.map((p) => this.#remove(p)), ...deployments.map((d) => this.#removeDeployment(d))]);
    else warn(`found containers of services that the file doesn't have: ${[...pods, ...deployments].map((o) => o.metadata.name!).join(", ")}; --remove-orphans removes them`);
  }
}

/** What a container may take to begin with, beyond its health check's own times. */
const START_MS = 60_000;

export const up = async (client: ApiClient, namespace: string, plan: ProjectPlan, options: UpOptions): Promise<void> => {
  await prepareProject(client, namespace, plan);
  const run = new Up(client, namespace, plan, options, await present(client, namespace, plan.name));
  await run.orphans();
  await run.run();
};
