import type { CircuitBreakerState } from "../store/breaker.ts";

/**
 * What a limiter has done in this process so far: a snapshot, which no longer changes. The metrics of a limiter cover
 * all its keys together, and those of a key's limiter that key alone.
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
  /** How many requests were granted, including degraded ones. */
  readonly totalAcquisitions: number;
  /** How long all granted requests together waited, in milliseconds. */
  readonly totalWaitTimeMs: number;
  /** How long a granted request waited on average, in milliseconds. */
  readonly avgWaitTimeMs: number;
  /** The longest wait of a granted request, in milliseconds. */
  readonly maxWaitTimeMs: number;
  /** How many compare-and-sets lost their race against another process. */
  readonly casFailures: number;
  /** How many requests were refused because of the limit: at once, or because their time had run out. */
  readonly timeouts: number;
  /** How many requests were ended by their `signal`. */
  readonly aborted: number;
  /** When a request was last granted, in seconds since the Unix epoch; `null` if none was. */
  readonly lastAcquisitionAt: number | null;
  /** How many permits of a concurrency limit this process holds. */
  readonly currentConcurrent: number;
  /** How many requests met a concurrency limit that was full. */
  readonly maxConcurrentReached: number;
  /** How many permits of a concurrency limit were released. */
  readonly totalReleases: number;
  /** How many requests were granted without the limit being known, because the store was down. */
  readonly degradedAcquisitions: number;
  /** How often the store failed a request. */
  readonly backendFailures: number;
  /** The state of the store's circuit breaker, which all limiters on that store share in this process. */
  readonly circuitBreaker: CircuitBreakerState;
}

/** The metrics that are plain counters. */
export type Counted = "casFailures" | "timeouts" | "aborted" | "maxConcurrentReached" | "backendFailures";

/**
 * Counts what {@link RateLimiterMetrics} shows. A class, because there is one for each key and every acquisition
 * counts: an object of functions would cost more than the key itself.
 */
export class Meter {
  readonly #whole: Meter | undefined;
  #granted = 0;
  #waitedMs = 0;
  #longestMs = 0;
  #lastAt = 0;
  #held = 0;
  #released = 0;
  #degraded = 0;
  #counts: Record<Counted, number> | undefined;

  /** At zero. Whatever it counts, `whole` counts too. */
  constructor(whole?: Meter) {
    this.#whole = whole;
  }

  /** A request was granted at `now` after `waitedMs`. */
  granted(now: number, waitedMs: number): void {
    this.#whole?.granted(now, waitedMs);
    this.#granted++;
    this.#waitedMs += waitedMs;
    if (waitedMs > this.#longestMs) this.#longestMs = waitedMs;
    this.#lastAt = now;
  }

  /** A request was granted although the store did not answer. */
  degraded(): void {
    this.#whole?.degraded();
    this.#degraded++;
  }

  count(what: Counted): void {
    this.#whole?.count(what);
    this.#counts ??= { ...NOTHING_COUNTED };
    this.#counts[what]++;
  }

  /** What became of a permit of a concurrency limit; `"lost"`: also that it was given back unused. */
  permit(change: "taken" | "lost" | "released"): void {
    this.#whole?.permit(change);
    this.#held = Math.max(0, this.#held + (change === "taken" ? 1 : -1));
    if (change === "released") this.#released++;
  }

  /** What was counted, and the state of the store's circuit breaker. */
  snapshot(circuitBreaker: CircuitBreakerState = "closed"): RateLimiterMetrics {
    return Object.freeze({
      ...this.#counts ?? NOTHING_COUNTED,
      totalAcquisitions: this.#granted,
      totalWaitTimeMs: this.#waitedMs,
      avgWaitTimeMs: this.#granted === 0 ? 0 : this.#waitedMs / this.#granted,
      maxWaitTimeMs: this.#longestMs,
      lastAcquisitionAt: this.#granted === 0 ? null : this.#lastAt / 1_000,
      currentConcurrent: this.#held,
      totalReleases: this.#released,
      degradedAcquisitions: this.#degraded,
      circuitBreaker,
    });
  }

  /** The counts in the form that {@link Meter.revived} takes. To be called when no permit is held. */
  frozen(): FrozenMeter {
    const counts = this.#counts && COUNTED.map((what) => this.#counts![what]);
    const all = [
      ...[this.#granted, this.#lastAt, this.#waitedMs, this.#longestMs, this.#released, this.#degraded],
      ...counts ?? [],
    ];
    while (all.at(-1) === 0) all.pop();
    return all;
  }

  /** The meter that was frozen, as a part of `whole`, which has already counted all of it. */
  static revived(frozen: FrozenMeter, whole: Meter): Meter {
    const meter = new Meter(whole);
    const [granted = 0, lastAt = 0, waitedMs = 0, longestMs = 0, released = 0, degraded = 0, ...counts] = frozen;
    meter.#granted = granted;
    meter.#lastAt = lastAt;
    meter.#waitedMs = waitedMs;
    meter.#longestMs = longestMs;
    meter.#released = released;
    meter.#degraded = degraded;
    if (counts.length > 0) {
      meter.#counts = { ...NOTHING_COUNTED };
      counts.forEach((count, i) => meter.#counts![COUNTED[i]!] = count);
    }
    return meter;
  }
}

/** What a meter has counted, as numbers. Zeros at the end are left out. */
export type FrozenMeter = readonly number[];

const COUNTED = ["casFailures", "timeouts", "aborted", "maxConcurrentReached", "backendFailures"] as const;
const NOTHING_COUNTED: Readonly<Record<Counted, number>> = {
  casFailures: 0,
  timeouts: 0,
  aborted: 0,
  maxConcurrentReached: 0,
  backendFailures: 0,
};
