// Join tokens, made through the API: each is a Secret of the form of Kubernetes' bootstrap tokens.
// https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/
import { GantryError } from "../base/errors.ts";
import { SECRETS } from "../base/kube/resources.ts";
import { caFingerprint } from "../base/tls/describe.ts";
import { TOKEN_NAMESPACE, TOKEN_SECRET_TYPE, formatJoinToken, newJoinToken, tokenSecretData, tokenSecretName } from "../base/tls/join-token.ts";
import type { ApiClient } from "./api-client.ts";

export const createJoinToken = async (client: ApiClient, options: { readonly ttlMs: number; readonly description: string }): Promise<{ readonly token: string; readonly expiration: string }> => {
  if (!client.target.ca) throw new GantryError("BadRequest", "the kubeconfig has no certificate-authority: a join token pins the cluster's CA");
  const token = newJoinToken(caFingerprint(client.target.ca));
  const expiresMs = Date.now() + options.ttlMs;
  const stringData = tokenSecretData(token, expiresMs, options.description);
  await client.json("POST", client.pathOf(SECRETS, TOKEN_NAMESPACE), {
    body: { apiVersion: "v1", kind: "Secret", type: TOKEN_SECRET_TYPE, metadata: { name: tokenSecretName(token.id), namespace: TOKEN_NAMESPACE }, stringData },
  });
  return { token: formatJoinToken(token), expiration: stringData["expiration"]! };
};
