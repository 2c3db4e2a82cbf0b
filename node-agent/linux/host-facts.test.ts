import test from "ava";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { imageArchitecture, parseMemInfo, parseOsRelease, readHostFacts, readHugePages } from "./host-facts.ts";

test("memory is read in bytes, counts without a unit as they are", (t) => {
  const memory = parseMemInfo("MemTotal:       24684084 kB\nHugePages_Total:       3\nActive(anon):   12 kB\ngarbage\n");
  t.deepEqual([...memory], [["MemTotal", 24_684_084 * 1024], ["HugePages_Total", 3], ["Active(anon)", 12 * 1024]]);
});

test("os-release values lose their quotes, whichever they have", (t) => {
  const os = parseOsRelease("# comment\nPRETTY_NAME=\"Debian \\\"x\\\" 12\"\nID=debian\nNAME='A B'\nEMPTY=\n");
  t.deepEqual([...os], [["PRETTY_NAME", "Debian \"x\" 12"], ["ID", "debian"], ["NAME", "A B"], ["EMPTY", ""]]);
});

test("architectures are named as images name them", (t) => {
  t.deepEqual(["x64", "arm64", "mystery"].map(imageArchitecture), ["amd64", "arm64", "mystery"]);
});

test("this machine has a processor, memory, a disk, a kernel and a boot id", (t) => {
  const facts = readHostFacts(tmpdir());
  t.true(facts.milliCpu >= 1000 && facts.memoryBytes > 1e8 && facts.diskBytes > 1e8);
  t.regex(facts.bootId, /^[0-9a-f-]{36}$/);
  t.regex(facts.kernelVersion, /^\d+\.\d+/);
  t.not(facts.osImage, "");
});

test("huge pages by their size, as many as there are now", (t) => {
  const root = mkdtempSync(join(tmpdir(), "gantry-pages-"));
  t.teardown(() => rmSync(root, { recursive: true }));
  for (const [name, count] of [["hugepages-2048kB", "8\n"], ["hugepages-1048576kB", "0\n"]] as const) {
    mkdirSync(join(root, name));
    writeFileSync(join(root, name, "nr_hugepages"), count);
  }
  t.deepEqual([...readHugePages(root)], [[2 ** 21, 2 ** 24], [2 ** 30, 0]]);
  t.is(readHugePages(join(root, "none")).size, 0);
});
