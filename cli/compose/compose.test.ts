// Compose files to what becomes of them: interpolation, merging, services, order, refusals.
import test, { type ExecutionContext } from "ava";
import { isCode } from "../../base/errors.ts";
import { toPodTemplate } from "../docker/container-request.ts";
import { shellWords } from "./fields.ts";
import { interpolate } from "./interpolate.ts";
import { loadProject, type LoadedProject } from "./load.ts";
import { prefixes } from "./logs.ts";
import { oneOffRequest } from "./one-off.ts";
import { configHash, containerName, planProject, templateOf, type ProjectPlan } from "./project.ts";

interface Given {
  readonly files?: Record<string, string>;
  readonly env?: Record<string, string>;
  readonly profiles?: readonly string[];
  readonly wanted?: readonly string[];
  readonly project?: string;
  readonly named?: readonly string[];
}

const load = (text: string, { files = {}, env = {}, project = "", named = [] }: Given = {}): { readonly project: LoadedProject; readonly warnings: string[] } => {
  const warnings: string[] = [];
  const all: Record<string, string> = { "/home/me/My Shop/compose.yaml": text, ...Object.fromEntries(Object.entries(files).map(([k, v]) => [k.startsWith("/") ? k : `/home/me/My Shop/${k}`, v])) };
  const found = loadProject({ files: named, projectName: project, projectDirectory: "", envFiles: [], cwd: "/home/me/My Shop", env, read: (path) => all[path], warn: (w) => warnings.push(w) });
  return { project: found!, warnings };
};
const plan = (text: string, given: Given = {}): ProjectPlan & { readonly warnings: string[] } => {
  const { project, warnings } = load(text, given);
  const files: Record<string, string> = given.files ?? {};
  return { ...planProject(project, { profiles: given.profiles ?? [], wanted: given.wanted ?? [], read: (path) => files[path.replace("/home/me/My Shop/", "")], warn: (w) => warnings.push(w) }), warnings };
};
const service = (yaml: string, given: Given & { readonly rest?: string } = {}) => {
  const made = plan(`services:\n  web:\n    image: web:1\n${yaml.split("\n").map((l) => `    ${l}`).join("\n")}\n${given.rest ?? ""}`, given);
  const [first] = made.services;
  return { ...made, service: first!, template: toPodTemplate(first!.request, {}), container: toPodTemplate(first!.request, {}).spec!.containers[0]! };
};
const fault = (t: ExecutionContext, run: () => unknown): string => {
  const error = t.throws(run);
  t.true(isCode(error, "BadRequest"), String(error.stack));
  return error.message;
};

test("variables: defaults, alternatives, demands, nesting, $$", (t) => {
  const env: Record<string, string> = { A: "a", EMPTY: "", TAG: "1.2" };
  const expand = (text: string, unset?: (n: string) => void): string => interpolate("services.web.image", text, (n) => env[n], unset);
  t.is(expand("$A-${A}-$$A-${A}b"), "a-a-$A-ab");
  t.deepEqual(["${NONE:-x}", "${EMPTY:-x}", "${EMPTY-x}", "${NONE-}", "${A:-x}"].map((s) => expand(s)), ["x", "x", "", "", "a"]);
  t.deepEqual(["${A:+set}", "${EMPTY:+set}", "${EMPTY+set}", "${NONE+set}"].map((s) => expand(s)), ["set", "", "set", ""]);
  t.is(expand("${NONE:-${OTHER:-img:${TAG}}}"), "img:1.2");
  t.regex(fault(t, () => expand("${NONE:?give it}")), /services\.web\.image: variable NONE is needed: give it/);
  t.is(expand("${A?no}"), "a");
  const unset: string[] = [];
  t.is(expand("x${NONE}y$GONE", (n) => unset.push(n)), "xy");
  t.deepEqual(unset, ["NONE", "GONE"]);
  for (const bad of ["${A", "$", "a $ b", "${A b}", "${}"]) t.regex(fault(t, () => expand(bad)), /a \$ of its own is written \$\$/, bad);
});

