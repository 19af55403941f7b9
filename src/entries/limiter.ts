/**
 * One limiter, for callers that bring a `Kv` and a `Clock`: no registry, no configuration file, no adapter, no
 * dependency. Everything of `@ratesync/core/core` is included.
 *
 * {@link createLimiter} makes a limiter over `{ kv, clock }`. It is the limiter that `configureLimiter` of
 * `@ratesync/core` makes, with the same options and the same stored value: both may share a limit.
 *
 * @example A store of your own: four methods around a compare-and-set
 * ```ts
 * import { type Clock, createLimiter, type Kv, type KvEntry } from "@ratesync/core/limiter";
 *
 * const entries = new Map<string, KvEntry>();
 * let revision = 0;
 * const kv: Kv = {
 *   get: (key) => Promise.resolve(entries.get(key) ?? null),
 *   compareAndSet(key, value, expected) {
 *     if ((entries.get(key)?.revision ?? 0) !== expected) return Promise.resolve({ ok: false });
 *     entries.set(key, { value, revision: ++revision });
 *     return Promise.resolve({ ok: true, revision });
 *   },
 *   delete: (key) => Promise.resolve(void entries.delete(key)),
 *   async *keys(prefix = "") {
 *     for (const key of entries.keys()) if (key.startsWith(prefix)) yield key;
 *   },
 * };
 * const clock: Clock = {
 *   now: () => performance.timeOrigin + performance.now(),
 *   sleep: (ms, signal) =>
 *     new Promise((resolve, reject) => {
 *       signal?.throwIfAborted();
 *       const timer = setTimeout(resolve, Math.ceil(ms) + 1);
 *       signal?.addEventListener("abort", () => {
 *         clearTimeout(timer);
 *         reject(signal.reason);
 *       });
 *     }),
 * };
 *
 * await using api = createLimiter("api", { kv, clock }, { ratePerSecond: 100, burst: 5 });
 * await api.acquire(); // waits for its slot
 * const result = await api.tryAcquire({ cost: 2 }); // answers at once
 * console.log(result.allowed, result.remaining); // true 2
 * ```
 *
 * @example Holding a permit while working
 * ```ts
 * import { createLimiter } from "@ratesync/core/limiter";
 * import { memoryKv, systemClock } from "@ratesync/core/memory";
 *
 * await using upload = createLimiter("upload", { kv: memoryKv(), clock: systemClock }, { maxConcurrent: 10 });
 * await using permit = await upload.acquire({ timeoutMs: 5_000 });
 * console.log(permit.limiterId, permit.lost); // "upload" false
 * ```
 *
 * A `Kv` must promise a compare-and-set that succeeds for only one of several writers, and a `get` that is never stale.
 * A call that fails or takes longer than `backendTimeoutMs` counts as a failure of the store: see `onFailure`. The
 * clocks of all processes must tell the same time, to within `timingMarginMs`.
 *
 * @module
 */
export * from "./core.ts";
export * from "../standalone/limiter.ts";
export {
  type AcquisitionFailure,
  NotSynchronousError,
  RateLimiterAcquisitionError,
  StoreUnavailableError,
} from "../core/errors.ts";
export type { CircuitBreakerState } from "../core/store/breaker.ts";
export type { CircuitBreakerOptions } from "../config/options.ts";
export type * from "../core/clock.ts";
export type { CallBack, CasResult, Kv, KvEntry, Loans } from "../core/store/kv.ts";
export type * from "../core/peers.ts";
export type { CheckOptions, Limiter } from "../core/limiter/limiter.ts";
export type { Algorithm, LimiterConfig, OnFailure } from "../core/limiter_config.ts";
export type { Logger } from "../core/logger.ts";
export type { RateLimiterMetrics } from "../core/cell/metrics.ts";
export type * from "../core/limiter/result.ts";
export type { Store } from "../core/store/store.ts";
