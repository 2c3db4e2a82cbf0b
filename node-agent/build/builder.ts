// Builds images on this node: takes a Dockerfile and a context, brings plan, steps, cache and image store together. Everything that a build makes besides its
// layers is below two directories of its own and goes with it. Owns ROOT (cache/, mounts/, work/) and RUNROOT.
import { existsSync, mkdirSync, readFileSync, rmSync, statfsSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { GantryError, describeError } from "../../base/errors.ts";
import { newId } from "../../base/ids.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import { Permits } from "../../base/permits.ts";
import type { RegistryCredential } from "../../proto/gen/gantry/v1/agent.ts";
import type { ConfigJson, ImageMaker, MadeLayer } from "../images/image-maker.ts";
import type { Image, ImageService } from "../images/image-service.ts";
import { formatPlatform, type Platform } from "../images/platform.ts";
import { formatReference, parseReference } from "../images/reference.ts";
import { BuildCache } from "./build-cache.ts";
import { applyIgnoreFile, readInContext, unpack } from "./build-context.ts";
import type { BuildOptions, BuiltImageInfo } from "./build-events.ts";
import { BuildProgress, type Say } from "./build-progress.ts";
import { CacheMounts } from "./cache-mounts.ts";
import { parseDockerfile, type Dockerfile } from "./dockerfile.ts";
import { planBuild, planStage, SCRATCH_CONFIG, type BuildPlan, type ContainerConfig, type Origin, type PlannedStage, type PlanOptions, type Step } from "./plan.ts";
import type { RunParts } from "./run-container.ts";
import { BuildError } from "./source.ts";
import { StepRunner } from "./step-runner.ts";
import { removeWorkspaces, Workspace } from "./workspace.ts";

export interface BuilderOptions extends RunParts {
  /** On the image store's disk. */
  readonly root: string;
  /** In memory; the OCI runtime's state is elsewhere, and only of builds. */
  readonly runRoot: string;
  readonly images: Pick<ImageService, "resolve" | "pull" | "push"> & {
    make<T>(work: (maker: ImageMaker) => Promise<T>): Promise<T>;
    retain(digests: () => Iterable<MadeLayer["diffId"]>): void;
  };
  readonly platform: Platform;
  readonly pidsLimit: number;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export interface BuildRequest {
  readonly options: BuildOptions;
  /** A tar of the context, perhaps compressed. */
  readonly context: AsyncIterable<Uint8Array>;
  readonly say: Say;
  readonly signal: AbortSignal;
}

interface StageResult {
  readonly layers: readonly MadeLayer[];
  readonly config: ContainerConfig;
  readonly author: string;
  readonly history: readonly object[];
  readonly createdMs: number;
}

const RUNS_AT_ONCE = 4;
const CGROUP = "build";
const DISK_RESERVE_BYTES = 64 * 1024 * 1024;
const NODE_RESOLV_CONF = ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"];

export class Builder {
  readonly #options: BuilderOptions;
  readonly #cache: BuildCache;
  readonly #cacheMounts: CacheMounts;
  readonly #permits = new Permits(RUNS_AT_ONCE);
  readonly #metrics;
  #running = 0;

  /** Takes away what builds of an earlier process left, their processes first. */
  static async open(options: BuilderOptions): Promise<Builder> {
    await options.cgroups.kill(CGROUP);
    await options.cgroups.remove(CGROUP);
    rmSync(options.oci.stateRoot, { recursive: true, force: true });
    mkdirSync(options.oci.stateRoot, { recursive: true, mode: 0o700 });
    removeWorkspaces(join(options.root, "work"), options.runRoot);
    const builder = new Builder(options);
    builder.#cache.prune();
    await builder.#cacheMounts.prune();
    return builder;
  }

  private constructor(options: BuilderOptions) {
    const { root, runRoot, clock, images, metrics } = options;
    this.#options = options;
    for (const directory of [root, join(root, "work"), runRoot]) mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.#cache = new BuildCache(join(root, "cache"), clock);
    this.#cacheMounts = new CacheMounts(join(root, "mounts"), clock);
    images.retain(() => this.#cache.digests());
    this.#metrics = {
      seconds: metrics.histogram("gantry_build_seconds", "Time to build an image, by result (built, failed, cancelled).", ["result"], [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600]),
      steps: metrics.counter("gantry_build_steps_total", "Steps of builds, by whether the cache had them.", ["cached"]),
    };
  }

  /** Errors: "Invalid" (with the place in the Dockerfile), "NotFound" (no such base image), "Cancelled". */
  async build(request: BuildRequest): Promise<BuiltImageInfo> {
    const { clock, logger } = this.#options;
    const startedMs = clock.monotonicMs();
    this.#running++;
    try {
      const image = await this.#build(request);
      this.#metrics.seconds.observe({ result: "built" }, (clock.monotonicMs() - startedMs) / 1000);
      logger.info("image built", { images: image.names, id: image.id, seconds: Math.round(clock.monotonicMs() - startedMs) / 1000 });
      return image;
    } catch (error) {
      this.#metrics.seconds.observe({ result: request.signal.aborted ? "cancelled" : "failed" }, (clock.monotonicMs() - startedMs) / 1000);
      if (request.signal.aborted) throw new GantryError("Cancelled", "the build was cancelled", { cause: error });
      logger.info("build failed", { images: request.options.names, err: describeError(error).split("\n")[0] });
      throw error;
    } finally {
      this.#running--;
      if (this.#running === 0) this.#cache.prune();
    }
  }

  async #build({ options, context, say, signal }: BuildRequest): Promise<BuiltImageInfo> {
    const { root, runRoot, images, cgroups } = this.#options;
    const names = options.names.map((name) => formatReference(parseReference(name)));
    if (options.push === true && names.length === 0) throw new GantryError("Invalid", "push: the image has no name; give it one that names its registry");
    const credentials = [...(options.credentials ?? [])];
    this.#checkPlatform(options.platform ?? "", "--platform");
    const latestMs = epochOf(options.buildArgs?.["SOURCE_DATE_EPOCH"]);
    const id = newId().replaceAll("_", "x").replace(/^-/, "x");
    const stop = new AbortController();
    const together = AbortSignal.any([signal, stop.signal]);
    await using workspace = new Workspace(join(root, "work", id), join(runRoot, id));
    const progress = new BuildProgress(say, this.#options.clock);
    try {
      return await images.make(async (maker) => {
        const receiving = options.noContext === true ? Promise.resolve(workspace.directory()) : this.#receive(context, options, workspace, progress, together);
        receiving.catch(() => undefined);
        const text = await progress.run(`[internal] load build definition from ${options.dockerfile}`, async () => options.dockerfileText ?? dockerfileIn(await receiving, options.dockerfile));
        const file = parseDockerfile(text, options.dockerfile);
        const plan: PlanOptions = { buildArgs: options.buildArgs ?? {}, target: options.target ?? "", platform: this.#options.platform };
        const run = new BuildRun({ maker, file, planned: planBuild(file, plan), plan, progress, signal: together, stop, options: this.#options, pull: options.pull === true, credentials,
          checkPlatform: (platform, what) => this.#checkPlatform(platform, what), countStep: (cached) => this.#metrics.steps.inc({ cached: String(cached) }) });
        const steps = new StepRunner({
          maker, cache: this.#cache, cacheMounts: this.#cacheMounts, workspace, run: this.#options, nowMs: () => this.#options.clock.nowMs(), signal: together, context: () => receiving, layersOf: (origin) => run.layersOf(origin),
          secrets: new Map(Object.entries(options.secrets ?? {}).map(([name, value]) => [name, Buffer.from(value, "base64")])), noCache: options.noCache === true, network: options.network ?? "default", latestMs, id,
          pidsLimit: this.#options.pidsLimit, resolvConf: resolvConf(), permit: () => this.#permits.take(),
        });
        try {
          const result = await run.all(steps);
          const image = await progress.run("exporting to image", () => maker.addImage(run.imageConfig(result, options.labels ?? {}, latestMs), result.layers, names));
          for (const name of options.push === true ? names : []) await progress.run(`pushing ${name}`, async (vertex) => images.push(name, { credentials, signal: together, onLayer: (layer) => vertex.status(`${layer.digest.slice(7, 19)} ${layer.status}`) }));
          return { id: image.id, manifestDigest: image.manifestDigest, mediaType: image.mediaType, manifestBytes: image.manifestBytes, names, sizeBytes: image.sizeBytes };
        } catch (error) {
          // What still comes in or runs writes below the workspace.
          stop.abort(new GantryError("Cancelled", "another part of the build failed"));
          await Promise.allSettled([receiving, run.settled()]);
          throw error;
        }
      });
    } finally {
      await cgroups.remove(`${CGROUP}/${id}`).catch((error: unknown) => this.#options.logger.warn("a build's control group stays for now", { err: error }));
    }
  }

  #checkPlatform(wanted: string, what: string): void {
    const own = this.#options.platform;
    const [os, architecture] = wanted.toLowerCase().split("/");
    if (wanted === "" || (os === own.os && (architecture ?? own.architecture) === own.architecture)) return;
    throw new GantryError("Invalid", `${what}: ${JSON.stringify(wanted)} can't be built on this node, which is ${formatPlatform(own)}: there is no emulation; use a node of that platform`);
  }

  #receive(source: AsyncIterable<Uint8Array>, options: BuildOptions, workspace: Workspace, progress: BuildProgress, signal: AbortSignal): Promise<string> {
    return progress.run("[internal] load build context", async (vertex) => {
      const directory = workspace.directory();
      const disk = statfsSync(directory);
      let bytes = 0;
      const counted = async function* (): AsyncGenerator<Uint8Array, void> {
        for await (const chunk of source) {
          bytes += chunk.length;
          vertex.status(`transferring context: ${size(bytes)}`);
          yield chunk;
        }
      };
      await unpack(counted(), directory, Math.max(0, disk.bavail * disk.bsize - DISK_RESERVE_BYTES), "the build context", signal);
      if (options.applyIgnore === true) applyIgnoreFile(directory, options.dockerfile);
      return directory;
    });
  }
}

const size = (bytes: number): string => (bytes < 10_000 ? `${bytes}B` : bytes < 10_000_000 ? `${(bytes / 1000).toFixed(1)}kB` : `${(bytes / 1e6).toFixed(1)}MB`);

const dockerfileIn = (directory: string, path: string): string => {
  const text = readInContext(directory, path);
  if (text === undefined) throw new GantryError("Invalid", `failed to read dockerfile: there is no ${path} in the build context; name another with -f`);
  return text;
};

const epochOf = (text: string | undefined): number | undefined => {
  if (text === undefined || text === "") return undefined;
  if (!/^\d{1,12}$/.test(text)) throw new GantryError("Invalid", `SOURCE_DATE_EPOCH: ${JSON.stringify(text)} is not a number of seconds since 1970`);
  return Number(text) * 1000;
};

const resolvConf = (): string => {
  const path = NODE_RESOLV_CONF.find((file) => existsSync(file));
  return path === undefined ? "" : readFileSync(path, "utf8");
};

interface BuildRunParts {
  readonly maker: ImageMaker;
  readonly file: Dockerfile;
  readonly planned: BuildPlan;
  readonly plan: PlanOptions;
  readonly progress: BuildProgress;
  readonly signal: AbortSignal;
  readonly stop: AbortController;
  readonly options: BuilderOptions;
  readonly pull: boolean;
  readonly credentials: readonly RegistryCredential[];
  readonly checkPlatform: (platform: string, what: string) => void;
  readonly countStep: (cached: boolean) => void;
}

/** The stages of one build: each once, side by side as far as they don't wait for one another. */
class BuildRun {
  readonly #p: BuildRunParts;
  readonly #stages = new Map<number, Promise<StageResult>>();
  readonly #images = new Map<string, Promise<Image>>();

  constructor(parts: BuildRunParts) {
    this.#p = parts;
  }

  /** Resolves to the target's result. The first failure stops all the others. */
  async all(steps: StepRunner): Promise<StageResult> {
    const { planned, progress, stop } = this.#p;
    if (planned.unused.length > 0) progress.warn(`build arguments that no ARG declares: ${planned.unused.join(", ")}`);
    // All are known before any runs: what one waits for is always there.
    const begin = Promise.withResolvers<void>();
    for (const stage of planned.stages) {
      const result = begin.promise.then(() => this.#stage(stage, steps));
      result.catch((error: unknown) => stop.abort(error));
      this.#stages.set(stage.stage.index, result);
    }
    begin.resolve();
    try {
      return await this.#stages.get(planned.target)!;
    } catch (error) {
      // The first that failed, not the one that was stopped by it.
      throw stop.signal.aborted ? stop.signal.reason : error;
    }
  }

  async settled(): Promise<void> {
    await Promise.allSettled([...this.#stages.values(), ...this.#images.values()]);
  }

  async layersOf(origin: Origin): Promise<readonly MadeLayer[]> {
    switch (origin.kind) {
      case "stage": return (await this.#stages.get(origin.index)!).layers;
      case "image": return this.#p.maker.parts(await this.#image(origin.reference)).layers;
      default: return [];
    }
  }

  #image(reference: string): Promise<Image> {
    const found = this.#images.get(reference);
    if (found !== undefined) return found;
    const { progress, options, pull, credentials, signal } = this.#p;
    const name = formatReference(parseReference(reference));
    const image = progress.run(`[internal] load metadata for ${name}`, async (vertex) => {
      const local = pull ? undefined : options.images.resolve(reference);
      if (local !== undefined) return local;
      return options.images.pull(reference, { credentials, signal, orFromCluster: !pull, onProgress: ({ bytes, totalBytes }) => vertex.status(`${size(bytes)} / ${size(totalBytes)}`) });
    });
    this.#images.set(reference, image);
    return image;
  }

  async #base(stage: PlannedStage): Promise<StageResult> {
    const { maker } = this.#p;
    if (stage.base.kind === "stage") return this.#stages.get(stage.base.index)!;
    if (stage.base.kind !== "image") return { layers: [], config: SCRATCH_CONFIG, author: "", history: [], createdMs: 0 };
    const { config, layers } = maker.parts(await this.#image(stage.base.reference));
    const createdMs = Date.parse(typeof config["created"] === "string" ? config["created"] : "");
    return {
      layers, config: config["config"] ?? {}, author: typeof config["author"] === "string" ? config["author"] : "",
      history: Array.isArray(config["history"]) ? (config["history"] as object[]) : [], createdMs: Number.isNaN(createdMs) ? 0 : createdMs,
    };
  }

  async #stage(stage: PlannedStage, steps: StepRunner): Promise<StageResult> {
    const { file, planned, plan, progress, signal, checkPlatform, countStep } = this.#p;
    const { location } = stage.stage.from;
    try {
      checkPlatform(stage.platform, "FROM --platform");
      const base = await this.#base(stage);
      const { steps: todo, config, author } = planStage(file, stage, base.config, planned, plan);
      const working = todo.filter((step) => step.kind !== "config");
      const title = (n: number): string => `[${stage.title === "" ? "" : `${stage.title} `}${n}/${working.length + 1}]`;
      if (stage.base.kind === "image") await progress.run(`${title(1)} FROM ${formatReference(parseReference(stage.base.reference))}`, async (vertex) => vertex.cached());
      const layers = [...base.layers];
      const history = [...base.history];
      let createdMs = base.createdMs;
      for (const step of todo) {
        signal.throwIfAborted();
        const before = layers.length;
        if (step.kind !== "config") {
          const done = await this.#step(step, `${title(working.indexOf(step) + 2)} ${shortened(step.text)}`, layers, steps, countStep);
          if (done.layer !== undefined) layers.push(done.layer);
          createdMs = Math.max(createdMs, done.createdMs);
        }
        history.push({ created: new Date(createdMs).toISOString(), created_by: step.createdBy, comment: "gantry build", ...(layers.length === before ? { empty_layer: true } : {}) });
      }
      return { layers, config, author: author || base.author, history, createdMs };
    } catch (error) {
      throw BuildError.at(location, error);
    }
  }

  async #step(step: Step, name: string, layers: readonly MadeLayer[], steps: StepRunner, countStep: (cached: boolean) => void): ReturnType<StepRunner["perform"]> {
    try {
      return await this.#p.progress.run(name, async (vertex) => {
        let isCached = false;
        const done = await steps.perform(step, layers, { ...vertex, cached: () => {
          isCached = true;
          vertex.cached();
        } });
        countStep(isCached);
        return done;
      });
    } catch (error) {
      throw BuildError.at(step.location, error);
    }
  }

  imageConfig({ config, author, history, createdMs }: StageResult, labels: Readonly<Record<string, string>>, latestMs: number | undefined): ConfigJson {
    const { platform } = this.#p.plan;
    const clamp = (ms: number): string => new Date(latestMs === undefined ? ms : Math.min(ms, latestMs)).toISOString();
    const allLabels = { ...config.Labels, ...labels };
    return {
      created: clamp(createdMs), ...(author === "" ? {} : { author }), architecture: platform.architecture, os: platform.os,
      config: { ...config, ...(Object.keys(allLabels).length === 0 ? {} : { Labels: allLabels }) },
      history: history.map((entry) => ("created" in entry && typeof entry.created === "string" ? { ...entry, created: clamp(Date.parse(entry.created)) } : entry)),
    };
  }
}

const shortened = (text: string): string => (text.length > 200 ? `${text.slice(0, 197)}...` : text);
