import test from "ava";
import { signalNumber } from "./signals.ts";

test("signals by name and number", (t) => {
  for (const [name, number] of [["KILL", 9], ["SIGKILL", 9], ["sigterm", 15], ["9", 9], ["64", 64], ["RTMIN", 34], ["SIGRTMIN+3", 37], ["RTMAX", 64], ["SIGRTMAX-2", 62], [" HUP ", 1]] as const) t.is(signalNumber(name), number, name);
  for (const name of ["", "0", "65", "-1", "9.5", "SIGNOTHING", "RTMIN+31", "RTMAX-31", "toString"]) t.is(signalNumber(name), undefined, name);
});
