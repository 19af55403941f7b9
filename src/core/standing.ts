import type { RefusedResult } from "./answers.ts";
import type { Refusal } from "./batch.ts";
import type { Cell } from "./cell.ts";
import type { State } from "./state.ts";

/** For how many milliseconds a refusal stands: by so much later than need be it says to retry, at the most. */
const STANDS_MS = 1;

/**
 * A refusal that is also the answer to whoever asks for as much before time makes a difference. What is refused may come in
 * floods, and shall cost next to nothing.
 */
export interface Standing {
  readonly result: RefusedResult;
  readonly cost: number;
  /** What it goes by. */
  readonly state: State;
  /** What those wanted who waited before it. */
  readonly ahead: number;
  readonly decidedAt: number;
  readonly retryAt: number;
}

/** A refusal that this cell has decided just now, with nothing in its way but time. */
export function standingOf(
  { waitingCost: ahead }: Cell,
  { state, retryAt }: Refusal,
  result: RefusedResult,
  cost: number,
  decidedAt: number,
): Standing {
  return { result, cost, state, ahead, decidedAt, retryAt };
}

/** Whether it is what a request for `cost` would be answered at `now`. */
export function stands(refused: Standing, cell: Cell, cost: number, now: number): boolean {
  const { state, ahead, decidedAt, retryAt } = refused;
  return cost === refused.cost && now >= decidedAt && now < decidedAt + STANDS_MS && now + cell.leadAt(now) < retryAt &&
    cell.waitingCost === ahead && cell.knows(state);
}
