import type { RateLimiterMetrics } from "../cell/metrics.ts";
import type { Clock, ClockReading } from "../clock.ts";
import type { LimiterConfig } from "../limiter_config.ts";
import type { Logger } from "../logger.ts";
import type { CircuitBreaker } from "../store/breaker.ts";
import type { Digest } from "../store/key.ts";
import type { Identity } from "../store/ledger.ts";
import type { Store } from "../store/store.ts";
import type { AcquireOptions, LimiterState, Permit, RateLimitResult, SyncAcquireOptions } from "./result.ts";
import type { CallOptions } from "./together.ts";

/**
 * The options of a check.
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
 * {@link Limiter.acquire}, which waits; {@link Limiter.tryAcquire} is for callers that would rather answer "too many
 * requests".
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
   * Opens the store, as the first use does too, and checks that it can keep this limiter's limits. Then it finds out
   * whether this process may write and read there, with one request each that changes nothing; the limiter of a key
   * leaves that out, because it is the same for all keys. Idempotent. If the store is down, a later use opens the
   * limiter, unless it fails closed.
   *
   * @throws {ConfigValidationError} if the store cannot keep what this limiter limits, or does not exist.
   * @throws {RateLimiterAcquisitionError} if the store is down or may not be used and the limiter fails closed, or if it
   * was closed.
   */
  initialize(): Promise<void>;
  /**
   * Waits for a slot, and resolves when it has come.
   *
   * @throws {RateLimiterAcquisitionError} if no slot can be had within the timeout, if the store failed and the limiter
   * fails closed, or if the limiter was closed meanwhile; `reason` says which.
   * @throws {ImpossibleCostError} if no wait would be long enough.
   * @throws {InvalidArgumentError} if an option is wrong.
   */
  acquire(options?: AcquireOptions): Promise<Permit>;
  /**
   * Takes a slot if there is one now, or within `timeoutMs`. A refusal is an answer, and uses nothing up.
   *
   * @throws {RateLimiterAcquisitionError} only if the store failed and the limiter fails closed, or if the limiter was
   * closed meanwhile.
   * @throws {ImpossibleCostError} if no wait would be long enough.
   * @throws {InvalidArgumentError} if an option is wrong.
   */
  tryAcquire(options?: AcquireOptions): Promise<RateLimitResult>;
  /**
   * Like {@link Limiter.tryAcquire}, but without a promise. It can answer if the store is in the memory of this
   * process, and elsewhere for a slot that was taken ahead (`prefetch`) or a refusal that is certain without asking.
   *
   * @throws {NotSynchronousError} if the answer takes a conversation with the store. Nothing was used up, and
   * `tryAcquire()` gives the answer.
   * @throws {ImpossibleCostError} if no wait would be long enough.
   */
  tryAcquireSync(options?: SyncAcquireOptions): RateLimitResult;
  /** Like {@link Limiter.tryAcquire}; with `consume: false` it only looks. */
  check(options?: CheckOptions): Promise<RateLimitResult>;
  /** What is left, as all processes see it. Uses nothing up. */
  getState(): Promise<LimiterState>;
  /**
   * What this process has done with the limiter, for all its keys together, including those that were forgotten since.
   * For one key alone, see `key(k).getMetrics()`.
   */
  getMetrics(): RateLimiterMetrics;
  /** The limiter's configuration, frozen: a new object each time. */
  getConfig(): LimiterConfig;
  /** The time that the limiter uses, and how exactly this process knows it. */
  getClock(): ClockReading;
  /**
   * The limiter of the same kind that counts for `key` alone. It is kept while it is in use, and made again when
   * needed.
   */
  key(key: string): Limiter;
}

/** The settings that all limiters on a store share. */
export interface Tuning {
  /** The longest pause after a lost race, in milliseconds. */
  readonly retryIntervalMs: number;
  /** After how many lost races in a row the store counts as having failed a request that has a timeout. */
  readonly maxRetries: number;
  /** How late a start may be, in milliseconds. */
  readonly timingMarginMs: number;
  /** How many idle keyed limiters are kept. */
  readonly mostKeys: number;
  /** How many keys are asked for at once; the others wait for their turn. */
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
  /** Makes the name of a new writer, for every limiter. */
  readonly identity: () => Identity;
  /** A number from 0 to 1. */
  readonly random: () => number;
  readonly digest: Digest;
  /** The same limiter within this process alone, for `onFailure: "local"`. */
  readonly localLimiter: () => ClosableLimiter;
}

/** An answer that is not final yet: one of its methods has to be called, once. */
export interface Tentative {
  readonly result: RateLimitResult;
  /** Counts the answer in the metrics. The permit is the caller's. */
  keep(): void;
  /**
   * Gives everything back, including the capacity of rates and windows, as far as nobody depends on it by now. Resolves
   * to what was left before, once that is written or the store has been silent for too long. Never throws.
   */
  cancel(): Promise<RateLimitResult>;
}

/** A {@link Limiter} as the registry holds it. */
export interface ClosableLimiter extends Limiter {
  /** Like {@link Limiter.tryAcquire}, for callers that may have to give back what they took. */
  tryTake(options?: CallOptions): Promise<Tentative>;
  key(key: string): ClosableLimiter;
  /** Answers all callers that wait, and gives back what is held. The store stays open. */
  close(): Promise<void>;
  /**
   * Deletes what the store holds for the limiter and its keys, and begins anew as if it had never been used.
   *
   * @throws {StoreUnavailableError} if the store failed. In this process the limiter has begun anew all the same.
   */
  reset(): Promise<void>;
  /**
   * Begins anew, with its keys: permits are lost, metrics are zero, and callers that wait are decided again once
   * `erased` has settled. Resolves when nothing is being written any more.
   */
  restart(erased: Promise<void>): Promise<void>;
  /** Closes what it does here, with its keys, and begins anew on another store or clock. */
  move(context: LimiterContext): Promise<void>;
}
