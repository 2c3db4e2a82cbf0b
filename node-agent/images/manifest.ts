// Reads manifests, indexes and configs: OCI image-spec 1.1 and Docker's schema 2. Pure. What comes in is a stranger's: every field is checked.
import { GantryError } from "../../base/errors.ts";
import type { ImageConfig } from "./image-service.ts";
import { parseDigest, type Digest } from "./digest.ts";
import type { Platform } from "./platform.ts";

export const MediaType = {
  ociIndex: "application/vnd.oci.image.index.v1+json",
  ociManifest: "application/vnd.oci.image.manifest.v1+json",
  ociConfig: "application/vnd.oci.image.config.v1+json",
  ociLayer: "application/vnd.oci.image.layer.v1.tar",
  dockerList: "application/vnd.docker.distribution.manifest.list.v2+json",
  dockerManifest: "application/vnd.docker.distribution.manifest.v2+json",
  dockerConfig: "application/vnd.docker.container.image.v1+json",
} as const;

/** What a registry is asked for, the newest first. */
export const ACCEPTED_MANIFESTS: readonly string[] = [MediaType.ociIndex, MediaType.ociManifest, MediaType.dockerList, MediaType.dockerManifest];

/** Manifests are read into memory: registries limit them to this as well (distribution-spec, "Pushing Manifests"). */
export const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;
export const MAX_CONFIG_BYTES = 8 * 1024 * 1024;

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface PlatformDescriptor extends Descriptor {
  readonly platform: Platform;
}

export type Manifest =
  | { readonly kind: "index"; readonly manifests: readonly PlatformDescriptor[] }
  | { readonly kind: "image"; readonly mediaType: string; readonly config: Descriptor; readonly layers: readonly Descriptor[] };

export interface ParsedConfig {
  /** 0 when it does not say. */
  readonly createdMs: number;
  readonly architecture: string;
  readonly os: string;
  readonly diffIds: readonly Digest[];
  readonly config: ImageConfig;
}

type Json = Readonly<Record<string, unknown>>;

const LAYER_TYPE = /^application\/vnd\.(?:oci\.image\.layer\.(?:nondistributable\.)?v1\.tar|docker\.image\.rootfs\.(?:diff|foreign\.diff)\.tar)(?:[.+](?:gzip|zstd))?$/;

const invalid = (what: string, why: string): GantryError => new GantryError("Invalid", `${what}: ${why}`);
const isObject = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value);

export const parseJsonObject = (bytes: Uint8Array, what: string): Json => {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new GantryError("Invalid", `${what} is not JSON`, { cause });
  }
  if (!isObject(value)) throw invalid(what, "is not a JSON object");
  return value;
};

const text = (value: unknown): string => (typeof value === "string" ? value : "");
const strings = (value: unknown, what: string): readonly string[] => {
  if (value === undefined || value === null) return [];
  // Old builders wrote a shell-form Entrypoint as a plain string.
  if (typeof value === "string") return [value];
  if (Array.isArray(value) && value.every((v) => typeof v === "string")) return value;
  throw invalid(what, "is not a list of strings");
};
const stringMap = (value: unknown): Readonly<Record<string, string>> =>
  isObject(value) ? Object.fromEntries(Object.entries(value).filter((e): e is [string, string] => typeof e[1] === "string")) : {};

const parseDescriptor = (value: unknown, what: string): Descriptor => {
  if (!isObject(value)) throw invalid(what, "is not a descriptor (mediaType, digest, size)");
  const size = value["size"];
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) throw invalid(what, `size ${JSON.stringify(size)} is not a number of bytes`);
  return { mediaType: text(value["mediaType"]), digest: parseDigest(value["digest"], what), sizeBytes: size, annotations: stringMap(value["annotations"]) };
};

const parsePlatform = (value: unknown): Platform => {
  const p = isObject(value) ? value : {};
  return { os: text(p["os"]), architecture: text(p["architecture"]), variant: text(p["variant"]) };
};

const list = (value: unknown, what: string): readonly unknown[] => {
  if (!Array.isArray(value)) throw invalid(what, "is missing or not a list");
  return value;
};

