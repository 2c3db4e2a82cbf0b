// The node's images: brings content (registries, archives), layers and the index together. The only writer of all three.
// Everything below `root`: an OCI image layout (oci-layout, index.json, blobs/), ingest/ (downloads on their way), layers/ (unpacked).
import { mkdirSync } from "node:fs";
import type { Clock } from "../../base/clock.ts";
import { describeError, GantryError, isCode } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import { readArchive } from "./archive-loader.ts";
import type { BlobPeers } from "./blob-peers.ts";
import { ContentStore, type Ingest } from "./content-store.ts";
import { hexOf, isDigest, type Digest } from "./digest.ts";
import type { ExtractCalls, ExtractLimits } from "./extract.ts";
import { imageArchive } from "./image-archive.ts";
import { ImageIndex, type ManifestDescriptor, type NameOrigin } from "./image-index.ts";
import type { Image, ImageLayer, ImageService, LayerProgress, PullOptions, RemoteImage, StoreUsage } from "./image-service.ts";
import { imageMaker, type ImageMaker } from "./image-maker.ts";
import { pushImage } from "./image-push.ts";
import { LayerStore } from "./layer-store.ts";
import { MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, parseConfig, parseJsonObject, parseManifest, type Descriptor, type Manifest, type PlatformDescriptor } from "./manifest.ts";
import { choosePlatform, detectPlatform, formatPlatform, type Platform } from "./platform.ts";
import { formatReference, parseReference, type Reference } from "./reference.ts";
import type { RegistryConfig } from "./registry-config.ts";
import { RegistryClient, type Repository } from "./registry-client.ts";
import { SharedTasks, Slots, throwIfAborted } from "./shared-task.ts";

export interface ImageServiceOptions {
  /** A directory of its own, on the file system that is to hold the containers' root filesystems. */
  readonly root: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** How to reach registries that are not plain HTTPS: see parseRegistryConfig. */
  readonly registries?: RegistryConfig;
  readonly platform?: Platform;
  readonly limits?: Partial<ExtractLimits>;
  /** Downloads at once, over all pulls. */
  readonly downloadsAtOnce?: number;
  /** A registry that sends nothing for this long is given up on (and tried again). */
  readonly idleTimeoutMs?: number;
  /** Default: the process's own. HTTP_PROXY, HTTPS_PROXY and NO_PROXY count. */
  readonly env?: NodeJS.ProcessEnv;
  /** Larger blobs are pushed in pieces of this size. */
  readonly chunkBytes?: number;
  /** Other nodes, which are asked before a registry. */
  readonly peers?: BlobPeers;
  readonly calls?: ExtractCalls;
  readonly bootId?: string;
}

/** Far above real images (the largest public ones have about a million files and 40 GB); below what would hurt a node for long. */
const DEFAULT_LIMITS: ExtractLimits = { maxEntries: 2_000_000, maxBytes: 128 * 1024 ** 3, maxRatio: 250 };
/** As docker's. More share the way from the registry, so that each layer comes later, and is unpacked later. */
const DEFAULT_DOWNLOADS_AT_ONCE = 3;
const DEFAULT_IDLE_TIMEOUT_MS = 30_000;

/** What the index does not say: read from manifest and config, which never change. */
interface Known {
  readonly image: Omit<Image, "names">;
  readonly blobs: readonly Digest[];
  readonly diffIds: readonly Digest[];
}

/** Digests that an operation under way counts on. */
type Lease = Set<string>;
/** Brings a blob into the content store, unless it is there. */
type Fetch = (blob: Descriptor, signal: AbortSignal) => Promise<void>;
type Watchers = Set<Pick<PullOptions, "onProgress" | "onLayer">>;

export class LinuxImageService implements ImageService {
  readonly #options: ImageServiceOptions;
  readonly #content: ContentStore;
  readonly #layers: LayerStore;
  readonly #index: ImageIndex;
  readonly #registry: RegistryClient;
  readonly #platform: Platform;
  /** By manifest digest; only complete ones. */
  readonly #known = new Map<Digest, Known>();
  /** Config digest to manifest digest. */
  readonly #byId = new Map<string, Digest>();
  readonly #leases = new Set<Lease>();
  readonly #retained: (() => Iterable<Digest>)[] = [];
  readonly #pulls = new SharedTasks<Image>();
  /** Callers of a running pull that want to know how far it is. */
  readonly #watchers = new Map<string, Watchers>();
  readonly #downloads = new SharedTasks<void>();
  readonly #slots: Slots;
  readonly #closing = new AbortController();
  readonly #metrics;

