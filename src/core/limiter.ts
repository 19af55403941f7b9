import type { CircuitBreaker } from "./breaker.ts";
import type { Clock, ClockReading } from "./clock.ts";
import type { Digest } from "./key.ts";
import type { Identity } from "./ledger.ts";
import type { LimiterConfig } from "./limiter_config.ts";
import type { Logger } from "./logger.ts";
import type { RateLimiterMetrics } from "./metrics.ts";
import type { AcquireOptions, LimiterState, Permit, RateLimitResult, SyncAcquireOptions } from "./result.ts";
import type { Store } from "./store.ts";

/**
 * What a check may ask for.
 *
 * @example
 * ```ts
 * import { checkLimiter, configureLimiter } from "@ratesync/core";
 *
 * configureLimiter("checked", { ratePerSecond: 10, burst: 3 });
 * const peek = await checkLimiter("checked", { consume: false });
 * console.log(peek.allowed, peek.remaining); // true 3
 * ```
 */
export interface CheckOptions extends AcquireOptions {
  /**
   * Whether an allowed request is counted. With `false` nothing is used up, and `remaining` is what is left now.
   *
   * @default {true}
   */
  readonly consume?: boolean | undefined;
}

/**
 * One limit, shared with every process that has a limiter with the same id on the same store. Most callers want
 * {@link Limiter.acquire}, which waits; {@link Limiter.tryAcquire} is for those who would rather answer "too many requests".
 *
 * @example
 * ```ts
 * import { createRateSync } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("api", { ratePerSecond: 100 });
 * const limiter = rateSync.getLimiter("api");
 * await limiter.acquire();
 * ```
 */
export interface Limiter {
  /** The limiter's id; for a keyed limiter `id:key`. */
  readonly id: string;
  /** Whether the store has been opened for it. */
  readonly initialized: boolean;
  /**
   * Opens the store, which the first use does too, and checks that it can keep this limiter's limits. Idempotent. If the
   * store is down the limiter is opened by a later use, unless it fails closed.
   *
   * @throws {ConfigValidationError} if the store cannot keep what this limiter limits, or does not exist.
   * @throws {RateLimiterAcquisitionError} if the store is down and the limiter fails closed, or if it was closed.
   */
  initialize(): Promise<void>;
  /**
   * Waits for a slot, and resolves when it has come.
   *
   * @throws {RateLimiterAcquisitionError} if no slot can be had within the timeout, if the store failed and the limiter fails
   * closed, or if it was closed meanwhile: its `reason` says which.
   * @throws {ImpossibleCostError} if no wait would be long enough.
   * @throws {InvalidArgumentError} if an option is wrong.
   */
  acquire(options?: AcquireOptions): Promise<Permit>;
  /**
   * Takes a slot if there is one now, or within `timeoutMs`; a refusal is an answer and uses nothing up.
   *
   * @throws {RateLimiterAcquisitionError} only if the store failed and the limiter fails closed, or if it was closed meanwhile.
   * @throws {ImpossibleCostError} if no wait would be long enough.
   * @throws {InvalidArgumentError} if an option is wrong.
   */
  tryAcquire(options?: AcquireOptions): Promise<RateLimitResult>;
  /**
   * As {@link Limiter.tryAcquire}, for who needs no promise: with a store in the memory of this process, and elsewhere for
   * a slot that was taken ahead (`prefetch`), and a refusal that is certain without asking.
   *
   * @throws {NotSynchronousError} if the answer takes a conversation with the store. Nothing was used up, and
   * `tryAcquire()` has the answer.
   * @throws {ImpossibleCostError} if no wait would be long enough.
   */
  tryAcquireSync(options?: SyncAcquireOptions): RateLimitResult;
  /** As {@link Limiter.tryAcquire}; with `consume: false` it only looks. */
  check(options?: CheckOptions): Promise<RateLimitResult>;
  /** What is left, as all processes see it. Uses nothing up. */
  getState(): Promise<LimiterState>;
  /**
   * What this process has done with it: with all its keys together, those that were forgotten since included. What it did
   * with one key alone: `key(k).getMetrics()`.
   */
  getMetrics(): RateLimiterMetrics;
  /** How it is configured. */
  getConfig(): LimiterConfig;
  /** The time that it goes by, and how exactly this process knows it. */
  getClock(): ClockReading;
  /** The limiter of the same kind that counts for `key` alone. Kept while it is in use, and made again when needed. */
  key(key: string): Limiter;
}

