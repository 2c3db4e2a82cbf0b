import test from "ava";
import { settle } from "../../../base/clock.ts";
import type { FakeClock } from "../../../base/clock.ts";
import { DEPLOYMENTS, HORIZONTAL_POD_AUTOSCALERS, PODS } from "../../../base/kube/resources.ts";
import type { HorizontalPodAutoscaler, MetricSpec } from "../../../base/kube/types.gen.ts";
import { PodUsage } from "../../../proto/gen/gantry/v1/agent.ts";
import type { StreamFrame } from "../../../proto/gen/gantry/v1/agent.ts";
import type { NodeStreams } from "../../state/node-streams.ts";
import { deploymentController } from "../deployment/controller.ts";
import { replicaSetController } from "../replicaset/controller.ts";
import { createBench, deployment, NS, template } from "../testing.ts";
import type { Bench } from "../testing.ts";
import { horizontalPodAutoscalerController } from "./controller.ts";

const CPU: MetricSpec = { type: "Resource", resource: { name: "cpu", target: { type: "Utilization", averageUtilization: 50 } } };
const QUEUE: MetricSpec = { type: "Pods", pods: { metric: { name: "jobs" }, target: { type: "AverageValue", averageValue: "10" } } };

const hpa = (metrics: MetricSpec[], more: Partial<HorizontalPodAutoscaler["spec"]> = {}, name = "h"): HorizontalPodAutoscaler => ({
  apiVersion: "autoscaling/v2", kind: "HorizontalPodAutoscaler", metadata: { name, namespace: NS, uid: `uid-${name}`, generation: 1 },
  spec: { scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: "web" }, minReplicas: 1, maxReplicas: 10, metrics, ...more },
});

/** A node whose pods all use as much CPU, and answer as a server that closes each connection. */
class FakeNode {
  milliCpu = 100;
  page = "jobs 30\n";
  reads = 0;
  scrapes: string[] = [];
  /** Streams that somebody still reads. */
  open = 0;
  bench!: Bench;

  streams(clock: FakeClock): NodeStreams {
    return {
      connectedNodes: () => ["node-1"],
      open: async (_node, { kind }) => {
        this.open++;
        const sent: Uint8Array[] = [];
        const { promise: asked, resolve } = Promise.withResolvers<void>();
        const answer = (): StreamFrame["frame"][] => {
          if (kind?.$case === "portForward") {
            this.scrapes.push(`${kind.value.port} ${Buffer.concat(sent).toString().split("\r\n")[0]!}`);
            const text = `HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n${this.page.length.toString(16)}\r\n${this.page}\r\n0\r\n\r\n`;
            return [{ $case: "stdout", value: Buffer.from(text.slice(0, 20)) }, { $case: "stdout", value: Buffer.from(text.slice(20)) }];
          }
          this.reads++;
          const pods = this.bench.list(PODS).map((p) => PodUsage.fromPartial({ uid: p.metadata.uid!, containers: [{ name: "main", cpu: { nanoCores: this.milliCpu * 1e6, windowMs: 1000 }, memory: { workingSetBytes: 1024 } }] }));
          return [{ $case: "stats", value: { atMs: clock.nowMs(), node: undefined, pods } }];
        };
        return {
          send: async ({ frame }) => {
            if (frame?.$case === "stdin") sent.push(frame.value);
            if (Buffer.concat(sent).includes("\r\n\r\n")) resolve();
          },
          end: () => undefined,
          frames: (async function* frames() {
            if (kind?.$case === "portForward") await asked;
            for (const frame of answer()) yield { frame };
          })(),
          [Symbol.asyncDispose]: async () => void this.open--,
        };
      },
    };
  }
}

const ready = async (t: Parameters<typeof createBench>[0], replicas = 1): Promise<{ bench: Bench; node: FakeNode; size: () => number; pass: (ms?: number) => Promise<void>; status: () => NonNullable<HorizontalPodAutoscaler["status"]> }> => {
  const node = new FakeNode();
  const bench = await createBench(t, [horizontalPodAutoscalerController, deploymentController, replicaSetController], { streams: (clock) => node.streams(clock) });
  node.bench = bench;
  const web = template({ app: "web" });
  web.spec!.containers[0]!.resources = { requests: { cpu: "100m" } };
  web.spec!.containers[0]!.ports = [{ containerPort: 8080 }];
  await bench.put(DEPLOYMENTS, deployment("web", replicas, { template: web }));
  const pass = async (ms = 15_000): Promise<void> => {
    await bench.run(ms);
    // Streams of node's own take turns of the real event loop.
    do await settle(); while (node.open > 0);
    await bench.run();
    for (const pod of bench.list(PODS).filter((p) => p.status?.phase === "Pending")) await bench.setPod(pod, { startTime: new Date(bench.clock.nowMs() - 3_600_000).toISOString() });
    await bench.startPods();
    await bench.endMarkedPods();
    await bench.run(1000);
  };
  await pass(0);
  return { bench, node, pass, size: () => bench.get(DEPLOYMENTS, "web")!.spec!.replicas!, status: () => bench.get(HORIZONTAL_POD_AUTOSCALERS, "h")!.status! };
};

