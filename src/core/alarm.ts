import type { Clock } from "./clock.ts";

/** One timer for everything that a cell waits for. */
export interface Alarm {
  /** Rings at `at` at the latest. It may ring earlier: whoever is woken looks what is due and sets it again. */
  set(at: number): void;
  /** Leaves no timer behind. */
  clear(): void;
}

/** An {@link Alarm} that calls `ring`, on an injected clock. */
export function createAlarm(clock: Clock, ring: () => void): Alarm {
  let armedFor = Infinity;
  let timer: AbortController | undefined;

  function clear(): void {
    armedFor = Infinity;
    timer?.abort();
    timer = undefined;
  }

  return {
    clear,
    set(at) {
      // A later time needs no new timer: the earlier one rings, and is set again.
      if (at >= armedFor) return;
      clear();
      armedFor = at;
      const own = timer = new AbortController();
      clock.sleep(Math.max(0, at - clock.now()), own.signal).then(() => {
        if (timer !== own) return;
        armedFor = Infinity;
        timer = undefined;
        ring();
      }, () => {}); // Rejects when it is cleared, which is nobody's problem.
    },
  };
}
