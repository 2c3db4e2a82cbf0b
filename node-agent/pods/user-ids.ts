// Which of the machine's user and group ids the pods with a user namespace get: IDS_PER_POD each, from the node's range. Pure.
import { createHash } from "node:crypto";
import { GantryError } from "../../base/errors.ts";

/** As kubelet: all ids that files and programs commonly use. */
export const IDS_PER_POD = 65_536;
/** Ids above are negative to programs that take them for signed. */
const MAX_ID = 2 ** 31 - 1;

export interface IdRange {
  /** A multiple of IDS_PER_POD. */
  readonly firstId: number;
  /** How many pods have room. */
  readonly pods: number;
}

/** "FIRST:COUNT", "65536:7208960". "BadRequest" says what is wrong with it. */
export const parseIdRange = (text: string): IdRange => {
  const match = /^(\d{1,10}):(\d{1,10})$/.exec(text);
  const [first, count] = [Number(match?.[1]), Number(match?.[2])];
  const fault = match === null ? "is not FIRST:COUNT"
    : first < IDS_PER_POD || first % IDS_PER_POD !== 0 ? `: the first id must be a multiple of ${IDS_PER_POD}, and not 0: those are the machine's own`
      : count < IDS_PER_POD || count % IDS_PER_POD !== 0 ? `: the count must be a multiple of ${IDS_PER_POD}, which each pod gets`
        : first + count - 1 > MAX_ID ? `: the last id would be ${first + count - 1}; ${MAX_ID} is the highest` : "";
  if (fault !== "") throw new GantryError("BadRequest", `--user-namespace-ids: ${JSON.stringify(text)}${fault.startsWith(":") ? "" : " "}${fault}, for example 65536:${IDS_PER_POD * 110}`);
  return { firstId: first, pods: count / IDS_PER_POD };
};

/**
 * The first id of a free part of the range. Where the search begins is decided by the pod's uid: several agents on one machine, which don't
 * know of each other, then hardly ever give the same ids. "ServiceUnavailable" when all are taken.
 */
export const chooseIds = ({ firstId, pods }: IdRange, podUid: string, taken: ReadonlySet<number>): number => {
  const start = createHash("sha256").update(podUid).digest().readUInt32BE(0) % pods;
  for (let i = 0; i < pods; i++) {
    const id = firstId + ((start + i) % pods) * IDS_PER_POD;
    if (!taken.has(id)) return id;
  }
  throw new GantryError("ServiceUnavailable", `no user ids are left for a pod with hostUsers: false: ${pods} pods of this node have some, as many as --user-namespace-ids has room for`, { retryable: true });
};
