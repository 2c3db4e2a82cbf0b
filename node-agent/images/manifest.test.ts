import test from "ava";
import { isCode } from "../../base/errors.ts";
import { MediaType, parseConfig, parseManifest } from "./manifest.ts";
import { amd64Variant, choosePlatform, type Platform } from "./platform.ts";

const digest = `sha256:${"a".repeat(64)}`;
const config = { mediaType: MediaType.ociConfig, digest, size: 1 };
const bytes = (value: unknown): Buffer => Buffer.from(typeof value === "string" ? value : JSON.stringify(value));

for (const [what, value, code, why] of [
  ["no JSON", "{", "Invalid", /not JSON/],
  ["a list", "[]", "Invalid", /not a JSON object/],
  ["no schema version", {}, "Invalid", /schemaVersion is undefined/],
  ["index and image at once", { schemaVersion: 2, manifests: [], layers: [] }, "Invalid", /ambiguous/],
  ["an index that says it is an image", { schemaVersion: 2, mediaType: MediaType.ociManifest, manifests: [] }, "UnsupportedMediaType", /image index is needed/],
  ["a bad digest", { schemaVersion: 2, config: { ...config, digest: "sha256:../../etc/passwd" }, layers: [] }, "Invalid", /"sha256:\.\.\/\.\.\/etc\/passwd" is not a digest/],
  ["a negative size", { schemaVersion: 2, config: { ...config, size: -1 }, layers: [] }, "Invalid", /size -1/],
  ["a huge config", { schemaVersion: 2, config: { ...config, size: 1e9 }, layers: [] }, "Invalid", /at most/],
  ["a helm chart", { schemaVersion: 2, config: { ...config, mediaType: "application/vnd.cncf.helm.config.v1+json" }, layers: [] }, "UnsupportedMediaType", /container image is needed/],
  ["an encrypted layer", { schemaVersion: 2, config, layers: [{ ...config, mediaType: `${MediaType.ociLayer}+gzip+encrypted` }] }, "UnsupportedMediaType", /layers\[0\].*encrypted/],
] as const) {
  test(`a manifest that is ${what} is refused`, (t) => {
    const error = t.throws(() => parseManifest(bytes(value), "x"));
    t.true(isCode(error, code), String(error));
    t.regex(error?.message ?? "", why);
  });
}

test("all layer types of OCI and Docker are taken", (t) => {
  const types = ["application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"];
  const manifest = parseManifest(bytes({ schemaVersion: 2, config, layers: types.map((mediaType) => ({ ...config, mediaType })) }), "x");
  t.is(manifest.kind === "image" && manifest.layers.length, types.length);
});

test("a config in full, and one with nothing in it", (t) => {
  const rootfs = { type: "layers", diff_ids: [digest] };
  const full = parseConfig(bytes({
    architecture: "amd64", os: "linux", rootfs,
    config: { Entrypoint: ["/e"], Cmd: ["c"], Env: ["A=b"], WorkingDir: "/w", User: "1:2", StopSignal: "SIGINT", Volumes: { "/v": {} }, Labels: { l: "x" }, ExposedPorts: { "80/tcp": {} } },
  }), "x");
  t.deepEqual(full.config, { entrypoint: ["/e"], cmd: ["c"], env: ["A=b"], workingDir: "/w", user: "1:2", stopSignal: "SIGINT", volumes: ["/v"], labels: { l: "x" }, exposedPorts: ["80/tcp"] });
  t.deepEqual(parseConfig(bytes({ rootfs, config: { Cmd: null, Env: null, Labels: null } }), "x").config.cmd, []);
  t.throws(() => parseConfig(bytes({ rootfs, config: { Cmd: [1] } }), "config x"), { message: /config x, Cmd: is not a list of strings/ });
  t.throws(() => parseConfig(bytes({}), "x"), { message: /rootfs/ });
});

test("the platform is the best that the host runs, never another's", (t) => {
  const p = (architecture: string, variant = "", os = "linux"): { platform: Platform } => ({ platform: { os, architecture, variant } });
  const host = (architecture: string, variant: string): Platform => ({ os: "linux", architecture, variant });
  const all = [p("amd64", "", "windows"), p("arm", "v6"), p("arm", "v7"), p("amd64"), p("amd64", "v2"), p("amd64", "v4"), p("arm64"), p("unknown", "", "unknown")];
  t.deepEqual(choosePlatform(all, host("amd64", "v3")), p("amd64", "v2"));
  t.deepEqual(choosePlatform(all, host("amd64", "v1")), p("amd64"));
  t.deepEqual(choosePlatform(all, host("arm64", "v8")), p("arm64"));
  t.deepEqual(choosePlatform(all, host("arm", "v6")), p("arm", "v6"));
  t.is(choosePlatform(all, host("riscv64", "")), undefined);
  t.deepEqual(choosePlatform([p("", "", "")], host("amd64", "v1")), p("", "", ""));
});

test("the level of a processor follows from its flags", (t) => {
  const v2 = "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3";
  const v3 = `${v2} avx avx2 bmi1 bmi2 f16c fma abm movbe xsave`;
  for (const [flags, variant] of [["", "v1"], [v2, "v2"], [v3, "v3"], [`${v3} avx512f avx512bw avx512cd avx512dq avx512vl`, "v4"]] as const) {
    t.is(amd64Variant(new Set(flags.split(" "))), variant);
  }
});
