// The commands about images, with docker's names, flags and habits. They act on all nodes as if these were one machine, or on those of --node.
import { booleanOption, listOption, parseDurationMs, stringOption, type OptionTable } from "../../base/config.ts";
import { GantryError, describeError } from "../../base/errors.ts";
import type { ApiClient } from "../api-client.ts";
import { command, type Command } from "../command.ts";
import type { Failure } from "../images/operations.ts";
import { CLIENT_OPTIONS, connect, forEach } from "./client.ts";

const NODE_OPTIONS = { ...CLIENT_OPTIONS, node: listOption("Only on this node (default: all)", [], { placeholder: "NAME" }) } as const satisfies OptionTable;
const formatOption = stringOption("table [TEMPLATE], json, or a Go template such as '{{.Repository}}:{{.Tag}}'", "", { placeholder: "FORMAT" });
const filterOption = listOption("Only what matches, KEY=VALUE: dangling, label, reference, before, since, until", [], { short: "f", placeholder: "FILTER" });
const noTruncOption = booleanOption("Whole IDs and texts");

const need = (positionals: readonly string[], least: number, most: number, usage: string): void => {
  if (positionals.length < least || positionals.length > most) throw new GantryError("BadRequest", `usage: gantry ${usage}`);
};

/** Nodes that could not be asked: what is shown is not all. */
const warn = (failed: readonly Failure[]): void => {
  for (const { node, error } of failed) console.error(`Warning: ${error.startsWith(`node ${node} `) ? error : `node ${node}: ${error}`}`);
};

const credentialsFor = async (reference: string) => {
  const [{ parseReference }, { dockerConfigPath, readCredentials }] = await Promise.all([import("../../node-agent/images/reference.ts"), import("../images/docker-config.ts")]);
  return readCredentials(dockerConfigPath(process.env), parseReference(reference).registry);
};

const askToGoOn = async (warning: string, force: boolean): Promise<boolean> => {
  if (force) return true;
  const { confirm } = await import("../docker/confirm.ts");
  return confirm(`WARNING! ${warning}`);
};

interface Pruned {
  readonly nodes: readonly { readonly node: string; readonly untagged: readonly string[]; readonly deleted: readonly string[]; readonly freedBytes: number }[];
  readonly failed: readonly Failure[];
}

const pruneImages = async (client: ApiClient, nodes: readonly string[], all: boolean, filters: readonly string[]): Promise<Pruned> => {
  const [{ imagesPath }, { parseImageFilter }] = await Promise.all([import("../images/operations.ts"), import("../images/image-rows.ts")]);
  const { labels, beforeMs, references, dangling, sinceMs } = parseImageFilter(filters, () => Number.NaN, Date.now(), parseDurationMs);
  if (references.length > 0 || sinceMs !== undefined) throw new GantryError("BadRequest", "--filter: pruning takes until=, label= and dangling= only");
  return client.json<Pruned>("POST", imagesPath("prune", nodes), { body: { all: all || dangling === false, untilMs: beforeMs ?? 0, labels } });
};

const sayPruned = async (title: string, { nodes, failed }: Pruned): Promise<number> => {
  const { humanSize } = await import("../human.ts");
  const lines = [...new Set(nodes.flatMap((n) => [...n.untagged.map((name) => `untagged: ${name}`), ...n.deleted.map((id) => `deleted: ${id}`)]))];
  if (lines.length > 0) console.log(`${title}\n${lines.join("\n")}\n`);
  console.log(`Total reclaimed space: ${humanSize(nodes.reduce((sum, n) => sum + n.freedBytes, 0))}`);
  warn(failed);
  return failed.length === 0 ? 0 : 1;
};

/** From a terminal without showing it, or a line of standard input. */
const readSecret = async (prompt: string): Promise<string> => {
  const { createInterface } = await import("node:readline/promises");
  const { Writable } = await import("node:stream");
  process.stderr.write(prompt);
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const reader = createInterface({ input: process.stdin, output: silent, terminal: process.stdin.isTTY });
  try {
    return await reader.question("");
  } finally {
    reader.close();
    process.stderr.write("\n");
  }
};

const readAll = async (): Promise<string> => {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8").replace(/\r?\n$/, "");
};

