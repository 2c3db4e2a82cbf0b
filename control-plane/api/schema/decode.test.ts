import test from "ava";
import { decodeError, decodeObject, strictDecodingError, unknownFieldMessage } from "./decode.ts";
import { duplicateFields } from "./duplicate-fields.ts";
import { canonicalQuantity } from "./quantity-form.ts";
import { randomObject, seeded } from "./testing/random-objects.ts";

const pod = (spec: unknown): ReturnType<typeof decodeObject> => decodeObject("core/v1.Pod", { apiVersion: "v1", kind: "Pod", metadata: { name: "a" }, spec });
const specOf = (spec: unknown): unknown => (pod(spec).object as unknown as { spec: unknown }).spec;

test("nulls, empty lists and maps, and zeros that mean absent are left out", (t) => {
  t.deepEqual(specOf({ nodeName: "", hostNetwork: false, tolerations: [], nodeSelector: {}, containers: [], priority: 0, affinity: null, volumes: [{ name: "v", emptyDir: {} }] }),
    { containers: [], priority: 0, volumes: [{ name: "v", emptyDir: {} }] });
});

test("what may be false or zero with a meaning stays", (t) => {
  t.deepEqual(specOf({ enableServiceLinks: false, terminationGracePeriodSeconds: 0 }), { enableServiceLinks: false, terminationGracePeriodSeconds: 0 });
});

test("quantities, times and base64 get their one form", (t) => {
  t.deepEqual(specOf({ containers: [{ name: "c", resources: { limits: { cpu: 0.5, memory: "1024Mi" } } }] }), { containers: [{ name: "c", resources: { limits: { cpu: "500m", memory: "1Gi" } } }] });
  const meta = decodeObject("core/v1.Pod", { metadata: { creationTimestamp: "2026-01-02T05:04:05.678+02:00" } }).object.metadata;
  t.is(meta.creationTimestamp, "2026-01-02T03:04:05Z");
  const lease = decodeObject("coordination/v1.Lease", { spec: { renewTime: "2026-01-02T03:04:05.6Z" } }).object as unknown as { spec: object };
  t.deepEqual(lease.spec, { renewTime: "2026-01-02T03:04:05.600000Z" });
});

const QUANTITIES: readonly (readonly [string, string | undefined])[] = [
  ["1000m", "1"], ["0.5", "500m"], ["1024Mi", "1Gi"], ["1.5Gi", "1536Mi"], ["1000", "1k"], ["100", "100"], ["0", "0"], ["-1", "-1"], ["+2", "2"], [".5", "500m"],
  ["1e3", "1e3"], ["12e6", "12e6"], ["1500", "1500"], ["512", "512"], ["512Ki", "512Ki"], ["0.1Ki", "102400m"], ["1E", "1E"], ["0.0000000001", "1n"], ["123456789k", "123456789k"],
  ["", undefined], ["one", undefined], ["1 Gi", undefined], ["1gi", undefined], [".", undefined], ["--1", undefined],
];
for (const [text, canonical] of QUANTITIES) {
  test(`the quantity "${text}" ${canonical === undefined ? "is none" : `is written ${canonical}`}`, (t) => t.is(canonicalQuantity(text), canonical));
}

