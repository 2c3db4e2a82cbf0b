import test from "ava";
import { exitStatus, frameFromClient } from "./exec.ts";

test("a client's messages by channel", (t) => {
  t.deepEqual(frameFromClient(Buffer.from("\0hello")), { $case: "stdin", value: Buffer.from("hello") });
  t.deepEqual(frameFromClient(Buffer.from('\u0004{"Width":80,"Height":24}')), { $case: "resize", value: { width: 80, height: 24 } });
  t.deepEqual(frameFromClient(Buffer.from([255, 0])), { $case: "stdinClosed", value: true });
  t.is(frameFromClient(Buffer.from([255, 1])), undefined);
  t.is(frameFromClient(Buffer.from([0])), undefined);
  t.is(frameFromClient(Buffer.alloc(0)), undefined);
  t.throws(() => frameFromClient(Buffer.from([1, 65])), { code: "BadRequest" });
});

test("the status at the end: success, an exit code, or why it failed", (t) => {
  t.like(exitStatus({ code: "", message: "", exitCode: 0, names: [] }), { status: "Success" });
  t.like(exitStatus({ code: "", message: "", exitCode: 3, names: [] }), { status: "Failure", reason: "NonZeroExitCode", details: { causes: [{ reason: "ExitCode", message: "3" }] } });
  t.like(exitStatus({ code: "BadRequest", message: "no such file: foo", exitCode: 0, names: [] }), { status: "Failure", reason: "BadRequest", message: "no such file: foo" });
});
