// Makes images out of directories on this node: for builds and commits. What it adds is in the store like anything pulled; a crash in between
// leaves only garbage.
import { createHash } from "node:crypto";
import { rm } from "node:fs/promises";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { GantryError } from "../../base/errors.ts";
import type { ContentStore } from "./content-store.ts";
import { digestOf, type Digest } from "./digest.ts";
import type { ManifestDescriptor } from "./image-index.ts";
import type { Image } from "./image-service.ts";
import { diffLayer, type LayerDiffOptions } from "./layer-diff.ts";
import type { LayerStore } from "./layer-store.ts";
import { encodeManifest, MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, MediaType, parseJsonObject, parseManifest, type Descriptor } from "./manifest.ts";

export interface MadeLayer {
  readonly diffId: Digest;
  readonly blob: Omit<Descriptor, "annotations">;
}

export type ConfigJson = Readonly<Record<string, unknown>>;

/** What an operation adds or holds through one stays until that operation ends, whatever garbage collection does. */
export interface ImageMaker {
  /** The image's config as it stands in its blob, and its layers, lowest first. */
  parts(image: Image): { readonly config: ConfigJson; readonly layers: readonly MadeLayer[] };
  /** Keeps a layer, if it is still here: blob and directory. */
  hold(layer: MadeLayer): boolean;
  /** An overlayfs lower directory. */
  directory(layer: MadeLayer): string;
  /**
   * A layer of an overlayfs upper directory that nothing writes to any more. `move`: the directory, which has to lie on the store's file system, becomes the unpacked
   * layer and is gone afterwards, also when this fails.
   */
  addLayer(directory: string, options: LayerDiffOptions & { readonly move: boolean; readonly signal: AbortSignal }): Promise<MadeLayer>;
  /** `config` without rootfs. The same parts always give the same image. */
  addImage(config: ConfigJson, layers: readonly MadeLayer[], names: readonly string[]): Promise<Image>;
}

export interface MakerContext {
  readonly content: ContentStore;
  readonly layers: LayerStore;
  readonly keep: (digest: Digest) => void;
  readonly adopt: (manifest: ManifestDescriptor, names: readonly string[]) => Promise<Image>;
}

/** Layers that are made here are read soon, on this node and others: speed counts more than the last tenth of size. */
const GZIP_LEVEL = 1;
const CHUNK_BYTES = 64 * 1024;

export const imageMaker = ({ content, layers, keep, adopt }: MakerContext): ImageMaker => {
  const hold = ({ diffId, blob }: MadeLayer): boolean => {
    keep(diffId);
    keep(blob.digest);
    return layers.has(diffId) && content.has(blob.digest, blob.sizeBytes);
  };

  /** What is here already (a build with everything cached) need not be synced to disk again. */
  const put = async (bytes: Buffer): Promise<{ readonly digest: Digest; readonly sizeBytes: number }> => {
    const digest = digestOf(bytes);
    keep(digest);
    if (!content.has(digest, bytes.length)) await content.write([bytes], { expected: digest });
    return { digest, sizeBytes: bytes.length };
  };

  const write = async (directory: string, options: LayerDiffOptions & { readonly signal: AbortSignal }): Promise<MadeLayer & { readonly bytes: number }> => {
    const hash = createHash("sha256");
    let bytes = 0;
    const hashed = async function* (): AsyncGenerator<Buffer, void> {
      for await (const piece of diffLayer(directory, options)) {
        hash.update(piece);
        bytes += piece.length;
        yield piece;
      }
    };
    const gzip = createGzip({ level: GZIP_LEVEL, chunkSize: CHUNK_BYTES });
    const fed = pipeline(Readable.from(hashed(), { objectMode: false }), gzip, { signal: options.signal });
    // Reported below; without a handler of its own it would count as unhandled meanwhile.
    fed.catch(() => undefined);
    const blob = await content.write(gzip as AsyncIterable<Uint8Array>, { onDigest: keep });
    await fed;
    const diffId: Digest = `sha256:${hash.digest("hex")}`;
    keep(diffId);
    return { diffId, blob: { mediaType: `${MediaType.ociLayer}+gzip`, ...blob }, bytes };
  };

  return {
    hold,
    directory: ({ diffId }) => layers.directory(diffId),
    parts: (image) => {
      const manifest = parseManifest(content.read(image.manifestDigest as Digest, MAX_MANIFEST_BYTES), `manifest ${image.manifestDigest}`);
      if (manifest.kind !== "image") throw new GantryError("Invalid", `${image.manifestDigest} is an index, not an image`);
      const config = parseJsonObject(content.read(manifest.config.digest, MAX_CONFIG_BYTES), `config ${manifest.config.digest}`);
      const diffIds = (config["rootfs"] as { readonly diff_ids?: readonly Digest[] }).diff_ids ?? [];
      const parts = manifest.layers.map(({ mediaType, digest, sizeBytes }, i): MadeLayer => ({ diffId: diffIds[i]!, blob: { mediaType, digest, sizeBytes } }));
      keep(manifest.config.digest);
      if (!parts.map(hold).every(Boolean)) throw new GantryError("NotFound", `layers of the image ${image.names[0] ?? image.id} were removed from this node meanwhile`);
      return { config, layers: parts };
    },
    addLayer: async (directory, options) => {
      try {
        const { bytes, ...layer } = await write(directory, options);
        if (options.move) await layers.adopt(layer.diffId, directory, bytes);
        else await layers.unpack(layer.diffId, layer.blob.digest, `layer ${layer.diffId}`, options.signal);
        return layer;
      } finally {
        if (options.move) await rm(directory, { recursive: true, force: true });
      }
    },
    addImage: async (config, parts, names) => {
      const bytes = Buffer.from(JSON.stringify({ ...config, rootfs: { type: "layers", diff_ids: parts.map((layer) => layer.diffId) } }));
      const configBlob = await put(bytes);
      const manifest: ManifestDescriptor = { ...(await put(encodeManifest({ mediaType: MediaType.ociConfig, ...configBlob }, parts.map((layer) => layer.blob)))), mediaType: MediaType.ociManifest };
      return adopt(manifest, names);
    },
  };
};
