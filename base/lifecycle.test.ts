// Each daemon here is a process of its own: signals and exit codes are what is tested.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import test, { type ExecutionContext } from "ava";

interface Run {
  readonly code: number | null;
  readonly lines: readonly string[];
}

/** Runs `start` as a daemon's; `onLine` may signal the process when it has said something. */
const daemon = async (t: ExecutionContext, start: string, onLine: (line: string, kill: (signal: NodeJS.Signals) => void) => void, closeTimeoutMs = 5000): Promise<Run> => {
  const file = (name: string): string => JSON.stringify(new URL(name, import.meta.url).href);
  const program = `
    import { runDaemon } from ${file("./lifecycle.ts")};
    import { SystemClock } from ${file("./clock.ts")};
    const say = (text) => console.log(text);
    const log = (message, fields) => say(message + (fields?.err ? ": " + fields.err.split("\\n")[0] : ""));
    const logger = { debug: log, info: log, warn: log, error: log };
    process.exitCode = await runDaemon({ logger, clock: new SystemClock(), closeTimeoutMs: ${closeTimeoutMs} }, async (stack, signal, fail) => { ${start} });
    say("end");`;
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", program], { stdio: ["ignore", "pipe", "inherit"] });
  t.teardown(() => child.kill("SIGKILL"));
  const lines: string[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => {
    lines.push(line);
    onLine(line, (signal) => child.kill(signal));
  });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, lines };
};

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  test(`${signal} closes the parts in reverse order and the daemon ends with code 0`, async (t) => {
    const { code, lines } = await daemon(t, `
      stack.defer(() => say("first closed"));
      stack.defer(async () => { await new Promise((r) => setTimeout(r, 20)); say("second closed"); });
      signal.addEventListener("abort", () => say("aborted"));
      say("up");`, (line, kill) => void (line === "up" && kill(signal)));
    t.is(code, 0);
    t.deepEqual(lines, ["up", "stopping", "aborted", "second closed", "first closed", "stopped", "end"]);
  });
}

test("a second signal ends the daemon at once, with code 1", async (t) => {
  const { code, lines } = await daemon(t, `stack.defer(() => { say("closing"); return new Promise(() => setTimeout(() => undefined, 60_000)); }); say("up");`,
    (line, kill) => void ((line === "up" || line === "closing") && kill("SIGTERM")), 60_000);
  t.is(code, 1);
  t.deepEqual(lines, ["up", "stopping", "closing"]);
});

test("an exception that nobody caught ends the daemon with code 1, and everything is closed", async (t) => {
  const { code, lines } = await daemon(t, `stack.defer(() => say("closed")); setTimeout(() => { throw new Error("a bug"); }, 1);`, () => undefined);
  t.is(code, 1);
  t.deepEqual(lines, ["uncaught exception: Error: a bug", "stopping because of an error: a bug", "closed", "stopped", "end"]);
});

test("so does a rejected promise that nobody awaits", async (t) => {
  const { code, lines } = await daemon(t, `stack.defer(() => say("closed")); void Promise.reject(new Error("forgotten"));`, () => undefined);
  t.is(code, 1);
  t.true(lines.includes("stopping because of an error: forgotten"));
  t.true(lines.includes("closed"));
});

test("a part that fails for good ends the daemon with code 1; later errors change nothing", async (t) => {
  const { code, lines } = await daemon(t, `stack.defer(() => say("closed")); setTimeout(() => { fail(new Error("etcd is gone", { cause: new Error("disk full") })); fail(new Error("another")); }, 1);`, () => undefined);
  t.is(code, 1);
  t.deepEqual(lines, ["stopping because of an error: etcd is gone: disk full", "closed", "stopped", "end"]);
});

test("a start that fails closes what was made until then", async (t) => {
  const { code, lines } = await daemon(t, `stack.defer(() => say("closed")); throw new Error("port in use");`, () => undefined);
  t.is(code, 1);
  t.deepEqual(lines, ["stopping because of an error: port in use", "closed", "stopped", "end"]);
});

test("a part that fails to close doesn't keep the others open", async (t) => {
  const { code, lines } = await daemon(t, `stack.defer(() => say("closed")); stack.defer(() => { throw new Error("stuck"); }); say("up");`, (line, kill) => void (line === "up" && kill("SIGTERM")));
  t.is(code, 0);
  t.deepEqual(lines, ["up", "stopping", "closed", "closing failed: stuck", "stopped", "end"]);
});

test("a start that doesn't heed the signal ends when closing may take no longer", async (t) => {
  const { code, lines } = await daemon(t, `say("starting"); await new Promise(() => undefined);`, (line, kill) => void (line === "starting" && kill("SIGTERM")), 50);
  t.is(code, 1);
  t.deepEqual(lines, ["starting", "stopping", "closing took too long"]);
});

test("a daemon that waits for nothing else stays alive until it is told to end", async (t) => {
  const started = performance.now();
  const { code } = await daemon(t, `say("up");`, (line, kill) => void (line === "up" && setTimeout(() => kill("SIGTERM"), 100)));
  t.is(code, 0);
  t.true(performance.now() - started >= 100);
});
