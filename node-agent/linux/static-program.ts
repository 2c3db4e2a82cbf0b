// Programs of a few instructions that the agent writes itself: where a process is needed that does next to nothing, nothing can be
// counted on in images or on the node. Pure but for ensureProgram.
import { chmodSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { GantryError } from "../../base/errors.ts";

/** ELF's numbers of machines, by node's names: those for which programs are written here. */
const MACHINES = { x64: 62, arm64: 183 } as const;

/** Machine code in hexadecimal, position-independent, for each architecture; it starts at its first byte. */
export type ProgramText = Readonly<Record<keyof typeof MACHINES, string>>;

const LOAD_ADDRESS = 0x400000;
const HEADERS_BYTES = 64 + 56;

const isKnown = (arch: string): arch is keyof typeof MACHINES => Object.hasOwn(MACHINES, arch);

/**
 * A static ELF64 executable for `arch` (node's name); `data` lies right behind the code. "FailedPrecondition" names `purpose` where there is no
 * code for the machine. System V ABI, chapter 4 and 5.
 */
export const staticProgram = (purpose: string, arch: string, code: ProgramText, data: Buffer = Buffer.alloc(0)): Buffer => {
  if (!isKnown(arch)) throw new GantryError("FailedPrecondition", `${purpose} is not supported on ${arch}: ${Object.keys(MACHINES).join(" and ")} are`);
  const text = Buffer.from(code[arch], "hex");
  const size = HEADERS_BYTES + text.length + data.length;
  const header = Buffer.alloc(HEADERS_BYTES);
  header.write("\x7fELF\x02\x01\x01", "latin1");
  header.writeUInt16LE(2, 16); // ET_EXEC
  header.writeUInt16LE(MACHINES[arch], 18);
  header.writeUInt32LE(1, 20);
  header.writeBigUInt64LE(BigInt(LOAD_ADDRESS + HEADERS_BYTES), 24); // entry
  header.writeBigUInt64LE(64n, 32); // program headers
  header.writeUInt16LE(64, 52);
  header.writeUInt16LE(56, 54);
  header.writeUInt16LE(1, 56);
  header.writeUInt32LE(1, 64); // PT_LOAD
  header.writeUInt32LE(5, 68); // readable, executable
  header.writeBigUInt64LE(BigInt(LOAD_ADDRESS), 80);
  header.writeBigUInt64LE(BigInt(LOAD_ADDRESS), 88);
  header.writeBigUInt64LE(BigInt(size), 96);
  header.writeBigUInt64LE(BigInt(size), 104);
  header.writeBigUInt64LE(0x10000n, 112); // alignment: the largest page size there is on arm64
  return Buffer.concat([header, text, data]);
};

/** Puts the program there and returns its path. Idempotent, and safe against an agent that was killed half-way. */
export const ensureProgram = (directory: string, name: string, program: Buffer): string => {
  const path = join(directory, name);
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  try {
    if (readFileSync(path).equals(program)) return path;
  } catch {
    // It isn't there yet.
  }
  writeFileSync(`${path}.new`, program);
  chmodSync(`${path}.new`, 0o555);
  renameSync(`${path}.new`, path);
  return path;
};
