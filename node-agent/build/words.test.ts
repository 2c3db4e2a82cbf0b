import test from "ava";
import { expand, splitWords } from "./words.ts";

const env: Readonly<Record<string, string>> = { x: "value", empty: "", path: "/a/b/c.tar.gz", foo: "foo bar foo" };
const lookup = (name: string): string | undefined => env[name];

for (const [word, expected] of [
  ["$x", "value"], ["a${x}b", "avalueb"], ["$none.", "."], ["\\$x", "$x"], ["'$x'", "$x"], ["\"$x y\"", "value y"], ["\"a\\\"b\\c\"", "a\"b\\c"], ["$", "$"], ["a$", "a$"],
  ["${none:-d}", "d"], ["${empty:-d}", "d"], ["${empty-d}", ""], ["${none-d}", "d"], ["${x:-d}", "value"], ["${x:+y}", "y"], ["${none:+y}", ""], ["${empty:+y}", ""], ["${empty+y}", "y"],
  ["${none:-${x}}", "value"], ["${none:-\"a b\"}", "a b"], ["${path#*/}", "a/b/c.tar.gz"], ["${path##*/}", "c.tar.gz"], ["${path%.*}", "/a/b/c.tar"], ["${path%%.*}", "/a/b/c"], ["${path%zzz}", "/a/b/c.tar.gz"],
  ["${foo/foo/x}", "x bar foo"], ["${foo//foo/x}", "x bar x"], ["${foo//o}", "f bar f"], ["${foo/b?r/$x}", "foo value foo"], ["${x#\\*}", "value"], ["a\\ b", "a b"], ["${x:?no}", "value"],
] as const) {
  test(`${word} is ${JSON.stringify(expected)}`, (t) => t.is(expand(word, lookup), expected));
}

test("another escape character leaves backslashes alone", (t) => {
  t.is(expand("C:\\$x`$y", lookup, "`"), "C:\\value$y");
});

test("what is not closed, or asked for and missing, is refused by name", (t) => {
  for (const [word, message] of [["'a", /closing '/], ["\"a", /closing "/], ["${x", /unsupported|closing }/], ["${x:-a", /closing }/], ["${none:?give it}", /none: give it/], ["${x^^}", /unsupported/]] as const) {
    t.throws(() => expand(word, lookup), { message });
  }
});

test("words end at white space outside of quotes", (t) => {
  t.deepEqual(splitWords("a=b  c='d e' f=\"g \\\" h\" i\\ j k=\"\"", "\\"), ["a=b", "c='d e'", "f=\"g \\\" h\"", "i\\ j", "k=\"\""]);
  t.deepEqual(splitWords("  ", "\\"), []);
});
