/** After this long a slow answer counts for half. */
const HALF_LIFE_MS = 1_000;

/** How long the answers of a store take. */
export class Trips {
  #last = Infinity;
  #before = Infinity;
  #slowest = 0;
  #slowestAt = 0;

  /**
   * How long the shorter of the last two took, in milliseconds, so that a single slow answer says nothing; 0 before it
   * is known.
   */
  get ms(): number {
    const shorter = Math.min(this.#last, this.#before);
    return shorter < Infinity ? shorter : 0;
  }

  /** No recent answer took longer than this, in milliseconds: the longer ago a slow one was, the less it counts. */
  mostMs(now: number): number {
    return this.#slowest * 2 ** (Math.min(0, this.#slowestAt - now) / HALF_LIFE_MS);
  }

  /** An answer that arrived at `now` took this many milliseconds. */
  took(ms: number, now: number): void {
    this.#before = this.#last;
    this.#last = ms;
    this.tookInAll(ms, now);
  }

  /** It took this many milliseconds, and more than one answer, until it was known what had become of a write. */
  tookInAll(ms: number, now: number): void {
    if (ms < this.mostMs(now)) return;
    this.#slowest = ms;
    this.#slowestAt = now;
  }
}
