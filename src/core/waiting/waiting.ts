import type { Grant } from "../decision/batch.ts";
import { Line } from "./line.ts";
import type { Caller } from "./outcome.ts";
import type { Prefetch } from "./prefetch.ts";
import { createSchedule, type Schedule } from "./schedule.ts";

/** How many turns of the microtask queue without a new request end the wait for callers that were just served. */
const QUIET_TURNS = 8;
const MOST_TURNS = 1_000;
/** Usually the wait is over by then. */
const LONG_TURNS = 2 * QUIET_TURNS;
/** At most this many missed slots count. */
const MOST_MISSED = 3;

/** What a {@link Waiting} needs from its owner. */
export interface WaitingOwner {
  /** Whether a grant can no longer be used, although its moment has not come. */
  isLost(grant: Grant): boolean;
  /** Takes back a grant that nobody started with. */
  drop(grant: Grant): void;
}

/**
 * All callers that wait for one key in this process: in the line for a decision, or in the schedule for the moment that
 * they were granted. A class, because there is one for every key.
 */
export class Waiting {
  readonly line: Line = new Line();
  readonly #owner: WaitingOwner;
  /** How late a start may be, in milliseconds. */
  readonly #toleranceMs: number;
  /** Those that were granted a future moment, in order of the moments. */
  #schedule: Schedule<Caller, Grant> | undefined;
  #served = false;
  #missed = 0;

  /** With nobody yet. */
  constructor(owner: WaitingOwner, toleranceMs: number) {
    this.#owner = owner;
    this.#toleranceMs = toleranceMs;
  }

  /** Whether nobody waits. */
  get isEmpty(): boolean {
    return this.line.length === 0 && !this.hasMoments;
  }

  /** Whether anybody waits for a moment. */
  get hasMoments(): boolean {
    return this.#schedule !== undefined && this.#schedule.size > 0;
  }

  /** The next moment; `Infinity` if there is none. */
  get nextMoment(): number {
    return this.#schedule?.next ?? Infinity;
  }

  /** How often slots were missed since the last one that was not. */
  get missed(): number {
    return this.#missed;
  }

  /** The waiter's moment has come. */
  serve(waiter: Caller, grant: Grant, now: number): void {
    this.#served = true;
    this.#missed = 0;
    this.line.settle(waiter, { kind: "granted", grant, servedAt: now, attempts: waiter.attempts });
  }

  /** The waiter no longer needs a decision, and waits for its moment. */
  schedule(waiter: Caller, grant: Grant): void {
    this.line.exit(waiter);
    this.#schedule ??= createSchedule();
    this.#schedule.add(waiter, grant);
  }

  /** Serves the waiter, or has it wait for its moment, for which it may already be too late. */
  serveOrSchedule(waiter: Caller, grant: Grant, now: number): void {
    if (grant.from <= now && now - grant.at <= this.#toleranceMs) this.serve(waiter, grant, now);
    else this.schedule(waiter, grant);
  }

  /**
   * Serves those whose moment has come. Returns those that are left without a slot because it was missed, to be decided
   * again.
   */
  serveDue(now: number): readonly Caller[] {
    const schedule = this.#schedule;
    if (!schedule || schedule.next > now) return NOBODY;
    let left: readonly Caller[] = NOBODY;
    // Starting this late could be too close to the slots after it.
    const isMissed = (grant: Grant) =>
      grant.from <= now &&
      (now > Math.max(grant.from, grant.at) + this.#toleranceMs || this.#owner.isLost(grant));
    for (let next = schedule.nextGrant; next && next.from <= now; next = schedule.nextGrant) {
      if (isMissed(next)) {
        const { missed, left: out } = schedule.miss(isMissed);
        for (const grant of missed) this.#owner.drop(grant);
        for (const waiter of out) this.line.enter(waiter);
        left = [...left, ...out];
      } else {
        const { waiter, grant } = schedule.take();
        this.serve(waiter, grant, now);
      }
    }
    if (left.length > 0) this.#missed = Math.min(this.#missed + 1, MOST_MISSED);
    return left;
  }

  /** The first slot in stock, if using it overtakes nobody who came before. */
  inStock(prefetch: Prefetch, now: number): Grant | undefined {
    const slot = prefetch.next(now);
    return slot && slot.from >= (this.#schedule?.last ?? -Infinity) ? slot : undefined;
  }

  /**
   * Serves those in the line, in order, as long as there is something in stock. What is being written does not concern
   * them.
   */
  serveFromStock(prefetch: Prefetch, now: number): void {
    const { line } = this;
    for (let waiter = line.head; waiter; waiter = line.head) {
      if (!waiter.settled) {
        const slot = waiter.demand.cost === 1 ? this.inStock(prefetch, now) : undefined;
        if (!slot || slot.from > Math.max(waiter.deadline, now)) return;
        prefetch.take();
        if (slot.from <= now && !this.hasMoments) this.serve(waiter, slot, now);
        else this.schedule(waiter, slot);
      }
      line.shift();
    }
  }

  /** The waiter has gone. Returns the slot that is left over, if it had one. */
  leave(waiter: Caller): Grant | undefined {
    this.line.settled(waiter);
    waiter.unlisten();
    return this.#schedule?.leave(waiter);
  }

  /**
   * Tells all waiters, in order of arrival, that nothing is decided here any more, and returns what they had been
   * granted.
   */
  dismiss(kind: "closed" | "abandoned"): Grant[] {
    const unused: Grant[] = [];
    while (this.#schedule && this.#schedule.size > 0) {
      const { waiter, grant } = this.#schedule.take();
      this.line.settle(waiter, { kind, attempts: waiter.attempts });
      unused.push(grant);
    }
    for (const waiter of this.line) {
      if (!waiter.settled) this.line.settle(waiter, { kind, attempts: waiter.attempts });
    }
    return unused;
  }

  /**
   * Lets callers that come in the same turn, and those that were just served and come again, join the line. Calls
   * `onLong` if that takes long, because every turn may run other code.
   */
  async gather(onLong: () => void): Promise<void> {
    await undefined;
    if (!this.#served) return;
    this.#served = false;
    let size = this.line.length;
    for (let turn = 0, quiet = 0; quiet < QUIET_TURNS && turn < MOST_TURNS; turn++) {
      await undefined;
      if (turn === LONG_TURNS) onLong();
      quiet = this.line.length === size ? quiet + 1 : 0;
      size = this.line.length;
    }
  }
}

const NOBODY: readonly Caller[] = [];
