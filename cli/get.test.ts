import test from "ava";
import { formatRows } from "./get.ts";

test("columns are as wide as their widest cell, three spaces apart, the last one as it is", (t) => {
  t.deepEqual(formatRows([["NAME", "READY", "AGE"], ["a-long-name", "1/1", "5s"]], []), ["NAME          READY   AGE", "a-long-name   1/1     5s"]);
  t.deepEqual(formatRows([["only"]], []), ["only"]);
  t.deepEqual(formatRows([], []), []);
});

test("rows that come later stay in line, and widen what is too narrow", (t) => {
  const widths: number[] = [];
  formatRows([["NAME", "X"]], widths);
  t.deepEqual(formatRows([["a", "b"]], widths), ["a      b"]);
  t.deepEqual(formatRows([["longer-name", "b"]], widths), ["longer-name   b"]);
  t.deepEqual(formatRows([["a", ""]], widths), ["a"]);
});
