// gantry compose: Compose files on a cluster. https://docs.docker.com/reference/compose-file/
import { resolve } from "node:path";
import { booleanOption, durationOption, eachOption, listOption, numberOption, stringOption } from "../../base/config.ts";
import { GantryError } from "../../base/errors.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import type { ApiClient } from "../api-client.ts";
import { command, type Command, type CommandFamily, type CommandInput } from "../command.ts";
import type { ProjectFlags } from "../compose/session.ts";
import { CLIENT_OPTIONS, connect, forEach, namespaceOf } from "./client.ts";

/** Before the second word: which project, and which cluster. */
export const COMPOSE_FAMILY: CommandFamily = {
  name: "compose", group: "containers", summary: "Compose files",
  options: {
    file: eachOption("Compose file; several are merged (default: compose.yaml and its override, here or in a folder above)", { short: "f", placeholder: "FILE" }),
    project: stringOption("Name of the project (default: the file's, or its folder's)", "", { short: "p", placeholder: "NAME" }),
    projectName: stringOption("The same", "", { placeholder: "NAME" }),
    profile: listOption("Also services of this profile; *: all", [], { placeholder: "NAME" }), envFile: eachOption("File of variables (default: .env)", { placeholder: "FILE" }),
    projectDirectory: stringOption("Folder from which relative paths start", "", { placeholder: "DIR" }),
    ...CLIENT_OPTIONS, namespace: stringOption("Namespace (default: the kubeconfig's)", "", { short: "n", placeholder: "NAME" }),
  },
};

type FamilyValues = ProjectFlags & { readonly projectName: string; readonly kubeconfig: string; readonly context: string; readonly namespace: string };
const familyOf = (input: Pick<CommandInput<Record<string, never>>, "family">): FamilyValues => {
  const values = input.family as unknown as FamilyValues;
  return { ...values, project: values.project || values.projectName };
};
/** The same cluster for another command. */
const clusterFlags = ({ kubeconfig, context, namespace }: FamilyValues, namespaced: boolean): string[] =>
  [...(kubeconfig ? ["--kubeconfig", kubeconfig] : []), ...(context ? ["--context", context] : []), ...(namespace && namespaced ? ["--namespace", namespace] : [])];

const scales = (texts: readonly string[]): ReadonlyMap<string, number> => new Map(texts.map((text) => {
  const match = /^([^=]+)=(\d+)$/.exec(text);
  if (!match) throw new GantryError("BadRequest", `--scale: ${JSON.stringify(text)} is not SERVICE=N`);
  return [match[1]!, Number(match[2])];
}));

/** Builds the images of services that have a build. */
const build = async (family: FamilyValues, services: readonly string[], how: { readonly noCache: boolean; readonly pull: boolean; readonly push: boolean; readonly quiet: boolean }): Promise<number> => {
  const { plannedProject, runGantry } = await import("../compose/session.ts");
  for (const { name, build: plan, request } of plannedProject(family, services).services) {
    if (!plan || (services.length > 0 && !services.includes(name))) continue;
    const code = await runGantry([
      "build", ...clusterFlags(family, false), ...[request.image, ...plan.tags].flatMap((t) => ["-t", t]), ...(plan.dockerfile ? ["-f", resolve(plan.context, plan.dockerfile)] : []), ...(plan.target ? ["--target", plan.target] : []),
      ...[...plan.args].flatMap(([k, v]) => ["--build-arg", `${k}=${v}`]), ...(plan.noCache || how.noCache ? ["--no-cache"] : []), ...(how.push ? ["--push"] : []), plan.context,
    ]);
    if (code !== 0) throw new GantryError("FailedPrecondition", `the image of service ${name} could not be built`);
  }
  return 0;
};

