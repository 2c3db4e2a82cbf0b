// "node" images as Docker Hub has them, made here: the binary of npm's package, the libraries that it needs, npm's own files, busybox as shell. For Dockerfiles that say FROM node:12.
import { execFileSync } from "node:child_process";
import { existsSync, lstatSync, readFileSync, readdirSync, readlinkSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { buildImage, ociArchive } from "../../node-agent/images/image-builder.ts";
import { detectPlatform } from "../../node-agent/images/platform.ts";
import { writeTar, type TarInput } from "../../node-agent/images/tar-writer.ts";

const APPLETS = ["sh", "env", "ls", "cat", "hostname", "id", "mkdir", "rm", "sleep", "wget", "uname", "dirname", "readlink", "basename", "sed", "test"];

/** npm's own files: beside the node that comes with the machine. */
const findNpm = (): string | undefined => [join(dirname(realpathSync(process.execPath)), "../lib/node_modules/npm"), "/usr/local/lib/node_modules/npm", "/usr/lib/node_modules/npm", "/usr/share/nodejs/npm"].find((path) => existsSync(join(path, "bin/npm-cli.js")));

const treeOf = (directory: string, into: string): readonly TarInput[] =>
  readdirSync(directory, { withFileTypes: true }).flatMap((entry): readonly TarInput[] => {
    const [from, path] = [join(directory, entry.name), `${into}/${entry.name}`];
    if (entry.isDirectory()) return ["docs", "man", "test"].includes(entry.name) ? [] : [{ path: `${path}/`, type: "directory" }, ...treeOf(from, path)];
    if (entry.isSymbolicLink()) return [{ path, type: "symlink", linkPath: readlinkSync(from) }];
    return entry.isFile() ? [{ path, content: readFileSync(from), mode: lstatSync(from).mode & 0o777 }] : [];
  });

const directories = (paths: readonly string[]): readonly TarInput[] =>
  [...new Set(paths.flatMap((path) => path.split("/").slice(0, -1).map((_, i, parts) => `${parts.slice(0, i + 1).join("/")}/`)))].sort().map((path) => ({ path, type: "directory" }));

/** An OCI archive with the image under each of the names. `npm`: with npm in it (20 MB more). */
export const nodeArchive = (names: readonly string[], options: { readonly npm: boolean }): Buffer => {
  const binary = realpathSync(process.execPath);
  const libraries = [...execFileSync("ldd", [binary], { encoding: "utf8" }).matchAll(/(\/\S+) \(0x/g)].map((match) => match[1]!);
  const npm = options.npm ? findNpm() : undefined;
  if (options.npm && npm === undefined) throw new Error("npm's own files are nowhere on this machine");
  const files: readonly TarInput[] = [
    { path: "usr/local/bin/node", content: readFileSync(binary), mode: 0o755 },
    ...libraries.map((path): TarInput => ({ path: path.slice(1), content: readFileSync(path), mode: 0o755 })),
    { path: "bin/busybox", content: readFileSync("/bin/busybox"), mode: 0o755 },
    ...APPLETS.map((name): TarInput => ({ path: `bin/${name}`, type: "symlink", linkPath: "busybox" })),
    { path: "usr/bin/env", type: "symlink", linkPath: "/bin/busybox" },
    { path: "etc/passwd", content: "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000:node:/home/node:/bin/sh\n" },
    { path: "etc/group", content: "root:x:0:\nnode:x:1000:\n" },
    ...["root/.keep", "home/node/.keep"].map((path): TarInput => ({ path, content: "" })),
    ...(npm === undefined ? [] : [
      ...treeOf(npm, "usr/local/lib/node_modules/npm"),
      { path: "usr/local/bin/npm", type: "symlink", linkPath: "../lib/node_modules/npm/bin/npm-cli.js" },
    ] satisfies readonly TarInput[]),
  ];
  const layer = writeTar([...directories(files.map((file) => file.path)), { path: "tmp/", type: "directory", mode: 0o1777 }, ...files]);
  const config = { Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "NODE_VERSION=12.18.4"], Cmd: ["node"] };
  const image = buildImage({ architecture: detectPlatform().architecture, layers: [layer], config, compression: "none" });
  return ociArchive(names.map((name) => ({ name, image })));
};
