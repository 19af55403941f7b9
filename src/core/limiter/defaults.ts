import type { Algorithm, LimiterConfig, OnFailure, RateSpec } from "../limiter_config.ts";
import type { BreakerSettings } from "../store/breaker.ts";
import type { Tuning } from "./limiter.ts";

/** A limiter's options, checked. Those that are left out get their defaults from {@link resolveLimiter}. */
export interface LimiterSettings {
  readonly store?: string | undefined;
  readonly algorithm?: Algorithm | undefined;
  readonly ratePerSecond?: number | undefined;
  readonly burst?: number | undefined;
  readonly maxConcurrent?: number | undefined;
  readonly leaseMs?: number | undefined;
  readonly limit?: number | undefined;
  readonly windowMs?: number | undefined;
  readonly rates?: readonly RateSpec[] | undefined;
  readonly timeoutMs?: number | undefined;
  readonly failClosed?: boolean | undefined;
  readonly onFailure?: OnFailure | undefined;
  readonly backendTimeoutMs?: number | undefined;
  readonly reserveAheadMs?: number | undefined;
  readonly prefetch?: number | undefined;
}

/** What concerns a limiter unless it or its store says otherwise. */
export const DEFAULTS = {
  backendTimeoutMs: 2_000,
  timingMarginMs: 10,
} as const;

/** What concerns all limiters on a store unless it says otherwise. */
export const STORE_DEFAULTS = {
  retryIntervalMs: 50,
  maxRetries: 100,
  breaker: { failures: 5, coolDownMs: 1_000, maxCoolDownMs: 5_000 },
  /** How many idle keyed limiters each limiter keeps. */
  mostKeys: 10_000,
  /** How many keys each limiter asks for at once. Fewer keep a nearby store busy enough; a distant one needs more. */
  mostAtOnce: 500,
} as const;

/** The bounds of options, where the meaning of an option does not make them plain. */
export const BOUNDS = {
  /** Between these rates, the interval between two slots is a number of milliseconds that can be added to the time. */
  slowestRate: 1e-9,
  fastestRate: 1e9,
  mostPrefetched: 5_000,
  /** The longest that setTimeout(), which a store may use, can wait: with more it fires at once. */
  longestTimeoutMs: 2 ** 31 - 1,
} as const;

/** Adds the defaults to the checked options of a store that concern all limiters on it. */
export function resolveTuning(options: {
  readonly retryIntervalMs?: number | undefined;
  readonly maxRetries?: number | undefined;
  readonly timingMarginMs?: number | undefined;
}): Tuning {
  const { retryIntervalMs, maxRetries, mostKeys, mostAtOnce } = STORE_DEFAULTS;
  return {
    retryIntervalMs: options.retryIntervalMs ?? retryIntervalMs,
    maxRetries: options.maxRetries ?? maxRetries,
    timingMarginMs: options.timingMarginMs ?? DEFAULTS.timingMarginMs,
    mostKeys,
    mostAtOnce,
  };
}

/** Completes the checked options of a store's circuit breaker with the defaults. */
export function resolveBreaker(options: {
  readonly breakerFailures?: number | undefined;
  readonly breakerCoolDownMs?: number | undefined;
  readonly breakerMaxCoolDownMs?: number | undefined;
}): BreakerSettings {
  const { failures, coolDownMs: first, maxCoolDownMs: longest } = STORE_DEFAULTS.breaker;
  // A default never contradicts what was given.
  const coolDownMs = options.breakerCoolDownMs ?? Math.min(first, options.breakerMaxCoolDownMs ?? first);
  const maxCoolDownMs = options.breakerMaxCoolDownMs ?? Math.max(longest, coolDownMs);
  return { failures: options.breakerFailures ?? failures, coolDownMs, maxCoolDownMs };
}

/**
 * Completes checked options with the defaults.
 *
 * @param id The id of the limiter.
 * @param options What was given, checked.
 * @param defaults `backendTimeoutMs` is how long the limiter's store may take to answer, in milliseconds, unless the
 * limiter says otherwise.
 * @returns The frozen configuration.
 */
export function resolveLimiter(
  id: string,
  options: LimiterSettings,
  defaults: { readonly backendTimeoutMs: number } = DEFAULTS,
): LimiterConfig {
  const algorithm = options.algorithm ?? "token_bucket";
  const onFailure = options.onFailure ?? (options.failClosed === true ? "closed" : "open");
  return Object.freeze({
    id,
    storeId: options.store ?? "memory",
    algorithm,
    ratePerSecond: options.ratePerSecond ?? null,
    burst: options.burst ?? 1,
    maxConcurrent: options.maxConcurrent ?? null,
    leaseMs: options.leaseMs ?? 10_000,
    limit: options.limit ?? null,
    windowMs: options.windowMs ?? null,
    rates: Object.freeze((options.rates ?? []).map(resolveRate)),
    timeoutMs: options.timeoutMs ?? null,
    failClosed: onFailure === "closed",
    onFailure,
    backendTimeoutMs: options.backendTimeoutMs ?? defaults.backendTimeoutMs,
    reserveAheadMs: options.reserveAheadMs ?? 1_000,
    prefetch: options.prefetch ?? 0,
  });
}

function resolveRate(rate: RateSpec): RateSpec {
  const { limit, windowMs, burst = 1 } = rate;
  const algorithm = algorithmOf(rate);
  return Object.freeze(
    algorithm === "token_bucket" ? { limit, windowMs, algorithm, burst } : { limit, windowMs, algorithm },
  );
}

/** How one of several limits counts: a quota of so many in a window is what is meant unless there is a burst. */
export function algorithmOf({ algorithm, burst }: Pick<RateSpec, "algorithm" | "burst">): Algorithm {
  return algorithm ?? (burst === undefined ? "sliding_window" : "token_bucket");
}
