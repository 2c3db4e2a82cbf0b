// What a machine must have to run nodes and a control plane, and how to get it on this distribution.
import { accessSync, constants, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";

interface Tool {
  /** Any of these will do. */
  readonly commands: readonly string[];
  readonly packages: Readonly<Record<string, string>>;
  /** Found is not enough: is it the right kind? */
  readonly fits?: (path: string) => boolean;
}

const everywhere = (name: string): Readonly<Record<string, string>> => ({ debian: name, fedora: name, arch: name, alpine: name, suse: name });

/** Of an ELF file: does it do without a dynamic loader (no program header of type PT_INTERP)? elf(5), 64-bit little-endian. */
export const isStatic = (path: string): boolean => {
  const file = readFileSync(path);
  if (file.length < 64 || file.readUInt32BE(0) !== 0x7f454c46) return false;
  const [offset, size, count] = [Number(file.readBigUInt64LE(32)), file.readUInt16LE(54), file.readUInt16LE(56)];
  return !Array.from({ length: count }, (_, i) => file.readUInt32LE(offset + i * size)).includes(3);
};

const TOOLS: readonly Tool[] = [
  { commands: ["etcd"], packages: { ...everywhere("etcd"), debian: "etcd-server" } },
  { commands: ["crun", "runc"], packages: everywhere("crun") },
  { commands: ["conmon"], packages: everywhere("conmon") },
  { commands: ["nft"], packages: everywhere("nftables") },
  { commands: ["ip"], packages: { ...everywhere("iproute2"), fedora: "iproute" } },
  { commands: ["nsenter"], packages: { ...everywhere("util-linux"), alpine: "util-linux-misc" } },
  { commands: ["busybox"], packages: { ...everywhere("busybox"), debian: "busybox-static", alpine: "busybox-static", suse: "busybox-static" }, fits: isStatic },
];

/** What the tests need besides. */
const TEST_TOOLS: readonly Tool[] = [
  { commands: ["crun"], packages: everywhere("crun") },
  { commands: ["runc"], packages: everywhere("runc") },
  { commands: ["docker-registry"], packages: { ...everywhere("docker-registry"), fedora: "docker-distribution" } },
  { commands: ["skopeo"], packages: everywhere("skopeo") },
  { commands: ["buildah"], packages: everywhere("buildah") },
  { commands: ["tini-static", "catatonit", "docker-init"], packages: everywhere("tini") },
  { commands: ["zsh"], packages: everywhere("zsh") },
  { commands: ["fish"], packages: everywhere("fish") },
  { commands: ["openssl"], packages: everywhere("openssl") },
  { commands: ["promtool"], packages: everywhere("prometheus") },
  { commands: ["etcdctl"], packages: { ...everywhere("etcd"), debian: "etcd-client" } },
];

const INSTALL: Readonly<Record<string, string>> = { debian: "apt-get install -y", fedora: "dnf install -y", arch: "pacman -S --needed", alpine: "apk add", suse: "zypper install -y" };

export const findOnPath = (command: string, path = `${process.env["PATH"] ?? ""}${delimiter}/usr/sbin${delimiter}/sbin`): string | undefined => {
  // npm has a package with a command nft, too: what lies in node_modules is never a system's tool.
  for (const dir of path.split(delimiter).filter((d) => d !== "" && !d.includes("node_modules"))) {
    const file = join(dir, command);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // not here: look on
    }
  }
  return undefined;
};

/** The family of this distribution: ID, then ID_LIKE of os-release(5). */
export const distributionFamily = (osRelease: string): string => {
  const value = (key: string): string => new RegExp(`^${key}=["']?([^"'\\n]*)["']?$`, "m").exec(osRelease)?.[1] ?? "";
  const ids = [value("ID"), ...value("ID_LIKE").split(" ")].map((id) => ({ ubuntu: "debian", rhel: "fedora", centos: "fedora", opensuse: "suse" })[id] ?? id);
  return ids.find((id) => id in INSTALL) ?? "";
};

const readOsRelease = (): string => {
  try {
    return readFileSync("/etc/os-release", "utf8");
  } catch {
    // Only the names of the commands can be told then.
    return "";
  }
};

export interface Missing {
  readonly commands: readonly string[];
  /** Names of the packages on this distribution; empty when its family is not known. */
  readonly packages: readonly string[];
  readonly family: string;
  /** One message that says what is missing and how to install it. */
  readonly message: string;
}

/** Undefined when all is there. */
export const findMissing = (options: { readonly tests?: boolean; readonly find?: (command: string) => string | undefined; readonly osRelease?: () => string } = {}): Missing | undefined => {
  const find = options.find ?? findOnPath;
  const has = (tool: Tool): boolean => tool.commands.some((c) => {
    const path = find(c);
    return path !== undefined && (tool.fits?.(path) ?? true);
  });
  const missing = [...TOOLS, ...(options.tests ? TEST_TOOLS : [])].filter((t) => !has(t));
  if (missing.length === 0) return undefined;
  const family = distributionFamily((options.osRelease ?? readOsRelease)());
  const commands = missing.map((t) => t.commands.join(" or ") + (t.fits ? " (static)" : ""));
  const packages = family === "" ? [] : [...new Set(missing.map((t) => t.packages[family]!))];
  const what = `missing commands: ${commands.join(", ")}; install them with`;
  return { commands, packages, family, message: family === "" ? `${what} your distribution's package manager` : `${what}: ${INSTALL[family]!} ${packages.join(" ")}` };
};
