// Reads an image archive into the content store: a tar of an OCI image layout (image-layout.md) or of `docker save` (docker image spec 1.2,
// "Combined Image JSON + Filesystem Changeset Format"), perhaps compressed. Streamed: blobs go straight to disk, in whatever order they come.
import { posix } from "node:path";
import { GantryError } from "../../base/errors.ts";
import type { ContentStore } from "./content-store.ts";
import { decompressed } from "./decompress.ts";
import { digestOf, hexOf, isDigest, type Digest } from "./digest.ts";
import { REF_NAME, type ManifestDescriptor } from "./image-index.ts";
import { encodeManifest, MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, MediaType, parseManifest, type Descriptor, type PlatformDescriptor } from "./manifest.ts";
import { choosePlatform, formatPlatform, type Platform } from "./platform.ts";
import { formatReference, parseReference } from "./reference.ts";
import { TarReader } from "./tar.ts";

export interface ArchivedImage {
  readonly manifest: ManifestDescriptor;
  /** Normalized; empty when the archive names it nowhere. */
  readonly names: readonly string[];
}

/** containerd's and Docker's annotation for the full name; REF_NAME then holds only the tag. */
const CONTAINERD_NAME = "io.containerd.image.name";
const BLOB = /^blobs\/(sha256|sha512)\/([0-9a-f]+)$/;
/** Files of docker archives that hold configs and layers. */
const DOCKER_BLOB = /\.(?:json|tar|tar\.gz|tgz|tar\.zst)$/;
/** An index may point to indexes; real ones do so once. */
const MAX_INDEX_DEPTH = 3;
const WHAT = "the image archive";

interface Contents {
  readonly ociIndex: Buffer | undefined;
  readonly dockerManifest: Buffer | undefined;
  /** Digests of the files that are not named by theirs. */
  readonly files: ReadonlyMap<string, Digest>;
  readonly links: ReadonlyMap<string, string>;
}

/**
 * The images for `host` in the archive; `fallbackName` is for the one without a name. Their blobs are in the store afterwards; `keep` is told of each before the next is read, so that
 * no garbage collection takes it meanwhile. Errors: "Invalid", "NotFound" (no image for this platform), "RequestEntityTooLarge".
 */
export const readArchive = async (
  archive: AsyncIterable<Uint8Array>, content: ContentStore, host: Platform, keep: (digest: Digest) => void, fallbackName?: string,
): Promise<readonly ArchivedImage[]> => {
  const fallback = fallbackName === undefined ? undefined : formatReference(parseReference(fallbackName));
  const contents = await readContents(archive, content, keep);
  const tagged = contents.dockerManifest === undefined ? [] : dockerImages(contents.dockerManifest, contents, content);
  if (contents.ociIndex !== undefined) {
    const images = ociImages(contents.ociIndex, content, host, fallback !== undefined).map(({ manifest, names }) => {
      if (names.length > 0) return { manifest, names };
      const parsed = parseManifest(content.read(manifest.digest, MAX_MANIFEST_BYTES), `manifest ${manifest.digest}`, manifest.mediaType);
      const config = parsed.kind === "image" ? parsed.config.digest : undefined;
      return { manifest, names: tagged.find((image) => image.config === config)?.names ?? [] };
    });
    return withFallback(images, fallback);
  }
  if (contents.dockerManifest === undefined) {
    throw new GantryError("Invalid", `${WHAT} has neither an index.json (OCI image layout) nor a manifest.json (docker save): make one with "docker save", "podman save" or "skopeo copy ... oci-archive:FILE:NAME"`);
  }
  const images: ArchivedImage[] = [];
  for (const { config, layers, names } of tagged) {
    const descriptor = (digest: Digest, mediaType: string): Omit<Descriptor, "annotations"> => ({ mediaType, digest, sizeBytes: content.sizeBytes(digest) });
    const bytes = encodeManifest(descriptor(config, MediaType.ociConfig), layers.map((layer) => descriptor(layer, layerType(content.head(layer, 4)))));
    keep(digestOf(bytes));
    images.push({ manifest: { ...(await content.put(bytes)), mediaType: MediaType.ociManifest }, names });
  }
  return withFallback(images, fallback);
};