test("a canonical quantity stays as it is", (t) => {
  const random = seeded(3);
  for (let i = 0; i < 500; i++) {
    const digits = `${Math.floor(random() * 10 ** (random() * 9))}${random() < 0.3 ? `.${Math.floor(random() * 1000)}` : ""}`;
    const text = digits + ["", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e2", "u"][Math.floor(random() * 10)]!;
    const once = canonicalQuantity(text);
    t.not(once, undefined, text);
    t.is(canonicalQuantity(once!), once, text);
  }
});

test("unknown fields are named by their path and left out", (t) => {
  const { object, unknownFields } = pod({ contaners: [], containers: [{ name: "c", imagePullPolicyy: "Always" }] });
  t.deepEqual(unknownFields.map(unknownFieldMessage), ['unknown field "spec.contaners"', 'unknown field "spec.containers[0].imagePullPolicyy"']);
  t.deepEqual((object as unknown as { spec: unknown }).spec, { containers: [{ name: "c" }] });
  t.is(strictDecodingError({ kind: "Pod", version: "v1" }, unknownFields.map(unknownFieldMessage)).message,
    'Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.contaners", unknown field "spec.containers[0].imagePullPolicyy"');
});

test("names that every object inherits are unknown fields, and as map keys stay keys", (t) => {
  t.deepEqual(pod(JSON.parse('{"constructor": 1, "__proto__": {"x": 1}}')).unknownFields.map((f) => f.path), ["spec.constructor", "spec.__proto__"]);
  const labels = decodeObject("core/v1.Pod", JSON.parse('{"metadata": {"labels": {"__proto__": "x"}}}')).object.metadata.labels!;
  t.deepEqual(Object.entries(labels), [["__proto__", "x"]]);
});

const WRONG: readonly (readonly [string, unknown, string, string])[] = [
  ["text for a number", { priority: "high" }, "spec.priority", 'json: cannot unmarshal string into Go struct field PodSpec.spec.priority of type int32 (got "high")'],
  ["a number for text", { containers: [{ env: [{ name: "A", value: 1 }] }] }, "spec.containers[0].env[0].value", "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string"],
  ["a fraction for a whole number", { priority: 1.5 }, "spec.priority", "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.priority of type int32"],
  ["a number too large", { priority: 3_000_000_000 }, "spec.priority", "json: cannot unmarshal number 3000000000 into Go struct field PodSpec.spec.priority of type int32"],
  ["an object for a list", { containers: {} }, "spec.containers", "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"],
  ["a list for a map", { nodeSelector: [] }, "spec.nodeSelector", "json: cannot unmarshal array into Go struct field PodSpec.spec.nodeSelector of type map[string]string"],
  ["text for yes or no", { hostNetwork: "yes" }, "spec.hostNetwork", 'json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool (got "yes")'],
];
for (const [name, spec, field, message] of WRONG) {
  test(`${name} is refused in Go's words`, (t) => t.deepEqual(pod(spec).causes, [{ field, reason: "FieldValueTypeInvalid", message }]));
}

test("a bad quantity, time or base64 text is refused with its value", (t) => {
  t.regex(pod({ overhead: { cpu: "1 core" } }).causes[0]!.message, /spec\.overhead\.cpu.*"1 core" is none/);
  t.regex(decodeObject("core/v1.Pod", { metadata: { creationTimestamp: "yesterday" } }).causes[0]!.message, /cannot parse "yesterday"/);
  t.regex(decodeObject("core/v1.Pod", { metadata: { creationTimestamp: "2026-02-30T00:00:00Z" } }).causes[0]!.message, /cannot parse/);
  t.regex(decodeObject("core/v1.Secret", { data: { p: "a b" } }).causes[0]!.message, /illegal base64 data at input byte 1/);
  t.is(decodeError({ kind: "Pod", version: "v1" }, pod({ priority: "x" }).causes).code, "BadRequest");
});

test("what is no object at all is refused", (t) => {
  for (const input of [null, 1, "x", []]) t.is(decodeObject("core/v1.Pod", input).causes.length, 1);
});

test("decoding what was decoded changes nothing", (t) => {
  const random = seeded(7);
  for (let i = 0; i < 200; i++) {
    const key = ["core/v1.Pod", "core/v1.Node", "apps/v1.Deployment", "batch/v1.CronJob"][i % 4]!;
    const { object, causes } = decodeObject(key, randomObject(key, random));
    t.deepEqual(causes, []);
    t.deepEqual(decodeObject(key, object).object, object);
  }
});

test("keys that stand twice are found, with their path, and only they", (t) => {
  t.deepEqual(duplicateFields('{"spec":{"replicas":1,"replicas":2,"t":[{"a":1},{"a":1,"b":"a","a\\u0000":0,"a":3}]},"kind":"x"}'),
    ['duplicate field "spec.replicas"', 'duplicate field "spec.t[1].a"']);
  t.deepEqual(duplicateFields('{"a":{"b":1},"b":{"a":1,"c":["x","x",{"x":1}]},"d":"{\\"a\\":1,\\"a\\":2}"}'), []);
});
