import type { Caller, Outcome } from "./outcome.ts";

/**
 * Those who wait for a decision, in order of arrival. One that has been answered, or was granted a moment to come, stays in
 * its place until the next look at the line, but does not count.
 */
export class Line implements Iterable<Caller> {
  #all = NOBODY;
  #waiting = 0;
  #cost = 0;
  /** Nobody has to hear anything before that. */
  soonestDeadline = Infinity;

  /** How many stand here, those that do not count any more included. */
  get length(): number {
    return this.#all.length;
  }

  /** How many are not decided yet. */
  get waiting(): number {
    return this.#waiting;
  }

  /** What those who are not decided yet cost together. */
  get cost(): number {
    return this.#cost;
  }

  /** Who stands first. */
  get head(): Caller | undefined {
    return this.#all[0];
  }

  [Symbol.iterator](): Iterator<Caller> {
    return this.#all[Symbol.iterator]();
  }

  /** Those who are not answered yet: at most so many of them. Those who are leave. */
  unanswered(most: number): readonly Caller[] {
    if (this.#all.some((waiter) => waiter.settled)) this.#all = this.#all.filter((waiter) => !waiter.settled);
    return this.#all.slice(0, most);
  }

  /** The waiter comes last. */
  join(waiter: Caller): void {
    this.enter(waiter);
    // An array that grows makes room for many more, and most lines are one caller long.
    if (this.#all.length === 0) this.#all = [waiter];
    else this.#all.push(waiter);
  }

  /** They come last; they count already. */
  append(waiters: readonly Caller[]): void {
    this.#all = [...this.#all, ...waiters];
  }

  /** They come first; they count already. */
  prepend(waiters: readonly Caller[]): void {
    if (waiters.length > 0) this.#all = [...waiters, ...this.#all];
  }

  /** Whoever stands first leaves. */
  shift(): void {
    this.#all.shift();
  }

  /** The waiter leaves. */
  remove(waiter: Caller): void {
    this.#all = this.#all.filter((other) => other !== waiter);
  }

  /** So many of the requests, which stood at the head, have been dealt with. Some may have gone since. */
  advance(requests: readonly Caller[], dealtWith: number): void {
    let count = 0;
    for (let i = 0; i < dealtWith; i++) if (this.#all[count] === requests[i]) count++;
    this.#all = this.#all.slice(count);
  }

  /** All leave. */
  clear(): void {
    this.#all = NOBODY;
  }

  /** The waiter is to be decided. */
  enter(waiter: Caller): void {
    waiter.queued = true;
    this.#waiting++;
    this.#cost += waiter.demand.cost;
    if (waiter.patient) this.soonestDeadline = Math.min(this.soonestDeadline, waiter.deadline);
    if (waiter.answerBy < this.soonestDeadline) this.soonestDeadline = waiter.answerBy;
  }

  /** The waiter needs no decision any more. */
  exit(waiter: Caller): void {
    if (!waiter.queued) return;
    waiter.queued = false;
    this.#waiting--;
    this.#cost -= waiter.demand.cost;
    if (this.#waiting > 0) return;
    // Fractions that are added and taken away do not always leave nothing.
    this.#cost = 0;
    this.soonestDeadline = Infinity;
  }

  /** The waiter has been answered, or has gone. */
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

const NOBODY: Caller[] = []; // and nobody is ever put into it
