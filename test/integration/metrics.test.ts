// What both daemons show of themselves, on a real cluster with 100 containers: metrics by Prometheus' rules and read by a real Prometheus
// (where one is installed), readiness with reasons, logs that say which pod, node and session, and no secret in any of them. Needs root.
import { once } from "node:events";
import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { describeError } from "../../base/errors.ts";
import { DEPLOYMENTS, PODS, SECRETS } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import { ApiClient, loadKubeconfig, text } from "../../cli/api-client.ts";
import { findOnPath } from "../../cli/cluster/prerequisites.ts";
import { until, useCluster } from "../helpers/cluster.ts";
import { freePorts } from "../helpers/control-planes.ts";
import { deployment, isReady } from "../helpers/workloads.ts";

const dir = mkdtempSync(join(tmpdir(), "gantry-metrics-"));
test.after.always(() => rmSync(dir, { recursive: true, force: true }));
const secret = (): string => randomBytes(18).toString("base64url");
const bearer = secret();
writeFileSync(join(dir, "tokens"), `${bearer},monitor,1,"system:masters"\n`, { mode: 0o600 });

const cluster = useCluster(test, { nodes: 2, env: { GANTRY_LOG_LEVEL: "debug", GANTRY_TOKEN_FILE: join(dir, "tokens") } });

const agentUrl = (node: string, path: string): string => `http://${cluster().state.hosts.find((h) => h.name === node)!.address}:6445${path}`;
const scrape = async (daemon: string): Promise<string> =>
  daemon === "control-plane" ? text(await cluster().client.send("GET", "/metrics", { accept: "*/*" })) : (await fetch(agentUrl(daemon, "/metrics"))).text();
const readiness = async (daemon: string): Promise<{ readonly status: number; readonly text: string }> => {
  const response = await fetch(agentUrl(daemon, "/readyz"));
  return { status: response.status, text: await response.text() };
};
const bearerClient = (token: string): ApiClient => new ApiClient({ ...loadKubeconfig(cluster().layout.kubeconfig), cert: undefined, key: undefined, token });

interface Family {
  readonly type: string;
  readonly help: string;
  readonly samples: { readonly name: string; readonly labels: string; readonly value: number }[];
}

