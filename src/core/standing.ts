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
  readonly until: number;
}

/** A refusal that was decided at `now`, with nothing in its way but time. */
export function standingOf(
  cell: Cell,
  { state, retryAt }: Refusal,
  result: RefusedResult,
  cost: number,
  now: number,
): Standing {
  const until = Math.min(now + STANDS_MS, retryAt - cell.leadAt(now));
  return { result, cost, state, ahead: cell.waitingCost, until };
}

/** Whether it is what a request for `cost` would be answered at `now`. */
export function stands(refused: Standing, cell: Cell, cost: number, now: number): boolean {
  return refused.cost === cost && now < refused.until && cell.knows(refused.state) &&
    cell.waitingCost === refused.ahead;
}
