/**
 * Time, as everything in this package sees it. It is injected: the core reads no global clock and starts no timer of
 * its own, so all of it runs on a virtual clock too.
 *
 * @example A clock that stands still until it is told to move
 * ```ts
 * import type { Clock } from "@ratesync/core";
 *
 * let time = 0;
 * const clock: Clock = {
 *   now: () => time,
 *   sleep: (ms) => {
 *     time += ms;
 *     return Promise.resolve();
 *   },
 * };
 * await clock.sleep(250);
 * console.log(clock.now()); // 250
 * ```
 */
export interface Clock {
  /**
   * The time in milliseconds since the Unix epoch. It may (and for high rates must) be fractional, and never goes back.
   */
  now(): number;
  /**
   * Resolves after `ms` milliseconds, never earlier. If `signal` is aborted it rejects at once with the signal's reason
   * and leaves no timer behind. `isBackground` says that nobody waits for it, so that a program may end before it does,
   * if its runtime supports that.
   */
  sleep(ms: number, signal?: AbortSignal, isBackground?: boolean): Promise<void>;
}

/**
 * The time that a limiter uses, and how well this process knows it: `getLimiter(id).getClock()`.
 *
 * @example
 * ```ts
 * import { type ClockReading, createRateSync } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("api", { ratePerSecond: 10 });
 * const { source, errorMs }: ClockReading = rateSync.getLimiter("api").getClock();
 * console.log(source, errorMs); // "host" 0
 * ```
 */
export interface ClockReading {
  /**
   * Whose time it is: that of the store's `server`, as this process has measured it; that of this `host`; or that of a
   * `custom` clock that was passed in.
   */
  readonly source: "server" | "host" | "custom";
  /** The time, in milliseconds since the Unix epoch. */
  readonly now: number;
  /** How far it is ahead of this host's clock, in milliseconds. */
  readonly offsetMs: number;
  /**
   * How far it may differ from the time that it stands for, in milliseconds. For the server's clock this is known: half
   * of the shortest round trip, plus what two clocks may have drifted apart since; `Infinity` before the store is open.
   * For other clocks it is an assumption: that hosts sharing a store agree to within `timingMarginMs`, and that a clock
   * that was passed in is the same everywhere.
   */
  readonly errorMs: number;
  /** When it was measured, on the same clock; `null` if it was not, or need not be. */
  readonly measuredAt: number | null;
}
