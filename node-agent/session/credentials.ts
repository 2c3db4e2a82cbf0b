// The node's identity on disk: the cluster CA, and certificate and key in one file, so that a crash can't leave a pair that
// doesn't match. Owned by the session; only root reads it.
import { chmodSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ChannelCredentials } from "@grpc/grpc-js";
import type { ChannelOptions } from "@grpc/grpc-js";
import { GantryError } from "../../base/errors.ts";
import { describeCertificate, isIssuedBy, isPair } from "../../base/tls/describe.ts";
import { CONTROL_PLANE_SERVER_NAME, nodeNameOf } from "../../base/tls/node-identity.ts";
import { MAX_MESSAGE_BYTES } from "../../proto/grpc-errors.ts";

export interface NodeCredentials {
  readonly nodeName: string;
  readonly caPem: string;
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

export const newCredentials = (caPem: string, certificatePem: string, privateKeyPem: string): NodeCredentials => {
  const { commonName, notBeforeMs, notAfterMs } = describeCertificate(certificatePem);
  const nodeName = nodeNameOf(commonName);
  if (nodeName === undefined) throw new GantryError("Invalid", `the certificate of ${JSON.stringify(commonName)} is not a node's`);
  if (!isIssuedBy(certificatePem, caPem)) throw new GantryError("Invalid", `the certificate of node ${nodeName} was not issued by this cluster's CA`);
  if (!isPair(certificatePem, privateKeyPem)) throw new GantryError("Invalid", `the certificate of node ${nodeName} does not belong to its key`);
  return { nodeName, caPem, certificatePem, privateKeyPem, notBeforeMs, notAfterMs };
};

/** After two thirds of its life: a third is left for trying again. */
export const renewalDueMs = ({ notBeforeMs, notAfterMs }: NodeCredentials): number => notBeforeMs + ((notAfterMs - notBeforeMs) * 2) / 3;

export interface CredentialStore {
  /** undefined when this machine never joined. "Invalid" when the files are damaged. */
  load(): NodeCredentials | undefined;
  save(credentials: NodeCredentials): void;
}

const readOptional = (path: string): string | undefined => {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
};

const writeAtomically = (path: string, content: string): void => {
  writeFileSync(`${path}.new`, content, { mode: 0o600, flush: true });
  renameSync(`${path}.new`, path);
};

/** In `dir`/ca.pem and `dir`/node.pem. */
export const credentialFiles = (dir: string): CredentialStore => {
  const [caPath, nodePath] = [join(dir, "ca.pem"), join(dir, "node.pem")];
  return {
    load() {
      const [ca, node] = [readOptional(caPath), readOptional(nodePath)];
      if (ca === undefined || node === undefined) return undefined;
      const block = (label: string): string => new RegExp(`-----BEGIN ${label}-----[^-]+-----END ${label}-----\\n?`).exec(node)?.[0] ?? "";
      try {
        return newCredentials(ca, block("CERTIFICATE"), block("PRIVATE KEY"));
      } catch (cause) {
        throw new GantryError("Invalid", `${nodePath} and ${caPath} are no usable node credentials; remove both and join again with a token`, { cause });
      }
    },
    save({ caPem, certificatePem, privateKeyPem }) {
      mkdirSync(dir, { recursive: true, mode: 0o700 });
      chmodSync(dir, 0o700);
      writeAtomically(caPath, caPem);
      writeAtomically(nodePath, certificatePem + privateKeyPem);
    },
  };
};

export const CHANNEL_OPTIONS: ChannelOptions = {
  "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
  "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
  "grpc.ssl_target_name_override": CONTROL_PLANE_SERVER_NAME,
  // The global pool would hand a new client the connection of an old one, with the old certificate.
  "grpc.use_local_subchannel_pool": 1,
  // What is retried, and when, is decided in session.ts.
  "grpc.enable_retries": 0,
  "grpc.service_config_disable_resolution": 1,
  "grpc.keepalive_time_ms": 20_000,
  "grpc.keepalive_timeout_ms": 10_000,
};

/** Without credentials: only the CA is checked, and only NodeRegistration answers. */
export const channelCredentials = (caPem: string, own?: NodeCredentials): ChannelCredentials =>
  ChannelCredentials.createSsl(Buffer.from(caPem), own ? Buffer.from(own.privateKeyPem) : null, own ? Buffer.from(own.certificatePem) : null);

/** What a failed dial means to the person who runs the node. */
export const explainDialError = (target: string, error: GantryError, nowMs: number): GantryError => {
  const wrap = (why: string): GantryError => new GantryError(error.code, `control plane ${target}: ${why}`, { cause: error });
  const { message } = error;
  if (/certificate is not yet valid|certificate has expired|certificate expired|CERT_HAS_EXPIRED|CERT_NOT_YET_VALID/i.test(message)) {
    return wrap(`a certificate is outside its dates as seen at ${new Date(nowMs).toISOString()}: check the clocks of this machine and of the control plane`);
  }
  if (/self.signed certificate|unable to verify|unable to get (local )?issuer/i.test(message)) return wrap("it presents a certificate of another CA: this node belongs to a different cluster, or something intercepts the connection");
  if (/ECONNREFUSED/.test(message)) return wrap("nothing listens there: is the control plane running, and is this its dispatcher port?");
  if (/ENOTFOUND|EAI_AGAIN|Name resolution failed/.test(message)) return wrap("its name can't be resolved");
  if (/ETIMEDOUT|EHOSTUNREACH|ENETUNREACH/.test(message)) return wrap("it can't be reached: check the network and firewalls between this node and the control plane");
  if (/altnames|does not match certificate/i.test(message)) return wrap("its certificate is not a control plane's");
  return error.code === "ServiceUnavailable" ? wrap("not available") : error;
};
