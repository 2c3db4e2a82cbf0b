import test from "ava";
import { Progress, seconds } from "./progress.ts";

const screen = (isTTY: boolean, { columns = 20, terminal = "xterm" } = {}) => {
  let nowMs = 0;
  let text = "";
  const out = { isTTY, columns, write: (s: string) => ((text += s), true) } as unknown as NodeJS.WriteStream;
  return { progress: new Progress(out, () => nowMs, terminal), pass: (ms: number) => void (nowMs += ms), read: () => text };
};

test("a terminal shows one line that rewrites itself, no wider than it is", (t) => {
  const { progress, read } = screen(true);
  progress.update("1 of 2");
  progress.update("1 of 2");
  progress.update("a line that is much too long for it");
  progress.done("2 of 2");
  t.is(read(), "\r\u001B[2K1 of 2\r\u001B[2Ka line that is much\r\u001B[2K2 of 2\n");
});

test("elsewhere at most one line a second is written, and none twice", (t) => {
  const { progress, pass, read } = screen(false);
  progress.update("1");
  pass(999);
  progress.update("2");
  pass(1);
  progress.update("2");
  pass(5000);
  progress.update("2");
  progress.done("end");
  t.is(read(), "1\n2\nend\n");
});

test("a terminal that can't rewrite gets plain lines", (t) => {
  const { progress, read } = screen(true, { terminal: "dumb" });
  progress.update("1");
  progress.done("end");
  t.is(read(), "1\nend\n");
});

test("what is unfinished is wiped before an error is printed", (t) => {
  const { progress, read } = screen(true);
  progress.clear();
  progress.update("x");
  progress.clear();
  progress.clear();
  t.is(read(), "\r\u001B[2Kx\r\u001B[2K");
});

test("seconds have two digits of sense", (t) => {
  t.is(seconds(1234), "1.23 s");
  t.is(seconds(12_345), "12.3 s");
});
