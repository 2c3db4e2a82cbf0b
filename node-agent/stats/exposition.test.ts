import test from "ava";
import { StatsSample } from "../../proto/gen/gantry/v1/agent.ts";
import { exposition } from "./exposition.ts";

test("usage by cAdvisor's names: containers by their labels, the network by the pod's, what is not measured left out", (t) => {
  const text = exposition(StatsSample.fromPartial({
    atMs: 1, node: { cpu: { totalNs: 2e9 } },
    pods: [{
      uid: "u", namespace: "ns", name: "web", cpu: { totalNs: 3e9 }, network: { rxBytes: 7 }, storageBytes: -1,
      containers: [{ name: "main", image: 'a"b', cpu: { totalNs: 15e8 }, memory: { workingSetBytes: 4096 }, storageBytes: -1, pressure: { memory: { someUs: 1_500_000, fullUs: 0 } } }],
    }],
  }));
  for (const line of [
    "# TYPE container_cpu_usage_seconds_total counter", 'container_cpu_usage_seconds_total{namespace="ns",pod="web"} 3', 'container_cpu_usage_seconds_total{namespace="ns",pod="web",container="main",image="a\\"b"} 1.5',
    'container_memory_working_set_bytes{namespace="ns",pod="web",container="main",image="a\\"b"} 4096', 'container_network_receive_bytes_total{namespace="ns",pod="web"} 7',
    'container_pressure_memory_waiting_seconds_total{namespace="ns",pod="web",container="main",image="a\\"b"} 1.5', "node_cpu_usage_seconds_total 2",
  ]) t.true(text.split("\n").includes(line), line);
  t.false(text.includes("container_fs_usage_bytes"));
  t.false(text.includes("container_pressure_io"));
});
