// run, create, ps, rm, port, container prune: containers by docker's words. A container is a pod like any other, so kubectl sees it too.
import { randomInt } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { booleanOption, eachOption, numberOption, stringOption } from "../../base/config.ts";
import { GantryError, isCode } from "../../base/errors.ts";
import { controllerOf } from "../../base/kube/meta.ts";
import { DEPLOYMENTS, PODS } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import { ApiError, type ApiClient } from "../api-client.ts";
import { command, type Command } from "../command.ts";
import { DEFAULT_DETACH_KEYS, parseDetachKeys } from "../detach-keys.ts";
import { parseMilliCpus, parseSizeBytes } from "../docker/sizes.ts";
import { REFUSED_UPDATE_FLAGS } from "../docker/refused-flags.ts";
import { containerIdOf } from "../docker/find-container.ts";
import { CONTAINER_OPTIONS, requestOfFlags, warningsOf, type ContainerOptionValues } from "../docker/run-flags.ts";
import type { ContainerRequest } from "../docker/container-request.ts";
import { NAMESPACED_OPTIONS, connect, forEach, namespaceOf } from "./client.ts";

/** docker's: the engine, not the container, failed. */
const ENGINE_FAILED = 125;

const readText = (path: string): string => {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new GantryError("BadRequest", `${path} can't be read`, { cause: error });
  }
};

const requestFrom = async (values: ContainerOptionValues, words: readonly string[]): Promise<ContainerRequest> => {
  const [image, ...args] = words;
  if (image === undefined) throw new GantryError("BadRequest", "an image is missing: gantry run [flags] IMAGE [COMMAND] [ARG...]");
  for (const text of warningsOf(values)) warn(text);
  const { randomName } = await import("../docker/names.ts");
  return requestOfFlags(values, image, args, { env: process.env, folder: process.cwd(), readFile: readText, newName: () => randomName((n) => randomInt(n)) });
};

const warn = (text: string): void => console.error(`Warning: ${text}`);

/** "BadRequest" when the file is there: it would be another container's. */
const cidWriter = (path: string): ((pod: Pod) => void) => {
  if (path !== "" && existsSync(path)) throw new GantryError("BadRequest", `--cidfile: ${path} exists already: make sure that its container is gone, and delete it`);
  return (pod) => {
    if (path !== "") writeFileSync(path, containerIdOf(pod.status?.containerStatuses?.[0]) || (pod.metadata.uid ?? ""));
  };
};

export const allNamespaces = booleanOption("Of all namespaces", { short: "A" });

/** What `rm` and others say of a container that a controller would replace. */
export const ownerOf = (pod: Pod): string | undefined => {
  const owner = controllerOf(pod);
  return owner && `${owner.kind.toLowerCase()} ${owner.name}`;
};

