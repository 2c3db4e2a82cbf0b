import test from "ava";
import { containerPath, placing, renamed } from "./copy-paths.ts";

test("which side is the container's", (t) => {
  t.deepEqual(containerPath("web:/etc/x"), { pod: "web", path: "/etc/x" });
  t.deepEqual(containerPath("web:a:b"), { pod: "web", path: "a:b" });
  t.deepEqual(containerPath("web:"), { pod: "web", path: "/" });
  for (const local of ["/a:b", "./a:b", "a", "-", ":x"]) t.is(containerPath(local), undefined, local);
});

const none = { exists: false, isDirectory: false };
const dir = { exists: true, isDirectory: true };
const file = { exists: true, isDirectory: false };

test("docker cp's table", (t) => {
  t.deepEqual(placing("/a/f", false, "/x", none), { directory: "/", name: "x", make: false });
  t.deepEqual(placing("/a/f", false, "/x", file), { directory: "/", name: "x", make: false });
  t.deepEqual(placing("/a/f", false, "/x/", dir), { directory: "/x", name: "f", make: false });
  t.deepEqual(placing("/a/d", true, "/x", none), { directory: "/x", name: "", make: true });
  t.deepEqual(placing("/a/d", true, "/x", dir), { directory: "/x", name: "d", make: false });
  t.deepEqual(placing("/a/d/.", true, "/x", dir), { directory: "/x", name: "", make: false });
  t.deepEqual(placing(".", true, "/x", dir), { directory: "/x", name: "", make: false });
  t.deepEqual(placing("/", true, "out", dir), { directory: "out", name: "", make: false });
  t.throws(() => placing("/a/f", false, "/x/", none), { code: "BadRequest", message: /no such directory/ });
  t.throws(() => placing("/a/f", false, "/x/", file), { code: "BadRequest", message: /not a directory/ });
  t.throws(() => placing("/a/d", true, "/x", file), { code: "BadRequest", message: /is a file/ });
});

test("entries of an archive under another name", (t) => {
  t.is(renamed("d/", "x"), "x");
  t.is(renamed("d/a/b", "x"), "x/a/b");
  t.is(renamed("d/a/b", ""), "a/b");
  t.is(renamed("d/", ""), undefined);
  t.is(renamed("./a", "y"), "y");
});
