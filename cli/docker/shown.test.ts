// What is shown of containers: rows of ps, filters, inspect, events, stats, states on the way up.
import test, { type ExecutionContext } from "ava";
import { isCode } from "../../base/errors.ts";
import type { ContainerStatus, Pod } from "../../base/kube/types.gen.ts";
import { compileTemplate, formatRows } from "../format.ts";
import { CONTAINER_FORMAT, PS_FILTERS, containerRow, isUp, passesFilters, phaseOf, statusText } from "./container-rows.ts";
import { eventLine, parseInstantMs, podEvents } from "./events.ts";
import { parseFilters } from "./filters.ts";
import { containersOf, findContainer, matchWord } from "./find-container.ts";
import { inspectContainer } from "./inspect.ts";
import { networkRows } from "./networks.ts";
import { nodesHere } from "./run.ts";
import { parseGoDurationMs } from "./sizes.ts";
import { exitCodeOf, startState } from "./start-state.ts";
import { statsRows } from "./stats.ts";

const NOW = Date.parse("2026-01-01T01:00:00Z");
const ago = (seconds: number): string => new Date(NOW - seconds * 1000).toISOString();

const status = (state: ContainerStatus["state"], more: Partial<ContainerStatus> = {}): ContainerStatus => ({ name: "web", image: "nginx", imageID: "nginx@sha256:feed", containerID: "crun://0123456789abcdef0123", ready: true, restartCount: 0, state, ...more });
const running = (seconds: number, more: Partial<ContainerStatus> = {}): ContainerStatus => status({ running: { startedAt: ago(seconds) } }, more);
const ended = (exitCode: number, reason = "Error", message = ""): ContainerStatus => status({ terminated: { exitCode, reason, message, startedAt: ago(10), finishedAt: ago(5), containerID: "crun://x" } });
const pod = (s: ContainerStatus | undefined, more: { readonly metadata?: Partial<Pod["metadata"]>; readonly spec?: Partial<NonNullable<Pod["spec"]>>; readonly status?: Partial<NonNullable<Pod["status"]>>; readonly container?: object } = {}): Pod => ({
  apiVersion: "v1", kind: "Pod", metadata: { name: "web", namespace: "default", uid: "9f9f", creationTimestamp: ago(200), labels: { tier: "front" }, ...more.metadata },
  spec: { nodeName: "node-1", restartPolicy: "Never", containers: [{ name: "web", image: "nginx:1", command: ["nginx"], args: ["-g", "daemon off;"], ports: [{ containerPort: 80, hostPort: 8080 }, { containerPort: 443 }], ...more.container }], ...more.spec },
  status: { phase: "Running", podIP: "10.0.0.1", hostIP: "192.0.2.1", ...(s ? { containerStatuses: [s] } : {}), ...more.status },
});
const one = (p: Pod) => containersOf(p)[0]!;

test("a row as docker's, and the table around it", (t) => {
  const row = containerRow(one(pod(running(185))), NOW, false);
  t.like(row, { ID: "0123456789ab", Image: "nginx:1", Command: '"nginx -g daemon off;"', RunningFor: "3 minutes ago", Status: "Up 3 minutes", Ports: "0.0.0.0:8080->80/tcp, 443/tcp", Names: "web", Node: "node-1" });
  t.is(formatRows("", [row], CONTAINER_FORMAT).split("\n")[0], "CONTAINER ID   IMAGE     COMMAND                  CREATED         STATUS         PORTS                           NAMES     NODE");
  t.is(formatRows("{{.Names}} {{.State}}", [row], CONTAINER_FORMAT), "web running");
});

test("states in docker's words", (t) => {
  const probe = { readinessProbe: { periodSeconds: 10, failureThreshold: 3 } };
  const text = (p: Pod): string => statusText(one(p), NOW);
  t.is(text(pod(running(185), { container: probe })), "Up 3 minutes (healthy)");
  t.is(text(pod(running(5, { ready: false }), { container: probe })), "Up 5 seconds (health: starting)");
  t.is(text(pod(running(90, { ready: false }), { container: probe })), "Up About a minute (unhealthy)");
  t.is(text(pod(running(60), { metadata: { annotations: { "gantry.io/desired-state": "paused" } } })), "Up About a minute (Paused)");
  t.is(text(pod(ended(0, "Completed"), { status: { phase: "Succeeded" } })), "Exited (0) 5 seconds ago");
  t.is(text(pod(ended(137, "OOMKilled"))), "Exited (137) 5 seconds ago");
  t.is(text(pod(status({ waiting: { reason: "CrashLoopBackOff" } }, { restartCount: 3, lastState: { terminated: { exitCode: 1, finishedAt: ago(2) } } }))), "Restarting (1) 2 seconds ago");
  t.is(text(pod(status({ waiting: { reason: "ContainerCreating" } }))), "Created");
  t.is(text(pod(status({ waiting: { reason: "ImagePullBackOff" } }))), "Created (ImagePullBackOff)");
  t.is(text(pod(running(5), { metadata: { deletionTimestamp: ago(0) } })), "Removal In Progress");
  t.deepEqual([pod(running(1)), pod(ended(0)), pod(undefined)].map((p) => isUp(one(p))), [true, false, false]);
});

