// build: images from Dockerfiles.
import { writeFileSync } from "node:fs";
import { booleanOption, eachOption, stringOption } from "../../base/config.ts";
import { GantryError, isCode } from "../../base/errors.ts";
import { command, type Command } from "../command.ts";
import { REFUSED_BUILD_FLAGS } from "../docker/refused-flags.ts";
import { CLIENT_OPTIONS, connect } from "./client.ts";

const INTERRUPTED = 130;

export const BUILD_COMMANDS: readonly Command[] = [
  command({
    name: "build", aliases: ["image build", "buildx build", "builder build"], usage: "CONTEXT", group: "images", summary: "Build an image from a Dockerfile, on a node; afterwards every node has it",
    details: "CONTEXT is a directory, a tar (perhaps with gzip or zstd), or - for a tar or a Dockerfile on standard input. What .dockerignore names stays here.\n\n"
      + "  gantry build -t shop/web:1 .\n  gantry build -t shop/web:1 -f docker/Dockerfile --build-arg VERSION=7 --target prod .\n  gantry build -t tool --secret id=npmrc,src=$HOME/.npmrc .\n  gantry build - < Dockerfile\n\n"
      + "The same image is always built on the same node while it is there, because its cache is there. RUN uses the node's network. SOURCE_DATE_EPOCH, from the environment or as a build argument, makes images reproducible.",
    options: {
      ...CLIENT_OPTIONS,
      tag: eachOption("Name of the image, NAME[:TAG]; may be given several times", { short: "t", placeholder: "NAME" }),
      file: stringOption("The Dockerfile (default: CONTEXT/Dockerfile); - for standard input", "", { short: "f", placeholder: "FILE" }),
      buildArg: eachOption("Value for an ARG, NAME=value; NAME alone takes it from the environment", { placeholder: "NAME=value" }),
      target: stringOption("Build this stage, and what it needs, only", "", { placeholder: "STAGE" }),
      noCache: booleanOption("Do every step anew"),
      platform: stringOption("Build on a node of this platform, such as linux/arm64", "", { placeholder: "OS/ARCH" }),
      secret: eachOption("For RUN --mount=type=secret: id=NAME,src=FILE or id=NAME,env=VARIABLE", { placeholder: "id=..." }),
      pull: booleanOption("Ask the registry for newer base images"),
      push: booleanOption("Push the image to its registry"),
      label: eachOption("Label of the image, NAME=value", { placeholder: "NAME=value" }),
      network: stringOption("Network of RUN: the node's, or none", "default", { choices: ["default", "host", "none"] }),
      progress: stringOption("How to show it; auto is tty on a terminal", "auto", { choices: ["auto", "plain", "tty", "quiet"] }),
      iidfile: stringOption("Write the image's ID to a file", "", { placeholder: "FILE" }),
      quiet: booleanOption("Only print the image's ID", { short: "q" }),
      node: stringOption("Build on this node", "", { placeholder: "NODE" }),
      load: booleanOption("Has no effect: the nodes have the image in any case"), rm: booleanOption("Has no effect: nothing stays of a build but image and cache"), forceRm: booleanOption("Has no effect, as --rm"),
      compress: booleanOption("Has no effect"), disableContentTrust: booleanOption("Has no effect: images are verified by digest, and signatures are not looked at"),
      ...REFUSED_BUILD_FLAGS,
    },
    run: async ({ values, positionals }) => {
      if (positionals.length !== 1) throw new GantryError("BadRequest", "build needs exactly one CONTEXT: a directory (. is this one), a tar, or -");
      if (values.push && values.tag.length === 0) throw new GantryError("BadRequest", "--push needs a name: -t REGISTRY/NAME:TAG");
      const [{ readBuildInput }, { BuildDisplay }, { runBuild }] = await Promise.all([import("../build/build-input.ts"), import("../build/build-display.ts"), import("../build/run-build.ts")]);
      const input = await readBuildInput(positionals[0]!, values, process.env, process.stdin);
      using client = connect(values);
      const display = new BuildDisplay(values.quiet ? "quiet" : (values.progress as "auto"));
      const abort = new AbortController();
      const interrupt = (): void => abort.abort();
      process.once("SIGINT", interrupt).once("SIGTERM", interrupt);
      try {
        const image = await runBuild(client, input, values.node, display, abort.signal);
        display.close();
        if (values.iidfile !== "") writeFileSync(values.iidfile, image.id);
        if (values.quiet || values.progress === "quiet") console.log(image.id);
        else process.stderr.write(`built ${image.id}${image.names.length === 0 ? "" : ` as ${image.names.join(", ")}`} in ${display.elapsedS}\n`);
        return 0;
      } catch (error) {
        display.close();
        if (abort.signal.aborted || isCode(error, "Cancelled")) {
          process.stderr.write("canceled\n");
          return INTERRUPTED;
        }
        process.stderr.write(display.failure);
        // Only what was typed is wrong usage: a fault in the Dockerfile is a failed build.
        throw error;
      } finally {
        process.off("SIGINT", interrupt).off("SIGTERM", interrupt);
        // A standard input that nobody read to its end would keep this process.
        process.stdin.destroy();
      }
    },
  }),
];
