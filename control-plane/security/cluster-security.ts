// The cluster's keys and certificates on the control plane's disk: made once, kept afterwards, renewed at a start when their time
// or their names run out. Owns its directory (0700; files 0600). Replicas share a CA by being given the same ca.pem and ca.key.
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { isIP } from "node:net";
import { hostname, networkInterfaces } from "node:os";
import { dirname, join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { GantryError } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import { createAuthority, issue } from "../../base/tls/authority.ts";
import type { Authority, IssueOptions, KeyPair } from "../../base/tls/authority.ts";
import { caFingerprint, canonicalIp, describeCertificate, isIssuedBy, isPair } from "../../base/tls/describe.ts";
import { CONTROL_PLANE_SERVER_NAME } from "../../base/tls/node-identity.ts";
import { formatKubeconfig } from "./kubeconfig.ts";

export interface ClusterSecurityOptions {
  /** DNS names and IP addresses besides the machine's own. */
  readonly advertiseAddresses: readonly string[];
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface ClusterSecurity {
  readonly authority: Authority;
  /** What a join token pins. */
  readonly caFingerprint: string;
  /** For the API's and the dispatcher's port. The certificate is followed by the CA's. */
  readonly server: KeyPair & { readonly caPem: string };
  /** CN=kubernetes-admin, O=system:masters. */
  readonly admin: KeyPair;
  /** Readable by its owner only. */
  writeKubeconfig(path: string, serverUrl: string): void;
}

const DAY_MS = 86_400_000;
/** Apple's clients, for one, refuse server certificates of more than 825 days. */
const SERVER_VALID_FOR_MS = 800 * DAY_MS;
const ADMIN_VALID_FOR_MS = 365 * DAY_MS;
const SERVICE_NAMES = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];
// RFC 1123, as names in certificates and URLs are.
const DNS_NAME = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

const writeSecret = (path: string, content: string): void => {
  writeFileSync(`${path}.new`, content, { mode: 0o600, flush: true });
  renameSync(`${path}.new`, path);
};

const wantedNames = (advertised: readonly string[]): { readonly dnsNames: readonly string[]; readonly ipAddresses: readonly string[] } => {
  for (const name of advertised) {
    if (!isIP(name) && !DNS_NAME.test(name)) throw new GantryError("Invalid", `advertise address ${JSON.stringify(name)}: must be an IP address or a lower-case DNS name`);
  }
  // Link-local addresses come with a zone and reach nobody.
  const own = Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map((i) => i.address)).filter((a) => !a.startsWith("fe80:"));
  const host = hostname().toLowerCase();
  return {
    dnsNames: [...new Set([CONTROL_PLANE_SERVER_NAME, "localhost", ...SERVICE_NAMES, ...(DNS_NAME.test(host) ? [host] : []), ...advertised.filter((a) => !isIP(a))])],
    ipAddresses: [...new Set(["127.0.0.1", "::1", ...own, ...advertised.filter((a) => isIP(a))].map(canonicalIp))],
  };
};

/** Makes `dir` and what is missing in it. "Invalid" when what lies there can't be used, saying what to do. */
export const ensureClusterSecurity = async (dir: string, { advertiseAddresses, clock, logger }: ClusterSecurityOptions): Promise<ClusterSecurity> => {
  const names = wantedNames(advertiseAddresses);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  chmodSync(dir, 0o700);
  const paths = (name: string): readonly [string, string] => [join(dir, `${name}.pem`), join(dir, `${name}.key`)];

  const load = (name: string): KeyPair | undefined => {
    const [certificate, key] = paths(name);
    return existsSync(certificate) && existsSync(key) ? { certificatePem: readFileSync(certificate, "utf8"), privateKeyPem: readFileSync(key, "utf8") } : undefined;
  };
  const save = (name: string, pair: KeyPair): void => {
    const [certificate, key] = paths(name);
    // The key first: a certificate without its key would be taken for a damaged pair.
    writeSecret(key, pair.privateKeyPem);
    writeSecret(certificate, pair.certificatePem);
  };

  const loadAuthority = async (): Promise<Authority> => {
    const [certificate, key] = paths("ca");
    const present = load("ca");
    if (present) {
      if (!isPair(present.certificatePem, present.privateKeyPem)) throw new GantryError("Invalid", `${key} is not the key of ${certificate}: put the pair back; with a new CA every node would have to join again`);
      const { notAfterMs } = describeCertificate(present.certificatePem);
      if (notAfterMs <= clock.nowMs()) throw new GantryError("Invalid", `the cluster CA ${certificate} expired at ${new Date(notAfterMs).toISOString()}: check this machine's clock; to make a new CA remove both files, and all nodes join again`);
      return present;
    }
    if (existsSync(certificate)) throw new GantryError("Invalid", `${certificate} is there without its key ${key}: put the key back, or remove the certificate to make a new CA`);
    const made = await createAuthority("gantry-ca", clock);
    save("ca", made);
    logger.info("made a cluster CA", { path: certificate, fingerprint: caFingerprint(made.certificatePem) });
    return made;
  };

  const authority = await loadAuthority();

  /** Why a certificate that lies here must be made anew, or undefined. */
  const renewalReason = (present: KeyPair | undefined, options: Omit<IssueOptions, "clock">): string | undefined => {
    if (!present) return "missing";
    if (!isPair(present.certificatePem, present.privateKeyPem) || !isIssuedBy(present.certificatePem, authority.certificatePem)) return "not of this CA or key";
    const description = describeCertificate(present.certificatePem);
    if (description.notAfterMs - clock.nowMs() < options.validForMs / 2) return `expires at ${new Date(description.notAfterMs).toISOString()}`;
    // Names that are no longer wanted do no harm; interfaces come and go.
    const has = new Set([...description.dnsNames, ...description.ipAddresses.map(canonicalIp)]);
    const lacking = [...(options.dnsNames ?? []), ...(options.ipAddresses ?? [])].filter((name) => !has.has(name));
    return lacking.length > 0 ? `lacks ${lacking.join(", ")}` : undefined;
  };
  const ensure = async (name: string, options: Omit<IssueOptions, "clock">): Promise<KeyPair> => {
    const present = load(name);
    const reason = renewalReason(present, options);
    if (reason === undefined) return present!;
    const made = await issue(authority, { ...options, clock });
    const chain = { ...made, certificatePem: made.certificatePem + authority.certificatePem };
    save(name, chain);
    logger.info("issued a certificate", { name, reason });
    return chain;
  };

  const server = await ensure("server", { commonName: CONTROL_PLANE_SERVER_NAME, ...names, usage: "server", validForMs: SERVER_VALID_FOR_MS });
  const admin = await ensure("admin", { commonName: "kubernetes-admin", organizations: ["system:masters"], usage: "client", validForMs: ADMIN_VALID_FOR_MS });
  return {
    authority, admin, caFingerprint: caFingerprint(authority.certificatePem), server: { ...server, caPem: authority.certificatePem },
    writeKubeconfig(path, serverUrl) {
      mkdirSync(dirname(path), { recursive: true });
      writeSecret(path, formatKubeconfig({ serverUrl, caPem: authority.certificatePem, ...admin }));
    },
  };
};
