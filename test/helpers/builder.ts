// A builder on a real image store and OCI runtime, without a cluster around it, on a small busybox base; and builds with it. Needs root.
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SystemClock } from "../../base/clock.ts";
import { newUid } from "../../base/ids.ts";
import { silentLogger } from "../../base/logger.ts";
import { Metrics } from "../../base/metrics.ts";
import { readBuildInput, type BuildFlags } from "../../cli/build/build-input.ts";
import type { BuildEvent, BuiltImageInfo } from "../../node-agent/build/build-events.ts";
import { Builder } from "../../node-agent/build/builder.ts";
import { CgroupTree } from "../../node-agent/cgroups/cgroup-tree.ts";
import { readCgroupLayout } from "../../node-agent/cgroups/detect.ts";
import { buildImage, ociArchive } from "../../node-agent/images/image-builder.ts";
import type { Image } from "../../node-agent/images/image-service.ts";
import { LinuxImageService } from "../../node-agent/images/linux-image-service.ts";
import { detectPlatform } from "../../node-agent/images/platform.ts";
import { writeTar, type TarInput } from "../../node-agent/images/tar-writer.ts";
import { mountOverlay, readMounts, unmount, unmountAllBelow } from "../../node-agent/linux/mount.ts";
import { readHost } from "../../node-agent/runtime/host.ts";
import { openOciRuntime } from "../../node-agent/runtime/oci-runtime.ts";
import { allProcesses } from "./leftovers.ts";
import { holdHybridHost } from "./hybrid-host.ts";

const FLAGS: BuildFlags = { tag: ["built:1"], file: "", buildArg: [], target: "", noCache: false, platform: "", secret: [], pull: false, label: [], network: "default", push: false };

export const BASE = "base:1";
const APPLETS = ["sh", "sleep", "cat", "echo", "ls", "true", "false", "id", "touch", "mkdir", "rm", "rmdir", "mv", "cp", "ln", "chmod", "chown", "stat", "env", "grep", "sed", "head", "wc", "mknod", "mkfifo", "pwd", "test", "find", "tar", "printf", "date", "mount", "wget", "adduser", "hostname", "seq", "ip"];

/** A base image: busybox, users, a directory tree to delete from, and a link to a directory. */
export const baseFiles = (): readonly TarInput[] => [
  ...["bin/", "etc/", "root/", "usr/", "usr/bin/", "opt/", "opt/tree/", "opt/tree/sub/", "var/", "var/real/", "home/", "home/app/"].map((path): TarInput => ({ path, type: "directory", ...(path === "home/app/" ? { uid: 1000, gid: 1000, mode: 0o750 } : {}) })),
  { path: "tmp/", type: "directory", mode: 0o1777 },
  { path: "bin/busybox", content: readFileSync("/bin/busybox"), mode: 0o755 },
  ...APPLETS.map((name): TarInput => ({ path: `bin/${name}`, type: "symlink", linkPath: "busybox" })),
  { path: "etc/passwd", content: "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n" },
  { path: "etc/group", content: "root:x:0:\napp:x:1000:\nstaff:x:50:\n" },
  { path: "etc/config", content: "base\n", mtimeMs: 1_500_000_000_000 },
  { path: "opt/tree/a", content: "a" }, { path: "opt/tree/sub/b", content: "b" },
  { path: "var/link", type: "symlink", linkPath: "real" },
];

export const baseArchive = (name: string, config: Readonly<Record<string, unknown>> = {}): Buffer =>
  ociArchive([{ name, image: buildImage({ architecture: detectPlatform().architecture, layers: [writeTar(baseFiles())], config: { Env: ["PATH=/usr/bin:/bin"], Cmd: ["sh"], Labels: { base: "yes" }, ...config } }) }]);

async function* whole(bytes: Uint8Array): AsyncGenerator<Uint8Array, void> {
  yield bytes;
}

export interface Built {
  readonly image: BuiltImageInfo;
  readonly events: readonly BuildEvent[];
  /** All logs. */
  readonly log: string;
  /** Names of steps that the cache had. */
  readonly cached: readonly string[];
}

