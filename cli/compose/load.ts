// Finds, reads and merges the files of a Compose project; its name, its variables, its folder. Effects: reading files, through `read`.
import { basename, dirname, join, resolve } from "node:path";
import { parseDocument } from "yaml";
import { GantryError } from "../../base/errors.ts";
import { parseDotEnv } from "../docker/env-file.ts";
import { nameFrom } from "../docker/names.ts";
import { mapping, text, type Mapping } from "./fields.ts";
import { interpolate, interpolateAll } from "./interpolate.ts";
import { mergeValues, normalizeFile, withExtends } from "./merge.ts";

/** In the order in which Compose looks for them, in the folder and those above. */
const NAMES = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];
const OVERRIDES: Readonly<Record<string, readonly string[]>> = {
  "compose.yaml": ["compose.override.yaml", "compose.override.yml"], "compose.yml": ["compose.override.yml", "compose.override.yaml"],
  "docker-compose.yaml": ["docker-compose.override.yaml", "docker-compose.override.yml"], "docker-compose.yml": ["docker-compose.override.yml", "docker-compose.override.yaml"],
};

export interface LoadOptions {
  readonly files: readonly string[];
  readonly projectName: string;
  readonly projectDirectory: string;
  readonly envFiles: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** undefined: there is no such file. */
  readonly read: (path: string) => string | undefined;
  readonly warn: (text: string) => void;
}

export interface LoadedProject {
  readonly name: string;
  readonly folder: string;
  /** Merged, interpolated, `extends` resolved. */
  readonly file: Mapping;
  /** .env under the process' own. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

const findFiles = ({ cwd, read }: LoadOptions): readonly string[] => {
  for (let dir = resolve(cwd); ; dir = dirname(dir)) {
    const name = NAMES.find((n) => read(join(dir, n)) !== undefined);
    if (name !== undefined) {
      const override = OVERRIDES[name]!.find((n) => read(join(dir, n)) !== undefined);
      return [join(dir, name), ...(override === undefined ? [] : [join(dir, override)])];
    }
    if (dirname(dir) === dir) return [];
  }
};

const parse = (path: string, source: string): unknown => {
  const document = parseDocument(source, { merge: true });
  const problem = document.errors[0] ?? document.warnings[0];
  if (problem) throw new GantryError("BadRequest", `${path}: ${problem.message.trimEnd()}`);
  return document.toJS() as unknown;
};

/** Undefined when there is no file: some commands do with the project's name. "BadRequest" says which file and which part is wrong. */
export const loadProject = (options: LoadOptions): LoadedProject | undefined => {
  const { cwd, env, read, warn } = options;
  const fromEnv = (env["COMPOSE_FILE"] ?? "").split(env["COMPOSE_PATH_SEPARATOR"] || ":").filter((f) => f !== "");
  const named = options.files.length > 0 ? options.files : fromEnv;
  const paths = named.length > 0 ? named.map((f) => (f === "-" ? f : resolve(cwd, f))) : findFiles(options);
  if (paths.length === 0) return undefined;
  const folder = options.projectDirectory !== "" ? resolve(cwd, options.projectDirectory) : paths[0] === "-" ? resolve(cwd) : dirname(paths[0]!);

  const variables: Record<string, string | undefined> = {};
  const dotEnv = options.envFiles.length > 0 ? options.envFiles.map((f) => resolve(cwd, f)) : [join(folder, ".env")];
  for (const path of dotEnv) {
    const source = read(path);
    if (source === undefined && options.envFiles.length > 0) throw new GantryError("BadRequest", `--env-file: no such file: ${path}`);
    const expand = (value: string, soFar: ReadonlyMap<string, string>): string => interpolate(path, value, (name) => env[name] ?? soFar.get(name) ?? variables[name]);
    for (const [name, value] of parseDotEnv(path, source ?? "", expand, env)) variables[name] = value;
  }
  const all: Record<string, string | undefined> = { ...variables, ...Object.fromEntries(Object.entries(env).filter(([, v]) => v !== undefined)) };

  const unset = new Set<string>();
  const load = (path: string): Mapping => {
    const source = read(path);
    if (source === undefined) throw new GantryError("BadRequest", `no such file: ${path}`);
    return normalizeFile(path, interpolateAll("", parse(path, source), (name) => all[name], (name) => unset.add(name)));
  };
  const merged = paths.map(load).reduce((first, second) => mergeValues("", first, second) as Mapping);
  const file = withExtends(merged, (path) => load(resolve(folder, path)));
  for (const name of unset) warn(`the variable ${name} is not set: it counts as empty`);
  const given = options.projectName || env["COMPOSE_PROJECT_NAME"] || text("name", file["name"]) || basename(folder);
  const name = nameFrom(given);
  if (name === "") throw new GantryError("BadRequest", `no project name can be made of ${JSON.stringify(given)}: give one with -p`);
  if (Object.keys(mapping("services", file["services"])).length === 0) throw new GantryError("BadRequest", `${paths.join(", ")}: there are no services`);
  return { name, folder, file, env: all };
};
