// Commands of `gantry` without a process for each: a thousand of them take seconds instead of minutes. What they print is kept apart by
// the call that printed it.
import { AsyncLocalStorage } from "node:async_hooks";
import { describeError } from "../../base/errors.ts";
import { parseOptions } from "../../base/config.ts";
import { COMMANDS, FAMILIES } from "../../cli/commands.ts";
import { findCommand } from "../../cli/find-command.ts";

export interface Called {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

interface Printed {
  out: string;
  err: string;
}

const printed = new AsyncLocalStorage<Printed>();

/** Takes over this process's output until disposed; what is printed outside of calls goes its usual way. */
export class InProcessCommands implements Disposable {
  readonly #undo: (() => void)[] = [];

  constructor(kubeconfig: string) {
    // The flag's place differs between commands and families of them.
    const before = process.env["KUBECONFIG"];
    process.env["KUBECONFIG"] = kubeconfig;
    this.#undo.push(() => {
      if (before === undefined) delete process.env["KUBECONFIG"];
      else process.env["KUBECONFIG"] = before;
    });
    for (const [stream, key] of [[process.stdout, "out"], [process.stderr, "err"]] as const) {
      const write = stream.write.bind(stream);
      stream.write = ((chunk: string | Uint8Array, ...rest: never[]): boolean => {
        const into = printed.getStore();
        if (!into) return write(chunk, ...rest);
        into[key] += typeof chunk === "string" ? chunk : Buffer.from(chunk).toString();
        for (const done of rest as unknown[]) if (typeof done === "function") (done as () => void)();
        return true;
      });
      this.#undo.push(() => void (stream.write = write));
    }
    for (const [name, key] of [["log", "out"], ["error", "err"]] as const) {
      const original = console[name].bind(console);
      console[name] = (...args: unknown[]): void => {
        const into = printed.getStore();
        if (into) into[key] += `${args.join(" ")}\n`;
        else original(...args);
      };
      this.#undo.push(() => void (console[name] = original));
    }
  }

  /** As main.ts does it: errors become a message and a code. */
  call(argv: readonly string[]): Promise<Called> {
    const into: Printed = { out: "", err: "" };
    return printed.run(into, async () => {
      try {
        const found = findCommand(COMMANDS, FAMILIES, argv);
        if ("familyName" in found) throw new Error(`${argv.join(" ")} is no command`);
        const { command, args, family } = found;
        const parsed = parseOptions(command.options, { argv: args, ...(command.stopAtPositional === undefined ? {} : { stopAtPositional: command.stopAtPositional }) });
        return { code: await command.run({ ...parsed, family }), ...into };
      } catch (error) {
        into.err += `gantry: ${describeError(error)}${error instanceof TypeError || error instanceof RangeError ? `\n${error.stack ?? ""}` : ""}\n`;
        return { code: 1, ...into };
      }
    });
  }

  [Symbol.dispose](): void {
    for (const undo of this.#undo) undo();
  }
}
