import test from "ava";
import { directoryHandover, ociMessage, startFailure } from "./oci-runtime.ts";

// As crun 1.8.1 and runc 1.1.5 say it.
const said = {
  "crun, not there": "2026-11-25T22:57:11.000000Z: executable file `/missing` not found in $PATH: No such file or directory",
  "crun, a directory": "open executable: Operation not permitted",
  "crun, not executable": "open executable: Permission denied",
  "crun, no interpreter": "exec container process `/script`: No such file or directory",
  "crun, a library is missing": "exec container process (missing dynamic library?) `/program`: No such file or directory",
  "crun, another architecture": "exec container process `/program`: Exec format error",
  "crun, a mount's source is gone": "error stat'ing file `/volumes/data`: No such file or directory",
  "crun, the root is gone": "open `/run/containers/a/rootfs`: No such file or directory",
  "runc, not there": String.raw`time="2026-11-25T22:57:11Z" level=error msg="runc run failed: unable to start container process: exec: \"/missing\": stat /missing: no such file or directory"`,
  "runc, not in $PATH": String.raw`time="2026-11-25T22:57:11Z" level=error msg="runc run failed: unable to start container process: exec: \"missing\": executable file not found in $PATH"`,
  "runc, not executable": String.raw`time="2026-11-25T22:57:11Z" level=error msg="runc run failed: unable to start container process: exec: \"/plain\": permission denied"`,
  "runc, no interpreter": "exec /script: permission denied",
  "runc, a mount's source is gone": String.raw`time="2026-11-25T22:57:12Z" level=error msg="runc run failed: unable to start container process: error during container init: error mounting \"/tmp/nope\" to rootfs at \"/data\": stat /tmp/nope: no such file or directory"`,
};

const expected: Readonly<Record<keyof typeof said, 126 | 127 | 128>> = {
  "crun, not there": 127,
  "crun, a directory": 126,
  "crun, not executable": 126,
  "crun, no interpreter": 127,
  "crun, a library is missing": 127,
  "crun, another architecture": 126,
  "crun, a mount's source is gone": 128,
  "crun, the root is gone": 128,
  "runc, not there": 127,
  "runc, not in $PATH": 127,
  "runc, not executable": 126,
  "runc, no interpreter": 126,
  "runc, a mount's source is gone": 128,
};

for (const [name, exitCode] of Object.entries(expected)) {
  test(`the exit code of a command that couldn't be run: ${name}`, (t) => {
    const message = ociMessage(said[name as keyof typeof said]);
    const failure = startFailure(message, "/program");
    t.is(failure.exitCode, exitCode);
    if (exitCode === 128) t.is(failure.message, message, "what it was is said as it is");
  });
}

test("a runtime that doesn't look where it has come to is told a command's working directory by a descriptor", (t) => {
  const fixed = Buffer.from("\0current working directory is outside of container mount namespace root -- possible container breakout\0");
  t.is(directoryHandover("runc", () => fixed), "name");
  t.is(directoryHandover("runc", () => Buffer.from("#!/bin/sh")), "preserved");
  t.is(directoryHandover("crun", () => Buffer.alloc(0)), "inherited");
  t.is(directoryHandover("kata-runtime", () => fixed), "unseen");
});
