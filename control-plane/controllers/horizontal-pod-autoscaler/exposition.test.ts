import test from "ava";
import { parseSelector } from "../../../base/kube/labels.ts";
import { readMetrics, valueOf } from "./exposition.ts";

const PAGE = `# HELP queue Jobs that wait.
# TYPE queue gauge
queue{tier="a",note="a \\"quoted\\", \\\\ back\\nslash}"} 3
queue { tier = "b" , } 4.5e0 1395066363000
queue{tier="c"} NaN
# TYPE http_requests_total counter
http_requests_total 1027 # {trace_id="x"} 1
# TYPE seconds histogram
seconds_bucket{le="+Inf"} 7
seconds_sum 12.5
seconds_count 7
# TYPE om counter
om_total 5
untyped_total\t6
queued 1
inf +Inf
`;
const read = (...names: string[]): ReturnType<typeof readMetrics> => readMetrics(PAGE, new Set(names));

test("samples of the wanted names, with labels as escaped; nothing else", (t) => {
  const found = read("queue", "absent");
  t.deepEqual([...found.keys()], ["queue"]);
  t.deepEqual(found.get("queue")!.samples.map((s) => [s.labels, s.value]), [[{ tier: "a", note: 'a "quoted", \\ back\nslash}' }, 3], [{ tier: "b" }, 4.5], [{ tier: "c" }, Number.NaN]]);
});

test("a pod's value is the sum of the series that match; NaN and infinities say nothing", (t) => {
  const queue = read("queue").get("queue")!;
  t.is(valueOf(queue, []), 7.5);
  t.is(valueOf(queue, parseSelector("tier in (a)")), 3);
  t.is(valueOf(queue, parseSelector("tier=c")), undefined);
  t.is(valueOf(queue, parseSelector("tier=z")), undefined);
  t.is(valueOf(read("inf").get("inf")!, []), undefined);
});

test("counters are told by their type, or else by their name", (t) => {
  for (const name of ["http_requests_total", "seconds_bucket", "seconds_sum", "seconds_count", "om_total", "untyped_total"]) t.true(read(name).get(name)!.isCounter, name);
  for (const name of ["queue", "queued"]) t.false(read(name).get(name)!.isCounter, name);
  t.is(valueOf(read("http_requests_total").get("http_requests_total")!, []), 1027);
});

test("a line about a wanted name that can't be read is an error with its number; others don't matter", (t) => {
  for (const line of ['m{a="b" 1', "m{a=b} 1", 'm{a="b"}', "m", "m x", 'm{a="b\\"} 1', 'm{"quoted"} 1']) {
    const error = t.throws(() => readMetrics(`ok 1\n${line}`, new Set(["m"])), undefined, line);
    t.regex(error.message, /^line 2 can't be read/);
  }
  t.is(readMetrics("garbage {{{\n\u0000\r\nm 1\r\n", new Set(["m"])).get("m")!.samples[0]!.value, 1);
});
