// `gantry build` on a cluster of its own: the first time, and with everything cached, end to end as a user sees it. Runnable alone: node bench/engine/build.ts (root; `make build` before).
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { ApiClient, loadKubeconfig } from "../../cli/api-client.ts";
import { BuildDisplay } from "../../cli/build/build-display.ts";
import { readBuildInput } from "../../cli/build/build-input.ts";
import { runBuild } from "../../cli/build/run-build.ts";
import { baseArchive } from "../../test/helpers/builder.ts";
import { Cluster } from "../../test/helpers/cluster.ts";
import { median } from "../statistics.ts";

const ROUNDS = Number(process.env["ROUNDS"] ?? 10);
const DOCKERFILE = `FROM base:1 AS build
WORKDIR /src
COPY . .
RUN for i in $(seq 50); do echo $i > /src/made-$i; done
FROM base:1
COPY --from=build /src /app
RUN echo done > /done
CMD ["sh"]
`;

const shown = (ms: number): string => `${ms.toFixed(0)} ms`;

await using cluster = await Cluster.start({ nodes: 2, image: false });
const directory = mkdtempSync(join(tmpdir(), "gantry-bench-build-"));
try {
  using client = new ApiClient(loadKubeconfig(cluster.layout.kubeconfig));
  const loaded = await client.send("POST", "/apis/gantry.io/v1/images", { stream: Readable.from([baseArchive("base:1")]), contentType: "application/x-tar" });
  for await (const _ of loaded);
  writeFileSync(join(directory, "Dockerfile"), DOCKERFILE);
  for (let i = 0; i < 100; i++) writeFileSync(join(directory, `file-${i}`), `${i}`.repeat(500));
  const flags = { tag: ["bench:1"], file: "", buildArg: [], target: "", noCache: false, platform: "", secret: [], pull: false, label: [], network: "default", push: false };
  /** From reading the context to the image on every node, without the start of a process. */
  const build = async (noCache: boolean): Promise<number> => {
    const startedMs = performance.now();
    const input = await readBuildInput(directory, { ...flags, noCache }, {}, Readable.from([]));
    await runBuild(client, input, "", new BuildDisplay("quiet"), new AbortController().signal);
    return performance.now() - startedMs;
  };
  const firstMs = await build(true);
  const cached: number[] = [];
  for (let i = 0; i < ROUNDS; i++) cached.push(await build(false));
  const command: number[] = [];
  for (let i = 0; i < 3; i++) {
    const startedMs = performance.now();
    const ran = await cluster.gantry(["build", "-q", "-t", "bench:1", directory]);
    if (ran.code !== 0) throw new Error(ran.err);
    command.push(performance.now() - startedMs);
  }
  console.log("build: two stages, 7 steps, 100 files, 2 nodes");
  console.log(`  nothing cached           ${shown(firstMs)}`);
  console.log(`  everything cached, p50   ${shown(median(cached))}   (best ${shown(Math.min(...cached))}; to reach: 200 ms)`);
  console.log(`  the same as a command    ${shown(median(command))}   (starts a process)`);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
