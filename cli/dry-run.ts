// --dry-run, as kubectl has it: what would be done, as far as this side can tell, or as the server says who checks it all and keeps nothing.
import { stringOption } from "../base/config.ts";

export type DryRun = "none" | "client" | "server";

/** Given without a value it is "": see dryRunOf. */
export const dryRunOption = stringOption("Change nothing: print what would be done (client), or let the server check it too (server)", "none", { choices: ["", "none", "client", "server"], bare: "" });

/** Warns of the flag without a value, in kubectl's words. */
export const dryRunOf = (value: string): DryRun => {
  if (value === "") console.error("Warning: --dry-run is deprecated and can be replaced with --dry-run=client.");
  return value === "" ? "client" : (value as DryRun);
};

/** What stands behind each line about what was not really done. */
export const dryRunRemark = (dryRun: DryRun): string => ({ none: "", client: " (dry run)", server: " (server dry run)" })[dryRun];
