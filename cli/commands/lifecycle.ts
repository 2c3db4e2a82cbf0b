// start, stop, restart, kill, pause, unpause, wait, top: docker's words for what becomes of containers that are there.
import { booleanOption, eachOption, listOption, numberOption, stringOption } from "../../base/config.ts";
import { GantryError, describeError } from "../../base/errors.ts";
import { signalNumber } from "../../base/signals.ts";
import type { ApiClient } from "../api-client.ts";
import { command, type Command } from "../command.ts";
import { DEFAULT_DETACH_KEYS, parseDetachKeys } from "../detach-keys.ts";
import { defaultContainer } from "../default-container.ts";
import type { FoundPod } from "../docker/find-container.ts";
import { NAMESPACED_OPTIONS, connect, namespaceOf } from "./client.ts";

export const containerOption = stringOption("Which container of the pod", "", { short: "c", placeholder: "NAME" });
const detachKeysOption = stringOption("Keys that leave the container running", DEFAULT_DETACH_KEYS, { placeholder: "KEYS" });
const timeOption = numberOption("Seconds between the stop signal and SIGKILL; -1: the pod's own", -1, { short: "t", least: -1, most: 86_400 });
const stopSignalOption = stringOption("Signal to stop with (default: the image's STOPSIGNAL)", "", { short: "s", placeholder: "SIGNAL" });

const namesNeeded = (name: string, words: readonly string[]): void => {
  if (words.length === 0) throw new GantryError("BadRequest", `gantry ${name} needs the name of a pod, or the beginning of a container's id`);
};

const checkSignal = (name: string): string => {
  if (name !== "" && signalNumber(name) === undefined) throw new GantryError("BadRequest", `--signal: ${JSON.stringify(name)} is no signal: give a name or a number, such as SIGTERM, TERM or 15`);
  return name;
};

/** All at once; prints what each gives in the order of the words, and goes on when one fails. */
export const eachPod = async (client: ApiClient, namespace: string, words: readonly string[], step: (found: FoundPod, word: string) => Promise<string>): Promise<number> => {
  const { findPod } = await import("../docker/find-container.ts");
  const steps = words.map(async (word) => step(await findPod(client, namespace, word), word));
  let failed = false;
  for (const outcome of steps.map((s) => s.then((text) => ({ text }), (error: unknown) => ({ error })))) {
    const result = await outcome;
    if ("text" in result) {
      if (result.text !== "") console.log(result.text);
    } else {
      failed = true;
      console.error(`gantry: ${describeError(result.error)}`);
    }
  }
  return failed ? 1 : 0;
};

const stopOptions = (values: { readonly time: number; readonly signal: string }): { readonly graceSeconds: number | undefined; readonly signal: string } =>
  ({ graceSeconds: values.time < 0 ? undefined : values.time, signal: checkSignal(values.signal) });

