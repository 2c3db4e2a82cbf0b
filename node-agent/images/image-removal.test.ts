import test from "ava";
import type { Image } from "./image-service.ts";
import { planRemoval } from "./image-removal.ts";

const image = (...names: readonly string[]): Image => ({
  id: "sha256:1", manifestDigest: "sha256:2", manifestBytes: 1, mediaType: "", names, sizeBytes: 1, createdMs: 0, architecture: "amd64", layers: [], layerDirs: [],
  config: { entrypoint: [], cmd: [], env: [], workingDir: "", user: "", stopSignal: "", volumes: [], labels: {}, exposedPorts: [] },
});
const [A, B, DIGEST] = ["docker.io/library/a:1", "docker.io/library/b:1", `docker.io/library/a@sha256:${"0".repeat(64)}`];

test("a name comes off; with the last one, and its digests, the image goes", (t) => {
  t.deepEqual(planRemoval("a:1", image(A, B), A, ["default/p/c"], false), { untag: [A], isLast: false });
  t.deepEqual(planRemoval("a:1", image(A), A, [], false), { untag: [A], isLast: true });
  t.deepEqual(planRemoval("a:1", image(A, DIGEST), A, [], false), { untag: [A, DIGEST], isLast: true });
});

test("what a container uses is refused by its name, and its name comes off by force only", (t) => {
  t.throws(() => planRemoval("a:1", image(A), A, ["default/p/c"], false), { message: /a:1: it is used by the container default\/p\/c/ });
  t.deepEqual(planRemoval("a:1", image(A), A, ["default/p/c"], true), { untag: [A], isLast: true });
  t.throws(() => planRemoval("sha", image(A), undefined, ["x/y/z", "x/y/w"], true), { message: /containers x\/y\/z, x\/y\/w; delete them first/ });
});

test("an ID with several names needs force", (t) => {
  t.throws(() => planRemoval("sha", image(A, B), undefined, [], false), { message: /several names \(a:1, b:1\)/ });
  t.deepEqual(planRemoval("sha", image(A, B), undefined, [], true), { untag: [A, B], isLast: true });
  t.deepEqual(planRemoval("sha", image(), undefined, [], false), { untag: [], isLast: true });
});
