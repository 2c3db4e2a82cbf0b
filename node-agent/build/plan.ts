// From a Dockerfile to what has to be done: which stages, which of them need which, and, once a stage's base is known, its steps with every variable
// put in, and the config of its image. Pure.
import { posix } from "node:path";
import { GantryError } from "../../base/errors.ts";
import { formatPlatform, type Platform } from "../images/platform.ts";
import { parseTrigger, type Dockerfile, type Heredoc, type RawInstruction, type RawStage } from "./dockerfile.ts";
import { parseInstruction, type CommandForm, type CopyFlags, type Instruction, type RunMount } from "./instructions.ts";
import { within, type Location } from "./source.ts";
import { expand, type Lookup } from "./words.ts";

export interface PlanOptions {
  readonly buildArgs: Readonly<Record<string, string>>;
  /** "": the last stage. */
  readonly target: string;
  readonly platform: Platform;
}

/** Where a stage begins, or a COPY takes from. */
export type Origin = { readonly kind: "scratch" } | { readonly kind: "stage"; readonly index: number } | { readonly kind: "image"; readonly reference: string } | { readonly kind: "context" };

export interface PlannedStage {
  readonly stage: RawStage;
  readonly base: Origin;
  /** FROM --platform, when given. */
  readonly platform: string;
  /** "build", "stage-1", "" when it is the only one. */
  readonly title: string;
}

export interface BuildPlan {
  /** Those that the target needs, the target last. */
  readonly stages: readonly PlannedStage[];
  readonly target: number;
  readonly globals: ReadonlyMap<string, string>;
  /** Build arguments that no ARG declares. */
  readonly unused: readonly string[];
}

/** The "config" of an image config (image-spec config.md), as Docker fills it in. */
export interface ContainerConfig {
  User?: string;
  ExposedPorts?: Record<string, object>;
  Env?: readonly string[];
  Entrypoint?: readonly string[];
  Cmd?: readonly string[];
  Volumes?: Record<string, object>;
  WorkingDir?: string;
  Labels?: Record<string, string>;
  StopSignal?: string;
  Healthcheck?: Readonly<Record<string, unknown>>;
  OnBuild?: readonly string[];
  Shell?: readonly string[];
}

interface StepCommon {
  /** As it stands in the Dockerfile, on one line. */
  readonly text: string;
  readonly location: Location;
  /** history[].created_by. */
  readonly createdBy: string;
}

export type Step = StepCommon & (
  | { readonly kind: "config" }
  | { readonly kind: "workdir"; readonly path: string; readonly user: string }
  | {
    readonly kind: "run"; readonly args: readonly string[]; readonly env: readonly string[];
    /** Not part of what the step is known by in the cache. */
    readonly proxyEnv: readonly string[];
    readonly cwd: string; readonly user: string; readonly network: "default" | "none" | "host"; readonly mounts: readonly (RunMount & { readonly origin: Origin })[];
    /** A heredoc that begins with #!: it is put where args[0] says. */
    readonly script: string | undefined;
  }
  | {
    readonly kind: "copy"; readonly isAdd: boolean; readonly origin: Origin; readonly sources: readonly string[]; readonly files: readonly { readonly name: string; readonly content: string }[];
    /** Absolute; a slash at the end says that it is a directory. */
    readonly destination: string;
    readonly flags: CopyFlags;
  }
);

export interface StagePlan {
  readonly steps: readonly Step[];
  readonly config: ContainerConfig;
  readonly author: string;
}

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const PROXY_ARGS: ReadonlySet<string> = new Set(["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"].flatMap((name) => [name, name.toLowerCase()]));
/** Meant for the builder itself; no ARG has to declare them. */
const BUILDER_ARGS: ReadonlySet<string> = new Set([...PROXY_ARGS, "SOURCE_DATE_EPOCH", "BUILDKIT_INLINE_CACHE", "BUILDKIT_SYNTAX", "BUILDKIT_MULTI_PLATFORM", "BUILDKIT_CONTEXT_KEEP_GIT_DIR", "BUILDKIT_SANDBOX_HOSTNAME", "BUILDKIT_DOCKERFILE_CHECK"]);
export const SCRIPT_PATH = "/dev/pipes/EOF";
const invalid = (message: string): GantryError => new GantryError("Invalid", message);

