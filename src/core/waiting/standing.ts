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
  readonly decidedAt: number;
}

/** Whether time has made no difference to it by `now`. `leadMs` is how much later than `now` a request may start. */
export function stands({ outcome, decidedAt }: Standing, now: number, leadMs: number): boolean {
  return now >= decidedAt && now < decidedAt + STANDS_MS && now + leadMs < outcome.retryAt;
}
