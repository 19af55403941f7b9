/** How many timers are remembered. */
const REMEMBERED = 16;

/** How late the timers of this process are, because its host is busy or has a coarse clock. */
export class Lateness {
  #last: readonly number[] = [];
  #mostMs = 0;

  /** No recent timer was later than this, in milliseconds. */
  get mostMs(): number {
    return this.#mostMs;
  }

  /** A timer was this late, in milliseconds. */
  took(ms: number): void {
    this.#last = [...this.#last.slice(1 - REMEMBERED), ms];
    this.#mostMs = Math.max(...this.#last);
  }
}