const withFallback = (images: readonly ArchivedImage[], name: string | undefined): readonly ArchivedImage[] => {
  if (name === undefined) return images;
  const unnamed = images.filter((image) => image.names.length === 0);
  if (unnamed.length > 1) throw new GantryError("Invalid", `${WHAT} has ${unnamed.length} images without a name; ${JSON.stringify(name)} can be given to only one`);
  return images.map((image) => (image.names.length === 0 ? { ...image, names: [name] } : image));
};

const readContents = async (archive: AsyncIterable<Uint8Array>, content: ContentStore, keep: (digest: Digest) => void): Promise<Contents> => {
  const tar = new TarReader(decompressed(archive, WHAT), WHAT);
  const files = new Map<string, Digest>();
  const links = new Map<string, string>();
  let ociIndex: Buffer | undefined;
  let dockerManifest: Buffer | undefined;
  try {
    for (let entry = await tar.next(); entry !== undefined; entry = await tar.next()) {
      const path = posix.normalize(entry.path);
      // `docker save` of old stores a layer once and links to it (../OTHER/layer.tar) elsewhere.
      if (entry.type === "symlink") links.set(path, posix.join(posix.dirname(path), entry.linkPath));
      else if (entry.type === "hardlink") links.set(path, posix.normalize(entry.linkPath));
      if (entry.type !== "file") continue;
      const what = `${WHAT}, ${path}`;
      const blob = BLOB.exec(path);
      if (path === "index.json") ociIndex = await tar.bytes(MAX_MANIFEST_BYTES);
      else if (path === "manifest.json") dockerManifest = await tar.bytes(MAX_MANIFEST_BYTES);
      else if (blob !== null) {
        const digest = `${blob[1]}:${blob[2]}`;
        if (!isDigest(digest)) throw new GantryError("Invalid", `${what}: the file's name is not a digest`);
        keep(digest);
        await content.ensureSpace(entry.sizeBytes, what);
        // Also when it is here already: it replaces one that was damaged on disk.
        await content.write(tar.content(), { expected: digest, what: `${WHAT}, blob` });
      } else if (DOCKER_BLOB.test(path)) {
        await content.ensureSpace(entry.sizeBytes, what);
        const { digest } = await content.write(tar.content(), { onDigest: keep });
        files.set(path, digest);
      }
    }
  } finally {
    await tar.close();
  }
  return { ociIndex, dockerManifest, files, links };
};

/** A bare word in REF_NAME may be a name (skopeo, "busybox") or only a tag ("v1"): it is a name unless the caller has one to give. */
const ociImages = (indexBytes: Buffer, content: ContentStore, host: Platform, haveFallback: boolean): readonly ArchivedImage[] => {
  const index = parseManifest(indexBytes, `${WHAT}, index.json`, MediaType.ociIndex);
  if (index.kind !== "index") throw new GantryError("Invalid", `${WHAT}, index.json is not an image index`);
  // One name may stand at several manifests, one for each platform.
  const byName = new Map<string, PlatformDescriptor[]>();
  for (const descriptor of index.manifests) {
    const refName = descriptor.annotations[REF_NAME];
    const name = descriptor.annotations[CONTAINERD_NAME] ?? (refName === undefined || (haveFallback && /^[\w.-]+$/.test(refName)) ? `@${descriptor.digest}` : refName);
    byName.set(name, [...(byName.get(name) ?? []), descriptor]);
  }
  return [...byName].flatMap(([name, descriptors]) => {
    const chosen = descriptors.length === 1 ? descriptors[0] : choosePlatform(descriptors, host);
    const manifest = chosen === undefined ? undefined : selectManifest(chosen, content, host, 0);
    if (manifest === undefined) {
      // An archive of several images need not have each of them for every platform, one of a single image does.
      if (byName.size > 1) return [];
      throw new GantryError("NotFound", `${WHAT} has no image for ${formatPlatform(host)}; it has ${[...platformsOf(descriptors, content)].join(", ") || "none"}`);
    }
    return [{ manifest, names: name.startsWith("@") ? [] : [formatReference(parseReference(name))] }];
  });
};