export const CONTAINER_COMMANDS: readonly Command[] = [
  command({
    name: "run", aliases: ["container run"], usage: "[flags] IMAGE [COMMAND] [ARG...]", group: "containers", summary: "Run a container", stopAtPositional: 0, failureCode: ENGINE_FAILED,
    details: "Exit codes: the container's own; 125 it could not be made, 126 its command can't be run, 127 there is no such command.\nThe pod has the container's name and the label gantry.io/run.\n\nExamples:\n  gantry run -d --name web -p 8080:80 nginx\n  gantry run --rm -it debian bash\n  gantry run -d -v $(pwd):/srv -v data:/var/lib/data --restart always app:1\n  gantry run --replicas 3 --name api app:1",
    options: {
      ...NAMESPACED_OPTIONS, ...CONTAINER_OPTIONS,
      detach: booleanOption("Leave it running and print its name", { short: "d" }), replicas: numberOption("As a deployment of so many", 0, { least: 0 }),
      sigProxy: { ...booleanOption("Pass signals on (--sig-proxy=false: don't)"), fallback: true },
      detachKeys: stringOption("Keys that leave the container running and its terminal alone", DEFAULT_DETACH_KEYS, { placeholder: "KEYS" }),
    },
    run: async ({ values, positionals, rest }) => {
      const request = await requestFrom(values, [...positionals, ...rest]);
      const onCreated = cidWriter(values.cidfile);
      if (values.replicas > 0 && values.cidfile !== "") throw new GantryError("BadRequest", "--cidfile can't go with --replicas: there are several containers");
      if (values.replicas > 0 && values.rm) throw new GantryError("BadRequest", "--rm can't go with --replicas: a deployment replaces what ends");
      if (values.replicas > 0 && values.restart !== "" && !/^(always|unless-stopped)$/.test(values.restart)) throw new GantryError("BadRequest", `--restart ${values.restart} can't go with --replicas: a deployment's containers are always restarted`);
      using client = connect(values);
      const { runContainer } = await import("../docker/run-container.ts");
      return await runContainer(client, namespaceOf(client, values), request, { detach: values.detach, replicas: values.replicas, detachKeys: parseDetachKeys(values.detachKeys), sigProxy: values.sigProxy, warn, onCreated });
    },
  }),
  command({
    name: "create", aliases: ["container create"], usage: "[flags] IMAGE [COMMAND] [ARG...]", group: "containers", summary: "Make a container without starting it", stopAtPositional: 0, failureCode: ENGINE_FAILED,
    details: "'gantry start NAME' starts it.", options: { ...NAMESPACED_OPTIONS, ...CONTAINER_OPTIONS },
    run: async ({ values, positionals, rest }) => {
      const request = await requestFrom(values, [...positionals, ...rest]);
      const onCreated = cidWriter(values.cidfile);
      using client = connect(values);
      const { createContainer } = await import("../docker/run-container.ts");
      return await createContainer(client, namespaceOf(client, values), request, { warn, onCreated });
    },
  }),
  command({
    name: "ps", aliases: ["container ls", "container list", "container ps"], usage: "", group: "containers", summary: "List containers",
    details: "Filters: name, id, status (created, running, paused, restarting, removing, exited, dead), label, ancestor, node, network, volume, health, exited.\n\nExamples:\n  gantry ps -a --filter status=exited\n  gantry ps --format '{{.Names}}: {{.Status}}'",
    options: {
      ...NAMESPACED_OPTIONS, all: booleanOption("Also those that don't run", { short: "a" }), quiet: booleanOption("Ids only", { short: "q" }), latest: booleanOption("The newest only", { short: "l" }),
      last: numberOption("The N newest only; 0: all", 0, { least: 0 }), noTrunc: booleanOption("Whole ids and commands"), allNamespaces,
      filter: eachOption("Only those of which this is true", { short: "f", placeholder: "KEY=VALUE" }), format: stringOption("How to print: table, table TEMPLATE, json, or a Go template such as {{.Names}}", "", { placeholder: "FORMAT" }),
    },
    run: async ({ values }) => {
      const [{ PS_FILTERS, CONTAINER_FORMAT, byAge, containerRow, isUp, passesFilters }, { parseFilters }, { containersOf }, { formatRows }] = await Promise.all([
        import("../docker/container-rows.ts"), import("../docker/filters.ts"), import("../docker/find-container.ts"), import("../format.ts"),
      ]);
      const filters = parseFilters(values.filter, PS_FILTERS);
      using client = connect(values);
      const { items } = await client.list(PODS, values.allNamespaces ? undefined : namespaceOf(client, values));
      const nowMs = Date.now();
      const count = values.latest ? 1 : values.last;
      // A status that is asked for is shown whether it is up or not.
      const showAll = values.all || count > 0 || filters.has("status") || filters.has("exited");
      const found = items.flatMap(containersOf).sort(byAge).filter((c) => (showAll || isUp(c)) && passesFilters(c, filters, nowMs));
      const rows = (count > 0 ? found.slice(0, count) : found).map((c) => containerRow(c, nowMs, values.noTrunc));
      const text = values.quiet ? rows.map((r) => r.ID).join("\n") : formatRows(values.format, rows, CONTAINER_FORMAT);
      if (text !== "") console.log(text);
      return 0;
    },
  }),
  command({
    name: "rm", aliases: ["container rm"], usage: "CONTAINER...", group: "containers", summary: "Remove containers",
    details: "Also a deployment that 'gantry run --replicas' made, with -f.",
    options: { ...NAMESPACED_OPTIONS, force: booleanOption("Also those that run: they are killed", { short: "f" }), volumes: booleanOption("Their unnamed volumes too, which go in any case", { short: "v" }) },
    run: async ({ values, positionals }) => {
      if (positionals.length === 0) throw new GantryError("BadRequest", "gantry rm needs the names or ids of containers");
      using client = connect(values);
      const namespace = namespaceOf(client, values);
      const { items } = await client.list(PODS, namespace);
      return await forEach(positionals, async (word) => {
        await removeOne(client, namespace, items, word, values.force);
        console.log(word);
      });
    },
  }),
  command({
    name: "update", aliases: ["container update"], usage: "CONTAINER...", group: "containers", summary: "Give containers other limits while they run",
    details: "What has no limits can't get any: Kubernetes tells pods with limits from those without.\n\nExamples:\n  gantry update -m 512m --cpus 2 web",
    options: {
      ...NAMESPACED_OPTIONS, memory: CONTAINER_OPTIONS.memory, memoryReservation: stringOption("Memory to set aside on the node", "", { placeholder: "SIZE" }), cpus: CONTAINER_OPTIONS.cpus, ...REFUSED_UPDATE_FLAGS,
    },
    run: async ({ values, positionals }) => {
      const request = {
        memoryBytes: values.memory === "" ? 0 : parseSizeBytes("--memory", values.memory), memoryReservationBytes: values.memoryReservation === "" ? 0 : parseSizeBytes("--memory-reservation", values.memoryReservation),
        milliCpus: values.cpus === "" ? 0 : parseMilliCpus("--cpus", values.cpus),
      };
      if (positionals.length === 0) throw new GantryError("BadRequest", "gantry update needs the names or ids of containers");
      if (request.memoryBytes + request.memoryReservationBytes + request.milliCpus === 0) throw new GantryError("BadRequest", "gantry update needs something to change: --memory, --memory-reservation or --cpus");
      using client = connect(values);
      const [{ lookUpContainer }, { updateContainer }] = await Promise.all([import("../docker/find-container.ts"), import("../docker/update.ts")]);
      const namespace = namespaceOf(client, values);
      return await forEach(positionals, async (word) => {
        await updateContainer(client, await lookUpContainer(client, namespace, word), request);
        console.log(word);
      });
    },
  }),
  command({
    name: "container prune", usage: "", group: "containers", summary: "Remove all containers that have ended",
    details: "Those that a deployment or job keeps are left to it.",
    options: { ...NAMESPACED_OPTIONS, force: booleanOption("Don't ask", { short: "f" }), filter: eachOption("Only those of which this is true: label=KEY[=VALUE], until=24h", { placeholder: "KEY=VALUE" }) },
    run: async ({ values }) => {
      const [{ phaseOf }, { parseFilters, passes, passesAll, labelTest }, { containersOf }, { parseGoDurationMs }, { confirm }] = await Promise.all([
        import("../docker/container-rows.ts"), import("../docker/filters.ts"), import("../docker/find-container.ts"), import("../docker/sizes.ts"), import("../docker/confirm.ts"),
      ]);
      const filters = parseFilters(values.filter, ["label", "until"]);
      using client = connect(values);
      const namespace = namespaceOf(client, values);
      if (!values.force && !(await confirm(`This removes all containers of namespace ${namespace} that have ended.`))) return 1;
      const { items } = await client.list(PODS, namespace);
      const nowMs = Date.now();
      const over = items.filter((pod) => ownerOf(pod) === undefined && containersOf(pod).every((c) => ["exited", "dead"].includes(phaseOf(c))) && passesAll(filters, "label", labelTest(pod.metadata.labels ?? {}))
        && passes(filters, "until", (v) => nowMs - Date.parse(pod.metadata.creationTimestamp ?? "") >= parseGoDurationMs("--filter until", v)));
      return await forEach(over, async (pod) => {
        await (await import("../docker/run.ts")).removePod(client, pod, undefined);
        console.log(pod.metadata.name!);
      });
    },
  }),
  command({
    name: "port", aliases: ["container port"], usage: "CONTAINER [PORT[/PROTOCOL]]", group: "containers", summary: "Show which ports of the node lead to a container", options: NAMESPACED_OPTIONS,
    run: async ({ values, positionals }) => {
      const [word, wanted] = positionals;
      if (word === undefined || positionals.length > 2) throw new GantryError("BadRequest", "usage: gantry port CONTAINER [PORT[/PROTOCOL]]");
      using client = connect(values);
      const { lookUpContainer } = await import("../docker/find-container.ts");
      const { pod, container } = await lookUpContainer(client, namespaceOf(client, values), word);
      const mapped = (container.ports ?? []).filter((p) => p.hostPort).map((p) => ({ inside: `${p.containerPort}/${(p.protocol ?? "TCP").toLowerCase()}`, outside: `${p.hostIP || pod.status?.hostIP || "0.0.0.0"}:${p.hostPort!}` }));
      if (wanted === undefined) {
        for (const { inside, outside } of mapped) console.log(`${inside} -> ${outside}`);
        return 0;
      }
      const inside = wanted.includes("/") ? wanted.toLowerCase() : `${wanted}/tcp`;
      const found = mapped.filter((m) => m.inside === inside);
      if (found.length === 0) throw new GantryError("NotFound", `no public port ${JSON.stringify(inside)} published for ${word}`);
      for (const { outside } of found) console.log(outside);
      return 0;
    },
  }),
];

