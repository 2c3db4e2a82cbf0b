import test from "ava";
import { isCode } from "../../base/errors.ts";
import { HostPorts, checkPorts, portRules } from "./host-ports.ts";
import type { PublishedPod } from "./pod-network.ts";

const pod = (name: string, ...ports: readonly string[]): PublishedPod => ({
  name, ip: "10.1.2.3",
  ports: ports.map((text) => {
    const [hostIp, port, protocol = "TCP"] = /^(?:(.*):)?(\d+)(?:\/(\w+))?$/.exec(text)!.slice(1) as [string | undefined, string, string?];
    return { hostIp: hostIp ?? "", port: Number(port), containerPort: 80, protocol };
  }),
});

const CLASHES: readonly (readonly [string, string, boolean])[] = [
  ["8080", "8080", true], ["8080", "8081", false], ["53/TCP", "53/UDP", false], ["192.0.2.1:80", "192.0.2.2:80", false], ["192.0.2.1:80", "192.0.2.1:80", true],
  ["192.0.2.1:80", "80", true], ["0.0.0.0:80", "127.0.0.1:80", true], ["80/SCTP", "0.0.0.0:80/SCTP", true],
];
for (const [a, b, clash] of CLASHES) {
  test(`host ports ${a} and ${b} ${clash ? "can't" : "can"} both be on a node`, (t) => {
    const check = (): void => checkPorts("u2", pod("ns/new", b), new Map([["u1", pod("ns/old", a)]]));
    if (!clash) {
      t.notThrows(check);
      return;
    }
    const error = t.throws(check);
    t.true(isCode(error, "Conflict"));
    t.regex(error.message, /^host port \S+ is taken on this node by pod ns\/old$/);
  });
}

test("a pod doesn't stand in its own way when a step is done again", (t) => t.notThrows(() => checkPorts("u", pod("ns/a", "80"), new Map([["u", pod("ns/a", "80")]]))));

test("a port of an IPv6 address is refused in words", (t) => t.regex(t.throws(() => checkPorts("u", pod("ns/a", "fd00::1:80"), new Map())).message, /hostIP "fd00::1": pods have IPv4 addresses only/));

test("rules name each port once, by address where one is asked for", (t) => {
  const rules = portRules("gantry0", new Map([["u", pod("ns/a", "8080", "127.0.0.1:53/UDP")]]));
  t.regex(rules, /map everywhere \{[^}]*elements = \{ tcp \. 8080 : 10\.1\.2\.3 \. 80 \}/);
  t.regex(rules, /map byaddress \{[^}]*elements = \{ 127\.0\.0\.1 \. udp \. 53 : 10\.1\.2\.3 \. 80 \}/);
  t.is(portRules("gantry0", new Map()), "add table inet gantry-ports-gantry0\ndelete table inet gantry-ports-gantry0\n");
});

test("changes that come while nft runs share the next one, and one that fails leaves no trace", async (t) => {
  const runs: string[] = [];
  let fail = false;
  const ports = new HostPorts({
    bridgeName: "b", allowLoopback: () => undefined,
    run: async (_command, [first], input) => {
      if (first === "list") throw new Error("no such table");
      if (fail) throw new Error("nft says no");
      runs.push(input!);
      return "";
    },
  });
  await ports.restore(new Map());
  t.deepEqual(runs, [], "a node without host ports needs no nft");
  await Promise.all([1, 2, 3].map((n) => ports.publish(`u${n}`, pod(`ns/p${n}`, String(8000 + n)))));
  t.true(runs.length <= 2, `${runs.length} runs`);
  t.regex(runs.at(-1)!, /8001.*8002.*8003/);
  fail = true;
  await t.throwsAsync(ports.publish("u4", pod("ns/p4", "8004")), { message: "nft says no" });
  fail = false;
  await ports.withdraw("u1");
  t.notRegex(runs.at(-1)!, /8001|8004/);
  const before = runs.length;
  await ports.withdraw("unknown");
  t.is(runs.length, before);
});
