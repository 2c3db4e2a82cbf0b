// The contract between the image store and the other nodes of the cluster. Implemented in ../peers.
import type { Ingest } from "./content-store.ts";
import type { RemoteImage } from "./image-service.ts";

export interface BlobPeers {
  /**
   * Fills `ingest` from other nodes. True: it is whole and verified, and may be committed. False: the caller is the one who fetches it from the
   * registry, going on with what is in `ingest`. `holder` is a node that is said to have it. Errors: "Cancelled" only.
   */
  fill(ingest: Ingest, options: { readonly signal: AbortSignal; readonly onProgress: (bytes: number) => void; readonly holder: string | undefined }): Promise<boolean>;
  /** A node that has an image by this (normalized) name, made in the cluster: nodes tell no names that a registry gave. Errors: "Cancelled" only. */
  findImage(name: string, signal: AbortSignal): Promise<RemoteImage | undefined>;
}
