import type { Ledger } from "../store/ledger.ts";

/** How many round trips a pause lasts. */
const TRIPS_OF_ROOM = 4;
/** The longest pause, in milliseconds. */
const MOST_ROOM_MS = 50;
/** The least time between two pauses, in milliseconds. */
const ROOM_PAUSE_MS = 20;
/** After this long without a pause there is one that nobody has asked for: some cannot ask. */
const LONGEST_WITHOUT_ROOM_MS = 250;

/** Pauses of a writer in which others can write. They could never win against a process that writes all the time. */
export class Room {
  readonly #ledger: Pick<Ledger, "tripMs" | "wroteAt">;
  #until: number;

  /** For the key of this ledger, where there was room until now. */
  constructor(ledger: Pick<Ledger, "tripMs" | "wroteAt">, now: number) {
    this.#ledger = ledger;
    this.#until = now;
  }

  /** A process whose work cannot be decided here wants to write: there is room from now on, unless there just was. */
  make(now: number): void {
    if (now < this.#until + ROOM_PAUSE_MS) return;
    this.#until = now + Math.min(TRIPS_OF_ROOM * this.#ledger.tripMs, MOST_ROOM_MS);
  }

  /**
   * How long to wait before the next write. A process that writes without a pause makes room by itself now and then.
   */
  leftMs(now: number): number {
    const { wroteAt, tripMs } = this.#ledger;
    if (now - wroteAt > tripMs) this.#until = Math.max(this.#until, now);
    if (now - this.#until > LONGEST_WITHOUT_ROOM_MS) this.make(now);
    return this.#until - now;
  }
}
