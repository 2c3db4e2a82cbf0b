// The question before something is removed in bulk. Without a terminal nobody can answer: the flag is asked for.
import { createInterface } from "node:readline/promises";
import { GantryError } from "../../base/errors.ts";

export const confirm = async (what: string): Promise<boolean> => {
  if (!process.stdin.isTTY) throw new GantryError("BadRequest", `${what} Confirm it with --force`);
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await lines.question(`${what} Go on? [y/N] `)).trim());
  } finally {
    lines.close();
  }
};
