/**
 * How a limiter counts: `token_bucket` (GCRA, a rate with a burst) or `sliding_window` (a log of the last window).
 *
 * @example
 * ```ts
 * import type { Algorithm } from "@ratesync/core";
 *
 * const algorithm: Algorithm = "sliding_window";
 * console.log(algorithm);
 * ```
 */
export type Algorithm = "token_bucket" | "sliding_window";

/**
 * What a limiter does while its store is down: admit without a limit (`open`), refuse with an error (`closed`), or go
 * on with the same rules inside this process (`local`).
 *
 * @example
 * ```ts
 * import type { OnFailure } from "@ratesync/core";
 *
 * const whenTheStoreIsDown: OnFailure = "local";
 * console.log(whenTheStoreIsDown);
 * ```
 */
export type OnFailure = "open" | "closed" | "local";

/**
 * One of several limits on the same limiter: at most `limit` in any `windowMs`. With a `burst` it is a rate instead:
 * `limit` per `windowMs`, evenly spread, of which `burst` may come at once.
 *
 * @example At most 1,000 in any hour, and 600 per minute, of which 20 may come at once
 * ```ts
 * import type { RateSpec } from "@ratesync/core";
 *
 * const rates: RateSpec[] = [
 *   { limit: 1_000, windowMs: 3_600_000 },
 *   { limit: 600, windowMs: 60_000, burst: 20 },
 * ];
 * console.log(rates.length); // 2
 * ```
 */
export type RateSpec =
  & {
    /** How many requests (or how much cost) in each window; an integer >= 1. */
    readonly limit: number;
    /** The window's length in milliseconds; > 0. */
    readonly windowMs: number;
  }
  & (
    | {
      /**
       * How it counts, whatever the limiter does.
       *
       * @default {"sliding_window", or "token_bucket" with a burst}
       */
      readonly algorithm?: "token_bucket" | undefined;
      /**
       * How much of it may come at once after a pause. Without one, a `token_bucket` lets one after the other start, at
       * equal distances.
       *
       * @default {1}
       */
      readonly burst?: number | undefined;
    }
    | {
      /** It counts as a window. */
      readonly algorithm: "sliding_window";
      /** Only for `token_bucket`. */
      readonly burst?: undefined;
    }
  );

/**
 * The configuration of a limiter, complete and checked, as `getLimiter(id).getConfig()` returns it. Frozen; `null`
 * stands for a limit that it does not have.
 *
 * @example
 * ```ts
 * import { createRateSync } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("api", { ratePerSecond: 100 });
 * console.log(rateSync.getLimiter("api").getConfig().burst); // 1
 * ```
 */
export interface LimiterConfig {
  /** The limiter's id. */
  readonly id: string;
  /** The id of the store that keeps its limits. */
  readonly storeId: string;
  /** How it counts. A limiter that limits only concurrency has `token_bucket`. */
  readonly algorithm: Algorithm;
  /** Requests per second, or `null`. */
  readonly ratePerSecond: number | null;
  /** How much of the rate may come at once after a pause. */
  readonly burst: number;
  /** How many may run at the same time, or `null`. */
  readonly maxConcurrent: number | null;
  /** After how many milliseconds the permits of a crashed holder come back. */
  readonly leaseMs: number;
  /** Requests in each window, or `null`. */
  readonly limit: number | null;
  /** The window's length in milliseconds, or `null`. */
  readonly windowMs: number | null;
  /** Further limits that hold at the same time. */
  readonly rates: readonly RateSpec[];
  /** How long an `acquire` without a timeout of its own waits, in milliseconds; `null` means as long as it takes. */
  readonly timeoutMs: number | null;
  /** Whether a request is refused while the store is down; the same as `onFailure === "closed"`. */
  readonly failClosed: boolean;
  /** What happens while the store is down. */
  readonly onFailure: OnFailure;
  /** How long the store may take to answer, in milliseconds, before that counts as a failure. */
  readonly backendTimeoutMs: number;
  /** How far into the future the waiting callers of one process reserve slots, in milliseconds. */
  readonly reserveAheadMs: number;
  /** How many slots of a rate each process may take before anybody asks for them; 0 means none. */
  readonly prefetch: number;
}
