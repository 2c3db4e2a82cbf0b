import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { isCode } from "../../../base/errors.ts";
import { decodeObject } from "./decode.ts";
import { decodeProtobuf } from "./protobuf.ts";
import { schemaKeyOf } from "./schema.ts";
import { encodeBody, randomObject, seeded } from "./testing/random-objects.ts";

type Bodies = Record<string, { readonly body: string }>;
const bodies = JSON.parse(readFileSync(join(import.meta.dirname, "testing/kubectl-1.33-bodies.json"), "utf8")) as Bodies;

/** As the server reads a body that kubectl 1.33 sent (recorded). */
const received = (name: string): Record<string, unknown> => {
  const { apiVersion, kind, object } = decodeProtobuf(Buffer.from(bodies[name]!.body, "base64"));
  const decoded = decodeObject(schemaKeyOf(apiVersion, kind)!, { apiVersion, kind, ...object });
  if (decoded.causes.length + decoded.unknownFields.length > 0) throw new Error(JSON.stringify(decoded));
  return decoded.object as unknown as Record<string, unknown>;
};

test("what kubectl create deployment sends is read as its YAML would be", (t) => {
  t.deepEqual(received("deployment"), {
    apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "web", labels: { app: "web" } },
    spec: {
      replicas: 3, selector: { matchLabels: { app: "web" } }, strategy: {},
      template: { metadata: { labels: { app: "web" } }, spec: { containers: [{ name: "nginx", image: "nginx:1.27", ports: [{ containerPort: 80 }], resources: {} }] } },
    },
    status: { replicas: 0 },
  });
});

test("what kubectl create secret, configmap, job and cronjob send is read", (t) => {
  t.deepEqual(received("secret")["data"], { password: Buffer.from("hunter2").toString("base64") });
  t.deepEqual(received("configmap")["data"], { a: "1", b: "two words" });
  t.deepEqual(received("job")["spec"], { template: { metadata: {}, spec: { restartPolicy: "Never", containers: [{ name: "once", image: "busybox", command: ["date", "-u"], resources: {} }] } } });
  t.like(received("cronjob"), { kind: "CronJob", metadata: { name: "nightly" }, spec: { schedule: "0 0 * * *", jobTemplate: { metadata: { name: "nightly" } } } });
  t.deepEqual(received("namespace"), { apiVersion: "v1", kind: "Namespace", metadata: { name: "blue" }, spec: {}, status: {} });
});

test("any object of any type survives the encoding", (t) => {
  const random = seeded(11);
  const kinds = [
    ["v1", "Pod"], ["v1", "Node"], ["v1", "Event"], ["v1", "Secret"], ["v1", "ConfigMap"], ["apps/v1", "Deployment"], ["batch/v1", "Job"],
    ["batch/v1", "CronJob"], ["coordination.k8s.io/v1", "Lease"], ["autoscaling/v1", "Scale"], ["apps/v1", "DeleteOptions"],
  ] as const;
  for (let i = 0; i < 300; i++) {
    const [apiVersion, kind] = kinds[i % kinds.length]!;
    const key = schemaKeyOf(apiVersion, kind)!;
    const object = randomObject(key, random);
    t.deepEqual(decodeProtobuf(encodeBody(apiVersion, kind, key, object)), { apiVersion, kind, object }, `${kind} of round ${i}`);
  }
});

test("packed numbers, unknown fields and all wire types are read or skipped", (t) => {
  const packed = (no: number, ...values: number[]): Buffer => Buffer.from([no * 8 + 2, values.length, ...values]);
  // PodSecurityContext.supplementalGroups is 4; 99 is nobody's: as varint, fixed64, bytes and fixed32
  const unknown = Buffer.from([0x98, 6, 1, 0x99, 6, 1, 2, 3, 4, 5, 6, 7, 8, 0x9a, 6, 2, 1, 1, 0x9d, 6, 1, 2, 3, 4]);
  const context = Buffer.concat([packed(4, 5, 6), unknown, Buffer.from([32, 7])]);
  const spec = Buffer.concat([Buffer.from([14 * 8 + 2, context.length]), context]);
  const pod = Buffer.concat([Buffer.from([2 * 8 + 2, spec.length]), spec]);
  const meta = Buffer.from("\x0a\x02v1\x12\x03Pod");
  const body = Buffer.concat([Buffer.from("k8s\0"), Buffer.from([10, meta.length]), meta, Buffer.from([18, pod.length]), pod]);
  t.deepEqual(decodeProtobuf(body).object, { spec: { securityContext: { supplementalGroups: [5, 6, 7] } } });
});

test("a body cut off anywhere, or with any byte changed, is refused or read, but never breaks the server", (t) => {
  const random = seeded(5);
  const body = Buffer.from(bodies["deployment"]!.body, "base64");
  const read = (bytes: Buffer): void => {
    try {
      decodeProtobuf(bytes);
    } catch (error) {
      if (!isCode(error, "BadRequest")) throw error;
    }
  };
  t.notThrows(() => {
    for (let n = 0; n < body.length; n++) read(body.subarray(0, n));
    for (let i = 0; i < 2000; i++) {
      const damaged = Buffer.from(body);
      damaged[Math.floor(random() * damaged.length)] = Math.floor(random() * 256);
      read(damaged);
    }
  });
});

test("what is no protobuf, or of an unknown kind, is refused with words", (t) => {
  t.regex(t.throws(() => decodeProtobuf(Buffer.from("{}"))).message, /doesn't start with/);
  t.regex(t.throws(() => decodeProtobuf(encodeBody("foo/v1", "Bar", "core/v1.Pod", {}))).message, /no kind "Bar" is registered for version "foo\/v1"/);
});