/** Follows indexes down to the image manifest for `host`; undefined when there is none. */
const selectManifest = (descriptor: Descriptor, content: ContentStore, host: Platform, depth: number): ManifestDescriptor | undefined => {
  if (depth > MAX_INDEX_DEPTH) throw new GantryError("Invalid", `${WHAT}: indexes are nested more than ${MAX_INDEX_DEPTH} deep`);
  if (!content.has(descriptor.digest)) throw new GantryError("Invalid", `${WHAT} lacks the blob ${descriptor.digest} that its index names: it is incomplete`);
  const manifest = parseManifest(content.read(descriptor.digest, MAX_MANIFEST_BYTES), `${WHAT}, manifest ${descriptor.digest}`, descriptor.mediaType);
  if (manifest.kind === "image") {
    return { digest: descriptor.digest, sizeBytes: content.sizeBytes(descriptor.digest), mediaType: manifest.mediaType };
  }
  const chosen = choosePlatform(manifest.manifests, host);
  return chosen === undefined ? undefined : selectManifest(chosen, content, host, depth + 1);
};

const platformsOf = (descriptors: readonly PlatformDescriptor[], content: ContentStore): ReadonlySet<string> => {
  const found = new Set<string>();
  for (const d of descriptors) {
    if (d.platform.os !== "") found.add(formatPlatform(d.platform));
    const nested = content.has(d.digest) ? parseManifest(content.read(d.digest, MAX_MANIFEST_BYTES), WHAT, d.mediaType) : undefined;
    if (nested?.kind !== "index") continue;
    for (const m of nested.manifests) {
      if (m.platform.os !== "" && m.platform.os !== "unknown") found.add(formatPlatform(m.platform));
    }
  }
  return found;
};

interface DockerImage {
  readonly config: Digest;
  readonly layers: readonly Digest[];
  readonly names: readonly string[];
}

const dockerImages = (bytes: Buffer, contents: Contents, content: ContentStore): readonly DockerImage[] => {
  const what = `${WHAT}, manifest.json`;
  let parsed: unknown;
  try {
    parsed = JSON.parse(bytes.toString("utf8"));
  } catch (cause) {
    throw new GantryError("Invalid", `${what} is not JSON`, { cause });
  }
  if (!Array.isArray(parsed)) throw new GantryError("Invalid", `${what} is not a list of images`);
  const digestAt = (path: unknown): Digest => {
    let at = typeof path === "string" ? posix.normalize(path) : "";
    for (let hops = 0; contents.links.has(at) && hops < 40; hops++) at = contents.links.get(at)!;
    const blob = BLOB.exec(at);
    const digest = contents.files.get(at) ?? (blob === null ? undefined : `${blob[1]}:${blob[2]}`);
    if (digest === undefined || !isDigest(digest) || !content.has(digest)) {
      throw new GantryError("Invalid", `${what} names the file ${JSON.stringify(path)}, which the archive lacks: it is incomplete`);
    }
    return digest;
  };
  return (parsed as { Config?: unknown; Layers?: unknown; RepoTags?: unknown }[]).map((image) => {
    const config = digestAt(image.Config);
    if (content.sizeBytes(config) > MAX_CONFIG_BYTES) throw new GantryError("Invalid", `${what}: the config ${String(image.Config)} has ${content.sizeBytes(config)} bytes`);
    // A config's file name is its digest.
    const stated = /^([0-9a-f]{64})\.json$/.exec(String(image.Config))?.[1];
    if (stated !== undefined && stated !== hexOf(config)) {
      throw new GantryError("Invalid", `${WHAT}: the config ${String(image.Config)} has the digest ${config}: it is damaged or was tampered with`);
    }
    const tags = Array.isArray(image.RepoTags) ? image.RepoTags : [];
    return {
      config,
      layers: (Array.isArray(image.Layers) ? image.Layers : []).map(digestAt),
      names: tags.map((tag) => formatReference(parseReference(String(tag)))),
    };
  });
};

const layerType = (head: Uint8Array): string => {
  if (head[0] === 0x1f && head[1] === 0x8b) return `${MediaType.ociLayer}+gzip`;
  return head[0] === 0x28 && head[1] === 0xb5 && head[2] === 0x2f && head[3] === 0xfd ? `${MediaType.ociLayer}+zstd` : MediaType.ociLayer;
};