/** Names of the images that nodes have. */
const knownImages = async (client: ApiClient): Promise<ReadonlySet<string>> => {
  const { NODES } = await import("../../base/kube/resources.ts");
  const { items } = await client.list(NODES);
  return new Set(items.flatMap((n) => (n.status?.images ?? []).flatMap((i) => i.names ?? [])));
};

/** "web" is docker.io/library/web:latest on a node. */
const hasImage = (known: ReadonlySet<string>, image: string): boolean => {
  const tagged = /[:@][^/]*$/.test(image) ? image : `${image}:latest`;
  return [tagged, `docker.io/library/${tagged}`, `docker.io/${tagged}`].some((name) => known.has(name));
};

/** Each container of the services, by a lifecycle step; containers of a deployment are their deployment's business. */
const eachOfServices = (name: string, summary: string, done: string, step: (client: ApiClient, pod: Pod, graceSeconds: number | undefined, signal: string) => Promise<unknown>): Command => command({
  name: `compose ${name}`, usage: "[SERVICE...]", group: "containers", summary,
  options: { timeout: numberOption("Seconds that containers have to end; -1: their own", -1, { short: "t", least: -1 }), signal: stringOption("Which signal", "KILL", { short: "s", placeholder: "SIGNAL" }) },
  run: async ({ values, positionals, family: given }) => {
    const family = familyOf({ family: given });
    const { podsOfServices, present, projectName } = await import("../compose/session.ts");
    using client = connect(family);
    const { pods } = await present(client, namespaceOf(client, family), projectName(family));
    const codes = await Promise.all(podsOfServices(pods, positionals).map((pod) => forEach([pod], async () => {
      await step(client, pod, values.timeout < 0 ? undefined : values.timeout, values.signal);
      console.error(` ${pod.metadata.name!}  ${done}`);
    })));
    return Math.max(0, ...codes);
  },
});

