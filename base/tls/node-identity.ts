// How nodes and control planes are named in certificates. Nodes: upstream's convention for kubelets (O=system:nodes, CN=system:node:NAME).
// https://kubernetes.io/docs/reference/access-authn-authz/node/
import { GantryError } from "../errors.ts";

export const NODE_GROUP = "system:nodes";
/**
 * Every control plane's server certificate lists this name, and agents check for it instead of the address that they dialled:
 * a control plane is reached through any address, proxy or NAT.
 */
export const CONTROL_PLANE_SERVER_NAME = "gantry-control-plane";
const PREFIX = "system:node:";
// A node's name is also its object's name and a label's value: an RFC 1123 subdomain of at most 63 characters.
const NODE_NAME = /^(?=.{1,63}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

export const nodeCommonName = (nodeName: string): string => `${PREFIX}${nodeName}`;

/** undefined unless it is a node's common name with a valid name in it. */
export const nodeNameOf = (commonName: string): string | undefined => {
  const name = commonName.startsWith(PREFIX) ? commonName.slice(PREFIX.length) : "";
  return NODE_NAME.test(name) ? name : undefined;
};

/** "Invalid", naming what a node name may be. */
export const checkNodeName = (nodeName: string): void => {
  if (!NODE_NAME.test(nodeName)) {
    throw new GantryError("Invalid", `node name ${JSON.stringify(nodeName)}: must be 1 to 63 lower-case letters, digits, "-" and ".", beginning and ending with a letter or digit`);
  }
};
