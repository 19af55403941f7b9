import type { Caller, Outcome } from "./outcome.ts";

/**
 * The callers that wait for a decision, in order of arrival. One that has been answered, or was granted a future
 * moment, stays in its place until the next look at the line, but does not count.
 */
export class Line implements Iterable<Caller> {
  #all = NOBODY;
  #waiting = 0;
  #cost = 0;
  /** Nobody has to be answered before this moment. */
  soonestDeadline = Infinity;

  /** How many stand here, including those that no longer count. */
  get length(): number {
    return this.#all.length;
  }

  /** How many are not decided yet. */
  get waiting(): number {
    return this.#waiting;
  }

  /** The total cost of those that are not decided yet. */
  get cost(): number {
    return this.#cost;
  }

  /** The first in the line. */
  get head(): Caller | undefined {
    return this.#all[0];
  }

  [Symbol.iterator](): Iterator<Caller> {
    return this.#all[Symbol.iterator]();
  }

  /** Those that are not answered yet, but at most this many. Those that are answered leave. */
  unanswered(most: number): readonly Caller[] {
    if (this.#all.some((waiter) => waiter.settled)) this.#all = this.#all.filter((waiter) => !waiter.settled);
    return this.#all.slice(0, most);
  }

  /** The waiter joins at the end. */
  join(waiter: Caller): void {
    this.enter(waiter);
    // An array that grows reserves room for many more, and most lines are one caller long.
    if (this.#all.length === 0) this.#all = [waiter];
    else this.#all.push(waiter);
  }

  /** They join at the end. They count already. */
  append(waiters: readonly Caller[]): void {
    this.#all = [...this.#all, ...waiters];
  }

  /** They join at the front. They count already. */
  prepend(waiters: readonly Caller[]): void {
    if (waiters.length > 0) this.#all = [...waiters, ...this.#all];
  }

  shift(): void {
    this.#all.shift();
  }

  remove(waiter: Caller): void {
    this.#all = this.#all.filter((other) => other !== waiter);
  }

  /**
   * The first `dealtWith` of these requests, which stood at the head, have been dealt with. Some may have left since.
   */
  advance(requests: readonly Caller[], dealtWith: number): void {
    let count = 0;
    for (let i = 0; i < dealtWith; i++) if (this.#all[count] === requests[i]) count++;
    this.#all = this.#all.slice(count);
  }

  clear(): void {
    this.#all = NOBODY;
  }

  /** The waiter needs a decision. */
  enter(waiter: Caller): void {
    waiter.queued = true;
    this.#waiting++;
    this.#cost += waiter.demand.cost;
    if (waiter.patient) this.soonestDeadline = Math.min(this.soonestDeadline, waiter.deadline);
    if (waiter.answerBy < this.soonestDeadline) this.soonestDeadline = waiter.answerBy;
  }

  /** The waiter no longer needs a decision. */
  exit(waiter: Caller): void {
    if (!waiter.queued) return;
    waiter.queued = false;
    this.#waiting--;
    this.#cost -= waiter.demand.cost;
    if (this.#waiting > 0) return;
    // Adding and subtracting fractions does not always leave zero.
    this.#cost = 0;
    this.soonestDeadline = Infinity;
  }

  /** The waiter has been answered, or has left. */
  settled(waiter: Caller): void {
    waiter.settled = true;
    this.exit(waiter);
  }

  /** Answers the waiter. */
  settle(waiter: Caller, outcome: Outcome): void {
    this.settled(waiter);
    waiter.settle(outcome);
  }
}

const NOBODY: Caller[] = []; // never written to
