// Makes small images in memory, as OCI archives: the example image and those of tests. Pure, reproducible.
import { createHash } from "node:crypto";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { digestOf, hexOf, type Digest } from "./digest.ts";
import { REF_NAME } from "./image-index.ts";
import { encodeManifest, MediaType } from "./manifest.ts";
import { writeTar, type TarInput } from "./tar-writer.ts";

export type Compression = "none" | "gzip" | "zstd";

export interface ImageInput {
  /** In the index's annotation; none when absent. */
  readonly name?: string;
  readonly architecture: string;
  /** Each a tar, lowest first. */
  readonly layers: readonly Uint8Array[];
  readonly compression?: Compression;
  /** The "config" of the image config: Cmd, Env, ... */
  readonly config?: Readonly<Record<string, unknown>>;
}

export interface BuiltImage {
  readonly manifestDigest: Digest;
  readonly configDigest: Digest;
  readonly manifest: Buffer;
  readonly config: Buffer;
  /** As compressed. */
  readonly layers: readonly Buffer[];
  readonly diffIds: readonly Digest[];
  /** Everything by digest: manifest, config, layers. */
  readonly blobs: ReadonlyMap<Digest, Buffer>;
}

export const buildImage = ({ architecture, layers, compression = "gzip", config = {} }: ImageInput): BuiltImage => {
  const compress = (tar: Uint8Array): Buffer => (compression === "gzip" ? gzipSync(tar, { level: 9 }) : compression === "zstd" ? zstdCompressSync(tar) : Buffer.from(tar));
  const diffIds = layers.map((tar): Digest => `sha256:${createHash("sha256").update(tar).digest("hex")}`);
  const packed = layers.map(compress);
  const configBytes = Buffer.from(JSON.stringify({ architecture, os: "linux", config, rootfs: { type: "layers", diff_ids: diffIds } }));
  const suffix = compression === "none" ? "" : `+${compression}`;
  const manifest = encodeManifest(
    { mediaType: MediaType.ociConfig, digest: digestOf(configBytes), sizeBytes: configBytes.length },
    packed.map((bytes) => ({ mediaType: MediaType.ociLayer + suffix, digest: digestOf(bytes), sizeBytes: bytes.length })),
  );
  return {
    manifestDigest: digestOf(manifest), configDigest: digestOf(configBytes), manifest, config: configBytes, layers: packed, diffIds,
    blobs: new Map([manifest, configBytes, ...packed].map((bytes) => [digestOf(bytes), bytes])),
  };
};

/** The files of an OCI image layout that holds `images`, under their names. */
export const ociLayout = (images: readonly { readonly name?: string; readonly image: BuiltImage }[]): readonly TarInput[] => {
  const manifests = images.map(({ name, image }) => ({
    mediaType: MediaType.ociManifest, digest: image.manifestDigest, size: image.manifest.length,
    ...(name === undefined ? {} : { annotations: { [REF_NAME]: name } }),
  }));
  const blobs = new Map(images.flatMap(({ image }) => [...image.blobs]));
  return [
    { path: "oci-layout", content: JSON.stringify({ imageLayoutVersion: "1.0.0" }) },
    { path: "index.json", content: JSON.stringify({ schemaVersion: 2, mediaType: MediaType.ociIndex, manifests }) },
    { path: "blobs/", type: "directory" },
    { path: "blobs/sha256/", type: "directory" },
    ...[...blobs].map(([digest, bytes]) => ({ path: `blobs/sha256/${hexOf(digest)}`, content: bytes })),
  ];
};

export const ociArchive = (images: readonly { readonly name?: string; readonly image: BuiltImage }[]): Buffer => writeTar(ociLayout(images));
