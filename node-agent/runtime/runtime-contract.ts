// What every container runtime must do, as tests: run on the fake one and, with root, on crun and runc.
import { setTimeout as sleep } from "node:timers/promises";
import type { ExecutionContext, TestFn } from "ava";
import { isCode } from "../../base/errors.ts";
import type { ContainerExit, ContainerRuntime, ContainerSpec } from "./container-runtime.ts";

export interface RuntimeUnderTest {
  readonly runtime: ContainerRuntime;
  /** A container of its own, ready to be created, that runs `script` in a shell. */
  readonly spec: (script: string, changes?: Partial<ContainerSpec>) => ContainerSpec;
  /** The agent is killed and started again. */
  readonly restart: () => Promise<ContainerRuntime>;
}

/** Ends with 0 at SIGTERM. */
export const UNTIL_TERM = "trap 'exit 0' TERM; while :; do sleep 0.02; done";
export const FOR_EVER = "while :; do sleep 1; done";

export const exitOf = (runtime: ContainerRuntime, id: string): Promise<ContainerExit> =>
  new Promise((resolve) => {
    const subscription = runtime.onExit((exit) => {
      if (exit.id !== id) return;
      subscription[Symbol.dispose]();
      resolve(exit);
    });
  });

interface Output {
  out: string;
  err: string;
  exitCode: number;
}

export const execute = async (runtime: ContainerRuntime, id: string, command: readonly string[], options: { readonly stdin?: readonly string[]; readonly tty?: boolean; readonly cwd?: string; readonly user?: string } = {}): Promise<Output> => {
  const output: Output = { out: "", err: "", exitCode: -1 };
  const stdin = options.stdin && (async function* () { for (const text of options.stdin!) yield await Promise.resolve(Buffer.from(text)); })();
  const { exitCode } = await runtime.exec(id, {
    command, tty: options.tty ?? false, stdin, ...(options.cwd === undefined ? {} : { cwd: options.cwd }), ...(options.user === undefined ? {} : { user: options.user }), signal: new AbortController().signal,
    onStdout: async (data) => void (output.out += Buffer.from(data).toString()), onStderr: async (data) => void (output.err += Buffer.from(data).toString()),
  });
  return { ...output, exitCode };
};