export const LIFECYCLE_COMMANDS: readonly Command[] = [
  command({
    name: "attach", aliases: ["container attach"], usage: "POD", group: "containers", summary: "Join this terminal to a container; its exit code is the container's",
    details: "The detach keys leave the container running. Without a terminal, signals that come here go to the container.",
    options: { ...NAMESPACED_OPTIONS, container: containerOption, noStdin: booleanOption("Do not pass standard input on"), sigProxy: { ...booleanOption("Pass signals on (--sig-proxy=false: don't)"), fallback: true }, detachKeys: detachKeysOption },
    run: async ({ values, positionals }) => {
      const [word, ...more] = positionals;
      if (word === undefined || more.length > 0) throw new GantryError("BadRequest", "gantry attach needs the name of one pod");
      const detachKeys = parseDetachKeys(values.detachKeys);
      using client = connect(values);
      const [{ attach }, { findPod }] = await Promise.all([import("../lifecycle/attach.ts"), import("../docker/find-container.ts")]);
      const { pod, container } = await findPod(client, namespaceOf(client, values), word);
      const end = await attach(client, pod, { container: values.container || (container ?? defaultContainer(pod).container), stdin: !values.noStdin, detachKeys, sigProxy: values.sigProxy });
      return end === "detached" ? 0 : end;
    },
  }),
  command({
    name: "port-forward", usage: "POD [LOCAL:]REMOTE...", group: "containers", summary: "Make ports of a pod reachable on this machine",
    details: "Examples:\n  gantry port-forward web 8080:80\n  gantry port-forward web :80          # a free port of this machine\n  gantry port-forward --address 0.0.0.0 web http",
    options: { ...NAMESPACED_OPTIONS, address: listOption("Where to listen", ["localhost"], { placeholder: "ADDRESS" }) },
    run: async ({ values, positionals }) => {
      const [word, ...ports] = positionals;
      if (word === undefined || ports.length === 0) throw new GantryError("BadRequest", "gantry port-forward needs the name of a pod and ports: gantry port-forward POD 8080:80");
      using client = connect(values);
      const [{ forwardPorts, parsePortPair }, { findPod }, { statusesOf }] = await Promise.all([import("../lifecycle/port-forward.ts"), import("../docker/find-container.ts"), import("../lifecycle/pods.ts")]);
      const { pod } = await findPod(client, namespaceOf(client, values), word);
      if (!statusesOf(pod).some((c) => c.state?.running)) throw new GantryError("FailedPrecondition", `pod ${pod.metadata.name} is not running: no port of it can be reached`);
      const stop = new AbortController();
      for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stop.abort());
      await forwardPorts(client, pod, ports.map((p) => parsePortPair(p, pod)), values.address, stop.signal);
      return 0;
    },
  }),
  command({
    name: "start", aliases: ["container start"], usage: "POD...", group: "containers", summary: "Start containers that were stopped, created, or have ended",
    options: { ...NAMESPACED_OPTIONS, attach: booleanOption("Join this terminal to the container; the exit code is the container's", { short: "a" }), interactive: booleanOption("Pass standard input on (with --attach)", { short: "i" }), detachKeys: detachKeysOption },
    run: async ({ values, positionals }) => {
      namesNeeded("start", positionals);
      const joins = values.attach || values.interactive;
      if (joins && positionals.length > 1) throw new GantryError("BadRequest", "--attach and --interactive are for one pod at a time");
      const detachKeys = parseDetachKeys(values.detachKeys);
      using client = connect(values);
      const { start } = await import("../lifecycle/changes.ts");
      if (joins) {
        const [{ attach }, { findPod }, { statusesOf }] = await Promise.all([import("../lifecycle/attach.ts"), import("../docker/find-container.ts"), import("../lifecycle/pods.ts")]);
        const { pod, container = defaultContainer(pod).container } = await findPod(client, namespaceOf(client, values), positionals[0]!);
        const started = await start(client, pod);
        const state = statusesOf(started).find((c) => c.name === container)?.state;
        // Over before anybody could join: its output is in its log.
        if (!state?.running) return state?.terminated?.exitCode ?? 0;
        const end = await attach(client, started, { container, stdin: values.interactive, detachKeys, sigProxy: true, fromStart: true });
        return end === "detached" ? 0 : end;
      }
      return await eachPod(client, namespaceOf(client, values), positionals, async ({ pod }, word) => {
        await start(client, pod);
        return word;
      });
    },
  }),
  command({
    name: "stop", aliases: ["container stop"], usage: "POD...", group: "containers", summary: "Stop containers; they stay, and can be started again",
    details: "Containers get their stop signal, and SIGKILL after the grace period.\n\nExamples:\n  gantry stop web\n  gantry stop -t 1 web db",
    options: { ...NAMESPACED_OPTIONS, time: timeOption, signal: stopSignalOption },
    run: async ({ values, positionals }) => {
      namesNeeded("stop", positionals);
      const options = stopOptions(values);
      using client = connect(values);
      const { stop } = await import("../lifecycle/changes.ts");
      return await eachPod(client, namespaceOf(client, values), positionals, async ({ pod }, word) => {
        await stop(client, pod, options);
        return word;
      });
    },
  }),
  command({
    name: "restart", aliases: ["container restart"], usage: "POD...", group: "containers", summary: "Stop containers and start them again", options: { ...NAMESPACED_OPTIONS, time: timeOption, signal: stopSignalOption },
    run: async ({ values, positionals }) => {
      namesNeeded("restart", positionals);
      const options = stopOptions(values);
      using client = connect(values);
      const { restart } = await import("../lifecycle/changes.ts");
      return await eachPod(client, namespaceOf(client, values), positionals, async ({ pod }, word) => {
        await restart(client, pod, options);
        return word;
      });
    },
  }),
  command({
    name: "kill", aliases: ["container kill"], usage: "POD...", group: "containers", summary: "Send a signal to containers: SIGKILL, unless another is given",
    details: "A container of gantry run that is killed stays down; those of other pods come back by their restart policy.",
    options: { ...NAMESPACED_OPTIONS, container: containerOption, signal: stringOption("Which signal", "KILL", { short: "s", placeholder: "SIGNAL" }) },
    run: async ({ values, positionals }) => {
      namesNeeded("kill", positionals);
      const signal = checkSignal(values.signal);
      using client = connect(values);
      const { kill } = await import("../lifecycle/changes.ts");
      return await eachPod(client, namespaceOf(client, values), positionals, async ({ pod, container }, word) => {
        await kill(client, pod, values.container || container, signal || "KILL");
        return word;
      });
    },
  }),
  ...(["pause", "unpause"] as const).map((name) => command({
    name, aliases: [`container ${name}`], usage: "POD...", group: "containers", summary: name === "pause" ? "Freeze all processes of containers" : "Let paused containers go on", options: { ...NAMESPACED_OPTIONS },
    run: async ({ values, positionals }) => {
      namesNeeded(name, positionals);
      using client = connect(values);
      const changes = await import("../lifecycle/changes.ts");
      return await eachPod(client, namespaceOf(client, values), positionals, async ({ pod }, word) => {
        await changes[name](client, pod);
        return word;
      });
    },
  })),
  command({
    name: "wait", aliases: ["container wait"], usage: "POD...", group: "containers", summary: "Wait until containers have ended, and print their exit codes",
    options: { ...NAMESPACED_OPTIONS, container: containerOption, condition: stringOption("What to wait for", "not-running", { choices: ["not-running", "next-exit", "removed"] }) },
    run: async ({ values, positionals }) => {
      namesNeeded("wait", positionals);
      using client = connect(values);
      const { waitForEnd } = await import("../lifecycle/wait.ts");
      return await eachPod(client, namespaceOf(client, values), positionals, async ({ pod, container }) =>
        String(await waitForEnd(client, pod, values.container || (container ?? defaultContainer(pod).container), values.condition as "not-running")));
    },
  }),
  command({
    name: "top", aliases: ["container top"], usage: "POD [ps OPTIONS]", group: "containers", summary: "List the processes of a container", stopAtPositional: 1,
    details: "Columns as those of `ps -ef`; with `aux`, of `ps aux`; with `-o pid,args` and the like, the ones that are named. Process ids are the node's.",
    options: { ...NAMESPACED_OPTIONS, container: containerOption },
    run: async ({ values, positionals, rest }) => {
      const [word, ...more] = positionals;
      if (word === undefined) throw new GantryError("BadRequest", "gantry top needs the name of a pod");
      using client = connect(values);
      const { printTop } = await import("../lifecycle/top.ts");
      const { findPod } = await import("../docker/find-container.ts");
      const { pod, container } = await findPod(client, namespaceOf(client, values), word);
      console.log(await printTop(client, pod, values.container || (container ?? defaultContainer(pod).container), [...more, ...rest]));
      return 0;
    },
  }),
  command({
    name: "cp", aliases: ["container cp"], usage: "POD:PATH DEST | SRC POD:PATH", group: "containers", summary: "Copy files between a container and this machine",
    details: "By docker's rules; - is a tar on standard input or output. Works without tar in the container, and for stopped ones of gantry run.\n\nExamples:\n  gantry cp web:/etc/nginx .\n  gantry cp ./site/. web:/www\n  gantry cp web:/var/log - | tar tv",
    options: { ...NAMESPACED_OPTIONS, container: containerOption, archive: booleanOption("Keep owners and groups", { short: "a" }), followLink: booleanOption("Copy what the symbolic link SRC leads to", { short: "L" }), quiet: booleanOption("Say nothing (nothing is said anyway)", { short: "q" }) },
    run: async ({ values, positionals }) => {
      const { containerPath } = await import("../lifecycle/copy-paths.ts");
      const [source, target] = positionals;
      const [from, to] = [source === undefined ? undefined : containerPath(source), target === undefined ? undefined : containerPath(target)];
      if (positionals.length !== 2 || (from === undefined) === (to === undefined)) throw new GantryError("BadRequest", "gantry cp needs two paths, one of them a container's: gantry cp POD:/path DEST, or gantry cp SRC POD:/path");
      using client = connect(values);
      const [{ copyFrom, copyTo }, { findPod }] = await Promise.all([import("../lifecycle/copy.ts"), import("../docker/find-container.ts")]);
      const { pod, container } = await findPod(client, namespaceOf(client, values), (from ?? to)!.pod);
      const options = { container: values.container || (container ?? defaultContainer(pod).container), archive: values.archive, followLink: values.followLink };
      await (from ? copyFrom(client, pod, from.path, target!, options) : copyTo(client, pod, source!, to!.path, options));
      return 0;
    },
  }),
  command({
    name: "diff", aliases: ["container diff"], usage: "POD", group: "containers", summary: "List files that a container added (A), changed (C) and deleted (D)", options: { ...NAMESPACED_OPTIONS, container: containerOption },
    run: async ({ values, positionals }) => {
      if (positionals.length !== 1) throw new GantryError("BadRequest", "gantry diff needs the name of one pod");
      using client = connect(values);
      const [{ commandPath }, { findPod }] = await Promise.all([import("../lifecycle/changes.ts"), import("../docker/find-container.ts")]);
      const { pod, container } = await findPod(client, namespaceOf(client, values), positionals[0]!);
      const query = new URLSearchParams({ container: values.container || (container ?? defaultContainer(pod).container) });
      for (const { kind, path } of await client.json<readonly { kind: string; path: string }[]>("GET", `${commandPath(pod, "diff")}?${query.toString()}`)) console.log(`${kind} ${path}`);
      return 0;
    },
  }),
  command({
    name: "commit", aliases: ["container commit"], usage: "POD [NAME[:TAG]]", group: "containers", summary: "Make an image of a container",
    details: "Every node has the image afterwards. The container is frozen while its files are read.\n\nExamples:\n  gantry commit -m 'with curl' web web:2\n  gantry commit -c 'CMD [\"httpd\"]' -c 'ENV A=1' web web:3",
    options: {
      ...NAMESPACED_OPTIONS, container: stringOption("Which container of the pod", "", { placeholder: "NAME" }), author: stringOption("Who made it", "", { short: "a", placeholder: "TEXT" }), message: stringOption("What was changed", "", { short: "m", placeholder: "TEXT" }),
      change: eachOption("Change the image's config by an instruction of a Dockerfile", { short: "c", placeholder: "INSTRUCTION" }), pause: { ...booleanOption("Freeze the container meanwhile (--pause=false: don't)", { short: "p" }), fallback: true },
    },
    run: async ({ values, positionals }) => {
      const [word, reference = "", ...more] = positionals;
      if (word === undefined || more.length > 0) throw new GantryError("BadRequest", "gantry commit needs the name of one pod, and of the image: gantry commit POD NAME:TAG");
      using client = connect(values);
      const [{ commandPath }, { findPod }] = await Promise.all([import("../lifecycle/changes.ts"), import("../docker/find-container.ts")]);
      const { pod, container } = await findPod(client, namespaceOf(client, values), word);
      const query = new URLSearchParams([
        ["container", values.container || (container ?? defaultContainer(pod).container)], ["reference", reference], ["author", values.author], ["message", values.message], ["pause", String(values.pause)], ...values.change.map((c): [string, string] => ["change", c]),
      ]);
      const { withProgress } = await import("../progress.ts");
      console.log((await withProgress(`committing ${word}`, client.json<{ id: string }>("POST", `${commandPath(pod, "commit")}?${query.toString()}`))).id);
      return 0;
    },
  }),
];
