import test from "ava";
import { Metrics } from "../../base/metrics.ts";
import { silentLogger } from "../../base/logger.ts";
import { NODES } from "../../base/kube/resources.ts";
import type { Node } from "../../base/kube/types.gen.ts";
import { SessionMessage } from "../../proto/gen/gantry/v1/agent.ts";
import { createTestState } from "../state/testing.ts";
import { ClusterRoutes, encodeOpened } from "./cluster-routes.ts";
import { Session, SessionRegistry } from "./session-registry.ts";
import type { SessionCall } from "./session-registry.ts";

const node = (name: string, podCIDR: string, address: string): Node =>
  ({ apiVersion: "v1", kind: "Node", metadata: { name, uid: name }, spec: { podCIDR }, status: { addresses: [{ type: "Hostname", address: name }, { type: "InternalIP", address }] } });

/** A call that takes what is written until it is told to be slow. */
const newCall = () => {
  const messages: SessionMessage[] = [];
  const call = {
    messages, slow: false, drain: () => undefined as void,
    write: (bytes: Uint8Array): boolean => (messages.push(SessionMessage.decode(bytes)), !call.slow),
    once: (event: string, handler: () => void): void => void (event === "drain" && (call.drain = handler)), emit: () => true,
  };
  return call;
};

const start = async () => {
  const state = await createTestState();
  const { store, cache, clock } = state;
  const sessions = new SessionRegistry({ clock, logger: silentLogger, metrics: new Metrics() });
  const routes = new ClusterRoutes({ cache, clock, sessions });
  const put = (n: Node) => store.create({ type: NODES, namespace: "", name: n.metadata.name! }, n, { writer: "api" });
  const drop = (name: string) => store.delete({ type: NODES, namespace: "", name }, { writer: "api" });
  const open = (nodeName: string) => {
    const call = newCall();
    sessions.add(new Session({ nodeName, notAfterMs: Infinity }, nodeName, call as unknown as SessionCall, 0), call as unknown as SessionCall);
    return call;
  };
  return { ...state, routes, put, drop, open };
};

const namesIn = ({ message }: SessionMessage): string => (message?.$case === "routes" ? [...message.value.upsert.map((r) => `+${r.nodeName}`), ...message.value.remove.map((n) => `-${n}`)].join() : "");

test("changes of one moment go out as one message, to every session", async (t) => {
  const { clock, put, drop, open } = await start();
  const [a, b] = [open("a"), open("b")];
  await put(node("a", "10.64.0.0/24", "10.0.0.1"));
  await put(node("b", "10.64.1.0/24", "10.0.0.2"));
  await clock.advance(50);
  t.deepEqual(a.messages.map(namesIn), ["+a,+b"]);
  t.deepEqual(b.messages, a.messages);
  await drop("a");
  await clock.advance(50);
  t.deepEqual(a.messages.map(namesIn), ["+a,+b", "-a"]);
});

test("a session that reads slowly gets the newest state once it reads", async (t) => {
  const { clock, put, drop, open } = await start();
  const slow = open("slow");
  slow.slow = true;
  await put(node("a", "10.64.0.0/24", "10.0.0.1"));
  await clock.advance(50);
  for (const name of ["b", "c"]) await put(node(name, "10.64.1.0/24", "10.0.0.2"));
  await clock.advance(50);
  await drop("b");
  await clock.advance(50);
  t.deepEqual(slow.messages.map(namesIn), ["+a"]);
  slow.slow = false;
  slow.drain();
  t.deepEqual(slow.messages.map(namesIn), ["+a", "+c,-b"]);
  await put(node("d", "10.64.3.0/24", "10.0.0.4"));
  await clock.advance(50);
  t.is(namesIn(slow.messages.at(-1)!), "+d");
});

test("a change of a node that is no change of its route is not sent", async (t) => {
  const { store, clock, put, open } = await start();
  const call = open("a");
  await put(node("a", "10.64.0.0/24", "10.0.0.1"));
  await clock.advance(50);
  await store.update({ type: NODES, namespace: "", name: "a" }, (n) => ({ ...n, metadata: { ...n.metadata, labels: { x: "y" } } }), { writer: "api" });
  await clock.advance(50);
  t.is(call.messages.length, 1);
});

test("the first message holds all routes, encoded apart", async (t) => {
  const { clock, routes, put } = await start();
  await put(node("a", "10.64.0.0/24", "10.0.0.1"));
  await put(node("b", "10.64.1.0/24", "10.0.0.2"));
  await clock.advance(50);
  const network = { clusterCidr: "10.64.0.0/12", podCidr: "10.64.1.0/24", routes: [], dnsServers: ["10.0.0.9"], clusterDomain: "cluster.local" };
  const opened = { sessionId: "s", nodeName: "b", heartbeatPeriodMs: 5000, leaseMs: 20_000, network, controlPlanes: ["x:1"] };
  t.deepEqual(SessionMessage.decode(encodeOpened(opened, routes.snapshot())), { message: { $case: "opened", value: { ...opened, network: {
    ...network, routes: [{ nodeName: "a", podCidr: "10.64.0.0/24", via: "10.0.0.1", peerPort: 0 }, { nodeName: "b", podCidr: "10.64.1.0/24", via: "10.0.0.2", peerPort: 0 }],
  } } } });
});
