import test from "ava";
import { checkSysctls } from "./sysctls.ts";

const CASES: readonly (readonly [name: string, allowed: readonly string[], refused: RegExp | undefined])[] = [
  ["net.ipv4.ip_unprivileged_port_start", [], undefined], ["net/ipv4/tcp_syncookies", [], undefined],
  ["net.core.somaxconn", [], /"net\.core\.somaxconn" not allowlisted/], ["net.core.somaxconn", ["net.core.*"], undefined], ["net.core.somaxconn", ["net.core.somaxconn"], undefined], ["net/core/somaxconn", ["net.core.somaxconn"], undefined],
  ["kernel.msgmax", ["net.*"], /"kernel\.msgmax" not allowlisted/], ["kernel.msgmax", ["kernel.msg*"], undefined],
  ["vm.swappiness", ["*"], /would change the whole node/], ["kernel.panic", ["kernel.*"], /would change the whole node/],
];
for (const [name, allowed, refused] of CASES) {
  test(`${name}, with ${allowed.join(",") || "nothing"} allowed, is ${refused ? "refused" : "taken"}`, (t) => {
    const check = (): void => checkSysctls({ [name]: "1" }, allowed);
    if (refused) t.throws(check, { message: refused });
    else t.notThrows(check);
  });
}
