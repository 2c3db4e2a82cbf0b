// What becomes of one container, with gantry's own words and kubectl's: stopped, started, paused, killed, waited for, attached to, copied
// from, made an image of. One node; each test has pods of its own.
import { mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { KubeConfig, PortForward } from "@kubernetes/client-node";
import test from "ava";
import { Annotation } from "../../base/kube/desired-state.ts";
import { PODS } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import { EXAMPLE_IMAGE } from "../../cli/example-image.ts";
import { useCluster, type Following } from "../helpers/cluster.ts";

const cluster = useCluster(test, { nodes: 1 });

const NS = "default";

/** As `gantry run` makes them. */
const podOf = (name: string, script: string, changes: { readonly spec?: object; readonly container?: object; readonly annotations?: Record<string, string> } = {}): object => ({
  metadata: { name, annotations: { [Annotation.keepWritableLayer]: "true", ...changes.annotations } },
  spec: { restartPolicy: "Never", terminationGracePeriodSeconds: 1, containers: [{ name: "main", image: EXAMPLE_IMAGE, imagePullPolicy: "IfNotPresent", command: ["sh", "-c", script], ...changes.container }], ...changes.spec },
});

const podIs = (name: string, isSo: (pod: Pod) => boolean): Promise<Pod> =>
  cluster().until(PODS, NS, (items) => items.some((p) => p.metadata.name === name && isSo(p))).then((items) => items.find((p) => p.metadata.name === name)!);

const running = (name: string): Promise<Pod> => podIs(name, (p) => p.status?.containerStatuses?.[0]?.state?.running !== undefined);

const gantry = async (...args: readonly string[]): Promise<string> => {
  const { code, out, err } = await cluster().gantry(args);
  if (code !== 0) throw new Error(`gantry ${args.join(" ")} ended with ${code}: ${err}${out}`);
  return out.trim();
};

const status = async (name: string): Promise<string> => (await cluster().ok(["get", "pod", name, "--no-headers"])).split(/\s+/)[2]!;

/** Ends with 7 at SIGTERM, with 8 at SIGUSR1; each start leaves a line. */
const POLITE = "echo start >> /runs; trap 'exit 7' TERM; trap 'exit 8' USR1; wc -l < /runs; while :; do sleep 0.05; done";

test("stop and start: signal, exit code, address, files and log stay", async (t) => {
  await cluster().create(PODS, NS, podOf("keeper", POLITE));
  const before = await running("keeper");
  t.is(await gantry("stop", "keeper"), "keeper");
  const stopped = await podIs("keeper", (p) => p.status?.reason === "Stopped");
  t.like(stopped.status?.containerStatuses?.[0]?.state?.terminated, { exitCode: 7, reason: "Stopped" });
  t.is(stopped.status?.podIP, before.status?.podIP);
  t.is(await status("keeper"), "Stopped");
  t.is(await gantry("wait", "keeper"), "7");
  t.is(await gantry("stop", "keeper"), "keeper", "again is no error");

  const [, id] = /crun:\/\/(\w{12})/.exec(before.status!.containerStatuses![0]!.containerID!)!;
  t.is(await gantry("start", id!), id!);
  const again = await running("keeper");
  t.is(again.status?.containerStatuses?.[0]?.containerID, before.status?.containerStatuses?.[0]?.containerID);
  t.is(await gantry("exec", "keeper", "--", "cat", "/runs"), "start\nstart");
  t.is((await gantry("logs", "keeper")).replaceAll(/\s+/g, " "), "1 2");

  t.is(await gantry("restart", "-t", "0", "keeper"), "keeper");
  t.is(await gantry("exec", "keeper", "--", "wc", "-l", "/runs"), "3 /runs");
  // Either may come first.
  const waiting = cluster().gantry(["wait", "keeper"]);
  t.is(await gantry("kill", "-s", "USR1", "keeper"), "keeper");
  t.is((await waiting).out.trim(), "8");
  t.is((await podIs("keeper", (p) => p.status?.phase === "Failed")).status?.reason, undefined);
  await gantry("start", "keeper");
  t.is(await gantry("exec", "keeper", "--", "wc", "-l", "/runs"), "4 /runs");
  await gantry("kill", "keeper");
  t.is(await gantry("wait", "keeper"), "137");
  await cluster().ok(["delete", "pod", "keeper"]);
});

test.serial("pause: nothing moves until unpause, also over the agent's death; wrong orders are refused", async (t) => {
  await cluster().create(PODS, NS, podOf("frozen", "i=0; while :; do i=$((i+1)); echo $i >> /count; sleep 0.02; done"));
  await running("frozen");
  t.regex((await cluster().gantry(["unpause", "frozen"])).err, /not paused/);
  await gantry("pause", "frozen");
  t.is(await status("frozen"), "Paused");
  t.regex((await cluster().gantry(["exec", "frozen", "--", "true"])).err, /paused/);
  t.regex((await cluster().gantry(["pause", "frozen"])).err, /already paused/);
  cluster().kill("node-1", "SIGKILL");
  await cluster().gone("node-1");
  await cluster().up();
  t.is(await status("frozen"), "Paused");
  await gantry("unpause", "frozen");
  t.regex(await gantry("exec", "frozen", "--", "cat", "/count"), /^1\n2\n/);
  await gantry("pause", "frozen");
  await cluster().ok(["delete", "pod", "frozen"]);
});

test("many at once; what can't be is said by name, and the rest is done", async (t) => {
  for (const name of ["one", "two"]) await cluster().create(PODS, NS, podOf(name, POLITE));
  await Promise.all(["one", "two"].map(running));
  const ran = await cluster().gantry(["stop", "one", "none", "two"]);
  t.like(ran, { code: 1, out: "one\ntwo\n" });
  t.regex(ran.err, /"none" not found/);
  t.regex((await cluster().gantry(["kill", "-s", "NOPE", "one"])).err, /NOPE/);
  t.regex(await cluster().fails(["annotate", "pod", "one", `${Annotation.desiredState}=halted`, "--overwrite"]), /desired-state\]: Unsupported value: "halted": supported values: "created", "paused", "running", "stopped"/);
  await cluster().ok(["delete", "pod", "one", "two"]);
});