export const COMPOSE_COMMANDS: readonly Command[] = [
  command({
    name: "compose up", usage: "[SERVICE...]", group: "containers", summary: "Make and start what the file says",
    details: "What is as the file says is left alone; what differs is made anew. Without -d the output of all containers is shown, and Ctrl-C stops them.",
    options: {
      detach: booleanOption("Leave them running", { short: "d" }), build: booleanOption("Build images first, also those that are there"), noBuild: booleanOption("Build nothing"), scale: eachOption("So many containers of a service", { placeholder: "SERVICE=N" }),
      forceRecreate: booleanOption("Make all containers anew"), noRecreate: booleanOption("Leave containers that are there as they are"), removeOrphans: booleanOption("Remove containers of services that the file doesn't have"),
      noDeps: booleanOption("Leave services that others depend on"), noStart: booleanOption("Make the containers, but don't start them"), wait: booleanOption("Until all are healthy; as -d"), waitTimeout: numberOption("Seconds to wait at most; 0: as long as it takes", 0, { least: 0 }),
      noLogPrefix: booleanOption("Lines without the container's name"), noColor: booleanOption("No colours"), timestamps: booleanOption("With the time of each line"), abortOnContainerExit: booleanOption("Stop all when one has ended"),
    },
    run: async ({ values, positionals, family: given }) => {
      const family = familyOf({ family: given });
      const startedMs = performance.now();
      const [{ plannedProject }, { up }, { runAttached }] = await Promise.all([import("../compose/session.ts"), import("../compose/up.ts"), import("../compose/attached.ts")]);
      const plan = plannedProject(family, positionals);
      const scale = scales(values.scale);
      const odd = [...scale.keys()].find((s) => !plan.known.includes(s));
      if (odd !== undefined) throw new GantryError("BadRequest", `--scale: no such service: ${odd}; there are: ${plan.known.join(", ")}`);
      using client = connect(family);
      const namespace = namespaceOf(client, family);
      const known = values.build ? new Set<string>() : await knownImages(client);
      const toBuild = plan.services.filter((s) => s.build && !values.noBuild && (s.pullPolicy === "build" || !hasImage(known, s.request.image))).map((s) => s.name);
      if (toBuild.length > 0) await build(family, toBuild, { noCache: false, pull: false, push: false, quiet: false });
      await up(client, namespace, plan, {
        forceRecreate: values.forceRecreate, noRecreate: values.noRecreate, removeOrphans: values.removeOrphans, only: values.noDeps && positionals.length > 0 ? new Set(positionals) : undefined, scale, wait: values.wait, waitTimeoutMs: values.waitTimeout > 0 ? values.waitTimeout * 1000 : undefined,
        noStart: values.noStart,
      });
      if (values.detach || values.wait || values.noStart) return 0;
      return await runAttached(client, namespace, plan, positionals, { prefix: !values.noLogPrefix, color: process.stdout.isTTY && !values.noColor, timestamps: values.timestamps, abortOnExit: values.abortOnContainerExit,
        // What ran before has said its part before.
        sinceSeconds: Math.ceil((performance.now() - startedMs) / 1000) });
    },
  }),
  command({
    name: "compose down", usage: "", group: "containers", summary: "Remove the project's containers",
    options: { volumes: booleanOption("Its volumes too, and what is in them", { short: "v" }), rmi: stringOption("Its images too", "", { choices: ["", "local", "all"] }), timeout: numberOption("Seconds that containers have to end; -1: their own", -1, { short: "t", least: -1 }), removeOrphans: booleanOption("As without it: all of the project goes") },
    run: async ({ values, family: given }) => {
      const family = familyOf({ family: given });
      const [{ plannedProject, projectName, runGantry }, { down }] = await Promise.all([import("../compose/session.ts"), import("../compose/down.ts")]);
      const images = values.rmi === "" ? [] : plannedProject({ ...family, profile: ["*"] }, []).services.filter((s) => values.rmi === "all" || s.build).map((s) => s.request.image);
      using client = connect(family);
      const project = projectName(family);
      const removed = await down(client, namespaceOf(client, family), project, { volumes: values.volumes, graceSeconds: values.timeout < 0 ? undefined : values.timeout });
      if (removed.length === 0) console.error(`Warning: nothing of project ${project} was there`);
      return images.length > 0 ? await runGantry(["rmi", ...clusterFlags(family, false), ...new Set(images)]) : 0;
    },
  }),
  command({
    name: "compose ps", usage: "[SERVICE...]", group: "containers", summary: "List the project's containers",
    options: { all: booleanOption("Also those that don't run", { short: "a" }), quiet: booleanOption("Ids only", { short: "q" }), services: booleanOption("Names of services only"), format: stringOption("How to print: table, table TEMPLATE, json, or a Go template", "", { placeholder: "FORMAT" }) },
    run: async ({ values, positionals, family: given }) => {
      const family = familyOf({ family: given });
      const [{ podsOfServices, present, projectName, serviceOf }, rows, { containersOf }, { formatRows }] = await Promise.all([import("../compose/session.ts"), import("../docker/container-rows.ts"), import("../docker/find-container.ts"), import("../format.ts")]);
      using client = connect(family);
      const { pods } = await present(client, namespaceOf(client, family), projectName(family));
      const nowMs = Date.now();
      const found = podsOfServices(pods, positionals).flatMap(containersOf).filter((c) => values.all || rows.isUp(c));
      if (values.services) {
        for (const service of new Set(found.map((c) => serviceOf(c.pod)))) console.log(service);
        return 0;
      }
      const lines = found.map((c) => ({ ...rows.containerRow(c, nowMs, false), Service: serviceOf(c.pod) }));
      const text = values.quiet ? lines.map((l) => l.ID).join("\n")
        : formatRows(values.format, lines, { headings: { ...rows.CONTAINER_FORMAT.headings, Names: "NAME", Service: "SERVICE" }, table: "{{.Names}}\t{{.Image}}\t{{.Command}}\t{{.Service}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Node}}" });
      if (text !== "") console.log(text);
      return 0;
    },
  }),
  command({
    name: "compose logs", usage: "[SERVICE...]", group: "containers", summary: "Print what the project's containers wrote",
    options: {
      follow: booleanOption("Go on with what comes", { short: "f" }), tail: stringOption("Only the last N lines of each", "all", { placeholder: "N" }), since: durationOption("Only what is newer than this", 0), timestamps: booleanOption("With the time of each line", { short: "t" }),
      noLogPrefix: booleanOption("Lines without the container's name"), noColor: booleanOption("No colours"),
    },
    run: async ({ values, positionals, family: given }) => {
      const family = familyOf({ family: given });
      const [{ podsOfServices, present, projectName }, { printProjectLogs }] = await Promise.all([import("../compose/session.ts"), import("../compose/logs.ts")]);
      if (values.tail !== "all" && !/^\d+$/.test(values.tail)) throw new GantryError("BadRequest", `--tail: ${JSON.stringify(values.tail)} is not a number of lines, or all`);
      using client = connect(family);
      const project = projectName(family);
      const { pods } = await present(client, namespaceOf(client, family), project);
      await printProjectLogs(client, podsOfServices(pods, positionals), project, {
        follow: values.follow, timestamps: values.timestamps, prefix: !values.noLogPrefix, color: process.stdout.isTTY && !values.noColor, tailLines: values.tail === "all" ? undefined : Number(values.tail),
        sinceSeconds: values.since > 0 ? Math.ceil(values.since / 1000) : undefined,
      });
      return 0;
    },
  }),
  eachOfServices("stop", "Stop containers; they stay", "stopped", async (client, pod, graceSeconds) => (await import("../lifecycle/changes.ts")).stop(client, pod, { graceSeconds, signal: "" })),
  eachOfServices("start", "Start containers that were stopped", "started", async (client, pod) => (await import("../lifecycle/changes.ts")).start(client, pod)),
  eachOfServices("restart", "Stop containers and start them again", "restarted", async (client, pod, graceSeconds) => (await import("../lifecycle/changes.ts")).restart(client, pod, { graceSeconds, signal: "" })),
  eachOfServices("kill", "Send a signal to containers: SIGKILL, unless another is given", "killed", async (client, pod, _, signal) => (await import("../lifecycle/changes.ts")).kill(client, pod, undefined, signal)),
  eachOfServices("pause", "Freeze all processes of containers", "paused", async (client, pod) => (await import("../lifecycle/changes.ts")).pause(client, pod)),
  eachOfServices("unpause", "Let paused containers go on", "unpaused", async (client, pod) => (await import("../lifecycle/changes.ts")).unpause(client, pod)),
  command({
    name: "compose rm", usage: "[SERVICE...]", group: "containers", summary: "Remove containers that don't run",
    options: { force: booleanOption("Don't ask", { short: "f" }), stop: booleanOption("Those that run too", { short: "s" }), volumes: booleanOption("Their unnamed volumes too, which go in any case", { short: "v" }) },
    run: async ({ values, positionals, family: given }) => {
      const family = familyOf({ family: given });
      const [{ podsOfServices, present, projectName }, { isUp }, { containersOf }, { removePod }, { confirm }] = await Promise.all([
        import("../compose/session.ts"), import("../docker/container-rows.ts"), import("../docker/find-container.ts"), import("../docker/run.ts"), import("../docker/confirm.ts"),
      ]);
      using client = connect(family);
      const { pods } = await present(client, namespaceOf(client, family), projectName(family));
      const going = podsOfServices(pods, positionals).filter((p) => values.stop || !containersOf(p).some(isUp));
      if (going.length === 0) {
        console.error("No stopped containers");
        return 0;
      }
      if (!values.force && !(await confirm(`This removes ${going.map((p) => p.metadata.name!).join(", ")}.`))) return 1;
      const codes = await Promise.all(going.map((pod) => forEach([pod], async () => {
        await removePod(client, pod, undefined);
        console.error(` ${pod.metadata.name!}  removed`);
      })));
      return Math.max(0, ...codes);
    },
  }),
  command({
    name: "compose exec", usage: "SERVICE COMMAND [ARG...]", group: "containers", summary: "Run a command in a service's container; its exit code is the command's", stopAtPositional: 1,
    options: { index: numberOption("Which of its containers", 1, { least: 1 }), noTty: booleanOption("Without a terminal", { short: "T" }), interactive: booleanOption("As without it: standard input is passed on", { short: "i" }), tty: booleanOption("As without it", { short: "t" }) },
    run: async ({ values, positionals, rest, family: given }) => {
      const family = familyOf({ family: given });
      const [service, ...words] = positionals;
      const argv = [...words, ...rest];
      if (service === undefined || argv.length === 0) throw new GantryError("BadRequest", "gantry compose exec needs a service and a command");
      const [{ podsOfServices, present, projectName }, { exec }] = await Promise.all([import("../compose/session.ts"), import("../exec.ts")]);
      using client = connect(family);
      const namespace = namespaceOf(client, family);
      const all = podsOfServices((await present(client, namespace, projectName(family))).pods, [service]);
      const pod = all[values.index - 1];
      if (!pod) throw new GantryError("NotFound", `service ${service} has ${all.length} containers: there is no ${values.index}`);
      return await exec(client, { namespace, pod: pod.metadata.name!, container: pod.spec!.containers[0]!.name, command: argv, stdin: true, tty: !values.noTty && process.stdin.isTTY });
    },
  }),
  command({
    name: "compose run", usage: "SERVICE [COMMAND] [ARG...]", group: "containers", summary: "Run another container of a service, with a command of its own", stopAtPositional: 1, failureCode: 125,
    options: {
      detach: booleanOption("Leave it running and print its name", { short: "d" }), rm: booleanOption("Remove it when it ends"), name: stringOption("Its name", "", { placeholder: "NAME" }), env: eachOption("Environment variable", { short: "e", placeholder: "NAME=VALUE" }),
      noDeps: booleanOption("Without what it depends on"), noTty: booleanOption("Without a terminal", { short: "T" }), interactive: booleanOption("As without it: standard input is passed on", { short: "i" }), servicePorts: booleanOption("With the service's ports"), publish: eachOption("Port", { short: "p", placeholder: "[HOST:]PORT" }),
      volume: eachOption("Mount", { short: "v", placeholder: "SOURCE:TARGET" }), user: stringOption("User", "", { short: "u", placeholder: "USER" }), workdir: stringOption("Working directory", "", { short: "w", placeholder: "DIR" }), entrypoint: stringOption("Instead of the service's entrypoint", "", { placeholder: "COMMAND" }),
    },
    run: async ({ values, positionals, rest, family: given }) => {
      const family = familyOf({ family: given });
      const [service, ...words] = positionals;
      if (service === undefined) throw new GantryError("BadRequest", "gantry compose run needs a service");
      const { runOneOff } = await import("../compose/one-off.ts");
      const { plannedProject } = await import("../compose/session.ts");
      const plan = plannedProject(family, [service]);
      using client = connect(family);
      return await runOneOff(client, namespaceOf(client, family), plan, service, { ...values, command: [...words, ...rest] });
    },
  }),
  command({
    name: "compose config", aliases: ["compose convert"], usage: "", group: "containers", summary: "Print the file as it is understood: merged, with variables replaced",
    options: { services: booleanOption("Names of services only"), images: booleanOption("Names of images only"), volumes: booleanOption("Names of volumes only"), profiles: booleanOption("Names of profiles only"), quiet: booleanOption("Only check it", { short: "q" }), format: stringOption("How to print it", "yaml", { choices: ["yaml", "json"] }) },
    run: async ({ values, positionals, family: given }) => {
      const family = familyOf({ family: given });
      const [{ loadedProject, plannedProject }, { toYaml }] = await Promise.all([import("../compose/session.ts"), import("../manifests.ts")]);
      // Planned in any case: that checks it.
      const plan = plannedProject(family, positionals);
      if (values.quiet) return 0;
      const names = values.services ? plan.services.map((s) => s.name) : values.images ? plan.services.map((s) => s.request.image) : values.volumes ? plan.volumes.map((v) => v.key) : values.profiles ? plan.services.flatMap((s) => s.profiles) : undefined;
      if (names) {
        for (const name of new Set(names)) console.log(name);
        return 0;
      }
      const { name, file } = loadedProject(family);
      const active = new Set(plan.services.map((s) => s.name));
      const services = Object.fromEntries(Object.entries(file["services"] as Record<string, unknown>).filter(([n]) => active.has(n)));
      const whole = { name, ...file, services };
      console.log(values.format === "json" ? JSON.stringify(whole, null, 2) : toYaml(whole));
      return 0;
    },
  }),
  command({
    name: "compose build", usage: "[SERVICE...]", group: "containers", summary: "Build the images of services that have a build", options: { noCache: booleanOption("Without the cache"), push: booleanOption("Push them") },
    run: ({ values, positionals, family: given }) => build(familyOf({ family: given }), positionals, { noCache: values.noCache, pull: false, push: values.push, quiet: false }),
  }),
  command({
    name: "compose pull", usage: "[SERVICE...]", group: "containers", summary: "Fetch the images of services onto the nodes", options: { ignoreBuildable: booleanOption("Not those of services that have a build"), quiet: booleanOption("No progress", { short: "q" }) },
    run: async ({ values, positionals, family: given }) => {
      const family = familyOf({ family: given });
      const { plannedProject, runGantry } = await import("../compose/session.ts");
      const services = plannedProject(family, positionals).services.filter((s) => (positionals.length === 0 || positionals.includes(s.name)) && !(s.build && values.ignoreBuildable));
      let worst = 0;
      for (const image of new Set(services.map((s) => s.request.image))) {
        const code = await runGantry(["pull", ...clusterFlags(family, false), ...(values.quiet ? ["--quiet"] : []), image]);
        // What can be built need not be in a registry.
        const buildable = code !== 0 && services.filter((s) => s.request.image === image).every((s) => s.build);
        if (buildable) console.error(`Warning: ${image} must be built: gantry compose build`);
        else worst = Math.max(worst, code);
      }
      return worst;
    },
  }),
  command({
    name: "compose images", usage: "[SERVICE...]", group: "containers", summary: "List the images of the project's containers", options: { quiet: booleanOption("Names only", { short: "q" }), format: stringOption("How to print: table, table TEMPLATE, json, or a Go template", "", { placeholder: "FORMAT" }) },
    run: async ({ values, positionals, family: given }) => {
      const family = familyOf({ family: given });
      const [{ podsOfServices, present, projectName }, { formatRows }] = await Promise.all([import("../compose/session.ts"), import("../format.ts")]);
      using client = connect(family);
      const { pods } = await present(client, namespaceOf(client, family), projectName(family));
      const rows = podsOfServices(pods, positionals).flatMap((p) => (p.spec?.containers ?? []).map((c) => ({ Container: p.metadata.name!, Image: c.image ?? "", ID: p.status?.containerStatuses?.find((s) => s.name === c.name)?.imageID ?? "" })));
      const text = values.quiet ? [...new Set(rows.map((r) => r.Image))].join("\n") : formatRows(values.format, rows, { headings: { Container: "CONTAINER", Image: "IMAGE", ID: "IMAGE ID" }, table: "{{.Container}}\t{{.Image}}\t{{.ID}}" });
      if (text !== "") console.log(text);
      return 0;
    },
  }),
];