/** `contentType` decides only when the document does not say itself what it is. Errors: "Invalid", "UnsupportedMediaType". */
export const parseManifest = (bytes: Uint8Array, what: string, contentType = ""): Manifest => {
  const json = parseJsonObject(bytes, what);
  const mediaType = text(json["mediaType"]) || (contentType.split(";")[0] ?? "").trim();
  if (json["schemaVersion"] !== 2) {
    if (json["schemaVersion"] === 1) {
      throw new GantryError("UnsupportedMediaType", `${what} is in Docker's schema 1 format, which lost its support everywhere; build or push the image anew with a current tool`);
    }
    throw invalid(what, `schemaVersion is ${JSON.stringify(json["schemaVersion"])}, not 2`);
  }
  // A document that is both would mean different images to different readers (CVE-2021-41190).
  if (json["manifests"] !== undefined && (json["layers"] !== undefined || json["config"] !== undefined)) {
    throw invalid(what, "has both manifests and layers: it is ambiguous whether it is an index or an image");
  }
  if (json["manifests"] !== undefined) {
    if (mediaType !== "" && mediaType !== MediaType.ociIndex && mediaType !== MediaType.dockerList) throw unsupported(what, mediaType, "an image index");
    const manifests = list(json["manifests"], `${what}, manifests`).map((m, i) => ({
      ...parseDescriptor(m, `${what}, manifests[${i}]`),
      platform: parsePlatform(isObject(m) ? m["platform"] : undefined),
    }));
    return { kind: "index", manifests };
  }
  if (mediaType !== "" && mediaType !== MediaType.ociManifest && mediaType !== MediaType.dockerManifest) throw unsupported(what, mediaType, "an image manifest");
  const config = parseDescriptor(json["config"], `${what}, config`);
  if (config.mediaType !== MediaType.ociConfig && config.mediaType !== MediaType.dockerConfig) {
    throw unsupported(what, text(json["artifactType"]) || config.mediaType, "a container image");
  }
  if (config.sizeBytes > MAX_CONFIG_BYTES) throw invalid(what, `the config has ${config.sizeBytes} bytes; at most ${MAX_CONFIG_BYTES} are allowed`);
  const layers = list(json["layers"], `${what}, layers`).map((l, i) => parseDescriptor(l, `${what}, layers[${i}]`));
  layers.forEach((layer, i) => {
    if (!LAYER_TYPE.test(layer.mediaType)) throw unsupported(`${what}, layers[${i}]`, layer.mediaType, "a tar, tar+gzip or tar+zstd layer");
  });
  return { kind: "image", mediaType: mediaType || MediaType.ociManifest, config, layers };
};

const unsupported = (what: string, mediaType: string, wanted: string): GantryError =>
  new GantryError("UnsupportedMediaType", `${what} has the media type ${JSON.stringify(mediaType)}; ${wanted} is needed`);

/** Errors: "Invalid". https://github.com/opencontainers/image-spec/blob/main/config.md */
export const parseConfig = (bytes: Uint8Array, what: string): ParsedConfig => {
  const json = parseJsonObject(bytes, what);
  const rootfs = json["rootfs"];
  if (!isObject(rootfs) || rootfs["type"] !== "layers") throw invalid(what, "rootfs.type is not \"layers\"");
  const diffIds = list(rootfs["diff_ids"] ?? [], `${what}, rootfs.diff_ids`).map((d, i) => parseDigest(d, `${what}, rootfs.diff_ids[${i}]`));
  const config = isObject(json["config"]) ? json["config"] : {};
  const createdMs = Date.parse(text(json["created"]));
  return {
    createdMs: Number.isFinite(createdMs) ? createdMs : 0,
    architecture: text(json["architecture"]),
    os: text(json["os"]),
    diffIds,
    config: {
      entrypoint: strings(config["Entrypoint"], `${what}, Entrypoint`),
      cmd: strings(config["Cmd"], `${what}, Cmd`),
      env: strings(config["Env"], `${what}, Env`),
      workingDir: text(config["WorkingDir"]),
      user: text(config["User"]),
      stopSignal: text(config["StopSignal"]),
      volumes: isObject(config["Volumes"]) ? Object.keys(config["Volumes"]) : [],
      labels: stringMap(config["Labels"]),
      exposedPorts: isObject(config["ExposedPorts"]) ? Object.keys(config["ExposedPorts"]) : [],
    },
  };
};

/** A manifest for layers that came without one (docker save): always the same bytes for the same image. */
export const encodeManifest = (config: Omit<Descriptor, "annotations">, layers: readonly Omit<Descriptor, "annotations">[]): Buffer => {
  const encode = (d: Omit<Descriptor, "annotations">): Json => ({ mediaType: d.mediaType, digest: d.digest, size: d.sizeBytes });
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MediaType.ociManifest, config: encode(config), layers: layers.map(encode) }));
};
