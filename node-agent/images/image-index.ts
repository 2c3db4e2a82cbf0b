// Which images this node has and what they are called: index.json of the OCI image layout (image-layout.md), one descriptor per name,
// one without a name for an image that lost its last one but may still be in use. Replaced as a whole, so that it is never half-written.
import { readFileSync } from "node:fs";
import { open, rename } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "../../base/logger.ts";
import { isDigest, type Digest } from "./digest.ts";
import { MediaType, parseJsonObject } from "./manifest.ts";

/** https://github.com/opencontainers/image-spec/blob/main/annotations.md */
export const REF_NAME = "org.opencontainers.image.ref.name";

/** On names that a registry gave. */
const FROM_REGISTRY = "io.gantry.image.from-registry";

/** Who says that an image has this name. */
export type NameOrigin = "registry" | "cluster";

export interface ManifestDescriptor {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly mediaType: string;
}

export class ImageIndex {
  readonly #path: string;
  readonly #manifests = new Map<Digest, ManifestDescriptor>();
  readonly #names = new Map<string, Digest>();
  readonly #ofRegistry = new Set<string>();
  #saving: Promise<void> = Promise.resolve();

  constructor(root: string, logger: Logger) {
    this.#path = join(root, "index.json");
    let bytes: Buffer;
    try {
      bytes = readFileSync(this.#path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
      throw error;
    }
    try {
      const manifests = parseJsonObject(bytes, this.#path)["manifests"];
      for (const m of (Array.isArray(manifests) ? manifests : []) as { mediaType?: unknown; digest?: unknown; size?: unknown; annotations?: Record<string, unknown> }[]) {
        if (typeof m.digest !== "string" || !isDigest(m.digest) || typeof m.size !== "number") continue;
        this.#manifests.set(m.digest, { digest: m.digest, sizeBytes: m.size, mediaType: typeof m.mediaType === "string" ? m.mediaType : MediaType.ociManifest });
        const name = m.annotations?.[REF_NAME];
        if (typeof name !== "string") continue;
        this.#names.set(name, m.digest);
        if (m.annotations?.[FROM_REGISTRY] === "true") this.#ofRegistry.add(name);
      }
    } catch (error) {
      // Images can be fetched again; a node that refuses to start because of its cache can't be used at all.
      logger.error("the image index is damaged; images are fetched anew as they are needed", { path: this.#path, err: error });
    }
  }

  digestOf(name: string): Digest | undefined {
    return this.#names.get(name);
  }

  /** "cluster": built, committed, loaded or tagged here, or on the node that it came from. */
  originOf(name: string): NameOrigin {
    return this.#ofRegistry.has(name) ? "registry" : "cluster";
  }

  descriptor(manifest: Digest): ManifestDescriptor {
    return this.#manifests.get(manifest)!;
  }

  namesOf(manifest: Digest): readonly string[] {
    return [...this.#names].filter(([, digest]) => digest === manifest).map(([name]) => name);
  }

  manifests(): readonly Digest[] {
    return [...this.#manifests.keys()];
  }

  /** Changes are on disk when the promise resolves. A name moves to the new image; the one that had it stays without. `origin`: undefined leaves it as it is. */
  async set(manifest: ManifestDescriptor, names: readonly string[], origin: NameOrigin | undefined): Promise<void> {
    if (this.#manifests.has(manifest.digest) && names.every((name) => this.#names.get(name) === manifest.digest && (origin ?? this.originOf(name)) === this.originOf(name))) return;
    this.#manifests.set(manifest.digest, manifest);
    for (const name of names) {
      this.#names.set(name, manifest.digest);
      if (origin === "registry") this.#ofRegistry.add(name);
      else if (origin === "cluster") this.#ofRegistry.delete(name);
    }
    await this.#save();
  }

  async removeNames(names: readonly string[]): Promise<void> {
    for (const name of names) this.#unname(name);
    await this.#save();
  }

  #unname(name: string): void {
    this.#names.delete(name);
    this.#ofRegistry.delete(name);
  }

  async removeManifests(manifests: readonly Digest[]): Promise<void> {
    if (manifests.length === 0) return;
    for (const manifest of manifests) {
      this.#manifests.delete(manifest);
      for (const name of this.namesOf(manifest)) this.#unname(name);
    }
    await this.#save();
  }

  /** One after another; each writes the state as it is by then. */
  #save(): Promise<void> {
    const saved = this.#saving.then(() => this.#write());
    this.#saving = saved.catch(() => undefined);
    return saved;
  }

  async #write(): Promise<void> {
    const entries = [...this.#manifests.values()].flatMap(({ mediaType, digest, sizeBytes }) => {
      const descriptor = { mediaType, digest, size: sizeBytes };
      const names = this.namesOf(digest);
      return names.length === 0 ? [descriptor] : names.map((name) => ({ ...descriptor, annotations: { [REF_NAME]: name, ...(this.#ofRegistry.has(name) ? { [FROM_REGISTRY]: "true" } : {}) } }));
    });
    const temporary = `${this.#path}.new`;
    const file = await open(temporary, "w", 0o600);
    try {
      await file.writeFile(`${JSON.stringify({ schemaVersion: 2, mediaType: MediaType.ociIndex, manifests: entries }, undefined, 1)}\n`);
      await file.datasync();
    } finally {
      await file.close();
    }
    await rename(temporary, this.#path);
  }
}
