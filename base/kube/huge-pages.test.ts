import test from "ava";
import { hugePagesResource, kernelPageSize, pageBytesOf, volumePageBytes } from "./huge-pages.ts";

const MI = 2 ** 20;
const container = (...sizes: readonly string[]) => ({ name: "c", resources: { limits: Object.fromEntries([["memory", "1Gi"], ...sizes.map((s) => [`hugepages-${s}`, s])]) } });

test("a size by its name in pods, and in control groups", (t) => {
  t.deepEqual(["hugepages-2Mi", "hugepages-1Gi", "hugepages-64Ki", "hugepages-", "hugepages-x", "hugepages--2Mi", "memory"].map(pageBytesOf), [2 * MI, 1024 * MI, 65_536, undefined, undefined, undefined, undefined]);
  t.deepEqual([2 * MI, 1024 * MI, 65_536].map(hugePagesResource), ["hugepages-2Mi", "hugepages-1Gi", "hugepages-64Ki"]);
  t.deepEqual([2 * MI, 1024 * MI, 65_536].map(kernelPageSize), ["2MB", "1GB", "64KB"]);
});

for (const [title, containers, medium, expected] of [
  ["the only size", [container("2Mi"), container()], "HugePages", 2 * MI],
  ["none", [container()], "HugePages", { fault: "no container of the pod requests huge pages" }],
  ["one of two", [container("2Mi", "1Gi")], "HugePages", { fault: "can't be used if containers request several sizes of huge pages: HugePages-2Mi or HugePages-1Gi" }],
  ["which of two", [container("2Mi"), container("1Gi")], "HugePages-1Gi", 1024 * MI],
  ["one that nobody has", [container("2Mi")], "HugePages-1Gi", { fault: "no container of the pod requests hugepages-1Gi" }],
  ["what is no size", [container("2Mi")], "HugePages-big", { fault: "must be HugePages or HugePages-SIZE, such as HugePages-2Mi" }],
] as const) test(`a volume of huge pages: ${title}`, (t) => {
  t.deepEqual(volumePageBytes({ containers: [...containers] }, medium), expected);
  t.deepEqual(volumePageBytes({ containers: [], initContainers: [...containers] }, medium), expected);
});