test("filters: one key's values are alternatives, keys must all hold, labels each", (t) => {
  const found = one(pod(running(60), { metadata: { labels: { tier: "front", app: "shop" } } }));
  const passes = (...texts: string[]): boolean => passesFilters(found, parseFilters(texts, PS_FILTERS), NOW);
  for (const yes of [["name=we"], ["status=running"], ["status=exited", "status=running"], ["label=tier"], ["label=tier=front", "label=app=shop"], ["ancestor=nginx"], ["ancestor=nginx:1"], ["node=node-1"], ["id=0123"], ["health=none"]]) t.true(passes(...yes), yes.join(" "));
  for (const no of [["name=x"], ["status=exited"], ["label=tier=back"], ["label=tier", "label=gone"], ["ancestor=redis"], ["node=node-2"], ["name=we", "status=paused"]]) t.false(passes(...no), no.join(" "));
  const error = t.throws(() => passes("stauts=x"));
  t.true(isCode(error, "BadRequest"));
  t.regex(error.message, /there is no key "stauts"; did you mean status\?/);
});

test("a container is found by its name, as docker spells it, and by the beginning of its id", (t) => {
  const two = pod(running(1), { metadata: { name: "my-app", uid: "77aa" }, spec: { containers: [{ name: "web" }, { name: "log" }] } });
  const pods = [pod(running(1)), two];
  t.is(findContainer(pods, "My_App").pod, two);
  t.is(findContainer(pods, "my-app/log").container.name, "log");
  t.is(findContainer([pods[0]!], "0123456").pod.metadata.name, "web");
  const fault = (e: ExecutionContext, word: string): string => e.throws(() => findContainer(pods, word)).message;
  const init = pod(running(1), { metadata: { name: "made", uid: "0a1b2c3d-4e5f-6a7b" }, spec: { containers: [{ name: "main" }], initContainers: [{ name: "first" }] }, status: { containerStatuses: [], initContainerStatuses: [{ name: "first", containerID: "crun://fedc" }] } } as never);
  t.deepEqual(matchWord([init], "pod/made"), { pod: init });
  t.deepEqual(matchWord([init], "made/first"), { pod: init, container: "first" });
  t.deepEqual(matchWord([init], "fed"), { pod: init, container: "first" });
  t.deepEqual(matchWord([init], "0a1b2c3d4e5f"), { pod: init }, "as ps shows it before there is a container");
  t.is(matchWord([init], "fe"), undefined);
  t.regex(fault(t, "0123"), /beginning of several ids: web, my-app\/web; give more of it/);
  t.regex(fault(t, "gone"), /no such container: gone/);
  t.regex(fault(t, "my-app/x"), /no container "x"; there are: web, log/);
});

test("inspect: docker's paths, and the pod beside", (t) => {
  const web = pod(running(60), { container: { volumeMounts: [{ name: "b", mountPath: "/data", readOnly: true }], env: [{ name: "A", value: "1" }], resources: { limits: { memory: "64Mi", cpu: "1500m" } } } });
  web.spec!.volumes = [{ name: "b", hostPath: { path: "/srv" } }];
  const shown = inspectContainer(one(web), undefined, NOW);
  const render = (template: string): string => compileTemplate(template)(shown);
  t.is(render("{{.State.Status}} {{.State.Running}} {{.Name}} {{.NetworkSettings.IPAddress}}"), "running true /web 10.0.0.1");
  t.is(render("{{range .Mounts}}{{.Type}} {{.Source}}->{{.Destination}} {{.RW}};{{end}}"), "bind /srv->/data false;");
  t.is(render('{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}'), "8080");
  t.is(render("{{json .Config.Env}} {{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}"), '["A=1"] 67108864 1500000000');
  t.is(render("{{.Kubernetes.metadata.name}} {{.Node.Name}}"), "web node-1");
});

