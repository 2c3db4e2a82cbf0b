// `gantry why pod NAME`: the scheduler's explanation and, for a pod that has a node, what holds its containers up. One screen. Pure.
import type { Pod } from "../base/kube/types.gen.ts";
import type { Explanation } from "../control-plane/state/explain.ts";

const listNodes = (nodes: readonly string[]): string => (nodes.length <= 5 ? nodes.join(", ") : `${nodes.slice(0, 4).join(", ")} and ${nodes.length - 4} more`);

export const explainPod = (explanation: Explanation, pod: Pod): string => {
  const lines = [`Pod ${explanation.pod}: ${pod.metadata.deletionTimestamp ? "Terminating" : (pod.status?.phase ?? "Unknown")}`];
  if (explanation.nodeName) {
    lines.push(`${pod.status?.phase === "Running" ? "Runs" : "Is"} on ${explanation.nodeName}${explanation.fits.length > 0 ? `; fits on: ${listNodes(explanation.fits)}` : ""}`);
    for (const c of [...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? [])]) {
      const waiting = c.state?.waiting;
      const ended = c.state?.terminated ?? c.lastState?.terminated;
      if (waiting) lines.push(`  container ${c.name} waits: ${waiting.reason ?? ""}${waiting.message ? `: ${waiting.message}` : ""}`);
      if (ended) lines.push(`  container ${c.name} ended${c.state?.terminated ? "" : " before"}: ${ended.reason ?? ""}, exit code ${ended.exitCode}${ended.message ? ` (${ended.message})` : ""}; restarted ${c.restartCount} times`);
      else if (!waiting && !c.ready) lines.push(`  container ${c.name} runs, but is not ready`);
    }
  } else {
    lines.push(`Has no node: ${explanation.summary}`);
    for (const group of explanation.groups) {
      lines.push(`  ${group.nodes.length} node${group.nodes.length === 1 ? "" : "s"} (${listNodes(group.nodes)}):`);
      for (const failed of group.failed) lines.push(`    ${failed.check}: ${failed.message}`);
    }
    if (explanation.fits.length > 0) lines.push(`  fits on: ${listNodes(explanation.fits)}; it will be placed in a moment`);
    if (explanation.suggestion) lines.push(`Smallest change: ${explanation.suggestion}`);
  }
  for (const c of pod.status?.conditions ?? []) if (c.status === "False" && c.type !== "PodScheduled" && c.message) lines.push(`${c.type} is false: ${c.message}`);
  return lines.join("\n");
};
