/**
 * A rate limiter that many processes share through one NATS JetStream Key-Value bucket, and that a single process can
 * use without any server. It limits rates, requests in any window, and how many run at the same time.
 *
 * Name a store and a limiter, in code or in `rate-sync.toml`, and ask before you do what is limited:
 *
 * - {@link acquire} waits for its slot. This is what most callers want.
 * - {@link tryAcquire} answers at once, and says when to try again.
 *
 * Importing the module reads no file and opens no connection. The first use of a limiter does, once.
 *
 * @example One process: nothing else is needed
 * ```ts
 * import { acquire, configureLimiter } from "@ratesync/core";
 *
 * configureLimiter("api", { ratePerSecond: 100 });
 * await acquire("api");
 * ```
 *
 * @example Many processes: the same limit through a NATS bucket
 * ```ts
 * import { acquire, configureLimiter, configureStore } from "@ratesync/core";
 *
 * configureStore("nats", { engine: "nats", url: "nats://localhost:4222", autoCreate: true });
 * configureLimiter("partner-api", { store: "nats", ratePerSecond: 100, burst: 20, timeoutMs: 30_000 });
 *
 * async function callPartner(): Promise<Response> {
 *   await acquire("partner-api");
 *   return await fetch("https://partner.example.com/");
 * }
 * console.log(typeof callPartner);
 * ```
 *
 * @example From `rate-sync.toml`, which the first use finds by itself
 * ```toml
 * [stores.nats]
 * engine = "nats"
 * url = "${NATS_URL:-nats://localhost:4222}"
 * auto_create = true
 *
 * [limiters.api]
 * store = "nats"
 * rate_per_second = 100
 * ```
 *
 * @module
 */
export * from "./src/adapters/memory.ts";
export * from "./src/adapters/system_clock.ts";
export * from "./src/composite.ts";
export * from "./src/core/errors.ts";
export * from "./src/identifiers.ts";
export * from "./src/rate_limited/rate_limited.ts";
export * from "./src/registry/functions.ts";
export * from "./src/registry/registry.ts";
export { natsStore } from "./src/standalone/nats_store.ts";
export type * from "./src/adapters/nats/options.ts";
export type { NatsStore, NatsStoreContext } from "./src/adapters/nats/store.ts";
export type * from "./src/config/options.ts";
export type { RateLimiterMetrics } from "./src/core/cell/metrics.ts";
export type * from "./src/core/clock.ts";
export type { CheckOptions, Limiter } from "./src/core/limiter/limiter.ts";
export type * from "./src/core/limiter/result.ts";
export type * from "./src/core/limiter_config.ts";
export type { Logger } from "./src/core/logger.ts";
export type * from "./src/core/peers.ts";
export type { CircuitBreakerState } from "./src/core/store/breaker.ts";
export type { CallBack, CasResult, Kv, KvEntry, Loans } from "./src/core/store/kv.ts";
export type { Store } from "./src/core/store/store.ts";
export type * from "./src/rate_limited/template_types.ts";
export type { LimiterOverrides } from "./src/registry/clone.ts";
export type { LimiterRequest, MultiCheckOptions, MultiLimiterFacts, MultiLimiterResult } from "./src/registry/multi.ts";
