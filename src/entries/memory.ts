/**
 * Limits within one process: a store in memory, the host's clock, and everything of `@ratesync/core/limiter`. No NATS
 * code is loaded, no file is read, and no permission is needed.
 *
 * @example
 * ```ts
 * import { createLimiter, memoryStore } from "@ratesync/core/memory";
 *
 * await using api = createLimiter("api", memoryStore(), { ratePerSecond: 100, burst: 20 });
 * await api.acquire();
 * const result = await api.tryAcquire({ key: "alice" });
 * if (!result.allowed) console.log(`Retry after ${result.retryAfterMs} ms.`);
 * ```
 *
 * @example Several limiters in one store: ids tell them apart
 * ```ts
 * import { createLimiter, memoryStore } from "@ratesync/core/memory";
 *
 * const store = memoryStore();
 * const login = createLimiter("login", store, { algorithm: "sliding_window", limit: 5, windowMs: 300_000 });
 * const upload = createLimiter("upload", store, { maxConcurrent: 10 });
 * console.log((await login.tryAcquire({ key: "10.0.0.1" })).remaining); // 4
 * await upload.acquire().then((permit) => permit.release());
 * ```
 *
 * For names, a configuration file and metrics of all limiters, use the registry of `@ratesync/core`: without a `store`,
 * its limiters are in memory as well.
 *
 * @module
 */
export * from "./limiter.ts";
export * from "../adapters/memory.ts";
export * from "../adapters/system_clock.ts";
