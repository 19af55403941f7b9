/**
 * The algorithm alone: pure functions of the stored value, the time and a request. No registry, no store, no clock, no
 * timer, no dependency, and less than 8 KiB.
 *
 * {@link pureLimiter} decides on a value that you keep, in a transaction of your own: a row in a database, the storage
 * of a durable object, an atomic operation of Deno KV. If you have a compare-and-set and want to wait, to share a hot
 * key or to go on during an outage, use `createLimiter` of `@ratesync/core/limiter`, which stores the same value.
 *
 * @example A rate and a number of permits in a table
 * ```ts
 * import { pureLimiter } from "@ratesync/core/core";
 *
 * const upload = pureLimiter("upload", { ratePerSecond: 10, burst: 5, maxConcurrent: 2, leaseMs: 30_000 });
 * const rows = new Map<string, Uint8Array>(); // read and written in one transaction
 *
 * const decision = upload.decide(rows.get("upload"), Date.now(), { holder: crypto.randomUUID() });
 * if (decision.value) rows.set("upload", decision.value);
 * if (!decision.allowed) console.log(`${decision.rule}: retry at ${new Date(decision.retryAt)}`);
 * ```
 *
 * @example A slot in the future
 * ```ts
 * import { pureLimiter } from "@ratesync/core/core";
 *
 * const api = pureLimiter("api", { ratePerSecond: 10 });
 * const first = api.decide(null, 1_000);
 * if (!first.allowed) throw new Error("nothing was used");
 * const second = api.decide(first.value, 1_000, { startBy: 1_500 });
 * console.log(second.allowed && second.startAt); // 1100: sleep until then, and start before startUntil
 * ```
 *
 * The rules themselves are exported too: {@link rateRule}, {@link windowRule} and {@link concurrencyRule}.
 *
 * @module
 */
export * from "../standalone/pure_limiter.ts";
export {
  ConfigValidationError,
  ImpossibleCostError,
  InvalidArgumentError,
  type Mismatch,
  RateLimiterError,
} from "../core/errors.ts";
export { type ConcurrencyLimit, concurrencyRule } from "../core/rules/concurrency.ts";
export { type RateLimit, rateRule } from "../core/rules/rate.ts";
export { type WindowLimit, windowRule } from "../core/rules/window.ts";
export type * from "../core/rules/rule.ts";
export type * from "../core/rules/states.ts";
export type { RateSpec } from "../core/limiter_config.ts";
export type {
  CommonLimiterOptions,
  CommonTokenBucketOptions,
  ConcurrencyOptions,
  RateOptions,
  SeveralRatesOptions,
  WindowOptions,
} from "../config/options.ts";
