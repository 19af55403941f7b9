import type { LimiterOptions, StoreOptions } from "../config/options.ts";
import type { CheckOptions, Limiter } from "../core/limiter/limiter.ts";
import type { AcquireOptions, Permit, RateLimitResult } from "../core/limiter/result.ts";
import type { Logger } from "../core/logger.ts";
import type { LimiterOverrides } from "./clone.ts";
import { defaultRegistry } from "./default_registry.ts";
import type { LimiterRequest, MultiCheckOptions, MultiLimiterResult } from "./multi.ts";
import type { LimiterListing, StoreListing } from "./registry.ts";

/**
 * Waits for a slot of the limiter `id`, and resolves when the slot has come. This is the function that most callers
 * want. If nothing is configured, the first use loads `$RATE_SYNC_CONFIG`, else `./rate-sync.toml`, else
 * `./config/rate-sync.toml`.
 *
 * A permit of a limiter with a concurrency limit must be released: `await using` does it.
 *
 * @throws {LimiterNotFoundError} if no limiter has this id.
 * @throws {RateLimiterAcquisitionError} if no slot can be had within the timeout (`timeoutMs`, or else the limiter's),
 * thrown at once where that is certain; or if the store failed and the limiter fails closed.
 * @throws {ImpossibleCostError} if the cost is more than the limiter ever grants at once.
 * @throws {ConfigValidationError} if the configuration file that was found is wrong.
 *
 * @example
 * ```ts
 * import { acquire, configureLimiter } from "@ratesync/core";
 *
 * configureLimiter("acquire-example", { ratePerSecond: 100 });
 * await acquire("acquire-example");
 * await acquire("acquire-example", { timeoutMs: 5_000, key: "alice" });
 * ```
 */
export function acquire(id: string, options?: AcquireOptions): Promise<Permit> {
  return defaultRegistry.acquire(id, options);
}

/**
 * Takes a slot of the limiter `id` if there is one now, or within `timeoutMs` (0 by default). A refusal is an answer,
 * not an error: it says when to try again, and uses nothing up.
 *
 * @throws {LimiterNotFoundError} if no limiter has this id.
 * @throws {RateLimiterAcquisitionError} only if the store failed and the limiter fails closed, or if it was closed
 * meanwhile.
 * @throws {ImpossibleCostError} if the cost is more than the limiter ever grants at once.
 * @throws {ConfigValidationError} if the configuration file that was found is wrong.
 *
 * @example
 * ```ts
 * import { configureLimiter, tryAcquire } from "@ratesync/core";
 *
 * configureLimiter("try-example", { ratePerSecond: 1 });
 * console.log((await tryAcquire("try-example")).allowed); // true
 * console.log((await tryAcquire("try-example")).allowed); // false
 * ```
 */
export function tryAcquire(id: string, options?: AcquireOptions): Promise<RateLimitResult> {
  return defaultRegistry.tryAcquire(id, options);
}

/**
 * Asks the limiter `id` whether a request is allowed, and by default takes it, as {@link tryAcquire} does. With
 * `consume: false` it only looks.
 *
 * @throws {LimiterNotFoundError} if no limiter has this id.
 * @throws {RateLimiterAcquisitionError} only if the store failed and the limiter fails closed, or if it was closed
 * meanwhile.
 *
 * @example
 * ```ts
 * import { checkLimiter, configureLimiter } from "@ratesync/core";
 *
 * configureLimiter("check-example", { ratePerSecond: 10, burst: 5 });
 * console.log((await checkLimiter("check-example", { consume: false })).remaining); // 5
 * console.log((await checkLimiter("check-example")).remaining); // 4
 * ```
 */
export function checkLimiter(id: string, options?: CheckOptions): Promise<RateLimitResult> {
  return defaultRegistry.checkLimiter(id, options);
}

/**
 * Asks several limiters together: takes a slot of each or, if one of them refuses, of none. They are asked in order,
 * up to the first that refuses; what was taken until then is given back, including the capacity of rates and
 * windows. If the list is empty, the request is allowed, and the result has a `limit` of 1,000, 999 `remaining` and a
 * `resetInMs` of 60,000, as in rate-sync (Python): these numbers stand for no limit.
 *
 * With a timeout, the slots of the first limiters are held while the call waits for a later one. In that case ask the
 * same limiters in the same order everywhere: otherwise two callers can wait for each other until their timeout. Ask
 * those with a concurrency limit first: a slot of a rate counts for the moment at which it was taken. A permit that is
 * lost while the call waits is taken again.
 *
 * Permits of a concurrency limit must be released: `await using` does it.
 *
 * @throws {LimiterNotFoundError} if a limiter is not configured, before anything is taken; unless `onMissing` is
 * `"allow"`.
 * @throws {RateLimiterAcquisitionError} only if a store failed and its limiter fails closed, or if it was closed
 * meanwhile; nothing is kept then.
 * @throws {ImpossibleCostError} if a cost is more than its limiter ever grants at once; nothing is kept then.
 * @throws {InvalidArgumentError} if `limiters` is not a list of limiters, or a timeout is wrong.
 *
 * @example
 * ```ts
 * import { checkMultiLimiters, configureLimiter } from "@ratesync/core";
 *
 * configureLimiter("multi-ip", { ratePerSecond: 100, burst: 10 });
 * configureLimiter("multi-user", { ratePerSecond: 1 });
 * const limiters = ["multi-ip", { id: "multi-user", key: "alice" }];
 * {
 *   await using result = await checkMultiLimiters(limiters);
 *   console.log(result.allowed, result.remaining); // true 0
 * }
 * const { allowed, blockingLimiterId } = await checkMultiLimiters(limiters);
 * console.log(allowed, blockingLimiterId); // false "multi-user:alice"
 * ```
 */
