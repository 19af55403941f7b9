import type { Clock } from "./clock.ts";
import type { Ledger } from "./ledger.ts";

/** Pauses of a writer in which others can write, who could never win against one that writes all the time. */
export interface Room {
  /** Somebody wants to write whose work cannot be decided here: there is room from now on, unless there just was. */
  make(now: number): void;
  /** Waits while there is room for others. Who writes without a pause makes some by itself now and then. */
  leave(): Promise<void>;
}

/** For so many round trips there is room, for this long at the most, and then for this long there is none. */
const TRIPS_OF_ROOM = 4;
const MOST_ROOM_MS = 50;
const ROOM_PAUSE_MS = 20;
/** After this long without a pause there may be others that cannot hand their work over. */
const LONGEST_WITHOUT_ROOM_MS = 250;

/** The {@link Room} that a writer leaves on one key. */
export function createRoom(clock: Clock, ledger: Ledger): Room {
  let until = -Infinity;

  function make(now: number): void {
    if (now >= until + ROOM_PAUSE_MS) until = now + Math.min(TRIPS_OF_ROOM * ledger.tripMs, MOST_ROOM_MS);
  }

  return {
    make,
    async leave() {
      const now = clock.now();
      const isPaused = now - ledger.answeredAt > ledger.tripMs;
      if (isPaused) until = Math.max(until, now);
      if (now - until > LONGEST_WITHOUT_ROOM_MS) make(now);
      if (now < until) await clock.sleep(until - now);
    },
  };
}
