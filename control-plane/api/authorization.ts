// Owns whether a user may do what a request asks. RBAC is a later issue and takes this interface's place; until then the
// members of system:masters may do everything and nobody else anything.
import type { User } from "./authentication.ts";
import { MASTERS } from "./authentication.ts";
import type { RequestInfo } from "./router.ts";
import { StatusError } from "./status.ts";

export interface Authorizer {
  /** Cheap and synchronous: it decides on what is in memory. */
  allows(user: User, request: RequestInfo): boolean;
}

export const mastersAuthorizer: Authorizer = { allows: (user) => user.groups.includes(MASTERS) };

/** Upstream's wording (k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go). */
export const refusal = (user: User, info: RequestInfo): StatusError => {
  const who = `User ${JSON.stringify(user.name)} cannot ${info.verb}`;
  if (!info.isResource) return new StatusError("Forbidden", `forbidden: ${who} path ${JSON.stringify(info.path)}`, {});
  const qualified = info.group === "" ? info.resource : `${info.resource}.${info.group}`;
  const resource = info.subresource === "" ? info.resource : `${info.resource}/${info.subresource}`;
  const scope = info.namespace === "" ? "at the cluster scope" : `in the namespace ${JSON.stringify(info.namespace)}`;
  return new StatusError("Forbidden",
    `${qualified}${info.name === "" ? "" : ` ${JSON.stringify(info.name)}`} is forbidden: ${who} resource ${JSON.stringify(resource)} in API group ${JSON.stringify(info.group)} ${scope}`,
    { ...(info.name === "" ? {} : { name: info.name }), ...(info.group === "" ? {} : { group: info.group }), kind: info.resource });
};

/** Throws Forbidden when `user` may not act as `target`. */
export const checkImpersonation = (authorizer: Authorizer, user: User, target: User): void => {
  const info: RequestInfo = {
    isResource: true, path: "", verb: "update", group: "", version: "v1", namespace: "", resource: "users", name: target.name, subresource: "impersonate", query: new URLSearchParams(),
  };
  if (!authorizer.allows(user, info)) {
    throw new StatusError("Forbidden", `users ${JSON.stringify(target.name)} is forbidden: User ${JSON.stringify(user.name)} cannot impersonate resource "users" in API group "" at the cluster scope`, { name: target.name, kind: "users" });
  }
};
