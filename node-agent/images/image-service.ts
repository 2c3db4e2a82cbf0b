// The contract of a node's image store. Implemented in this folder; used by pods/ (pull, mount) and session (load, report).
import type { RegistryCredential } from "../../proto/gen/gantry/v1/agent.ts";
import type { Digest } from "./digest.ts";

/** The part of an OCI image config that a container takes over (image-spec config.md). */
export interface ImageConfig {
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly env: readonly string[];
  readonly workingDir: string;
  /** "", "1000", "user", "1000:1000", "user:group". */
  readonly user: string;
  readonly stopSignal: string;
  readonly volumes: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly exposedPorts: readonly string[];
}

/** A layer as blob (perhaps compressed) and as what it unpacks to. */
export interface ImageLayer {
  readonly digest: Digest;
  readonly diffId: Digest;
  readonly sizeBytes: number;
  readonly mediaType: string;
}

export interface Image {
  /** sha256:... of the config blob: docker's image ID. */
  readonly id: string;
  /** sha256:... of the manifest. */
  readonly manifestDigest: string;
  readonly manifestBytes: number;
  readonly mediaType: string;
  /** Normalized names, such as docker.io/library/busybox:latest. */
  readonly names: readonly string[];
  readonly sizeBytes: number;
  /** When it was made, as its config says; 0 when it does not. */
  readonly createdMs: number;
  readonly architecture: string;
  readonly config: ImageConfig;
  /** Unpacked layer directories, lowest first: overlayfs wants them the other way round. Present on disk. */
  readonly layerDirs: readonly string[];
  /** Lowest first. */
  readonly layers: readonly ImageLayer[];
}

/** How far one blob is, in docker's words. */
export interface LayerProgress {
  readonly digest: Digest;
  readonly status: "Pulling fs layer" | "Downloading" | "Extracting" | "Pull complete" | "Already exists" | "Preparing" | "Pushing" | "Pushed" | "Layer already exists" | "Mounted from another repository";
  readonly currentBytes: number;
  readonly totalBytes: number;
}

export interface PullOptions {
  readonly credentials: readonly RegistryCredential[];
  readonly signal: AbortSignal;
  /** Where no registry gives it: from a node that has it by this name because it was made in the cluster. */
  readonly orFromCluster?: boolean;
  readonly onProgress?: (done: { readonly bytes: number; readonly totalBytes: number }) => void;
  /** Of layers only, not of manifest and config. */
  readonly onLayer?: (progress: LayerProgress) => void;
}

/** An image that another node has. */
export interface RemoteImage {
  readonly names: readonly string[];
  readonly manifestDigest: Digest;
  readonly manifestBytes: number;
  readonly mediaType: string;
  readonly node: string;
}

export interface StoreUsage {
  readonly images: number;
  readonly activeImages: number;
  /** Blobs and unpacked layers. */
  readonly bytes: number;
  readonly reclaimableBytes: number;
}

export interface ImageService {
  /** By reference (normalized inside), digest or ID; undefined when not complete on this node. */
  resolve(reference: string): Image | undefined;
  /**
   * Fetches what is missing and unpacks it. One download per digest however many ask. Errors name the reference and the registry:
   * "NotFound" (no such repository or tag), "Unauthorized", "Invalid" (bad reference, digest mismatch, unsafe archive), "ServiceUnavailable".
   */
  pull(reference: string, options: PullOptions): Promise<Image>;
  /** Reads an OCI or docker archive (tar, gzip and zstd too) and returns the names that it holds. `fallbackName` names an image without one. */
  load(archive: AsyncIterable<Uint8Array>, fallbackName?: string): Promise<readonly string[]>;
  /** Sends an image of this node to the registry that its name says. Errors: as pull; "NotFound" when it is not here. */
  push(reference: string, options: Omit<PullOptions, "onProgress">): Promise<Image>;
  /** Gets an image from other nodes, without a registry. Errors: "ServiceUnavailable" when none gives it. */
  receive(image: RemoteImage, options: Pick<PullOptions, "signal" | "onLayer">): Promise<Image>;
  /** An archive that `docker load`, skopeo and this service read: docker's and the OCI layout in one. Safe from garbage collection while it is read. */
  save(references: readonly string[]): AsyncIterable<Uint8Array>;
  list(): readonly Image[];
  /** Gives an image of this node another name; another image loses it. Errors: "NotFound", "Invalid". */
  tag(reference: string, name: string): Promise<Image>;
  /** Takes names off, whatever image has them. */
  untag(names: readonly string[]): Promise<void>;
  /** Size of an unpacked layer; 0 when it is not here. */
  layerBytes(layer: ImageLayer): number;
  /** When the image came to this node; 0 when it is not here. */
  arrivedMs(image: Image): number;
  /** It has a name that no registry gave: it was built, committed, loaded or tagged in the cluster. */
  isMadeHere(image: Image): boolean;
  usage(inUse: ReadonlySet<string>): Promise<StoreUsage>;
  /** The OCI image config as it is, with history and everything. Errors: "NotFound". */
  configOf(image: Image): Readonly<Record<string, unknown>>;
  /** Takes a name off; what no name or container uses any more goes with the next collectGarbage. */
  remove(reference: string): Promise<void>;
  /** Deletes blobs and layers that neither a named image nor `inUse` (image ids) needs, nor one without a name that `spare` wants to stay. Returns the bytes freed. */
  collectGarbage(inUse: ReadonlySet<string>, spare?: (image: Image) => boolean): Promise<number>;
}
