// bench/engine, part "pull": a 200 MB image of 8 layers from a local docker-registry into the store, unpacked; beside `skopeo copy` to a directory
// plus unpacking each layer with tar, in the same run. Runs alone: node bench/engine/pull.ts. To reach: a ratio of 1 or less.
import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { SystemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/logger.ts";
import { Metrics } from "../../base/metrics.ts";
import { hexOf } from "../../node-agent/images/digest.ts";
import { buildImage, ociArchive, type Compression } from "../../node-agent/images/image-builder.ts";
import type { LinuxImageService } from "../../node-agent/images/linux-image-service.ts";
import { detectPlatform } from "../../node-agent/images/platform.ts";
import { writeTar, type TarInput } from "../../node-agent/images/tar-writer.ts";
import { median } from "../statistics.ts";

const run = promisify(execFile);
const LAYERS = 8;
const LAYER_BYTES = 25 * 1000 * 1000;
const ROUNDS = Number(process.env["ROUNDS"] ?? 5);

/** Files as root file systems have them: many small, some large, about half compressible. Always the same. */
const layer = (number: number): Buffer => {
  const files: TarInput[] = [];
  let seed = number * 7919 + 1;
  const random = (): number => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) / 2 ** 32;
  for (let bytes = 0, i = 0; bytes < LAYER_BYTES; i++) {
    const size = Math.min(LAYER_BYTES - bytes, Math.ceil(2000 * Math.exp(random() * 6)));
    const noise = Buffer.concat(Array.from({ length: Math.ceil(size / 2 / 64) }, (_, n) => createHash("sha512").update(`${number}/${i}/${n}`).digest()));
    files.push({ path: `usr/share/l${number}/d${i % 40}/f${i}`, content: Buffer.concat([noise, Buffer.alloc(size, "some text that compresses ")]).subarray(0, size) });
    bytes += size;
  }
  return writeTar(files);
};

const startRegistry = async (directory: string): Promise<{ readonly host: string; kill(): void; stop(): Promise<void> }> => {
  writeFileSync(join(directory, "config.yml"), JSON.stringify({ version: 0.1, log: { level: "info" }, storage: { filesystem: { rootdirectory: join(directory, "data") } }, http: { addr: "127.0.0.1:0" } }));
  const child = spawn("docker-registry", ["serve", join(directory, "config.yml")], { stdio: ["ignore", "ignore", "pipe"] });
  const exited = once(child, "exit");
  const port = await new Promise<string>((resolve, reject) => {
    child.once("error", reject);
    createInterface({ input: child.stderr }).on("line", (line) => {
      const found = /listening on [^ ]*?:(\d+)/.exec(line)?.[1];
      if (found !== undefined) resolve(found);
    });
  });
  return {
    host: `127.0.0.1:${port}`,
    kill: () => void child.kill("SIGKILL"),
    stop: async () => {
      child.kill("SIGKILL");
      await exited;
    },
  };
};

// Compiled, as it is installed: threads that strip types first would be measured for that.
const compiled = (await import(new URL("../../dist/node-agent/images/linux-image-service.js", import.meta.url).href)) as { LinuxImageService: typeof LinuxImageService };
const open = (root: string): Promise<LinuxImageService> => compiled.LinuxImageService.open({ root, clock: new SystemClock(), random: Math.random, logger: silentLogger, metrics: new Metrics() });

