import type { NatsStoreOptions } from "../adapters/nats/options.ts";
import type { Clock } from "../core/clock.ts";
import type { OnFailure, RateSpec } from "../core/limiter_config.ts";
import type { Peers } from "../core/peers.ts";
import type { Kv } from "../core/store/kv.ts";

/**
 * A store for a single process. It needs nothing else, and its contents end with the process.
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
 * When the circuit breaker of a store opens, and for how long. All limiters on the store share it. While it is open,
 * the store is not asked, and requests are answered at once as their limiter's `onFailure` says; after the cool-down, a
 * single call finds out whether the store is back.
 *
 * @example
 * ```ts
 * import type { CircuitBreakerOptions } from "@ratesync/core";
 *
 * const options: CircuitBreakerOptions = { breakerFailures: 3, breakerCoolDownMs: 500, breakerMaxCoolDownMs: 10_000 };
 * console.log(options.breakerFailures); // 3
 * ```
 */
export interface CircuitBreakerOptions {
  /**
   * How many failures of the store in a row open it; an integer >= 0, and with 0 it never opens. Calls that took too
   * long and errors of the store count; refusals and lost races do not.
   *
   * @default {5}
   */
  readonly breakerFailures?: number | undefined;
  /**
   * How long it stays open at first, in milliseconds; > 0. The time doubles when the call after it fails, and is
   * shortened at random by up to a quarter, so that the processes of a fleet do not try at the same moment.
   *
   * @default {1_000}
   */
  readonly breakerCoolDownMs?: number | undefined;
  /**
   * How long it stays open at most, in milliseconds; not less than `breakerCoolDownMs`.
   *
   * @default {5_000}
   */
  readonly breakerMaxCoolDownMs?: number | undefined;
}

/**
 * A custom store: anything that implements `Kv`, and the clock that all processes on it share.
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
export interface CustomStoreOptions extends CircuitBreakerOptions {
  /** Absent: a custom store has none of this package's engines. */
  readonly engine?: undefined;
  /** Where the limits are kept. The caller closes it. */
  readonly kv: Kv;
  /** The time that all processes agree on. The default is this host's clock. */
  readonly clock?: Clock | undefined;
  /** How the processes talk to each other, if they can. A key that many processes want is then as fast as with one. */
  readonly peers?: Peers | undefined;
}

/**
 * What `configureStore` takes, and what a `[stores.<id>]` table becomes. The engine determines the other options.
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
    | (
      & {
        /** The adapter. */
        readonly engine: "nats";
      }
      & NatsStoreOptions
      & CircuitBreakerOptions
    )
    | (
      & CustomStoreOptions
      // Without an engine to tell them apart, NATS options would be accepted beside `kv`.
      & { readonly [Name in Exclude<keyof NatsStoreOptions, keyof CustomStoreOptions>]?: undefined }
    )
  )
  & {
    /** Whether other values may replace those that this id was configured with before. Not in TOML. */
    readonly replace?: boolean | undefined;
  };

/**
 * What a limiter does while its store is down: `failClosed` and `onFailure` are two names for one setting. Give one of
 * them, or both if they say the same.
 *
 * @example
 * ```ts
 * import type { FailureOptions } from "@ratesync/core";
 *
 * const refuse: FailureOptions = { failClosed: true };
 * const goOn: FailureOptions = { onFailure: "local" };
 * console.log(refuse, goOn);
 * ```
 */
export type FailureOptions =
  | {
    /**
     * Whether a request is refused with an error while the store is down; the same as `onFailure: "closed"`.
     *
     * @default {false}
     */
    readonly failClosed?: boolean | undefined;
    /** Absent: `failClosed` decides. */
    readonly onFailure?: undefined;
  }
  | {
    /** Absent: `onFailure` decides. */
    readonly failClosed?: undefined;
    /**
     * What happens while the store is down.
     *
     * @default {"open"}
     */
    readonly onFailure?: OnFailure | undefined;
  }
  | {
    /** A request is refused, as `onFailure` says. */
    readonly failClosed: true;
    /** A request is refused with an error while the store is down. */
    readonly onFailure: "closed";
  }
  | {
    /** A request is not refused, as `onFailure` says. */
    readonly failClosed: false;
    /** Requests are not refused because the store is down. */
    readonly onFailure: "open" | "local";
  };