const platformArgs = ({ platform, target }: PlanOptions): readonly (readonly [string, string])[] =>
  [...["TARGET", "BUILD"].flatMap((prefix) => [[`${prefix}PLATFORM`, formatPlatform(platform)], [`${prefix}OS`, platform.os], [`${prefix}ARCH`, platform.architecture], [`${prefix}VARIANT`, platform.variant]] as const), ["TARGETSTAGE", target || "default"]];

/** Errors: "Invalid" with the place. */
export const planBuild = (file: Dockerfile, options: PlanOptions): BuildPlan => {
  const globals = new Map(platformArgs(options));
  const declared = new Set<string>();
  for (const raw of file.globalArgs) {
    within(raw.location, () => {
      const instruction = parseInstruction(raw, file.escape, String);
      for (const { name, value } of instruction.kind === "arg" ? instruction.args : []) {
        declared.add(name);
        const given = options.buildArgs[name] ?? (value === undefined ? globals.get(name) : expand(value, (n) => globals.get(n), file.escape));
        if (given !== undefined) globals.set(name, given);
      }
    });
  }
  const all = file.stages.map((stage): PlannedStage => within(stage.from.location, () => {
    const lookup: Lookup = (name) => globals.get(name);
    const reference = expand(stage.base, lookup, file.escape);
    if (reference === "") throw invalid(`base name (${stage.base}) should not be blank: is the ARG that it takes missing before the first FROM?`);
    const flag = stage.from.flags.find((f) => f.name !== "platform");
    if (flag !== undefined) throw invalid(`unknown flag: FROM has no --${flag.name}; it has --platform`);
    const platform = expand(stage.from.flags[0]?.value ?? "", lookup, file.escape);
    return { stage, platform, base: reference === "scratch" ? { kind: "scratch" } : originOf(reference, stage.index, file, false), title: file.stages.length === 1 ? "" : stage.name || `stage-${stage.index}` };
  }));
  const target = targetOf(file, options.target);
  const needed = new Set<number>();
  const need = (index: number): void => {
    if (needed.has(index)) return;
    needed.add(index);
    for (const other of needsOf(all[index]!, file)) need(other);
  };
  need(target);
  for (const raw of file.stages.flatMap((stage) => stage.instructions)) {
    const words = raw.keyword === "ARG" ? raw.text.split(/\s+/) : [];
    for (const word of words) declared.add(word.split("=")[0]!);
  }
  return { stages: all.filter(({ stage }) => needed.has(stage.index)), target, globals, unused: Object.keys(options.buildArgs).filter((name) => !declared.has(name) && !BUILDER_ARGS.has(name)).sort() };
};

const targetOf = (file: Dockerfile, wanted: string): number => {
  if (wanted === "") return file.stages.length - 1;
  const found = file.stages.findIndex((stage) => stage.name === wanted.toLowerCase());
  if (found >= 0) return found;
  if (/^\d+$/.test(wanted) && Number(wanted) < file.stages.length) return Number(wanted);
  const names = file.stages.map((stage) => stage.name || String(stage.index));
  throw invalid(`target stage ${JSON.stringify(wanted)} could not be found; ${file.source.file} has ${names.join(", ")}`);
};

/** A name of an earlier stage, its number (not in FROM), or else an image. */
const originOf = (name: string, before: number, file: Dockerfile, numbers: boolean): Origin => {
  const lower = name.toLowerCase();
  const index = file.stages.findIndex((stage) => stage.name !== "" && stage.name === lower);
  if (index >= 0 && index < before) return { kind: "stage", index };
  if (index >= 0 && numbers) throw invalid(`the stage ${JSON.stringify(name)} ${index === before ? "can't take from itself" : "comes later: only earlier stages can be used"}`);
  if (numbers && /^\d+$/.test(name)) {
    if (Number(name) < before) return { kind: "stage", index: Number(name) };
    throw invalid(`there is no stage ${name} before this one: stages are counted from 0, and only earlier ones can be used`);
  }
  return { kind: "image", reference: name };
};

