import test from "ava";
import { LayerLines, progressBar } from "./layer-lines.ts";

const line = (node: string, status: string, currentBytes = 0) => ({ node, id: `sha256:${"a".repeat(64)}`, status, currentBytes, totalBytes: 100 });

const screen = (isTTY: boolean) => {
  const written: string[] = [];
  const out = { isTTY, columns: 100, rows: 24, write: (text: string | Uint8Array): boolean => (written.push(String(text)), true) };
  return { written, lines: new LayerLines(out, "xterm") };
};

test("without a terminal: a line for each change of state, of all nodes together", (t) => {
  const { written, lines } = screen(false);
  for (const l of [line("n1", "Downloading", 1), line("n2", "Downloading", 2), line("n1", "Downloading", 50), line("n1", "Pull complete"), line("n2", "Pull complete")]) lines.update(l);
  t.deepEqual(written, ["aaaaaaaaaaaa: Downloading\n", "aaaaaaaaaaaa: Pull complete\n"]);
});

test("on a terminal the lines are rewritten, and show the slowest node", (t) => {
  const { written, lines } = screen(true);
  lines.update(line("n1", "Downloading", 80));
  lines.update(line("n2", "Downloading", 50));
  t.is(written[1], `\u001B[1A\u001B[2Kaaaaaaaaaaaa: Downloading ${progressBar(50, 100)}\n`);
  t.is(progressBar(50, 100), `[${"=".repeat(15)}>${" ".repeat(14)}]  50B/100B`);
});
