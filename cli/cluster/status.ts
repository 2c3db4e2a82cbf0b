// `gantry status`: what of `up` runs, what the nodes say, and what it costs.
import { isNodeReady } from "../../base/kube/node-taints.ts";
import { NODES, PODS } from "../../base/kube/resources.ts";
import { describeError } from "../../base/errors.ts";
import { ApiClient, loadKubeconfig } from "../api-client.ts";
import { layoutOf, readState } from "./layout.ts";
import { memoryOf } from "./memory.ts";
import { isRunning } from "./processes.ts";

interface StatusReport {
  readonly running: boolean;
  readonly daemons: readonly { readonly name: string; readonly pid: number; readonly running: boolean; readonly pssBytes: number }[];
  readonly nodes: readonly { readonly name: string; readonly ready: boolean; readonly containers: number }[];
  readonly pods: Readonly<Record<string, number>>;
  readonly kubeconfig: string;
  readonly error?: string;
}

/** Exit code 0 when everything runs, 1 when not. */
export const status = async (options: { readonly root: string; readonly json: boolean }): Promise<number> => {
  const layout = layoutOf(options.root);
  const state = readState(layout);
  const memory = memoryOf(state?.processes ?? []);
  const daemons = [
    ...(state?.processes ?? []).map((p) => ({ name: p.name, pid: p.pid, running: isRunning(p), pssBytes: memory.find((m) => m.pid === p.pid)?.pssBytes ?? 0 })),
    ...memory.filter((m) => m.name === "etcd").map((m) => ({ name: m.name, pid: m.pid, running: true, pssBytes: m.pssBytes })),
  ];
  let report: StatusReport = { running: daemons.length > 0 && daemons.every((d) => d.running), daemons, nodes: [], pods: {}, kubeconfig: layout.kubeconfig };
  if (daemons.some((d) => d.name === "control-plane" && d.running)) {
    try {
      using client = new ApiClient(loadKubeconfig(layout.kubeconfig));
      const [nodes, pods] = await Promise.all([client.list(NODES), client.list(PODS)]);
      const phases: Record<string, number> = {};
      for (const p of pods.items) phases[p.status?.phase ?? "Unknown"] = (phases[p.status?.phase ?? "Unknown"] ?? 0) + 1;
      report = {
        ...report, pods: phases,
        nodes: nodes.items.map((n) => ({
          name: n.metadata.name!, ready: isNodeReady(n),
          containers: pods.items.filter((p) => p.spec?.nodeName === n.metadata.name && p.status?.phase === "Running").reduce((sum, p) => sum + p.spec!.containers.length, 0),
        })),
      };
      if (report.nodes.some((n) => !n.ready)) report = { ...report, running: false };
    } catch (error) {
      report = { ...report, running: false, error: describeError(error) };
    }
  }
  if (options.json) console.log(JSON.stringify(report, null, 2));
  else print(report);
  return report.running ? 0 : 1;
};

const print = (report: StatusReport): void => {
  if (report.daemons.length === 0) {
    console.log("nothing runs here; start a cluster with 'gantry up'");
    return;
  }
  for (const d of report.daemons) console.log(`${d.name.padEnd(14)} ${d.running ? `pid ${d.pid}`.padEnd(12) : "not running ".padEnd(12)} ${d.running ? `${Math.round(d.pssBytes / 2 ** 20)} MiB` : ""}`);
  console.log();
  for (const n of report.nodes) console.log(`${n.name.padEnd(14)} ${(n.ready ? "Ready" : "NotReady").padEnd(12)} ${n.containers} containers`);
  console.log(`\npods           ${Object.entries(report.pods).map(([phase, count]) => `${count} ${phase}`).join(", ") || "none"}`);
  console.log(`kubeconfig     ${report.kubeconfig}`);
  if (report.error) console.log(`error          ${report.error}`);
};
