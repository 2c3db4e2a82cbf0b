import test from "ava";
import { parseBuildOptions, serveBuild, splitOptions } from "./build-stream.ts";

async function* pieces(text: string, size: number): AsyncGenerator<Uint8Array, void> {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

for (const size of [1, 3, 100]) {
  test(`the options end at the first newline, however they come (${size})`, async (t) => {
    const { line, context } = await splitOptions(pieces("{\"a\":1}\ntar\ntar", size));
    t.is(line.toString(), "{\"a\":1}");
    let rest = "";
    for await (const piece of context) rest += Buffer.from(piece).toString();
    t.is(rest, "tar\ntar");
  });
}

test("wrong options are refused by name", async (t) => {
  for (const [line, message] of [["[]", /not a JSON object/], ["{\"nmaes\":[]}", /no field "nmaes"; there are names/], ["{\"names\":\"x\"}", /names is not a list/], ["{\"network\":\"x\"}", /network is not default, host or none/], ["{\"secrets\":{\"a\":1}}", /secrets is not/]] as const) {
    t.throws(() => parseBuildOptions(Buffer.from(line)), { message });
  }
  t.deepEqual(parseBuildOptions(Buffer.from("{}")), { dockerfile: "Dockerfile", names: [] });
  await t.throwsAsync(splitOptions(pieces("no line", 3)), { message: /ends before its first line/ });
  await t.throwsAsync(splitOptions(pieces("x".repeat(5 * 2 ** 20), 65_536)), { message: /more than 4194304 bytes/ });
});

test("events are lines in frames of at most 64 KiB; the image is the last", async (t) => {
  const sent: Buffer[] = [];
  const image = { id: "sha256:x", manifestDigest: "sha256:y", mediaType: "m", manifestBytes: 5, names: ["a"], sizeBytes: 1 };
  const names = await serveBuild({ build: async ({ say, options }) => {
    t.deepEqual(options.names, ["a"]);
    await say({ vertex: "1", log: "l".repeat(150_000) });
    return image;
  } }, pieces("{\"names\":[\"a\"]}\n", 50), async (bytes) => void sent.push(Buffer.from(bytes)), new AbortController().signal);
  t.deepEqual(names, ["a"]);
  t.true(sent.every((bytes) => bytes.length <= 65_536));
  const lines = Buffer.concat(sent).toString().trim().split("\n").map((line) => JSON.parse(line) as object);
  t.deepEqual(lines, [{ vertex: "1", log: "l".repeat(150_000) }, { image }]);
});
