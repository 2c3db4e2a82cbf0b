// Serves what the control plane asks about this node's images, on a stream: progress as it comes, then one report.
import { readdir, lstat } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { GantryError } from "../../base/errors.ts";
import { matchesLabelFilters } from "./label-filters.ts";
import type { ImagePruneRequest, ImageProgress, ImageRecord, ImageReport, ImageRemoveRequest, ImageRequest, ImageUsage, StreamFrame } from "../../proto/gen/gantry/v1/agent.ts";
import { parseDigest } from "../images/digest.ts";
import { planRemoval } from "../images/image-removal.ts";
import type { Image, ImageService, LayerProgress } from "../images/image-service.ts";
import { familiarName, formatReference, parseReference } from "../images/reference.ts";
import type { PodService } from "../pods/pod-service.ts";

export interface ImageRequestContext {
  readonly images: ImageService;
  readonly pods: Pick<PodService, "imageUsers" | "statuses">;
  readonly clock: Clock;
  /** Writable layers of containers, and named volumes: a folder for each, measured for disk usage. */
  readonly directories: { readonly containers: string; readonly volumes: string; readonly builds: string };
}

/** A frame may have 64 KiB of data. */
const FRAME_BYTES = 64 * 1024;
/** Bytes of a layer are told this often at most; changes of its state always. */
const PROGRESS_PERIOD_MS = 100;

const report = (parts: Partial<ImageReport>): ImageReport => ({ images: [], untagged: [], deleted: [], freedBytes: 0, usage: undefined, config: Buffer.alloc(0), ...parts });

/** Sends the newest state of each layer; what a slow reader missed meanwhile is left out. */
class ProgressSender {
  readonly #send: (frame: StreamFrame) => Promise<void>;
  readonly #clock: Clock;
  readonly #waiting = new Map<string, ImageProgress>();
  readonly #sent = new Map<string, { readonly status: string; readonly atMs: number }>();
  #pumping: Promise<void> | undefined;

  constructor(send: (frame: StreamFrame) => Promise<void>, clock: Clock) {
    this.#send = send;
    this.#clock = clock;
  }

  layer = ({ digest, status, currentBytes, totalBytes }: LayerProgress): void => {
    const last = this.#sent.get(digest);
    const nowMs = this.#clock.monotonicMs();
    if (last?.status === status && nowMs - last.atMs < PROGRESS_PERIOD_MS) return;
    this.#sent.set(digest, { status, atMs: nowMs });
    this.#waiting.set(digest, { id: digest, status, currentBytes, totalBytes });
    this.#pumping ??= this.#pump();
  };

  async #pump(): Promise<void> {
    try {
      while (this.#waiting.size > 0) {
        const batch = [...this.#waiting.values()];
        this.#waiting.clear();
        for (const value of batch) await this.#send({ frame: { $case: "imageProgress", value } });
      }
    } catch {
      // Nobody listens any more: the operation itself is cancelled by the same event.
    } finally {
      this.#pumping = undefined;
    }
  }

  /** Resolves when everything was sent. */
  async done(): Promise<void> {
    await this.#pumping;
  }
}

/** By name, digest, ID, or the beginning of an ID, as users give it. Errors: "NotFound", "Conflict". */
export const findImage = (images: Pick<ImageService, "resolve" | "list">, reference: string): { readonly image: Image; readonly name: string | undefined } => {
  const direct = images.resolve(reference);
  if (direct !== undefined) {
    let name: string | undefined;
    try {
      name = formatReference(parseReference(reference));
    } catch {
      name = undefined;
    }
    return { image: direct, name: name !== undefined && direct.names.includes(name) ? name : undefined };
  }
  const prefix = /^(?:sha256:)?([0-9a-f]{2,64})$/.exec(reference)?.[1];
  const found = prefix === undefined ? [] : [...new Map(images.list().filter((image) => image.id.startsWith(`sha256:${prefix}`)).map((image) => [image.id, image])).values()];
  if (found.length > 1) throw new GantryError("Conflict", `${JSON.stringify(reference)} is the beginning of several image IDs: ${found.map((image) => image.id.slice(7, 19)).join(", ")}`);
  if (found[0] === undefined) throw new GantryError("NotFound", `No such image: ${reference}`);
  return { image: found[0], name: undefined };
};

const usersOf = (users: ReturnType<PodService["imageUsers"]>): ReadonlyMap<string, readonly string[]> => {
  const byImage = new Map<string, string[]>();
  for (const { imageId, container } of users) byImage.set(imageId, [...(byImage.get(imageId) ?? []), container]);
  return byImage;
};

const record = (image: Image, images: ImageService, users: readonly string[]): ImageRecord => ({
  id: image.id, manifestDigest: image.manifestDigest, names: [...image.names], sizeBytes: image.sizeBytes, createdMs: image.createdMs, architecture: image.architecture,
  labels: { ...image.config.labels }, usedBy: [...users], mediaType: image.mediaType, manifestBytes: image.manifestBytes,
  layers: image.layers.map((layer) => ({ digest: layer.digest, diffId: layer.diffId, sizeBytes: layer.sizeBytes, diskBytes: images.layerBytes(layer) })),
});

const remove = async ({ references, force, noPrune }: ImageRemoveRequest, { images, pods }: ImageRequestContext): Promise<ImageReport> => {
  const untagged: string[] = [];
  const deleted: string[] = [];
  let freedBytes = 0;
  for (const reference of references) {
    const { image, name } = findImage(images, reference);
    const plan = planRemoval(reference, image, name, usersOf(pods.imageUsers()).get(image.id) ?? [], force);
    await images.untag(plan.untag);
    untagged.push(...plan.untag.map(familiarName));
    if (!plan.isLast || noPrune) continue;
    freedBytes += await images.collectGarbage(new Set(pods.imageUsers().map((u) => u.imageId)), (other) => other.manifestDigest !== image.manifestDigest);
    if (!images.list().some((other) => other.manifestDigest === image.manifestDigest)) deleted.push(image.id);
  }
  return report({ untagged, deleted, freedBytes });
};

