import test from "ava";
import { FakeClock, settle } from "../../base/clock.ts";
import { silentLogger } from "../../base/logger.ts";
import type { ClusterNetwork, NodeRoute } from "../../proto/gen/gantry/v1/agent.ts";
import { NetworkApplier } from "./network-applier.ts";

const route = (nodeName: string): NodeRoute => ({ nodeName, podCidr: `10.64.${nodeName.charCodeAt(0)}.0/24`, via: "10.0.0.1", peerPort: 0 });
const whole = (...names: readonly string[]): ClusterNetwork => ({ clusterCidr: "10.64.0.0/12", podCidr: "10.64.0.0/24", routes: names.map(route), dnsServers: [], clusterDomain: "cluster.local" });

const start = (configure: (network: ClusterNetwork) => Promise<void>) => {
  const [clock, abort] = [new FakeClock(), new AbortController()];
  return { clock, abort, applier: new NetworkApplier({ network: { configure }, nodeName: "self", clock, random: () => 0, logger: silentLogger, signal: abort.signal }) };
};

test("changes are merged, without the node's own route", async (t) => {
  const applied: string[] = [];
  const { applier } = start(async ({ routes }) => void applied.push(routes.map((r) => r.nodeName).join()));
  await applier.replace(whole("self", "a", "b"));
  await applier.change({ upsert: [route("c")], remove: ["a"] });
  t.deepEqual(applied, ["a,b", "b,c"]);
  t.like(applier.condition(), { type: "NetworkUnavailable", status: false });
});

test("one configuration at a time, the newest state next", async (t) => {
  const pending: { readonly routes: string; readonly done: () => void }[] = [];
  const { applier } = start(({ routes }) => new Promise((done) => pending.push({ routes: routes.map((r) => r.nodeName).join(), done })));
  t.like(applier.condition(), { status: true });
  const first = applier.replace(whole("a"));
  void applier.change({ upsert: [route("b")], remove: [] });
  void applier.change({ upsert: [route("c")], remove: [] });
  t.is(pending.length, 1);
  pending[0]!.done();
  await settle();
  t.deepEqual(pending.map((p) => p.routes), ["a", "a,b,c"]);
  pending[1]!.done();
  await first;
  t.like(applier.condition(), { status: false });
});

test("a failure is told in the condition and tried again until the session ends", async (t) => {
  let attempts = 0;
  const { applier, clock, abort } = start(async () => {
    if (++attempts < 3) throw new Error("nft is missing");
  });
  await applier.replace(whole("a"));
  t.like(applier.condition(), { status: true, message: "nft is missing" });
  await clock.advance(10_000);
  t.is(attempts, 3);
  t.like(applier.condition(), { status: false });

  const failing = start(() => Promise.reject(new Error("no")));
  await failing.applier.replace(whole("a"));
  failing.abort.abort();
  t.is(failing.clock.pendingTimers, 0);
  abort.abort();
});