  static async open(options: ImageServiceOptions): Promise<LinuxImageService> {
    mkdirSync(options.root, { recursive: true, mode: 0o700 });
    const content = await ContentStore.open(options.root);
    const { root, clock, logger, metrics, calls, bootId } = options;
    const layers = await LayerStore.open({
      root, content, clock, logger, metrics, limits: { ...DEFAULT_LIMITS, ...options.limits },
      ...(calls === undefined ? {} : { calls }), ...(bootId === undefined ? {} : { bootId }),
    });
    const service = new LinuxImageService(options, content, layers);
    await service.#recover();
    return service;
  }

  private constructor(options: ImageServiceOptions, content: ContentStore, layers: LayerStore) {
    const { root, clock, random, logger, metrics } = options;
    this.#options = options;
    this.#content = content;
    this.#layers = layers;
    this.#index = new ImageIndex(root, logger);
    this.#platform = options.platform ?? detectPlatform();
    this.#slots = new Slots(options.downloadsAtOnce ?? DEFAULT_DOWNLOADS_AT_ONCE);
    this.#metrics = {
      pullSeconds: metrics.histogram("gantry_image_pull_seconds", "Time to pull an image, by result (pulled, present, failed).", ["result"], [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600]),
      pullBytes: metrics.counter("gantry_image_pull_bytes_total", "Bytes downloaded from registries."),
      pullsInProgress: metrics.gauge("gantry_image_pulls_in_progress", "Pulls under way."),
      images: metrics.gauge("gantry_images", "Complete images on this node."),
    };
    this.#registry = new RegistryClient({
      clock, random, logger, registries: options.registries ?? {}, idleTimeoutMs: options.idleTimeoutMs ?? DEFAULT_IDLE_TIMEOUT_MS, env: options.env ?? process.env,
      ...(options.chunkBytes === undefined ? {} : { chunkBytes: options.chunkBytes }),
      onBytes: (bytes) => this.#metrics.pullBytes.inc(bytes),
    });
  }

  resolve(reference: string): Image | undefined {
    const digest = this.#find(reference);
    return digest === undefined ? undefined : this.#image(digest);
  }

  async pull(reference: string, options: PullOptions): Promise<Image> {
    const parsed = parseReference(reference);
    const startedMs = this.#options.clock.monotonicMs();
    const signal = AbortSignal.any([options.signal, this.#closing.signal]);
    const seconds = (): number => (this.#options.clock.monotonicMs() - startedMs) / 1000;
    // Other credentials may see another image, or none: they don't share.
    const key = JSON.stringify([formatReference(parsed), options.credentials, options.orFromCluster ?? false]);
    const watchers: Watchers = this.#watchers.get(key) ?? new Set();
    this.#watchers.set(key, watchers);
    watchers.add(options);
    this.#metrics.pullsInProgress.inc();
    try {
      return await this.#pulls.run(key, signal, async (shared) => {
        const { image, fetched } = await this.#withLease((lease) => this.#pull(parsed, options, watchers, lease, shared));
        this.#metrics.pullSeconds.observe({ result: fetched ? "pulled" : "present" }, seconds());
        this.#options.logger.info("image pulled", { image: formatReference(parsed), id: image.id, sizeBytes: image.sizeBytes, seconds: Math.round(seconds() * 1000) / 1000, fetched });
        return image;
      });
    } catch (error) {
      if (!isCode(error, "Cancelled")) {
        this.#metrics.pullSeconds.observe({ result: "failed" }, seconds());
        this.#options.logger.warn("image pull failed", { image: formatReference(parsed), err: error });
      }
      throw error;
    } finally {
      this.#metrics.pullsInProgress.dec();
      watchers.delete(options);
      if (watchers.size === 0 && this.#watchers.get(key) === watchers) this.#watchers.delete(key);
    }
  }

  async load(archive: AsyncIterable<Uint8Array>, fallbackName?: string): Promise<readonly string[]> {
    return this.#withLease(async (lease) => {
      const loaded = await readArchive(archive, this.#content, this.#platform, (digest) => lease.add(digest), fallbackName);
      const names: string[] = [];
      for (const { manifest, names: given } of loaded) {
        const image = await this.#adopt(manifest, given, "cluster", lease, this.#closing.signal, (blob) => {
          if (!this.#content.has(blob.digest, blob.sizeBytes)) {
            throw new GantryError("Invalid", `the image archive lacks the blob ${blob.digest} (${blob.sizeBytes} bytes) of ${given[0] ?? "its image"}: it is incomplete`);
          }
          return Promise.resolve();
        });
        names.push(...(given.length > 0 ? given : [image.id]));
        this.#options.logger.info("image loaded", { images: given, id: image.id, sizeBytes: image.sizeBytes });
      }
      return names;
    });
  }

  /** For builds and commits. What `work` adds or holds is safe from garbage collection until it ends. */
  async make<T>(work: (maker: ImageMaker) => Promise<T>): Promise<T> {
    return this.#withLease((lease) => work(imageMaker({
      content: this.#content, layers: this.#layers, keep: (digest) => lease.add(digest),
      adopt: (manifest, names) => this.#adopt(manifest, names, "cluster", lease, this.#closing.signal, (blob) => {
        if (!this.#content.has(blob.digest, blob.sizeBytes)) throw new GantryError("InternalError", `blob ${blob.digest} of an image made here is missing`);
        return Promise.resolve();
      }),
    })));
  }

  /** Digests of blobs and layers that collectGarbage has to spare besides: the build cache's. Asked each time. */
  retain(digests: () => Iterable<Digest>): void {
    this.#retained.push(digests);
  }

  list(): readonly Image[] {
    return [...this.#known.keys()].map((digest) => this.#image(digest)!);
  }

  configOf(image: Image): Readonly<Record<string, unknown>> {
    return parseJsonObject(this.#content.read(image.id as Digest, MAX_CONFIG_BYTES), `config ${image.id}`);
  }

  async push(reference: string, options: Omit<PullOptions, "onProgress">): Promise<Image> {
    const parsed = parseReference(reference);
    const name = formatReference(parsed);
    if (parsed.digest !== undefined) throw new GantryError("Invalid", `${reference}: an image is pushed by its tag, not by a digest`);
    const image = this.resolve(name);
    if (image === undefined) throw new GantryError("NotFound", `image ${name} is not on this node; 'gantry tag' gives an image that is here this name`);
    const signal = AbortSignal.any([options.signal, this.#closing.signal]);
    await this.#withLease(async (lease) => {
      this.#keep(image, lease);
      await pushImage({
        image, content: this.#content, target: this.#registry.pushTarget(parsed, options.credentials), selector: parsed.tag, slots: this.#slots, signal,
        mountFrom: (digest) => this.#repositoriesWith(digest, parsed), onLayer: options.onLayer ?? (() => undefined),
      });
    });
    this.#options.logger.info("image pushed", { image: name, id: image.id });
    return image;
  }

  async receive(remote: RemoteImage, { signal, onLayer }: Pick<PullOptions, "signal" | "onLayer">): Promise<Image> {
    const together = AbortSignal.any([signal, this.#closing.signal]);
    return this.#withLease((lease) => this.#receive(remote, new Set([onLayer === undefined ? {} : { onLayer }]), lease, together));
  }

  async #receive(remote: RemoteImage, watchers: Watchers, lease: Lease, signal: AbortSignal): Promise<Image> {
    const names = remote.names.map((name) => formatReference(parseReference(name)));
    lease.add(remote.manifestDigest);
    const blob: Descriptor = { digest: remote.manifestDigest, sizeBytes: remote.manifestBytes, mediaType: remote.mediaType, annotations: {} };
    const none = new Progress({ config: blob, layers: [] }, new Set());
    if (remote.manifestBytes > MAX_MANIFEST_BYTES) throw new GantryError("Invalid", `the manifest ${remote.manifestDigest} has ${remote.manifestBytes} bytes; at most ${MAX_MANIFEST_BYTES} are allowed`);
    await this.#download(undefined, blob, none, signal, remote.node);
    const what = `manifest ${remote.manifestDigest}`;
    const manifest = parseManifest(this.#content.read(remote.manifestDigest, MAX_MANIFEST_BYTES), what, remote.mediaType);
    if (manifest.kind !== "image") throw new GantryError("Invalid", `${what} is an index, not an image`);
    const progress = new Progress(manifest, watchers);
    const descriptor: ManifestDescriptor = { digest: remote.manifestDigest, sizeBytes: remote.manifestBytes, mediaType: manifest.mediaType };
    return this.#adopt(descriptor, names, "cluster", lease, signal, (part, both) => this.#download(undefined, part, progress, both, remote.node), progress);
  }

  /** For other nodes: the image that has this name from no registry; undefined when there is none. */
  findMade(name: string): ManifestDescriptor | undefined {
    const digest = this.#index.digestOf(name);
    return digest !== undefined && this.#known.has(digest) && this.#index.originOf(name) === "cluster" ? this.#index.descriptor(digest) : undefined;
  }

  async *save(references: readonly string[]): AsyncGenerator<Uint8Array, void> {
    const wanted = references.map((reference) => {
      const image = this.resolve(reference);
      if (image === undefined) throw new GantryError("NotFound", `image ${JSON.stringify(reference)} is not on this node`);
      const name = this.#normalized(reference);
      return { image, names: name !== undefined && image.names.includes(name) && !name.includes("@") ? [name] : [] };
    });
    const lease: Lease = new Set();
    this.#leases.add(lease);
    try {
      for (const { image } of wanted) this.#keep(image, lease);
      yield* imageArchive(wanted, this.#content);
    } finally {
      this.#leases.delete(lease);
    }
  }

  async tag(reference: string, name: string): Promise<Image> {
    const target = parseReference(name);
    if (target.digest !== undefined) throw new GantryError("Invalid", `${JSON.stringify(name)}: a name with a digest can't be given to an image`);
    const digest = this.#find(reference);
    if (digest === undefined || !this.#known.has(digest)) throw new GantryError("NotFound", `image ${JSON.stringify(reference)} is not on this node`);
    await this.#index.set(this.#index.descriptor(digest), [formatReference(target)], "cluster");
    return this.#image(digest)!;
  }

  async untag(names: readonly string[]): Promise<void> {
    if (names.length > 0) await this.#index.removeNames(names);
  }

  layerBytes(layer: ImageLayer): number {
    return this.#layers.bytesOf(layer.diffId);
  }

  arrivedMs(image: Image): number {
    return this.#content.arrivedMs(image.manifestDigest as Digest);
  }

  isMadeHere(image: Image): boolean {
    return this.#index.namesOf(image.manifestDigest as Digest).some((name) => this.#index.originOf(name) === "cluster");
  }

  async usage(inUse: ReadonlySet<string>): Promise<StoreUsage> {
    const active = [...this.#known.values()].filter((known) => inUse.has(known.image.id));
    const held = (of: readonly Known[]): number => {
      const blobs = new Set(of.flatMap((known) => known.blobs));
      const diffIds = new Set(of.flatMap((known) => known.diffIds));
      return [...blobs].reduce((sum, digest) => sum + this.#content.sizeBytes(digest), 0) + [...diffIds].reduce((sum, diffId) => sum + this.#layers.bytesOf(diffId), 0);
    };
    let bytes = 0;
    for await (const digest of this.#content.digests()) bytes += this.#content.sizeBytes(digest);
    for await (const hex of this.#layers.diffIds()) bytes += this.#layers.bytesOf(`sha256:${hex}`);
    return { images: this.#known.size, activeImages: active.length, bytes, reclaimableBytes: Math.max(0, bytes - held(active)) };
  }

  /** For other nodes: the blob from `start` on, also while it is still on its way (then unverified); undefined when it is not here. */
  readBlob(digest: Digest, start: number, signal: AbortSignal): { readonly sizeBytes: number; readonly bytes: AsyncIterable<Uint8Array> } | undefined {
    if (this.#content.has(digest)) return { sizeBytes: this.#content.sizeBytes(digest), bytes: this.#content.stream(digest, start) };
    const coming = this.#content.underWay(digest);
    return coming === undefined ? undefined : { sizeBytes: coming.sizeBytes, bytes: coming.follow(start, signal) };
  }

  hasBlob(digest: Digest): boolean {
    return this.#content.has(digest);
  }

  #keep(image: Image, lease: Lease): void {
    const known = this.#known.get(image.manifestDigest as Digest);
    for (const digest of [...(known?.blobs ?? []), ...(known?.diffIds ?? [])]) lease.add(digest);
  }

  /** Repositories of the same registry, other than the one that is pushed to, whose images here have this blob. */
  #repositoriesWith(digest: Digest, { registry, repository }: Reference): readonly string[] {
    const names = [...this.#known].filter(([, known]) => known.blobs.includes(digest)).flatMap(([manifest]) => this.#index.namesOf(manifest));
    const others = names.map((name) => parseReference(name)).filter((r) => r.registry === registry && r.repository !== repository);
    return [...new Set(others.map((r) => r.repository))];
  }

  async remove(reference: string): Promise<void> {
    const digest = this.#find(reference);
    if (digest === undefined) throw new GantryError("NotFound", `image ${JSON.stringify(reference)} is not on this node`);
    const byName = this.#normalized(reference);
    const isName = byName !== undefined && this.#index.digestOf(byName) === digest;
    await this.#index.removeNames(isName ? [byName] : this.#index.namesOf(digest));
  }

  async collectGarbage(inUse: ReadonlySet<string>, spare: (image: Image) => boolean = () => false): Promise<number> {
    const leased = new Set([...[...this.#leases].flatMap((lease) => [...lease]), ...this.#retained.flatMap((digests) => [...digests()])]);
    const unused = this.#index.manifests().filter((digest) => {
      const image = this.#image(digest);
      return this.#index.namesOf(digest).length === 0 && !(image !== undefined && (inUse.has(image.id) || spare(image))) && !leased.has(digest);
    });
    for (const digest of unused) this.#forget(digest);
    // The index first: what it names is always there, and a crash in between only leaves garbage for the next time.
    await this.#index.removeManifests(unused);
    const kept = new Set<string>([...leased, ...this.#index.manifests()]);
    const keptLayers = new Set([...leased].map((digest) => hexOf(digest as Digest)));
    for (const digest of this.#index.manifests()) {
      const known = this.#known.get(digest);
      // Incomplete ones keep what they have: it is what a pull need not fetch again.
      for (const blob of known?.blobs ?? this.#blobsOf(digest)) kept.add(blob);
      for (const diffId of known?.diffIds ?? []) keptLayers.add(hexOf(diffId));
    }
    // Operations that start from here on take leases; what they add is checked again right before each deletion.
    const needed = (digest: string): boolean => kept.has(digest) || this.#isLeased(digest);
    let freed = 0;
    for await (const hex of this.#layers.diffIds()) {
      if (!keptLayers.has(hex) && !this.#isLeased(`sha256:${hex}`) && !this.#isLeased(`sha512:${hex}`)) freed += await this.#layers.delete(hex);
    }
    for await (const digest of this.#content.digests()) {
      if (!needed(digest)) freed += await this.#content.delete(digest);
    }
    freed += await this.#content.deletePartials(new Set([...this.#leases].flatMap((lease) => [...lease]) as Digest[]));
    if (freed > 0) this.#options.logger.info("images collected", { images: unused.length, freedBytes: freed });
    return freed;
  }

  /** Ends what is under way; everything stays as it is on disk. */
  close(): void {
    this.#closing.abort(new GantryError("Cancelled", "the image service is closing"));
    this.#registry.close();
    this.#layers.close();
  }

  async #pull(reference: Reference, { credentials, orFromCluster = false }: PullOptions, watchers: Watchers, lease: Lease, signal: AbortSignal): Promise<{ readonly image: Image; readonly fetched: boolean }> {
    try {
      return await this.#pullFromRegistry(reference, credentials, watchers, lease, signal);
    } catch (error) {
      throwIfAborted(signal);
      // What a registry did give, and was no good, is no better elsewhere.
      if (!orFromCluster || reference.digest !== undefined || isCode(error, "Invalid")) throw error;
      const { peers, logger } = this.#options;
      const name = formatReference(reference);
      const remote = await peers?.findImage(name, signal);
      if (remote === undefined) throw error;
      logger.info("no registry gives an image, but another node does, where it was made or brought", { image: name, node: remote.node, err: describeError(error) });
      return { image: await this.#receive(remote, watchers, lease, signal), fetched: true };
    }
  }

  async #pullFromRegistry(reference: Reference, credentials: PullOptions["credentials"], watchers: Watchers, lease: Lease, signal: AbortSignal): Promise<{ readonly image: Image; readonly fetched: boolean }> {
    const name = formatReference(reference);
    const repository = this.#registry.repository(reference, credentials);
    const top = await repository.manifest(reference.digest ?? reference.tag, signal);
    const parsed = parseManifest(top.bytes, `${name}: manifest`, top.mediaType);
    const digest = parsed.kind === "index" ? this.#choose(name, parsed.manifests).digest : top.digest;
    lease.add(digest);
    if (this.#known.has(digest)) {
      await this.#index.set(this.#index.descriptor(digest), [name], "registry");
      const image = this.#image(digest)!;
      for (const layer of image.layers) watchers.forEach((w) => w.onLayer?.({ digest: layer.digest, status: "Already exists", currentBytes: layer.sizeBytes, totalBytes: layer.sizeBytes }));
      return { image, fetched: false };
    }
    const fetched = parsed.kind === "image" ? top : await repository.manifest(digest, signal);
    const manifest = parsed.kind === "image" ? parsed : parseManifest(fetched.bytes, `${name}: manifest ${digest}`, fetched.mediaType);
    if (manifest.kind !== "image") throw new GantryError("Invalid", `${name}: its index points to another index`);
    const descriptor: ManifestDescriptor = { digest, sizeBytes: fetched.bytes.length, mediaType: manifest.mediaType };
    await this.#content.write([fetched.bytes], { expected: digest });
    const progress = new Progress(manifest, watchers);
    const image = await this.#adopt(descriptor, [name], "registry", lease, signal, (blob, together) => this.#download(repository, blob, progress, together), progress);
    return { image, fetched: true };
  }

  #choose(name: string, manifests: readonly PlatformDescriptor[]): PlatformDescriptor {
    const chosen = choosePlatform(manifests, this.#platform);
    if (chosen !== undefined) return chosen;
    const there = manifests.filter(({ platform }) => platform.os !== "unknown" && platform.os !== "").map(({ platform }) => formatPlatform(platform));
    throw new GantryError("NotFound", `${name} has no image for ${formatPlatform(this.#platform)}, this node's platform; it has ${there.join(", ") || "none"}`);
  }

  /** One download per digest, however many images and pulls want it: from another node that has it or is about to, else from the registry. */
  async #download(repository: Repository | undefined, blob: Descriptor, progress: Progress, signal: AbortSignal, holder?: string): Promise<void> {
    if (!this.#content.has(blob.digest, blob.sizeBytes)) {
      progress.at(blob.digest, "Pulling fs layer", 0);
      await this.#downloads.run(blob.digest, signal, (shared) => this.#slots.run(async () => {
        throwIfAborted(shared);
        if (this.#content.has(blob.digest, blob.sizeBytes)) return;
        const ingest = await this.#content.resume(blob.digest, blob.sizeBytes);
        const report = (bytes: number): void => progress.at(blob.digest, "Downloading", bytes);
        if (await this.#fromPeers(ingest, report, shared, holder)) return;
        if (repository !== undefined) return repository.blob(ingest, shared, report);
        await ingest.close();
        throw new GantryError("ServiceUnavailable", `no other node gives the blob ${blob.digest}`);
      }));
    }
    progress.here(blob.digest, blob.sizeBytes);
  }

  /** True when it is here and committed. What broke off half-way is gone on with by the caller. */
  async #fromPeers(ingest: Ingest, report: (bytes: number) => void, signal: AbortSignal, holder: string | undefined): Promise<boolean> {
    const { peers } = this.#options;
    if (peers === undefined) return false;
    try {
      if (!(await peers.fill(ingest, { signal, onProgress: report, holder }))) return false;
      await ingest.commit();
      return true;
    } catch (error) {
      await ingest.close().catch(() => undefined);
      throw error;
    }
  }

  /** Makes an image of a manifest that is in the store: fetches and unpacks what is missing, then names it. */
  async #adopt(manifest: ManifestDescriptor, names: readonly string[], origin: NameOrigin | undefined, lease: Lease, signal: AbortSignal, fetch: Fetch, progress?: Progress): Promise<Image> {
    lease.add(manifest.digest);
    if (!this.#known.has(manifest.digest)) {
      const known = await this.#assemble(manifest, names[0] ?? manifest.digest, lease, signal, fetch, progress);
      this.#known.set(manifest.digest, known);
      if (!this.#byId.has(known.image.id)) this.#byId.set(known.image.id, manifest.digest);
      this.#metrics.images.set(this.#known.size);
    }
    await this.#index.set(manifest, names, origin);
    return this.#image(manifest.digest)!;
  }

  async #assemble(descriptor: ManifestDescriptor, name: string, lease: Lease, signal: AbortSignal, fetch: Fetch, progress?: Progress): Promise<Known> {
    const manifest = parseManifest(this.#content.read(descriptor.digest, MAX_MANIFEST_BYTES), `${name}: manifest ${descriptor.digest}`, descriptor.mediaType);
    if (manifest.kind !== "image") throw new GantryError("Invalid", `${name}: ${descriptor.digest} is an index, not an image`);
    for (const blob of [manifest.config, ...manifest.layers]) lease.add(blob.digest);
    // Layers come while the config does; when one fails, the others need not go on.
    const abort = new AbortController();
    const together = AbortSignal.any([signal, abort.signal]);
    const orAbort = async <T>(work: Promise<T>): Promise<T> => work.catch((error: unknown) => {
      abort.abort(error);
      throw error;
    });
    const configured = orAbort(fetch(manifest.config, together).then(() => {
      const config = parseConfig(this.#content.read(manifest.config.digest, MAX_CONFIG_BYTES), `${name}: config ${manifest.config.digest}`);
      if (config.diffIds.length !== manifest.layers.length) {
        throw new GantryError("Invalid", `${name}: the manifest has ${manifest.layers.length} layers, the config ${config.diffIds.length} diff_ids`);
      }
      if (config.architecture !== "" && (config.architecture !== this.#platform.architecture || (config.os !== "" && config.os !== this.#platform.os))) {
        throw new GantryError("NotFound", `${name} is for ${config.os || "linux"}/${config.architecture}; this node is ${formatPlatform(this.#platform)}`);
      }
      for (const diffId of config.diffIds) lease.add(diffId);
      return config;
    }));
    const unpacked = manifest.layers.map((layer, i) => orAbort((async () => {
      const unpack = async (): Promise<void> => {
        const wasThere = this.#content.has(layer.digest, layer.sizeBytes);
        if (!wasThere) this.#layers.expect(layer.sizeBytes);
        await fetch(layer, together);
        const diffId = (await configured).diffIds[i]!;
        const isUnpacked = this.#layers.has(diffId);
        if (!isUnpacked) progress?.at(layer.digest, "Extracting", layer.sizeBytes);
        await this.#layers.unpack(diffId, layer.digest, `${name}: layer ${i + 1} of ${manifest.layers.length} (${layer.digest})`, together);
        progress?.at(layer.digest, wasThere && isUnpacked ? "Already exists" : "Pull complete", layer.sizeBytes);
      };
      await unpack().catch(async (error: unknown) => {
        // Disks rot: a blob that is no longer what it was is fetched anew, once.
        if (!isCode(error, "Invalid") || !this.#content.has(layer.digest) || await this.#content.verify(layer.digest)) throw error;
        this.#options.logger.warn("an image layer was damaged on disk; it is fetched anew", { image: name, blob: layer.digest });
        await this.#content.delete(layer.digest);
        await unpack();
      });
    })()));
    const results = await Promise.allSettled([configured, ...unpacked]);
    if (signal.aborted) throwIfAborted(signal);
    // The first failure is what went wrong; the others were only cancelled by it.
    if (abort.signal.aborted) throw abort.signal.reason;
    const failed = results.find((r) => r.status === "rejected");
    if (failed !== undefined) throw failed.reason;
    const { architecture, config, diffIds, createdMs } = await configured;
    return {
      image: {
        id: manifest.config.digest, manifestDigest: descriptor.digest, manifestBytes: descriptor.sizeBytes, mediaType: manifest.mediaType, architecture, config, createdMs,
        layers: manifest.layers.map(({ digest, sizeBytes, mediaType }, i) => ({ digest, sizeBytes, mediaType, diffId: diffIds[i]! })),
        sizeBytes: descriptor.sizeBytes + [manifest.config, ...manifest.layers].reduce((sum, blob) => sum + blob.sizeBytes, 0),
        // A layer that occurs twice counts where it is uppermost; overlayfs refuses the same directory twice.
        layerDirs: diffIds.filter((diffId, i) => diffIds.lastIndexOf(diffId) === i).map((diffId) => this.#layers.directory(diffId)),
      },
      blobs: [descriptor.digest, manifest.config.digest, ...manifest.layers.map((layer) => layer.digest)],
      diffIds,
    };
  }

  /** After a start: images whose parts are all here; layers that are missing are unpacked anew from their blobs. */
  async #recover(): Promise<void> {
    for (const digest of this.#index.manifests()) {
      const names = this.#index.namesOf(digest);
      try {
        await this.#withLease((lease) => this.#adopt(this.#index.descriptor(digest), names, undefined, lease, this.#closing.signal, (blob) => {
          if (!this.#content.has(blob.digest, blob.sizeBytes)) throw new GantryError("NotFound", `blob ${blob.digest} is missing or cut short`);
          return Promise.resolve();
        }));
      } catch (error) {
        this.#options.logger.warn("an image is incomplete on disk; it is fetched anew when it is needed", { images: names, manifest: digest, err: describeError(error) });
      }
    }
  }

  #blobsOf(digest: Digest): readonly Digest[] {
    try {
      const manifest = parseManifest(this.#content.read(digest, MAX_MANIFEST_BYTES), digest);
      return manifest.kind === "image" ? [digest, manifest.config.digest, ...manifest.layers.map((layer) => layer.digest)] : [digest];
    } catch {
      return [digest];
    }
  }

  #forget(digest: Digest): void {
    const id = this.#known.get(digest)?.image.id;
    this.#known.delete(digest);
    if (id !== undefined && this.#byId.get(id) === digest) {
      this.#byId.delete(id);
      // The same config under another manifest (other compression) goes on to be found by its ID.
      for (const [other, known] of this.#known) if (known.image.id === id) this.#byId.set(id, other);
    }
    this.#metrics.images.set(this.#known.size);
  }

  #find(reference: string): Digest | undefined {
    const id = /^[0-9a-f]{64}$/.test(reference) ? `sha256:${reference}` : reference;
    if (isDigest(id)) return this.#known.has(id) ? id : this.#byId.get(id);
    const name = this.#normalized(reference);
    if (name === undefined) return undefined;
    const named = this.#index.digestOf(name);
    if (named !== undefined) return named;
    const digest = name.slice(name.indexOf("@") + 1);
    return isDigest(digest) && this.#known.has(digest) ? digest : undefined;
  }

  #normalized(reference: string): string | undefined {
    try {
      return formatReference(parseReference(reference));
    } catch {
      return undefined;
    }
  }

  #image(digest: Digest): Image | undefined {
    const known = this.#known.get(digest);
    return known === undefined ? undefined : { ...known.image, names: this.#index.namesOf(digest) };
  }

  #isLeased(digest: string): boolean {
    for (const lease of this.#leases) if (lease.has(digest)) return true;
    return false;
  }

  async #withLease<T>(work: (lease: Lease) => Promise<T>): Promise<T> {
    const lease: Lease = new Set();
    this.#leases.add(lease);
    try {
      return await work(lease);
    } catch (error) {
      // What the operating system says (a full disk, most likely) is this node's fault, not the image's.
      throw error instanceof GantryError ? error : new GantryError("InternalError", `image store ${this.#options.root}: ${describeError(error)}`, { cause: error });
    } finally {
      this.#leases.delete(lease);
    }
  }
}

class Progress {
  readonly #sizes: ReadonlyMap<Digest, number>;
  readonly #total: number;
  readonly #layers: ReadonlySet<Digest>;
  readonly #done = new Map<Digest, number>();
  readonly #watchers: Watchers;

  constructor({ config, layers }: Pick<Extract<Manifest, { kind: "image" }>, "config" | "layers">, watchers: Watchers) {
    this.#sizes = new Map([config, ...layers].map((blob) => [blob.digest, blob.sizeBytes]));
    this.#total = [...this.#sizes.values()].reduce((sum, size) => sum + size, 0);
    this.#layers = new Set(layers.map((layer) => layer.digest));
    this.#watchers = watchers;
  }

  at(digest: Digest, status: LayerProgress["status"], bytes: number): void {
    this.here(digest, bytes);
    if (!this.#layers.has(digest)) return;
    const layer = { digest, status, currentBytes: bytes, totalBytes: this.#sizes.get(digest) ?? 0 };
    for (const watcher of this.#watchers) watcher.onLayer?.(layer);
  }

  here(digest: Digest, bytes: number): void {
    this.#done.set(digest, bytes);
    const all = { bytes: [...this.#done.values()].reduce((sum, n) => sum + n, 0), totalBytes: this.#total };
    for (const watcher of this.#watchers) watcher.onProgress?.(all);
  }
}