test(".env is under the environment; what isn't set is told once", (t) => {
  const { project, warnings } = load("services:\n  web:\n    image: ${IMG}:${TAG}${NOTHING}\n    command: echo ${NOTHING}\n", { files: { ".env": "IMG=web\nTAG=1\n" }, env: { TAG: "2" } });
  t.like(project.file, { services: { web: { image: "web:2" } } });
  t.deepEqual(warnings, ["the variable NOTHING is not set: it counts as empty"]);
  t.is(project.name, "my-shop");
  t.is(load("name: Other\nservices: {web: {image: x}}").project.name, "other");
  t.is(load("name: Other\nservices: {web: {image: x}}", { env: { COMPOSE_PROJECT_NAME: "third" } }).project.name, "third");
  t.is(load("services: {web: {image: x}}", { project: "Mine" }).project.name, "mine");
});

test("anchors and merge keys; an override file beside, found by itself", (t) => {
  const { project } = load("x-base: &base\n  restart: always\n  environment: {A: '1', B: '2'}\nservices:\n  web:\n    <<: *base\n    image: web\n    command: [a, b]\n    ports: ['80:80']\n    volumes: ['/a:/data', '/b:/more']\n", {
    files: { "compose.override.yaml": "services:\n  web:\n    environment: [B=3, C=4]\n    command: c\n    ports: ['81:81', '80:80']\n    volumes: ['/z:/data']\n" },
  });
  t.deepEqual((project.file["services"] as Record<string, unknown>)["web"], {
    restart: "always", environment: { A: "1", B: "3", C: "4" }, image: "web", command: "c", ports: ["80:80", "81:81"], volumes: ["/b:/more", "/z:/data"],
  });
});

test("several -f are merged in order, and no override is looked for", (t) => {
  const { project } = load("services: {web: {image: a}}", { files: { "b.yaml": "services: {web: {image: b}, db: {image: d}}", "compose.override.yaml": "services: {web: {image: never}}" }, named: ["compose.yaml", "b.yaml"] });
  t.like(project.file, { services: { web: { image: "b" }, db: { image: "d" } } });
  t.regex(fault(t, () => load("services: {web: {image: a}}", { named: ["nope.yaml"] })), /no such file: .*nope\.yaml/);
});

test("extends: of this file and another, without what it depends on; no circles", (t) => {
  const { project } = load("services:\n  web: {extends: {service: base, file: base.yaml}, environment: {B: '2'}}\n  api: {extends: web, command: serve}\n  db: {image: d}\n", {
    files: { "base.yaml": "services:\n  base: {image: b, environment: {A: '1'}, depends_on: [db]}\n" },
  });
  t.like(project.file, { services: { api: { image: "b", environment: { A: "1", B: "2" }, command: "serve" } } });
  t.regex(fault(t, () => load("services: {a: {extends: b}, b: {extends: a}}")), /circle/);
  t.regex(fault(t, () => load("services: {a: {extends: nope}}")), /services\.a\.extends: there is no service "nope"/);
});

