import test from "ava";
import { GantryError } from "../../base/errors.ts";
import { applyMasquerade, iptablesRules, nftRules } from "./masquerade.ts";
import type { RunCommand } from "./masquerade.ts";

const options = { bridgeName: "gantry0", podCidr: "10.1.2.0/24", clusterCidr: "10.1.0.0/16" };

/** Commands that exist by name; `answers` by the whole command line. */
const commands = (present: readonly string[], answers: Readonly<Record<string, string | Error>> = {}): { readonly run: RunCommand; readonly ran: string[] } => {
  const ran: string[] = [];
  return {
    ran,
    run: (command, args) => {
      if (!present.includes(command)) return Promise.reject(new GantryError("NotFound", `the command ${command} is not installed`));
      const line = [command, ...args].join(" ");
      ran.push(line);
      const answer = answers[line] ?? "";
      return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
    },
  };
};

test("only what leaves the cluster is translated, and the table is replaced as one", (t) => {
  const rules = nftRules(options);
  t.regex(rules, /^add table inet gantry-gantry0\ndelete table inet gantry-gantry0\ntable inet gantry-gantry0 \{/);
  t.true(rules.includes('ip saddr 10.1.2.0/24 ip daddr != 10.1.0.0/16 ip daddr != 224.0.0.0/4 oifname != "gantry0" masquerade'));
  t.true(iptablesRules(options).includes("-A GANTRY-gantry0 -d 10.1.0.0/16 -j RETURN"));
});

test("nft is used where it is, iptables where it is not, and without either the package is named", async (t) => {
  t.is(await applyMasquerade(options, commands(["nft", "iptables", "iptables-restore"]).run), "nft");
  const old = commands(["iptables", "iptables-restore"], { "iptables -w 5 -t nat -C POSTROUTING -j GANTRY-gantry0": new GantryError("InternalError", "no such rule") });
  t.is(await applyMasquerade(options, old.run), "iptables");
  t.true(old.ran.includes("iptables -w 5 -t nat -A POSTROUTING -j GANTRY-gantry0"));
  await t.throwsAsync(applyMasquerade(options, commands([]).run), { code: "FailedPrecondition", message: /install the package nftables/ });
});

test("an nft that fails is reported, not worked around", async (t) => {
  const broken = commands(["nft", "iptables", "iptables-restore"], { "nft -f -": new GantryError("InternalError", "nft -f -: syntax error") });
  await t.throwsAsync(applyMasquerade(options, broken.run), { message: /syntax error/ });
});

test("a host that drops what it forwards lets pods through, and is left alone otherwise", async (t) => {
  const check = "iptables -w 5 -C FORWARD -i gantry0 -m comment --comment gantry-gantry0 -j ACCEPT";
  const dropping = commands(["nft", "iptables"], { "iptables -w 5 -S FORWARD": "-P FORWARD DROP\n-A FORWARD -j DOCKER\n", [check]: new GantryError("InternalError", "no such rule") });
  await applyMasquerade(options, dropping.run);
  t.true(dropping.ran.includes(check.replace("-C", "-I")));
  const accepting = commands(["nft", "iptables"], { "iptables -w 5 -S FORWARD": "-P FORWARD ACCEPT\n" });
  await applyMasquerade(options, accepting.run);
  t.false(accepting.ran.some((line) => line.includes(" -I ")));
});
