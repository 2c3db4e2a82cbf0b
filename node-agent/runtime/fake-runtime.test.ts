import test from "ava";
import { SystemClock } from "../../base/clock.ts";
import type { ContainerSpec } from "./container-runtime.ts";
import { FakeRuntime } from "./fake-runtime.ts";
import { runtimeContract } from "./runtime-contract.ts";

runtimeContract(test, "fake", (t) => {
  const clock = new SystemClock();
  const runtime = new FakeRuntime({ clock });
  let n = 0;
  t.teardown(() => runtime.close());
  return Promise.resolve({
    runtime,
    spec: (script, changes) => ({ id: `fake-container-${n++}`, args: ["sh", "-c", script], labels: {}, ...changes }) as ContainerSpec,
    restart: () => {
      runtime.close();
      return Promise.resolve(new FakeRuntime({ clock, machine: runtime.machine }));
    },
  });
});