/** The text format: https://prometheus.io/docs/instrumenting/exposition_formats/ */
const parse = (exposition: string): ReadonlyMap<string, Family> => {
  const families = new Map<string, Family>();
  let current: Family | undefined;
  let help: RegExpExecArray | null = null;
  for (const line of exposition.split("\n").filter((l) => l !== "")) {
    help = /^# HELP (\S+) (.+)$/.exec(line) ?? help;
    const type = /^# TYPE (\S+) (\S+)$/.exec(line);
    if (type) families.set(type[1]!, (current = { type: type[2]!, help: help?.[1] === type[1] ? help![2]! : "", samples: [] }));
    const sample = /^([a-z_0-9]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (sample) current!.samples.push({ name: sample[1]!, labels: sample[2] ?? "", value: Number(sample[3]) });
  }
  return families;
};

/** https://prometheus.io/docs/practices/naming/ */
const faultsOf = (families: ReadonlyMap<string, Family>): string[] => [...families].flatMap(([name, { type, help, samples }]) => [
  ...(/^(gantry|process|nodejs)_[a-z0-9_]+$/.test(name) ? [] : [`${name}: no prefix of ours`]),
  ...(help === "" ? [`${name}: no help`] : []),
  ...((type === "counter") === name.endsWith("_total") ? [] : [`${name}: a ${type}`]),
  ...(/_(ms|milliseconds|minutes|mib|kb|mb)(_|$)/.test(name) ? [`${name}: not in base units`] : []),
  ...(type === "histogram" && !/_(seconds|size|bytes)$/.test(name) ? [`${name}: no unit`] : []),
  ...samples.filter((s) => /(^|,)(pod|uid|container|session|path|user)="/.test(s.labels)).map((s) => `${s.name}{${s.labels}}: as many values as there are objects`),
]);

const NEEDED: Readonly<Record<string, readonly string[]>> = {
  "control-plane": [
    "gantry_api_request_seconds", "gantry_api_requests_in_flight", "gantry_api_watchers", "gantry_work_queue_depth", "gantry_work_queue_wait_seconds", "gantry_scheduler_pending_pods", "gantry_scheduler_latency_seconds",
    "gantry_etcd_request_seconds", "gantry_group_commit_batch_size", "gantry_group_commit_queue_length", "gantry_pod_start_stage_seconds", "gantry_dispatcher_oldest_heartbeat_seconds", "gantry_event_loop_lag_seconds",
    "gantry_leader", "process_cpu_seconds_total", "process_resident_memory_bytes",
  ],
  "node-1": ["gantry_pods", "gantry_containers", "gantry_pod_start_seconds", "gantry_agent_heartbeat_seconds", "gantry_agent_session_connected", "gantry_event_loop_lag_seconds", "process_cpu_seconds_total", "process_resident_memory_bytes"],
};

test.serial("with 100 containers: every promised metric is there, by Prometheus' rules, and few series", async (t) => {
  t.timeout(120_000);
  await cluster().create(DEPLOYMENTS, "default", deployment("hundred", 100));
  await cluster().until(PODS, "default", (pods: readonly Pod[]) => pods.length === 100 && pods.every(isReady), { selector: "app=hundred" });
  for (const [daemon, needed] of Object.entries(NEEDED)) {
    const exposition = await scrape(daemon);
    const families = parse(exposition);
    t.deepEqual(needed.filter((name) => !families.get(name)?.samples.length), [], `${daemon} lacks metrics`);
    t.deepEqual(faultsOf(families), [], daemon);
    const series = [...families.values()].reduce((sum, f) => sum + f.samples.length, 0);
    t.log(`${daemon}: ${series} series`);
    t.true(series < 1500, `${daemon} has ${series} series`);
    const promtool = findOnPath("promtool");
    if (promtool) t.is(execFileSync(promtool, ["check", "metrics"], { input: exposition, encoding: "utf8", stdio: "pipe" }), "");
  }
});

test.serial("the stages of a pod's start add up to the whole", async (t) => {
  const stages = parse(await scrape("control-plane")).get("gantry_pod_start_stage_seconds")!;
  const value = (name: string, stage: string): number => stages.samples.find((s) => s.name === `gantry_pod_start_stage_seconds_${name}` && s.labels === `stage="${stage}"`)?.value ?? NaN;
  const parts = ["scheduled", "accepted", "pulled", "sandboxed", "created", "started", "ready"];
  for (const stage of [...parts, "total"]) t.is(value("count", stage), 100, stage);
  const sum = parts.reduce((s, stage) => s + value("sum", stage), 0);
  t.true(Math.abs(sum - value("sum", "total")) < 0.05 * value("sum", "total") + 0.1, `${sum} is not ${value("sum", "total")}`);
});

test.serial("a real Prometheus scrapes both and answers a query", async (t) => {
  const prometheus = findOnPath("prometheus");
  if (prometheus === undefined) {
    t.log("skipped: no prometheus is installed (Debian: apt-get install prometheus)");
    t.pass();
    return;
  }
  t.timeout(60_000);
  const { ca, server } = cluster().client.target;
  writeFileSync(join(dir, "ca.pem"), ca!);
  writeFileSync(join(dir, "bearer"), bearer, { mode: 0o600 });
  writeFileSync(join(dir, "prometheus.yml"), JSON.stringify({
    global: { scrape_interval: "1s" },
    scrape_configs: [
      { job_name: "gantry-control-plane", scheme: "https", tls_config: { ca_file: join(dir, "ca.pem") }, authorization: { credentials_file: join(dir, "bearer") }, static_configs: [{ targets: [server.host] }] },
      { job_name: "gantry-node-agent", static_configs: [{ targets: cluster().nodes.map((node) => new URL(agentUrl(node, "")).host) }] },
    ],
  }));
  const [port] = await freePorts(1);
  const child = spawn(prometheus, [`--config.file=${dir}/prometheus.yml`, `--storage.tsdb.path=${dir}/tsdb`, `--web.listen-address=127.0.0.1:${port!}`], { stdio: "ignore" });
  t.teardown(async () => {
    child.kill("SIGKILL");
    await once(child, "close");
  });
  const query = async (expression: string): Promise<readonly { readonly metric: Readonly<Record<string, string>>; readonly value: readonly [number, string] }[]> => {
    const response = await fetch(`http://127.0.0.1:${port!}/api/v1/query?query=${encodeURIComponent(expression)}`).catch(() => undefined);
    return response?.ok ? ((await response.json()) as { data: { result: [] } }).data.result : [];
  };
  await until(async () => (await query("up == 1")).length === 3, "all three are scraped");
  t.deepEqual((await query("sort(sum by (job) (up))")).map((r) => [r.metric["job"], r.value[1]]), [["gantry-control-plane", "1"], ["gantry-node-agent", "2"]]);
  await until(async () => (await query('sum(gantry_pods{phase="Running"})'))[0]?.value[1] === "100", "the agents' pods add up");
  await until(async () => Number((await query('histogram_quantile(0.5, sum by (le) (gantry_pod_start_stage_seconds_bucket{stage="total"}))'))[0]?.value[1]) > 0, "the median of a pod's start");
});

test.serial("every line of the logs is JSON; those about pods name the pod, its node and the session", async (t) => {
  const entries = (daemon: string): readonly Record<string, unknown>[] => cluster().logText(daemon).trimEnd().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>);
  const about = (daemon: string, message: string): readonly Record<string, unknown>[] => entries(daemon).filter((e) => e["message"] === message);
  const uids = new Set((await cluster().client.list(PODS, "default")).items.map((p) => p.metadata.uid));
  for (const message of ["assignment sent", "pod status stored"]) {
    const lines = about("control-plane", message);
    t.is(new Set(lines.map((l) => l["podUid"])).size, 100, message);
    t.true(lines.every((l) => uids.has(l["podUid"] as string) && (l["pod"] as string).startsWith("default/hundred-") && /^node-[12]$/.test(l["node"] as string) && typeof l["session"] === "string"), message);
  }
  const steps = about("node-1", "step");
  t.true(steps.length >= 100);
  t.true(steps.every((l) => uids.has(l["podUid"] as string) && (l["pod"] as string).startsWith("default/hundred-") && l["node"] === "node-1"));
  // One session can be followed on both sides.
  t.deepEqual(about("node-1", "session opened").map((l) => l["session"]), about("control-plane", "session opened").filter((l) => l["node"] === "node-1").map((l) => l["session"]));
});

test.serial("no log holds a Secret's value, a bearer token or a join token, at the debug level", async (t) => {
  t.timeout(60_000);
  const [value, wrongBearer] = [secret(), secret()];
  await cluster().create(SECRETS, "default", { metadata: { name: "db" }, stringData: { password: value } });
  await cluster().create(PODS, "default", { metadata: { name: "user" }, spec: {
    restartPolicy: "Never", containers: [{
      name: "main", image: "gantry.local/example:latest", imagePullPolicy: "IfNotPresent", command: ["/bin/sh", "-c", 'test "$PASSWORD" = "$(cat /secrets/password)"'],
      env: [{ name: "PASSWORD", valueFrom: { secretKeyRef: { name: "db", key: "password" } } }], volumeMounts: [{ name: "s", mountPath: "/secrets" }],
    }], volumes: [{ name: "s", secret: { secretName: "db" } }],
  } });
  await cluster().until(PODS, "default", (pods: readonly Pod[]) => pods.some((p) => p.metadata.name === "user" && p.status?.phase === "Succeeded"));
  // Refused and malformed requests are where values slip into messages.
  await t.throwsAsync(cluster().create(SECRETS, "default", { metadata: { name: "db" }, stringData: { password: value } }));
  await t.throwsAsync(cluster().create(SECRETS, "default", { metadata: { name: "bad" }, data: { password: `!${value}` } }));
  using good = bearerClient(bearer);
  using bad = bearerClient(wrongBearer);
  t.is((await good.list(PODS, "default", { labelSelector: "app=hundred" })).items.length, 100);
  await t.throwsAsync(bad.list(PODS, "default"), { message: /Unauthorized/ });
  const made = await cluster().gantry("token create");
  t.is(made.code, 0);
  const joinTokens = (await cluster().client.list(SECRETS, "kube-system")).items.filter((s) => s.metadata.name?.startsWith("bootstrap-token-")).map((s) => Buffer.from(s.data!["token-secret"]!, "base64").toString());
  t.true(joinTokens.length >= 2, "that of gantry up, and this one");
  t.true(joinTokens.some((s) => made.out.includes(s)));

  const forbidden = [value, bearer, wrongBearer, made.out.trim(), ...joinTokens].flatMap((s) => [s, Buffer.from(s).toString("base64").replace(/=+$/, "").slice(0, -1)]);
  for (const daemon of ["control-plane", ...cluster().nodes]) {
    const log = cluster().logText(daemon);
    t.deepEqual(forbidden.filter((s) => log.includes(s)), [], daemon);
    t.false(/PRIVATE KEY/.test(log), daemon);
  }
});

test.serial("who is not ready answers 503 and says why; who leads is said", async (t) => {
  t.timeout(120_000);
  const { client } = cluster();
  const ask = (path: string): Promise<string> => client.send("GET", path).then(text);
  for (const path of ["/healthz", "/livez", "/readyz"]) t.is(await ask(path), "ok");
  t.regex(await ask("/readyz?verbose"), /^\[\+\]ping ok\n\[\+\]store ok\n\[\+\]cache ok\n\[\+\]leader ok: this process leads\nreadyz check passed\n$/);
  t.deepEqual(await readiness("node-1"), { status: 200, text: "ok\n" });

  cluster().kill("etcd", "SIGSTOP");
  t.teardown(() => cluster().kill("etcd", "SIGCONT"));
  // A process with threads goes on for a moment after it was told to stop.
  const failure = (): Promise<string> => ask("/readyz").then(() => "", describeError);
  await until(async () => (await failure()) !== "", "not ready");
  t.regex(await failure(), /503[^]*\[-\]store failed: /);
  t.is(await ask("/healthz"), "ok");
  cluster().kill("etcd", "SIGCONT");
  await until(async () => (await ask("/readyz").catch(() => "")) === "ok", "ready again");

  cluster().kill("control-plane", "SIGKILL");
  await until(async () => (await readiness("node-1")).status === 503, "the agent notices");
  t.regex((await readiness("node-1")).text, /no session with the control plane/);
  t.is((await fetch(agentUrl("node-1", "/healthz"))).status, 200);
  await cluster().up();
  await until(async () => (await readiness("node-1")).status === 200, "the agent is ready again");
});