const fromOf = (name: string, before: number, file: Dockerfile): Origin => {
  if (name === "") return { kind: "context" };
  if (name.includes("$")) throw invalid(`from=${name}: variables are not put in here; name a stage of its own: FROM ${name} AS NAME`);
  return name === "scratch" ? { kind: "scratch" } : originOf(name, before, file, true);
};

/** Indexes of stages that this one can't be made without. */
const needsOf = ({ stage, base }: PlannedStage, file: Dockerfile): readonly number[] => {
  const origins = stage.instructions.flatMap((raw) => within(raw.location, () => {
    const names = raw.flags.flatMap(({ name, value = "" }) => (name === "from" ? [value] : name === "mount" ? value.split(",").filter((part) => part.startsWith("from=")).map((part) => part.slice(5)) : []));
    return names.map((name) => fromOf(name, stage.index, file));
  }));
  return [base, ...origins].flatMap((origin) => (origin.kind === "stage" ? [origin.index] : []));
};

/** The config that a stage begins with when it begins with nothing. */
export const SCRATCH_CONFIG: ContainerConfig = { Env: [`PATH=${DEFAULT_PATH}`], WorkingDir: "/" };

/** `base`: of the image or stage below. Errors: "Invalid" with the place. */
export const planStage = (file: Dockerfile, { stage, base: baseOrigin }: PlannedStage, base: ContainerConfig, plan: Pick<BuildPlan, "globals">, options: PlanOptions): StagePlan =>
  new StagePlanner(file, stage, base, plan.globals, options, baseOrigin.kind === "image" ? baseOrigin.reference : stage.base).run();

class StagePlanner {
  readonly #file: Dockerfile;
  readonly #stage: RawStage;
  readonly #globals: ReadonlyMap<string, string>;
  readonly #buildArgs: Readonly<Record<string, string>>;
  readonly #origin: string;
  readonly #steps: Step[] = [];
  readonly #args = new Map<string, string>();
  readonly #env = new Map<string, string>();
  readonly #config: ContainerConfig;
  readonly #triggers: readonly string[];
  #author = "";
  #cmdIsOwn = false;

  constructor(file: Dockerfile, stage: RawStage, base: ContainerConfig, globals: ReadonlyMap<string, string>, options: PlanOptions, origin: string) {
    this.#file = file;
    this.#stage = stage;
    this.#globals = globals;
    this.#buildArgs = options.buildArgs;
    this.#origin = origin;
    const { OnBuild, ...config } = structuredClone(base);
    this.#triggers = OnBuild ?? [];
    this.#config = config;
    for (const pair of config.Env ?? []) {
      const equals = pair.indexOf("=");
      this.#env.set(equals < 0 ? pair : pair.slice(0, equals), equals < 0 ? "" : pair.slice(equals + 1));
    }
  }

