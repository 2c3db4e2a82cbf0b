// How to reach image registries that are not simply https://HOST. Pure.
import { GantryError, type FieldCause } from "../../base/errors.ts";

export interface RegistrySettings {
  /** Plain HTTP. The default for loopback addresses only. */
  readonly http?: boolean;
  /** Take any certificate. */
  readonly skipTlsVerify?: boolean;
  /** CAs that this registry's certificate may be signed by (PEM), instead of the system's. */
  readonly caPem?: string;
  /** Registries that are asked first, in this order: HOST[:PORT][/PATH], which have settings of their own here. */
  readonly mirrors?: readonly string[];
}

/** By HOST[:PORT], as it stands in image names: "docker.io", "registry.example:5000". */
export type RegistryConfig = Readonly<Record<string, RegistrySettings>>;

const FIELDS: Readonly<Record<keyof RegistrySettings, string>> = { http: "boolean", skipTlsVerify: "boolean", caPem: "string", mirrors: "list" };

/** From a configuration file's object. Errors: "Invalid", with the field's path below `field`. */
export const parseRegistryConfig = (value: unknown, field = "registries"): RegistryConfig => {
  const causes: FieldCause[] = [];
  const wrong = (path: string, message: string, reason: FieldCause["reason"] = "FieldValueInvalid"): void => void causes.push({ field: path, reason, message });
  const isObject = (v: unknown): v is Record<string, unknown> => typeof v === "object" && v !== null && !Array.isArray(v);
  if (!isObject(value)) {
    wrong(field, "must be an object: {\"HOST[:PORT]\": {http, skipTlsVerify, caPem, mirrors}}", "FieldValueTypeInvalid");
  } else {
    for (const [host, settings] of Object.entries(value)) {
      const path = `${field}[${JSON.stringify(host)}]`;
      if (host.includes("/") || host === "") wrong(path, "must be HOST or HOST:PORT, as in image names, without a scheme or path");
      if (!isObject(settings)) {
        wrong(path, `must be an object with ${Object.keys(FIELDS).join(", ")}`, "FieldValueTypeInvalid");
        continue;
      }
      for (const [key, given] of Object.entries(settings)) {
        const type = Object.hasOwn(FIELDS, key) ? FIELDS[key as keyof RegistrySettings] : undefined;
        if (type === undefined) wrong(`${path}.${key}`, `is not known; there are ${Object.keys(FIELDS).join(", ")}`, "FieldValueNotSupported");
        else if (type === "list" ? !Array.isArray(given) || !given.every((m) => typeof m === "string" && /^[^/\s]+(?:\/\S+)?$/.test(m) && !m.includes("://")) : typeof given !== type) {
          wrong(`${path}.${key}`, type === "list" ? "must be a list of HOST[:PORT][/PATH]" : `must be a ${type}`, "FieldValueTypeInvalid");
        }
      }
    }
  }
  if (causes.length > 0) throw new GantryError("Invalid", causes.map((c) => `${c.field} ${c.message}`).join("; "), { causes });
  return value as RegistryConfig;
};

export interface Endpoint {
  /** Scheme, host and port: "https://registry-1.docker.io". */
  readonly origin: string;
  /** As in image names and credentials. */
  readonly host: string;
  /** The repository there. */
  readonly repository: string;
  readonly settings: RegistrySettings;
}

/** docker.io is a name; the registry itself has another. */
const DOCKER_HUB = "registry-1.docker.io";

export const isLoopback = (host: string): boolean => /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?$/.test(host);

const endpoint = (config: RegistryConfig, host: string, repository: string): Endpoint => {
  const settings = config[host] ?? {};
  const http = settings.http ?? isLoopback(host);
  return { origin: `${http ? "http" : "https"}://${host === "docker.io" ? DOCKER_HUB : host}`, host, repository, settings };
};

/** Where to ask for a repository: its mirrors in their order, then the registry itself. */
export const endpointsFor = (config: RegistryConfig, registry: string, repository: string): readonly Endpoint[] => [
  ...(config[registry]?.mirrors ?? []).map((mirror) => {
    const slash = mirror.indexOf("/");
    const [host, prefix] = slash < 0 ? [mirror, ""] : [mirror.slice(0, slash), `${mirror.slice(slash + 1).replace(/\/+$/, "")}/`];
    return endpoint(config, host, prefix + repository);
  }),
  endpoint(config, registry, repository),
];