test("commands as text and as words", (t) => {
  t.deepEqual(shellWords("x", `sh -c "echo \\"a b\\" $X" 'it''s' a\\ b ""`), ["sh", "-c", 'echo "a b" $X', "its", "a b", ""]);
  t.regex(fault(t, () => shellWords("services.web.command", "echo 'open")), /services\.web\.command: .* has a ' without its second/);
  t.deepEqual(service("command: sh -c 'exit 3'\nentrypoint: [/run, it]").container, { ...service("").container, command: ["/run", "it"], args: ["sh", "-c", "exit 3"] });
});

test("ports, short and long", (t) => {
  t.deepEqual(service("ports:\n- '8080:80'\n- 127.0.0.1:53:53/udp\n- {target: 443, published: '8443', host_ip: 0.0.0.0}\n- {target: 9000}\nexpose: [7000]").container.ports, [
    { containerPort: 80, protocol: "TCP", hostPort: 8080 }, { containerPort: 53, protocol: "UDP", hostPort: 53, hostIP: "127.0.0.1" }, { containerPort: 443, protocol: "TCP", hostPort: 8443 },
    { containerPort: 9000, protocol: "TCP", hostPort: 0 }, { containerPort: 7000, protocol: "TCP" },
  ]);
  t.regex(fault(t, () => service("ports: ['80:http']")), /services\.web\.ports\[0\]: "80:http"/);
});

test("volumes, short and long: relative to the file, named ones the project's own, external ones as they are", (t) => {
  const { template, volumes } = service("volumes:\n- ./src:/src:ro\n- data:/data\n- theirs:/theirs\n- /anon\n- {type: bind, source: conf, target: /conf, read_only: true}\n- {type: tmpfs, target: /t, tmpfs: {size: 1m}}\ntmpfs: /run", {
    rest: "volumes:\n  data:\n  theirs: {external: true, name: shared}\n",
  });
  t.deepEqual(template.spec!.volumes, [
    { name: "bind-home-me-my-shop-src", hostPath: { path: "/home/me/My Shop/src", type: "" } }, { name: "my-shop-data", persistentVolumeClaim: { claimName: "my-shop-data" } }, { name: "shared", persistentVolumeClaim: { claimName: "shared" } },
    { name: "own-anon", emptyDir: {} }, { name: "bind-home-me-my-shop-conf", hostPath: { path: "/home/me/My Shop/conf", type: "" } }, { name: "tmpfs-t", emptyDir: { medium: "Memory", sizeLimit: "1Mi" } }, { name: "tmpfs-run", emptyDir: { medium: "Memory" } },
  ]);
  t.deepEqual(volumes.map((v) => [v.claim, v.external]), [["my-shop-data", false], ["shared", true]]);
  t.regex(fault(t, () => service("volumes: ['nope:/x']")), /services\.web\.volumes\[0\]: there is no volume "nope" in the file's volumes/);
});

test("environment: files under keys, a key alone from here", (t) => {
  const { container } = service("env_file: [a.env, {path: none.env, required: false}]\nenvironment:\n  A: over\n  FROM_HERE:\n  NOT_SET:\n  N: 5", { files: { "a.env": "A=file\nB=\"x ${C}\"\n" }, env: { FROM_HERE: "h", C: "c" } });
  t.deepEqual(container.env, [{ name: "A", value: "over" }, { name: "B", value: "x c" }, { name: "FROM_HERE", value: "h" }, { name: "N", value: "5" }]);
  t.regex(fault(t, () => service("env_file: gone.env")), /services\.web\.env_file\[0\]: no such file/);
});

test("health, restart, resources, security", (t) => {
  t.deepEqual(service("healthcheck: {test: [CMD, pg_isready, -q], interval: 5s, timeout: 3s, retries: 5}").container.readinessProbe, { exec: { command: ["pg_isready", "-q"] }, periodSeconds: 5, timeoutSeconds: 3, failureThreshold: 5 });
  t.deepEqual(service("healthcheck: {test: curl -f localhost}").container.readinessProbe!.exec, { command: ["/bin/sh", "-c", "curl -f localhost"] });
  t.is(service("healthcheck: {test: [NONE]}").container.readinessProbe, undefined);
  t.regex(fault(t, () => service("healthcheck: {test: [curl]}")), /services\.web\.healthcheck\.test: must begin with CMD, CMD-SHELL or NONE/);
  t.deepEqual([service("restart: 'no'"), service("restart: no"), service("restart: false"), service("restart: always"), service("restart: on-failure:2")].map((s) => s.template.spec!.restartPolicy), ["Never", "Never", "Never", "Always", "OnFailure"]);
  t.deepEqual(service("deploy: {resources: {limits: {cpus: '0.5', memory: 64M}, reservations: {cpus: '0.25', memory: 32M}}}").container.resources, { limits: { cpu: "500m", memory: "64Mi" }, requests: { cpu: "250m", memory: "32Mi" } });
  t.like(service("user: '1000'\nread_only: true\ncap_drop: [ALL]\nstop_grace_period: 1m30s\nstop_signal: SIGQUIT\nhostname: box\nstdin_open: true\ntty: true").template.spec, { terminationGracePeriodSeconds: 90, hostname: "box" });
});

test("replicas: pods with numbers, or a deployment where deploy.replicas says so", (t) => {
  const pods = service("scale: 3");
  t.false(pods.service.asDeployment);
  t.is(containerName("my-shop", pods.service, 2), "my-shop-web-2");
  t.like(service("deploy: {replicas: 4}").service, { asDeployment: true, scale: 4 });
  t.false(service("deploy: {replicas: 2}\nrestart: on-failure").service.asDeployment, "a deployment's containers are always restarted");
  t.regex(fault(t, () => service("container_name: one\nscale: 2")), /container_name: can't go with 2 containers/);
});

test("all find each other by service, container name and alias; a service of the host's network is outside", (t) => {
  const { template } = service("container_name: The_Web\nnetworks: {default: {aliases: [www]}}");
  t.is(template.metadata!.labels!["gantry.io/hosts-group"], "my-shop");
  t.is(template.metadata!.annotations!["gantry.io/hosts-names"], "web,The_Web,www");
  t.true(service("network_mode: host").template.spec!.hostNetwork);
  t.regex(fault(t, () => service("network_mode: service:db")), /services\.web\.network_mode: "service:db" is not host, none or bridge/);
});

test("secrets and configs become files; their content is part of what a container is", (t) => {
  const rest = "secrets:\n  pw: {file: pw.txt}\n  tok: {environment: TOK}\nconfigs:\n  conf: {content: 'a=1'}\n";
  const make = (pw: string) => service("secrets: [pw, {source: tok, target: /etc/tok, mode: 256}]\nconfigs: [{source: conf, target: /etc/conf}]", { rest, files: { "pw.txt": pw }, env: { TOK: "t" } });
  const made = make("one");
  t.deepEqual(made.files.map((f) => [f.kind, f.object, f.entry, f.content]), [["secret", "my-shop-pw", "pw", "one"], ["secret", "my-shop-tok", "tok", "t"], ["config", "my-shop-conf", "conf", "a=1"]]);
  t.deepEqual(made.container.volumeMounts!.map((m) => [m.mountPath, m.subPath]), [["/run/secrets/pw", "pw"], ["/etc/tok", "tok"], ["/etc/conf", "conf"]]);
  t.not(configHash(made.service, made.files), configHash(make("two").service, make("two").files));
  t.is(configHash(made.service, made.files), configHash(make("one").service, make("one").files));
  t.regex(fault(t, () => service("secrets: [none]")), /services\.web\.secrets\[0\]: there is no secret "none"/);
});

test("order: each behind what it needs; profiles; only what is asked for, with its needs", (t) => {
  const text = "services:\n  web: {image: w, depends_on: {db: {condition: service_healthy}, cache: {condition: service_started}}}\n  db: {image: d, depends_on: [disk]}\n  cache: {image: c}\n  disk: {image: x}\n  debug: {image: y, profiles: [tools]}\n";
  t.deepEqual(plan(text).services.map((s) => s.name), ["disk", "db", "cache", "web"]);
  t.deepEqual(plan(text, { wanted: ["db"] }).services.map((s) => s.name), ["disk", "db"]);
  t.deepEqual(plan(text, { profiles: ["tools"] }).services.map((s) => s.name).at(-1), "debug");
  t.deepEqual(plan(text, { wanted: ["debug"] }).services.map((s) => s.name), ["debug"]);
  t.regex(fault(t, () => plan(text, { wanted: ["nope"] })), /no such service: nope; there are: web, db/);
  t.regex(fault(t, () => plan("services: {a: {image: x, depends_on: [b]}, b: {image: y, depends_on: [a]}}")), /services\.a\.depends_on: goes round in a circle: a -> b -> a/);
  t.regex(fault(t, () => plan("services: {a: {image: x, depends_on: [gone]}}")), /services\.a\.depends_on: there is no service "gone"/);
});

test("what can't be done is refused with its place; what does no harm is told", (t) => {
  t.deepEqual(service("logging: {driver: json-file}\nlinks: [db]").warnings, ["services.web.logging has no effect here", "services.web.links has no effect here"]);
  t.regex(fault(t, () => service("gpus: all")), /services\.web\.gpus: is not supported: there are no device plugins/);
  t.regex(fault(t, () => service("enviroment: {A: 1}")), /services\.web\.enviroment: there is no such key; did you mean environment\?/);
  t.regex(fault(t, () => plan("services: {web: {image: x}}\nvolumen: {}")), /volumen: there is no such key/);
  t.regex(fault(t, () => plan("services: {web: {command: x}}")), /services\.web: needs an image or a build/);
  t.regex(fault(t, () => load("services: [a]\n")), /services: expected keys and values, not \["a"\]/);
  t.regex(fault(t, () => load("services:\n  a: b: c\n")), /compose\.yaml: .*line 2/i);
  t.regex(fault(t, () => load("services:\n  a: !reset null\n")), /!reset/);
});

test("labels tell project, service, number and hash; builds have names", (t) => {
  const made = plan("services: {web: {build: ./app, labels: {note: 'a sentence, in short', tier: front}}}");
  const [web] = made.services;
  t.like(web!.build, { context: "/home/me/My Shop/app", dockerfile: "" });
  t.is(web!.request.image, "my-shop-web");
  const { labels, annotations } = templateOf(made, web!, web!.request, { "com.docker.compose.container-number": "1" }).metadata!;
  t.like(labels, { tier: "front", "com.docker.compose.project": "my-shop", "com.docker.compose.service": "web", "com.docker.compose.container-number": "1" });
  t.like(annotations, { note: "a sentence, in short" });
});

test("one-off containers: the service's settings with the command line's over them, and outside of its names", (t) => {
  const made = plan("services: {web: {image: w, command: serve, ports: ['80:80'], environment: {A: '1'}}}");
  const options = { command: ["sh"], detach: false, rm: true, name: "", env: ["A=2"], noDeps: false, noTty: false, servicePorts: false, publish: [], volume: [], user: "", workdir: "", entrypoint: "" };
  const request = oneOffRequest(made, "web", options, { suffix: "ab12", terminal: true, env: {}, cwd: "/" });
  t.like(request, { name: "my-shop-web-run-ab12", args: ["sh"], ports: [], tty: true, stdin: true, removeAfter: "0s", aliases: [] });
  t.is(request.env.get("A"), "2");
  t.is(request.labels.get("com.docker.compose.oneoff"), "True");
});

test("names before lines of the log stand in one column", (t) => {
  t.deepEqual(prefixes(["web-1", "database-1"], false), ["web-1       | ", "database-1  | "]);
});

test("a service's block I/O", (t) => {
  const { template, warnings } = service("blkio_config: {weight: 300, weight_device: [{path: /dev/sda, weight: 400}], device_read_bps: [{path: /dev/sdb, rate: '12mb'}, {path: /dev/sdc, rate: 5}], device_write_iops: [{path: /dev/sda, rate: 30}]}");
  t.like(template.metadata!.annotations, { "gantry.io/blkio-weight": "300", "gantry.io/device-read-bps": "/dev/sdb:12582912,/dev/sdc:5", "gantry.io/device-write-iops": "/dev/sda:30" });
  t.deepEqual(warnings, ["services.web.blkio_config.weight_device has no effect here"]);
  t.throws(() => service("blkio_config: {wight: 3}"), { message: /services\.web\.blkio_config\.wight: there is no such key; there are weight/ });
  t.throws(() => service("blkio_config: {device_read_iops: [{path: /dev/sda}]}"), { message: /services\.web\.blkio_config\.device_read_iops\[0\]: "\/dev\/sda:" is not \/dev\/NAME:RATE/ });
});

test("a service's limits, devices and init; the image's health check holds unless it is turned off", (t) => {
  const { template, service: made } = service("init: true\npids_limit: 50\nulimits: {nproc: 64, nofile: {soft: 10, hard: 20}}\ndevices: ['/dev/fuse:/dev/f', {source: /dev/kvm, permissions: r}]\ncpu_shares: 512\ncpuset: '0,1'\nmem_limit: 64m\nmemswap_limit: -1\noom_score_adj: 5\ncpu_quota: 50000\ntmpfs: /t:mode=0700");
  t.like(template.metadata!.annotations, {
    "gantry.io/init": "true", "gantry.io/pids-limit": "50", "gantry.io/ulimits": "nproc=64:64,nofile=10:20", "gantry.io/devices": "/dev/fuse:/dev/f:rwm,/dev/kvm:/dev/kvm:r", "gantry.io/cpu-shares": "512",
    "gantry.io/cpuset-cpus": "0,1", "gantry.io/memory-swap": "-1", "gantry.io/oom-score-adj": "5", "tmpfs.gantry.io/tmpfs-t": "noexec,mode=0700",
  });
  t.is(made.request.milliCpus, 500);
  t.deepEqual(made.request.imageHealth, {});
  t.deepEqual(service("healthcheck: {interval: 5s}").service.request.imageHealth, { intervalMs: 5000 });
  t.is(service("healthcheck: {disable: true}").service.request.imageHealth, undefined);
  t.regex(fault(t, () => service("ulimits: {files: 1}")), /services\.web\.ulimits\.files: "files=1:1" is not NAME=SOFT/);
});
