import test from "ava";
import { hasWildcard, parseIgnoreFile, PathMatcher, patternRegex } from "./patterns.ts";

for (const [pattern, yes, no] of [
  ["*.go", ["a.go", ".go"], ["d/a.go", "a.gox"]],
  ["**/*.go", ["a.go", "d/e/a.go"], ["a.gox"]],
  ["**", ["a", "a/b"], []],
  ["a/**", ["a/b", "a/b/c"], ["a", "ab"]],
  ["a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["ab", "a/xb"]],
  ["**foo", ["foo", "x/foo"], ["xfoo/y"]],
  ["a?c", ["abc"], ["a/c", "ac"]],
  ["[a-c]x", ["ax", "cx"], ["dx"]],
  ["[^a]x", ["bx"], ["ax"]],
  ["a\\*b", ["a*b"], ["axb"]],
  ["a.b$(c)+{d}", ["a.b$(c)+{d}"], ["axb"]],
] as const) {
  test(`pattern ${pattern}`, (t) => {
    for (const path of yes) t.regex(path, patternRegex(pattern));
    for (const path of no) t.notRegex(path, patternRegex(pattern));
  });
}

const left = (patterns: readonly string[], paths: readonly string[]): readonly string[] => {
  const matcher = new PathMatcher(patterns);
  return paths.filter((path) => !matcher.matches(path));
};

test("what is in a directory that is left out is left out too, and the last rule counts", (t) => {
  t.deepEqual(left(["node_modules", "*.md", "!README.md"], ["node_modules/x/y", "a.md", "README.md", "d/a.md", "src/x"]), ["README.md", "d/a.md", "src/x"]);
  t.deepEqual(left(["*", "!src", "src/*.tmp"], ["a", "src", "src/a.js", "src/a.tmp", "src/d/b.tmp"]), ["src", "src/a.js", "src/d/b.tmp"]);
  t.deepEqual(left(["!a", "a"], ["a"]), []);
  t.deepEqual(left(["/a/", "./b", "c/../d"], ["a/x", "b", "c", "d"]), ["c"]);
  t.deepEqual(left(["**/secret", "!pub/**"], ["secret", "x/secret/k", "pub/secret"]), ["pub/secret"]);
});

test("a directory that is left out is only looked into when something in it may be kept", (t) => {
  const matcher = new PathMatcher(["*", "!src/lib/*.js"]);
  t.true(matcher.mayKeepBelow("src"));
  t.true(matcher.mayKeepBelow("src/lib"));
  t.false(matcher.mayKeepBelow("node_modules"));
  t.true(new PathMatcher(["*", "!**/x"]).mayKeepBelow("any/where"));
  t.true(new PathMatcher(["*", "!a/**/x"]).mayKeepBelow("a/b/c"));
  t.false(new PathMatcher(["*"]).mayKeepBelow("a"));
});

test("comments and white space in the file", (t) => {
  t.deepEqual(parseIgnoreFile("\uFEFF# a\n\n  b  \r\n!c\n #d"), ["b", "!c", "#d"]);
});

test("wildcards", (t) => {
  t.deepEqual(["a", "a*", "a?", "[a]", "a\\*"].map(hasWildcard), [false, true, true, true, false]);
  t.throws(() => patternRegex("[a"), { message: /closing \]/ });
  t.throws(() => new PathMatcher(["!"]), { message: /nothing behind/ });
});
