import type { NatsStoreOptions } from "../adapters/nats/options.ts";
import type { Clock } from "../core/clock.ts";
import type { Kv } from "../core/kv.ts";
import type { OnFailure, RateSpec } from "../core/limiter_config.ts";

/**
 * A store for a single process. It needs nothing, and what it holds ends with the process.
 *
 * @example
 * ```ts
 * import { createRateSync, type MemoryStoreOptions } from "@ratesync/core";
 *
 * const options: MemoryStoreOptions = { engine: "memory" };
 * createRateSync().configureStore("local", options);
 * ```
 */
export interface MemoryStoreOptions {
  /** The adapter. */
  readonly engine: "memory";
}

/**
 * A store of the caller's own: anything that implements `Kv`, and the clock that all processes on it share.
 *
 * @example
 * ```ts
 * import { createRateSync, type CustomStoreOptions, memoryStore } from "@ratesync/core";
 *
 * const { kv, clock } = memoryStore();
 * const options: CustomStoreOptions = { kv, clock };
 * createRateSync().configureStore("custom", options);
 * ```
 */
export interface CustomStoreOptions {
  /** Absent: a custom store has no engine of this package's. */
  readonly engine?: undefined;
  /** Where the limits are kept. The caller closes it. */
  readonly kv: Kv;
  /** The time that all processes agree on. The default is this host's clock. */
  readonly clock?: Clock | undefined;
}

/**
 * What `configureStore` takes, and what a `[stores.<id>]` table is turned into.
 *
 * @example
 * ```ts
 * import type { StoreOptions } from "@ratesync/core";
 *
 * const store: StoreOptions = { engine: "nats", url: "nats://localhost:4222", autoCreate: true };
 * console.log(store.engine);
 * ```
 */
export type StoreOptions =
  & (
    | MemoryStoreOptions
    | ({
      /** The adapter. */
      readonly engine: "nats";
    } & NatsStoreOptions)
    | CustomStoreOptions
  )
  & {
    /** Whether other values may take the place of those that this id was configured with before. Not in TOML. */
    readonly replace?: boolean | undefined;
  };

/**
 * What every limiter can have, whatever it limits.
 *
 * @example
 * ```ts
 * import type { CommonLimiterOptions } from "@ratesync/core";
 *
 * const options: CommonLimiterOptions = { store: "nats", timeoutMs: 30_000, failClosed: true };
 * console.log(options.timeoutMs);
 * ```
 */
export interface CommonLimiterOptions {
  /** The id of the store. The default is the in-memory store of this process, `memory`. */
  readonly store?: string | undefined;
  /** How many may run at the same time; an integer >= 1. */
  readonly maxConcurrent?: number | undefined;
  /**
   * After how many milliseconds the permits of a crashed holder come back. A living holder renews its lease.
   *
   * @default {10_000}
   */
  readonly leaseMs?: number | undefined;
  /** How long an `acquire` without a timeout of its own waits, in milliseconds. The default: as long as it takes. */
  readonly timeoutMs?: number | undefined;
  /**
   * Whether a request is refused with an error while the store is down; the same as `onFailure: "closed"`.
   *
   * @default {false}
   */
  readonly failClosed?: boolean | undefined;
  /**
   * What happens while the store is down.
   *
   * @default {"open"}
   */
  readonly onFailure?: OnFailure | undefined;
  /** How long the store may take to answer, in milliseconds, before that counts as a failure. The default: the store's. */
  readonly backendTimeoutMs?: number | undefined;
  /**
   * How far into the future the waiting callers of one process reserve slots, in milliseconds. A crash wastes at most
   * that much capacity.
   *
   * @default {1_000}
   */
  readonly reserveAheadMs?: number | undefined;
  /** Further limits that hold at the same time: 10 per second and 1,000 per hour. */
  readonly rates?: readonly RateSpec[] | undefined;
  /** Whether other values may take the place of those that this id was configured with before. */
  readonly replace?: boolean | undefined;
}

/**
 * A limiter by rate (GCRA, a token bucket), by concurrency, or by both.
 *
 * @example
 * ```ts
 * import type { TokenBucketOptions } from "@ratesync/core";
 *
 * const options: TokenBucketOptions = { ratePerSecond: 100, burst: 20, maxConcurrent: 8 };
 * console.log(options.burst);
 * ```
 */
export interface TokenBucketOptions extends CommonLimiterOptions {
  /**
   * How it counts.
   *
   * @default {"token_bucket"}
   */
  readonly algorithm?: "token_bucket" | undefined;
  /** Requests (or cost) per second; > 0, and fractions such as 0.001 are fine. */
  readonly ratePerSecond?: number | undefined;
  /**
   * How much may come at once after a pause; >= 1.
   *
   * @default {1}
   */
  readonly burst?: number | undefined;
  /** Belongs to `sliding_window`. */
  readonly limit?: undefined;
  /** Belongs to `sliding_window`. */
  readonly windowMs?: undefined;
}

/**
 * A limiter that never admits more than `limit` in any window of `windowMs`, with or without a limit of concurrency.
 *
 * @example
 * ```ts
 * import type { SlidingWindowOptions } from "@ratesync/core";
 *
 * const login: SlidingWindowOptions = { algorithm: "sliding_window", limit: 5, windowMs: 300_000 };
 * console.log(login.limit);
 * ```
 */
export interface SlidingWindowOptions extends CommonLimiterOptions {
  /** How it counts. */
  readonly algorithm: "sliding_window";
  /** Requests (or cost) in any window; an integer >= 1. */
  readonly limit: number;
  /** The window's length in milliseconds; > 0. */
  readonly windowMs: number;
  /** Belongs to `token_bucket`. */
  readonly ratePerSecond?: undefined;
  /** Belongs to `token_bucket`. */
  readonly burst?: undefined;
}

/**
 * What `configureLimiter` takes, and what a `[limiters.<id>]` table is turned into.
 *
 * @example
 * ```ts
 * import type { LimiterOptions } from "@ratesync/core";
 *
 * const api: LimiterOptions = { ratePerSecond: 100 };
 * const login: LimiterOptions = { algorithm: "sliding_window", limit: 5, windowMs: 300_000 };
 * console.log(api, login);
 * ```
 */
export type LimiterOptions = TokenBucketOptions | SlidingWindowOptions;
