// Puts assignment sets together and checks their chain. Pure: what comes out is what the pods are to be told.
import { GantryError } from "../../base/errors.ts";
import { AssignmentSet_Kind } from "../../proto/gen/gantry/v1/agent.ts";
import type { AssignmentSet, PodAssignment } from "../../proto/gen/gantry/v1/agent.ts";

export interface AssignmentChange {
  /** The upserts are the whole desired state. */
  readonly complete: boolean;
  readonly upsert: readonly PodAssignment[];
  readonly remove: readonly string[];
  /** Ids of local volumes whose data is to be deleted. */
  readonly removeVolumes: readonly string[];
}

export class AssignmentChain {
  /** `results_in` of the last whole set; undefined before the first. */
  #position: string | undefined;
  #partial: PodAssignment[] = [];
  #partialOf: string | undefined;

  /** undefined while a set is not whole. "FailedPrecondition" when a set was missed: drop the stream and start over. */
  accept(set: AssignmentSet): AssignmentChange | undefined {
    const complete = set.kind === AssignmentSet_Kind.KIND_COMPLETE;
    if (!complete && set.kind !== AssignmentSet_Kind.KIND_INCREMENTAL) throw new GantryError("FailedPrecondition", `assignment set of unknown kind ${set.kind}`);
    if (!complete && set.appliesTo !== this.#position) {
      throw new GantryError("FailedPrecondition", `assignment set applies to ${JSON.stringify(set.appliesTo)}, but the last one resulted in ${JSON.stringify(this.#position ?? "")}`);
    }
    if (this.#partialOf !== undefined && this.#partialOf !== set.resultsIn) {
      throw new GantryError("FailedPrecondition", `assignment set ${JSON.stringify(this.#partialOf)} was cut off by ${JSON.stringify(set.resultsIn)}`);
    }
    this.#partial.push(...set.upsert);
    if (set.more) {
      this.#partialOf = set.resultsIn;
      return undefined;
    }
    const upsert = this.#partial;
    this.#partial = [];
    this.#partialOf = undefined;
    this.#position = set.resultsIn;
    return { complete, upsert, remove: set.remove, removeVolumes: set.removeVolumes };
  }
}
