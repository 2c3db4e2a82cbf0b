// How machines become nodes: a join token and a signing request against a node certificate. The only calls without a certificate.
import type { Clock } from "../../base/clock.ts";
import { GantryError } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import { readCsr, signCsr } from "../../base/tls/authority.ts";
import type { Authority } from "../../base/tls/authority.ts";
import { NODE_GROUP, nodeCommonName, nodeNameOf } from "../../base/tls/node-identity.ts";
import type { RegisterRequest, RegisterResponse } from "../../proto/gen/gantry/v1/agent.ts";
import { verifyJoinToken } from "../security/join-tokens.ts";
import type { WatchCache } from "../state/cache.ts";
import type { Store } from "../state/store.ts";
import type { NodeIdentity } from "./listener.ts";
import type { SessionRegistry } from "./session-registry.ts";

export interface RegistrationOptions {
  readonly store: Store;
  readonly cache: WatchCache;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly sessions: SessionRegistry;
  readonly authority: Authority;
  readonly nodeCertificateMs: number;
}

export class Registration {
  readonly #options: RegistrationOptions;
  readonly #issued;

  constructor(options: RegistrationOptions) {
    this.#options = options;
    this.#issued = options.metrics.counter("gantry_dispatcher_certificates_issued_total", "Node certificates issued.", ["reason"]);
  }

  async register({ token, csrPem }: RegisterRequest): Promise<RegisterResponse> {
    await verifyJoinToken(token, this.#options);
    const csr = await readCsr(csrPem);
    const nodeName = nodeNameOf(csr.commonName);
    if (nodeName === undefined) {
      throw new GantryError("Invalid", `csr: common name ${JSON.stringify(csr.commonName)}: must be system:node:NAME with a NAME of at most 63 lower-case letters, digits, "-" and "."`);
    }
    if (this.#options.sessions.get(nodeName)) {
      throw new GantryError("AlreadyExists", `a machine named ${nodeName} is connected: choose another node name, or stop the agent there first`);
    }
    const response = await this.#sign(nodeName, csr);
    this.#issued.inc({ reason: "join" });
    this.#options.logger.info("node joined", { node: nodeName });
    return response;
  }

  /** For the node that asks, whatever name its request has. */
  async renew({ nodeName }: NodeIdentity, csrPem: string): Promise<RegisterResponse> {
    const response = await this.#sign(nodeName, await readCsr(csrPem));
    this.#issued.inc({ reason: "renewal" });
    this.#options.logger.info("node certificate renewed", { node: nodeName });
    return response;
  }

  async #sign(nodeName: string, csr: Awaited<ReturnType<typeof readCsr>>): Promise<RegisterResponse> {
    const { authority, nodeCertificateMs, clock } = this.#options;
    const { certificatePem, notAfterMs } = await signCsr(authority, csr, {
      commonName: nodeCommonName(nodeName), organizations: [NODE_GROUP], usage: "both", validForMs: nodeCertificateMs, clock,
    });
    return { certificatePem, caPem: authority.certificatePem, notAfterMs };
  }
}
