// Why the API server can't be talked to, in words that say what to do. Pure, but for the crypto.
import { X509Certificate, createPrivateKey } from "node:crypto";
import { GantryError, describeError } from "../base/errors.ts";
import type { ApiTarget } from "./api-client.ts";

/** By the code of the connection's error. https://nodejs.org/api/tls.html#x509-certificate-error-codes */
const ADVICE: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nothing listens there: is the control plane running (gantry status, gantry up)?",
  ENOTFOUND: "is the server's name in the kubeconfig right?",
  EAI_AGAIN: "is the server's name in the kubeconfig right, and does name resolution work here?",
  EHOSTUNREACH: "is that machine on, and the address in the kubeconfig right?",
  ENETUNREACH: "is this machine on the network, and the address in the kubeconfig right?",
  CERT_HAS_EXPIRED: "a restart of the control plane renews its certificate; if it is not old, this machine's clock is wrong",
  CERT_NOT_YET_VALID: "is this machine's clock right?",
  ERR_TLS_CERT_ALTNAME_INVALID: "use a name that the certificate has, or start the control plane with --advertise-addresses and this one",
  EPROTO: "does it speak TLS there? The port may be another program's",
};

const UNKNOWN_CA: ReadonlySet<string> = new Set(["SELF_SIGNED_CERT_IN_CHAIN", "DEPTH_ZERO_SELF_SIGNED_CERT", "UNABLE_TO_VERIFY_LEAF_SIGNATURE", "UNABLE_TO_GET_ISSUER_CERT_LOCALLY", "UNABLE_TO_GET_ISSUER_CERT", "CERT_SIGNATURE_FAILURE"]);

const parses = (parse: () => unknown): boolean => {
  try {
    parse();
    return true;
  } catch {
    return false;
  }
};

/** The first part of the kubeconfig's TLS material that is none. */
const unreadable = ({ ca, cert, key }: ApiTarget): string | undefined => {
  if (ca && !parses(() => new X509Certificate(ca))) return "certificate-authority";
  if (cert && !parses(() => new X509Certificate(cert))) return "client-certificate";
  if (key && !parses(() => createPrivateKey(key))) return "client-key";
  return undefined;
};

/** Undefined while the client's certificate is in date, and where there is none. */
export const expiryFault = ({ cert, context }: ApiTarget, nowMs: number): string | undefined => {
  if (!cert || !parses(() => new X509Certificate(cert))) return undefined;
  const { validFromDate, validToDate } = new X509Certificate(cert);
  if (nowMs > validToDate.getTime()) return `the client certificate of context ${JSON.stringify(context)} expired at ${validToDate.toISOString()}: take a new kubeconfig (a control plane that starts writes a new admin.kubeconfig)`;
  if (nowMs < validFromDate.getTime()) return `the client certificate of context ${JSON.stringify(context)} is valid only from ${validFromDate.toISOString()} on: is this machine's clock right?`;
  return undefined;
};

/** What node reports when a connection can't be made or breaks -> what is told. "FailedPrecondition" when the kubeconfig is at fault, else "ServiceUnavailable". */
export const connectionFault = (given: Error, target: ApiTarget, nowMs: number): GantryError => {
  // When a name has several addresses, node wraps what each said into an error without words.
  const error = (given instanceof AggregateError ? (given.errors[0] as Error) : given) as NodeJS.ErrnoException;
  const { code = "" } = error;
  const { host } = target.server;
  const bad = unreadable(target);
  if (bad !== undefined) return new GantryError("FailedPrecondition", `the kubeconfig's ${bad} of context ${JSON.stringify(target.context)} is not PEM, or damaged`, { cause: error });
  const expired = expiryFault(target, nowMs);
  // A server that checks dates while the connection is made closes it without a word, or with one that differs between versions of TLS.
  if (expired !== undefined && (!Object.hasOwn(ADVICE, code) || code === "EPROTO")) return new GantryError("FailedPrecondition", `the API server ${host} does not let us in: ${expired}`);
  if (UNKNOWN_CA.has(code)) {
    return new GantryError("FailedPrecondition", `the API server ${host} is not the one that the kubeconfig means: its certificate is not of the certificate-authority there (${error.message}). Is the kubeconfig of another cluster, or older than this one?`);
  }
  const advice = ADVICE[code];
  return new GantryError("ServiceUnavailable", `the API server ${host} can't be reached: ${describeError(error)}${advice === undefined ? "" : `; ${advice}`}`);
};
