/**
 * Helpers for tests of code that uses `@ratesync/core`.
 *
 * @example An hour in no time
 * ```ts
 * import { createRateSync } from "@ratesync/core";
 * import { createVirtualClock } from "@ratesync/core/testing";
 *
 * const clock = createVirtualClock();
 * const rateSync = createRateSync({ clock });
 * rateSync.configureLimiter("hourly", { ratePerSecond: 1 / 3_600 });
 * await rateSync.acquire("hourly");
 * const permit = await clock.runUntil(rateSync.acquire("hourly"));
 * console.log(Math.round(permit.waitedMs)); // 3600000
 * ```
 *
 * @module
 */
export * from "./reset.ts";
export * from "./virtual_clock.ts";
