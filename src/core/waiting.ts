import type { Grant } from "./batch.ts";
import { Line } from "./line.ts";
import type { Caller } from "./outcome.ts";
import type { Prefetch } from "./prefetch.ts";
import { createSchedule, type Schedule } from "./schedule.ts";

/** How many turns of the microtask queue without a new request end the wait for those who were just served. */
const QUIET_TURNS = 8;
const MOST_TURNS = 1_000;
/** Usually it is over by then. */
const LONG_TURNS = 2 * QUIET_TURNS;
/** So many missed slots count at the most. */
const MOST_MISSED = 3;

/** Whose waiting it is. */
export interface WaitingOwner {
  /** Whether what was granted cannot be used any more, although its moment has not come. */
  isLost(grant: Grant): boolean;
  /** Takes back what was granted, and nobody started with. */
  drop(grant: Grant): void;
}

/**
 * Everybody who waits for one key in this process: in the line for a decision, or in the schedule for the moment that was
 * granted. A class, as there is one for every key.
 */
export class Waiting {
  readonly line: Line = new Line();
  readonly #owner: WaitingOwner;
  /** By how much a start may be late, in milliseconds. */
  readonly #toleranceMs: number;
  /** Granted for a moment that is still to come, in order of the moments. */
  #schedule: Schedule<Caller, Grant> | undefined;
  #served = false;
  #missed = 0;

  /** Nobody yet. */
  constructor(owner: WaitingOwner, toleranceMs: number) {
    this.#owner = owner;
    this.#toleranceMs = toleranceMs;
  }

  /** Whether nobody waits. */
  get isEmpty(): boolean {
    return this.line.length === 0 && !this.hasMoments;
  }

  /** Whether somebody waits for a moment. */
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

  /** Its moment has come. */
  serve(waiter: Caller, grant: Grant, now: number): void {
    this.#served = true;
    this.#missed = 0;
    this.line.settle(waiter, { kind: "granted", grant, servedAt: now, attempts: waiter.attempts });
  }

  /** It needs no decision any more, and waits for its moment. */
  schedule(waiter: Caller, grant: Grant): void {
    this.line.exit(waiter);
    this.#schedule ??= createSchedule();
    this.#schedule.add(waiter, grant);
  }

  /** Serves it, or has it wait for its moment, for which it may be too late already. */
  serveOrSchedule(waiter: Caller, grant: Grant, now: number): void {
    if (grant.from <= now && now - grant.at <= this.#toleranceMs) this.serve(waiter, grant, now);
    else this.schedule(waiter, grant);
  }

  /** Serves those whose moment has come. Returns those who are left without a slot, as it was missed, to be decided again. */
  serveDue(now: number): readonly Caller[] {
    const schedule = this.#schedule;
    if (!schedule || schedule.next > now) return NOBODY;
    let left: readonly Caller[] = NOBODY;
    // To start this late could be too close to the slots after it.
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

  /** The first slot in stock, if nobody who came before is overtaken with it. */
  inStock(prefetch: Prefetch, now: number): Grant | undefined {
    const slot = prefetch.next(now);
    return slot && slot.from >= (this.#schedule?.last ?? -Infinity) ? slot : undefined;
  }

  /** Serves those in the line, in order, as long as there is something in stock. What is being written is not about them. */
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

  /** It has gone. Returns the slot that is left over, if it had one. */
  leave(waiter: Caller): Grant | undefined {
    this.line.settled(waiter);
    waiter.unlisten();
    return this.#schedule?.leave(waiter);
  }

  /** Answers everybody that nothing is decided here any more, in order of arrival, and returns what they had been granted. */
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
   * Lets callers that come in the same turn, and those that were just served and come again, join the line. Calls `onLong`
   * when that takes long, as every turn may run other code.
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
