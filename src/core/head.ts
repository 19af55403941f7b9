import type { Batch } from "./batch.ts";
import type { Line } from "./line.ts";
import type { Caller } from "./outcome.ts";
import { stepOf } from "./pacing.ts";

/**
 * The first caller in line that a decision left waiting: what it waits for, and when it is decided again. Everybody behind
 * it waits for that, too.
 */
export class Head {
  #caller: Caller | undefined;
  /** Whether it waits for its time, and not for a permit. */
  #awaitsTime = false;
  /** When it is decided again; `-Infinity`: at once. */
  #resumeAt = -Infinity;
  /** Whether a hint has come since the store was last asked. */
  #isNudged = false;

  /** When to decide again. */
  get resumeAt(): number {
    return this.#resumeAt;
  }

  /** Whether somebody in the line is to be decided now. */
  isDue(line: Line, now: number): boolean {
    // Those behind a caller that has gone do not wait for when it could have started.
    if (line.waiting > 0 && this.#caller?.queued !== true) return true;
    return line.length > 0 && now >= this.#resumeAt;
  }

  /** A decision left this caller waiting, until then; `undefined` if it left nobody. */
  leave(caller: Caller | undefined, waitsFor: Batch<Caller>["waitsFor"], resumeAt: number): void {
    this.#caller = caller;
    this.#awaitsTime = waitsFor === "time";
    // The permit that the hint was about may be free, so there is no pause before the store is asked again.
    this.#resumeAt = this.#isNudged && waitsFor === "permit" ? -Infinity : resumeAt;
  }

  /** It is decided as soon as possible, whatever was known. */
  hurry(): void {
    this.#resumeAt = -Infinity;
  }

  /** A permit of this process came back. That makes no time come sooner. */
  released(): void {
    if (!this.#awaitsTime) this.hurry();
  }

  /** A permit may have been released elsewhere. Whether it is decided as soon as possible because of that. */
  hinted(): boolean {
    this.#isNudged = true;
    // Whoever is nearest to the store would win the race for a time that comes no sooner.
    if (this.#awaitsTime) return false;
    this.hurry();
    return true;
  }

  /** The store is being asked: hints that come from now on are news. */
  asked(): void {
    this.#isNudged = false;
  }

  /**
   * How much earlier than others this process stops to reserve, in milliseconds. Callers that come anew leave the end of
   * what may be reserved to those that have waited for it, here and elsewhere; and a process that writes for another reason,
   * before its turn to reserve, takes nothing that it would not have taken then.
   */
  restraint(now: number, reserveAheadMs: number): number {
    if (this.#resumeAt === -Infinity) return stepOf(reserveAheadMs);
    return this.#awaitsTime ? Math.min(Math.max(0, this.#resumeAt - now), reserveAheadMs) : 0;
  }
}
