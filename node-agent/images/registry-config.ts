// How to reach image registries that are not simply https://HOST. Pure.
import { BlockList, isIP } from "node:net";
import { GantryError, type FieldCause } from "../../base/errors.ts";

export interface RegistrySettings {
  /** Plain HTTP. The default for loopback addresses only. */
  readonly http?: boolean;
  /** Take any certificate. */
  readonly skipTlsVerify?: boolean;
  /** HTTPS with any certificate, and plain HTTP when it does not speak TLS: docker's "insecure registries". */
  readonly insecure?: boolean;
  /** CAs that this registry's certificate may be signed by (PEM), instead of the system's. */
  readonly caPem?: string;
  /** The same as a file, read when the configuration is. */
  readonly caFile?: string;
  /** URL of an HTTP proxy, or "none"; the default is what HTTP_PROXY, HTTPS_PROXY and NO_PROXY say. */
  readonly proxy?: string;
  /** Registries that are asked first, in this order: HOST[:PORT][/PATH], which have settings of their own here. */
  readonly mirrors?: readonly string[];
}

/** By HOST[:PORT], as it stands in image names ("docker.io", "registry.example:5000"), or by network ("10.0.0.0/8") for registries that are named by address. */
export type RegistryConfig = Readonly<Record<string, RegistrySettings>>;

const FIELDS: Readonly<Record<keyof RegistrySettings, string>> = { http: "boolean", skipTlsVerify: "boolean", insecure: "boolean", caPem: "string", caFile: "string", proxy: "string", mirrors: "list" };

/** From a configuration file's object; `readFile` is for CA files. Errors: "Invalid", with the field's path below `field`. */
export const parseRegistryConfig = (value: unknown, field = "registries", readFile?: (path: string) => string): RegistryConfig => {
  const causes: FieldCause[] = [];
  const wrong = (path: string, message: string, reason: FieldCause["reason"] = "FieldValueInvalid"): void => void causes.push({ field: path, reason, message });
  const isObject = (v: unknown): v is Record<string, unknown> => typeof v === "object" && v !== null && !Array.isArray(v);
  if (!isObject(value)) {
    wrong(field, `must be an object: {"HOST[:PORT]": {${Object.keys(FIELDS).join(", ")}}}`, "FieldValueTypeInvalid");
  } else {
    for (const [host, settings] of Object.entries(value)) {
      const path = `${field}[${JSON.stringify(host)}]`;
      if ((host.includes("/") || host === "") && networkOf(host) === undefined) wrong(path, "must be HOST or HOST:PORT, as in image names, without a scheme or path; or a network such as 10.0.0.0/8");
      if (!isObject(settings)) {
        wrong(path, `must be an object with ${Object.keys(FIELDS).join(", ")}`, "FieldValueTypeInvalid");
        continue;
      }
      for (const [key, given] of Object.entries(settings)) {
        const type = Object.hasOwn(FIELDS, key) ? FIELDS[key as keyof RegistrySettings] : undefined;
        if (type === undefined) wrong(`${path}.${key}`, `is not known; there are ${Object.keys(FIELDS).join(", ")}`, "FieldValueNotSupported");
        else if (type === "list" ? !Array.isArray(given) || !given.every((m) => typeof m === "string" && /^[^/\s]+(?:\/\S+)?$/.test(m) && !m.includes("://")) : typeof given !== type) {
          wrong(`${path}.${key}`, type === "list" ? "must be a list of HOST[:PORT][/PATH]" : `must be a ${type}`, "FieldValueTypeInvalid");
        } else if (key === "proxy" && given !== "none" && !(URL.canParse(given as string) && /^https?:$/.test(new URL(given as string).protocol))) {
          wrong(`${path}.proxy`, `${JSON.stringify(given)} must be http://HOST:PORT or "none"`);
        }
      }
    }
  }
  if (causes.length > 0) throw new GantryError("Invalid", causes.map((c) => `${c.field} ${c.message}`).join("; "), { causes });
  return Object.fromEntries(Object.entries(value as RegistryConfig).map(([host, settings]) => {
    if (settings.caFile === undefined) return [host, settings];
    try {
      if (readFile === undefined) throw new Error("files can't be read here");
      const fromFile = readFile(settings.caFile);
      if (!fromFile.includes("-----BEGIN CERTIFICATE-----")) throw new Error("it holds no certificate in PEM");
      return [host, { ...settings, caPem: `${settings.caPem ?? ""}${fromFile}` }];
    } catch (cause) {
      throw new GantryError("Invalid", `${field}[${JSON.stringify(host)}].caFile ${JSON.stringify(settings.caFile)} can't be used`, { cause });
    }
  }));
};

export interface Endpoint {
  /** Scheme, host and port: "https://registry-1.docker.io". */
  readonly origin: string;
  /** As in image names and credentials. */
  readonly host: string;
  /** The repository there. */
  readonly repository: string;
  readonly settings: RegistrySettings;
  /** Only asked for what is pulled. */
  readonly isMirror: boolean;
}

/** docker.io is a name; the registry itself has another. */
const DOCKER_HUB = "registry-1.docker.io";

export const isLoopback = (host: string): boolean => /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?$/.test(host);

/** "10.0.0.0/8" as something that can be asked; undefined when it is no network. */
const networkOf = (text: string): BlockList | undefined => {
  const [address = "", bits = ""] = text.split("/");
  const family = isIP(address);
  if (family === 0 || !/^\d{1,3}$/.test(bits) || Number(bits) > (family === 4 ? 32 : 128)) return undefined;
  const list = new BlockList();
  list.addSubnet(address, Number(bits), family === 4 ? "ipv4" : "ipv6");
  return list;
};

const settingsFor = (config: RegistryConfig, host: string): RegistrySettings => {
  const own = config[host];
  if (own !== undefined) return own;
  const address = host.replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1");
  const family = isIP(address);
  if (family === 0) return {};
  return Object.entries(config).find(([key]) => networkOf(key)?.check(address, family === 4 ? "ipv4" : "ipv6") === true)?.[1] ?? {};
};

const endpoints = (config: RegistryConfig, host: string, repository: string, isMirror: boolean): readonly Endpoint[] => {
  const settings = settingsFor(config, host);
  const at = host === "docker.io" ? DOCKER_HUB : host;
  const of = (scheme: string, more: RegistrySettings): Endpoint => ({ origin: `${scheme}://${at}`, host, repository, settings: { ...settings, ...more }, isMirror });
  if (settings.insecure === true && settings.http === undefined) return [of("https", { skipTlsVerify: true }), of("http", {})];
  return [of((settings.http ?? isLoopback(host)) ? "http" : "https", {})];
};

/** Where to ask for a repository: its mirrors in their order, then the registry itself. */
export const endpointsFor = (config: RegistryConfig, registry: string, repository: string): readonly Endpoint[] => [
  ...(settingsFor(config, registry).mirrors ?? []).flatMap((mirror) => {
    const slash = mirror.indexOf("/");
    const [host, prefix] = slash < 0 ? [mirror, ""] : [mirror.slice(0, slash), `${mirror.slice(slash + 1).replace(/\/+$/, "")}/`];
    return endpoints(config, host, prefix + repository, true);
  }),
  ...endpoints(config, registry, repository, false),
];