/**
 * The options that every limiter can have, whatever it limits.
 *
 * @typeParam Store The ids of the stores.
 *
 * @example
 * ```ts
 * import type { CommonLimiterOptions } from "@ratesync/core";
 *
 * const options: CommonLimiterOptions = { store: "nats", timeoutMs: 30_000 };
 * console.log(options.timeoutMs);
 * ```
 */
export interface CommonLimiterOptions<Store extends string = string> {
  /** The id of the store. The default is the in-memory store of this process, `memory`. */
  readonly store?: Store | undefined;
  /** How many may run at the same time; an integer >= 1. */
  readonly maxConcurrent?: number | undefined;
  /**
   * After how many milliseconds the permits of a crashed holder come back; >= 1. A living holder renews its lease.
   *
   * @default {10_000}
   */
  readonly leaseMs?: number | undefined;
  /** How long an `acquire` without a timeout of its own waits, in milliseconds. By default, as long as it takes. */
  readonly timeoutMs?: number | undefined;
  /**
   * How long the store may take to answer, in milliseconds, before that counts as a failure. The default is the
   * store's.
   */
  readonly backendTimeoutMs?: number | undefined;
  /**
   * How far into the future the waiting callers of one process reserve slots, in milliseconds. A crash wastes at most
   * that much capacity, plus what one caller that was passed over had asked for. Slots are reserved only as far ahead
   * as the store remembers them while they count.
   *
   * @default {1_000}
   */
  readonly reserveAheadMs?: number | undefined;
  /**
   * Whether other values may replace those that this id was configured with before. Callers that already wait, and
   * limiters that `getLimiter()` returned before, keep those.
   */
  readonly replace?: boolean | undefined;
}

/**
 * What limiters with the algorithm `token_bucket` have in common.
 *
 * @typeParam Store The ids of the stores.
 *
 * @example
 * ```ts
 * import type { CommonTokenBucketOptions } from "@ratesync/core";
 *
 * const options: CommonTokenBucketOptions = { algorithm: "token_bucket", maxConcurrent: 8 };
 * console.log(options.maxConcurrent);
 * ```
 */
export interface CommonTokenBucketOptions<Store extends string = string> extends CommonLimiterOptions<Store> {
  /**
   * How it counts.
   *
   * @default {"token_bucket"}
   */
  readonly algorithm?: "token_bucket" | undefined;
  /** Further limits that hold at the same time, such as 1,000 in any hour. */
  readonly rates?: readonly RateSpec[] | undefined;
  /**
   * How many slots each process may take in one write before anybody asks for them, so that its next callers need no
   * network; an integer from 0 to 5,000. It takes as many as the demand is likely to use in time, up to
   * `reserveAheadMs` ahead, and the limit holds exactly. Slots that nobody uses in time are lost to the others. Only
   * for limiters that have nothing but rates: not with `maxConcurrent`, nor with a window.
   *
   * @default {0}
   */
  readonly prefetch?: number | undefined;
  /** Belongs to `sliding_window`. */
  readonly limit?: undefined;
  /** Belongs to `sliding_window`. */
  readonly windowMs?: undefined;
}

/**
 * A limiter by rate (GCRA, a token bucket), with or without a limit of concurrency.
 *
 * @typeParam Store The ids of the stores.
 *
 * @example
 * ```ts
 * import type { RateOptions } from "@ratesync/core";
 *
 * const options: RateOptions = { ratePerSecond: 100, burst: 20, maxConcurrent: 8 };
 * console.log(options.burst);
 * ```
 */
export interface RateOptions<Store extends string = string> extends CommonTokenBucketOptions<Store> {
  /** Requests (or cost) per second; > 0, and fractions such as 0.001 are fine. */
  readonly ratePerSecond: number;
  /**
   * How much may come at once after a pause; >= 1.
   *
   * @default {1}
   */
  readonly burst?: number | undefined;
}

/**
 * A limiter by concurrency: how many run at the same time.
 *
 * @typeParam Store The ids of the stores.
 *
 * @example
 * ```ts
 * import type { ConcurrencyOptions } from "@ratesync/core";
 *
 * const options: ConcurrencyOptions = { maxConcurrent: 8, leaseMs: 10_000 };
 * console.log(options.maxConcurrent);
 * ```
 */
