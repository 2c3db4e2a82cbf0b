// Memory of process trees by PSS (proportional set size): shared pages are counted once over all who share them. proc(5), smaps_rollup.
import { readFileSync, readdirSync } from "node:fs";

export interface NamedMemory {
  readonly name: string;
  readonly pid: number;
  readonly pssBytes: number;
}

/** PSS of one process; 0 when it is gone. */
export const pssBytesOf = (pid: number): number => {
  try {
    return Number(/^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
};

/** Direct children by name (comm), for finding the etcd of a control plane. */
export const childrenOf = (pid: number): readonly { readonly pid: number; readonly name: string }[] =>
  readdirSync("/proc").filter((d) => /^\d+$/.test(d)).flatMap((d) => {
    try {
      const stat = readFileSync(`/proc/${d}/stat`, "utf8");
      const match = /^\d+ \((.*)\) \S (\d+)/s.exec(stat);
      return Number(match?.[2]) === pid ? [{ pid: Number(d), name: match![1]! }] : [];
    } catch {
      return [];
    }
  });

/** Of daemons, each followed by the etcd that it supervises. */
export const memoryOf = (processes: readonly { readonly name: string; readonly pid: number }[]): readonly NamedMemory[] =>
  processes.flatMap((p) => [
    { name: p.name, pid: p.pid, pssBytes: pssBytesOf(p.pid) },
    ...childrenOf(p.pid).filter((c) => c.name === "etcd").map((c) => ({ name: "etcd", pid: c.pid, pssBytes: pssBytesOf(c.pid) })),
  ]);
