import test from "ava";
import { busyNs, nodeMemory, otherEnd, parseNetDev, threadsOf } from "./node-usage.ts";

test("busy time leaves out idle time and waiting for disks", (t) => {
  t.is(busyNs("cpu  10 1 5 1000 70 2 3 4 9 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"), 25e7);
  t.is(busyNs("intr 1\n"), 0);
});

test("a node's working set leaves out inactive page cache", (t) => {
  const memory = nodeMemory("MemTotal:       1000 kB\nMemFree:         400 kB\nInactive(file):  100 kB\nAnonPages:       300 kB\n");
  t.deepEqual(memory, { usageBytes: 614_400, workingSetBytes: 512_000, rssBytes: 307_200, limitBytes: 0, availableBytes: 512_000 });
});

test("threads count, running and sleeping", (t) => {
  t.is(threadsOf("0.10 0.20 0.30 2/345 6789\n"), 345);
});

test("a pod's end of the link mirrors the node's", (t) => {
  const text = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
    + "    lo:     100       2    0    0    0     0          0         0      100       2    0    0    0     0       0          0\ngp12ab:1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n";
  const links = parseNetDev(text);
  t.deepEqual([...links.keys()], ["lo", "gp12ab"]);
  t.deepEqual(otherEnd(links.get("gp12ab")!), { rxBytes: 5, rxPackets: 6, rxErrors: 7, rxDropped: 8, txBytes: 1, txPackets: 2, txErrors: 3, txDropped: 4 });
});
