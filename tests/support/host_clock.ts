import { systemClock } from "../../src/adapters/system_clock.ts";
import type { Clock } from "../../src/core/clock.ts";

/** What is wrong with the clock of a host. */
export interface HostFault {
  /** How much too fast it runs: 5e-4 is 500 ppm. */
  readonly drift: number;
  /**
   * The steps by which its time is set forward, one after the other; then it is set back to the right time, and so on.
   */
  readonly stepsMs: readonly number[];
  /** How long it shows each of these times. */
  readonly stepEveryMs: number;
}

/**
 * Gives this process the clocks of a host with that fault: its monotonic clock, its calendar, and the clock that is
 * returned.
 */
export function breakHostClock({ drift, stepsMs, stepEveryMs }: HostFault): Clock {
  const truth = performance.now.bind(performance);
  const start = truth();
  const elapsed = () => (truth() - start) * (1 + drift);
  const steps = [0, ...stepsMs];
  const step = () => steps[Math.floor((truth() - start) / stepEveryMs) % steps.length] ?? 0;
  const wall = () => performance.timeOrigin + start + elapsed() + step();
  Object.defineProperty(performance, "now", { value: () => start + elapsed() });
  Object.defineProperty(Date, "now", { value: () => Math.floor(wall()) });
  return { now: wall, sleep: (ms, signal, isBackground) => systemClock.sleep(ms, signal, isBackground) };
}
