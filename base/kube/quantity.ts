// Kubernetes quantities ("500m", "1.5Gi", "1e3"): k8s.io/apimachinery/pkg/api/resource. Internally Gantry counts CPU in whole
// milli-CPU and everything else in whole units (bytes, pods), always rounded up, as upstream's MilliValue() and Value() do.
import { GantryError } from "../errors.ts";

const SUFFIXES: Readonly<Record<string, number>> = {
  n: 1e-9, u: 1e-6, m: 1e-3, "": 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, E: 1e18,
  Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, Pi: 2 ** 50, Ei: 2 ** 60,
};
const PATTERN = /^([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)$/;

/** The plain number that a quantity stands for, or undefined when it isn't one. */
export const tryParseQuantity = (text: string): number | undefined => {
  const match = PATTERN.exec(text);
  if (!match) return undefined;
  const [, digits, exponent, suffix] = match;
  return exponent ? Number(digits! + exponent) : Number(digits) * SUFFIXES[suffix ?? ""]!;
};

export const parseQuantity = (text: string): number => {
  const value = tryParseQuantity(text);
  if (value === undefined) {
    throw new GantryError("Invalid", `${JSON.stringify(text)} is not a quantity: a number with an optional suffix such as 500m, 1.5, 64Mi or 2G`);
  }
  return value;
};

// 0.1 * 1000 is 100.00000000000001 in binary floating point: take off the noise before rounding up.
const ceilExact = (value: number): number => Math.ceil(Number(value.toPrecision(15)));

/** Whole milli-units, rounded up: the unit of CPU. */
export const toMilli = (quantity: string): number => ceilExact(parseQuantity(quantity) * 1000);
/** Whole units, rounded up: bytes, pods, ... */
export const toUnits = (quantity: string): number => ceilExact(parseQuantity(quantity));

export const formatMilliCpu = (milli: number): string => (milli % 1000 === 0 ? String(milli / 1000) : `${milli}m`);

/** Exact binary suffix where one divides the value: 1073741824 is "1Gi", 1000 is "1000". */
export const formatBytes = (bytes: number): string => {
  for (const suffix of ["Ei", "Pi", "Ti", "Gi", "Mi", "Ki"]) {
    const unit = SUFFIXES[suffix]!;
    if (bytes >= unit && bytes % unit === 0) return `${bytes / unit}${suffix}`;
  }
  return String(bytes);
};

/** An amount in Gantry's unit (milli-CPU or whole units) as Kubernetes writes the resource's quantity. */
export const formatQuantity = (resource: string, amount: number): string => {
  const name = resource.replace(/^(requests|limits)\./, "");
  return name === "cpu" ? formatMilliCpu(amount) : /memory|storage$|^hugepages-/.test(name) ? formatBytes(amount) : String(amount);
};
