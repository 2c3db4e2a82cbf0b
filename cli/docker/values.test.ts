// Names, sizes, ports, mounts and environment files as docker's flags write them.
import test, { type ExecutionContext } from "ava";
import { isCode } from "../../base/errors.ts";
import { parseDotEnv, parseEnvFile, parseEnvFlag } from "./env-file.ts";
import { parseMountFlag, parseTmpfsFlag, parseVolumeFlag, volumeNameFor } from "./mount-flag.ts";
import { nameFrom, objectName, randomName } from "./names.ts";
import { parsePortMapping, withRandomPorts } from "./port-mapping.ts";
import { binarySize, parseGoDurationMs, parseMilliCpus, parseSizeBytes } from "./sizes.ts";

const fault = (t: ExecutionContext, run: () => unknown): string => {
  const error = t.throws(run);
  t.true(isCode(error, "BadRequest"), String(error));
  return error.message;
};

test("names: docker's spelling leads to Kubernetes'", (t) => {
  t.is(objectName("--name", "My_App"), "my-app");
  t.is(objectName("--name", "/web"), "web");
  t.regex(fault(t, () => objectName("--name", "a b")), /--name "a b" must have at most 63 letters/);
  t.regex(fault(t, () => objectName("--name", "-x")), /begin and end/);
  t.regex(fault(t, () => objectName("--name", "x".repeat(64))), /at most 63/);
  t.is(nameFrom("My Project.v2!"), "my-project-v2");
  for (let seed = 0; seed < 200; seed++) t.notThrows(() => objectName("random", randomName((n) => (seed * 7919) % n)));
});

test("sizes, CPUs and durations", (t) => {
  t.deepEqual(["512m", "1g", "1.5G", "64kb", "100", "2MiB", "10b"].map((s) => parseSizeBytes("-m", s)), [2 ** 29, 2 ** 30, 1.5 * 2 ** 30, 65_536, 100, 2 ** 21, 10]);
  t.regex(fault(t, () => parseSizeBytes("--memory", "lots")), /--memory: "lots" is not a size such as 512m/);
  t.deepEqual(["1.5", ".5", "2"].map((s) => parseMilliCpus("--cpus", s)), [1500, 500, 2000]);
  for (const bad of ["0", "-1", "x", "1.5.2"]) t.regex(fault(t, () => parseMilliCpus("--cpus", bad)), /is not a number of CPUs/);
  t.deepEqual(["30s", "1m30s", "500ms", "1h", "0"].map((s) => parseGoDurationMs("x", s)), [30_000, 90_000, 500, 3_600_000, 0]);
  t.regex(fault(t, () => parseGoDurationMs("x", "30")), /not a duration such as 30s/);
  t.deepEqual([0, 1023, 1536, 13_107_200].map(binarySize), ["0B", "1023B", "1.5KiB", "12.5MiB"]);
});

test("ports", (t) => {
  const one = (text: string) => parsePortMapping("-p", text)[0]!;
  t.deepEqual(one("8080:80"), { hostIp: "", hostPort: 8080, containerPort: 80, protocol: "TCP" });
  t.deepEqual(one("127.0.0.1:8080:80/udp"), { hostIp: "127.0.0.1", hostPort: 8080, containerPort: 80, protocol: "UDP" });
  t.deepEqual(one("[::1]:8080:80"), { hostIp: "::1", hostPort: 8080, containerPort: 80, protocol: "TCP" });
  t.deepEqual(one("0.0.0.0:8080:80").hostIp, "");
  t.deepEqual(one("80"), { hostIp: "", hostPort: 0, containerPort: 80, protocol: "TCP" });
  t.deepEqual(one("127.0.0.1::80"), { hostIp: "127.0.0.1", hostPort: 0, containerPort: 80, protocol: "TCP" });
  t.deepEqual(parsePortMapping("-p", "3000-3002:80-82").map((p) => [p.hostPort, p.containerPort]), [[3000, 80], [3001, 81], [3002, 82]]);
  for (const bad of ["", "x", "80:x", "70000", "8080:80/icmp", "1-3:1-2", "999.1.1.1:80:80", "1:2:3:4", "8080:", "0:80"]) t.regex(fault(t, () => parsePortMapping("--publish", bad)), /^--publish: /, bad);
});

