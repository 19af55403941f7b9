import { createAlarm } from "../alarm.ts";
import type { Clock } from "../clock.ts";

/** Bounds any number of calls in time, with one timer for all of them. */
export interface TimeLimit {
  /** Settles as `call` does, or rejects with the error that `caller` has for it if it takes longer than `ms`. */
  bound<T>(call: Promise<T>, ms: number, caller: Bounded): Promise<T>;
}

/** A caller whose calls are bounded. */
export interface Bounded {
  /** The error for a call that takes too long. */
  late(): Error;
}

interface Running {
  readonly number: number;
  readonly until: number;
  readonly caller: Bounded;
  readonly reject: (error: Error) => void;
}

/** How many turns of the microtask queue a call may take before a timer is started for it. */
const FREE_TURNS = 3;

/** A {@link TimeLimit} on an injected clock. */
export function createTimeLimit(clock: Clock): TimeLimit {
  /** The calls, in the order in which they began. */
  const running = new Set<Running>();
  /** No call's time is over sooner. */
  let soonest = Infinity;
  let last = 0;
  let isArming = false;
  const alarm = createAlarm(clock, () => {
    const now = clock.now();
    soonest = Infinity;
    for (const call of running) {
      if (now >= call.until) {
        running.delete(call);
        call.reject(call.caller.late());
      } else soonest = Math.min(soonest, call.until);
    }
    if (running.size > 0) alarm.glance(soonest);
  });

  /** A store in memory answers at once, and should not pay for a timer. */
  async function arm(): Promise<void> {
    isArming = true;
    while (running.size > 0) {
      const newest = last;
      for (let turn = 0; turn < FREE_TURNS; turn++) await undefined;
      const [oldest] = running;
      if (oldest && oldest.number <= newest) {
        alarm.glance(soonest);
        break;
      }
    }
    isArming = false;
  }

  return {
    bound(call, ms, caller) {
      return new Promise((resolve, reject) => {
        const own: Running = { number: ++last, until: clock.now() + ms, caller, reject };
        if (running.size === 0) soonest = Infinity;
        running.add(own);
        soonest = Math.min(soonest, own.until);
        call.then((value) => {
          running.delete(own);
          resolve(value);
        }, (error) => {
          running.delete(own);
          reject(error);
        });
        if (!isArming) void arm();
      });
    },
  };
}