test("top lists the container's processes and no others", async (t) => {
  await cluster().create(PODS, NS, podOf("busy", "sleep 1000 & exec sleep 2000"));
  await running("busy");
  const lines = (await gantry("top", "busy")).split("\n");
  t.regex(lines[0]!, /^UID +PID +PPID +C +STIME +TTY +TIME +CMD$/);
  t.deepEqual(lines.slice(1).map((l) => l.slice(lines[0]!.indexOf("CMD"))).sort(), ["sleep 1000", "sleep 2000"]);
  await cluster().ok(["delete", "pod", "busy", "--now"]);
});

/** A web server on port 8080 that answers with its name. */
const WEB = "mkdir -p /www && hostname > /www/index.html && exec httpd -f -p 8080 -h /www";

test("attach: input and output of the first process, its exit code, several at once", async (t) => {
  const script = "echo ready; while read line; do echo \"got $line\"; [ \"$line\" = end ] && exit 3; done; echo no more; exit 4";
  await cluster().create(PODS, NS, podOf("talker", script, { container: { stdin: true } }));
  await running("talker");
  const other = cluster().follow(t, ["attach", "talker"]);
  await other.until(/press.*enter|try pressing|command prompt/i).catch(() => undefined);
  const ran = await cluster().gantry(["attach", "talker"], { input: "one\nend\n" });
  t.like(ran, { code: 3, out: "got one\ngot end\n" });
  t.regex(await other.until(/got end/), /got one/);
  t.is(await other.ended, 0);
  t.regex((await cluster().gantry(["attach", "talker"])).err, /completed pod/);

  await cluster().create(PODS, NS, podOf("once", script, { container: { stdin: true, stdinOnce: true } }));
  await running("once");
  const end = await cluster().gantry(["attach", "once"], { input: "two\n" });
  t.like(end, { code: 4, out: "ready\ngot two\nno more\n" }, "the first to attach gets what was written before, and the end of input reaches the container");
  await cluster().ok(["delete", "pod", "talker", "once"]);
});

test("kubectl run -i --rm: from the first byte to the exit code", async (t) => {
  const ran = await cluster().kubectl(["run", "oneshot", "-i", "--rm", "--restart=Never", "--image", EXAMPLE_IMAGE, "--image-pull-policy=IfNotPresent", "--command", "--", "sh", "-c", "read a; echo hello $a; exit 5"], { input: "world\n" });
  t.is(ran.code, 5, ran.err);
  t.regex(ran.out, /hello world/);
});

test("port-forward: gantry, kubectl's tunnel and the JavaScript client reach the pod's port; a closed one is said", async (t) => {
  await cluster().create(PODS, NS, podOf("web", WEB));
  await running("web");
  const fetched = async (port: string): Promise<string> => (await (await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: "close" } })).text()).trim();
  const reach = async (forwarding: Following): Promise<string> => {
    const [, port] = /127\.0\.0\.1:(\d+) -> 8080/.exec(await forwarding.until(/-> 8080/))!;
    return port!;
  };
  const own = cluster().followGantry(t, ["port-forward", "web", ":8080", ":9"]);
  const port = await reach(own);
  t.is(await fetched(port), "web");
  t.deepEqual(await Promise.all(Array.from({ length: 5 }, () => fetched(port))), Array.from({ length: 5 }, () => "web"));
  const [, closed] = /127\.0\.0\.1:(\d+) -> 9\b/.exec(await own.until(/-> 9\b/))!;
  await t.throwsAsync(fetched(closed!));
  t.regex(await own.until(/nobody listens/), /nobody listens on port 9 in the pod/);

  const kubectl = cluster().follow(t, ["port-forward", "web", ":8080"]);
  const second = await reach(kubectl);
  t.is(await fetched(second), "web");
  t.deepEqual(await Promise.all(Array.from({ length: 5 }, () => fetched(second))), Array.from({ length: 5 }, () => "web"));

  const config = new KubeConfig();
  config.loadFromFile(cluster().layout.kubeconfig);
  const [request, answer] = [new PassThrough(), new PassThrough()];
  const socket = await new PortForward(config).portForward(NS, "web", [8080], answer, null, request);
  request.write("GET / HTTP/1.0\r\n\r\n");
  let text = "";
  for await (const chunk of answer) {
    text += String(chunk);
    if (/\nweb\n/.test(text)) break;
  }
  (socket as { close(): void }).close();
  await cluster().ok(["delete", "pod", "web", "--now"]);
});