test("any free port: none that is taken, none twice", (t) => {
  const wanted = [...parsePortMapping("-p", "80"), ...parsePortMapping("-p", "443"), ...parsePortMapping("-p", "20000:1")];
  const given = withRandomPorts(wanted, new Set([20_001]), () => 0);
  t.deepEqual(given.map((p) => p.hostPort), [20_002, 20_003, 20_000]);
  t.throws(() => withRandomPorts(wanted, new Set(Array.from({ length: 10_000 }, (_, i) => 20_000 + i)), () => 5), { message: /every host port from 20000 to 29999 is taken/ });
});

test("mounts", (t) => {
  const volume = (text: string) => parseVolumeFlag("-v", text, "/work/app");
  t.deepEqual(volume("/srv:/data:ro"), { type: "bind", source: "/srv", target: "/data", readOnly: true });
  t.deepEqual(volume("./src:/data/"), { type: "bind", source: "/work/app/src", target: "/data", readOnly: false });
  t.deepEqual(volume(".:/home/node/app"), { type: "bind", source: "/work/app", target: "/home/node/app", readOnly: false });
  t.deepEqual(volume("/:/host:rslave"), { type: "bind", source: "/", target: "/host", readOnly: false, propagation: "HostToContainer" });
  t.deepEqual(volume("My_Data:/data"), { type: "volume", source: "my-data", target: "/data", readOnly: false });
  t.deepEqual(volume("/data"), { type: "volume", source: "", target: "/data", readOnly: false });
  for (const bad of ["", "a:b:c:d", "data:relative", ":/x", "/a:/b:wr"]) fault(t, () => volume(bad));
  t.deepEqual(parseTmpfsFlag("--tmpfs", "/run:size=64m,mode=1777"), { type: "tmpfs", target: "/run", readOnly: false, sizeBytes: 2 ** 26, options: "noexec,mode=1777" });
  t.deepEqual(parseMountFlag("--mount", "type=bind,source=src,target=/x,readonly", "/work"), { type: "bind", source: "/work/src", target: "/x", readOnly: true });
  t.deepEqual(parseMountFlag("--mount", "src=data,dst=/x,volume-subpath=a", "/work"), { type: "volume", source: "data", target: "/x", readOnly: false, subPath: "a" });
  t.regex(fault(t, () => parseMountFlag("--mount", "type=bind,target=/x", "/")), /needs source=/);
  t.regex(fault(t, () => parseMountFlag("--mount", "type=npipe,target=/x", "/")), /"npipe" is not bind, volume or tmpfs/);
  t.regex(fault(t, () => parseMountFlag("--mount", "tpye=bind,target=/x", "/")), /"tpye" is not one of type/);
  const used = new Set<string>();
  t.deepEqual([volume("/a/b:/x"), volume("/a.b:/y"), volume("data:/z"), volume("/q")].map((m) => volumeNameFor(m, used)), ["bind-a-b", "bind-a-b-2", "data", "own-q"]);
});

test("environment: docker's files are literal, Compose's know quotes and variables", (t) => {
  t.deepEqual([...parseEnvFile("f", "# note\nA=1\n\nB=\"quoted\" # kept\nHOME\nABSENT\nC=x=y\r\n", { HOME: "/root" })], [["A", "1"], ["B", '"quoted" # kept'], ["HOME", "/root"], ["C", "x=y"]]);
  t.regex(fault(t, () => parseEnvFile("vars", "A=1\nno name=2", {})), /vars:2: "no name=2" is not NAME=value/);
  t.deepEqual(parseEnvFlag("-e", "A=b,c=d", {}), ["A", "b,c=d"]);
  t.deepEqual(parseEnvFlag("-e", "HOME", { HOME: "/h" }), ["HOME", "/h"]);
  t.is(parseEnvFlag("-e", "NONE", {}), undefined);
  const text = 'A=plain # comment\nexport B="two\\nlines ${A}" # c\nC=\'as $is\'\nD=${A}-x\n\n# all\nE: yaml\nF=\nG=a#b\nH\n';
  const expand = (value: string, soFar: ReadonlyMap<string, string>): string => value.replaceAll(/\$\{(\w+)\}/g, (_, n: string) => soFar.get(n) ?? "");
  t.deepEqual([...parseDotEnv(".env", text, expand, { H: "here" })], [["A", "plain"], ["B", "two\nlines plain"], ["C", "as $is"], ["D", "plain-x"], ["E", "yaml"], ["F", ""], ["G", "a#b"], ["H", "here"]]);
  t.regex(fault(t, () => parseDotEnv(".env", "A=1\nB=\"x\" y\n", (v) => v)), /\.env:2: /);
});
