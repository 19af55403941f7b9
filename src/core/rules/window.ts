import type { Demand, Rule } from "./rule.ts";
import type { WindowLog } from "./states.ts";

/**
 * The limit of {@link windowRule}.
 *
 * @example
 * ```ts
 * import type { WindowLimit } from "@ratesync/core/core";
 *
 * const limit: WindowLimit = { limit: 5, windowMs: 60_000, reserveAheadMs: 1_000, timingMarginMs: 10 };
 * console.log(limit.limit); // 5
 * ```
 */
export interface WindowLimit {
  /** Requests (or cost) in any window; an integer >= 1. */
  readonly limit: number;
  /** The window's length in milliseconds; finite and > 0. */
  readonly windowMs: number;
  /** How far into the future moments are granted, in milliseconds. */
  readonly reserveAheadMs: number;
  /** How late a start may be at most, in milliseconds. */
  readonly timingMarginMs: number;
  /**
   * How far the clocks of two processes may disagree, in milliseconds: each grant counts for that much longer.
   *
   * @default {0}
   */
  readonly clockErrorMs?: number | undefined;
}

/**
 * Up to this limit, and up to this many grants, each grant is an entry of its own. Above this limit, grants share
 * {@link BUCKETS} buckets.
 */
const EXACT_ENTRIES = 128;
const BUCKETS = 200;
/** No limit, and therefore no cost, is larger: the sum of many is still a number. */
const MOST = Number.MAX_SAFE_INTEGER;
/**
 * Grants of a slow store count for the moment when the answer will have arrived. If that is later by no more than this,
 * the next grants need not wait for it.
 */
const NEAR_MS = 100;
/** The smallest lateness that the timers of a busy runtime can keep to. */
const LEAST_MARGIN_MS = 2;
/** What adding and subtracting fractions may leave in place of zero. */
const ROUNDING = 1e-9;
/** The sum of costs is rounded to this many parts of one: the digits beyond are noise. */
const PARTS = 1e9;

/**
 * A sliding window: never more than `limit` in any window of `windowMs`, kept as a log of grants.
 *
 * Two things keep the log exact and small. A grant is logged at the latest moment at which it may start (its own moment
 * plus a margin: 1/400 of the window, but not less than 2 ms nor more than `timingMarginMs`), so that a late start does
 * not shorten the window after it. And where `limit` is large, or costs are small, grants that lie close together are
 * logged as one, at the latest of their moments: capacity then comes back a little late (half a bucket on average), but
 * never early.
 *
 * @example
 * ```ts
 * import { windowRule } from "@ratesync/core/core";
 *
 * const rule = windowRule({ limit: 2, windowMs: 60_000, reserveAheadMs: 0, timingMarginMs: 0 });
 * const demand = { cost: 2, owner: "me", permit: 1 };
 * const state = rule.take(rule.initial, 1_000, 1_000, demand);
 * console.log(rule.usage(state, 1_000).remaining, rule.earliest(state, 1_000, demand)); // 0 61000
 * ```
 */
