import test from "ava";
import type { RegistryCredential } from "../../proto/gen/gantry/v1/agent.ts";
import { credentialsFor, parseChallenge, parseToken, tokenRequest } from "./registry-auth.ts";
import { endpointsFor, parseRegistryConfig } from "./registry-config.ts";

const credential = (registry: string, more: Partial<RegistryCredential> = {}): RegistryCredential => ({ registry, username: "u", password: "p", identityToken: "", ...more });

test("credentials fit by whole path parts, the most specific first", (t) => {
  const all = ["r.example", "r.example/team", "r.example/team/app", "r.example/te", "other.example", "https://r.example/v2/"].map((r) => credential(r));
  t.deepEqual(credentialsFor(all, "r.example", "team/app").map((c) => c.registry), ["r.example/team/app", "r.example/team", "r.example", "https://r.example/v2/"]);
  t.deepEqual(credentialsFor([credential("https://index.docker.io/v1/")], "docker.io", "library/busybox").length, 1);
  t.deepEqual(credentialsFor([credential("r.example:5000")], "r.example", "app"), []);
});

test("challenges are read in any order and case, with quoted commas", (t) => {
  t.deepEqual(parseChallenge('Bearer realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull,push"'),
    { scheme: "bearer", realm: "https://auth.example/token", service: "r.example", scope: "repository:a/b:pull,push" });
  t.deepEqual(parseChallenge('Basic realm="x", BEARER scope=s , realm="https://a"'), { scheme: "bearer", realm: "https://a", service: "", scope: "s" });
  t.deepEqual(parseChallenge("Basic"), { scheme: "basic" });
  t.is(parseChallenge("Negotiate"), undefined);
  t.is(parseChallenge(undefined), undefined);
});

test("credentials never go to an unencrypted token service of an encrypted registry", (t) => {
  const challenge = { scheme: "bearer", realm: "http://evil.example/token", service: "", scope: "" } as const;
  t.throws(() => tokenRequest(challenge, "https://r.example", "repository:app:pull", credential("r.example")), { message: /unencrypted/ });
  t.notThrows(() => tokenRequest(challenge, "https://r.example", "repository:app:pull", undefined));
  t.notThrows(() => tokenRequest(challenge, "http://127.0.0.1:5000", "repository:app:pull", credential("r.example")));
  t.throws(() => tokenRequest({ ...challenge, realm: "file:///etc/passwd" }, "https://r.example", "repository:app:pull", undefined), { message: /not a URL/ });
});

test("an identity token is exchanged by POST, a password by GET", (t) => {
  const challenge = { scheme: "bearer", realm: "https://a.example/token?x=1", service: "s", scope: "" } as const;
  const get = tokenRequest(challenge, "https://r", "repository:team/app:pull", credential("r"));
  t.is(get.url, "https://a.example/token?x=1&service=s&scope=repository%3Ateam%2Fapp%3Apull");
  t.is(get.headers["authorization"], "Basic dTpw");
  const post = tokenRequest(challenge, "https://r", "repository:team/app:pull", credential("r", { identityToken: "it" }));
  t.is(post.method, "POST");
  t.is(new URLSearchParams(post.body).get("refresh_token"), "it");
  t.is(post.headers["authorization"], undefined);
});

test("tokens by either name; none is an error", (t) => {
  t.deepEqual(parseToken(Buffer.from('{"access_token":"x","expires_in":5}'), "it"), { token: "x", lifeMs: 5000 });
  t.deepEqual(parseToken(Buffer.from('{"token":"x"}'), "it"), { token: "x", lifeMs: 60_000 });
  t.throws(() => parseToken(Buffer.from("{}"), "the answer"), { message: /the answer holds no token/ });
});

test("plain HTTP is the default for loopback only; mirrors come first", (t) => {
  const origins = (host: string, config = {}): readonly string[] => endpointsFor(config, host, "app").map((e) => `${e.origin}/${e.repository}`);
  t.deepEqual(origins("127.0.0.1:5000"), ["http://127.0.0.1:5000/app"]);
  t.deepEqual(origins("localhost"), ["http://localhost/app"]);
  t.deepEqual(origins("localhost.evil.example"), ["https://localhost.evil.example/app"]);
  t.deepEqual(origins("docker.io", { "docker.io": { mirrors: ["m.example:5000/hub/", "localhost:1"] }, "m.example:5000": { http: true } }),
    ["http://m.example:5000/hub/app", "http://localhost:1/app", "https://registry-1.docker.io/app"]);
});

test("a registry configuration that is wrong names each field", (t) => {
  t.deepEqual(parseRegistryConfig({ "r.example:5000": { http: true, mirrors: ["m"] } }), { "r.example:5000": { http: true, mirrors: ["m"] } });
  const message = t.throws(() => parseRegistryConfig({ "https://r": { http: "yes", tls: 1, mirrors: ["http://x"] } }))?.message ?? "";
  for (const part of [/registries\["https:\/\/r"\] must be HOST/, /\.http must be a boolean/, /\.tls is not known/, /\.mirrors must be a list/]) t.regex(message, part);
});