export function checkMultiLimiters(
  limiters: readonly (string | LimiterRequest)[],
  options?: MultiCheckOptions,
): Promise<MultiLimiterResult> {
  return defaultRegistry.checkMultiLimiters(limiters, options);
}

/**
 * Names a store for limiters to use. Nothing is opened until a limiter needs it. Configuring it again with the same
 * options changes nothing.
 *
 * @throws {ConfigValidationError} if an option is missing, wrong or unknown.
 * @throws {RateLimiterAlreadyConfiguredError} if the id has other options, and `replace` is not set.
 *
 * @example
 * ```ts
 * import { configureStore } from "@ratesync/core";
 *
 * configureStore("shared", { engine: "nats", url: "nats://localhost:4222", autoCreate: true });
 * ```
 */
export function configureStore(id: string, options: StoreOptions): void {
  return defaultRegistry.configureStore(id, options);
}

/**
 * Names a limiter. Nothing is opened until it is used. Without a `store` it keeps its limit in this process.
 * Configuring it again with the same options changes nothing.
 *
 * @throws {ConfigValidationError} if an option is missing, wrong or unknown.
 * @throws {StoreNotFoundError} if no store has the id that is named.
 * @throws {RateLimiterAlreadyConfiguredError} if the id has other options, and `replace` is not set.
 *
 * @example
 * ```ts
 * import { configureLimiter } from "@ratesync/core";
 *
 * configureLimiter("configured", { ratePerSecond: 100, burst: 20, timeoutMs: 30_000 });
 * configureLimiter("login", { algorithm: "sliding_window", limit: 5, windowMs: 300_000, failClosed: true });
 * ```
 */
export function configureLimiter(id: string, options: LimiterOptions): void {
  return defaultRegistry.configureLimiter(id, options);
}

/**
 * Configures the limiter `target` like `source`, except for the `overrides`: `null` removes a value, and what is left
 * out stays as it is. The two share nothing but their store. This also works after `source` has been used.
 *
 * One limit per user or address needs no clone: see {@link getOrCloneLimiter} and the option `key`.
 *
 * @throws {LimiterNotFoundError} if no limiter has the id `source`.
 * @throws {ConfigValidationError} if there is a limiter `target` already, or an override is wrong, unknown, or
 * contradicts what is copied.
 * @throws {StoreNotFoundError} if no store has the id that is named.
 *
 * @example
 * ```ts
 * import { cloneLimiter, configureLimiter, getLimiter } from "@ratesync/core";
 *
 * configureLimiter("cloned", { ratePerSecond: 100, burst: 20, timeoutMs: 5_000 });
 * cloneLimiter("cloned", "cloned-premium", { ratePerSecond: 500, timeoutMs: null });
 * const { ratePerSecond, burst, timeoutMs } = getLimiter("cloned-premium").getConfig();
 * console.log(ratePerSecond, burst, timeoutMs); // 500 20 null
 * ```
 */
export function cloneLimiter(source: string, target: string, overrides?: LimiterOverrides): void {
  return defaultRegistry.cloneLimiter(source, target, overrides);
}

/**
 * The limiter that counts for `key` alone, configured like `base` and already opened. Its id is `base:key`. Any text
 * will do as a key, and no two keys collide. The same call returns the same object as long as it is in use. Of the idle
 * ones, the 10,000 most recently used are kept; their limits are in the store anyway.
 *
 * `acquire(base, { key })` does the same in one step.
 *
 * @throws {LimiterNotFoundError} if no limiter has the id `base`.
 * @throws {InvalidArgumentError} if the key is not text.
 * @throws {ConfigValidationError} if the store cannot keep the limit.
 * @throws {RateLimiterAcquisitionError} if the store cannot be opened and the limiter fails closed.
 *
 * @example
 * ```ts
 * import { configureLimiter, getOrCloneLimiter } from "@ratesync/core";
 *
 * configureLimiter("per-user", { ratePerSecond: 10, burst: 5 });
 * const limiter = await getOrCloneLimiter("per-user", "user@example.com");
 * console.log(limiter.id); // "per-user:user@example.com"
 * console.log((await limiter.tryAcquire()).remaining); // 4
 * ```
 */
export function getOrCloneLimiter(base: string, key: string): Promise<Limiter> {
  return defaultRegistry.getOrCloneLimiter(base, key);
}

