import test from "ava";
import { isBelow, mountOverlay, parseMountInfo } from "./mount.ts";

test("a line of mountinfo is read with its optional fields, root and super options", (t) => {
  const [entry] = parseMountInfo("36 35 98:0 /mnt1 /mnt2 rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue\n");
  t.deepEqual(entry, {
    id: 36, parentId: 35, device: "98:0", root: "/mnt1", target: "/mnt2", options: ["rw", "noatime"], propagation: ["shared:1", "master:2"],
    type: "ext3", source: "/dev/root", superOptions: ["rw", "errors=continue"],
  });
});

test("names in mountinfo keep spaces, backslashes and bytes beyond ASCII", (t) => {
  const text = Buffer.from("1 0 0:1 / /a\\040b\\134c/ü rw - tmpfs a\\011b rw\n").toString("latin1");
  t.is(parseMountInfo(text)[0]?.target, "/a b\\c/ü");
  t.is(parseMountInfo(text)[0]?.source, "a\tb");
});

test("a mount without optional fields, and garbage, do not confuse the parser", (t) => {
  const entries = parseMountInfo("22 27 0:21 / /proc rw,relatime - proc proc rw\nnot a mount\n\n");
  t.deepEqual(entries.map((e) => [e.target, e.propagation, e.type]), [["/proc", [], "proc"]]);
});

test("a path is below a directory only at a whole name", (t) => {
  t.deepEqual(["/a", "/a/b", "/ab", "/"].map((path) => isBelow(path, "/a")), [true, true, false, false]);
  t.true(isBelow("/x", "/"));
});

test("an overlay without layers, or with half of its writable part, says what is missing", (t) => {
  t.throws(() => mountOverlay({ lowerDirs: [], target: "/t" }), { code: "Invalid", message: /lowerDirs is empty/ });
  t.throws(() => mountOverlay({ lowerDirs: ["/l"], upper: "/u", target: "/t" }), { code: "Invalid", message: /work is undefined/ });
});
