// Carries out the steps of a plan: what a RUN, COPY, ADD or WORKDIR leaves becomes a layer, unless the cache knows it. One per build.
import { createHash } from "node:crypto";
import { chownSync, createWriteStream, lstatSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { join, posix } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { GantryError } from "../../base/errors.ts";
import type { ImageMaker, MadeLayer } from "../images/image-maker.ts";
import { isEmptyUpper } from "../images/layer-diff.ts";
import type { RuntimeMount } from "../runtime/container-runtime.ts";
import { resolveUserIn } from "../runtime/user.ts";
import { isArchive, unpackArchive } from "./build-context.ts";
import { cacheKey, type BuildCache, type CachedStep } from "./build-cache.ts";
import type { Vertex } from "./build-progress.ts";
import { clampTimes, digestOfPicked, lookAt, makeDirectories, pick, resolved, setTime, TreeCopier, type CopyOptions, type Picked } from "./file-tree.ts";
import { PathMatcher } from "./patterns.ts";
import { SCRIPT_PATH, type Origin, type Step } from "./plan.ts";
import type { CacheMounts } from "./cache-mounts.ts";
import { mountDestinations, runContainer, type RunOptions, type RunParts } from "./run-container.ts";
import { missingMountPoints, pruneUnchanged, removeMountPoints, type Workspace } from "./workspace.ts";

export interface StepContext {
  readonly maker: ImageMaker;
  readonly cache: BuildCache;
  readonly cacheMounts: CacheMounts;
  readonly workspace: Workspace;
  readonly run: RunParts;
  readonly nowMs: () => number;
  readonly signal: AbortSignal;
  /** The unpacked context; waits until it is here. */
  readonly context: () => Promise<string>;
  /** Layers of a stage or image. */
  readonly layersOf: (origin: Origin) => Promise<readonly MadeLayer[]>;
  readonly secrets: ReadonlyMap<string, Buffer>;
  readonly noCache: boolean;
  readonly network: "default" | "host" | "none";
  /** SOURCE_DATE_EPOCH. */
  readonly latestMs: number | undefined;
  readonly id: string;
  readonly pidsLimit: number;
  readonly resolvConf: string;
  /** RUNs at once. */
  readonly permit: () => Promise<() => void>;
}

type RunStep = Extract<Step, { kind: "run" }>;
type CopyStep = Extract<Step, { kind: "copy" }>;
/** May give directories that are to be looked at by pruneUnchanged. */
type Work = (merged: string) => Promise<ReadonlySet<string> | undefined>;

/** Raised when what a step gives changes for the same input: older entries of the cache then count no more. */
const FORMAT = 1;
const HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
const NOTHING = new PathMatcher([]);
const MAX_URL_BYTES = 16 * 1024 ** 3;

const chainOf = (layers: readonly MadeLayer[]): readonly string[] => layers.map((layer) => layer.diffId);

export class StepRunner {
  readonly #c: StepContext;
  #runs = 0;

  constructor(context: StepContext) {
    this.#c = context;
  }

  /** The step on top of `layers`. Errors have no place yet. */
  async perform(step: Step, layers: readonly MadeLayer[], vertex: Vertex): Promise<CachedStep> {
    switch (step.kind) {
      case "config": return { layer: undefined, createdMs: 0 };
      case "workdir": return this.#workdir(step, layers, vertex);
      case "run": return this.#run(step, layers, vertex);
      case "copy": return this.#copy(step, layers, vertex);
    }
  }

  #lowerDirs(layers: readonly MadeLayer[]): readonly string[] {
    const diffIds = chainOf(layers);
    // overlayfs refuses the same directory twice; what is uppermost counts.
    return layers.filter((layer, i) => diffIds.lastIndexOf(layer.diffId) === i).map((layer) => this.#c.maker.directory(layer));
  }

  #key(...parts: readonly unknown[]): string {
    return cacheKey(FORMAT, this.#c.latestMs ?? null, ...parts);
  }

  #cached(key: string, vertex: Vertex): CachedStep | undefined {
    const { cache, maker, noCache } = this.#c;
    const found = noCache ? undefined : cache.get(key);
    if (found === undefined) return undefined;
    if (found.layer !== undefined && !maker.hold(found.layer)) {
      cache.drop(key);
      return undefined;
    }
    vertex.cached();
    return found;
  }

  /** Does the work on an overlay and keeps what it changed under the keys. */
  async #layer(keys: readonly string[], layers: readonly MadeLayer[], work: Work): Promise<CachedStep> {
    const { workspace, maker, latestMs, nowMs, cache, signal } = this.#c;
    const lowerDirs = this.#lowerDirs(layers);
    const directories = workspace.step(lowerDirs);
    let copiedUp: ReadonlySet<string> | undefined;
    try {
      copiedUp = await work(directories.merged);
    } finally {
      directories.unmount();
    }
    signal.throwIfAborted();
    if (copiedUp !== undefined) pruneUnchanged(directories.upper, copiedUp, lowerDirs);
    if (latestMs !== undefined) clampTimes(directories.upper, latestMs);
    const layer = isEmptyUpper(directories.upper) ? undefined : await maker.addLayer(directories.upper, { move: true, signal, ...(latestMs === undefined ? {} : { latestMs }) });
    const done: CachedStep = { layer, createdMs: latestMs ?? nowMs() };
    for (const key of keys) cache.put(key, done);
    return done;
  }

  async #workdir({ path, user }: Extract<Step, { kind: "workdir" }>, layers: readonly MadeLayer[], vertex: Vertex): Promise<CachedStep> {
    const key = this.#key("workdir", chainOf(layers), path, user);
    return this.#cached(key, vertex) ?? this.#layer([key], layers, async (merged) => {
      const { uid, gid } = resolveUserIn(merged, user, []);
      makeDirectories(merged, path, { owner: { uid, gid }, nowMs: this.#c.nowMs() });
      return undefined;
    });
  }

  // COPY and ADD

  async #copy(step: CopyStep, layers: readonly MadeLayer[], vertex: Vertex): Promise<CachedStep> {
    const { workspace, layersOf, context, signal } = this.#c;
    const { flags } = step;
    // --link: the layer does not depend on what is below it.
    const below = flags.link ? [] : layers;
    const what = [step.isAdd, step.sources, step.files, step.destination, flags] as const;
    const fromLayers = step.origin.kind === "context" ? undefined : await layersOf(step.origin);
    const quick = fromLayers === undefined ? undefined : this.#key("copy-from", chainOf(below), chainOf(fromLayers), what);
    const known = quick === undefined ? undefined : this.#cached(quick, vertex);
    if (known !== undefined) return known;
    const checked = flags.checksum === "" ? undefined : this.#key("copy-checked", chainOf(below), what);
    const fetched = checked === undefined ? undefined : this.#cached(checked, vertex);
    if (fetched !== undefined) return fetched;

    const exclude = flags.exclude.length === 0 ? NOTHING : new PathMatcher(flags.exclude);
    const isImage = fromLayers !== undefined;
    const root = fromLayers === undefined ? (step.sources.every(isUrl) ? "" : await context()) : workspace.readOnly(this.#lowerDirs(fromLayers));
    const rootName = step.origin.kind === "context" ? "the build context" : step.origin.kind === "image" ? `the image ${step.origin.reference}` : "that stage";
    const picked: (Picked & { readonly isUrl: boolean })[] = [];
    for (const source of step.sources) {
      if (step.isAdd && isUrl(source)) picked.push({ ...(await this.#download(source, flags.checksum, step.destination.endsWith("/"), vertex)), isUrl: true });
      else if (step.isAdd && isGit(source)) throw new GantryError("Invalid", `ADD of a git repository (${source}) is not supported: clone it in a RUN, or into the context`);
      else picked.push(...pick(root, source, rootName).map((p) => ({ ...p, isUrl: false })));
    }
    const key = this.#key("copy", chainOf(below), await digestOfPicked(picked, exclude, isImage), picked.map((p) => [p.name, p.isUrl]), what, isImage);
    const same = this.#cached(key, vertex);
    if (same !== undefined) return same;
    return this.#layer([key, quick, checked].filter((k) => k !== undefined), below, async (merged) => {
      const owner = flags.chown === "" ? undefined : ownerOf(merged, flags.chown);
      const mode = flags.chmod === "" ? undefined : Number.parseInt(flags.chmod, 8);
      const options: CopyOptions = { owner: owner ?? (isImage ? undefined : { uid: 0, gid: 0 }), mode, exclude, nowMs: this.#c.latestMs ?? this.#c.nowMs() };
      await this.#place(step, picked, merged, options, owner, signal);
      return undefined;
    });
  }

  async #place(step: CopyStep, picked: readonly (Picked & { readonly isUrl: boolean })[], merged: string, options: CopyOptions, owner: CopyOptions["owner"], signal: AbortSignal): Promise<void> {
    const { flags, destination } = step;
    const copier = new TreeCopier(options);
    const made = { owner: options.owner ?? { uid: 0, gid: 0 }, nowMs: options.nowMs };
    const asDirectory = destination.endsWith("/") || picked.length + step.files.length > 1;
    /** A file's path: in the destination when that is a directory. */
    const pathFor = (name: string, path = destination): string => {
      const there = lookAt(resolved(merged, path));
      const target = asDirectory || there?.isDirectory() === true ? posix.join(path, name) : path;
      makeDirectories(merged, posix.dirname(target), made);
      const real = resolved(merged, target);
      if (lookAt(real)?.isDirectory() === true) throw new GantryError("Invalid", `can't copy a file onto the directory ${target}`);
      return real;
    };
    for (const [i, source] of picked.entries()) {
      const baseName = posix.basename(source.name);
      const unpacks = step.isAdd && source.stat.isFile() && (flags.unpack ?? !source.isUrl) && (await isArchive(source.path));
      if (unpacks) {
        const unpacked = this.#c.workspace.directory();
        const disk = statfsSync(unpacked);
        await unpackArchive(source.path, join(unpacked, "files"), disk.bavail * disk.bsize, source.name, signal);
        const files: Picked = { path: join(unpacked, "files"), name: "", stat: lstatSync(join(unpacked, "files")) };
        await new TreeCopier({ ...options, owner }).copy(files, makeDirectories(merged, destination, made), signal);
        rmSync(unpacked, { recursive: true });
      } else if (flags.parents) {
        const relative = parentsPath(step.sources[i] ?? source.name, source.name);
        const target = posix.join(destination, relative);
        makeDirectories(merged, posix.dirname(target), made);
        await copier.copy(source, source.stat.isDirectory() ? resolved(merged, target) : resolved(merged, target), signal);
      } else if (source.stat.isDirectory()) {
        makeDirectories(merged, posix.dirname(posix.join(destination, ".")), made);
        await copier.copy(source, resolved(merged, destination), signal);
      } else {
        await copier.copy(source, pathFor(baseName), signal);
      }
    }
    for (const { name, content } of step.files) {
      const file = join(this.#c.workspace.directory(), name);
      writeFileSync(file, content, { mode: 0o644 });
      setTime(file, options.nowMs);
      await copier.copy({ path: file, name, stat: lstatSync(file) }, pathFor(name), signal);
    }
  }

  async #download(url: string, checksum: string, needsName: boolean, vertex: Vertex): Promise<Picked> {
    const name = decodeURIComponent(posix.basename(new URL(url).pathname));
    if (name === "" && needsName) throw new GantryError("Invalid", `cannot determine filename for source ${url}: give the destination a name`);
    const path = join(this.#c.workspace.directory(), name === "" ? "download" : name);
    const hash = createHash("sha256");
    let response: Response;
    try {
      response = await fetch(url, { signal: this.#c.signal });
    } catch (error) {
      this.#c.signal.throwIfAborted();
      throw new GantryError("ServiceUnavailable", `${url} can't be fetched`, { cause: (error as Error).cause ?? error });
    }
    if (!response.ok || response.body === null) throw new GantryError("Invalid", `${url}: the server answered ${response.status} ${response.statusText}`);
    let bytes = 0;
    const counted = async function* (body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
      for await (const chunk of body) {
        bytes += chunk.length;
        if (bytes > MAX_URL_BYTES) throw new GantryError("RequestEntityTooLarge", `${url} has more than ${MAX_URL_BYTES} bytes`);
        hash.update(chunk);
        vertex.status(`${(bytes / 2 ** 20).toFixed(1)} MiB of ${url}`);
        yield chunk;
      }
    };
    await pipeline(Readable.from(counted(response.body as unknown as AsyncIterable<Uint8Array>)), createWriteStream(path, { mode: 0o600 }));
    const digest = `sha256:${hash.digest("hex")}`;
    if (checksum !== "" && digest !== checksum) throw new GantryError("Invalid", `${url} has the digest ${digest}, not ${checksum}`);
    const modifiedMs = Date.parse(response.headers.get("last-modified") ?? "");
    setTime(path, Number.isNaN(modifiedMs) ? 0 : modifiedMs);
    return { path, name: name === "" ? "download" : name, stat: lstatSync(path) };
  }

  // RUN

  async #run(step: RunStep, layers: readonly MadeLayer[], vertex: Vertex): Promise<CachedStep> {
    const { layersOf, context, network: buildNetwork } = this.#c;
    const network = step.network === "default" ? buildNetwork : step.network;
    const binds: unknown[] = [];
    for (const mount of step.mounts) {
      const origin = mount.origin;
      if (mount.type !== "bind") binds.push([mount.type, mount.target, mount.id, mount.sizeBytes ?? null, mount.env]);
      else if (origin.kind === "context") binds.push([mount.target, mount.readOnly, await digestOfPicked(pick(await context(), mount.source || "/", "the build context"), NOTHING, false)]);
      else binds.push([mount.target, mount.readOnly, mount.source, chainOf(await layersOf(origin))]);
    }
    const key = this.#key("run", chainOf(layers), step.args, step.env, step.cwd, step.user, network, step.script ?? null, binds);
    const known = this.#cached(key, vertex);
    if (known !== undefined) return known;
    const release = await this.#c.permit();
    try {
      return await this.#layer([key], layers, (merged) => this.#execute(step, network, merged, vertex));
    } finally {
      release();
    }
  }

  async #execute(step: RunStep, network: "default" | "host" | "none", merged: string, vertex: Vertex): Promise<ReadonlySet<string>> {
    const { workspace, run, signal, id, pidsLimit, resolvConf } = this.#c;
    using locks = new DisposableStack();
    const files = workspace.directory("memory");
    const bindFile = (name: string, content: string | Buffer, destination: string, mode = 0o644): RuntimeMount => {
      writeFileSync(join(files, name), content, { mode });
      return { source: join(files, name), destination, type: "bind", options: ["ro"] };
    };
    const env = [...step.proxyEnv, ...step.env];
    const mounts: RuntimeMount[] = [bindFile("resolv.conf", resolvConf, "/etc/resolv.conf"), bindFile("hosts", HOSTS, "/etc/hosts")];
    for (const [i, mount] of step.mounts.entries()) {
      const made = await this.#mount(mount, `m${i}`, files, env, locks);
      if (made !== undefined) mounts.push(made);
    }
    // /dev is a tmpfs of the container's own: the script is gone with it.
    if (step.script !== undefined) mounts.push(bindFile("script", step.script, SCRIPT_PATH, 0o755));
    const number = ++this.#runs;
    const options: RunOptions = {
      id: `gantry-build-${id}-${number}`.replaceAll(/[^A-Za-z0-9-]/g, "x"), bundle: workspace.directory("memory"), rootPath: merged, args: step.args, env, cwd: step.cwd, user: step.user,
      network: network === "none" ? workspace.isolatedNetwork() : "host", mounts, cgroupPath: `build/${id}/${number}`, pidsLimit, signal, onOutput: (text) => vertex.log(text),
    };
    const points = missingMountPoints(merged, mountDestinations(options, run));
    const exitCode = await runContainer(options, run);
    if (exitCode !== 0) throw new GantryError("Invalid", `process ${JSON.stringify(step.args.join(" "))} did not complete successfully: exit code: ${exitCode}`);
    return removeMountPoints(points, merged);
  }

  async #mount(mount: RunStep["mounts"][number], name: string, files: string, env: string[], locks: DisposableStack): Promise<RuntimeMount | undefined> {
    const { workspace, layersOf, context, secrets, cacheMounts, signal } = this.#c;
    switch (mount.type) {
      case "tmpfs": return { source: "tmpfs", destination: mount.target, type: "tmpfs", options: ["nosuid", "nodev", "mode=1777", ...(mount.sizeBytes === undefined ? [] : [`size=${mount.sizeBytes}`])] };
      case "secret": {
        const secret = secrets.get(mount.id);
        if (secret === undefined) {
          if (mount.required) throw new GantryError("Invalid", `secret ${mount.id}: not found; give it with --secret id=${mount.id},src=FILE`);
          return undefined;
        }
        if (mount.env !== "") env.push(`${mount.env}=${secret.toString("utf8")}`);
        if (mount.env !== "" && mount.target === "") return undefined;
        const source = join(files, name);
        writeFileSync(source, secret, { mode: mount.mode ?? 0o400 });
        chownSync(source, mount.uid, mount.gid);
        return { source, destination: mount.target === "" ? `/run/secrets/${mount.id}` : mount.target, type: "bind", options: ["ro"] };
      }
      case "cache": {
        const seed = mount.from === "" ? undefined : pick(workspace.readOnly(this.#lowerDirs(await layersOf(mount.origin))), mount.source || "/", `the stage ${mount.from}`)[0];
        const taken = await cacheMounts.take({ id: mount.id || mount.target, sharing: mount.sharing, mode: mount.mode ?? 0o755, uid: mount.uid, gid: mount.gid, signal, seed: async (directory) => {
          if (seed !== undefined) await new TreeCopier({ owner: undefined, mode: undefined, exclude: NOTHING, nowMs: this.#c.nowMs() }).copy(seed, directory, signal);
        } });
        locks.use(taken);
        return { source: taken.directory, destination: mount.target, type: "bind", options: [mount.readOnly ? "ro" : "rw"] };
      }
      case "bind": {
        const isContext = mount.origin.kind === "context";
        const root = isContext ? await context() : workspace.readOnly(this.#lowerDirs(await layersOf(mount.origin)));
        const [found] = pick(root, mount.source || "/", isContext ? "the build context" : `the stage ${mount.from}`);
        if (found === undefined) throw new GantryError("Invalid", `--mount: source=${mount.source} matches nothing`);
        if (mount.readOnly) return { source: found.path, destination: mount.target, type: "bind", options: ["ro"] };
        if (found.stat.isDirectory()) return { source: workspace.scratchCopy(found.path), destination: mount.target, type: "bind", options: ["rw"] };
        const copy = join(files, name);
        await new TreeCopier({ owner: undefined, mode: undefined, exclude: NOTHING, nowMs: this.#c.nowMs() }).copy(found, copy, signal);
        return { source: copy, destination: mount.target, type: "bind", options: ["rw"] };
      }
    }
  }
}

const isUrl = (source: string): boolean => /^https?:\/\//.test(source) && !isGit(source);
const isGit = (source: string): boolean => /^(?:git@|git:\/\/|ssh:\/\/)|^https?:\/\/.*\.git(?:#.*)?$/.test(source);

/** A number alone stands for the group as well, as in Docker. */
const ownerOf = (root: string, chown: string): { readonly uid: number; readonly gid: number } => {
  if (/^\d+$/.test(chown)) return { uid: Number(chown), gid: Number(chown) };
  const { uid, gid } = resolveUserIn(root, chown, []);
  return { uid, gid };
};

/** What --parents keeps of a source's path: all, or what stands behind `/./`. */
const parentsPath = (source: string, name: string): string => {
  const pivot = source.indexOf("/./");
  return pivot < 0 ? name : posix.relative(posix.normalize(source.slice(0, pivot)).replace(/^\/+/, ""), name);
};
