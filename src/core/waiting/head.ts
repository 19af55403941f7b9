import type { Batch } from "../decision/batch.ts";
import type { Line } from "./line.ts";
import type { Caller } from "./outcome.ts";
import { stepOf } from "./pacing.ts";

/**
 * The first caller in line that a decision left waiting: what it waits for, and when to decide about it again.
 * Everybody behind it waits for that too.
 */
export class Head {
  #caller: Caller | undefined;
  /** Whether it waits for its time, and not for a permit. */
  #awaitsTime = false;
  /** When to decide about it again; `-Infinity` means at once. */
  #resumeAt = -Infinity;
  /** Whether a hint has come since the store was last asked. */
  #isNudged = false;

  /** When to decide again. */
  get resumeAt(): number {
    return this.#resumeAt;
  }

  /** Whether somebody in the line is to be decided now. */
  isDue(line: Line, now: number): boolean {
    // If that caller has gone, those behind it are decided now, and not only when it could have started.
    if (line.waiting > 0 && this.#caller?.queued !== true) return true;
    return line.length > 0 && now >= this.#resumeAt;
  }

  /** A decision left this caller waiting until `resumeAt`; `undefined` if it left nobody. */
  leave(caller: Caller | undefined, waitsFor: Batch<Caller>["waitsFor"], resumeAt: number): void {
    this.#caller = caller;
    this.#awaitsTime = waitsFor === "time";
    // The permit that the hint was about may be free, so there is no pause before the store is asked again.
    this.#resumeAt = this.#isNudged && waitsFor === "permit" ? -Infinity : resumeAt;
  }

  /** The next decision comes as soon as possible, whatever is known. */
  hurry(): void {
    this.#resumeAt = -Infinity;
  }

  /**
   * A permit may have been released elsewhere. Returns whether the next decision comes as soon as possible because of
   * that.
   */
  hinted(): boolean {
    this.#isNudged = true;
    // No time comes sooner because of it. If everybody hurried, the process nearest to the store would always win.
    if (this.#awaitsTime) return false;
    this.hurry();
    return true;
  }

  /** The store is being asked: hints that come from now on are news. */
  asked(): void {
    this.#isNudged = false;
  }

  /**
   * How much earlier than others this process stops reserving, in milliseconds. New callers leave the end of what may
   * be reserved to those that have waited for it, here and elsewhere; and a process that writes for another reason
   * before its turn to reserve takes nothing that it would not have taken then.
   */
  restraint(now: number, reserveAheadMs: number): number {
    if (this.#resumeAt === -Infinity) return stepOf(reserveAheadMs);
    return this.#awaitsTime ? Math.min(Math.max(0, this.#resumeAt - now), reserveAheadMs) : 0;
  }
}
