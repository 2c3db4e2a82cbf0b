import test from "ava";
import { GantryError } from "../../base/errors.ts";
import { familiarName, formatReference, parseReference } from "./reference.ts";

const HEX = "0123456789abcdef".repeat(4);

for (const [text, normalized] of [
  ["busybox", "docker.io/library/busybox:latest"],
  ["busybox:1.36", "docker.io/library/busybox:1.36"],
  ["library/busybox", "docker.io/library/busybox:latest"],
  ["user/app", "docker.io/user/app:latest"],
  ["index.docker.io/user/app", "docker.io/user/app:latest"],
  ["docker.io/busybox", "docker.io/library/busybox:latest"],
  ["localhost/app", "localhost/app:latest"],
  ["localhost:5000/app", "localhost:5000/app:latest"],
  ["127.0.0.1:5000/a/b/c:v1", "127.0.0.1:5000/a/b/c:v1"],
  ["[::1]:5000/app:v1", "[::1]:5000/app:v1"],
  ["gcr.io/distroless/static-debian12:nonroot", "gcr.io/distroless/static-debian12:nonroot"],
  ["Registry.Example/app", "Registry.Example/app:latest"],
  ["a__b/c-d.e--f", "docker.io/a__b/c-d.e--f:latest"],
  [`busybox@sha256:${HEX}`, `docker.io/library/busybox@sha256:${HEX}`],
  [`busybox:1.36@sha256:${HEX}`, `docker.io/library/busybox@sha256:${HEX}`],
  ["gantry.local/example:latest", "gantry.local/example:latest"],
] as const) {
  test(`"${text}" means ${normalized}, and so does that name itself`, (t) => {
    t.is(formatReference(parseReference(text)), normalized);
    t.is(formatReference(parseReference(normalized)), normalized);
  });
}

for (const [text, why] of [
  ["", /empty/],
  ["a b", /white space/],
  ["https://registry.example/app", /URL scheme/],
  ["Busybox", /lower case/],
  ["registry.example/App", /lower case/],
  ["busybox:", /tag after the colon is empty/],
  ["busybox:.x", /tag ".x" is not valid/],
  [`busybox:${"x".repeat(129)}`, /at most 128/],
  ["registry.example/", /repository is missing/],
  ["a//b", /slash too many/],
  ["a/b/", /slash too many/],
  ["-a", /repository part "-a"/],
  ["a..b", /repository part "a\.\.b"/],
  ["../../etc/passwd", /not host or host:port/],
  ["localhost:123456/app", /not host or host:port/],
  ["busybox@sha256:1234", /not a digest/],
  ["busybox@md5:00", /not a digest/],
  [HEX, /image ID/],
  [`registry.example/${"a".repeat(250)}`, /more than 255/],
] as const) {
  test(`${JSON.stringify(text.slice(0, 40))} is refused: ${why.source}`, (t) => {
    const error = t.throws(() => parseReference(text), { instanceOf: GantryError });
    t.is(error?.code, "Invalid");
    t.regex(error?.message ?? "", why);
  });
}

test("names are shown as docker shows them", (t) => {
  for (const [name, shown] of [["docker.io/library/busybox:latest", "busybox:latest"], ["docker.io/team/app:v1", "team/app:v1"], ["docker.io/library/a/b:v1", "library/a/b:v1"], ["localhost:5000/app:v1", "localhost:5000/app:v1"], ["quay.io/library/x:1", "quay.io/library/x:1"]] as const) {
    t.is(familiarName(name), shown);
    t.is(formatReference(parseReference(shown)), name, "and understood again");
  }
});
