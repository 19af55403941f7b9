import type { Demand } from "../rules/rule.ts";

/** A moment that was granted. */
interface Slot {
  readonly from: number;
  readonly demand: Demand;
}

/** A caller that waits for a moment. */
interface Scheduled {
  /** The latest moment at which it may start. */
  readonly deadline: number;
}

/**
 * The waiters whose moment is still to come. They keep their order whatever happens to the slots, as far as their costs
 * are equal.
 */
export interface Schedule<Waiter extends Scheduled, Grant extends Slot> {
  /** The next moment; `Infinity` if there is none. */
  readonly next: number;
  /** The last moment; `-Infinity` if there is none. */
  readonly last: number;
  /** What was granted for the next moment. */
  readonly nextGrant: Grant | undefined;
  readonly size: number;
  add(waiter: Waiter, grant: Grant): void;
  /** Removes and returns the waiter whose moment is the next one, with its grant. To be called only if there is one. */
  take(): { readonly waiter: Waiter; readonly grant: Grant };
  /**
   * The next moment was missed, and so were those right behind it for which `isMissed` says so. The waiters move on to
   * the slots that are left, and those for which none is left leave.
   */
  miss(isMissed: (grant: Grant) => boolean): { readonly missed: readonly Grant[]; readonly left: readonly Waiter[] };
  /** A waiter has gone: those behind it move up, and the slot that is left over is returned. */
  leave(waiter: Waiter): Grant | undefined;
}

/** An empty {@link Schedule}. */
export function createSchedule<Waiter extends Scheduled, Grant extends Slot>(): Schedule<Waiter, Grant> {
  // Two lists in step: the waiter at one place has the grant at the same place.
  let waiters: Waiter[] = [];
  const grants: Grant[] = [];

  /** Where the slots stop costing what the one at `place` does, so that waiters could no longer exchange them. */
  function endOfEquals(place: number): number {
    const { cost } = grants[place]!.demand;
    let end = place + 1;
    while (end < grants.length && grants[end]!.demand.cost === cost) end++;
    return end;
  }

  return {
    get next() {
      return grants[0]?.from ?? Infinity;
    },
    get last() {
      return grants.at(-1)?.from ?? -Infinity;
    },
    get nextGrant() {
      return grants[0];
    },
    get size() {
      return grants.length;
    },
    add(waiter, grant) {
      let place = grants.length;
      while (place > 0 && grants[place - 1]!.from > grant.from) place--;
      waiters.splice(place, 0, waiter);
      grants.splice(place, 0, grant);
    },
    take: () => ({ waiter: waiters.shift()!, grant: grants.shift()! }),
    miss(isMissed) {
      const end = endOfEquals(0);
      let count = 1;
      while (count < end && isMissed(grants[count]!)) count++;
      const missed = grants.splice(0, count);
      const kept: Waiter[] = [];
      const left: Waiter[] = [];
      for (let place = 0; place < end; place++) {
        const waiter = waiters[place]!;
        const next = kept.length;
        const isItsOwn = next === place - count;
        if (isItsOwn || (next < end - count && waiter.deadline >= grants[next]!.from)) kept.push(waiter);
        else left.push(waiter);
      }
      waiters = [...kept, ...waiters.slice(end)];
      return { missed, left };
    },
    leave(waiter) {
      const place = waiters.indexOf(waiter);
      if (place < 0) return undefined;
      const last = endOfEquals(place) - 1;
      waiters.splice(place, 1);
      return grants.splice(last, 1)[0];
    },
  };
}
