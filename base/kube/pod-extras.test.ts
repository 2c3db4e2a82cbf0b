import test from "ava";
import { AUTO_REMOVE_ANNOTATION, HOSTS_NAMES_ANNOTATION, MAX_RESTARTS_ANNOTATION, autoRemoveMs, hostsNames, maxRestarts } from "./pod-extras.ts";

test("a pod's names in its group: its own first, each once, none that would break a hosts file", (t) => {
  t.deepEqual(hostsNames({ name: "shop-web-1", annotations: { [HOSTS_NAMES_ANNOTATION]: "web, web_old,shop-web-1,a b,,x\n1.2.3.4 evil,-x" } }), ["shop-web-1", "web", "web_old"]);
  t.deepEqual(hostsNames({ name: "one" }), ["one"]);
});

test("what can't be read changes nothing", (t) => {
  t.is(autoRemoveMs({ [AUTO_REMOVE_ANNOTATION]: "60s" }), 60_000);
  t.is(autoRemoveMs({ [AUTO_REMOVE_ANNOTATION]: "0s" }), 0);
  for (const annotations of [undefined, {}, { [AUTO_REMOVE_ANNOTATION]: "soon" }, { [AUTO_REMOVE_ANNOTATION]: "true" }]) t.is(autoRemoveMs(annotations), undefined);
  t.is(maxRestarts({ [MAX_RESTARTS_ANNOTATION]: "3" }), 3);
  for (const annotations of [undefined, {}, { [MAX_RESTARTS_ANNOTATION]: "-1" }, { [MAX_RESTARTS_ANNOTATION]: "x" }]) t.is(maxRestarts(annotations), 0);
});
