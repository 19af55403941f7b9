import type { Refused } from "./outcome.ts";

/** For how many milliseconds a refusal stands: by so much later than need be it says to retry, at the most. */
const STANDS_MS = 1;

/**
 * A refusal that is also how whoever asks for as much is refused before time makes a difference. What is refused may come in
 * floods, and shall cost next to nothing.
 */
export interface Standing {
  readonly outcome: Refused;
  readonly cost: number;
  /** What those wanted who waited before it. */
  readonly ahead: number;
  readonly decidedAt: number;
}

/** Whether time has made no difference to it by `now`. `leadMs`: by how much later than that a request may start. */
export function stands({ outcome, decidedAt }: Standing, now: number, leadMs: number): boolean {
  return now >= decidedAt && now < decidedAt + STANDS_MS && now + leadMs < outcome.retryAt;
}
