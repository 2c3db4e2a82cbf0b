// Pushes one image: its layers side by side, then the config, then the manifest, so that what a registry names is always whole.
import type { ContentStore } from "./content-store.ts";
import type { Digest } from "./digest.ts";
import type { Image, LayerProgress } from "./image-service.ts";
import { MAX_MANIFEST_BYTES } from "./manifest.ts";
import type { PushTarget } from "./registry-client.ts";
import type { Slots } from "./shared-task.ts";

export interface PushOptions {
  readonly image: Image;
  readonly content: ContentStore;
  readonly target: PushTarget;
  /** Tag. */
  readonly selector: string;
  readonly slots: Slots;
  readonly signal: AbortSignal;
  readonly mountFrom: (digest: Digest) => readonly string[];
  readonly onLayer: (progress: LayerProgress) => void;
}

export const pushImage = async ({ image, content, target, selector, slots, signal, mountFrom, onLayer }: PushOptions): Promise<void> => {
  const abort = new AbortController();
  const together = AbortSignal.any([signal, abort.signal]);
  const push = (digest: Digest, sizeBytes: number, onProgress: (bytes: number) => void): ReturnType<PushTarget["blob"]> =>
    target.blob({ digest, sizeBytes, read: (start, end) => content.stream(digest, start, end) }, mountFrom(digest), together, onProgress);
  const unique = [...new Map(image.layers.map((layer) => [layer.digest, layer])).values()];
  const layers = unique.map(async ({ digest, sizeBytes }) => {
    const say = (status: LayerProgress["status"], currentBytes: number): void => onLayer({ digest, status, currentBytes, totalBytes: sizeBytes });
    say("Preparing", 0);
    try {
      const how = await slots.run(() => push(digest, sizeBytes, (bytes) => say("Pushing", bytes)));
      say(how === "exists" ? "Layer already exists" : how === "mounted" ? "Mounted from another repository" : "Pushed", sizeBytes);
    } catch (error) {
      // The others need not go on.
      abort.abort(error);
      throw error;
    }
  });
  const results = await Promise.allSettled(layers);
  if (abort.signal.aborted && !signal.aborted) throw abort.signal.reason;
  const failed = results.find((r) => r.status === "rejected");
  if (failed !== undefined) throw failed.reason;
  await push(image.id as Digest, content.sizeBytes(image.id as Digest), () => undefined);
  await target.manifest(selector, content.read(image.manifestDigest as Digest, MAX_MANIFEST_BYTES), image.mediaType, signal);
};