export const IMAGE_COMMANDS: readonly Command[] = [
  command({
    name: "images", aliases: ["image ls", "image list"], usage: "[REPOSITORY[:TAG]]", group: "images", summary: "List images",
    options: {
      ...NODE_OPTIONS, all: booleanOption("Also images without a name that builds left (they are always listed)", { short: "a" }), quiet: booleanOption("IDs only", { short: "q" }),
      noTrunc: noTruncOption, digests: booleanOption("With digests"), filter: filterOption, format: formatOption,
    },
    run: async ({ values, positionals }) => {
      need(positionals, 0, 1, "images [REPOSITORY[:TAG]]");
      using client = connect(values);
      const [{ listImages, inspectImage }, rows, { formatRows }] = await Promise.all([import("../images/operations.ts"), import("../images/image-rows.ts"), import("../format.ts")]);
      const created = new Map<string, number>();
      for (const filter of values.filter) {
        const other = /^(?:before|since)=(.+)$/.exec(filter)?.[1];
        if (other !== undefined) created.set(other, Date.parse((await inspectImage(client, other))[0]!.created));
      }
      const nowMs = Date.now();
      const filter = rows.parseImageFilter(values.filter, (name) => created.get(name)!, nowMs, parseDurationMs);
      const { items, failed } = await listImages(client, values.node);
      const shown = rows.imageRows(items, { ...filter, references: [...filter.references, ...positionals] }, { nowMs, noTrunc: values.noTrunc });
      warn(failed);
      if (values.quiet && values.format === "") {
        const ids = [...new Set(shown.map((row) => row.ID))];
        if (ids.length > 0) console.log(ids.join("\n"));
        return 0;
      }
      const text = formatRows(values.format, shown, { ...rows.IMAGE_FORMAT, table: values.digests ? rows.DIGESTS_TABLE : rows.IMAGE_FORMAT.table });
      if (text !== "") console.log(text);
      return 0;
    },
  }),
  command({
    name: "pull", aliases: ["image pull"], usage: "NAME[:TAG|@DIGEST]", group: "images", summary: "Get an image from its registry onto every node, with one download for all",
    options: { ...NODE_OPTIONS, quiet: booleanOption("No progress", { short: "q" }) },
    run: async ({ values, positionals }) => {
      need(positionals, 1, 1, "pull NAME[:TAG|@DIGEST]");
      const [{ parseReference, formatReference, familiarName }, { listImages, pullImage }, { LayerLines }] = await Promise.all([import("../../node-agent/images/reference.ts"), import("../images/operations.ts"), import("../images/layer-lines.ts")]);
      const reference = parseReference(positionals[0]!);
      const name = formatReference(reference);
      const credentials = await credentialsFor(positionals[0]!);
      using client = connect(values);
      const lines = new LayerLines();
      if (!values.quiet) {
        if (!/[:@][^/]*$/.test(positionals[0]!)) console.log("Using default tag: latest");
        console.log(`${reference.digest ?? reference.tag}: Pulling from ${reference.registry === "docker.io" ? reference.repository : `${reference.registry}/${reference.repository}`}`);
      }
      const before = new Set((await listImages(client, values.node)).items.filter((image) => image.names.includes(name)).map((image) => `${image.node} ${image.digest}`));
      const images = await pullImage(client, name, credentials, values.node, (line) => {
        if (!values.quiet) lines.update(line);
      });
      const isNew = images.some((image) => !before.has(`${image.node} ${image.digest}`));
      if (!values.quiet) {
        for (const digest of new Set(images.map((image) => image.digest))) console.log(`Digest: ${digest}`);
        console.log(`Status: ${isNew ? "Downloaded newer image for" : "Image is up to date for"} ${familiarName(name)}`);
      }
      console.log(name);
      return 0;
    },
  }),
  command({
    name: "push", aliases: ["image push"], usage: "NAME[:TAG]", group: "images", summary: "Send an image to its registry",
    options: { ...NODE_OPTIONS, allTags: booleanOption("All tags of the repository", { short: "a" }), quiet: booleanOption("No progress", { short: "q" }) },
    run: async ({ values, positionals }) => {
      need(positionals, 1, 1, "push NAME[:TAG]");
      const [{ parseReference, formatReference, familiarName }, { follow }, { LayerLines }] = await Promise.all([import("../../node-agent/images/reference.ts"), import("../images/operations.ts"), import("../images/layer-lines.ts")]);
      const reference = parseReference(positionals[0]!);
      const name = formatReference(reference);
      const credentials = await credentialsFor(positionals[0]!);
      using client = connect(values);
      const lines = new LayerLines();
      if (!values.quiet) console.log(`The push refers to repository [${reference.registry}/${reference.repository}]`);
      const repository = familiarName(`${reference.registry}/${reference.repository}`);
      const images = await follow(client, "push", values.node, { reference: values.allTags ? repository : name, credentials, allTags: values.allTags }, (line) => {
        if (!values.quiet) lines.update(line);
      });
      const first = images[0];
      if (values.quiet) console.log(name);
      else if (first !== undefined) console.log(`${values.allTags ? `${images.length} tags` : reference.tag}: digest: ${first.digest}`);
      return 0;
    },
  }),
  command({
    name: "tag", aliases: ["image tag"], usage: "SOURCE[:TAG] TARGET[:TAG]", group: "images", summary: "Give an image another name", options: NODE_OPTIONS,
    run: async ({ values, positionals }) => {
      need(positionals, 2, 2, "tag SOURCE[:TAG] TARGET[:TAG]");
      const { imagesPath } = await import("../images/operations.ts");
      using client = connect(values);
      const { failed } = await client.json<{ readonly failed: readonly Failure[] }>("POST", imagesPath("tag", values.node), { body: { source: positionals[0], target: positionals[1] } });
      warn(failed);
      return failed.length === 0 ? 0 : 1;
    },
  }),
  command({
    name: "rmi", aliases: ["image rm", "image remove"], usage: "IMAGE...", group: "images", summary: "Take names off images; an image goes with its last name",
    options: { ...NODE_OPTIONS, force: booleanOption("Also what a container uses, or an ID with several names", { short: "f" }), noPrune: booleanOption("Keep the image's layers") },
    run: async ({ values, positionals }) => {
      need(positionals, 1, Infinity, "rmi IMAGE...");
      const { imagesPath, failureText } = await import("../images/operations.ts");
      using client = connect(values);
      const { results } = await client.json<{ readonly results: readonly { readonly reference: string; readonly nodes: readonly { readonly untagged: readonly string[]; readonly deleted: readonly string[] }[]; readonly failed: readonly Failure[] }[] }>(
        "POST", imagesPath("remove", values.node), { body: { references: positionals, force: values.force, noPrune: values.noPrune } });
      return await forEach(results, async ({ nodes, failed }) => {
        for (const line of new Set(nodes.flatMap((n) => [...n.untagged.map((u) => `Untagged: ${u}`), ...n.deleted.map((d) => `Deleted: ${d}`)]))) console.log(line);
        if (failed.length > 0) throw new GantryError("Conflict", failureText(failed));
        return Promise.resolve();
      });
    },
  }),
  command({
    name: "save", aliases: ["image save"], usage: "IMAGE...", group: "images", summary: "Write images to an archive that docker, skopeo and gantry load",
    options: { ...NODE_OPTIONS, output: stringOption("To this file instead of standard output", "", { short: "o", placeholder: "FILE" }) },
    run: async ({ values, positionals }) => {
      need(positionals, 1, Infinity, "save [-o FILE] IMAGE...");
      if (values.output === "" && process.stdout.isTTY) throw new GantryError("BadRequest", "cowardly refusing to save to a terminal: use -o FILE or redirect standard output");
      const [{ imagesPath }, { pipeline }, { createWriteStream, renameSync, rmSync }] = await Promise.all([import("../images/operations.ts"), import("node:stream/promises"), import("node:fs")]);
      using client = connect(values);
      const response = await client.send("GET", imagesPath("save", values.node, positionals.map((name) => ["name", name] as const)));
      if (values.output === "") {
        await pipeline(response, process.stdout, { end: false });
        return 0;
      }
      // Half an archive must not look like a whole one.
      const partial = `${values.output}.partial`;
      try {
        await pipeline(response, createWriteStream(partial));
        renameSync(partial, values.output);
      } catch (error) {
        rmSync(partial, { force: true });
        throw error;
      }
      return 0;
    },
  }),
  command({
    name: "load", aliases: ["image load"], usage: "[FILE]", group: "images", summary: "Put the images of an OCI or docker archive on every node",
    details: "Examples:\n  docker save web:1 | gantry load\n  skopeo copy docker://debian:12 oci-archive:debian.tar:debian:12 && gantry load -i debian.tar",
    options: {
      ...CLIENT_OPTIONS, input: stringOption("From this file instead of standard input", "", { short: "i", placeholder: "FILE" }), quiet: booleanOption("No progress", { short: "q" }),
      name: stringOption("Name for an image that has none in the archive", "", { placeholder: "IMAGE" }),
      output: stringOption("How to print what was loaded where", "text", { short: "o", choices: ["text", "json"] }),
    },
    run: async ({ values, positionals }) => {
      const file = values.input || positionals[0] || "-";
      if (positionals.length > 1 || (values.input !== "" && positionals.length > 0)) throw new GantryError("BadRequest", "gantry load needs one file, or - for standard input: an OCI or docker archive, such as 'docker save' and 'skopeo copy' write");
      if (file === "-" && process.stdin.isTTY) throw new GantryError("BadRequest", "gantry load needs a file (-i FILE), or an archive on standard input");
      const [{ loadImage }, { Progress }, { familiarName }] = await Promise.all([import("../load-image.ts"), import("../progress.ts"), import("../../node-agent/images/reference.ts")]);
      using client = connect(values);
      const progress = new Progress();
      try {
        const { nodes, names } = await loadImage(client, file, { ...(values.name ? { name: values.name } : {}), onProgress: (line) => (values.quiet ? undefined : progress.update(line)) });
        progress.clear();
        console.log(values.output === "json" ? JSON.stringify({ names, nodes }, null, 2) : `loaded ${names.map(familiarName).join(", ")} on ${nodes.length} node${nodes.length === 1 ? "" : "s"}`);
      } finally {
        progress.clear();
      }
      return 0;
    },
  }),
  command({
    name: "history", aliases: ["image history"], usage: "IMAGE", group: "images", summary: "Show how an image was made",
    options: { ...NODE_OPTIONS, quiet: booleanOption("IDs only", { short: "q" }), noTrunc: noTruncOption, format: formatOption },
    run: async ({ values, positionals }) => {
      need(positionals, 1, 1, "history IMAGE");
      const [{ inspectImage }, { historyRows, HISTORY_FORMAT }, { formatRows }] = await Promise.all([import("../images/operations.ts"), import("../images/image-rows.ts"), import("../format.ts")]);
      using client = connect(values);
      const [image] = await inspectImage(client, positionals[0]!, values.node);
      const rows = historyRows(image!, { nowMs: Date.now(), noTrunc: values.noTrunc, human: true });
      console.log(values.quiet ? rows.map((row) => row["ID"]).join("\n") : formatRows(values.format, rows, HISTORY_FORMAT));
      return 0;
    },
  }),
  command({
    name: "image inspect", usage: "IMAGE...", group: "images", summary: "Show everything about images, as docker does", options: { ...NODE_OPTIONS, format: stringOption("A Go template such as '{{.Id}}'", "", { short: "f", placeholder: "FORMAT" }) },
    run: async ({ values, positionals }) => {
      need(positionals, 1, Infinity, "image inspect IMAGE...");
      const [{ inspectImage }, { inspectObject }, { compileTemplate }] = await Promise.all([import("../images/operations.ts"), import("../images/image-rows.ts"), import("../format.ts")]);
      using client = connect(values);
      const found: object[] = [];
      const code = await forEach(positionals, async (name) => {
        const images = await inspectImage(client, name, values.node);
        for (const id of new Set(images.map((image) => image.id))) {
          const same = images.filter((image) => image.id === id);
          found.push(inspectObject(same[0]!, same.map((image) => image.node)));
        }
      });
      if (values.format === "" || values.format === "json") console.log(JSON.stringify(found, undefined, 4));
      else for (const object of found) console.log(compileTemplate(values.format)(object));
      return code;
    },
  }),
  command({
    name: "image prune", usage: "", group: "images", summary: "Remove images that have no name (-a: that no container uses)",
    options: { ...NODE_OPTIONS, all: booleanOption("All that no container uses", { short: "a" }), force: booleanOption("Do not ask", { short: "f" }), filter: listOption("Only what matches: until=24h, label=KEY[=VALUE], label!=...", [], { placeholder: "FILTER" }) },
    run: async ({ values }) => {
      if (!(await askToGoOn(values.all ? "This will remove all images without at least one container that uses them." : "This will remove all images without a name.", values.force))) return 1;
      using client = connect(values);
      return await sayPruned("Deleted Images:", await pruneImages(client, values.node, values.all, values.filter));
    },
  }),
  command({
    name: "login", usage: "[REGISTRY]", group: "images", summary: "Keep credentials for a registry, in docker's config.json, after checking them",
    options: {
      username: stringOption("User name", "", { short: "u", placeholder: "NAME" }), password: stringOption("Password; others on this machine can read a process's flags: better --password-stdin", "", { short: "p", placeholder: "TEXT" }),
      passwordStdin: booleanOption("Read the password from standard input"), insecure: booleanOption("The registry speaks plain HTTP, or has a certificate of nobody's"), caFile: stringOption("CA of the registry's certificate", "", { placeholder: "FILE" }),
    },
    run: async ({ values, positionals }) => {
      need(positionals, 0, 1, "login [REGISTRY]");
      if (values.password !== "" && values.passwordStdin) throw new GantryError("BadRequest", "--password and --password-stdin can't go together");
      const { dockerConfigPath, registryOf, saveCredential } = await import("../images/docker-config.ts");
      const { checkCredential } = await import("../images/check-credential.ts");
      const registry = registryOf(positionals[0] ?? "");
      if (!process.stdin.isTTY && !values.passwordStdin && values.password === "") throw new GantryError("BadRequest", "gantry login needs a terminal to ask for the password, or --password-stdin");
      if (values.passwordStdin && values.username === "") throw new GantryError("BadRequest", "--password-stdin needs --username");
      let { username } = values;
      if (username === "") {
        const { createInterface } = await import("node:readline/promises");
        const reader = createInterface({ input: process.stdin, output: process.stderr });
        username = (await reader.question("Username: ")).trim();
        reader.close();
      }
      const password = values.passwordStdin ? await readAll() : values.password || (await readSecret("Password: "));
      if (username === "" || password === "") throw new GantryError("BadRequest", "user name and password must not be empty");
      if (values.password !== "") console.error("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
      const credential = { registry, username, password, identityToken: "" };
      await checkCredential(registry, credential, { insecure: values.insecure, caFile: values.caFile });
      const path = dockerConfigPath(process.env);
      saveCredential(path, credential);
      console.error(`The password is kept unencrypted in ${path}, which only you can read.`);
      console.log("Login Succeeded");
      return 0;
    },
  }),
  command({
    name: "logout", usage: "[REGISTRY]", group: "images", summary: "Forget the credentials for a registry", options: {},
    run: async ({ positionals }) => {
      need(positionals, 0, 1, "logout [REGISTRY]");
      const { dockerConfigPath, forgetCredential, registryOf } = await import("../images/docker-config.ts");
      const registry = registryOf(positionals[0] ?? "");
      console.log(forgetCredential(dockerConfigPath(process.env), registry) ? `Removing login credentials for ${registry}` : `Not logged in to ${registry}`);
      return 0;
    },
  }),
  command({
    name: "system df", usage: "", group: "images", summary: "Show what takes up disk", options: { ...NODE_OPTIONS, format: formatOption, verbose: booleanOption("For each node", { short: "v" }) },
    run: async ({ values }) => {
      const [{ imagesPath }, { usageRows, USAGE_FORMAT }, { formatRows }] = await Promise.all([import("../images/operations.ts"), import("../images/disk-usage.ts"), import("../format.ts")]);
      using client = connect(values);
      const { nodes, failed } = await client.json<{ readonly nodes: readonly Parameters<typeof usageRows>[0][number][]; readonly failed: readonly Failure[] }>("GET", imagesPath("df", values.node));
      if (values.verbose) for (const node of nodes) console.log(`Node ${node.node}:\n${formatRows(values.format, usageRows([node]), USAGE_FORMAT)}\n`);
      else console.log(formatRows(values.format, usageRows(nodes), USAGE_FORMAT));
      warn(failed);
      return 0;
    },
  }),
  command({
    name: "system prune", usage: "", group: "images", summary: "Remove containers that are over and images that nothing uses",
    options: {
      ...NODE_OPTIONS, all: booleanOption("All images that no container uses, not only those without a name", { short: "a" }), force: booleanOption("Do not ask", { short: "f" }),
      filter: listOption("Only what matches: until=24h, label=KEY[=VALUE]", [], { placeholder: "FILTER" }),
    },
    run: async ({ values }) => {
      const what = ["all containers (pods that no controller owns) that are over", values.all ? "all images without at least one container that uses them" : "all images without a name"];
      if (!(await askToGoOn(`This will remove:\n${what.map((line) => `  - ${line}`).join("\n")}\n`, values.force))) return 1;
      using client = connect(values);
      const { deleteFinishedPods } = await import("../images/finished-pods.ts");
      const removed = await deleteFinishedPods(client, values.filter);
      if (removed.length > 0) console.log(`Deleted Containers:\n${removed.join("\n")}\n`);
      try {
        return await sayPruned("Deleted Images:", await pruneImages(client, values.node, values.all, values.filter));
      } catch (error) {
        console.error(`gantry: images: ${describeError(error)}`);
        return 1;
      }
    },
  }),
];
