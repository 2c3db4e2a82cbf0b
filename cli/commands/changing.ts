// apply, delete, scale, exec: the everyday commands that change something.
import { booleanOption, durationOption, eachOption, numberOption, stringOption } from "../../base/config.ts";
import { GantryError, isCode } from "../../base/errors.ts";
import type { KubeObject } from "../../base/kube/resources.ts";
import { command, type Command } from "../command.ts";
import { DEFAULT_DETACH_KEYS, parseDetachKeys } from "../detach-keys.ts";
import { defaultContainer } from "../default-container.ts";
import { dryRunOf, dryRunOption, dryRunRemark } from "../dry-run.ts";
import { discover, parseTargets, resourceOfManifest, typeLabel, type DiscoveredResource } from "../discovery.ts";
import type { Manifest } from "../manifests.ts";
import { NAMESPACED_OPTIONS, connect, fileOption, forEach, namespaceOf, refuseNamesWith, sayNothingFound } from "./client.ts";

/** Runs `step` with a manifest's resource; what goes wrong is told with the manifest's place. */
const withPlace = async (resources: readonly DiscoveredResource[], { object, where }: Manifest, step: (type: DiscoveredResource) => Promise<void>): Promise<void> => {
  try {
    await step(resourceOfManifest(resources, object));
  } catch (error) {
    if (error instanceof GantryError && error.code !== "ServiceUnavailable") throw new GantryError(error.code, `${where}: ${error.message}`, { cause: error.cause });
    throw error;
  }
};

