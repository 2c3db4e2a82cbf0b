import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { LineSplitter, parseLine, timeOf } from "./cri-line.ts";
import { partsOf, rotate } from "./log-files.ts";
import { readLog, type ReadLogOptions } from "./log-reader.ts";

const folder = (t: ExecutionContext): string => {
  const dir = mkdtempSync(join(tmpdir(), "gantry-logs-"));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return join(dir, "0.log");
};
const at = (second: number, text: string, stream = "stdout", tag = "F"): string => `2026-01-01T00:00:${String(second).padStart(2, "0")}.123456789+00:00 ${stream} ${tag} ${text}\n`;
const never = new AbortController().signal;
const read = async (path: string, options: Partial<ReadLogOptions> = {}): Promise<string> => {
  let text = "";
  for await (const chunk of readLog(path, { timestamps: false, follow: false, ended: never, signal: never, ...options })) text += chunk.data.toString("utf8");
  return text;
};

test("a line has time, stream, tag and text, which may be empty or hold spaces", (t) => {
  const line = parseLine(Buffer.from(at(1, "a  b").trimEnd()))!;
  t.is(line.text.toString(), "a  b");
  t.is(timeOf(line), Date.UTC(2026, 0, 1, 0, 0, 1) + 123.456789);
  t.is(parseLine(Buffer.from("2026-01-01T00:00:00Z stderr F "))!.text.length, 0);
  t.true(parseLine(Buffer.from("2026-01-01T00:00:00Z stderr P x"))!.partial);
  t.is(parseLine(Buffer.from("torn")), undefined);
});

test("chunks are cut into lines wherever they break", (t) => {
  const splitter = new LineSplitter();
  const lines = ["a", "b\nc", "\n\nd\ne"].flatMap((c) => [...splitter.push(Buffer.from(c))].map(String));
  t.deepEqual(lines, ["ab", "c", "", "d"]);
});

test("the tail goes back over rotated parts", async (t) => {
  const path = folder(t);
  for (let part = 0; part < 3; part++) {
    writeFileSync(path, [0, 1, 2].map((i) => at(part * 3 + i, `line ${part * 3 + i}`)).join(""));
    if (part < 2) rotate(path, 5);
  }
  t.is(partsOf(path).length, 3);
  t.is(await read(path), Array.from({ length: 9 }, (_, i) => `line ${i}\n`).join(""));
  t.is(await read(path, { tailLines: 4 }), "line 5\nline 6\nline 7\nline 8\n");
  t.is(await read(path, { tailLines: 0 }), "");
  t.is(await read(path, { tailLines: 99 }), await read(path));
});

test("since, limit and timestamps are kept", async (t) => {
  const path = folder(t);
  writeFileSync(path, at(1, "old") + at(5, "new", "stderr") + at(6, "par", "stdout", "P") + at(7, "tial"));
  t.is(await read(path, { sinceMs: Date.UTC(2026, 0, 1, 0, 0, 5) }), "new\npartial\n");
  t.is(await read(path, { limitBytes: 5 }), "old\nn");
  t.is(await read(path, { timestamps: true, tailLines: 1 }), "2026-01-01T00:00:07.123456789+00:00 tial\n");
});

test("what is written during the reading is not read, unless it is followed", async (t) => {
  const path = folder(t);
  writeFileSync(path, Array.from({ length: 2000 }, (_, i) => at(1, `${i} ${"x".repeat(60)}`)).join(""));
  let lines = 0;
  for await (const chunk of readLog(path, { tailLines: 1500, timestamps: false, follow: false, ended: never, signal: never })) {
    lines += chunk.data.toString("utf8").split("\n").length - 1;
    // Faster than it is read: without an end of its own the reading would go on for ever.
    appendFileSync(path, Array.from({ length: 2000 }, () => at(2, `late ${"x".repeat(60)}`)).join(""));
  }
  t.is(lines, 1500);
});

test("a tail of a file larger than a block starts at the right line", async (t) => {
  const path = folder(t);
  writeFileSync(path, Array.from({ length: 5000 }, (_, i) => at(i % 60, `${i} ${"x".repeat(60)}`)).join(""));
  const text = await read(path, { tailLines: 2000 });
  t.is(text.split("\n").length, 2001);
  t.true(text.startsWith("3000 "));
});

test("rotation drops the oldest parts", (t) => {
  const path = folder(t);
  for (let i = 0; i < 7; i++) {
    writeFileSync(path, at(1, `part ${i}`));
    rotate(path, 3);
  }
  writeFileSync(path, "");
  t.is(partsOf(path).length, 3);
});

test("following gives every line once, across rotation and a late first line, and stops when the container has ended", async (t) => {
  const path = folder(t);
  const ended = new AbortController();
  const following = read(path, { follow: true, ended: ended.signal });
  let written = "";
  for (let i = 0; i < 60; i++) {
    appendFileSync(path, at(i, `line ${i}`));
    written += `line ${i}\n`;
    if (i % 20 === 19) {
      rotate(path, 10);
      // conmon goes on writing to the renamed file until it has reopened.
      appendFileSync(partsOf(path).at(-1)!, at(i, `late ${i}`));
      written += `late ${i}\n`;
      await new Promise((resolve) => setTimeout(resolve, i % 3));
    }
    if (i % 7 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  ended.abort();
  t.is(await following, written);
});

test("following ends at once when it is cancelled", async (t) => {
  const path = folder(t);
  writeFileSync(path, at(1, "a"));
  const signal = new AbortController();
  const chunks = readLog(path, { timestamps: false, follow: true, ended: never, signal: signal.signal });
  t.is((await chunks.next()).value!.data.toString(), "a\n");
  const next = chunks.next();
  signal.abort();
  t.true((await next).done);
});
