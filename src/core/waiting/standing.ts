import type { Refused } from "./outcome.ts";

/** How long a refusal stands, in milliseconds: the time to retry that it names is too late by at most this much. */
const STANDS_MS = 1;

/**
 * A refusal that also answers every other request for the same amount, until time makes a difference. Refusals may come
 * in floods, and should cost next to nothing.
 */
export interface Standing {
  readonly outcome: Refused;
  readonly cost: number;
  /** The total cost of the requests that waited before it. */
  readonly ahead: number;
  readonly from: number;
  /** It stands before this moment. */
  readonly until: number;
}

/**
 * The refusal of a request that was decided at `now`, behind others whose total cost is `ahead`. `leadMs` is how much
 * later than that it might have started.
 */
export function standingOf(outcome: Refused, cost: number, ahead: number, now: number, leadMs: number): Standing {
  return { outcome, cost, ahead, from: now, until: Math.min(now + STANDS_MS, outcome.retryAt - leadMs) };
}
