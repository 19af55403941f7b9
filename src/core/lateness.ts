/** So many timers are remembered. */
const REMEMBERED = 16;

/** How late the timers of this process are: its host has more to do, or a coarse clock. */
export class Lateness {
  #last: readonly number[] = [];
  #mostMs = 0;

  /** No timer was later lately, in milliseconds. */
  get mostMs(): number {
    return this.#mostMs;
  }

  /** A timer was late by so much. */
  took(ms: number): void {
    this.#last = [...this.#last.slice(1 - REMEMBERED), ms];
    this.#mostMs = Math.max(...this.#last);
  }
}
