import test from "ava";
import { listProcesses, parseProcess, ttyName } from "./process-list.ts";

test("one process, with brackets and blanks in its name", (t) => {
  const stat = "77 (a) (b c) S 5 77 77 34817 77 4194304 1 0 0 0 150 50 0 0 20 0 1 0 1000 2000000 25 0";
  const row = parseProcess(77, { stat, status: "Name:\ta\nUid:\t0\t1000\t0\t0\n", commandLine: "sh\0-c\0sleep 1\0" }, 1_000_000, 1_020_000);
  t.deepEqual(row, { uid: 1000, pid: 77, ppid: 5, cpuPercent: 20, startedAtMs: 1_010_000, tty: "pts/1", cpuMs: 2000, residentBytes: 102_400, command: "sh -c sleep 1" });
  t.is(parseProcess(77, { stat, status: "", commandLine: "" }, 0, 0).command, "[a) (b c]", "as ps shows one without a command line");
});

test("terminals by device number", (t) => {
  t.deepEqual([0, 34816, 34817, 1025, 1281].map(ttyName), ["?", "pts/0", "pts/1", "tty1", "?"]);
});

test("this process is found, one that ended is left out", (t) => {
  const [own, ...more] = listProcesses([process.pid, 2 ** 22 + 5], Date.now());
  t.is(more.length, 0);
  t.like(own, { pid: process.pid, ppid: process.ppid, uid: process.geteuid!() });
  t.true(own!.residentBytes > 1e6 && Math.abs(own!.startedAtMs - Date.now()) < 3_600_000);
});
