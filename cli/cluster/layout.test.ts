import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { layoutOf, readState, writeState, type ClusterState } from "./layout.ts";
import { isRunning, startDaemon, startTimeOf, stop, tail } from "./processes.ts";
import { chooseSubnet } from "./subnet.ts";

test("clusters of different folders share no name, address or path", (t) => {
  const [a, b] = [layoutOf("/home/a/.gantry"), layoutOf("/home/b/.gantry")];
  for (const key of ["id", "socketDir", "hostsDir", "bridge", "stateFile", "kubeconfig"] as const) t.not(a[key], b[key], key);
  t.deepEqual(layoutOf("/home/x/../a/.gantry/"), a);
  // Interface names have at most 15 bytes, and hosts' links are named after their bridge.
  t.true(a.bridge.length <= 11);
});

test("state is read as it was written, by its owner only, and never half", (t) => {
  const dir = mkdtempSync(join(tmpdir(), "gantry-layout-"));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const layout = layoutOf(dir);
  t.is(readState(layout), undefined);
  mkdirSync(layout.runDir);
  const state = { id: layout.id, subnet: "100.96.1.0/24", hostCount: 1, gateway: "100.96.1.1", apiPort: 1, agentPort: 2, processes: [{ name: "node-1", pid: 7, startTime: 8 }], hosts: [], previous: {} } as unknown as ClusterState;
  writeState(layout, state);
  t.deepEqual(readState(layout), state);
  t.is(statSync(layout.stateFile).mode & 0o777, 0o600);
  t.deepEqual(readdirSync(layout.runDir), ["cluster.json"]);
});

test("a subnet is the cluster's own, unless the machine has an address in it", (t) => {
  const own = chooseSubnet("0102ff", []);
  t.regex(own, /^100\.(9[6-9]|1[01]\d|12[0-7])\.\d{1,3}\.0\/24$/);
  t.is(chooseSubnet("0102ff", ["10.0.0.1"]), own);
  const prefix = own.replace(/0\/24$/, "");
  const other = chooseSubnet("0102ff", [`${prefix}7`]);
  t.not(other, own);
  t.regex(other, /^100\.\d+\.\d+\.0\/24$/);
  const all = Array.from({ length: 256 }, (_, i) => `${own.split(".").slice(0, 2).join(".")}.${i}.1`);
  t.throws(() => chooseSubnet("0102ff", all), { message: /no free \/24/ });
});

test("a daemon is known by pid and start time, its output is in its log, and it ends when told or made to", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "gantry-daemon-"));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const start = (name: string, program: string) => startDaemon(name, process.execPath, ["-e", program], { logFile: join(dir, name), env: process.env, cwd: dir });
  const obedient = start("obedient", "setInterval(() => 0, 1000)");
  const stubborn = start("stubborn", "process.on('SIGTERM', () => 0); console.log('ready'); setInterval(() => 0, 1000)");
  t.teardown(() => stop([obedient, stubborn], 0));
  t.true(isRunning(obedient));
  // Another process that got the pid since then.
  t.false(isRunning({ ...obedient, startTime: obedient.startTime - 1 }));
  while (tail(join(dir, "stubborn"), 1) !== "ready") await new Promise((resolve) => setTimeout(resolve, 5));
  await stop([obedient, stubborn], 500);
  t.false(isRunning(obedient));
  t.false(isRunning(stubborn));
  t.is(startTimeOf(2 ** 30), undefined);
  t.is(tail(join(dir, "none"), 3), "");
  t.throws(() => startDaemon("none", "/nonexistent/program", [], { logFile: join(dir, "x"), env: {}, cwd: dir }), { message: /none could not be started/ });
});