const prune = async ({ all, untilMs, labels }: ImagePruneRequest, { images, pods }: ImageRequestContext): Promise<ImageReport> => {
  const inUse = (): ReadonlySet<string> => new Set(pods.imageUsers().map((u) => u.imageId));
  const isMeant = (image: Image): boolean => (untilMs === 0 || image.createdMs < untilMs) && matchesLabelFilters(image.config.labels, labels);
  const before = images.list();
  const used = inUse();
  const named = all ? before.filter((image) => image.names.length > 0 && !used.has(image.id) && isMeant(image)) : [];
  const names = named.flatMap((image) => image.names);
  await images.untag(names);
  const freedBytes = await images.collectGarbage(inUse(), (image) => !isMeant(image));
  const left = new Set(images.list().map((image) => image.manifestDigest));
  return report({ untagged: names.map(familiarName), deleted: before.filter((image) => !left.has(image.manifestDigest)).map((image) => image.id), freedBytes });
};

const directoryBytes = async (path: string): Promise<number> => {
  const stat = await lstat(path).catch(() => undefined);
  if (stat === undefined) return 0;
  if (!stat.isDirectory()) return stat.blocks * 512;
  let bytes = 0;
  for (const name of await readdir(path).catch(() => [])) bytes += await directoryBytes(join(path, name));
  return bytes;
};

const usage = async ({ images, pods, directories }: ImageRequestContext): Promise<ImageUsage> => {
  const store = await images.usage(new Set(pods.imageUsers().map((u) => u.imageId)));
  const containers = pods.statuses().flatMap((status) => [...status.initContainers, ...status.containers]);
  const active = containers.filter((c) => c.state?.state?.$case === "running").length;
  const volumes = await readdir(directories.volumes).catch(() => []);
  return {
    images: store.images, activeImages: store.activeImages, bytes: store.bytes, reclaimableBytes: store.reclaimableBytes,
    containers: containers.length, activeContainers: active, containerBytes: await directoryBytes(directories.containers), reclaimableContainerBytes: 0,
    volumes: volumes.length, activeVolumes: 0, volumeBytes: await directoryBytes(directories.volumes), buildCacheBytes: await directoryBytes(directories.builds),
  };
};

/** Resolves when everything was sent but the stream's result. Errors: those of the image service. */
export const serveImageRequest = async (request: ImageRequest, send: (frame: StreamFrame) => Promise<void>, signal: AbortSignal, context: ImageRequestContext): Promise<void> => {
  const { images, pods, clock } = context;
  const { action } = request;
  const answer = (value: ImageReport): Promise<void> => send({ frame: { $case: "imageReport", value } });
  const records = (list: readonly Image[]): ImageRecord[] => {
    const users = usersOf(pods.imageUsers());
    return list.map((image) => record(image, images, users.get(image.id) ?? []));
  };
  const progress = new ProgressSender(send, clock);
  const withProgress = async (work: Promise<Image>): Promise<void> => {
    let image: Image;
    try {
      image = await work;
    } finally {
      await progress.done();
    }
    await answer(report({ images: records([image]) }));
  };
  switch (action?.$case) {
    case "list":
      return answer(report({ images: records(images.list()) }));
    case "pull":
      return withProgress(images.pull(action.value.reference, { credentials: action.value.credentials, signal, onLayer: progress.layer }));
    case "push": {
      const { reference, credentials, allTags } = action.value;
      const options = { credentials, signal, onLayer: progress.layer };
      if (!allTags) return withProgress(images.push(reference, options));
      const { registry, repository } = parseReference(reference);
      const prefix = `${registry}/${repository}:`;
      const names = images.list().flatMap((image) => image.names).filter((name) => name.startsWith(prefix)).sort();
      if (names.length === 0) throw new GantryError("NotFound", `no image of the repository ${familiarName(prefix.slice(0, -1))} is on this node`);
      const pushed: Image[] = [];
      try {
        for (const name of names) pushed.push(await images.push(name, options));
      } finally {
        await progress.done();
      }
      return answer(report({ images: records(pushed) }));
    }
    case "tag":
      return answer(report({ images: records([await images.tag(findImage(images, action.value.source).image.id, action.value.target)]) }));
    case "remove":
      return answer(await remove(action.value, context));
    case "save": {
      const found = action.value.references.map((reference) => {
        const { image, name } = findImage(images, reference);
        return name ?? image.id;
      });
      for await (const chunk of images.save(found)) {
        for (let at = 0; at < chunk.length; at += FRAME_BYTES) await send({ frame: { $case: "stdout", value: Buffer.from(chunk.subarray(at, at + FRAME_BYTES)) } });
      }
      return;
    }
    case "inspect": {
      const { image } = findImage(images, action.value.reference);
      return answer(report({ images: records([image]), config: Buffer.from(JSON.stringify(images.configOf(image))) }));
    }
    case "prune":
      return answer(await prune(action.value, context));
    case "usage":
      return answer(report({ usage: await usage(context) }));
    case "receive": {
      const { names, manifestDigest, manifestBytes, mediaType, fromNode } = action.value;
      return withProgress(images.receive({ names, manifestDigest: parseDigest(manifestDigest, "manifest_digest"), manifestBytes, mediaType, node: fromNode }, { signal, onLayer: progress.layer }));
    }
    case undefined:
      throw new GantryError("MethodNotAllowed", "this node does not know how to do that with images: the control plane is newer than its agent");
  }
};
