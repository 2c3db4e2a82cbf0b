// A kubeconfig with everything embedded. Written by hand: the format is small, and Debian's kubectl 1.20 crashes when asked to. As JSON, which is YAML as well: `gantry` reads it
// without a YAML parser, which takes a quarter of the time that a short command needs.
import type { KeyPair } from "../../base/tls/authority.ts";

export interface KubeconfigOptions extends KeyPair {
  readonly serverUrl: string;
  readonly caPem: string;
}

const NAME = "gantry";
const USER = "kubernetes-admin";

export const formatKubeconfig = ({ serverUrl, caPem, certificatePem, privateKeyPem }: KubeconfigOptions): string => {
  const data = (pem: string): string => Buffer.from(pem).toString("base64");
  return `${JSON.stringify({
    apiVersion: "v1", kind: "Config",
    clusters: [{ name: NAME, cluster: { server: serverUrl, "certificate-authority-data": data(caPem) } }],
    users: [{ name: USER, user: { "client-certificate-data": data(certificatePem), "client-key-data": data(privateKeyPem) } }],
    contexts: [{ name: NAME, context: { cluster: NAME, user: USER } }],
    "current-context": NAME,
  }, undefined, 2)}\n`;
};
