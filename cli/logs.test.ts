import test from "ava";
import { wholeLines } from "./logs.ts";

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
