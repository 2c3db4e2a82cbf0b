import test from "ava";
import { isCode } from "../errors.ts";
import { formatSelector, fromLabelSelector, parseSelector, selectorMatches } from "./labels.ts";

test("equality and set terms are read and matched", (t) => {
  const selector = parseSelector("app=web,tier in (a, b),env!=dev,!old,track");
  t.true(selectorMatches(selector, { app: "web", tier: "b", track: "x" }));
  t.false(selectorMatches(selector, { app: "web", tier: "c", track: "x" }));
  t.false(selectorMatches(selector, { app: "web", tier: "a", track: "x", old: "" }));
  t.false(selectorMatches(selector, { app: "web", tier: "a", track: "x", env: "dev" }));
  t.is(formatSelector(selector), "app=web,tier in (a,b),env!=dev,!old,track");
});

test("an empty selector matches everything", (t) => {
  t.true(selectorMatches(parseSelector(""), {}));
  t.true(selectorMatches(fromLabelSelector({}), { a: "b" }));
});

test("a label that every object inherits is not matched", (t) => {
  t.false(selectorMatches(parseSelector("constructor"), {}));
});

test("an unreadable term is named", (t) => {
  const error = t.throws(() => parseSelector("app=web,a b c"));
  t.true(isCode(error, "BadRequest"));
  t.regex(error.message, /"a b c"/);
});
