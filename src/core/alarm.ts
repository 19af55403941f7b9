import type { Clock } from "./clock.ts";

/** One timer for everything that its owner waits for. */
export interface Alarm {
  /** Rings at `at` at the latest. It may ring earlier: its owner then checks what is due, and sets it again. */
  set(at: number): void;
  /**
   * Like {@link Alarm.set}, for something that is likely to be over long before, such as a call that is answered in a
   * moment. When such calls follow one another this costs next to nothing, because one timer of at most
   * {@link GLANCE_MS} serves many of them.
   */
  glance(at: number): void;
  /** Leaves no timer behind, except for that of a glance, which soon ends by itself. */
  clear(): void;
}

/**
 * How long the timer of a glance runs at most, in milliseconds. It is not stopped earlier, because starting and
 * stopping a timer takes longer than most calls.
 */
export const GLANCE_MS = 100;

/**
 * The reason for ending a sleep that nobody waits for any more. Without a reason, an abort creates an error with a
 * stack.
 */
const CLEARED = "cleared";

/**
 * An {@link Alarm} on an injected clock. It calls `ring` with how late its timer was, in milliseconds. In the
 * background it does not keep a program from ending.
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
    }, () => {}); // Rejects when it is cleared, which is not an error.
  }

  return {
    set(at) {
      // A later time needs no new timer: the earlier one rings first, and is then set again.
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
