// A process that leads and writes, for store-election.test.ts to stop and kill. Arguments: endpoint, prefix, identity, lease seconds.
// Prints one line per event: "elected REVISION", "wrote N", "refused CODE".
import { SystemClock } from "../../base/clock.ts";
import { GantryError } from "../../base/errors.ts";
import { silentLogger } from "../../base/logger.ts";
import { runElection } from "../../control-plane/state/election.ts";
import { EtcdStore } from "../../control-plane/state/etcd-store.ts";
import { configMap, keyOfMap } from "../../control-plane/state/store-contract.ts";

const [endpoint, prefix, identity, ttl] = process.argv.slice(2) as [string, string, string, string];
const clock = new SystemClock();
const store = await EtcdStore.connect({ endpoints: [endpoint], prefix, clock, logger: silentLogger, leaseTtlSeconds: Number(ttl) });
const say = (line: string): void => void process.stdout.write(`${line}\n`);

await runElection({
  elections: store.elections, identity, clock, logger: silentLogger, signal: new AbortController().signal,
  onElected: async (fence) => {
    say(`elected ${fence.createRevision}`);
    // Writes on without a look at the signal: the fence alone must hold it back.
    for (let n = 0; ; n++) {
      try {
        await store.update(keyOfMap("shared"), (m) => ({ ...configMap("shared"), data: { by: identity, n: `${Number(m.data?.["n"] ?? 0) + 1}` } }), { writer: "api", fence });
        say(`wrote ${n}`);
      } catch (error) {
        say(`refused ${error instanceof GantryError ? error.code : String(error)}`);
        throw error;
      }
      await new Promise((later) => setTimeout(later, 5));
    }
  },
});
