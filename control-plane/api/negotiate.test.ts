import test from "ava";
import { negotiate } from "./negotiate.ts";

const none = new URLSearchParams();

test("kubectl's Accept header gives a v1 Table", (t) => {
  const accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
  t.deepEqual(negotiate(accept, none), { encoding: "json", form: { as: "table", apiVersion: "meta.k8s.io/v1", includeObject: "Metadata" } });
  t.deepEqual(negotiate(accept, new URLSearchParams("includeObject=Object")).form, { as: "table", apiVersion: "meta.k8s.io/v1", includeObject: "Object" });
});

test("a typed Go client, which prefers protobuf, gets JSON", (t) => {
  t.deepEqual(negotiate("application/vnd.kubernetes.protobuf,application/json", none), { encoding: "json", form: { as: "object" } });
  t.deepEqual(negotiate("application/vnd.kubernetes.protobuf", none), { encoding: "json", form: { as: "object" } });
});

test("no Accept header, or any, gives JSON; YAML is served; q decides", (t) => {
  t.is(negotiate(undefined, none).encoding, "json");
  t.is(negotiate("*/*", none).encoding, "json");
  t.is(negotiate("application/yaml", none).encoding, "yaml");
  t.is(negotiate("application/json;q=0.5, application/yaml;q=0.9", none).encoding, "yaml");
});

test("metadata only", (t) => {
  t.deepEqual(negotiate("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", none).form, { as: "metadata", apiVersion: "meta.k8s.io/v1" });
});

test("an unknown form falls through to the next, and nothing acceptable is an error that names what there is", (t) => {
  t.deepEqual(negotiate("application/json;as=Picture;g=meta.k8s.io;v=v1,application/json", none).form, { as: "object" });
  t.throws(() => negotiate("image/png", none), { code: "NotAcceptable", message: /application\/json.*image\/png/ });
  t.throws(() => negotiate(undefined, new URLSearchParams("includeObject=All")), { code: "BadRequest", message: /includeObject.*All/ });
});
