// Several Compose files as one, and `extends`: https://docs.docker.com/reference/compose-file/merge/. Short forms become long ones first,
// so that both merge by the same keys. Pure.
import { fault, isMapping, list, mapping, pairs, text, textOrTexts, type Mapping } from "./fields.ts";

/** Lists whose order and repetitions don't matter: the later file's are added. */
const APPENDED = new Set(["ports", "expose", "dns", "dns_search", "dns_opt", "tmpfs", "cap_add", "cap_drop", "security_opt", "group_add", "env_file", "profiles", "devices", "external_links", "links"]);

const asObject = (entries: Iterable<readonly [string, unknown]>): Mapping => Object.fromEntries(entries);

/** "db:rw" of volumes, "name" of secrets: what an entry is known by. */
const volumeTarget = (entry: unknown): string => {
  if (isMapping(entry)) return text("target", entry["target"]);
  const parts = String(entry).split(":");
  return parts.length === 1 ? parts[0]! : parts[1]!;
};
const fileTarget = (entry: unknown): string => (isMapping(entry) ? text("target", entry["target"] ?? entry["source"]) : String(entry));

/** One service with lists of pairs as mappings, and short forms long. `path` is "services.web". */
export const normalizeService = (path: string, value: unknown): Mapping => {
  const service: Record<string, unknown> = { ...mapping(path, value) };
  for (const key of ["environment", "labels", "sysctls", "annotations"]) {
    if (service[key] !== undefined) service[key] = asObject([...pairs(`${path}.${key}`, service[key])].map(([k, v]) => [k, v ?? null]));
  }
  if (Array.isArray(service["extra_hosts"])) service["extra_hosts"] = asObject(pairs(`${path}.extra_hosts`, (service["extra_hosts"] as unknown[]).map((h) => String(h).replace(/^([^:=]+)[:=]/, "$1="))));
  if (typeof service["build"] === "string") service["build"] = { context: service["build"] };
  if (isMapping(service["build"])) {
    const build = service["build"];
    service["build"] = { ...build, ...(build["args"] === undefined ? {} : { args: asObject([...pairs(`${path}.build.args`, build["args"])].map(([k, v]) => [k, v ?? null])) }) };
  }
  if (Array.isArray(service["depends_on"])) service["depends_on"] = asObject(list(`${path}.depends_on`, service["depends_on"]).map((d, i) => [text(`${path}.depends_on[${i}]`, d), { condition: "service_started" }]));
  if (Array.isArray(service["networks"])) service["networks"] = asObject(list(`${path}.networks`, service["networks"]).map((n, i) => [text(`${path}.networks[${i}]`, n), null]));
  for (const key of ["env_file", "dns", "dns_search", "tmpfs"]) {
    if (service[key] !== undefined && !Array.isArray(service[key])) service[key] = isMapping(service[key]) ? [service[key]] : textOrTexts(`${path}.${key}`, service[key]);
  }
  return service;
};

const mergeLists = (key: string, first: readonly unknown[], second: readonly unknown[]): readonly unknown[] => {
  if (key === "volumes" || key === "secrets" || key === "configs") {
    const target = key === "volumes" ? volumeTarget : fileTarget;
    const later = new Set(second.map(target));
    return [...first.filter((e) => !later.has(target(e))), ...second];
  }
  if (!APPENDED.has(key)) return second;
  const seen = new Set(first.map((e) => JSON.stringify(e)));
  return [...first, ...second.filter((e) => !seen.has(JSON.stringify(e)))];
};

/** The second over the first. */
export const mergeValues = (key: string, first: unknown, second: unknown): unknown => {
  if (first === undefined || first === null) return second;
  if (second === undefined) return first;
  // Said anew, not added to.
  if (key === "command" || key === "entrypoint" || key === "test") return second;
  if (Array.isArray(first) && Array.isArray(second)) return mergeLists(key, first, second);
  if (isMapping(first) && isMapping(second)) {
    return asObject([...new Set([...Object.keys(first), ...Object.keys(second)])].map((k) => [k, mergeValues(k, first[k], second[k])]));
  }
  return second === null ? first : second;
};

/** A whole file in the form that merges. */
export const normalizeFile = (file: string, value: unknown): Mapping => {
  const top = mapping(file, value);
  const services = mapping("services", top["services"]);
  return { ...top, services: asObject(Object.entries(services).map(([name, service]) => [name, normalizeService(`services.${name}`, service)])) };
};

/** `readOther` gives another file in normal form. */
export const withExtends = (file: Mapping, readOther: (path: string) => Mapping): Mapping => {
  const resolve = (within: Mapping, name: string, chain: readonly string[]): Mapping => {
    const own = mapping(`services.${name}`, mapping("services", within["services"])[name]);
    const wanted = own["extends"];
    if (wanted === undefined) return own;
    const path = `services.${name}.extends`;
    const { file: otherPath, service } = typeof wanted === "string" ? { file: undefined, service: wanted } : mapping(path, wanted);
    const base = text(`${path}.service`, service);
    const link = `${text(`${path}.file`, otherPath)}#${base}`;
    if (chain.includes(link)) throw fault(path, `goes round in a circle: ${[...chain, link].join(" -> ")}`);
    const other = otherPath === undefined ? within : readOther(text(`${path}.file`, otherPath));
    if (mapping("services", other["services"])[base] === undefined) throw fault(path, `there is no service ${JSON.stringify(base)}`);
    // What others it needs is not taken over, as in Compose's own rules for depends_on.
    const { depends_on: _, ...inherited } = resolve(other, base, [...chain, link]);
    const { extends: __, ...rest } = own;
    return mergeValues("", inherited, rest) as Mapping;
  };
  const names = Object.keys(mapping("services", file["services"]));
  return { ...file, services: asObject(names.map((name) => [name, resolve(file, name, [`#${name}`])])) };
};
