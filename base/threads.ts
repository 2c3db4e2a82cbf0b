// Threads that run a module of ours.
import { Worker } from "node:worker_threads";

/** Runs the module `./FILE` beside that of `importMetaUrl`: sources run as they are, and compiled. Not with the options of this process: a profile or a test's loader is not for it. */
export const startThread = (importMetaUrl: string, file: string, { name, workerData }: { readonly name: string; readonly workerData?: unknown }): Worker =>
  new Worker(new URL(`./${file}.${importMetaUrl.endsWith(".ts") ? "ts" : "js"}`, importMetaUrl), { name, workerData, execArgv: ["--disable-warning=ExperimentalWarning"] });
