// Writes images as one archive that is an OCI image layout and what `docker save` writes since version 25 at once: blobs by digest, index.json for
// OCI's readers, manifest.json for docker's. Streamed; always the same bytes for the same images.
// https://github.com/opencontainers/image-spec/blob/main/image-layout.md
import type { ContentStore } from "./content-store.ts";
import { algorithmOf, hexOf, type Digest } from "./digest.ts";
import { REF_NAME } from "./image-index.ts";
import type { Image } from "./image-service.ts";
import { MediaType } from "./manifest.ts";
import { familiarName } from "./reference.ts";
import { TAR_END, tarHead, tarPadding } from "./tar-writer.ts";

export interface SavedImage {
  readonly image: Image;
  /** Normalized; none when it was asked for by ID. */
  readonly names: readonly string[];
}

const CONTAINERD_NAME = "io.containerd.image.name";
const blobPath = (digest: Digest): string => `blobs/${algorithmOf(digest)}/${hexOf(digest)}`;
const tagOf = (name: string): string => name.slice(name.lastIndexOf(":") + 1);

export async function* imageArchive(saved: readonly SavedImage[], content: ContentStore): AsyncGenerator<Uint8Array, void> {
  const byManifest = new Map<string, { readonly image: Image; readonly names: Set<string> }>();
  for (const { image, names } of saved) {
    const entry = byManifest.get(image.manifestDigest) ?? { image, names: new Set() };
    byManifest.set(image.manifestDigest, entry);
    for (const name of names) entry.names.add(name);
  }
  const images = [...byManifest.values()];
  const file = (path: string, value: unknown): readonly Uint8Array[] => {
    const bytes = Buffer.from(JSON.stringify(value));
    return [tarHead({ path }, bytes.length), bytes, tarPadding(bytes.length)];
  };
  for (const path of ["blobs/", "blobs/sha256/"]) yield tarHead({ path, type: "directory" }, 0);
  const blobs = new Set(images.flatMap(({ image }) => [image.manifestDigest as Digest, image.id as Digest, ...image.layers.map((layer) => layer.digest)]));
  for (const digest of blobs) {
    const size = content.sizeBytes(digest);
    yield tarHead({ path: blobPath(digest) }, size);
    yield* content.stream(digest);
    yield tarPadding(size);
  }
  const manifests = images.flatMap(({ image, names }) => {
    const descriptor = { mediaType: image.mediaType, digest: image.manifestDigest, size: image.manifestBytes };
    return names.size === 0 ? [descriptor] : [...names].map((name) => ({ ...descriptor, annotations: { [CONTAINERD_NAME]: name, [REF_NAME]: tagOf(name) } }));
  });
  yield* file("index.json", { schemaVersion: 2, mediaType: MediaType.ociIndex, manifests });
  yield* file("manifest.json", images.map(({ image, names }) => ({
    Config: blobPath(image.id as Digest), RepoTags: names.size === 0 ? null : [...names].map(familiarName), Layers: image.layers.map((layer) => blobPath(layer.digest)),
  })));
  yield* file("oci-layout", { imageLayoutVersion: "1.0.0" });
  yield TAR_END;
}
