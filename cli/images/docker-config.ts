// Registry credentials of whoever runs the command, in docker's own file and format, so that both tools share them: DOCKER_CONFIG/config.json
// or ~/.docker/config.json. https://docs.docker.com/reference/cli/docker/login/
import { chmodSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { GantryError } from "../../base/errors.ts";
import type { RegistryCredential } from "../../proto/gen/gantry/v1/agent.ts";

/** Docker Hub's key in the file. */
const HUB_KEY = "https://index.docker.io/v1/";
const HUB = "docker.io";

interface DockerConfig {
  auths?: Record<string, { auth?: string; identitytoken?: string; username?: string; password?: string }>;
  credsStore?: string;
  credHelpers?: Record<string, string>;
  [other: string]: unknown;
}

export const dockerConfigPath = (env: NodeJS.ProcessEnv): string => join(env["DOCKER_CONFIG"] || join(env["HOME"] || homedir(), ".docker"), "config.json");

/** As in image names: docker.io, localhost:5000. */
export const registryOf = (key: string): string => {
  const bare = key.replace(/^https?:\/\//, "").replace(/\/(?:v[12]\/?)?$/, "");
  return bare === "index.docker.io" || bare === "registry-1.docker.io" || bare === "" ? HUB : bare;
};

const keyOf = (registry: string): string => (registry === HUB ? HUB_KEY : registry);

const readConfig = (path: string): DockerConfig => {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw new GantryError("FailedPrecondition", `${path} can't be read`, { cause: error });
  }
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as DockerConfig;
  } catch (error) {
    throw new GantryError("FailedPrecondition", `${path} is not JSON`, { cause: error });
  }
  throw new GantryError("FailedPrecondition", `${path} is not a JSON object`);
};

const helperError = (path: string, registry: string, helper: string): GantryError =>
  new GantryError("FailedPrecondition", `${path}: the credentials for ${registry} are kept by the credential helper ${JSON.stringify(helper)}, which gantry does not run; 'gantry login ${registry}' keeps them in the file once "credsStore" or "credHelpers" is taken out of it`);

/** Who fits `registry` by docker's config.json; all that are there when it is absent. Errors: "FailedPrecondition". */
export const readCredentials = (path: string, registry?: string): readonly RegistryCredential[] => {
  const config = readConfig(path);
  const credentials: RegistryCredential[] = [];
  for (const [key, entry] of Object.entries(config.auths ?? {})) {
    const host = registryOf(key);
    if (registry !== undefined && host !== registry && !host.startsWith(`${registry}/`)) continue;
    const decoded = Buffer.from(entry.auth ?? "", "base64").toString("utf8");
    const colon = decoded.indexOf(":");
    const username = colon < 0 ? (entry.username ?? "") : decoded.slice(0, colon);
    const password = colon < 0 ? (entry.password ?? "") : decoded.slice(colon + 1);
    const identityToken = entry.identitytoken ?? "";
    if (username === "" && identityToken === "") {
      // Docker leaves an empty entry for what its helper holds.
      const helper = config.credHelpers?.[key] ?? config.credHelpers?.[host] ?? config.credsStore;
      if (helper !== undefined && registry !== undefined) throw helperError(path, host, helper);
      continue;
    }
    credentials.push({ registry: host, username, password, identityToken });
  }
  const helper = registry === undefined ? undefined : config.credHelpers?.[registry];
  if (helper !== undefined && credentials.length === 0) throw helperError(path, registry!, helper);
  return credentials;
};

const writeConfig = (path: string, config: DockerConfig): void => {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.${process.pid}.new`;
  writeFileSync(temporary, `${JSON.stringify(config, undefined, "\t")}\n`, { mode: 0o600, flush: true });
  chmodSync(temporary, 0o600);
  renameSync(temporary, path);
};

/** Everything else in the file stays. Errors: "FailedPrecondition" when a helper keeps credentials, and what is written here would not be used. */
export const saveCredential = (path: string, { registry, username, password }: RegistryCredential): void => {
  const config = readConfig(path);
  const helper = config.credHelpers?.[registry] ?? config.credsStore;
  if (helper !== undefined) throw helperError(path, registry, helper);
  writeConfig(path, { ...config, auths: { ...config.auths, [keyOf(registry)]: { auth: Buffer.from(`${username}:${password}`).toString("base64") } } });
};

/** False when there was nothing to forget. */
export const forgetCredential = (path: string, registry: string): boolean => {
  const config = readConfig(path);
  const auths = Object.entries(config.auths ?? {});
  const left = auths.filter(([key]) => registryOf(key) !== registry);
  if (left.length === auths.length) return false;
  writeConfig(path, { ...config, auths: Object.fromEntries(left) });
  return true;
};
