// Random choices that a seed repeats.

/** mulberry32: a seed, and the same numbers every time; each from 0 up to 1. */
export const randomFrom = (seed: number) => (): number => {
  seed = (seed + 0x6d2b79f5) | 0;
  let x = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
  return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
};

export const pickFrom = (random: () => number) => <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)]!;