/** Unpacking one layer after another, as one would type it, or two at a time: what this machine's processors allow. */
const bySkopeo = async (reference: string, directory: string, atOnce: 1 | 2): Promise<number> => {
  const startedMs = performance.now();
  await run("skopeo", ["copy", "--quiet", "--src-tls-verify=false", `docker://${reference}`, `dir:${join(directory, "copy")}`]);
  const { layers } = JSON.parse(readFileSync(join(directory, "copy/manifest.json"), "utf8")) as { layers: { digest: string }[] };
  const todo = layers.map((l, i) => [join(directory, "copy", hexOf(l.digest as `sha256:${string}`)), join(directory, `layer-${i}`)] as const);
  const worker = async (): Promise<void> => {
    for (let next = todo.shift(); next !== undefined; next = todo.shift()) {
      mkdirSync(next[1]);
      await run("tar", ["-xf", next[0], "-C", next[1]]);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return performance.now() - startedMs;
};

const disposable = (service: LinuxImageService): LinuxImageService & Disposable => Object.assign(service, { [Symbol.dispose]: () => service.close() });

const byUs = async (service: LinuxImageService, reference: string): Promise<{ readonly ms: number; readonly stallMs: number }> => {
  const delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  const startedMs = performance.now();
  await service.pull(reference, { credentials: [], signal: new AbortController().signal });
  const ms = performance.now() - startedMs;
  delay.disable();
  return { ms, stallMs: delay.max / 1e6 };
};

/** Into the registry, by way of a store of its own. Layers of each image are its own. Returns the bytes to transfer. */
const publish = async (number: number, compression: Compression, reference: string, directory: string): Promise<number> => {
  const image = buildImage({ architecture: detectPlatform().architecture, compression, layers: Array.from({ length: LAYERS }, (_, i) => layer(number * LAYERS + i)) });
  const store = await open(directory);
  await store.load((async function* () {
    yield ociArchive([{ name: reference, image }]);
  })());
  await store.push(reference, { credentials: [], signal: new AbortController().signal });
  store.close();
  return image.layers.reduce((sum, l) => sum + l.length, 0);
};

export const benchPull = async (compression: Compression): Promise<void> => {
  const work = mkdtempSync(join(tmpdir(), "gantry-bench-pull-"));
  const registry = await startRegistry(work);
  const remove = (): void => {
    registry.kill();
    rmSync(work, { recursive: true, force: true });
  };
  process.once("exit", remove);
  try {
    const references = Array.from({ length: ROUNDS + 1 }, (_, i) => `${registry.host}/bench/pull:v${i}`);
    let bytes = 0;
    for (const [i, reference] of references.entries()) bytes += await publish(i, compression, reference, join(work, `seed-${i}`));
    // One store for all, as an agent has it; and nothing is removed on the way, for ext4 looks long for inodes that were not used a minute ago.
    using service = disposable(await open(join(work, "store")));
    const measured = { us: [] as number[], one: [] as number[], two: [] as number[] };
    let stallMs = 0;
    for (const [round, reference] of references.entries()) {
      // In turns: what the page cache and the disk do to one they do to the others.
      const order = ["us", "one", "two"] as const;
      for (const who of [...order.slice(round % 3), ...order.slice(0, round % 3)]) {
        await run("sync");
        if (who === "us") {
          const pulled = await byUs(service, reference);
          measured.us.push(pulled.ms);
          stallMs = Math.max(stallMs, pulled.stallMs);
        } else {
          const directory = join(work, `skopeo-${round}-${who}`);
          mkdirSync(directory);
          measured[who].push(await bySkopeo(reference, directory, who === "one" ? 1 : 2));
        }
      }
    }
    console.log(`pull, ${compression}: ${LAYERS} layers, ${((LAYERS * LAYER_BYTES) / 1e6).toFixed(0)} MB unpacked, ${(bytes / references.length / 1e6).toFixed(0)} MB transferred, ${ROUNDS} rounds after one that warms up`);
    const show = (title: string, [, ...ms]: readonly number[], more = ""): void => console.log(`  ${title.padEnd(40)} median ${median(ms).toFixed(0)} ms  (${ms.map((one) => one.toFixed(0)).join(", ")})${more}`);
    // Of each round, since the machine's speed changes between them.
    const ratio = (other: readonly number[]): string => {
      const [first, ...others] = measured.us.map((ms, i) => ms / other[i]!);
      return `; ratio ${median(others).toFixed(2)}, of a process's first pull ${first!.toFixed(2)}`;
    };
    show("gantry", measured.us, `; longest pause of the event loop ${stallMs.toFixed(0)} ms`);
    show("skopeo copy, then tar of each layer", measured.one, ratio(measured.one));
    show("skopeo copy, then tar, two at a time", measured.two, ratio(measured.two));
  } finally {
    await registry.stop();
    remove();
    process.off("exit", remove);
  }
};

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));
  for (const compression of ["gzip", "zstd"] as const) await benchPull(compression);
}
