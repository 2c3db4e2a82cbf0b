// A kubeconfig with everything embedded. Written by hand: the format is small, and Debian's kubectl 1.20 crashes when asked to.
import type { KeyPair } from "../../base/tls/authority.ts";

export interface KubeconfigOptions extends KeyPair {
  readonly serverUrl: string;
  readonly caPem: string;
}

const NAME = "gantry";
const USER = "kubernetes-admin";

export const formatKubeconfig = ({ serverUrl, caPem, certificatePem, privateKeyPem }: KubeconfigOptions): string => {
  const data = (pem: string): string => Buffer.from(pem).toString("base64");
  return `apiVersion: v1
kind: Config
clusters:
- name: ${NAME}
  cluster:
    server: ${JSON.stringify(serverUrl)}
    certificate-authority-data: ${data(caPem)}
users:
- name: ${USER}
  user:
    client-certificate-data: ${data(certificatePem)}
    client-key-data: ${data(privateKeyPem)}
contexts:
- name: ${NAME}
  context:
    cluster: ${NAME}
    user: ${USER}
current-context: ${NAME}
`;
};
