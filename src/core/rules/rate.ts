import type { Demand, Rule } from "./rule.ts";

/**
 * The limit of {@link rateRule}.
 *
 * @example
 * ```ts
 * import type { RateLimit } from "@ratesync/core/core";
 *
 * const limit: RateLimit = { ratePerSecond: 100, burst: 20, timingMarginMs: 10 };
 * console.log(limit.burst); // 20
 * ```
 */
export interface RateLimit {
  /** Requests (or cost) per second; finite and > 0. */
  readonly ratePerSecond: number;
  /** How much may come at once after a pause; finite and >= 1. */
  readonly burst: number;
  /** The allowance for late timers and for clocks that disagree, in milliseconds. */
  readonly timingMarginMs: number;
}

/**
 * The part of an interval by which a start may be late; the rest is for the error of clocks. With starts that are late
 * by up to `l`, any window of length `w` has at most `burst + rate * (w + l)` starts. While `l` is less than an
 * interval, a window of whole intervals has at most `burst + rate * w`. The tolerance of a fast rate is larger: half of
 * the timing margin, because no timer could keep to less.
 */
const LATENESS = 0.8;

/**
 * A rate with a burst, by the generic cell rate algorithm (GCRA; ITU-T I.371, in its virtual scheduling form): the
 * state is one number, the theoretical arrival time (TAT), at which a bucket of `burst` tokens would be full again. A
 * request of cost `c` fits from `TAT + (c - burst) · interval` on, and moves the TAT by `c · interval`.
 *
 * @example
 * ```ts
 * import { rateRule } from "@ratesync/core/core";
 *
 * const rule = rateRule({ ratePerSecond: 10, burst: 1, timingMarginMs: 0 });
 * const demand = { cost: 1, owner: "me", permit: 1 };
 * const now = 1_000;
 * const state = rule.take(rule.initial, rule.earliest(rule.initial, now, demand), now, demand);
 * console.log(rule.earliest(state, now, demand)); // 1100: 100 ms later
 * ```
 */
export function rateRule({ ratePerSecond, burst, timingMarginMs }: RateLimit): Rule<number> {
  const interval = 1_000 / ratePerSecond;
  const tolerance = burst * interval;
  const earliest = (tat: number, now: number, { cost }: Demand) => Math.max(now, tat + cost * interval - tolerance);
  return {
    kind: "rate",
    label: `${ratePerSecond}/s, burst ${burst}`,
    maximumCost: burst,
    toleranceMs: Math.max(LATENESS * interval, timingMarginMs / 2),
    horizonMs: tolerance,
    initial: 0,
    earliest,
    earliestBehind: (tat, now, ahead, { cost }) => Math.max(now, tat + (ahead + cost) * interval - tolerance),
    take: (tat, at, _now, { cost }) => Math.max(tat, at) + cost * interval,
    // A grant that nothing was granted after is undone exactly. Otherwise the TAT is the maximum, over all grants, of
    // the grant's `at` plus its cost and the costs of all later grants. Without this grant, the values of the grants
    // before it are lower by its cost, and the grants after it begin by `latest`.
    giveBack(tat, { at, before, after, demand: { cost }, latest }) {
      if (latest === undefined) return tat === after ? before : tat;
      return tat - Math.max(0, cost * interval - Math.max(0, latest - at));
    },
    retryAt: earliest,
    usage(tat, now) {
      // Moments that are far from the epoch are not exact: of one that has passed nothing is needed.
      const remaining = Math.floor((tolerance - Math.max(0, tat - now)) / interval + ROUNDING);
      return { limit: burst, remaining: Math.max(0, remaining), resetAt: Math.max(tat, now + interval) };
    },
    exhausted: (now) => now + tolerance,
    idleFrom: (tat) => tat,
    shift: (tat, ms) => tat - ms,
    decode: (json) => typeof json === "number" && Number.isFinite(json) ? json : undefined,
  };
}

/** A token that is short of being whole only because of rounding counts as whole. */
const ROUNDING = 1e-6;
