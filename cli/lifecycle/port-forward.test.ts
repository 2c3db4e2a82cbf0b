import test from "ava";
import type { Pod } from "../../base/kube/types.gen.ts";
import { parsePortPair } from "./port-forward.ts";

const pod: Pod = { apiVersion: "v1", kind: "Pod", metadata: { name: "p" }, spec: { containers: [{ name: "c", ports: [{ name: "web", containerPort: 8080 }] }] } };

test("ports as kubectl takes them", (t) => {
  t.deepEqual(parsePortPair("80", pod), { local: 80, remote: 80 });
  t.deepEqual(parsePortPair("8000:80", pod), { local: 8000, remote: 80 });
  t.deepEqual(parsePortPair(":80", pod), { local: 0, remote: 80 });
  t.deepEqual(parsePortPair("8000:web", pod), { local: 8000, remote: 8080 });
  t.deepEqual(parsePortPair("web", pod), { local: 8080, remote: 8080 });
  for (const wrong of ["", "0", "70000", "a:b", "1:2:3", "80:", "-1:80"]) t.throws(() => parsePortPair(wrong, pod), { code: "BadRequest", message: /LOCAL:REMOTE/ }, wrong);
});