/** What all limiters on a store go by. */
export interface Tuning {
  /** The longest pause after a lost race, in milliseconds. */
  readonly retryIntervalMs: number;
  /** After how many lost races in a row a request that has a timeout counts as one that the store failed. */
  readonly maxRetries: number;
  /** By how many milliseconds a start may be late. */
  readonly timingMarginMs: number;
  /** How many keyed limiters are kept when they are idle. */
  readonly mostKeys: number;
  /** How many keys are asked for at once. The others wait for their turn. */
  readonly mostAtOnce: number;
}

/** What a limiter needs from outside. */
export interface LimiterContext extends Tuning {
  readonly store: Store;
  /** The store's circuit breaker, which all limiters on it share. */
  readonly breaker: CircuitBreaker;
  /** Measures the caller's patience while the store is being opened, which may set the store's clock. */
  readonly localClock: Clock;
  readonly logger: Logger;
  /** A new writer's name, for every limiter. */
  readonly identity: () => Identity;
  /** A number from 0 to 1. */
  readonly random: () => number;
  readonly digest: Digest;
  /** The same limiter within this process alone, for `onFailure: "local"`. */
  readonly localLimiter: () => ClosableLimiter;
}

/** An answer that is not settled yet: one of its methods has to be called, once. */
export interface Tentative {
  readonly result: RateLimitResult;
  /** Counts it in the metrics. The permit is the caller's. */
  keep(): void;
  /**
   * Gives everything back, the capacity of rates and windows included, as far as nobody builds on it by now. Resolves to
   * what was left before, when that is written or the store was silent for too long. Never throws.
   */
  cancel(): Promise<RateLimitResult>;
}

/** A {@link Limiter}, as the registry holds it. */
export interface ClosableLimiter extends Limiter {
  /** As {@link Limiter.tryAcquire}, for who may have to take it back. */
  tryTake(options?: AcquireOptions & SharedPatience): Promise<Tentative>;
  key(key: string): ClosableLimiter;
  /** Answers everybody who waits, and gives back what is held. The store stays open. */
  close(): Promise<void>;
  /**
   * Deletes what stands in the store, of its keys too, and begins anew as if it had never been used.
   *
   * @throws {StoreUnavailableError} if the store failed. In this process it has begun anew all the same.
   */
  reset(): Promise<void>;
  /**
   * Begins anew, with its keys: permits are lost, metrics are zero, and whoever waits is decided again once `erased` has
   * settled. Resolves when nothing is being written any more.
   */
  restart(erased: Promise<void>): Promise<void>;
  /** Closes what it does here, with its keys, and begins anew on another store or clock. */
  move(context: LimiterContext): Promise<void>;
}

/**
 * Marks the calls that one caller makes of several limiters in turn. A symbol, as it is nobody else's business.
 */
export const TOGETHER: unique symbol = Symbol("together");

/** Several calls whose stores may be silent together for as long as one of them may be, and not each for as long. */
export interface Together {
  /** For how long they were silent so far, in milliseconds. */
  silentMs: number;
  /** How long the caller waits for all of them, in milliseconds; 0: not at all. */
  readonly timeoutMs: number;
}

/** The calls of one caller, none of which has failed yet. */
export function together(timeoutMs: number): Together {
  return { silentMs: 0, timeoutMs };
}

/** The options of a call that may be one of several. */
export interface SharedPatience {
  readonly [TOGETHER]?: Together | undefined;
}
