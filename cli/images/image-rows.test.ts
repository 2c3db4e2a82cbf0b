import test from "ava";
import { parseDurationMs } from "../../base/config.ts";
import { formatRows } from "../format.ts";
import { historyRows, IMAGE_FORMAT, imageRows, inspectObject, parseImageFilter, type ImageFilter, type NodeImage } from "./image-rows.ts";

const NOW = Date.UTC(2026, 0, 15);
const hex = (c: string): string => c.repeat(64);
const image = (node: string, c: string, names: readonly string[], more: Partial<NodeImage> = {}): NodeImage => ({
  node, id: `sha256:${hex(c)}`, digest: `sha256:${hex("f")}`, names, sizeBytes: 10, created: "2026-01-01T00:00:00.000Z", architecture: "amd64", labels: {}, usedBy: [],
  layers: [{ digest: `sha256:${hex("1")}`, diffId: `sha256:${hex("2")}`, sizeBytes: 10, diskBytes: 4_266_000 }], ...more,
});
const ALL: ImageFilter = { references: [], dangling: undefined, labels: [], beforeMs: undefined, sinceMs: undefined };
const rows = (images: readonly NodeImage[], filter: Partial<ImageFilter> = {}, noTrunc = false) => imageRows(images, { ...ALL, ...filter }, { nowMs: NOW, noTrunc });

test("one row for each name, however many nodes have it; short names; docker's columns", (t) => {
  const images = [image("n1", "a", ["docker.io/library/busybox:latest", "localhost:5000/x:1"]), image("n2", "a", ["docker.io/library/busybox:latest"]), image("n2", "b", [], { created: "1970-01-01T00:00:00.000Z" })];
  t.is(formatRows("", rows(images), IMAGE_FORMAT), [
    "REPOSITORY         TAG       IMAGE ID       CREATED       SIZE",
    "busybox            latest    aaaaaaaaaaaa   2 weeks ago   4.27MB",
    "localhost:5000/x   1         aaaaaaaaaaaa   2 weeks ago   4.27MB",
    "<none>             <none>    bbbbbbbbbbbb   N/A           4.27MB",
  ].join("\n"));
  t.deepEqual(rows(images).map((r) => r.Nodes), ["n1,n2", "n1", "n2"]);
  t.is(rows(images, {}, true)[0]?.ID, `sha256:${hex("a")}`);
});

test("digests are shown with their tags, and alone without", (t) => {
  const digest = `sha256:${hex("f")}`;
  t.deepEqual(rows([image("n", "a", [`docker.io/library/app@${digest}`, "docker.io/library/app:v1"])]).map((r) => [r.Tag, r.Digest]), [["v1", digest]]);
  t.deepEqual(rows([image("n", "a", [`docker.io/library/app@${digest}`])]).map((r) => [r.Repository, r.Tag, r.Digest]), [["app", "<none>", digest]]);
});

test("filters", (t) => {
  const images = [
    image("n", "a", ["docker.io/library/busybox:1", "docker.io/library/busybox:2"], { labels: { tier: "web" } }), image("n", "b", ["quay.io/team/app:v1"], { created: "2026-01-10T00:00:00Z" }), image("n", "c", []),
  ];
  const names = (filter: Partial<ImageFilter>): readonly string[] => rows(images, filter).map((r) => `${r.Repository}:${r.Tag}`);
  t.deepEqual(names({ references: ["busybox"] }), ["busybox:1", "busybox:2"]);
  t.deepEqual(names({ references: ["busybox:2"] }), ["busybox:2"]);
  t.deepEqual(names({ references: ["busy*:[12]"] }), ["busybox:1", "busybox:2"]);
  t.deepEqual(names({ references: ["docker.io/busybox:1"] }), ["busybox:1"]);
  t.deepEqual(names({ references: ["*/team/*"] }), ["quay.io/team/app:v1"]);
  t.deepEqual(names({ references: ["app"] }), []);
  t.deepEqual(names({ dangling: true }), ["<none>:<none>"]);
  t.deepEqual(names({ labels: ["tier=web"] }), ["busybox:1", "busybox:2"]);
  t.deepEqual(names({ labels: ["!tier"] }), ["quay.io/team/app:v1", "<none>:<none>"]);
  t.deepEqual(names({ sinceMs: Date.UTC(2026, 0, 5) }), ["quay.io/team/app:v1"]);
  const parse = (...filters: readonly string[]): ImageFilter => parseImageFilter(filters, () => 7, NOW, parseDurationMs);
  t.deepEqual(parse("reference=a", "label=b=c", "label!=d", "dangling=false", "since=x", "until=24h"), { references: ["a"], labels: ["b=c", "!d"], dangling: false, sinceMs: 7, beforeMs: NOW - 86_400_000 });
  t.throws(() => parse("colour=red"), { message: /no filter "colour"; there are before/ });
  t.throws(() => parse("dangling=maybe"), { message: /true or false/ });
  t.throws(() => parse("until=soon"), { message: /duration such as 24h/ });
});

test("history tells each step with its layer's size; inspect is docker's object", (t) => {
  const config = { history: [{ created_by: "FROM x", created: "2026-01-01T00:00:00Z" }, { created_by: `RUN ${"y".repeat(60)}`, empty_layer: true, created: "2026-01-14T00:00:00Z" }], config: { Cmd: ["sh"] }, os: "linux", architecture: "amd64" };
  const shown = historyRows({ ...image("n", "a", ["docker.io/library/app:v1"]), config }, { nowMs: NOW, noTrunc: false, human: true });
  t.deepEqual(shown.map((r) => [r["ID"], r["Size"], r["CreatedBy"]?.length]), [["aaaaaaaaaaaa", "0B", 45], ["<missing>", "4.27MB", 6]]);
  t.like(inspectObject({ ...image("n", "a", ["docker.io/library/app:v1"]), config }, ["n"]), { RepoTags: ["app:v1"], RepoDigests: [`app@sha256:${hex("f")}`], Os: "linux", Config: { Cmd: ["sh"] }, Size: 4_266_000 });
});
