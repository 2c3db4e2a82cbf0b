import test from "ava";
import { isCode } from "../errors.ts";
import { formatBytes, formatMilliCpu, parseQuantity, toMilli, toUnits, tryParseQuantity } from "./quantity.ts";

test("suffixes are decimal, binary or exponents", (t) => {
  t.is(parseQuantity("1.5Gi"), 1.5 * 2 ** 30);
  t.is(parseQuantity("2k"), 2000);
  t.is(parseQuantity("1e3"), 1000);
  t.is(parseQuantity("12E"), 12e18);
  t.is(parseQuantity(".5"), 0.5);
});

test("milli-CPU and units round up, without floating-point noise", (t) => {
  t.is(toMilli("100m"), 100);
  t.is(toMilli("0.1"), 100);
  t.is(toMilli("1.0001"), 1001);
  t.is(toUnits("100m"), 1);
  t.is(toUnits("64Mi"), 67_108_864);
});

test("what is no quantity is said so", (t) => {
  for (const text of ["", "1 Gi", "Mi", "1KB", "--1", "1e", "0x10"]) t.is(tryParseQuantity(text), undefined, text);
  t.true(isCode(t.throws(() => parseQuantity("lots")), "Invalid"));
});

test("formatting is exact", (t) => {
  t.is(formatMilliCpu(1500), "1500m");
  t.is(formatMilliCpu(2000), "2");
  t.is(formatBytes(2 ** 30), "1Gi");
  t.is(formatBytes(1000), "1000");
});