const removeOne = async (client: ApiClient, namespace: string, pods: readonly Pod[], word: string, force: boolean): Promise<void> => {
  const [{ findContainer, containersOf }, { isUp }, { removePod }] = await Promise.all([import("../docker/find-container.ts"), import("../docker/container-rows.ts"), import("../docker/run.ts")]);
  let pod: Pod;
  try {
    ({ pod } = findContainer(pods, word));
  } catch (error) {
    if (!isCode(error, "NotFound")) throw error;
    await removeDeployment(client, namespace, word, force, error);
    return;
  }
  const name = pod.metadata.name!;
  const owner = ownerOf(pod);
  if (owner !== undefined) throw new GantryError("FailedPrecondition", `${name} belongs to ${owner}, which would replace it: remove that, or scale it down`);
  if (!force && containersOf(pod).some(isUp)) throw new GantryError("FailedPrecondition", `container ${JSON.stringify(name)} is running: stop it first (gantry stop ${name}), or force it (gantry rm -f ${name})`);
  await removePod(client, pod, force ? 0 : undefined);
};

const removeDeployment = async (client: ApiClient, namespace: string, word: string, force: boolean, notFound: GantryError): Promise<void> => {
  const { deleteObject, waitUntilGone } = await import("../delete.ts");
  const deployment = await client.get(DEPLOYMENTS, namespace, word).catch((error: unknown) => {
    // docker rm -f is content when there is nothing.
    throw error instanceof ApiError && error.code === "NotFound" ? notFound : error;
  });
  const replicas = deployment.spec?.replicas ?? 1;
  if (!force && replicas > 0) throw new GantryError("FailedPrecondition", `${word} is a deployment of ${replicas}: force it (gantry rm -f ${word})`);
  const uid = await deleteObject(client, DEPLOYMENTS, namespace, word, { propagationPolicy: "Foreground", gracePeriodSeconds: undefined });
  await waitUntilGone(client, DEPLOYMENTS, namespace, word, uid, undefined);
};