export const CHANGING_COMMANDS: readonly Command[] = [
  command({
    name: "apply", usage: "-f FILE", group: "workloads", summary: "Create the objects of a manifest, or change them to what it says",
    details: "What an earlier apply (also kubectl's) set and the manifest no longer says is taken away; what others set stays. Unknown fields are refused.",
    options: {
      ...NAMESPACED_OPTIONS, filename: fileOption, dryRun: dryRunOption,
      output: stringOption("What to print: a line for each object (text), its name, or the object", "text", { short: "o", placeholder: "FORMAT", choices: ["text", "name", "json", "yaml"] }),
    },
    run: async ({ values, positionals }) => {
      if (values.filename.length === 0 || positionals.length > 0) throw new GantryError("BadRequest", "gantry apply needs -f FILE (a file, a folder or - for standard input)");
      using client = connect(values);
      const [{ readManifests, toYaml }, { applyObject }, resources] = await Promise.all([import("../manifests.ts"), import("../apply.ts"), discover(client)]);
      const dryRun = dryRunOf(values.dryRun);
      return await forEach(readManifests(values.filename), (manifest) => withPlace(resources, manifest, async (type) => {
        const { result, object } = await applyObject(client, type, manifest.object, manifest.object.metadata.namespace ?? namespaceOf(client, values), { dryRun });
        const name = `${typeLabel(type)}/${object.metadata.name!}`;
        if (values.output === "text") console.log(`${name} ${result}${dryRunRemark(dryRun)}`);
        else console.log(values.output === "name" ? name : values.output === "json" ? JSON.stringify(object, null, 4) : `---\n${toYaml(object)}`);
      }));
    },
  }),
  command({
    name: "delete", usage: "TYPE NAME... | TYPE/NAME... | TYPE -l SELECTOR | -f FILE", group: "workloads", summary: "Delete objects and wait until they are gone",
    options: {
      ...NAMESPACED_OPTIONS, filename: fileOption, selector: stringOption("Delete all that have these labels", "", { short: "l", placeholder: "SELECTOR" }), all: booleanOption("Delete all of the type in the namespace"),
      ignoreNotFound: booleanOption("What isn't there counts as deleted"), noWait: booleanOption("Do not wait until they are gone"), timeout: durationOption("How long to wait at most; 0s: as long as it takes", 0),
      gracePeriod: numberOption("Seconds a pod has to end by itself; -1: its own setting", -1, { least: -1 }), cascade: stringOption("What happens to what they own", "background", { choices: ["background", "foreground", "orphan"] }),
    },
    run: async ({ values, positionals }) => {
      if (values.filename.length > 0 && (positionals.length > 0 || values.selector || values.all)) throw new GantryError("BadRequest", "-f says what to delete: it can't go with types, names, --selector or --all");
      using client = connect(values);
      const resources = await discover(client);
      const namespace = namespaceOf(client, values);
      const { deleteObject, waitUntilGone } = await import("../delete.ts");
      const options = { propagationPolicy: values.cascade.replace(/^./, (c) => c.toUpperCase()), gracePeriodSeconds: values.gracePeriod < 0 ? undefined : values.gracePeriod };
      const going: (() => Promise<void>)[] = [];
      const remove = async (type: DiscoveredResource, name: string, inNamespace: string): Promise<void> => {
        try {
          const uid = await deleteObject(client, type, inNamespace, name, options);
          going.push(() => waitUntilGone(client, type, inNamespace, name, uid, values.timeout || undefined));
        } catch (error) {
          if (!values.ignoreNotFound || !isCode(error, "NotFound")) throw error;
          return;
        }
        console.log(`${typeLabel(type)} ${JSON.stringify(name)} deleted`);
      };
      let code: number;
      if (values.filename.length > 0) {
        const { readManifests } = await import("../manifests.ts");
        code = await forEach(readManifests(values.filename), (manifest) => withPlace(resources, manifest, (type) => remove(type, manifest.object.metadata.name!, manifest.object.metadata.namespace ?? namespace)));
      } else {
        const targets = parseTargets(resources, positionals);
        refuseNamesWith("--selector", values.selector, targets);
        refuseNamesWith("--all", values.all, targets);
        const unnamed = targets.find((t) => t.name === undefined);
        if (unnamed && !values.all && !values.selector) throw new GantryError("BadRequest", `name the ${unnamed.type.plural} to delete, or give --all or --selector`);
        const found = await Promise.all(targets.map(async ({ type, name }) => {
          const names = name === undefined ? (await client.list<KubeObject>(type, namespace, values.selector ? { labelSelector: values.selector } : {})).items.map((o) => o.metadata.name!) : [name];
          return names.map((n) => ({ type, name: n }));
        }));
        code = await forEach(found.flat(), ({ type, name }) => remove(type, name, namespace));
        if (found.flat().length === 0) sayNothingFound(namespace, targets);
      }
      return values.noWait ? code : Math.max(code, await forEach(going, (wait) => wait()));
    },
  }),
  command({
    name: "scale", usage: "TYPE NAME... | TYPE/NAME...", group: "workloads", summary: "Set how many replicas a workload has",
    options: { ...NAMESPACED_OPTIONS, replicas: numberOption("How many", Number.NaN, { short: "r", least: 0 }) },
    run: async ({ values, positionals }) => {
      if (Number.isNaN(values.replicas)) throw new GantryError("BadRequest", "gantry scale needs --replicas N");
      using client = connect(values);
      const targets = parseTargets(await discover(client), positionals);
      for (const { type, name } of targets) {
        if (!type.scalable) throw new GantryError("BadRequest", `${type.plural} can't be scaled`);
        if (name === undefined) throw new GantryError("BadRequest", `name the ${type.singular} to scale`);
      }
      return await forEach(targets, async ({ type, name }) => {
        await client.json("PATCH", client.pathOf(type, namespaceOf(client, values), name, "scale"), { body: { spec: { replicas: values.replicas } }, contentType: "application/merge-patch+json" });
        console.log(`${typeLabel(type)}/${name!} scaled`);
      });
    },
  }),
  command({
    name: "exec", aliases: ["container exec"], usage: "POD [-c CONTAINER] [-it] [--] COMMAND [ARG...]", group: "workloads", summary: "Run a command in a container; its exit code is the command's", stopAtPositional: 1,
    options: {
      ...NAMESPACED_OPTIONS, container: stringOption("Which container of the pod", "", { short: "c", placeholder: "NAME" }), stdin: booleanOption("Pass standard input on", { short: "i" }), interactive: booleanOption("The same as --stdin"),
      tty: booleanOption("With a terminal", { short: "t" }), detach: booleanOption("Start the command and leave it", { short: "d" }), user: stringOption("As this user: NAME or UID, and :GROUP", "", { short: "u", placeholder: "USER" }),
      workdir: stringOption("In this folder", "", { short: "w", placeholder: "PATH" }), env: eachOption("Environment variable; without =VALUE, this shell's", { short: "e", placeholder: "NAME=VALUE" }),
      detachKeys: stringOption("Keys that leave the command running", DEFAULT_DETACH_KEYS, { placeholder: "KEYS" }),
    },
    run: async ({ values, positionals, rest }) => {
      const [pod, ...words] = positionals;
      const argv = [...words, ...rest];
      if (pod === undefined || argv.length === 0) throw new GantryError("BadRequest", "gantry exec needs a pod and a command: gantry exec POD -- COMMAND");
      const detachKeys = parseDetachKeys(values.detachKeys);
      const env = values.env.flatMap((e) => (e.includes("=") ? [e] : process.env[e] === undefined ? [] : [`${e}=${process.env[e]}`]));
      const [{ exec }, { findPod }] = await Promise.all([import("../exec.ts"), import("../docker/find-container.ts")]);
      using client = connect(values);
      const namespace = namespaceOf(client, values);
      const found = await findPod(client, namespace, pod);
      const named = values.container || found.container;
      const { container, remark } = named ? { container: named, remark: undefined } : defaultContainer(found.pod);
      if (remark !== undefined) console.error(remark);
      return await exec(client, { namespace, pod: found.pod.metadata.name!, container, command: argv, stdin: values.stdin || values.interactive, tty: values.tty, detachKeys, env, user: values.user, workingDir: values.workdir, detach: values.detach });
    },
  }),
];
