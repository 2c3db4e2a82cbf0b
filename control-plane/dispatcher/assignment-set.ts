// Assignment sets on the wire, put together from pods that are encoded once: the bytes are what is compared with what was sent.
import { hash } from "node:crypto";
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import { AssignmentSet, DispatcherService, PodAssignment } from "../../proto/gen/gantry/v1/agent.ts";
import type { AssignmentSet_Kind } from "../../proto/gen/gantry/v1/agent.ts";
import { TARGET_MESSAGE_BYTES } from "../../proto/grpc-errors.ts";

export interface EncodedAssignment {
  /** Without a generation. */
  readonly bytes: Uint8Array;
  /** Equal exactly when the assignments are. */
  readonly digest: string;
}

export const encodeAssignment = (assignment: PodAssignment): EncodedAssignment => {
  const bytes = PodAssignment.encode(assignment).finish();
  return { bytes, digest: hash("sha1", bytes, "base64") };
};

export interface EncodedSet {
  readonly kind: AssignmentSet_Kind;
  readonly appliesTo: string;
  readonly resultsIn: string;
  readonly upsert: readonly EncodedAssignment[];
  /** Of all in `upsert`. */
  readonly generation: number;
  readonly remove: readonly string[];
  readonly removeVolumes: readonly string[];
}

// Field numbers and wire types of AssignmentSet.upsert (length-delimited) and PodAssignment.generation (varint).
const UPSERT_TAG = (4 << 3) | 2;
const GENERATION_TAG = (4 << 3) | 0;

/** One message, or several when the set is large: all but the last say `more`. */
export const encodeSet = ({ kind, appliesTo, resultsIn, upsert, generation, remove, removeVolumes }: EncodedSet): Buffer[] => {
  // Fields may stand in any order, so the generation, which is not part of the digest, goes behind.
  const generationField = new BinaryWriter().uint32(GENERATION_TAG).int64(generation).finish();
  const messages: Buffer[] = [];
  for (let next = 0; next < upsert.length || messages.length === 0;) {
    const pods = new BinaryWriter();
    for (let size = 0; next < upsert.length && (size === 0 || size + upsert[next]!.bytes.length <= TARGET_MESSAGE_BYTES); next++) {
      const { bytes } = upsert[next]!;
      pods.uint32(UPSERT_TAG).uint32(bytes.length + generationField.length).raw(bytes).raw(generationField);
      size += bytes.length;
    }
    const more = next < upsert.length;
    const rest = AssignmentSet.encode({ kind, appliesTo, resultsIn, upsert: [], remove: more ? [] : [...remove], more, removeVolumes: more ? [] : [...removeVolumes] }).finish();
    messages.push(Buffer.concat([rest, pods.finish()]));
  }
  return messages;
};

const encoded = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** The service, but for streams whose messages come encoded. */
export const EncodedDispatcherService = {
  ...DispatcherService,
  session: { ...DispatcherService.session, responseSerialize: encoded },
  assignments: { ...DispatcherService.assignments, responseSerialize: encoded },
} as const;
