import test from "ava";
import { isCode } from "../../base/errors.ts";
import { AssignmentSet, AssignmentSet_Kind } from "../../proto/gen/gantry/v1/agent.ts";
import { AssignmentChain } from "./assignment-chain.ts";

const { KIND_COMPLETE, KIND_INCREMENTAL } = AssignmentSet_Kind;
const set = (kind: AssignmentSet_Kind, appliesTo: string, resultsIn: string, uids: readonly string[] = [], change: Partial<AssignmentSet> = {}): AssignmentSet =>
  ({ ...AssignmentSet.fromPartial({ kind, appliesTo, resultsIn, upsert: uids.map((uid) => ({ uid })) }), ...change });
const uidsOf = (change: ReturnType<AssignmentChain["accept"]>): readonly string[] | undefined => change?.upsert.map((a) => a.uid);

test("a COMPLETE set is followed by those that apply to it", (t) => {
  const chain = new AssignmentChain();
  t.true(chain.accept(set(KIND_COMPLETE, "", "1", ["a"]))!.complete);
  t.deepEqual(chain.accept(set(KIND_INCREMENTAL, "1", "2", ["b"], { remove: ["a"] }))!.remove, ["a"]);
  t.deepEqual(uidsOf(chain.accept(set(KIND_INCREMENTAL, "2", "3", ["c"]))), ["c"]);
});

test("a set that does not follow is refused, and so is one before any COMPLETE", (t) => {
  t.throws(() => new AssignmentChain().accept(set(KIND_INCREMENTAL, "", "1")));
  const chain = new AssignmentChain();
  chain.accept(set(KIND_COMPLETE, "", "1"));
  const error = t.throws(() => chain.accept(set(KIND_INCREMENTAL, "2", "3")));
  t.true(isCode(error, "FailedPrecondition"));
  t.regex(error.message, /applies to "2", but the last one resulted in "1"/);
  t.throws(() => chain.accept(set(AssignmentSet_Kind.KIND_UNSPECIFIED, "1", "2")));
});

test("a set in several messages counts once it is whole", (t) => {
  const chain = new AssignmentChain();
  t.is(chain.accept(set(KIND_COMPLETE, "", "1", ["a"], { more: true })), undefined);
  t.is(chain.accept(set(KIND_COMPLETE, "", "1", ["b"], { more: true })), undefined);
  t.deepEqual(uidsOf(chain.accept(set(KIND_COMPLETE, "", "1", ["c"]))), ["a", "b", "c"]);
  chain.accept(set(KIND_INCREMENTAL, "1", "2", ["d"], { more: true }));
  t.throws(() => chain.accept(set(KIND_INCREMENTAL, "1", "3", ["e"])), { message: /cut off/ });
});
