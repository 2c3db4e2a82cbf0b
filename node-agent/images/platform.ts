// Which of a multi-platform image's manifests this machine runs. Pure but for detectPlatform.
// https://github.com/opencontainers/image-spec/blob/main/image-index.md
import { readFileSync } from "node:fs";

export interface Platform {
  readonly os: string;
  /** As Go names it: amd64, arm64, arm, riscv64, ... */
  readonly architecture: string;
  /** amd64: v1 to v4 (micro-architecture levels); arm64: v8; arm: v5 to v7. "" is the base of its architecture. */
  readonly variant: string;
}

const ARCHITECTURES: Readonly<Record<string, string>> = { x64: "amd64", ia32: "386", ppc64: "ppc64le", mipsel: "mipsle" };
const BASE_VARIANT: Readonly<Record<string, string>> = { amd64: "v1", arm64: "v8", arm: "v7" };

export const formatPlatform = (p: Platform): string => `${p.os}/${p.architecture}${p.variant === "" ? "" : `/${p.variant}`}`;

const level = (p: Platform): number => Number(/^v(\d+)/.exec(p.variant === "" ? (BASE_VARIANT[p.architecture] ?? "v0") : p.variant)?.[1] ?? "0");

/**
 * The candidate for `host`: same system and architecture, the highest variant that the host has; undefined when there is none. One that
 * is alone and does not say for which platform it is gets the benefit of the doubt: its config will tell.
 */
export const choosePlatform = <T extends { readonly platform: Platform }>(candidates: readonly T[], host: Platform): T | undefined =>
  candidates
    .filter(({ platform: p }) => p.os === host.os && p.architecture === host.architecture && level(p) <= level(host))
    .toSorted((a, b) => level(b.platform) - level(a.platform))[0] ??
  (candidates.length === 1 && candidates[0]!.platform.architecture === "" ? candidates[0] : undefined);

/** Level of an x86-64 processor from the flags in /proc/cpuinfo (x86-64 psABI, "Micro-Architecture Levels"). */
export const amd64Variant = (cpuFlags: ReadonlySet<string>): string => {
  const has = (flags: string): boolean => flags.split(" ").every((f) => cpuFlags.has(f));
  if (!has("cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3")) return "v1";
  if (!has("avx avx2 bmi1 bmi2 f16c fma abm movbe xsave")) return "v2";
  return has("avx512f avx512bw avx512cd avx512dq avx512vl") ? "v4" : "v3";
};

export const detectPlatform = (): Platform => {
  const architecture = ARCHITECTURES[process.arch] ?? process.arch;
  if (architecture !== "amd64") return { os: "linux", architecture, variant: BASE_VARIANT[architecture] ?? "" };
  const flags = /^flags\s*:\s*(.*)$/m.exec(readFileSync("/proc/cpuinfo", "latin1"))?.[1] ?? "";
  return { os: "linux", architecture, variant: amd64Variant(new Set(flags.split(" "))) };
};
