// ScheduledScaler over the API: found by discovery, validated in words, printed as a table, patched.
import test from "ava";
import { startTestApi } from "../helpers/api-server.ts";

const PATH = "/apis/gantry.io/v1/namespaces/default/scheduledscalers";
const scaler = (spec: object = {}): object => ({
  apiVersion: "gantry.io/v1", kind: "ScheduledScaler", metadata: { name: "night" },
  spec: { scaleTargetRef: { kind: "Deployment", name: "web" }, timeZone: "Asia/Seoul", entries: [{ schedule: "0 0 * * *", replicas: 100 }, { schedule: "0 6 * * *", replicas: 10 }], ...spec },
});

test("made, read, patched, printed and refused like any other kind", async (t) => {
  await using api = await startTestApi();
  const made = await api.call("POST", PATH, { body: scaler() });
  t.is(made.status, 201);
  t.is(made.json.spec.scaleTargetRef.apiVersion, "apps/v1", "filled in");
  t.is(made.json.metadata.generation, 1);
  const listed = await api.call("GET", PATH, { headers: { accept: "application/json;as=Table;v=v1;g=meta.k8s.io" } });
  t.deepEqual(listed.json.rows[0].cells.slice(0, 5), ["night", "Deployment/web", "False", "<none>", "<none>"]);
  const patched = await api.call("PATCH", `${PATH}/night`, { body: { spec: { suspend: true } }, headers: { "content-type": "application/merge-patch+json" } });
  t.is(patched.json.metadata.generation, 2);
  const refused = await api.call("POST", PATH, { body: { ...scaler({ entries: [{ schedule: "0 25 * * *", replicas: -1 }] }), metadata: { name: "bad" } } });
  t.is(refused.status, 422);
  t.regex(refused.json.message, /spec\.entries\[0\]\.schedule: Invalid value: "0 25 \* \* \*": .*25 is not between 0 and 23/);
  t.regex(refused.json.message, /spec\.entries\[0\]\.replicas: Invalid value: -1: must be greater than or equal to 0/);
  const unknown = await api.call("POST", `${PATH}?fieldValidation=Strict`, { body: { ...scaler({ replica: 3 }), metadata: { name: "typo" } } });
  t.is(unknown.status, 400);
  const discovery = await api.call("GET", "/apis/gantry.io/v1");
  t.like(discovery.json.resources[0], { name: "scheduledscalers", kind: "ScheduledScaler", namespaced: true, shortNames: ["ss"] });
});
