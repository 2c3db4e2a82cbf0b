// Images for tests, made in memory: busybox as OCI archive, docker archive and OCI layout directory; and layers that no honest tool makes.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { hexOf } from "../../node-agent/images/digest.ts";
import { buildImage, ociLayout, type BuiltImage, type Compression } from "../../node-agent/images/image-builder.ts";
import { detectPlatform } from "../../node-agent/images/platform.ts";
import { writeTar, type TarInput } from "../../node-agent/images/tar-writer.ts";

export interface TestImageOptions {
  /** Layers of files, lowest first. Default: one with busybox as bin/busybox, bin/sh and a few others. */
  readonly layers?: readonly (readonly TarInput[])[];
  readonly compression?: Compression;
  readonly architecture?: string;
  readonly config?: Readonly<Record<string, unknown>>;
}

const APPETITE = ["sh", "sleep", "cat", "echo", "ls", "true", "false", "id", "httpd", "wget", "nc", "ping", "ip", "hostname", "env", "sync", "touch", "seq", "dd", "trap", "kill"];

/** The files of a root file system with the host's static busybox. */
export const busyboxFiles = async (): Promise<readonly TarInput[]> => [
  ...["bin/", "etc/", "root/"].map((path): TarInput => ({ path, type: "directory" })),
  { path: "tmp/", type: "directory", mode: 0o1777 },
  { path: "bin/busybox", content: await readFile("/bin/busybox"), mode: 0o755 },
  ...APPETITE.map((name): TarInput => ({ path: `bin/${name}`, type: "symlink", linkPath: "busybox" })),
  { path: "etc/passwd", content: "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000:web:/:/bin/sh\n" },
  { path: "etc/group", content: "root:x:0:\nweb:x:1000:\n" },
];

export const testImage = async (options: TestImageOptions = {}): Promise<BuiltImage> =>
  buildImage({
    architecture: options.architecture ?? detectPlatform().architecture,
    layers: (options.layers ?? [await busyboxFiles()]).map(writeTar),
    ...(options.compression === undefined ? {} : { compression: options.compression }),
    config: options.config ?? { Cmd: ["sleep", "86400"], Env: ["PATH=/bin"] },
  });

/** As `docker save` wrote them before version 25: a config and a folder with layer.tar per layer, a layer seen before as a link. */
export const dockerArchive = (images: readonly { readonly tags: readonly string[]; readonly image: BuiltImage; readonly layerTars: readonly Uint8Array[] }[]): Buffer => {
  const seen = new Map<string, string>();
  const files: TarInput[] = [];
  const manifest = images.map(({ tags, image, layerTars }, n) => {
    const config = `${hexOf(image.configDigest)}.json`;
    files.push({ path: config, content: image.config });
    const layers = layerTars.map((tar, i) => {
      const path = `layer-${n}-${i}/layer.tar`;
      const diffId = image.diffIds[i]!;
      const before = seen.get(diffId);
      files.push({ path: `layer-${n}-${i}/`, type: "directory" }, { path: `layer-${n}-${i}/VERSION`, content: "1.0" });
      if (before === undefined) {
        seen.set(diffId, path);
        files.push({ path, content: tar });
      } else {
        files.push({ path, type: "symlink", linkPath: `../${before}` });
      }
      return path;
    });
    return { Config: config, RepoTags: tags.length === 0 ? null : tags, Layers: layers };
  });
  return writeTar([...files, { path: "manifest.json", content: JSON.stringify(manifest) }, { path: "repositories", content: "{}" }]);
};

/** An OCI image layout as a directory, as `skopeo copy oci:DIR:NAME` reads it. */
export const writeOciLayout = async (directory: string, images: readonly { readonly name?: string; readonly image: BuiltImage }[]): Promise<void> => {
  for (const file of ociLayout(images)) {
    if (file.type === "directory") continue;
    await mkdir(dirname(join(directory, file.path)), { recursive: true });
    await writeFile(join(directory, file.path), file.content ?? "");
  }
};

/** A source in pieces of `size`, as a network delivers it. */
export async function* inPieces(bytes: Uint8Array, size = 64 * 1024): AsyncGenerator<Uint8Array, void> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** Layers that try to reach out of the image or to hurt the node, each with what the error must say. `outside` is a directory that must stay as it is. */
export const maliciousLayers = (outside: string): Readonly<Record<string, { readonly files: readonly TarInput[]; readonly error: RegExp }>> => ({
  "a path with ..": { files: [{ path: "../evil", content: "x" }], error: /"\.\.\/evil".*"\.\."/ },
  "a path with .. in the middle": { files: [{ path: "a/", type: "directory" }, { path: "a/../../evil", content: "x" }], error: /a\/\.\.\/\.\.\/evil/ },
  "an absolute path": { files: [{ path: `${outside}/evil`, content: "x" }], error: /absolute/ },
  "a symbolic link that climbs out": { files: [{ path: "link", type: "symlink", linkPath: "../../../etc" }], error: /"link".*outside the image/ },
  "a hard link to an absolute path": { files: [{ path: "link", type: "hardlink", linkPath: `${outside}/secret` }], error: /"link".*absolute/ },
  "a hard link with ..": { files: [{ path: "link", type: "hardlink", linkPath: "../../secret" }], error: /"link".*"\.\."/ },
  "a hard link through a symbolic link to the outside": {
    files: [{ path: "up", type: "symlink", linkPath: outside }, { path: "link", type: "hardlink", linkPath: "up/secret" }], error: /"link".*does not exist/,
  },
  "a hard link through a chain of symbolic links": {
    files: [
      { path: "a/", type: "directory" }, { path: "a/b/", type: "directory" }, { path: "a/b/up", type: "symlink", linkPath: "../.." },
      { path: "a/escape", type: "symlink", linkPath: "b/up/../.." }, { path: "link", type: "hardlink", linkPath: `a/escape/${outside.slice(1)}/secret` },
    ],
    error: /"(?:a\/escape|link)".*(?:outside the image|does not exist)/,
  },
  // The classes of node-tar's CVE-2026-23745 (absolute link targets), -24842 (a target that is checked from one directory and made from another)
  // and -26960 (a target reached through a chain of links).
  "a hard link whose target is checked from its own directory but made from the root": {
    files: [{ path: "a/", type: "directory" }, { path: "a/b/", type: "directory" }, { path: "a/b/link", type: "hardlink", linkPath: "../../../secret" }], error: /"a\/b\/link".*"\.\."/,
  },
  "a hard link through two absolute symbolic links": {
    files: [{ path: "one", type: "symlink", linkPath: "/two" }, { path: "two", type: "symlink", linkPath: outside }, { path: "link", type: "hardlink", linkPath: "one/secret" }], error: /"link".*does not exist/,
  },
  "a hard link to a directory": { files: [{ path: "d/", type: "directory" }, { path: "link", type: "hardlink", linkPath: "d" }], error: /which is a directory/ },
  "a whiteout of ..": { files: [{ path: "a/", type: "directory" }, { path: "a/.wh...", content: "" }], error: /whiteout of "\.\."/ },
  "symbolic links in a circle": {
    files: [{ path: "a", type: "symlink", linkPath: "b" }, { path: "b", type: "symlink", linkPath: "a" }, { path: "a/evil", content: "x" }], error: /symbolic links/,
  },
});
