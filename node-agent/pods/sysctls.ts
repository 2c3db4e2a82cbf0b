// Which kernel settings a pod may change: those that are its namespaces' own and can't hurt others, and what the node's administrator allows.
// https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/#safe-and-unsafe-sysctls. Pure.
import { GantryError } from "../../base/errors.ts";

const SAFE: ReadonlySet<string> = new Set([
  "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports",
  "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
]);

/** Others are the whole machine's, allowed or not: a pod would change them for everybody. */
const NAMESPACED = [/^kernel\.(?:shm|msg|sem)/, /^fs\.mqueue\./, /^net\./];

const dotted = (name: string): string => (name.includes("/") ? name.replaceAll("/", ".") : name);

/** `allowed`: names, or beginnings that end in "*". "Invalid" names the setting and what would allow it. */
export const checkSysctls = (sysctls: Readonly<Record<string, string>>, allowed: readonly string[]): void => {
  for (const name of Object.keys(sysctls).map(dotted)) {
    if (SAFE.has(name)) continue;
    if (!NAMESPACED.some((pattern) => pattern.test(name))) throw new GantryError("Invalid", `forbidden sysctl: ${JSON.stringify(name)} is not a pod's own, it would change the whole node`);
    if (!allowed.map(dotted).some((a) => (a.endsWith("*") ? name.startsWith(a.slice(0, -1)) : a === name))) {
      throw new GantryError("Invalid", `forbidden sysctl: ${JSON.stringify(name)} not allowlisted: the node agent's --allowed-unsafe-sysctls allows more than the safe ones`);
    }
  }
};
