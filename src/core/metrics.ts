import type { CircuitBreakerState } from "./breaker.ts";

/**
 * What a limiter has done in this process so far: a snapshot, which does not change any more. A limiter speaks of all its
 * keys together, and the limiter of a key of that key alone.
 *
 * @example
 * ```ts
 * import { createRateSync } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("api", { ratePerSecond: 100 });
 * await rateSync.acquire("api");
 * console.log(rateSync.getLimiter("api").getMetrics().totalAcquisitions); // 1
 * ```
 */
export interface RateLimiterMetrics {
  /** How many requests were granted, degraded ones included. */
  readonly totalAcquisitions: number;
  /** How long all granted requests waited together, in milliseconds. */
  readonly totalWaitTimeMs: number;
  /** How long a granted request waited on average, in milliseconds. */
  readonly avgWaitTimeMs: number;
  /** How long the granted request that waited longest did, in milliseconds. */
  readonly maxWaitTimeMs: number;
  /** How many compare-and-sets lost their race against another process. */
  readonly casFailures: number;
  /** How many requests were refused because of the limit: at once, or as their time had run out. */
  readonly timeouts: number;
  /** How many requests were ended by their `signal`. */
  readonly aborted: number;
  /** When a request was granted last, in seconds since the Unix epoch; `null` if none was. */
  readonly lastAcquisitionAt: number | null;
  /** How many permits of a concurrency limit this process holds. */
  readonly currentConcurrent: number;
  /** How many requests met a concurrency limit that was full. */
  readonly maxConcurrentReached: number;
  /** How many permits of a concurrency limit were released. */
  readonly totalReleases: number;
  /** How many requests were granted without the limit being known, because the store was down. */
  readonly degradedAcquisitions: number;
  /** How many requests the store failed. */
  readonly backendFailures: number;
  /** The state of its store's circuit breaker, which all limiters on that store share in this process. */
  readonly circuitBreaker: CircuitBreakerState;
}

/** Counts what {@link RateLimiterMetrics} shows. */
export interface Meter {
  /** A request was granted at `now` after `waitedMs`. */
  granted(now: number, waitedMs: number): void;
  /** A request was granted although the store did not answer. */
  degraded(): void;
  /** One more of the things that are only counted. */
  count(what: "casFailures" | "timeouts" | "aborted" | "maxConcurrentReached" | "backendFailures"): void;
  /** A permit of a concurrency limit was taken (1), given back before it was used (-1), or released. */
  permit(change: 1 | -1 | "released"): void;
  /** What was counted, and the state of the store's circuit breaker. */
  snapshot(circuitBreaker?: CircuitBreakerState): RateLimiterMetrics;
}

/** A {@link Meter} at zero. What it counts, the `whole` counts too. */
export function createMeter(whole?: Meter): Meter {
  const counts = { casFailures: 0, timeouts: 0, aborted: 0, maxConcurrentReached: 0, backendFailures: 0 };
  let totalAcquisitions = 0;
  let totalWaitTimeMs = 0;
  let maxWaitTimeMs = 0;
  let lastAcquisitionAt: number | null = null;
  let currentConcurrent = 0;
  let totalReleases = 0;
  let degradedAcquisitions = 0;
  return {
    granted(now, waitedMs) {
      whole?.granted(now, waitedMs);
      totalAcquisitions++;
      totalWaitTimeMs += waitedMs;
      if (waitedMs > maxWaitTimeMs) maxWaitTimeMs = waitedMs;
      lastAcquisitionAt = now / 1_000;
    },
    degraded() {
      whole?.degraded();
      degradedAcquisitions++;
    },
    count(what) {
      whole?.count(what);
      counts[what]++;
    },
    permit(change) {
      whole?.permit(change);
      currentConcurrent = Math.max(0, currentConcurrent + (change === 1 ? 1 : -1));
      if (change === "released") totalReleases++;
    },
    snapshot(circuitBreaker = "closed") {
      const avgWaitTimeMs = totalAcquisitions === 0 ? 0 : totalWaitTimeMs / totalAcquisitions;
      return Object.freeze({
        ...counts,
        totalAcquisitions,
        totalWaitTimeMs,
        avgWaitTimeMs,
        maxWaitTimeMs,
        lastAcquisitionAt,
        currentConcurrent,
        totalReleases,
        degradedAcquisitions,
        circuitBreaker,
      });
    },
  };
}