/**
 * Reads a configuration file (`rate-sync.toml`) and adds its stores and limiters to those that are configured; an id
 * that is configured already is replaced. Without a path it looks for the file as the first use does, and finding none
 * is not an error. If anything in the file is wrong, none of it takes effect.
 *
 * @throws {ConfigValidationError} if there is no such file, or anything in it is wrong; it has the file, the field,
 * what was expected and what was there. Also if this runtime has no files, or this process may not look for them.
 *
 * @example
 * ```ts
 * import { ConfigValidationError, loadConfig } from "@ratesync/core";
 *
 * try {
 *   await loadConfig("./no-such-file.toml");
 * } catch (error) {
 *   console.log(error instanceof ConfigValidationError); // true
 * }
 * ```
 */
export function loadConfig(path?: string): Promise<void> {
  return defaultRegistry.loadConfig(path);
}

/**
 * The limiter with this id. It is the same object until the limiter or its store is configured anew, or {@link close}
 * is called: an object obtained before then is closed, or keeps the limit that it had.
 *
 * @throws {LimiterNotFoundError} if no limiter has this id.
 *
 * @example
 * ```ts
 * import { configureLimiter, getLimiter } from "@ratesync/core";
 *
 * configureLimiter("found", { ratePerSecond: 10, burst: 3 });
 * const state = await getLimiter("found").getState();
 * console.log(state.allowed, state.remaining); // true 3
 * ```
 */
export function getLimiter(id: string): Limiter {
  return defaultRegistry.getLimiter(id);
}

/**
 * All stores by id: their options without secrets, and whether they are open.
 *
 * @example
 * ```ts
 * import { configureStore, listStores } from "@ratesync/core";
 *
 * configureStore("listed", { engine: "memory" });
 * console.log(listStores()["listed"]); // { engine: "memory", initialized: false, circuitBreaker: "closed" }
 * ```
 */
export function listStores(): Readonly<Record<string, StoreListing>> {
  return defaultRegistry.listStores();
}

/**
 * All limiters by id: their configuration, whether they are open, and what they have done.
 *
 * @example
 * ```ts
 * import { configureLimiter, listLimiters } from "@ratesync/core";
 *
 * configureLimiter("listed-limiter", { ratePerSecond: 10 });
 * console.log(listLimiters()["listed-limiter"]?.ratePerSecond); // 10
 * ```
 */
export function listLimiters(): Readonly<Record<string, LimiterListing>> {
  return defaultRegistry.listLimiters();
}

/**
 * Opens the store of the limiter `id` now and checks that it can keep the limit and be used, so that what is wrong shows
 * at start-up and not at the first request.
 *
 * @throws {LimiterNotFoundError} if no limiter has this id.
 * @throws {ConfigValidationError} if the store cannot keep the limit.
 * @throws {RateLimiterAcquisitionError} if the store cannot be opened, written or read and the limiter fails closed. A
 * limiter that does not fail closed logs a warning, and tries again with the next request.
 *
 * @example
 * ```ts
 * import { configureLimiter, initializeLimiter } from "@ratesync/core";
 *
 * configureLimiter("early", { ratePerSecond: 10 });
 * await initializeLimiter("early");
 * ```
 */
export function initializeLimiter(id: string): Promise<void> {
  return defaultRegistry.initializeLimiter(id);
}

/**
 * {@link initializeLimiter} for every limiter.
 *
 * @throws {RateLimiterError} what the limiter that failed throws or, if several failed, an error with all their
 * messages.
 *
 * @example
 * ```ts
 * import { configureLimiter, initializeAllLimiters } from "@ratesync/core";
 *
 * configureLimiter("at-start", { ratePerSecond: 10 });
 * await initializeAllLimiters();
 * ```
 */
export function initializeAllLimiters(): Promise<void> {
  return defaultRegistry.initializeAllLimiters();
}

/**
 * Reports to `logger` from now on, whatever was configured before. By default warnings and errors go to the console,
 * and the rest nowhere.
 *
 * @throws {InvalidArgumentError} if it is no logger.
 *
 * @example
 * ```ts
 * import { setLogger } from "@ratesync/core";
 *
 * setLogger({ info: console.info, warn: console.warn, error: console.error });
 * ```
 */
export function setLogger(logger: Logger): void {
  defaultRegistry.setLogger(logger);
}

/**
 * Ends everything that is in use. Waiting callers are answered with an error. Reserved slots are given back, and so are
 * permits that are still held, whose holders are told by `permit.lost` and `permit.signal`. Every store that was opened
 * is closed, but not a connection that was handed in. Call it last, when nothing limited runs any more.
 *
 * The configuration stays, and a later call of the module opens what it needs again. A limiter that `getLimiter`
 * returned before stays closed. Repeated calls do nothing.
 *
 * @example
 * ```ts
 * import { acquire, close, configureLimiter } from "@ratesync/core";
 *
 * configureLimiter("closing", { ratePerSecond: 10 });
 * await acquire("closing");
 * await close();
 * ```
 */
export function close(): Promise<void> {
  return defaultRegistry.close();
}