test("exec as docker's: environment, user, folder, and without waiting", async (t) => {
  await cluster().create(PODS, NS, podOf("box", "sleep 1000"));
  await running("box");
  t.is(await gantry("exec", "-e", "A=1 2", "-e", "HOME=/x", "-u", "7:8", "-w", "/tmp", "box", "--", "sh", "-c", "echo $A $HOME $(id -u):$(id -g) $(pwd)"), "1 2 /x 7:8 /tmp");
  t.is(await gantry("exec", "-d", "box", "--", "sh", "-c", "sleep 0.2; echo done > /done; sleep 1000"), "");
  t.is(await gantry("exec", "box", "--", "sh", "-c", "until [ -e /done ]; do sleep 0.05; done; cat /done"), "done");
  t.regex((await cluster().gantry(["exec", "-d", "box", "--", "no-such-command"])).err, /not found/);
  await cluster().ok(["delete", "pod", "box", "--now"]);
});

test("cp, diff, commit: running and stopped, in both directions, by docker's rules", async (t) => {
  const local = mkdtempSync(join(tmpdir(), "gantry-cp-"));
  t.teardown(() => rmSync(local, { recursive: true, force: true }));
  await cluster().create(PODS, NS, podOf("files", "mkdir -p /data/sub; echo one > /data/a; echo two > /data/sub/b; ln -s /etc /data/etc; ln -s /host-file /leads-out; chown 5:6 /data/a; sleep 1000", { container: { env: [{ name: "KEPT", value: "yes" }] } }));
  await running("files");
  await gantry("exec", "files", "--", "sh", "-c", "until [ \"$(stat -c %u /data/a 2>/dev/null)\" = 5 ]; do sleep 0.02; done");
  await gantry("cp", "files:/data", join(local, "data"));
  t.is(readFileSync(join(local, "data/sub/b"), "utf8"), "two\n");
  t.is(readlinkSync(join(local, "data/etc")), "/etc");
  await gantry("cp", "files:/data/a", local);
  t.is(readFileSync(join(local, "a"), "utf8"), "one\n");
  t.regex((await cluster().gantry(["cp", "files:/no/such", local])).err, /no such file or directory in the container: \/no\/such/);
  t.regex((await cluster().gantry(["cp", "-L", "files:/leads-out", local])).err, /no such file/, "a link is followed in the container");

  writeFileSync(join(local, "data/new"), "new");
  await gantry("cp", `${join(local, "data")}/.`, "files:/copied");
  t.is(await gantry("exec", "files", "--", "sh", "-c", "cat /copied/new; stat -c %u /copied/new"), "new0");
  await gantry("cp", join(local, "a"), "files:/data/etc/renamed");
  t.is(await gantry("exec", "files", "--", "cat", "/etc/renamed"), "one");
  t.regex((await cluster().gantry(["cp", join(local, "data"), "files:/data/a"])).err, /is a file/);
  await gantry("exec", "files", "--", "rm", "/bin/wget");
  const changes = (await gantry("diff", "files")).split("\n");
  for (const line of ["A /copied", "A /copied/new", "C /etc", "A /etc/renamed", "A /data", "C /bin", "D /bin/wget"]) t.true(changes.includes(line), `${line} in ${changes.join(", ")}`);
  t.false(changes.some((c) => /hosts|resolv|termination/.test(c)));

  const id = await gantry("commit", "-m", "more", "-c", "ENV ADDED=1", "-c", 'ENTRYPOINT ["sh"]', "-c", 'CMD ["-c", "cat /copied/new; echo $ADDED$KEPT"]', "files", "committed:1");
  t.regex(id, /^sha256:[0-9a-f]{64}$/);
  await cluster().create(PODS, NS, { metadata: { name: "from-commit" }, spec: { restartPolicy: "Never", containers: [{ name: "main", image: "committed:1", imagePullPolicy: "Never" }] } });
  await podIs("from-commit", (p) => p.status?.phase === "Succeeded");
  t.is(await gantry("logs", "from-commit"), "new1yes");

  await gantry("stop", "-t", "0", "files");
  await gantry("cp", "files:/copied/new", join(local, "stopped"));
  t.is(readFileSync(join(local, "stopped"), "utf8"), "new");
  await gantry("cp", join(local, "a"), "files:/while-stopped");
  t.true((await gantry("diff", "files")).includes("A /while-stopped"));
  await gantry("start", "files");
  t.is(await gantry("exec", "files", "--", "cat", "/while-stopped"), "one");
  await cluster().ok(["delete", "pod", "files", "from-commit", "--now"]);
});
