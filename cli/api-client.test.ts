import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { isCode } from "../base/errors.ts";
import { ApiError, apiError, findKubeconfig, linesOf, loadKubeconfig, warningsOf } from "./api-client.ts";
import { Readable } from "node:stream";

const folder = (t: ExecutionContext): string => {
  const dir = mkdtempSync(join(tmpdir(), "gantry-kubeconfig-"));
  t.teardown(() => rmSync(dir, { recursive: true }));
  return dir;
};

const config = (user: string, cluster = 'server: "https://127.0.0.1:6443"'): string =>
  `current-context: a\nclusters: [{name: c, cluster: {${cluster}}}]\nusers: [{name: u, user: {${user}}}]\ncontexts:\n- {name: a, context: {cluster: c, user: u, namespace: shop}}\n- {name: b, context: {cluster: c, user: u}}\n- {name: broken, context: {cluster: nowhere}}\n`;

test("a kubeconfig is looked for where kubectl looks, and in .gantry here or above", (t) => {
  const dir = folder(t);
  t.is(findKubeconfig("flag", { KUBECONFIG: "env" }, dir), "flag");
  mkdirSync(join(dir, ".gantry"));
  mkdirSync(join(dir, "deep/er"), { recursive: true });
  const own = join(dir, ".gantry/admin.kubeconfig");
  writeFileSync(own, "");
  t.is(findKubeconfig("", { KUBECONFIG: "" }, join(dir, "deep/er")), own);
  t.is(findKubeconfig("", { KUBECONFIG: `/nonexistent:${own}` }, "/"), own);
  t.is(findKubeconfig("", { KUBECONFIG: "/nonexistent:/none" }, dir), "/nonexistent");
  t.is(findKubeconfig("", { HOME: "/home/x" }, "/nonexistent"), "/home/x/.kube/config");
});

test("credentials come from data or from files beside the kubeconfig", (t) => {
  const dir = folder(t);
  const file = join(dir, "config");
  writeFileSync(join(dir, "client.pem"), "CERT");
  writeFileSync(join(dir, "token"), "secret\n");
  writeFileSync(file, config(`client-certificate: client.pem, client-key-data: ${Buffer.from("KEY").toString("base64")}, tokenFile: token`));
  const target = loadKubeconfig(file);
  t.is(target.cert?.toString(), "CERT");
  t.is(target.key?.toString(), "KEY");
  t.is(target.token, "secret");
  t.is(target.namespace, "shop");
  t.is(loadKubeconfig(file, "b").namespace, "default");
});

test("what is wrong with a kubeconfig is told with its name", (t) => {
  const dir = folder(t);
  const file = join(dir, "config");
  const fault = (text: string, message: RegExp, context = "", code: "FailedPrecondition" | "BadRequest" = "FailedPrecondition"): void => {
    writeFileSync(file, text);
    const error = t.throws(() => loadKubeconfig(file, context), { message });
    t.true(isCode(error, code));
    t.true(error.message.includes(file));
  };
  t.throws(() => loadKubeconfig(join(dir, "none")), { message: /none: can't be read; start a cluster with 'gantry up'/ });
  fault("{a", /is not YAML/);
  fault("[1]", /is not a kubeconfig: it should have contexts, clusters and users/);
  fault("contexts: yes", /contexts is not a list/);
  fault("contexts: [null]", /contexts is not a list/);
  fault("", /no current-context; choose one with --context; there are: none/);
  fault(config(""), /--context: .* has no context "x"; there are: a, b, broken/, "x", "BadRequest");
  fault(config(""), /cluster "nowhere": server is undefined, not an https:\/\/ URL/, "broken");
  fault(config("", 'server: "http://x"'), /server is "http:\/\/x", not an https/);
  fault(config("client-key: nokey.pem"), /nokey\.pem can't be read/);
  fault(config("exec: {command: aws}"), /user "u" signs in by exec, which gantry can't/);
});

test("warnings of the server are read from their header", (t) => {
  t.deepEqual(warningsOf(undefined), []);
  t.deepEqual(warningsOf('299 - "unknown field \\"a\\""'), ['unknown field "a"']);
  t.deepEqual(warningsOf('299 - "one, two", 299 - "three"'), ["one, two", "three"]);
});

test("an answer of 400 or more is an error with the server's words, whatever it is", (t) => {
  const status = apiError(409, JSON.stringify({ kind: "Status", reason: "AlreadyExists", message: 'pods "x" already exists' }));
  t.true(status instanceof ApiError && isCode(status, "AlreadyExists"));
  t.is(status.message, 'pods "x" already exists');
  t.is(apiError(409, '{"reason": "Conflict"}').code, "Conflict");
  t.is(apiError(503, "<html>no backend</html>").message, "the server answered 503: <html>no backend</html>");
  t.is(apiError(502, "").message, "the server answered 502");
  t.is(apiError(502, "").code, "InternalError");
});

test("lines are whole however the bytes come", async (t) => {
  const bytes = Buffer.from('{"a":"ü"}\n\n{"b":1}\n{"c":2}');
  const seen: string[] = [];
  for await (const line of linesOf(Readable.from(Array.from(bytes, (b) => Buffer.of(b))))) seen.push(line);
  t.deepEqual(seen, ['{"a":"ü"}', '{"b":1}', '{"c":2}']);
});
