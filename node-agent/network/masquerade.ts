// Packet filter rules of the pod network: source translation on the way out of the cluster, and a way past a host firewall that drops
// what it forwards. Set once per configuration through one `nft` (or, without it, `iptables`); never on a pod's path.
import { execFile } from "node:child_process";
import { GantryError } from "../../base/errors.ts";
import { isErrno } from "../linux/libc.ts";

export interface MasqueradeOptions {
  readonly bridgeName: string;
  readonly podCidr: string;
  readonly clusterCidr: string;
}

/** Runs a command in this thread's network namespace. Resolves to its output; rejects with what it wrote to stderr. */
export type RunCommand = (command: string, args: readonly string[], input?: string) => Promise<string>;

/** The system's directories first: npm, whose bin directory leads the PATH of its scripts, has an `nft` too that is something else. */
const SYSTEM_PATH = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin";

export const runCommand: RunCommand = (command, args, input) =>
  new Promise((resolve, reject) => {
    const env = { ...process.env, PATH: `${SYSTEM_PATH}:${process.env["PATH"] ?? ""}` };
    const child = execFile(command, [...args], { encoding: "utf8", env }, (error, stdout, stderr) => {
      if (!error) resolve(stdout);
      else if (isErrno(error, "ENOENT")) reject(new GantryError("NotFound", `the command ${command} is not installed`));
      else reject(new GantryError("InternalError", `${command} ${args.join(" ")}: ${stderr.trim() || error.message}`));
    });
    child.stdin?.on("error", () => undefined); // it ended before it read everything: its exit code says why
    child.stdin?.end(input ?? "");
  });

export const tableName = (bridgeName: string): string => `gantry-${bridgeName}`;

/**
 * The whole table, replaced in one transaction. Multicast is left alone: translated, it would be answered to nobody. Traffic between
 * pods keeps its source, also when the bridge hands it to netfilter (bridge-nf-call-iptables).
 */
export const nftRules = ({ bridgeName, podCidr, clusterCidr }: MasqueradeOptions): string => {
  const table = `inet ${tableName(bridgeName)}`;
  return `add table ${table}
delete table ${table}
table ${table} {
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    ip saddr ${podCidr} ip daddr != ${clusterCidr} ip daddr != 224.0.0.0/4 oifname != "${bridgeName}" masquerade fully-random
  }
}
`;
};

const chainName = (bridgeName: string): string => `GANTRY-${bridgeName}`.slice(0, 28);

/** For `iptables-restore --noflush`: the chain's line empties it. */
export const iptablesRules = ({ bridgeName, podCidr, clusterCidr }: MasqueradeOptions): string => {
  const chain = chainName(bridgeName);
  return `*nat
:${chain} - [0:0]
-A ${chain} -d ${clusterCidr} -j RETURN
-A ${chain} -d 224.0.0.0/4 -j RETURN
-A ${chain} -s ${podCidr} ! -o ${bridgeName} -j MASQUERADE --random-fully
COMMIT
`;
};

const quietly = async (work: Promise<unknown>): Promise<boolean> => {
  try {
    await work;
    return true;
  } catch {
    return false;
  }
};

const forwardRules = (bridgeName: string): readonly (readonly string[])[] =>
  ["-i", "-o"].map((direction) => ["FORWARD", direction, bridgeName, "-m", "comment", "--comment", tableName(bridgeName), "-j", "ACCEPT"]);

/** Puts the rules in place. Returns what was used. "FailedPrecondition" when neither nft nor iptables is there. */
export const applyMasquerade = async (options: MasqueradeOptions, run: RunCommand = runCommand): Promise<"nft" | "iptables"> => {
  const tool = await translate(options, run);
  await acceptForwarded(options.bridgeName, run);
  return tool;
};

const translate = async (options: MasqueradeOptions, run: RunCommand): Promise<"nft" | "iptables"> => {
  try {
    await run("nft", ["-f", "-"], nftRules(options));
    return "nft";
  } catch (error) {
    if (!(error instanceof GantryError && error.code === "NotFound")) throw error;
  }
  try {
    await run("iptables-restore", ["-w", "5", "--noflush"], iptablesRules(options));
    const jump = ["POSTROUTING", "-j", chainName(options.bridgeName)];
    if (!(await quietly(run("iptables", ["-w", "5", "-t", "nat", "-C", ...jump])))) await run("iptables", ["-w", "5", "-t", "nat", "-A", ...jump]);
    return "iptables";
  } catch (error) {
    if (!(error instanceof GantryError && error.code === "NotFound")) throw error;
    throw new GantryError("FailedPrecondition", "pods can't reach the outside: neither nft nor iptables is installed; install the package nftables", { cause: error });
  }
};

/** Docker and many firewalls set FORWARD's policy to DROP: then pods could not even reach each other across nodes. */
const acceptForwarded = async (bridgeName: string, run: RunCommand): Promise<void> => {
  let policy = "";
  try {
    policy = await run("iptables", ["-w", "5", "-S", "FORWARD"]);
  } catch {
    return; // no iptables, so nobody set a policy with it
  }
  if (!policy.startsWith("-P FORWARD DROP")) return;
  for (const rule of forwardRules(bridgeName)) {
    if (!(await quietly(run("iptables", ["-w", "5", "-C", ...rule])))) await run("iptables", ["-w", "5", "-I", ...rule]);
  }
};

/** Takes off whatever of the rules is there. Never throws: what is missing is gone. */
export const removeMasquerade = async (bridgeName: string, run: RunCommand = runCommand): Promise<void> => {
  const chain = chainName(bridgeName);
  await quietly(run("nft", ["delete", "table", "inet", tableName(bridgeName)]));
  if (await quietly(run("iptables", ["-w", "5", "-t", "nat", "-D", "POSTROUTING", "-j", chain]))) {
    await quietly(run("iptables", ["-w", "5", "-t", "nat", "-F", chain]));
    await quietly(run("iptables", ["-w", "5", "-t", "nat", "-X", chain]));
  }
  for (const rule of forwardRules(bridgeName)) await quietly(run("iptables", ["-w", "5", "-D", ...rule]));
};
