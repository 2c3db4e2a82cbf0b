// The contract of a node's image store. Implemented in this folder; used by pods/ (pull, mount) and session (load, report).
import type { RegistryCredential } from "../../proto/gen/gantry/v1/agent.ts";

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

export interface Image {
  /** sha256:... of the config blob: docker's image ID. */
  readonly id: string;
  /** sha256:... of the manifest. */
  readonly manifestDigest: string;
  /** Normalized names, such as docker.io/library/busybox:latest. */
  readonly names: readonly string[];
  readonly sizeBytes: number;
  readonly architecture: string;
  readonly config: ImageConfig;
  /** Unpacked layer directories, lowest first: overlayfs wants them the other way round. Present on disk. */
  readonly layerDirs: readonly string[];
}

export interface PullOptions {
  readonly credentials: readonly RegistryCredential[];
  readonly signal: AbortSignal;
  readonly onProgress?: (done: { readonly bytes: number; readonly totalBytes: number }) => void;
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
  list(): readonly Image[];
  /** Takes a name off; what no name or container uses any more goes with the next collectGarbage. */
  remove(reference: string): Promise<void>;
  /** Deletes blobs and layers that neither a named image nor `inUse` (image ids) needs. Returns the bytes freed. */
  collectGarbage(inUse: ReadonlySet<string>): Promise<number>;
}
