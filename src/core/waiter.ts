import type { Request } from "./batch.ts";
import type { Parts } from "./decide.ts";
import type { Demand } from "./rules/rule.ts";

/**
 * A request that waits for its decision, or for its moment. A class, as there is one for every call that asks the store.
 *
 * @typeParam Outcome How it can end.
 */
export class Waiter<Outcome> implements Request {
  /** What it asks for. */
  readonly demand: Demand;
  /** The latest moment to start at. */
  readonly deadline: number;
  /** Whether it would wait at all. */
  readonly patient: boolean;
  /** For how long it may be kept before it starts, in milliseconds. */
  readonly keepMs: number;
  /** Since when it waits. */
  readonly since: number;
  /** When it hears at the latest that the store is silent. */
  answerBy: number;
  /** Hears how it ended; `undefined` for one that stands for somebody who is still to come. */
  readonly resolve: ((outcome: Outcome) => void) | undefined;
  /** In how many plans it was looked at. */
  attempts = 0;
  /** How many turns went to others while it was the next one here. */
  passedOver = 0;
  /** When it could start, as it was last decided; `undefined` before that. */
  heldUntil: number | undefined = undefined;
  /** Whether it is to be decided. */
  queued = false;
  /** Whether it has been answered. */
  settled = false;
  /** Set when the store failed the request, so that what it gets after all is not given back: it may have been used. */
  failed = false;
  /** What stood there when all permits were taken, the first time that it was decided. */
  metFull: Parts | undefined = undefined;
  #signal: AbortSignal | undefined;
  #onAbort: (() => void) | undefined;

  /** One that came at `now`; with a deadline that is not after that it does not want to wait. */
  constructor(
    demand: Demand,
    now: number,
    deadline: number,
    answerBy: number,
    resolve?: (outcome: Outcome) => void,
    keepMs = 0,
  ) {
    this.demand = demand;
    this.patient = deadline > now;
    // Who does not wait cannot by any clock.
    this.deadline = this.patient ? deadline : -Infinity;
    this.since = now;
    this.answerBy = answerBy;
    this.resolve = resolve;
    this.keepMs = keepMs;
    if (!resolve) this.settled = true;
  }

  /** Whether it stands for somebody who is still to come, and nobody waits yet. */
  get isAhead(): boolean {
    return this.resolve === undefined;
  }

  /** It cannot start before that: if this is later than it was, others had their turn. */
  hold(until: number): void {
    if (this.heldUntil !== undefined && until > this.heldUntil) this.passedOver++;
    this.heldUntil = until;
  }

  /** Calls back once if the signal is aborted before the request is answered. */
  listen(signal: AbortSignal, onAbort: () => void): void {
    this.#signal = signal;
    this.#onAbort = onAbort;
    signal.addEventListener("abort", onAbort);
  }

  /** Answers the caller. */
  settle(outcome: Outcome): void {
    this.unlisten();
    this.resolve?.(outcome);
  }

  /** Does not listen to the caller's signal any more. */
  unlisten(): void {
    if (!this.#signal || !this.#onAbort) return;
    this.#signal.removeEventListener("abort", this.#onAbort);
    this.#signal = undefined;
  }
}
