import test from "ava";
import type { HorizontalPodAutoscalerBehavior } from "../../../base/kube/types.gen.ts";
import { randomFrom } from "../../../test/helpers/random.ts";
import { decide, remembered, startOfHistory } from "./behavior.ts";
import type { History, Proposal, Verdict } from "./behavior.ts";

const NOW = 1_000_000;
const NONE: History = { recommendations: [], ups: [], downs: [] };
const policy = (type: string, value: number, periodSeconds = 60) => ({ type, value, periodSeconds });
const rules = (up: object, down: object = {}): HorizontalPodAutoscalerBehavior => ({
  scaleUp: { stabilizationWindowSeconds: 0, selectPolicy: "Max", policies: [policy("Percent", 10_000)], ...up },
  scaleDown: { stabilizationWindowSeconds: 0, selectPolicy: "Max", policies: [policy("Percent", 100)], ...down },
});
const verdict = (replicas: number, wanted: number, more: Partial<Proposal> = {}): Verdict => decide({ replicas, wanted, min: 1, max: 1000, behavior: undefined, history: NONE, atMs: NOW, ...more });
const ago = (seconds: number): number => NOW - seconds * 1000;

interface Case { readonly replicas: number; readonly wanted: number; readonly more?: Partial<Proposal>; readonly is: number; readonly limited?: string; readonly stabilized?: string }
const CASES: Readonly<Record<string, Case>> = {
  "as wanted": { replicas: 3, wanted: 5, is: 5, limited: "DesiredWithinRange", stabilized: "ReadyForNewScale" },
  "without a behaviour at most twice as many, or 4": { replicas: 5, wanted: 50, is: 10, limited: "ScaleUpLimit" },
  "from one at once to 4": { replicas: 1, wanted: 50, is: 4, limited: "ScaleUpLimit" },
  "the maximum": { replicas: 5, wanted: 50, more: { max: 8 }, is: 8, limited: "TooManyReplicas" },
  "the minimum": { replicas: 5, wanted: 0, more: { min: 2 }, is: 2, limited: "TooFewReplicas" },
  "down only to the highest of five minutes": { replicas: 10, wanted: 1, more: { history: { ...NONE, recommendations: [{ replicas: 9, atMs: ago(400) }, { replicas: 7, atMs: ago(299) }, { replicas: 3, atMs: ago(10) }] } }, is: 7, stabilized: "ScaleDownStabilized" },
  "up only to the lowest of the window": { replicas: 2, wanted: 9, more: { behavior: rules({ stabilizationWindowSeconds: 30 }), history: { ...NONE, recommendations: [{ replicas: 4, atMs: ago(20) }, { replicas: 3, atMs: ago(31) }] } }, is: 4, stabilized: "ScaleUpStabilized" },
  "held up by one that was lower than now": { replicas: 5, wanted: 9, more: { behavior: rules({ stabilizationWindowSeconds: 30 }), history: { ...NONE, recommendations: [{ replicas: 1, atMs: ago(20) }] } }, is: 5, stabilized: "ScaleUpStabilized" },
  "pods a minute": { replicas: 10, wanted: 50, more: { behavior: rules({ policies: [policy("Pods", 5)] }) }, is: 15, limited: "ScaleUpLimit" },
  "pods a minute, some of which were made": { replicas: 13, wanted: 50, more: { behavior: rules({ policies: [policy("Pods", 5)] }), history: { ...NONE, ups: [{ change: 3, atMs: ago(59) }, { change: 9, atMs: ago(61) }] } }, is: 15 },
  "none is left": { replicas: 15, wanted: 50, more: { behavior: rules({ policies: [policy("Pods", 5)] }), history: { ...NONE, ups: [{ change: 7, atMs: ago(5) }] } }, is: 15, limited: "ScaleUpLimit" },
  "percent are rounded up": { replicas: 3, wanted: 9, more: { behavior: rules({ policies: [policy("Percent", 10)] }) }, is: 4 },
  "the greater of two": { replicas: 10, wanted: 50, more: { behavior: rules({ policies: [policy("Pods", 5), policy("Percent", 100)] }) }, is: 20 },
  "the lesser of two": { replicas: 10, wanted: 50, more: { behavior: rules({ policies: [policy("Pods", 5), policy("Percent", 100)], selectPolicy: "Min" }) }, is: 15 },
  "never up": { replicas: 10, wanted: 50, more: { behavior: rules({ selectPolicy: "Disabled" }) }, is: 10, limited: "ScaleUpLimit" },
  "never down": { replicas: 10, wanted: 2, more: { behavior: rules({}, { selectPolicy: "Disabled" }) }, is: 10, limited: "ScaleDownLimit" },
  "the greater step down": { replicas: 10, wanted: 1, more: { behavior: rules({}, { policies: [policy("Pods", 2), policy("Percent", 50)] }) }, is: 5, limited: "ScaleDownLimit" },
  "the lesser step down": { replicas: 10, wanted: 1, more: { behavior: rules({}, { policies: [policy("Pods", 2), policy("Percent", 50)], selectPolicy: "Min" }) }, is: 8 },
  "what went up in the period may go down again as well": { replicas: 10, wanted: 1, more: { behavior: rules({}, { policies: [policy("Pods", 2)] }), history: { ...NONE, downs: [{ change: 1, atMs: ago(30) }] } }, is: 9 },
};
for (const [name, { replicas, wanted, more, is, limited, stabilized }] of Object.entries(CASES)) {
  test(name, (t) => {
    const found = verdict(replicas, wanted, more);
    t.is(found.replicas, is);
    if (limited !== undefined) t.is(found.limited.reason, limited);
    if (stabilized !== undefined) t.is(found.stabilized.reason, stabilized);
  });
}

test("over time, whatever is wanted: bounds hold, no policy is exceeded in any period, and down goes nothing that a window still asks for", (t) => {
  const random = randomFrom(11);
  const below = (n: number): number => Math.floor(random() * n);
  for (let round = 0; round < 40; round++) {
    const [up, down, period, window] = [1 + below(6), 1 + below(6), 15 * (1 + below(8)), 15 * below(8)];
    const behavior = rules({ policies: [policy("Pods", up, period)] }, { policies: [policy("Pods", down, period)], stabilizationWindowSeconds: window });
    let history = startOfHistory(5, 0);
    const sizes: { atMs: number; replicas: number; wanted: number }[] = [{ atMs: 0, replicas: 5, wanted: 5 }];
    for (let step = 1; step < 120; step++) {
      const atMs = step * 15_000;
      const { replicas } = sizes.at(-1)!;
      const wanted = below(40);
      const proposal = { replicas, wanted, min: 2, max: 30, behavior, history, atMs };
      const after = decide(proposal).replicas;
      t.true(after >= 2 && after <= 30);
      if (after < replicas) for (const s of sizes.filter((x) => atMs - x.atMs < window * 1000)) t.true(after >= Math.min(s.wanted, replicas));
      history = remembered(proposal, after);
      sizes.push({ atMs, replicas: after, wanted });
      const { replicas: then } = sizes.findLast((s) => s.atMs <= atMs - period * 1000) ?? sizes[0]!;
      if (after > replicas) t.true(after - then <= up);
      if (after < replicas) t.true(then - after <= down);
      t.true(history.recommendations.length <= window / 15 + 2 && history.ups.length <= period / 15 + 1);
    }
  }
});
