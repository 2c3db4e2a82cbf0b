import test from "ava";
import { parseRequest } from "./router.ts";

const read = (method: string, url: string): string => {
  const { isResource, verb, group, version, namespace, resource, name, subresource } = parseRequest(method, url);
  return isResource ? [verb, `${group}/${version}`, namespace, resource, name, subresource].join("|") : `${verb} ${parseRequest(method, url).path}`;
};

for (const [method, url, expected] of [
  ["GET", "/api/v1/pods", "list|/v1||pods||"],
  ["GET", "/api/v1/pods?watch=1", "watch|/v1||pods||"],
  ["GET", "/api/v1/pods?watch=false", "list|/v1||pods||"],
  ["GET", "/api/v1/namespaces/a/pods?watch=true", "watch|/v1|a|pods||"],
  ["GET", "/api/v1/namespaces/a/pods/b", "get|/v1|a|pods|b|"],
  ["GET", "/api/v1/namespaces/a/pods/b?watch=true", "watch|/v1|a|pods|b|"],
  ["GET", "/api/v1/namespaces/a/pods/b/log?follow=true", "get|/v1|a|pods|b|log"],
  ["POST", "/api/v1/namespaces/a/pods/b/binding", "create|/v1|a|pods|b|binding"],
  ["PATCH", "/apis/apps/v1/namespaces/a/deployments/b/scale", "patch|apps/v1|a|deployments|b|scale"],
  ["DELETE", "/apis/apps/v1/namespaces/a/deployments", "deletecollection|apps/v1|a|deployments||"],
  ["DELETE", "/apis/apps/v1/namespaces/a/deployments/b", "delete|apps/v1|a|deployments|b|"],
  ["GET", "/api/v1/namespaces", "list|/v1||namespaces||"],
  ["GET", "/api/v1/namespaces/a", "get|/v1|a|namespaces|a|"],
  ["PUT", "/api/v1/namespaces/a/finalize", "update|/v1|a|namespaces|a|finalize"],
  ["PATCH", "/api/v1/namespaces/a/status", "patch|/v1|a|namespaces|a|status"],
  ["GET", "/api/v1/nodes/a%20b", "get|/v1||nodes|a b|"],
  ["GET", "/api//v1/pods/", "list|/v1||pods||"],
  ["GET", "/apis/apps/v1", "get /apis/apps/v1"],
  ["GET", "/readyz?verbose", "get /readyz"],
  ["GET", "/", "get /"],
] as const) {
  test(`${method} ${url} is read as ${expected}`, (t) => t.is(read(method, url), expected));
}

test("a path that can't be decoded or that hides a slash is refused", (t) => {
  t.throws(() => parseRequest("GET", "/api/v1/pods/%zz"), { code: "BadRequest", message: /percent-encoding/ });
  t.throws(() => parseRequest("GET", "/api/v1/namespaces/a%2F..%2Fb/pods"), { code: "BadRequest", message: /slash/ });
  t.throws(() => parseRequest("BREW", "/api/v1/pods"), { code: "MethodNotAllowed" });
});
