// A cluster for a harness: in a temporary folder, on free ports, with the example image on every node; gone after it, whatever happens.
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { ApiClient, loadKubeconfig } from "../../cli/api-client.ts";
import { layoutOf, readState, type ClusterState, type Layout } from "../../cli/cluster/layout.ts";
import { buildExampleImage } from "../../cli/example-image.ts";
import { loadImage } from "../../cli/load-image.ts";

const run = promisify(execFile);
const GANTRY = join(import.meta.dirname, "../../cli/gantry");
export const IMAGE = "gantry.local/example:latest";

export interface BenchCluster {
  readonly client: ApiClient;
  readonly layout: Layout;
  readonly state: ClusterState;
  /** What `gantry up` took. */
  readonly upMs: number;
}

const freePort = (): Promise<number> => new Promise((resolve) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const { port } = server.address() as { port: number };
    server.close(() => resolve(port));
  });
});

export const withCluster = async (nodes: number, measure: (cluster: BenchCluster) => Promise<void>): Promise<void> => {
  const dir = mkdtempSync(join(tmpdir(), "gantry-bench-"));
  try {
    const startedMs = performance.now();
    await run(GANTRY, ["up", "--state-dir", dir, "--no-example", "--nodes", String(nodes), "--api-port", String(await freePort()), "--agent-port", String(await freePort())]);
    const upMs = performance.now() - startedMs;
    const layout = layoutOf(dir);
    using client = new ApiClient(loadKubeconfig(layout.kubeconfig));
    const archive = join(dir, "image.tar");
    await buildExampleImage(archive, { busyboxPath: "/bin/busybox" });
    await loadImage(client, archive, { name: IMAGE, onProgress: () => undefined });
    await measure({ client, layout, state: readState(layout)!, upMs });
  } finally {
    await run(GANTRY, ["down", "--state-dir", dir, "--purge"]);
    rmSync(dir, { recursive: true, force: true });
  }
};

/** One line of a table: what, here, what is to be reached, what others take. */
export const row = (what: string, value: string, target = "", peers = ""): void => console.log(`  ${what.padEnd(38)} ${value.padEnd(30)} ${target.padEnd(22)} ${peers}`.trimEnd());
