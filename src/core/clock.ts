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
   * and leaves no timer behind. `isBackground` says that nobody waits for it, so that a program may end before, if its
   * runtime can do that.
   */
  sleep(ms: number, signal?: AbortSignal, isBackground?: boolean): Promise<void>;
}

/**
 * The time that a limiter goes by, and how well this process knows it: `getLimiter(id).getClock()`.
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
   * Whose time it is: that of the store's `server`, as this process has measured it; that of this `host`; or a `custom`
   * one, which was handed in.
   */
  readonly source: "server" | "host" | "custom";
  /** What time it is, in milliseconds since the Unix epoch. */
  readonly now: number;
  /** How far that is ahead of this host's clock, in milliseconds. */
  readonly offsetMs: number;
  /**
   * By how much it may differ from the time that it stands for, in milliseconds. Of the server's clock that is known: half
   * of the shortest round trip, and what two clocks may have drifted apart since; `Infinity` before the store is open. Of
   * other clocks it is what is assumed: that hosts which share a store agree to within `timingMarginMs`, and that a clock which
   * was handed in is the same everywhere.
   */
  readonly errorMs: number;
  /** When it was measured, in the same time; `null` if it was not, or need not be. */
  readonly measuredAt: number | null;
}
