import type { Clock } from "./clock.ts";

/** One timer for everything that its owner waits for. */
export interface Alarm {
  /** Rings at `at` at the latest. It may ring earlier: whoever is woken looks what is due and sets it again. */
  set(at: number): void;
  /**
   * As {@link Alarm.set}, for something that is likely to be over long before: a call that is answered in a moment. Costs
   * next to nothing where one such thing follows another, as one timer of at most {@link GLANCE_MS} serves for many.
   */
  glance(at: number): void;
  /** Leaves no timer behind, except for one of a glance, which is gone soon. */
  clear(): void;
}

/** To start and stop a timer takes longer than most calls: so it runs on, but not for long. */
export const GLANCE_MS = 100;

/** Why a sleep ended that nobody waits for any more. Without a reason of its own, an abort makes an error with a stack. */
const CLEARED = "cleared";

/**
 * An {@link Alarm} that calls `ring`, on an injected clock, and says by how many milliseconds its timer was late. In the
 * background it keeps no program from ending.
 */
export function createAlarm(clock: Clock, ring: (lateMs: number) => void, isBackground = false): Alarm {
  let armedFor = Infinity;
  let timer: AbortController | undefined;
  let glancing = false;

  function arm(at: number, now: number): void {
    timer?.abort(CLEARED);
    armedFor = at;
    const own = timer = new AbortController();
    clock.sleep(Math.max(0, at - now), own.signal, isBackground).then(() => {
      if (timer !== own) return;
      armedFor = Infinity;
      timer = undefined;
      ring(Math.max(0, clock.now() - Math.max(at, now)));
    }, () => {}); // Rejects when it is cleared, which is nobody's problem.
  }

  return {
    set(at) {
      // A later time needs no new timer: the earlier one rings, and is set again.
      if (at >= armedFor) return;
      glancing = false;
      arm(at, clock.now());
    },
    glance(at) {
      if (at >= armedFor) return;
      const now = clock.now();
      const until = Math.min(at, now + GLANCE_MS);
      if (until >= armedFor) return;
      glancing = true;
      arm(until, now);
    },
    clear() {
      if (glancing || !timer) return;
      armedFor = Infinity;
      timer.abort(CLEARED);
      timer = undefined;
    },
  };
}
