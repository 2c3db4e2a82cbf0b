import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { dockerConfigPath, forgetCredential, readCredentials, registryOf, saveCredential } from "./docker-config.ts";

const file = (t: ExecutionContext, content?: object | string): string => {
  const dir = mkdtempSync(join(tmpdir(), "gantry-docker-config-"));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const path = join(dir, "sub", "config.json");
  if (content === undefined) return path;
  const own = join(dir, "config.json");
  writeFileSync(own, typeof content === "string" ? content : JSON.stringify(content), { mode: 0o644 });
  return own;
};
const basic = (text: string): string => Buffer.from(text).toString("base64");

test("the file lies where docker has it", (t) => {
  t.is(dockerConfigPath({ HOME: "/home/x" }), "/home/x/.docker/config.json");
  t.is(dockerConfigPath({ HOME: "/home/x", DOCKER_CONFIG: "/etc/d" }), "/etc/d/config.json");
  t.deepEqual(["https://index.docker.io/v1/", "https://r.example/v2/", "localhost:5000", ""].map(registryOf), ["docker.io", "r.example", "localhost:5000", "docker.io"]);
});

test("credentials of docker's forms are read, for one registry or all", (t) => {
  const path = file(t, { auths: { "https://index.docker.io/v1/": { auth: basic("me:a:b") }, "r.example": { username: "u", password: "p" }, "t.example/team": { auth: basic("x:"), identitytoken: "it" }, "empty.example": {} } });
  t.deepEqual(readCredentials(path), [
    { registry: "docker.io", username: "me", password: "a:b", identityToken: "" }, { registry: "r.example", username: "u", password: "p", identityToken: "" },
    { registry: "t.example/team", username: "x", password: "", identityToken: "it" },
  ]);
  t.deepEqual(readCredentials(path, "docker.io").map((c) => c.username), ["me"]);
  t.deepEqual(readCredentials(path, "t.example").map((c) => c.identityToken), ["it"]);
  t.deepEqual(readCredentials(path, "other.example"), []);
  t.deepEqual(readCredentials(file(t)), []);
});

test("what a credential helper keeps is said, but only when it is needed", (t) => {
  const path = file(t, { auths: { "r.example": {} }, credsStore: "desktop", credHelpers: { "h.example": "ecr-login" } });
  t.throws(() => readCredentials(path, "r.example"), { message: /r\.example.*"desktop".*gantry login r\.example/ });
  t.throws(() => readCredentials(path, "h.example"), { message: /"ecr-login"/ });
  t.deepEqual(readCredentials(path, "other.example"), []);
  t.deepEqual(readCredentials(path), []);
  t.throws(() => saveCredential(path, { registry: "r.example", username: "u", password: "p", identityToken: "" }), { message: /desktop/ });
});

test("saved and forgotten in docker's format, for nobody else to read; the rest of the file stays", (t) => {
  const path = file(t, { auths: { "a.example": { auth: basic("a:b") } }, psFormat: "x" });
  saveCredential(path, { registry: "docker.io", username: "me", password: "secret", identityToken: "" });
  t.deepEqual(JSON.parse(readFileSync(path, "utf8")), { auths: { "a.example": { auth: basic("a:b") }, "https://index.docker.io/v1/": { auth: basic("me:secret") } }, psFormat: "x" });
  t.is(statSync(path).mode & 0o777, 0o600);
  t.true(forgetCredential(path, "docker.io"));
  t.false(forgetCredential(path, "docker.io"));
  t.deepEqual(readCredentials(path).map((c) => c.registry), ["a.example"]);
  const fresh = file(t);
  saveCredential(fresh, { registry: "localhost:5000", username: "u", password: "p", identityToken: "" });
  t.is(readCredentials(fresh, "localhost:5000")[0]?.password, "p");
  t.throws(() => readCredentials(file(t, "{")), { message: /not JSON/ });
});
