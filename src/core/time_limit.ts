import { createAlarm } from "./alarm.ts";
import type { Clock } from "./clock.ts";

/** Bounds calls in time, one at a time. */
export interface TimeLimit {
  /** Settles as `call` does, or rejects with what `late` returns if that takes longer than `ms`. */
  bound<T>(call: Promise<T>, ms: number, late: () => Error): Promise<T>;
}

/** How many turns of the microtask queue a call may take before a timer is started for it. */
const FREE_TURNS = 3;

/** A {@link TimeLimit} on an injected clock. */
export function createTimeLimit(clock: Clock): TimeLimit {
  let running: { readonly until: number; readonly expire: () => void } | undefined;
  const alarm = createAlarm(clock, () => {
    if (!running) return;
    if (clock.now() >= running.until) running.expire();
    else alarm.glance(running.until);
  });

  /** A store in memory answers at once: it shall not pay for a timer. */
  async function arm(own: typeof running): Promise<void> {
    for (let turn = 0; turn < FREE_TURNS; turn++) await undefined;
    if (own && running === own) alarm.glance(own.until);
  }

  return {
    bound(call, ms, late) {
      return new Promise((resolve, reject) => {
        const own = running = { until: clock.now() + ms, expire: () => done(() => reject(late())) };
        function done(settle: () => void): void {
          if (running === own) running = undefined;
          settle();
        }
        call.then((value) => done(() => resolve(value)), (error) => done(() => reject(error)));
        void arm(own);
      });
    },
  };
}