test("up by CPU step by step to the maximum, down when it is idle and the window is over; one read of the node for all", async (t) => {
  const { bench, node, pass, size, status } = await ready(t);
  await bench.put(HORIZONTAL_POD_AUTOSCALERS, hpa([CPU], { maxReplicas: 5 }));
  await pass(0);
  t.is(size(), 2, "100 % of a target of 50 %");
  t.like(status(), { currentReplicas: 1, desiredReplicas: 2, currentMetrics: [{ type: "Resource", resource: { name: "cpu", current: { averageUtilization: 100, averageValue: "100m" } } }] });
  await pass();
  t.is(size(), 4);
  await pass();
  t.is(size(), 5);
  await pass();
  t.like(status().conditions!.find((c) => c.type === "ScalingLimited")!, { status: "True", reason: "TooManyReplicas" });
  const { generation } = bench.get(DEPLOYMENTS, "web")!.metadata;
  t.is(generation, 4);
  node.milliCpu = 10;
  await pass();
  t.is(size(), 5);
  t.like(status().conditions!.find((c) => c.type === "AbleToScale")!, { reason: "ScaleDownStabilized" });
  for (let i = 0; i < 20; i++) await pass();
  t.is(size(), 1);
  t.deepEqual(bench.events.filter((e) => e.reason === "SuccessfulRescale").map((e) => e.message).slice(0, 1), ["New size: 2; reason: cpu resource utilization (percentage of request) above target"]);
  t.is(bench.events.findLast((e) => e.reason === "SuccessfulRescale")!.message, "New size: 1; reason: All metrics below target");
  t.deepEqual(node.scrapes, [], "nobody asked pods");
});

test("by a number that pods serve: one scrape of each pod and pass, and its failure is told", async (t) => {
  const { bench, node, pass, size, status } = await ready(t);
  await bench.put(HORIZONTAL_POD_AUTOSCALERS, hpa([QUEUE]));
  await pass(0);
  t.is(size(), 3);
  t.deepEqual(node.scrapes, ["8080 GET /metrics HTTP/1.1"]);
  t.is(node.reads, 0, "nobody measured");
  t.deepEqual(status().currentMetrics, [{ type: "Pods", pods: { metric: { name: "jobs" }, current: { averageValue: "30" } } }]);
  node.page = "# nothing\n";
  await pass();
  t.is(size(), 3);
  t.like(status().conditions!.find((c) => c.type === "ScalingActive")!, { status: "False", reason: "FailedGetPodsMetric" });
  t.regex(bench.events.find((e) => e.reason === "FailedGetPodsMetric")!.message, /^unable to get metric jobs: pod \S+ tells nothing of jobs$/);
});

test("a target that isn't there, two autoscalers on the same pods, a target at rest, and bounds that come first", async (t) => {
  const { bench, pass, size, status } = await ready(t);
  const active = (): unknown => status().conditions!.find((c) => c.type === "ScalingActive")!.reason;
  await bench.put(HORIZONTAL_POD_AUTOSCALERS, hpa([CPU], { scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: "lost" } }));
  await pass(0);
  t.like(status().conditions![0]!, { type: "AbleToScale", status: "False", reason: "FailedGetScale", message: 'the HPA controller was unable to get the target\'s current scale: deployments.apps "lost" not found' });
  await bench.changeSpec(HORIZONTAL_POD_AUTOSCALERS, "h", { scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: "web" }, minReplicas: 2 });
  await pass(0);
  t.is(size(), 2);
  await bench.put(HORIZONTAL_POD_AUTOSCALERS, hpa([CPU], {}, "other"));
  await pass();
  t.is(active(), "AmbiguousSelector");
  t.is(size(), 2);
  await bench.remove(HORIZONTAL_POD_AUTOSCALERS, "other");
  await bench.changeSpec(DEPLOYMENTS, "web", { replicas: 0 });
  await pass();
  t.is(active(), "ScalingDisabled");
  t.is(size(), 0);
});

test("a silent metric keeps what is there, unless another one asks for more", async (t) => {
  const { bench, node, pass, size, status } = await ready(t, 4);
  const external: MetricSpec = { type: "External", external: { metric: { name: "m" }, target: { type: "Value", value: "1" } } };
  node.milliCpu = 1;
  await bench.put(HORIZONTAL_POD_AUTOSCALERS, hpa([external, CPU]));
  await pass();
  t.is(size(), 4);
  t.like(status().conditions!.find((c) => c.type === "ScalingActive")!, { reason: "FailedGetExternalMetric", message: "the HPA was unable to compute the replica count: unable to get external metric m: no external metrics API (external.metrics.k8s.io) is registered" });
  node.milliCpu = 100;
  await pass();
  t.is(size(), 8);
  t.is(status().currentMetrics!.length, 2);
});
