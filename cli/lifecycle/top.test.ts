import test from "ava";
import type { ProcessRow } from "../../node-agent/pods/process-list.ts";
import { columnsOf, renderTop } from "./top.ts";

const nowMs = new Date(2026, 4, 7, 12, 0).getTime();
const row: ProcessRow = { uid: 0, pid: 7, ppid: 1, cpuPercent: 2.5, startedAtMs: nowMs - 3_600_000, tty: "pts/0", cpuMs: 65_000, residentBytes: 2048, command: "/bin/sh -c x" };

test("columns as ps names them", (t) => {
  t.is(renderTop([row], columnsOf([]), nowMs), "UID    PID   PPID   C   STIME   TTY     TIME       CMD\nroot   7     1      2   11:00   pts/0   00:01:05   /bin/sh -c x");
  t.is(renderTop([{ ...row, uid: 99 }], columnsOf(["aux"]), nowMs).split("\n")[0], "USER   PID   %CPU   RSS   TTY     START   TIME       COMMAND");
  t.is(renderTop([row], columnsOf(["-eo", "pid,comm"].slice(0, 0).concat("-o", "pid,comm")), nowMs), "PID   COMMAND\n7     sh");
  t.is(renderTop([], columnsOf(["-ef"]), nowMs).split("\n").length, 1);
  t.regex(renderTop([{ ...row, startedAtMs: new Date(2026, 3, 2).getTime() }], columnsOf([]), nowMs), /Apr02/);
});

test("what is not known is refused by name", (t) => {
  t.throws(() => columnsOf(["-o", "pid,foo"]), { code: "BadRequest", message: /no column "foo"; there are: user/ });
  t.throws(() => columnsOf(["--forest"]), { code: "BadRequest", message: /"--forest"/ });
});
