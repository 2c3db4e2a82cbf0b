// Order statistics for the harnesses. Pure.

export const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** Nearest-rank percentile of unsorted values; NaN of none. */
export const percentile = (values: readonly number[], p: number): number => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length === 0 ? Number.NaN : sorted[Math.max(0, Math.ceil((p / 100) * sorted.length) - 1)]!;
};

export const median = (values: readonly number[]): number => percentile(values, 50);
