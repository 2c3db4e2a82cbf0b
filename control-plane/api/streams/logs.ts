// Owns GET pods/NAME/log: reads the options, asks the pod's node for the log, and passes it on as it comes.
import { GantryError } from "../../../base/errors.ts";
import type { FieldCause } from "../../../base/errors.ts";
import { newId } from "../../../base/ids.ts";
import type { LogsRequest, StreamResult } from "../../../proto/gen/gantry/v1/agent.ts";
import type { NodeStreams } from "../../state/node-streams.ts";
import type { ResourceRequest } from "../context.ts";
import { isTrue } from "../router.ts";
import { invalid } from "../status.ts";
import { checkHasLog, containerOf, findPod } from "./pod-target.ts";

export type LogOptions = Omit<LogsRequest, "podUid" | "container">;

const KIND = { group: "", kind: "PodLogOptions" } as const;

/** Throws Invalid, naming the parameters at fault. */
export const readLogOptions = (query: URLSearchParams, nowMs: number): LogOptions => {
  const causes: FieldCause[] = [];
  const fault = (field: string, message: string): undefined => void causes.push({ field, reason: "FieldValueInvalid", message });
  const number = (name: string, least: number): number | undefined => {
    const text = query.get(name) ?? "";
    if (text === "") return undefined;
    const value = Number(text);
    if (!Number.isSafeInteger(value)) return fault(name, `Invalid value: ${JSON.stringify(text)}: must be a whole number`);
    return value < least ? fault(name, `Invalid value: ${value}: must be greater than ${least === 0 ? "or equal to 0" : "0"}`) : value;
  };
  const tailLines = number("tailLines", 0);
  const limitBytes = number("limitBytes", 1);
  const sinceSeconds = number("sinceSeconds", 1);
  const sinceTime = query.get("sinceTime") ?? "";
  const sinceTimeMs = sinceTime === "" ? undefined : Date.parse(sinceTime);
  if (Number.isNaN(sinceTimeMs)) fault("sinceTime", `Invalid value: ${JSON.stringify(sinceTime)}: must be a time such as 2026-01-31T12:00:00Z (RFC 3339)`);
  if (sinceTime !== "" && sinceSeconds !== undefined) fault("sinceSeconds", "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified");
  if (causes.length > 0) throw invalid(KIND, "", causes);
  return {
    follow: isTrue(query.get("follow")), previous: isTrue(query.get("previous")), timestamps: isTrue(query.get("timestamps")),
    overRestarts: isTrue(query.get("gantry-over-restarts")), tailLines, limitBytes, sinceMs: sinceTimeMs ?? (sinceSeconds === undefined ? undefined : nowMs - sinceSeconds * 1000),
  };
};

/** Throws what the agent said when it did not go well. */
export const checkResult = ({ code, message }: StreamResult): void => {
  if (code !== "") throw new GantryError(code as GantryError["code"], message);
};

export const serveLogs = async (request: ResourceRequest, streams: NodeStreams): Promise<void> => {
  const { context, exchange } = request;
  const { query, signal } = exchange;
  const options = readLogOptions(query, context.clock.nowMs());
  const pod = await findPod(request);
  const container = containerOf(pod, query.get("container"));
  const nodeName = pod.spec?.nodeName ?? "";
  if (nodeName === "") {
    // Not scheduled yet: nothing to read, and no error, as upstream.
    exchange.bytes(200, "text/plain", "");
    return;
  }
  checkHasLog(pod, container, options.previous);
  await using stream = await streams.open(nodeName, { id: newId(), kind: { $case: "logs", value: { podUid: pod.metadata.uid!, container, ...options } } }, signal);
  let left = options.limitBytes ?? Infinity;
  // An error before the first byte still becomes a Status; so the head waits for it, unless the client follows and wants to know that it is on.
  let sink = options.follow ? exchange.open(200, "text/plain") : undefined;
  for await (const { frame } of stream.frames) {
    if (signal.aborted) break;
    if (frame?.$case === "result") {
      if (!sink) checkResult(frame.value);
      break;
    }
    if (frame?.$case !== "stdout" && frame?.$case !== "stderr") continue;
    sink ??= exchange.open(200, "text/plain");
    const bytes = frame.value.length > left ? frame.value.subarray(0, left) : frame.value;
    left -= bytes.length;
    if (!sink.write(bytes)) await sink.ready();
    if (left === 0) break;
  }
  if (sink) sink.end();
  else exchange.bytes(200, "text/plain", "");
};
