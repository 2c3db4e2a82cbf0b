// Signing requests, PKCS#10 (RFC 2986) in DER. Written out because it is all that an agent needs of certificate making, and the
// library that can do everything would cost each agent 9 MB.
import { generateKeyPairSync, sign } from "node:crypto";

const tlv = (tag: number, ...parts: readonly Uint8Array[]): Buffer => {
  const content = Buffer.concat(parts);
  const { length } = content;
  // X.690, 8.1.3: one byte below 128, else the number of length bytes and those.
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
};

const [INTEGER, BIT_STRING, OID, UTF8_STRING, SEQUENCE, SET, ATTRIBUTES] = [0x02, 0x03, 0x06, 0x0c, 0x30, 0x31, 0xa0];
const COMMON_NAME = tlv(OID, Buffer.from("550403", "hex"));
const ECDSA_WITH_SHA256 = tlv(OID, Buffer.from("2a8648ce3d040302", "hex"));

/** A new ECDSA P-256 key and a request for it. The key never leaves the machine. RFC 5280 stops common names at 64 characters, which nobody enforces. */
export const createCsr = (commonName: string): { readonly csrPem: string; readonly privateKeyPem: string } => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const name = tlv(SEQUENCE, tlv(SET, tlv(SEQUENCE, COMMON_NAME, tlv(UTF8_STRING, Buffer.from(commonName)))));
  const info = tlv(SEQUENCE, tlv(INTEGER, Buffer.from([0])), name, publicKey.export({ type: "spki", format: "der" }), tlv(ATTRIBUTES));
  const signature = tlv(BIT_STRING, Buffer.from([0]), sign("sha256", info, privateKey));
  const lines = tlv(SEQUENCE, info, tlv(SEQUENCE, ECDSA_WITH_SHA256), signature).toString("base64").match(/.{1,64}/g)!;
  return {
    csrPem: `-----BEGIN CERTIFICATE REQUEST-----\n${lines.join("\n")}\n-----END CERTIFICATE REQUEST-----\n`,
    privateKeyPem: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
  };
};
