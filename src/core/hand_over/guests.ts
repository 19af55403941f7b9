import type { Writer } from "../decision/state.ts";
import type { Respond } from "./desk.ts";
import type { ForeignWork } from "./hand_over.ts";

/** Work from another process that waits to be decided here. */
export interface Guest extends ForeignWork {
  /** Tells the process how its work was decided. */
  readonly respond: Respond;
}

/** The guests of a key, and whose turn to write is next, if this process has had its own. */
export interface Visit {
  readonly all: readonly Guest[];
  readonly next: Guest | undefined;
}

/** The work that other processes have handed to the writer of a key. */
export interface Guests {
  readonly size: number;
  /** Work has arrived. Returns `false` if its number shows that it has come before: it is then ignored. */
  add(guest: Guest): boolean;
  /** All guests that wait. */
  readonly all: readonly Guest[];
  /**
   * Removes and returns the guests that do not wait until `answerAt`, or have written since they came: what they want
   * now is something else.
   */
  leave(answerAt: number, writers: readonly Writer[]): readonly Guest[];
  /** These guests were answered. */
  remove(guests: readonly Guest[]): void;
  /** Removes all guests and gives them this answer. Without one they hear nothing. */
  dismiss(answer?: Uint8Array): void;
}

/** How many processes are remembered. */
const MOST_VISITORS = 256;

/** {@link Guests} without any yet. */
export function createGuests(): Guests {
  const numbers = new Map<string, number>();
  let waiting: Guest[] = [];
  const remove = (guests: readonly Guest[]) => {
    waiting = waiting.filter((guest) => !guests.includes(guest));
  };

  return {
    get size() {
      return waiting.length;
    },
    add(guest) {
      const { work: { owner }, number } = guest;
      if (number <= (numbers.get(owner) ?? -Infinity)) return false;
      // A map keeps the order of insertion: the process that has not come for longest is forgotten first.
      numbers.delete(owner);
      numbers.set(owner, number);
      if (numbers.size > MOST_VISITORS) numbers.delete(numbers.keys().next().value!); // there is one
      waiting.push(guest);
      return true;
    },
    get all() {
      return waiting;
    },
    leave(answerAt, writers) {
      const gone = waiting.filter(({ work: { owner }, number, until }) =>
        until <= answerAt || writers.some(([id, operation]) => id === owner && operation > number)
      );
      if (gone.length > 0) remove(gone);
      return gone;
    },
    remove,
    dismiss(answer) {
      if (answer) waiting.forEach(({ respond }) => respond(answer));
      waiting = [];
    },
  };
}

/**
 * The guest that is to write next: the one that has not written for longest, as far as the value remembers. The process
 * that writes is served soonest, so all take turns.
 */
export function successor(guests: readonly Guest[], writers: readonly Writer[]): Guest | undefined {
  let next: Guest | undefined;
  let longest = Infinity;
  for (const guest of guests) {
    const place = writers.findIndex(([id]) => id === guest.work.owner);
    if (place >= longest) continue;
    next = guest;
    longest = place;
  }
  return next;
}
