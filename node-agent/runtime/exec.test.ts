import test from "ava";
import type { OciProcess } from "./bundle.ts";
import { enteredByDescriptor } from "./exec.ts";

const PROCESS: OciProcess = {
  terminal: false, user: { uid: 0, gid: 0, additionalGids: [] }, args: ["./script", "./argument"], env: [], cwd: "/link", capabilities: { bounding: [], effective: [], permitted: [] }, noNewPrivileges: true, oomScoreAdj: 0,
};

test("a working directory by descriptor: crun finds a relative program by its full path, since the descriptor is closed when an interpreter looks for it", (t) => {
  t.deepEqual(enteredByDescriptor(PROCESS, "/work", "inherited"), { ...PROCESS, cwd: "/proc/self/fd/3", args: ["/work/script", "./argument"] });
  t.deepEqual(enteredByDescriptor(PROCESS, "/work", "preserved"), { ...PROCESS, cwd: "/proc/self/fd/3" });
  for (const command of ["sh", "/bin/sh"]) t.deepEqual(enteredByDescriptor({ ...PROCESS, args: [command] }, "/work", "inherited").args, [command]);
});
