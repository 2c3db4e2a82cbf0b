// The cluster's certificate authority and everything that it signs. ECDSA P-256 throughout. @peculiar/x509 is loaded on first
// use: what only reads certificates (describe.ts) or asks for one (csr.ts) never pays for it.
import { createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes } from "node:crypto";
import type { webcrypto } from "node:crypto";
import type * as X509 from "@peculiar/x509";
import type { Clock } from "../clock.ts";
import { GantryError } from "../errors.ts";
import { describeCertificate } from "./describe.ts";

/** A certificate and its private key (PKCS#8), both PEM. */
export interface KeyPair {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

/** The CA: whoever holds its key can be anyone in the cluster. */
export type Authority = KeyPair;

export type Usage = "client" | "server" | "both";

export interface IssueOptions {
  readonly commonName: string;
  readonly organizations?: readonly string[];
  readonly dnsNames?: readonly string[];
  readonly ipAddresses?: readonly string[];
  readonly usage: Usage;
  readonly validForMs: number;
  readonly clock: Clock;
}

/** Certificates are dated back, so that a machine whose clock lags a little can use one at once. */
const BACKDATED_MS = 5 * 60_000;
const CA_VALID_FOR_MS = 10 * 365 * 86_400_000;
const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;

let library: Promise<typeof X509> | undefined;
const load = (): Promise<typeof X509> =>
  // Its dependency-injection container refuses to load before the metadata polyfill.
  (library ??= import("reflect-metadata").then(() => import("@peculiar/x509")));

const newPrivateKeyPem = (): string => generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ type: "pkcs8", format: "pem" }).toString();

const signingKey = (privateKeyPem: string): webcrypto.CryptoKey => createPrivateKey(privateKeyPem).toCryptoKey(ALGORITHM, false, ["sign"]);

/** Raw public key bytes (SPKI), the form in which x509 takes a foreign key. */
const publicKeyOf = (privateKeyPem: string): ArrayBuffer => Uint8Array.from(createPublicKey(privateKeyPem).export({ type: "spki", format: "der" })).buffer;

/** As data, not as text: a name with a comma in it can't become another attribute. */
const nameOf = ({ commonName, organizations = [] }: Pick<IssueOptions, "commonName" | "organizations">): Record<string, string[]>[] =>
  [...organizations.map((o) => ({ O: [o] })), { CN: [commonName] }];

// Positive and never the same twice (RFC 5280, 4.1.2.2).
const newSerialNumber = (): string => `4${randomBytes(16).toString("hex").slice(1)}`;

const validity = (clock: Clock, validForMs: number): { notBefore: Date; notAfter: Date } =>
  ({ notBefore: new Date(clock.nowMs() - BACKDATED_MS), notAfter: new Date(clock.nowMs() + validForMs) });

/** A new self-signed CA, valid for ten years. */
export const createAuthority = async (name: string, clock: Clock): Promise<Authority> => {
  const x509 = await load();
  const privateKeyPem = newPrivateKeyPem();
  const publicKey = publicKeyOf(privateKeyPem);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: newSerialNumber(), subject: nameOf({ commonName: name }), issuer: nameOf({ commonName: name }),
    ...validity(clock, CA_VALID_FOR_MS), publicKey, signingKey: signingKey(privateKeyPem), signingAlgorithm: ALGORITHM,
    extensions: [
      // Path length 0: what this CA signs can't sign in turn.
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(new x509.PublicKey(publicKey)),
    ],
  });
  return { certificatePem: `${certificate.toString("pem")}\n`, privateKeyPem };
};

const sign = async (authority: Authority, publicKey: ArrayBuffer, options: IssueOptions): Promise<string> => {
  const x509 = await load();
  const issuer = new x509.X509Certificate(authority.certificatePem);
  const purposes = { client: [x509.ExtendedKeyUsage.clientAuth], server: [x509.ExtendedKeyUsage.serverAuth], both: [x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth] };
  const names = [
    ...(options.dnsNames ?? []).map((value) => ({ type: "dns" as const, value })),
    ...(options.ipAddresses ?? []).map((value) => ({ type: "ip" as const, value })),
  ];
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: newSerialNumber(), subject: nameOf(options), issuer: issuer.subjectName.toJSON(),
    ...validity(options.clock, options.validForMs), publicKey, signingKey: signingKey(authority.privateKeyPem), signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension(purposes[options.usage]),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
      ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : []),
    ],
  });
  return `${certificate.toString("pem")}\n`;
};

/** A new key and a certificate for it. */
export const issue = async (authority: Authority, options: IssueOptions): Promise<KeyPair> => {
  const privateKeyPem = newPrivateKeyPem();
  return { certificatePem: await sign(authority, publicKeyOf(privateKeyPem), options), privateKeyPem };
};

export interface ReadCsr {
  readonly commonName: string;
  /** SPKI, DER. */
  readonly publicKey: ArrayBuffer;
}

/** Reads a PKCS#10 request and checks that the requester holds its key. "Invalid" when unreadable or not an ECDSA P-256 key. */
export const readCsr = async (csrPem: string): Promise<ReadCsr> => {
  const x509 = await load();
  const fault = (why: string, cause?: unknown): GantryError => new GantryError("Invalid", `csr: ${why}`, { cause });
  let csr: X509.Pkcs10CertificateRequest;
  try {
    csr = new x509.Pkcs10CertificateRequest(csrPem);
  } catch (cause) {
    throw fault("not a PKCS#10 certificate signing request in PEM", cause);
  }
  const algorithm = csr.publicKey.algorithm as { name?: string; namedCurve?: string };
  if (algorithm.namedCurve !== "P-256") throw fault(`the key is ${algorithm.name ?? "of an unknown kind"}; ECDSA P-256 is needed`);
  if (!(await csr.verify())) throw fault("its signature does not match its key");
  return { commonName: csr.subjectName.getField("CN").at(-1) ?? "", publicKey: csr.publicKey.rawData };
};

/** A certificate for the request's key. The subject is the caller's decision: nothing in the request but its key is taken over. */
export const signCsr = async (authority: Authority, csr: ReadCsr, options: IssueOptions): Promise<{ readonly certificatePem: string; readonly notAfterMs: number }> => {
  const certificatePem = await sign(authority, csr.publicKey, options);
  return { certificatePem, notAfterMs: describeCertificate(certificatePem).notAfterMs };
};
