/**
 * A slot that was granted. Release it when the work is done: `await using` does so by itself. Without a concurrency
 * limit there is nothing to release, and releasing does nothing.
 *
 * @example
 * ```ts
 * import { createRateSync } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("upload", { maxConcurrent: 2 });
 * {
 *   await using permit = await rateSync.acquire("upload");
 *   console.log(permit.limiterId); // "upload"
 * } // released here, whatever happens
 * ```
 */
export interface Permit extends AsyncDisposable {
  /** The limiter that granted it; for a keyed limiter `id:key`. */
  readonly limiterId: string;
  /** How long the request waited, in milliseconds. */
  readonly waitedMs: number;
  /** Whether it was granted although the store was down, so that the limit may have been exceeded. */
  readonly degraded: boolean;
  /**
   * Whether a permit of a concurrency limit is no longer held although it was not released: this process was paused, or
   * cut off from the store, for longer than the lease, so that somebody else may hold it now. It is up to date whenever
   * it is read, also after a computation during which no timer could fire.
   */
  readonly lost: boolean;
  /**
   * Aborts when the permit is lost. Pass it on to work that must not continue without the permit. It is up to date
   * whenever it is read here; a signal that was read earlier aborts when a timer can fire.
   */
  readonly signal: AbortSignal;
  /** Gives the permit of a concurrency limit back. Repeated calls do nothing. Never throws. */
  release(): Promise<void>;
}

/**
 * What every {@link RateLimitResult} says. With several rules, the values are those of the rule with the least left.
 *
 * @example
 * ```ts
 * import { createRateSync, type RateLimitFacts } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("login", { algorithm: "sliding_window", limit: 5, windowMs: 60_000 });
 * const { limit, remaining }: RateLimitFacts = await rateSync.tryAcquire("login");
 * console.log(limit, remaining); // 5 4
 * ```
 */
export interface RateLimitFacts extends AsyncDisposable {
  /** The limiter that was asked; for a keyed limiter `id:key`. */
  readonly limiterId: string;
  /**
   * How much the limiter allows at once: the burst of a rate, the limit of a window, the permits of a concurrency
   * limit.
   */
  readonly limit: number;
  /** How much of that is left after this request. */
  readonly remaining: number;
  /**
   * After how many milliseconds all of it is available again. Never 0: if nothing is used, it is the time that one
   * request would take, or for a permit its lease.
   */
  readonly resetInMs: number;
  /** Whether the store was down, so that nothing here is known for sure. */
  readonly degraded: boolean;
  /** Gives the permit of a concurrency limit back, if one was granted. Repeated calls do nothing. Never throws. */
  release(): Promise<void>;
}

/**
 * The answer of `tryAcquire`. Narrow it on `allowed`. A refusal may be up to a millisecond old, and says what was true
 * then: callers that ask for the same amount while nothing else has changed may get the same object.
 *
 * @example
 * ```ts
 * import { createRateSync } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("api", { ratePerSecond: 1 });
 * await rateSync.acquire("api");
 * const result = await rateSync.tryAcquire("api");
 * if (!result.allowed) console.log(result.retryAfterMs <= 1_000); // true
 * ```
 */
export type RateLimitResult =
  & RateLimitFacts
  & (
    | {
      /** Granted. */
      readonly allowed: true;
      /** How long the request waited, in milliseconds. */
      readonly waitedMs: number;
      /** Always 0: there is nothing to retry. */
      readonly retryAfterMs: 0;
      /** What was granted. It says when a permit of a concurrency limit is lost. */
      readonly permit: Permit;
    }
    | {
      /** Refused; nothing was used up. */
      readonly allowed: false;
      /**
       * After how many milliseconds the same request could be granted, if nobody else comes before it. A permit comes
       * back when it is released; this is when the first one comes back whose holder neither releases nor renews it.
       */
      readonly retryAfterMs: number;
      /** The rule that refused, in words. */
      readonly rule: string;
    }
  );

/**
 * What is left of a limiter, as all processes see it. Asking uses nothing up.
 *
 * @example
 * ```ts
 * import { createRateSync } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("api", { ratePerSecond: 10, burst: 5 });
 * const { allowed, remaining } = await rateSync.getLimiter("api").getState();
 * console.log(allowed, remaining); // true 5
 * ```
 */
export interface LimiterState {
  /** Whether a request of cost 1 would be granted now. */
  readonly allowed: boolean;
  /** How much could be granted now. */
  readonly remaining: number;
  /**
   * When everything is available again, in milliseconds since the Unix epoch. Always in the future: if nothing is used,
   * it is later than now by what one request would take, or for a permit by its lease.
   */
  readonly resetAt: number;
  /** How much of the limit is in use. */
  readonly currentUsage: number;
}

/**
 * The options of a single acquisition.
 *
 * @example
 * ```ts
 * import { type AcquireOptions, createRateSync } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("api", { ratePerSecond: 100, burst: 10 });
 * const options: AcquireOptions = { cost: 5, timeoutMs: 1_000, signal: AbortSignal.timeout(2_000) };
 * await rateSync.acquire("api", options);
 * ```
 */
export interface AcquireOptions {
  /**
   * How long to wait at most, in milliseconds; 0 means one attempt and no waiting. For `acquire` the default is the
   * limiter's `timeoutMs`, or as long as it takes if there is none; for `tryAcquire` it is 0.
   */
  readonly timeoutMs?: number | undefined;
  /** Ends the wait with the signal's reason, and leaves no slot, permit or timer behind. */
  readonly signal?: AbortSignal | undefined;
  /**
   * How much of a rate or a window the request uses. A permit of a concurrency limit is one, whatever the cost.
   *
   * @default {1}
   */
  readonly cost?: number | undefined;
  /** Selects a separate limit for every key, such as one for each user, address or tenant. Any text will do. */
  readonly key?: string | undefined;
}

/**
 * The options of a call without a promise, which cannot wait.
 *
 * @example
 * ```ts
 * import { configureLimiter, getLimiter, type SyncAcquireOptions } from "@ratesync/core";
 *
 * configureLimiter("frames", { ratePerSecond: 60, burst: 10 });
 * const options: SyncAcquireOptions = { key: "camera-1", cost: 2 };
 * console.log(getLimiter("frames").tryAcquireSync(options).remaining); // 8
 * ```
 */
export type SyncAcquireOptions = Pick<AcquireOptions, "cost" | "key">;
