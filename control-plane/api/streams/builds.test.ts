import test from "ava";
import { chooseBuilder, type BuildNode } from "./builds.ts";

const node = (name: string, changes: Partial<BuildNode> = {}): BuildNode => ({ name, architecture: "amd64", isCordoned: false, ...changes });
const nodes = ["a", "b", "c", "d"].map((name) => node(name));

test("the same image is built on the same node, whatever its tag and in whichever order the nodes come", (t) => {
  const chosen = chooseBuilder(nodes, "shop/web:1", "", "");
  t.is(chooseBuilder(nodes.toReversed(), "shop/web:2", "", ""), chosen);
  t.is(chooseBuilder(nodes, "shop/web", "linux/amd64", ""), chosen);
  const images = Array.from({ length: 200 }, (_, i) => `image-${i}`);
  const before = images.map((image) => chooseBuilder(nodes, image, "", ""));
  t.is(new Set(before).size, 4);
  const after = images.map((image) => chooseBuilder(nodes.filter((n) => n.name !== "b"), image, "", ""));
  t.true(before.every((name, i) => name === "b" || name === after[i]));
});

test("platforms, cordoned nodes, and a node that is asked for", (t) => {
  const mixed = [node("a", { isCordoned: true }), node("b", { architecture: "arm64" }), node("c")];
  t.is(chooseBuilder(mixed, "x", "linux/arm64", ""), "b");
  t.is(chooseBuilder(mixed, "x", "linux/amd64", ""), "c");
  t.is(chooseBuilder([mixed[0]!], "x", "", ""), "a");
  t.is(chooseBuilder(mixed, "x", "", "a"), "a");
  t.throws(() => chooseBuilder(mixed, "x", "linux/riscv64", ""), { message: /"linux\/riscv64": no node builds for it; there are nodes of linux\/amd64, linux\/arm64/ });
  t.throws(() => chooseBuilder(mixed, "x", "", "z"), { message: /z is not connected; connected nodes: a, b, c/ });
  t.throws(() => chooseBuilder([], "x", "", ""), { message: /no node is connected/ });
});
