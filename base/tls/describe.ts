// Reading certificates with node:crypto alone, so that a daemon that only checks certificates never loads the library that makes them.
import { createHash, createPrivateKey, X509Certificate } from "node:crypto";
import { GantryError } from "../errors.ts";

export interface CertificateDescription {
  readonly commonName: string;
  readonly organizations: readonly string[];
  /** DNS names and IP addresses, as the certificate's subjectAltName lists them. */
  readonly dnsNames: readonly string[];
  readonly ipAddresses: readonly string[];
  /** Unix epoch ms. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

const parse = (pem: string | Buffer): X509Certificate => {
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw new GantryError("Invalid", "not a certificate: expected PEM that begins with -----BEGIN CERTIFICATE-----", { cause });
  }
};

const values = (lines: string | undefined, prefix: string, separator: string | RegExp): readonly string[] =>
  (lines ?? "").split(separator).filter((line) => line.startsWith(prefix)).map((line) => line.slice(prefix.length));

/** Of PEM (its first certificate) or DER. "Invalid" when it is neither. */
export const describeCertificate = (certificate: string | Buffer | X509Certificate): CertificateDescription => {
  const x509 = certificate instanceof X509Certificate ? certificate : parse(certificate);
  return {
    commonName: values(x509.subject, "CN=", "\n").at(-1) ?? "",
    organizations: values(x509.subject, "O=", "\n"),
    dnsNames: values(x509.subjectAltName, "DNS:", ", "),
    ipAddresses: values(x509.subjectAltName, "IP Address:", ", "),
    notBeforeMs: x509.validFromDate.getTime(),
    notAfterMs: x509.validToDate.getTime(),
  };
};

/** SHA-256 of the public key (SubjectPublicKeyInfo, DER), base64url: what a join token pins. Survives a re-issue with the same key. */
export const caFingerprint = (certificate: string | Buffer): string =>
  createHash("sha256").update(parse(certificate).publicKey.export({ type: "spki", format: "der" })).digest("base64url");

/** Whether `privateKeyPem` belongs to the certificate: files of a pair may have been written half by a process that died. */
export const isPair = (certificatePem: string, privateKeyPem: string): boolean => {
  try {
    return parse(certificatePem).checkPrivateKey(createPrivateKey(privateKeyPem));
  } catch {
    return false;
  }
};

/** Whether the CA signed the certificate; says nothing of dates. */
export const isIssuedBy = (certificatePem: string, caPem: string): boolean => {
  const [certificate, ca] = [parse(certificatePem), parse(caPem)];
  return certificate.checkIssued(ca) && certificate.verify(ca.publicKey);
};

/** Both spellings of an IPv6 address compare equal: OpenSSL prints "0:0:0:0:0:0:0:1" where people write "::1". */
export const canonicalIp = (address: string): string => {
  if (!address.includes(":")) return address;
  const url = URL.parse(`http://[${address}]`);
  return url === null ? address : url.hostname.slice(1, -1);
};
