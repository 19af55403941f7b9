import type { Cell } from "../cell/cell.ts";
import { leftIn } from "../decision/state.ts";
import type { Decided, Failed, Refused } from "../waiting/outcome.ts";
import { grantedResult, lacksPermit, permitOf, type RefusedResult, refusedResult, timedOut } from "./answers.ts";
import type { Ending } from "./asking.ts";
import { NO_LEASE } from "./lease.ts";
import type { Life } from "./life.ts";
import type { Permit, RateLimitResult } from "./result.ts";
import { noteGrant, noteResult } from "./tally.ts";
import type { Wish } from "./wish.ts";

/** The form in which callers get their answer. What they are told instead of an answer is thrown. */
export interface Form<T> {
  /** For a request that the store's state decided. */
  of(life: Life, outcome: Decided, waitedMs: number, wish: Wish, now: number): T;
  /** For a request that took what it wanted at once. */
  taken(life: Life, cell: Cell, now: number): T;
  /** For a request that was decided in place of a store that failed. */
  instead(result: RateLimitResult, answer: Ending<Failed>): T;
}

/** The answer of `acquire()`: a permit. */
export const PERMIT: Form<Permit> = {
  of(life, outcome, waitedMs, { timeoutMs }, now) {
    if (outcome.kind === "granted") {
      noteGrant(life, outcome.servedAt, waitedMs, false);
      return permitOf(life.owner.id, life.lease(outcome.grant), waitedMs, false);
    }
    const refused = refusedIn(life, outcome, now);
    noteResult(life, refused);
    const { attempts, rule } = outcome;
    throw timedOut(refused, { attempts, timeoutMs, waitedMs, lacksPermit: rule.kind === "concurrency" });
  },
  taken: ({ owner }) => permitOf(owner.id, NO_LEASE, 0, false),
  instead(result, { life: { shared: { rules } }, outcome: { attempts }, timeoutMs, waitedMs }) {
    if (result.allowed) return result.permit;
    throw timedOut(result, { attempts, timeoutMs, waitedMs, lacksPermit: lacksPermit(result, rules) });
  },
};

/** The answer of `tryAcquire()`: a result. */
export const RESULT: Form<RateLimitResult> = {
  of(life, outcome, waitedMs, _wish, now) {
    if (outcome.kind === "refused") {
      if (life.refused?.outcome !== outcome) life.refused = { outcome, result: refusedIn(life, outcome, now) };
      noteResult(life, life.refused.result);
      return life.refused.result;
    }
    const result = resultOf(life, outcome, waitedMs, now);
    noteGrant(life, outcome.servedAt, waitedMs, false);
    return result;
  },
  taken: ({ owner }, cell, now) => grantedResult(cell.left(now), permitOf(owner.id, NO_LEASE, 0, false)),
  instead: (result) => result,
};

/** The result of a request that was decided. It is not counted yet. */
export function resultOf(life: Life, outcome: Decided, waitedMs: number, now: number): RateLimitResult {
  if (outcome.kind === "refused") return refusedIn(life, outcome, now);
  const { grant } = outcome;
  const permit = permitOf(life.owner.id, life.lease(grant), waitedMs, false);
  return grantedResult(leftIn(life.shared.rules, { epoch: grant.epoch, parts: grant.after }, now), permit);
}

function refusedIn({ owner, shared }: Life, outcome: Refused, now: number): RefusedResult {
  return refusedResult(owner.id, leftIn(shared.rules, outcome.state, now), now, outcome);
}
