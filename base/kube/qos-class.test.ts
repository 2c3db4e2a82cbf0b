import test from "ava";
import { qosClassOf } from "./qos-class.ts";

for (const [expected, requests, limits] of [
  ["BestEffort", undefined, undefined],
  ["BestEffort", { "ephemeral-storage": "1Gi" }, undefined],
  ["Burstable", { cpu: "1" }, undefined],
  ["Burstable", { cpu: "1", memory: "1Gi" }, { cpu: "2", memory: "1Gi" }],
  ["Burstable", undefined, { cpu: "2" }],
  ["Guaranteed", { cpu: "1000m", memory: "1Gi" }, { cpu: "1", memory: "1024Mi" }],
  ["Guaranteed", undefined, { cpu: "2", memory: "1Gi" }],
] as const) {
  test(`quality of service of requests ${JSON.stringify(requests)} and limits ${JSON.stringify(limits)}: ${expected}`, (t) =>
    t.is(qosClassOf({ containers: [{ name: "c", resources: { ...(requests && { requests }), ...(limits && { limits }) } }] }), expected));
}
