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