export const runtimeContract = (test: TestFn, name: string, open: (t: ExecutionContext) => Promise<RuntimeUnderTest>): void => {
  const check = (title: string, run: (t: ExecutionContext, under: RuntimeUnderTest) => Promise<void>): void => {
    test(`${name}: ${title}`, async (t) => {
      await run(t, await open(t));
    });
  };
  const started = async (runtime: ContainerRuntime, spec: ContainerSpec): Promise<string> => {
    await runtime.create(spec);
    await runtime.start(spec.id);
    return spec.id;
  };

  check("a container is created, started, and its exit code is told once", async (t, { runtime, spec }) => {
    const own = spec("exit 3");
    const told: ContainerExit[] = [];
    runtime.onExit((exit) => told.push(exit));
    const { pid } = await runtime.create(own);
    t.true(pid > 1);
    t.deepEqual(runtime.inspect(own.id), { phase: "created", pid });
    const exited = exitOf(runtime, own.id);
    const { startedAtMs } = await runtime.start(own.id);
    const exit = await exited;
    t.like(exit, { id: own.id, exitCode: 3, signal: 0, oomKilled: false });
    t.true(exit.finishedAtMs >= startedAtMs - 1000 && startedAtMs > 0);
    const state = runtime.inspect(own.id);
    t.is(state?.phase, "exited");
    t.is(told.length, 1);
  });

  check("a signal reaches the process; SIGKILL ends any", async (t, { runtime, spec }) => {
    const gentle = await started(runtime, spec(UNTIL_TERM));
    const stubborn = await started(runtime, spec(FOR_EVER));
    const exits = Promise.all([exitOf(runtime, gentle), exitOf(runtime, stubborn)]);
    // The shell must have come to its trap.
    await sleep(100);
    await runtime.kill(gentle, 15);
    await runtime.kill(stubborn, 9);
    const [first, second] = await exits;
    t.like(first, { exitCode: 0, signal: 0 });
    t.like(second, { exitCode: 137, signal: 9, oomKilled: false });
    await t.notThrowsAsync(runtime.kill(gentle, 15), "one that has ended");
  });

  check("paused it stands still, hears signals only later, and is found so by the next agent; SIGKILL and removal need no unpause", async (t, { runtime, spec, restart }) => {
    const gentle = await started(runtime, spec(UNTIL_TERM));
    const doomed = await started(runtime, spec(FOR_EVER));
    await sleep(100); // the shell must have come to its trap
    t.false(runtime.isPaused(gentle));
    await Promise.all([runtime.pause(gentle), runtime.pause(doomed)]);
    await runtime.pause(gentle);
    t.true(runtime.isPaused(gentle));
    let isOver = false;
    await runtime.kill(gentle, 15);
    const next = await restart();
    await next.recover();
    const exited = exitOf(next, gentle).then((exit) => {
      isOver = true;
      return exit;
    });
    await sleep(100);
    t.false(isOver);
    t.true(next.isPaused(gentle));
    next.unpause(gentle);
    next.unpause(gentle);
    t.like(await exited, { exitCode: 0, signal: 0 });
    t.false(next.isPaused(gentle));
    await next.remove(doomed);
    t.is(next.inspect(doomed), undefined);
    const ended = spec("exit 0");
    const end = exitOf(next, ended.id);
    await started(next, ended);
    await end;
    t.true(isCode(await t.throwsAsync(next.pause(ended.id)), "FailedPrecondition"));
    t.true(isCode(await t.throwsAsync(next.pause(`unknown-${gentle}`.slice(0, 60))), "NotFound"));
  });

  check("loaded ahead it runs nothing before it is started, at once and by whichever agent; exit codes, signals and removal are as ever", async (t, { runtime, spec, restart }) => {
    const [quick, stubborn, dropped, killed] = [spec("exit 3"), spec(FOR_EVER), spec(FOR_EVER), spec(FOR_EVER)];
    for (const own of [quick, stubborn, dropped, killed]) {
      await runtime.create(own);
      await runtime.load(own.id);
      await runtime.load(own.id);
      t.is(runtime.inspect(own.id)?.phase, "created");
    }
    const death = exitOf(runtime, killed.id);
    await runtime.kill(killed.id, 9);
    t.like(await death, { exitCode: 137, signal: 9 });
    t.like(runtime.inspect(killed.id), { phase: "exited", startedAtMs: 0 });
    await runtime.remove(dropped.id);
    t.is(runtime.inspect(dropped.id), undefined);
    await sleep(200);
    t.is(runtime.inspect(quick.id)?.phase, "created", "it ran");
    const next = await restart();
    const found = new Map((await next.recover()).map((c) => [c.id, c.state]));
    t.is(found.get(quick.id)?.phase, "created");
    t.is(found.get(stubborn.id)?.phase, "created");
    t.is(found.get(killed.id)?.phase, "exited");
    const exit = exitOf(next, quick.id);
    t.true(next.startAtOnce(quick.id)!.startedAtMs > 0);
    t.like(await exit, { exitCode: 3, signal: 0 });
    t.true((await next.start(stubborn.id)).startedAtMs > 0);
    t.is(next.inspect(stubborn.id)?.phase, "running");
    t.true(isCode(await t.throwsAsync(next.load(stubborn.id)), "FailedPrecondition"));
  });

  check("a writable layer is kept when asked for, over agents too, and goes when it isn't", async (t, { runtime, spec, restart }) => {
    const own = spec("exit 0", { keepLayer: true });
    for (const keepLayer of [true, false]) {
      const exited = exitOf(runtime, own.id);
      await started(runtime, own);
      await exited;
      await runtime.remove(own.id, { keepLayer });
      t.deepEqual(runtime.keptLayers(), keepLayer ? [own.id] : []);
    }
    await runtime.create(own);
    await runtime.remove(own.id, { keepLayer: true });
    const next = await restart();
    await next.recover();
    t.deepEqual(next.keptLayers(), [own.id]);
    await next.remove(own.id);
    t.deepEqual(next.keptLayers(), []);
  });

  check("standard input: only where there is one", async (t, { runtime, spec }) => {
    const deaf = await started(runtime, spec(FOR_EVER));
    t.true(isCode(t.throws(() => runtime.openInput(deaf)), "FailedPrecondition"));
    const own = await started(runtime, spec(FOR_EVER, { stdin: true }));
    using input = runtime.openInput(own);
    await input.write(Buffer.from("x"));
    t.deepEqual(runtime.processes(own).length > 0, true);
  });

  check("wrong calls are refused with a code", async (t, { runtime, spec }) => {
    const own = await started(runtime, spec(FOR_EVER));
    const has = (...codes: Parameters<typeof isCode>[1][]) => (error: unknown): boolean => isCode(error, ...codes);
    t.true(has("FailedPrecondition")(await t.throwsAsync(runtime.start(own))));
    t.true(has("AlreadyExists")(await t.throwsAsync(runtime.create(spec(FOR_EVER, { id: own })))));
    const unknown = `unknown-${own}`.slice(0, 60);
    t.true(has("NotFound")(await t.throwsAsync(runtime.start(unknown))));
    t.true(has("NotFound")(await t.throwsAsync(runtime.kill(unknown, 9))));
    t.true(has("NotFound")(await t.throwsAsync(execute(runtime, unknown, ["sh", "-c", "exit 0"]))));
    t.is(runtime.inspect(unknown), undefined);
  });

  check("remove takes away running, created and ended containers, and may be repeated", async (t, { runtime, spec }) => {
    const running = await started(runtime, spec(FOR_EVER));
    const created = spec(FOR_EVER);
    await runtime.create(created);
    const ended = spec("exit 0");
    const exited = exitOf(runtime, ended.id);
    await started(runtime, ended);
    await exited;
    for (const id of [running, created.id, ended.id]) {
      await runtime.remove(id);
      t.is(runtime.inspect(id), undefined);
      await runtime.remove(id);
    }
    t.deepEqual(await runtime.recover(), []);
  });

  check("a command that isn't there fails in create and leaves nothing, so that the id can be used again", async (t, { runtime, spec }) => {
    const bad = spec("", { args: ["no-such-command", "x"] });
    const error = await t.throwsAsync(runtime.create(bad));
    t.true(isCode(error, "Invalid"), error?.message);
    t.regex(error.message, /unable to start container process: exec: "no-such-command": executable file not found in \$PATH/);
    t.is(runtime.inspect(bad.id), undefined);
    await t.notThrowsAsync(started(runtime, spec(FOR_EVER, { id: bad.id })));
  });

  check("exec carries streams and exit codes, and says what it could not run", async (t, { runtime, spec }) => {
    const id = await started(runtime, spec(FOR_EVER));
    t.deepEqual(await execute(runtime, id, ["sh", "-c", "echo out; echo err >&2; exit 7"]), { out: "out\n", err: "err\n", exitCode: 7 });
    t.deepEqual(await execute(runtime, id, ["sh", "-c", "cat"], { stdin: ["one ", "two"] }), { out: "one two", err: "", exitCode: 0 });
    const missing = await execute(runtime, id, ["no-such-command"]);
    t.is(missing.exitCode, 127);
    t.regex(missing.err, /exec: "no-such-command": executable file not found in \$PATH/);
    const created = spec(FOR_EVER);
    await runtime.create(created);
    t.true(isCode(await t.throwsAsync(execute(runtime, created.id, ["sh", "-c", "exit 0"])), "FailedPrecondition"));
  });

  check("after a restart of the agent everything is found again, with exits that nobody saw", async (t, { runtime, spec, restart }) => {
    const running = spec(FOR_EVER, { labels: { "io.test": "yes" } });
    const { pid } = await runtime.create(running);
    const { startedAtMs } = await runtime.start(running.id);
    const created = spec(FOR_EVER);
    const ended = spec("sleep 0.3; exit 5");
    await runtime.create(created);
    await started(runtime, ended);
    const next = await restart();
    await endLater(next, ended.id);
    const told: ContainerExit[] = [];
    next.onExit((exit) => told.push(exit));
    const found = new Map((await next.recover()).map((c) => [c.id, c]));
    t.deepEqual(found.get(running.id), { id: running.id, labels: { "io.test": "yes" }, state: { phase: "running", pid, startedAtMs } });
    t.is(found.get(created.id)?.state.phase, "created");
    const state = found.get(ended.id)?.state;
    t.like(state?.phase === "exited" ? state.exit : undefined, { exitCode: 5 });
    t.deepEqual(told.map((e) => e.exitCode), [5]);
    await next.start(created.id);
    t.is(next.inspect(created.id)?.phase, "running");
  });
};

/** Real processes end by themselves while nobody listens; the fake's are told to. */
const endLater = async (runtime: ContainerRuntime, id: string): Promise<void> => {
  if ("end" in runtime) (runtime as { end(id: string, exitCode: number): void }).end(id, 5);
  else await sleep(1200);
};