  run(): StagePlan {
    for (const text of this.#triggers) this.#add(parseTrigger(text, `ONBUILD of ${this.#origin}`), "\\");
    for (const raw of this.#stage.instructions) this.#add(raw, this.#file.escape);
    return { steps: this.#steps, config: this.#config, author: this.#author };
  }

  #lookup(name: string): string | undefined {
    return this.#env.get(name) ?? this.#args.get(name);
  }

  #add(raw: RawInstruction, escape: string): void {
    within(raw.location, () => {
      const put = (word: string): string => expand(word, (name) => this.#lookup(name), escape);
      const instruction = parseInstruction(raw, escape, put);
      const text = `${raw.keyword} ${[...raw.flags.map(({ name, value }) => `--${name}${value === undefined ? "" : `=${value}`}`), raw.text].join(" ")}`.replaceAll(/\s+/g, " ").trim();
      this.#apply(instruction, { text, location: raw.location, createdBy: text }, put);
    });
  }

  #apply(instruction: Instruction, common: StepCommon, put: (word: string) => string): void {
    const config = this.#config;
    switch (instruction.kind) {
      case "run": return void this.#steps.push(this.#run(instruction, common));
      case "copy": return void this.#steps.push(this.#copy(instruction, common, put));
      case "workdir": {
        config.WorkingDir = posix.resolve("/", config.WorkingDir ?? "", put(instruction.value)) || "/";
        return void this.#steps.push({ ...common, kind: "workdir", path: config.WorkingDir, user: config.User ?? "", createdBy: `WORKDIR ${config.WorkingDir}` });
      }
      case "arg":
        for (const { name, value } of instruction.args) {
          const given = this.#buildArgs[name] ?? (value === undefined ? this.#globals.get(name) : put(value));
          if (given !== undefined) this.#args.set(name, given);
        }
        break;
      case "env": {
        // All of one instruction see what was before it.
        const pairs = instruction.pairs.map(([name, value]) => [put(name), put(value)] as const);
        for (const [name, value] of pairs) this.#env.set(name, value);
        config.Env = [...this.#env].map(([name, value]) => `${name}=${value}`);
        break;
      }
      case "label": config.Labels = { ...config.Labels, ...Object.fromEntries(instruction.pairs.map(([name, value]) => [put(name), put(value)])) }; break;
      case "cmd":
        config.Cmd = this.#command(instruction.command);
        this.#cmdIsOwn = true;
        break;
      case "entrypoint":
        config.Entrypoint = this.#command(instruction.command);
        // A base's CMD was meant for the base's ENTRYPOINT.
        if (!this.#cmdIsOwn) delete config.Cmd;
        break;
      case "shell": config.Shell = instruction.exec; break;
      case "expose": config.ExposedPorts = { ...config.ExposedPorts, ...Object.fromEntries(instruction.words.flatMap((word) => put(word).split(/\s+/)).filter((w) => w !== "").flatMap(portsOf).map((port) => [port, {}])) }; break;
      case "volume":
        config.Volumes = {
          ...config.Volumes,
          ...Object.fromEntries(instruction.words.map((word) => {
            const path = put(word).trim();
            if (path === "") throw invalid("VOLUME specified can not be an empty string");
            return [path, {}];
          })),
        };
        break;
      case "user": config.User = put(instruction.value); break;
      case "stopsignal": {
        const value = put(instruction.value);
        if (!/^(?:\d+|(?:SIG)?[A-Z0-9+-]+)$/i.test(value)) throw invalid(`STOPSIGNAL: ${JSON.stringify(value)} is not a signal such as SIGTERM or 15`);
        config.StopSignal = value;
        break;
      }
      case "maintainer": this.#author = instruction.value; break;
      case "healthcheck": config.Healthcheck = { Test: instruction.test, ...instruction.times }; break;
      case "onbuild": config.OnBuild = [...(config.OnBuild ?? []), instruction.trigger]; break;
    }
    this.#steps.push({ ...common, kind: "config" });
  }

  #command(command: CommandForm): readonly string[] {
    return "exec" in command ? command.exec : [...this.#shell, command.shell];
  }

  get #shell(): readonly string[] {
    return this.#config.Shell ?? ["/bin/sh", "-c"];
  }

  #run({ command, script, mounts, network }: Extract<Instruction, { kind: "run" }>, common: StepCommon): Step {
    const isProgram = script?.content.startsWith("#!") === true;
    const args = isProgram ? [SCRIPT_PATH] : this.#command(command);
    const declared = [...this.#args].filter(([name]) => !this.#env.has(name));
    const path = this.#env.has("PATH") || this.#args.has("PATH") ? [] : [["PATH", DEFAULT_PATH] as const];
    const proxies = Object.entries(this.#buildArgs).filter(([name]) => PROXY_ARGS.has(name) && !this.#env.has(name) && !this.#args.has(name));
    const asEnv = (pairs: readonly (readonly [string, string])[]): readonly string[] => pairs.map(([name, value]) => `${name}=${value}`);
    const shown = "exec" in command ? JSON.stringify(command.exec) : `${this.#shell.join(" ")} ${command.shell}`;
    return {
      ...common, kind: "run", args, env: asEnv([...path, ...declared, ...this.#env]), proxyEnv: asEnv(proxies), cwd: this.#config.WorkingDir || "/", user: this.#config.User ?? "", network,
      mounts: mounts.map((mount) => ({ ...mount, target: mount.target === "" ? "" : posix.resolve("/", this.#config.WorkingDir ?? "", mount.target), origin: fromOf(mount.from, this.#stage.index, this.#file) })),
      script: isProgram ? script.content : undefined,
      createdBy: `RUN ${declared.length === 0 ? "" : `|${declared.length} ${asEnv(declared).join(" ")} `}${shown}`,
    };
  }

  #copy({ isAdd, paths, heredocs, flags }: Extract<Instruction, { kind: "copy" }>, common: StepCommon, put: (word: string) => string): Step {
    const keyword = isAdd ? "ADD" : "COPY";
    const unused = [...heredocs];
    const sources: string[] = [];
    const files: { name: string; content: string }[] = [];
    for (const path of paths.slice(0, -1)) {
      const heredoc = /^<<-?(["']?)([A-Za-z_][\w.]*)\1$/.exec(path)?.[2];
      if (heredoc !== undefined && unused[0]?.name === heredoc) files.push({ name: heredoc, content: this.#heredoc(unused.shift()!, put) });
      else sources.push(put(path));
    }
    const given = put(paths.at(-1)!);
    if (given === "") throw invalid(`the destination of ${keyword} is empty`);
    if (sources.length + files.length > 1 && !/(?:^|\/)\.{0,2}$/.test(given)) throw invalid(`when using ${keyword} with more than one source file, the destination must be a directory and end with a /`);
    const flagsPut: CopyFlags = { ...flags, chown: put(flags.chown), chmod: put(flags.chmod), checksum: put(flags.checksum), exclude: flags.exclude.map(put) };
    if (flagsPut.chmod !== "" && !/^0?[0-7]{1,4}$/.test(flagsPut.chmod)) throw invalid(`--chmod: ${JSON.stringify(flagsPut.chmod)} is not an octal mode such as 755`);
    if (flagsPut.checksum !== "" && !/^sha256:[0-9a-f]{64}$/.test(flagsPut.checksum)) throw invalid(`--checksum: ${JSON.stringify(flagsPut.checksum)} is not sha256: and 64 hex digits`);
    if (flagsPut.checksum !== "" && !(sources.length === 1 && /^https?:/.test(sources[0]!))) throw invalid("--checksum is for one source, a URL");
    const absolute = posix.resolve("/", this.#config.WorkingDir ?? "", given);
    return {
      ...common, kind: "copy", isAdd, origin: fromOf(flags.from, this.#stage.index, this.#file), sources, files,
      destination: /(?:^|\/)\.{0,2}$/.test(given) && absolute !== "/" ? `${absolute}/` : absolute, flags: flagsPut,
    };
  }

  /** Variables are put in, but quotes mean nothing in it. */
  #heredoc(heredoc: Heredoc, put: (word: string) => string): string {
    if (!heredoc.expands) return heredoc.content;
    return heredoc.content.replaceAll(/\\\$|\$\{(?:[^{}]|\{[^}]*\})*\}|\$[A-Za-z_]\w*/g, (match) => (match === "\\$" ? "$" : put(match)));
  }
}

/** 80, 80/udp, 8000-8010/tcp. */
const portsOf = (word: string): readonly string[] => {
  const [, first, last = first, protocol = "tcp"] = /^(\d+)(?:-(\d+))?(?:\/(tcp|udp|sctp))?$/i.exec(word) ?? [];
  const [from, to] = [Number(first), Number(last)];
  if (first === undefined || from > to || to > 65_535) throw invalid(`EXPOSE: ${JSON.stringify(word)} is not a port such as 80, 53/udp or 8000-8010/tcp`);
  return Array.from({ length: to - from + 1 }, (_, i) => `${from + i}/${protocol.toLowerCase()}`);
};
