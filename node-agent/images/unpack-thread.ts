// The other end of UnpackThreads: unpacks one layer at a time, as it is told.
import { parentPort } from "node:worker_threads";
import { GantryError, describeError } from "../../base/errors.ts";
import { unpackBlob } from "./unpack.ts";
import type { ThreadAnswer, ThreadOrder } from "./unpack-threads.ts";

let abort = new AbortController();

const answerTo = async (order: Exclude<ThreadOrder, "cancel">): Promise<ThreadAnswer> => {
  try {
    return { extracted: await unpackBlob(order, abort.signal) };
  } catch (error) {
    return { failed: { code: error instanceof GantryError ? error.code : undefined, message: describeError(error) } };
  }
};

parentPort?.on("message", (order: ThreadOrder) => {
  if (order === "cancel") {
    abort.abort(new GantryError("Cancelled", "was cancelled"));
    return;
  }
  abort = new AbortController();
  void answerTo(order).then((answer) => parentPort?.postMessage(answer));
});
