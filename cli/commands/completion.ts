// completion, and what its scripts ask. The commands are an argument of the inner one: they are made from this list too.
import { GantryError } from "../../base/errors.ts";
import { command, type Command, type CommandFamily } from "../command.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;

export const completionCommands = (all: () => { readonly commands: readonly Command[]; readonly families: readonly CommandFamily[] }): readonly Command[] => [
  command({
    name: "completion", usage: "bash|zsh|fish", group: "cluster", summary: "Print the script for Tab completion in a shell",
    details: "bash:  source <(gantry completion bash)          # in ~/.bashrc\nzsh:   source <(gantry completion zsh)           # in ~/.zshrc, behind compinit\nfish:  gantry completion fish | source           # in ~/.config/fish/config.fish",
    options: {},
    run: async ({ positionals }) => {
      const shell = SHELLS.find((s) => s === positionals[0]);
      if (!shell || positionals.length > 1) throw new GantryError("BadRequest", `gantry completion needs the name of a shell: ${SHELLS.join(", ")}`);
      const { COMPLETION_SCRIPTS } = await import("../completion/scripts.ts");
      process.stdout.write(COMPLETION_SCRIPTS[shell]);
      return 0;
    },
  }),
  command({
    name: "__complete", usage: "WORD...", group: "cluster", summary: "Candidates for the last word", hidden: true, options: {}, raw: true,
    run: async ({ positionals }) => {
      const { complete } = await import("../completion/complete.ts");
      const { commands, families } = all();
      const found = complete(commands, families, positionals);
      if (found.kind === "files") {
        console.log(":files");
        return 0;
      }
      const candidates = found.kind === "fixed" ? found.candidates : await (await import("../completion/names.ts")).findNames(found);
      for (const { value, help } of candidates) console.log(help ? `${value}\t${help}` : value);
      return 0;
    },
  }),
];
