// How this machine becomes a node: the token's fingerprint tells which CA to believe, the CA then vouches for the control plane,
// and only then does the token's secret leave the machine.
import { connect } from "node:tls";
import type { DetailedPeerCertificate } from "node:tls";
import { isIP } from "node:net";
import { X509Certificate } from "node:crypto";
import { Metadata } from "@grpc/grpc-js";
import type { Clock } from "../../base/clock.ts";
import { GantryError } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import { createCsr } from "../../base/tls/csr.ts";
import { caFingerprint } from "../../base/tls/describe.ts";
import { parseJoinToken } from "../../base/tls/join-token.ts";
import { checkNodeName, nodeCommonName } from "../../base/tls/node-identity.ts";
import { NodeRegistrationClient } from "../../proto/gen/gantry/v1/agent.ts";
import type { RegisterResponse } from "../../proto/gen/gantry/v1/agent.ts";
import { fromServiceError } from "../../proto/grpc-errors.ts";
import { channelCredentials, CHANNEL_OPTIONS, explainDialError, newCredentials } from "./credentials.ts";
import type { CredentialStore, NodeCredentials } from "./credentials.ts";

export interface JoinOptions {
  /** gantry.ID.SECRET.CAFINGERPRINT; not needed once the machine has valid credentials. */
  readonly token: string | undefined;
  /** host:port of dispatchers, tried in order. */
  readonly controlPlanes: readonly string[];
  readonly nodeName: string;
  readonly credentials: CredentialStore;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly signal?: AbortSignal;
}

const DIAL_TIMEOUT_MS = 10_000;
const CALL_TIMEOUT_MS = 15_000;

/** host:port, [v6]:port. "Invalid" when it is neither. */
export const parseTarget = (target: string): { readonly host: string; readonly port: number } => {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]/]+)):(\d{1,5})$/.exec(target);
  if (!match || Number(match[3]) > 65_535) throw new GantryError("Invalid", `control plane ${JSON.stringify(target)}: expected HOST:PORT, such as 10.0.0.1:7443`);
  return { host: match[1] ?? match[2]!, port: Number(match[3]) };
};

/** The issuers that the server sent along, as PEM. Nothing of this is believed before it is compared with the fingerprint. */
const fetchChain = (target: string, clock: Clock): Promise<readonly string[]> => {
  const { host, port } = parseTarget(target);
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, ALPNProtocols: ["h2"], rejectUnauthorized: false, ...(isIP(host) ? {} : { servername: host }), checkServerIdentity: () => undefined });
    const timer = clock.setTimer(DIAL_TIMEOUT_MS, () => socket.destroy(new Error("ETIMEDOUT: no answer to the TLS handshake")));
    socket.once("secureConnect", () => {
      const chain: string[] = [];
      const seen = new Set<DetailedPeerCertificate>();
      for (let next: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true); next?.raw && !seen.has(next); next = next.issuerCertificate) {
        seen.add(next);
        chain.push(new X509Certificate(next.raw).toString());
      }
      socket.destroy();
      resolve(chain);
    });
    socket.once("error", (cause: NodeJS.ErrnoException) => reject(new GantryError("ServiceUnavailable", `TLS connection failed: ${cause.code ?? ""} ${cause.message}`, { cause })));
    socket.once("close", () => timer[Symbol.dispose]());
  });
};

const fetchPinnedCa = async (target: string, fingerprint: string, clock: Clock): Promise<string> => {
  const chain = await fetchChain(target, clock);
  const ca = chain.find((pem) => caFingerprint(pem) === fingerprint);
  if (ca !== undefined) return ca;
  throw new GantryError("Unauthorized", `control plane ${target}: CA mismatch: it presents a CA with fingerprint ${chain.length > 0 ? caFingerprint(chain.at(-1)!) : "(none)"}, the join token pins ${fingerprint}: the token is of another cluster, or something intercepts the connection`);
};

/** One attempt at one control plane. Nothing is written before everything went well. */
const joinAt = async (target: string, { token: text, nodeName, clock }: JoinOptions): Promise<NodeCredentials> => {
  const token = parseJoinToken(text!);
  const caPem = await fetchPinnedCa(target, token.caFingerprint, clock);
  const { csrPem, privateKeyPem } = createCsr(nodeCommonName(nodeName));
  const client = new NodeRegistrationClient(target, channelCredentials(caPem), CHANNEL_OPTIONS);
  try {
    const response = await new Promise<RegisterResponse>((resolve, reject) => {
      client.register({ token: `${token.id}.${token.secret}`, csrPem }, new Metadata(), { deadline: clock.nowMs() + CALL_TIMEOUT_MS }, (error, value) => (error ? reject(fromServiceError(error)) : resolve(value)));
    });
    return newCredentials(caPem, response.certificatePem, privateKeyPem);
  } finally {
    client.close();
  }
};

/**
 * The node's credentials: those on disk while they are valid and for this name, else new ones through the join token.
 * "Unauthorized": bad token; "Invalid": malformed token, name or address; "ServiceUnavailable": no control plane could be reached.
 */
export const ensureCredentials = async (options: JoinOptions): Promise<NodeCredentials> => {
  const { token, nodeName, credentials, clock, logger, controlPlanes } = options;
  checkNodeName(nodeName);
  const present = credentials.load();
  if (present && present.nodeName === nodeName && present.notAfterMs > clock.nowMs()) return present;
  if (token === undefined || token === "") {
    const why = present === undefined ? "this machine has not joined a cluster yet"
      : present.nodeName === nodeName ? `the certificate of node ${nodeName} expired at ${new Date(present.notAfterMs).toISOString()}`
        : `the certificate here is for node ${present.nodeName}, not ${nodeName}`;
    throw new GantryError("Unauthorized", `${why}: a join token is needed (\`gantry token create\` on the control plane)`);
  }
  parseJoinToken(token);
  let last: GantryError = new GantryError("Invalid", "no control plane is given: expected at least one HOST:PORT");
  for (const target of controlPlanes) {
    options.signal?.throwIfAborted();
    try {
      const joined = await joinAt(target, options);
      credentials.save(joined);
      logger.info("joined the cluster", { node: nodeName, controlPlane: target, notAfter: new Date(joined.notAfterMs).toISOString() });
      return joined;
    } catch (error) {
      last = explainDialError(target, fromServiceError(error), clock.nowMs());
      logger.warn("could not join", { node: nodeName, controlPlane: target, err: last });
    }
  }
  throw last;
};

