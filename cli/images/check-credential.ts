// Asks a registry whether it takes a credential, from this machine, before it is kept.
import { readFileSync } from "node:fs";
import { SystemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/logger.ts";
import { RegistryClient } from "../../node-agent/images/registry-client.ts";
import { parseRegistryConfig } from "../../node-agent/images/registry-config.ts";
import type { RegistryCredential } from "../../proto/gen/gantry/v1/agent.ts";

const TIMEOUT_MS = 15_000;

/** Errors: "Unauthorized", "ServiceUnavailable", in words. */
export const checkCredential = async (registry: string, credential: RegistryCredential, { insecure, caFile }: { readonly insecure: boolean; readonly caFile: string }): Promise<void> => {
  const settings = { ...(insecure ? { insecure } : {}), ...(caFile === "" ? {} : { caFile }) };
  const registries = parseRegistryConfig({ [registry]: settings }, "login", (path) => readFileSync(path, "utf8"));
  const client = new RegistryClient({ registries, clock: new SystemClock(), random: Math.random, logger: silentLogger, idleTimeoutMs: TIMEOUT_MS, env: process.env, onBytes: () => undefined });
  try {
    await client.login(registry, credential, AbortSignal.timeout(2 * TIMEOUT_MS));
  } finally {
    client.close();
  }
};