export interface ConcurrencyOptions<Store extends string = string> extends CommonTokenBucketOptions<Store> {
  /** How many may run at the same time; an integer >= 1. */
  readonly maxConcurrent: number;
  /** Belongs to a limiter by rate, which may limit concurrency as well. */
  readonly ratePerSecond?: undefined;
  /** Belongs to limiters that have nothing but rates. */
  readonly prefetch?: 0 | undefined;
  /** Belongs to `ratePerSecond`. */
  readonly burst?: undefined;
}

/**
 * A limiter by a list of rates and windows, all of which hold at the same time.
 *
 * @typeParam Store The ids of the stores.
 *
 * @example
 * ```ts
 * import type { SeveralRatesOptions } from "@ratesync/core";
 *
 * const options: SeveralRatesOptions = {
 *   rates: [{ limit: 10, windowMs: 1_000, burst: 5 }, { limit: 1_000, windowMs: 3_600_000 }],
 * };
 * console.log(options.rates.length); // 2
 * ```
 */
export interface SeveralRatesOptions<Store extends string = string> extends CommonTokenBucketOptions<Store> {
  /** The limits; at least one. */
  readonly rates: readonly RateSpec[];
  /** Belongs to a limiter by one rate, which may have further `rates`. */
  readonly ratePerSecond?: undefined;
  /** Belongs to `ratePerSecond`; each of the `rates` has its own. */
  readonly burst?: undefined;
}

/**
 * A limiter by rate (GCRA, a token bucket), by concurrency, or by both: it needs at least one of `ratePerSecond`,
 * `maxConcurrent` and `rates`.
 *
 * @typeParam Store The ids of the stores.
 *
 * @example
 * ```ts
 * import type { TokenBucketOptions } from "@ratesync/core";
 *
 * const options: TokenBucketOptions = { ratePerSecond: 100, burst: 20, maxConcurrent: 8 };
 * console.log(options.burst);
 * ```
 */
export type TokenBucketOptions<Store extends string = string> =
  & (RateOptions<Store> | ConcurrencyOptions<Store> | SeveralRatesOptions<Store>)
  & FailureOptions;

/**
 * A limiter that never admits more than `limit` in any window of `windowMs`, with or without a limit of concurrency.
 *
 * @typeParam Store The ids of the stores.
 *
 * @example
 * ```ts
 * import type { WindowOptions } from "@ratesync/core";
 *
 * const login: WindowOptions = { algorithm: "sliding_window", limit: 5, windowMs: 300_000, maxConcurrent: 1 };
 * console.log(login.limit);
 * ```
 */
export interface WindowOptions<Store extends string = string> extends CommonLimiterOptions<Store> {
  /** How it counts. */
  readonly algorithm: "sliding_window";
  /** Requests (or cost) in any window; an integer >= 1. */
  readonly limit: number;
  /** The window's length in milliseconds; > 0. */
  readonly windowMs: number;
  /** Further limits that hold at the same time, such as 1,000 in any hour. */
  readonly rates?: readonly RateSpec[] | undefined;
  /** Belongs to `token_bucket`. */
  readonly ratePerSecond?: undefined;
  /** Belongs to `token_bucket`. */
  readonly burst?: undefined;
  /** Belongs to limiters that have nothing but rates. */
  readonly prefetch?: 0 | undefined;
}

/**
 * {@link WindowOptions}, and what happens while the store is down.
 *
 * @typeParam Store The ids of the stores.
 *
 * @example
 * ```ts
 * import type { SlidingWindowOptions } from "@ratesync/core";
 *
 * const login: SlidingWindowOptions = { algorithm: "sliding_window", limit: 5, windowMs: 300_000, failClosed: true };
 * console.log(login.limit);
 * ```
 */
export type SlidingWindowOptions<Store extends string = string> = WindowOptions<Store> & FailureOptions;

/**
 * What `configureLimiter` takes, and what a `[limiters.<id>]` table becomes. The algorithm determines the other
 * options, and contradictory ones do not compile. Only at run time is it found that a number is out of range, that a
 * list of rates is empty, or that `prefetch` is used with permits or windows.
 *
 * @typeParam Store The ids of the stores.
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
export type LimiterOptions<Store extends string = string> = TokenBucketOptions<Store> | SlidingWindowOptions<Store>;
