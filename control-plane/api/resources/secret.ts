// Secret: https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/secret-v1/
import type { FieldCause } from "../../../base/errors.ts";
import { SECRETS } from "../../../base/kube/resources.ts";
import type { Secret } from "../../../base/kube/types.gen.ts";
import { ageColumn, column, nameColumn } from "./columns.ts";
import { base64Bytes, MAX_DATA_BYTES, validateImmutable, validateKeys } from "./config-map.ts";
import type { ResourceDefinition } from "./definition.ts";
import { invalid, required, tooLong } from "./faults.ts";
import { fill, without } from "./fill.ts";
import { immutable, validateMetadata } from "./metadata.ts";

/** Keys that a type needs; of a list in the list, one suffices. https://kubernetes.io/docs/concepts/configuration/secret/#secret-types */
const REQUIRED_KEYS: ReadonlyMap<string | undefined, readonly (readonly string[])[]> = new Map([
  ["kubernetes.io/dockercfg", [[".dockercfg"]]],
  ["kubernetes.io/dockerconfigjson", [[".dockerconfigjson"]]],
  ["kubernetes.io/basic-auth", [["username", "password"]]],
  ["kubernetes.io/ssh-auth", [["ssh-privatekey"]]],
  ["kubernetes.io/tls", [["tls.crt"], ["tls.key"]]],
]);

const isJson = (base64: string): boolean => {
  try {
    JSON.parse(Buffer.from(base64, "base64").toString("utf8"));
    return true;
  } catch {
    return false;
  }
};

const validateType = (secret: Secret): FieldCause[] => {
  const data = secret.data ?? {};
  const missing = (REQUIRED_KEYS.get(secret.type) ?? []).filter((anyOf) => !anyOf.some((k) => Object.hasOwn(data, k)));
  const json = secret.type === "kubernetes.io/dockercfg" ? ".dockercfg" : secret.type === "kubernetes.io/dockerconfigjson" ? ".dockerconfigjson" : undefined;
  return [
    ...missing.flatMap((anyOf) => anyOf.map((k) => required(`data[${k}]`))),
    // The value itself must not appear in a message.
    ...(json && data[json] !== undefined && !isJson(data[json]) ? [invalid(`data[${json}]`, "<secret contents redacted>", "must be valid JSON")] : []),
  ];
};

/** stringData is for writing only: it ends up in data, over what stands there. */
const mergeStringData = (secret: Secret): Secret => {
  if (!secret.stringData) return secret;
  const written = Object.entries(secret.stringData).map(([k, v]) => [k, Buffer.from(v, "utf8").toString("base64")] as const);
  return without({ ...secret, data: Object.fromEntries([...Object.entries(secret.data ?? {}), ...written]) }, "stringData");
};

export const SECRET: ResourceDefinition<Secret> = {
  type: SECRETS,
  singular: "secret",
  shortNames: [],
  categories: [],
  schema: "core/v1.Secret",
  defaults: (secret) => fill(mergeStringData(secret), { type: "Opaque" }),
  validate: (secret, previous) => [
    ...validateMetadata(SECRETS, secret, previous),
    ...validateKeys("data", secret.data),
    ...(Object.values(secret.data ?? {}).reduce((n, v) => n + base64Bytes(v), 0) > MAX_DATA_BYTES ? [tooLong("data", MAX_DATA_BYTES)] : []),
    ...validateType(secret),
    ...(previous ? immutable([["type", secret.type, previous.type]]) : []),
    ...validateImmutable(secret, previous, ["data"]),
  ],
  strategy: {
    // A PUT without a type keeps it: defaults would say Opaque.
    prepareForUpdate: (next, current) => (current.type === undefined ? next : fill(next, { type: current.type })),
    generationOf: () => undefined,
  },
  columns: [
    nameColumn(),
    column("Type", "string", "Used to facilitate programmatic handling of secret data.", (s) => s.type ?? ""),
    column("Data", "integer", "Number of entries.", (s) => Object.keys(s.data ?? {}).length),
    ageColumn(),
  ],
  fieldSelectors: { type: (s) => s.type ?? "" },
  subresources: {},
};