test("events from a pod's life", (t) => {
  const actions = (before: Pod | undefined, after: Pod | undefined): string[] => podEvents(before, after, NOW).map((e) => e.Action);
  const fresh = pod(undefined, { status: { phase: "Pending" } });
  t.deepEqual(actions(undefined, fresh), ["create"]);
  t.deepEqual(actions(fresh, pod(running(1))), ["start"]);
  t.deepEqual(actions(pod(running(9)), pod(ended(3))), ["die"]);
  t.deepEqual(actions(fresh, pod(ended(3))), ["start", "die"], "it came and went between two looks");
  t.deepEqual(actions(pod(running(9)), pod(ended(137, "OOMKilled"))), ["oom", "die"]);
  t.deepEqual(actions(pod(running(9)), pod(running(9))), []);
  t.deepEqual(actions(pod(running(9)), pod(running(1, { restartCount: 1, lastState: ended(1).state! }))), ["die", "restart"]);
  t.deepEqual(actions(pod(running(9)), pod(running(9), { metadata: { deletionTimestamp: ago(0) } })), ["stop"]);
  t.deepEqual(actions(pod(ended(0)), undefined), ["destroy"]);
  t.regex(eventLine(podEvents(pod(running(9)), pod(ended(3)), NOW)[0]!), /^2026-01-01T00:59:55\.000Z container die 0123456789abcdef0123 \(exitCode=3, image=nginx:1, name=web, node=node-1\)$/);
  const instant = (text: string) => parseInstantMs(text, NOW, (x) => parseGoDurationMs("--since", x));
  t.deepEqual([instant("10m"), instant("2026-01-01T00:00:00Z"), instant("1767225600"), instant("soon")], [NOW - 600_000, NOW - 3_600_000, 1_767_225_600_000, undefined]);
});

test("stats", (t) => {
  const [row] = statsRows({ pod: "web", networkRx: 1260, networkTx: 0, containers: [{ name: "web", id: "crun://0123456789abcdef", cpuNanoCores: 1_505_000_000, memoryBytes: 64 * 2 ** 20, memoryLimitBytes: 2 ** 30, pids: 3, blockRead: 0, blockWrite: 4096 }] }, "node-1");
  t.deepEqual(row, { ID: "0123456789ab", Container: "web", Name: "web", CPUPerc: "150.50%", MemUsage: "64MiB / 1GiB", MemPerc: "6.25%", NetIO: "1.26kB / 0B", BlockIO: "0B / 4.1kB", PIDs: "3", Node: "node-1" });
});

test("on the way up: what is waited for, and what will never be, with docker's exit codes", (t) => {
  t.like(startState(pod(undefined, { spec: { nodeName: undefined }, status: { phase: "Pending" } })), { kind: "waiting" });
  t.like(startState(pod(undefined, { spec: { nodeName: undefined }, status: { conditions: [{ type: "PodScheduled", status: "False", message: "no room" }] } })), { kind: "unschedulable", message: "no room" });
  t.like(startState(pod(status({ waiting: { reason: "ErrImagePull", message: "not there" } }))), { kind: "failed", exitCode: 125, message: "image nginx: not there" });
  t.like(startState(pod(status({ waiting: { reason: "ContainerCreating", message: "pulling 3 MB of 9 MB" } }))), { kind: "waiting", text: "pulling nginx: pulling 3 MB of 9 MB" });
  t.like(startState(pod(status({ waiting: { reason: "Created" } }))), { kind: "created" });
  t.like(startState(pod(ended(128, "StartError", 'exec: "x": executable file not found in $PATH'))), { kind: "failed", exitCode: 127 });
  t.like(startState(pod(ended(128, "StartError", 'exec: "/etc": permission denied'))), { kind: "failed", exitCode: 126 });
  t.like(startState(pod(running(1))), { kind: "running" });
  t.deepEqual([exitCodeOf(pod(running(1))), exitCodeOf(pod(ended(9), { status: { phase: "Failed" } })), exitCodeOf(pod(ended(0), { status: { phase: "Succeeded" } }))], [undefined, 9, 0]);
});

test("networks, and the nodes of this machine", (t) => {
  const node = (name: string, bootID: string) => ({ apiVersion: "v1", kind: "Node", metadata: { name }, spec: { podCIDR: `10.${name.at(-1)}.0.0/24` }, status: { nodeInfo: { bootID } as never } });
  t.deepEqual(nodesHere([node("n1", "a"), node("n2", "b")], "b"), ["n2"]);
  const rows = networkRows([pod(undefined), pod(undefined, { metadata: { labels: { "gantry.io/hosts-group": "shop" } } }), pod(undefined, { spec: { hostNetwork: true } })], [node("n1", "a")]);
  t.deepEqual(rows.map((r) => [r["Name"], r["Containers"]]), [["bridge", "2"], ["host", "1"], ["none", "0"], ["shop", "1"]]);
  t.is(phaseOf(one(pod(undefined, { status: { phase: "Failed" } }))), "dead");
});