export class TestBuilder implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), "gantry-build-"));
  readonly cgroupRoot = `gantry-test-${newUid().slice(0, 8)}`;
  readonly #clock = new SystemClock();
  readonly cgroups: CgroupTree;
  images!: LinuxImageService;
  builder!: Builder;

  private constructor() {
    holdHybridHost();
    this.cgroups = new CgroupTree({ layout: readCgroupLayout(), root: this.cgroupRoot, clock: this.#clock, logger: silentLogger });
    this.cgroups.prepare();
  }

  static async open(): Promise<TestBuilder> {
    const made = new TestBuilder();
    await made.reopen();
    await made.images.load(whole(baseArchive(BASE)));
    return made;
  }

  /** As after a restart of the agent. */
  async reopen(): Promise<void> {
    const parts = { clock: this.#clock, logger: silentLogger, metrics: new Metrics() };
    this.images?.close();
    this.images = await LinuxImageService.open({ ...parts, root: join(this.directory, "images"), random: Math.random });
    this.builder = await Builder.open({
      ...parts, root: join(this.directory, "build"), runRoot: join(this.directory, "run"), images: this.images, platform: detectPlatform(), pidsLimit: 1000, cgroups: this.cgroups,
      oci: await openOciRuntime(process.env["GANTRY_TEST_RUNTIME"] ?? "crun", join(this.directory, "oci")), host: readHost(this.cgroups, join(this.directory, "seccomp")),
    });
  }

  /** `context`: a directory, or files by their paths. */
  async build(context: string | Readonly<Record<string, string | TarInput>>, flags: Partial<BuildFlags> & { readonly env?: NodeJS.ProcessEnv; readonly signal?: AbortSignal; readonly onEvent?: (event: BuildEvent) => void } = {}): Promise<Built> {
    const { env = {}, signal = new AbortController().signal, onEvent, ...own } = flags;
    const events: BuildEvent[] = [];
    const input = typeof context === "string" ? await readBuildInput(context, { ...FLAGS, ...own }, env, whole(new Uint8Array())) : undefined;
    const files = typeof context === "string" ? [] : Object.entries(context).map(([path, content]): TarInput => (typeof content === "string" ? { path, content } : { ...content, path }));
    const { options } = input ?? (await readBuildInput("-", { ...FLAGS, ...own }, env, whole(writeTar(files))));
    const image = await this.builder.build({
      options, context: input === undefined ? whole(writeTar(files)) : (input.context ?? whole(new Uint8Array())), signal,
      say: async (event) => {
        events.push(event);
        onEvent?.(event);
      },
    });
    const names = new Map(events.flatMap((e) => ("vertex" in e && "name" in e ? [[e.vertex, e.name] as const] : [])));
    return {
      image, events, log: events.map((e) => ("log" in e ? e.log : "")).join(""),
      cached: events.flatMap((e) => ("done" in e && e.cached === true && !names.get(e.vertex)!.includes(" FROM ") ? [names.get(e.vertex)!] : [])),
    };
  }

  image(name = "built:1"): Image {
    return this.images.resolve(name)!;
  }

  config(name = "built:1"): Record<string, unknown> & { readonly config: Record<string, unknown> } {
    return this.images.configOf(this.image(name)) as never;
  }

  /** The image's files, mounted while `look` runs. */
  look<T>(name: string, look: (root: string) => T): T {
    const [target, empty] = [join(this.directory, `mnt-${newUid()}`), join(this.directory, "empty")];
    for (const directory of [target, empty]) mkdirSync(directory, { recursive: true });
    mountOverlay({ lowerDirs: [empty, ...this.image(name).layerDirs], target });
    try {
      return look(target);
    } finally {
      unmount(target);
    }
  }

  /** What builds left behind: mounts, directories of their own, processes, control groups. */
  leftovers(): readonly string[] {
    return [
      ...readMounts().map((m) => m.target).filter((target) => target.startsWith(this.directory)),
      ...this.cgroups.processes("build").map((pid) => `process ${pid}`),
      ...allProcesses().filter((p) => p.commandLine.includes(this.directory)).map((p) => p.commandLine),
    ];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Timers of the clock don't keep the process alive by themselves.
    const alive = setInterval(() => undefined, 1000);
    try {
      this.images.close();
      await this.cgroups.destroy();
      const left = this.leftovers();
      unmountAllBelow(this.directory);
      rmSync(this.directory, { recursive: true, force: true });
      if (left.length > 0) throw new Error(`left behind: ${left.join(", ")}`);
    } finally {
      clearInterval(alive);
    }
  }
}
