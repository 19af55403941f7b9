import type { Request } from "../decision/batch.ts";
import type { Parts } from "../decision/decide.ts";
import type { Demand } from "../rules/rule.ts";

/**
 * A request that waits for its decision, or for its moment. A class, because there is one for every call that asks the
 * store.
 *
 * @typeParam Outcome How it can end.
 */
export class Waiter<Outcome> implements Request {
  readonly demand: Demand;
  /** The latest moment at which it may start. */
  readonly deadline: number;
  /** Whether it is willing to wait at all. */
  readonly patient: boolean;
  /** How long it may be kept before it starts, in milliseconds. */
  readonly keepMs: number;
  /** When it began to wait. */
  readonly since: number;
  /** When it is told, at the latest, that the store is silent. */
  answerBy: number;
  /** Is told how it ended; `undefined` if it stands for a caller that is still to come. */
  readonly resolve: ((outcome: Outcome) => void) | undefined;
  /** In how many plans it was considered. */
  attempts = 0;
  /** How many turns went to others while it was the next one here. */
  passedOver = 0;
  /** When it could start, according to the last decision; `undefined` before that. */
  heldUntil: number | undefined = undefined;
  /** Whether it needs a decision. */
  queued = false;
  /** Whether it has been answered. */
  settled = false;
  /**
   * Set when the store failed the request, so that what it is granted after all is not given back: it may have been
   * used.
   */
  failed = false;
  /** The states of the rules when it first met all permits taken. */
  metFull: Parts | undefined = undefined;
  #signal: AbortSignal | undefined;
  #onAbort: (() => void) | undefined;

  /** A request that came at `now`. If its deadline is not later than that, it does not want to wait. */
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
    // A request that does not wait has missed its deadline by any clock.
    this.deadline = this.patient ? deadline : -Infinity;
    this.since = now;
    this.answerBy = answerBy;
    this.resolve = resolve;
    this.keepMs = keepMs;
    if (!resolve) this.settled = true;
  }

  /** Whether it stands for a caller that is still to come, so that nobody waits yet. */
  get isAhead(): boolean {
    return this.resolve === undefined;
  }

  /** It cannot start before `until`. If that is later than it was, others had their turn. */
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

  /** No longer listens to the caller's signal. */
  unlisten(): void {
    if (!this.#signal || !this.#onAbort) return;
    this.#signal.removeEventListener("abort", this.#onAbort);
    this.#signal = undefined;
  }
}