export function windowRule(
  { limit, windowMs, reserveAheadMs, timingMarginMs, clockErrorMs = 0 }: WindowLimit,
): Rule<WindowLog> {
  const lateness = Math.min(timingMarginMs, Math.max(LEAST_MARGIN_MS, windowMs / 400));
  const margin = lateness + clockErrorMs;
  const bucket = limit > EXACT_ENTRIES ? (windowMs + reserveAheadMs) / BUCKETS : 0;
  // Short numbers keep the stored value short. They are rounded up, so that no grant counts for less than the window.
  const quantum = bucket >= 100 ? 1 : 1 / 1_024;
  const logged = (at: number) => Math.ceil((at + margin) / quantum) * quantum;

  /** The first moment from `now` on at which at most `allowed` of the log is inside the window. */
  function fits(log: WindowLog, now: number, allowed: number): number {
    // Not before the last grant, so that requests start in order of arrival; but a grant may count for somewhat later
    // than it starts.
    let at = log.length === 0
      ? now
      : Math.max(now, log[log.length - 2]! - margin - quantum - Math.max(NEAR_MS, clockErrorMs));
    let used = 0;
    let oldest = log.length;
    while (oldest > 0 && log[oldest - 2]! > at - windowMs) {
      oldest -= 2;
      used += log[oldest + 1]!;
    }
    while (used > allowed + ROUNDING && oldest < log.length) {
      at = Math.max(at, log[oldest]! + windowMs);
      used -= log[oldest + 1]!;
      oldest += 2;
    }
    // Once the whole log has expired, nothing is used, whatever adding and subtracting fractions has left over.
    return oldest < log.length && used > allowed + ROUNDING ? Infinity : at;
  }

  const earliest = (log: WindowLog, now: number, { cost }: Demand) => fits(log, now, limit - cost);

  /** The log in half as many buckets as it may have entries: with small costs, even a small limit has many grants. */
  function short(log: WindowLog): number[] {
    const wide = 2 * (windowMs + reserveAheadMs) / EXACT_ENTRIES;
    const all: number[] = [];
    for (let i = 0; i < log.length; i += 2) {
      const last = all.length - 2;
      if (last >= 0 && Math.floor(all[last]! / wide) === Math.floor(log[i]! / wide)) {
        all[last] = log[i]!;
        all[last + 1] = Math.max(1, Math.round((all[last + 1]! + log[i + 1]!) * PARTS)) / PARTS;
      } else all.push(log[i]!, log[i + 1]!);
    }
    return all;
  }

  return {
    kind: "window",
    label: `${limit} in any ${windowMs / 1_000} s`,
    maximumCost: limit,
    toleranceMs: lateness,
    horizonMs: windowMs,
    initial: [],
    earliest,
    earliestBehind(log, now, ahead, { cost }) {
      const windows = Math.max(0, Math.ceil((ahead + cost - ROUNDING) / limit) - 1);
      return fits(log, now, limit * (windows + 1) - ahead - cost) + windows * windowMs;
    },
    take(log, at, now, { cost }) {
      let expired = 0;
      while (expired < log.length && log[expired]! <= now - windowMs) expired += 2;
      const kept = log.slice(expired);
      const last = kept.length - 2;
      // Keeps the log in order.
      const moment = last < 0 ? logged(at) : Math.max(kept[last]!, logged(at));
      const sameBucket = last >= 0 && (kept[last] === moment ||
        (bucket > 0 && Math.floor(kept[last]! / bucket) === Math.floor(moment / bucket)));
      if (sameBucket) {
        kept[last] = moment;
        kept[last + 1]! += cost;
      } else kept.push(moment, cost);
      return bucket === 0 && kept.length > 2 * EXACT_ENTRIES ? short(kept) : kept;
    },
    giveBack(log, { at, demand: { cost } }) {
      const moment = logged(at);
      // It was logged at its own moment, or together with others at the latest of their moments.
      const latest = moment + Math.max(bucket, quantum);
      let i = 0;
      while (i < log.length && log[i]! < moment) i += 2;
      if (i === log.length || log[i]! > latest || log[i + 1]! < cost) return log;
      const rest = log.slice();
      if (log[i + 1] === cost) rest.splice(i, 2);
      else rest[i + 1]! -= cost;
      return rest;
    },
    retryAt: earliest,
    usage(log, now) {
      let used = 0;
      for (let i = 0; i < log.length; i += 2) if (log[i]! > now - windowMs) used += log[i + 1]!;
      const last = log.length === 0 ? now : log[log.length - 2]!;
      return { limit, remaining: Math.max(0, limit - used), resetAt: Math.max(now, last) + windowMs };
    },
    exhausted: (now) => [logged(now), limit],
    idleFrom: (log) => log.length === 0 ? -Infinity : log[log.length - 2]! + windowMs,
    shift: (log, ms) => log.map((value, i) => i % 2 === 0 ? value - ms : value),
    decode(json) {
      if (!Array.isArray(json) || json.length % 2 !== 0) return undefined;
      const log: number[] = [];
      for (const value of json) {
        if (typeof value !== "number" || !Number.isFinite(value)) return undefined;
        const isMoment = log.length % 2 === 0;
        if (isMoment ? log.length > 0 && value < log[log.length - 2]! : value <= 0 || value > MOST) return undefined;
        log.push(value);
      }
      return log;
    },
  };
}
