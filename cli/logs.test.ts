import test from "ava";
import { linesUntil, timeOf, wholeLines } from "./logs.ts";

const lines = async (chunks: readonly (string | Buffer)[], prefix = ""): Promise<string[]> => {
  const out: string[] = [];
  const source = (async function* () {
    for (const c of chunks) yield Buffer.from(c as string);
  })();
  for await (const chunk of wholeLines(source, prefix)) out.push(chunk.toString("latin1"));
  return out;
};

test("chunks end at ends of lines, so that streams don't mix within one", async (t) => {
  t.deepEqual(await lines(["a\nb", "c\n", "d", "e"]), ["a\n", "bc\n", "de\n"]);
  t.deepEqual(await lines(["", "\n\n", ""]), ["\n\n"]);
  t.deepEqual(await lines([]), []);
});

test("each line has its prefix; carriage returns and bytes that are no UTF-8 stay as they are", async (t) => {
  t.deepEqual(await lines(["a\r50%\nb\n"], "[x] "), ["[x] a\r50%\n[x] b\n"]);
  t.deepEqual(await lines([Buffer.of(0xff, 0xfe, 10, 0xe2, 0x80, 0xa8, 65, 10)], "> "), ["> \xff\xfe\n> \xe2\x80\xa8A\n"]);
});

test("times as docker and kubectl take them", (t) => {
  const now = Date.UTC(2026, 0, 2, 12);
  t.is(timeOf("", now, "--since"), undefined);
  t.is(timeOf("5m", now, "--since"), now - 300_000);
  t.is(timeOf("1h30m", now, "--since"), now - 5_400_000);
  t.is(timeOf("2026-01-02T11:00:00Z", now, "--since"), now - 3_600_000);
  t.is(timeOf("1767355200.5", now, "--since"), now + 500);
  for (const wrong of ["5", "yesterday", "5m x", "m"]) t.throws(() => timeOf(wrong, now, "--until"), { code: "BadRequest", message: /--until: .* is neither/ }, wrong);
});

test("lines until a time, with and without their times", async (t) => {
  const text = "2026-01-01T00:00:01.5Z one two\n2026-01-01T00:00:02.000000001Z \n2026-01-01T00:00:04Z late\n2026-01-01T00:00:01Z never\n";
  const read = async (timestamps: boolean, size: number): Promise<string> => {
    const chunks = (async function* () { for (let at = 0; at < text.length; at += size) yield await Promise.resolve(Buffer.from(text.slice(at, at + size))); })();
    let seen = "";
    for await (const chunk of linesUntil(chunks, Date.UTC(2026, 0, 1, 0, 0, 3), timestamps)) seen += chunk.toString();
    return seen;
  };
  for (const size of [1, 7, 1000]) t.is(await read(false, size), "one two\n\n");
  t.is(await read(true, 50), "2026-01-01T00:00:01.5Z one two\n2026-01-01T00:00:02.000000001Z \n");
});
