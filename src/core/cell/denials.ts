import { refusalOf } from "../decision/batch.ts";
import { earliestStartBehind } from "../decision/decide.ts";
import type { State } from "../decision/state.ts";
import type { Demand } from "../rules/rule.ts";
import type { Ledger } from "../store/ledger.ts";
import { silence } from "../store/silence.ts";
import type { Line } from "../waiting/line.ts";
import type { Caller, Refused } from "../waiting/outcome.ts";
import { GRACE_MS, isStoreToBlame } from "../waiting/patience.ts";
import type { CellContext } from "./cell_context.ts";

/** The latest moment at which a request with this deadline may start. */
type LatestStart = (now: number, deadline: number) => number;

/**
 * Tells the callers in line that they do not get what they want: that the limit refuses them, that their time is up, or
 * that the store has failed. A class, because there is one for every key.
 */
export class Denials {
  readonly #context: CellContext;
  readonly #ledger: Ledger;
  readonly #line: Line;
  readonly #latestStart: LatestStart;
  /** When a caller here last had to wait or was refused because nothing was left. */
  #fullAt = -Infinity;

  /** For the callers in this line, none of whom had to wait yet. */
  constructor(context: CellContext, ledger: Ledger, line: Line, latestStart: LatestStart) {
    this.#context = context;
    this.#ledger = ledger;
    this.#line = line;
    this.#latestStart = latestStart;
  }

  /** A caller had to wait or was refused, because nothing was left. */
  noteFull(now: number): void {
    this.#fullAt = now;
  }

  /** The waiter waits no more. If it waited for a permit until now, so did everybody behind it. */
  noteEnd({ metFull }: Caller, now: number): void {
    if (metFull) this.noteFull(now);
  }

  /** The refusal of a request in this state, behind others whose total cost is `ahead`. */
  refusal(state: State, now: number, demand: Demand, attempts: number, ahead: number): Refused {
    return { ...refusalOf(this.#context.rules, state, now, demand, ahead), kind: "refused", attempts };
  }

  /** Whether time alone will not let a request start by its deadline, behind others whose total cost is `ahead`. */
  startsTooLate(state: State, now: number, ahead: number, demand: Demand, deadline: number): boolean {
    if (deadline === Infinity) return false;
    const start = earliestStartBehind(this.#context.rules, state.parts, now - state.epoch, ahead, demand) + state.epoch;
    return start > this.#latestStart(now, deadline);
  }

  /** Refuses the callers behind one that has to wait, if they cannot or do not want to wait that long. */
  refuseBehind(state: State, now: number): void {
    let ahead = 0;
    for (const waiter of this.#line) {
      if (waiter.settled) continue;
      if (ahead > 0 && (!waiter.patient || this.startsTooLate(state, now, ahead, waiter.demand, waiter.deadline))) {
        this.#line.settle(waiter, this.refusal(state, now, waiter.demand, waiter.attempts + 1, ahead));
      } else ahead += waiter.demand.cost;
    }
  }

  /** Answers those whose time is up. `runningSince` is since when the store is being asked, if it is. */
  expire(now: number, runningSince: number | undefined): void {
    const ledger = this.#ledger;
    const line = this.#line;
    const { rules, permitRule, storeId, store } = this.#context;
    const { head } = line;
    const limitsPermits = permitRule !== undefined;
    const isBlamed = (waiter: Caller) =>
      runningSince !== undefined &&
      isStoreToBlame(waiter, now, { rules, ledger, limitsPermits, head, runningSince, fullAt: this.#fullAt });
    let soonest = Infinity;
    let ahead = 0;
    for (const waiter of line) {
      if (waiter.settled) continue;
      const deadline = waiter.patient ? waiter.deadline : Infinity;
      let until = Math.min(deadline, waiter.answerBy);
      const isUndecided = until <= now && isBlamed(waiter);
      if (isUndecided) until = Math.min(waiter.since + GRACE_MS, waiter.answerBy);
      else if (until <= now) {
        // It has heard from its store since. A caller that does not want to wait has been refused by the limit.
        until = waiter.patient ? deadline : now;
        waiter.answerBy = Infinity;
      }
      if (until > now) {
        soonest = Math.min(soonest, until);
        ahead += waiter.demand.cost;
      } else if (isUndecided) {
        const isSilent = ledger.answeredAt <= waiter.since;
        const isShared = waiter.answerBy < deadline;
        const error = silence(storeId, store, { waitedMs: now - waiter.since, isSilent, isShared });
        this.#fail(waiter, error, runningSince ?? now);
      } else {
        this.noteEnd(waiter, now);
        line.settle(waiter, this.refusal(ledger.base(now), now, waiter.demand, waiter.attempts, ahead));
      }
    }
    line.soonestDeadline = soonest;
  }

  /** The store failed, which had been asked since `runningSince`. */
  fail(cause: unknown, now: number, runningSince: number): void {
    const { known } = this.#ledger;
    for (const waiter of this.#line) {
      if (waiter.settled) continue;
      // What only time can change is just as certain without the store.
      const isCertain = known && this.startsTooLate(known, now, 0, waiter.demand, waiter.deadline);
      if (isCertain) this.#line.settle(waiter, this.refusal(known, now, waiter.demand, waiter.attempts, 0));
      else this.#fail(waiter, cause, runningSince);
    }
  }

  /**
   * Too many races were lost: fails the callers that want an answer within a certain time, so that they do not lose
   * races for ever.
   */
  giveUp(cause: unknown): void {
    for (const waiter of this.#line) {
      if (!waiter.settled && waiter.deadline < Infinity) this.#fail(waiter, cause, Infinity);
    }
  }

  #fail(waiter: Caller, cause: unknown, runningSince: number): void {
    waiter.failed = true;
    const silentSince = Math.max(waiter.since, this.#ledger.answeredAt, runningSince);
    const silentMs = Math.max(0, this.#context.store.clock.now() - silentSince);
    this.#line.settle(waiter, { kind: "failed", cause, silentMs, attempts: waiter.attempts });
  }
}
