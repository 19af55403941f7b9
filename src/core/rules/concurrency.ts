import type { Rule } from "./rule.ts";

/** The limit of {@link concurrencyRule}. */
export interface ConcurrencyLimit {
  /** How many may hold a permit at the same time; an integer >= 1. */
  readonly maxConcurrent: number;
  /** For how many milliseconds a permit is held without being renewed; finite and > 0. */
  readonly leaseMs: number;
}

/** A process that holds permits. All of them share one lease, as the process renews them together. */
export interface Holder {
  /** Who it is. */
  readonly owner: string;
  /** When the lease runs out. */
  readonly until: number;
  /** The numbers of its permits. */
  readonly permits: readonly number[];
}

/** Everybody who holds permits. */
export type Holders = readonly Holder[];

/**
 * Concurrency by leases: at most `maxConcurrent` permits at a time. A permit belongs to an owner and comes back when it
 * is released, or when its owner has not renewed its lease for `leaseMs`. Any cost takes one permit.
 */
export function concurrencyRule({ maxConcurrent, leaseMs }: ConcurrencyLimit): Rule<Holders> {
  const alive = (holders: Holders, now: number) =>
    holders.every((holder) => holder.until > now) ? holders : holders.filter((holder) => holder.until > now);
  const held = (holders: Holders, now: number) =>
    holders.reduce((sum, holder) => holder.until > now ? sum + holder.permits.length : sum, 0);
  const firstExpiry = (holders: Holders, now: number) =>
    holders.reduce((first, { until }) => until > now ? Math.min(first, until) : first, Infinity);
  return {
    kind: "concurrency",
    label: `${maxConcurrent} at the same time`,
    maximumCost: Infinity,
    toleranceMs: Infinity,
    horizonMs: leaseMs,
    initial: [],
    earliest: (holders, now) => held(holders, now) < maxConcurrent ? now : Infinity,
    earliestBehind: (_holders, now) => now,
    take(holders, at, now, { owner, permit }) {
      const living = alive(holders, now);
      const own = living.find((holder) => holder.owner === owner);
      const until = Math.max(own?.until ?? -Infinity, at + leaseMs);
      const permits = own ? [...own.permits, permit] : [permit];
      return [...living.filter((holder) => holder !== own), { owner, until, permits }];
    },
    giveBack: (holders, { demand: { owner, permit } }) => releasePermit(holders, owner, permit),
    retryAt: (holders, now) => held(holders, now) < maxConcurrent ? now : firstExpiry(holders, now),
    usage(holders, now) {
      const free = Math.max(0, maxConcurrent - held(holders, now));
      return { limit: maxConcurrent, remaining: free, resetAt: now + leaseMs };
    },
    exhausted: (now) => [{
      owner: "unknown",
      until: now + leaseMs,
      permits: Array.from({ length: maxConcurrent }, (_, permit) => permit),
    }],
    idleFrom: (holders) => holders.reduce((last, { until }) => Math.max(last, until), -Infinity),
    shift: (holders, ms) => holders.map((holder) => ({ ...holder, until: holder.until - ms })),
    decode(json) {
      if (!Array.isArray(json)) return undefined;
      const holders: Holder[] = [];
      for (const entry of json) {
        const holder = decodeHolder(entry);
        if (!holder) return undefined;
        holders.push(holder);
      }
      return holders;
    },
  };
}

/** The holders without the permit; the same ones if it is not held. */
export function releasePermit(holders: Holders, owner: string, permit: number): Holders {
  const own = holders.find((holder) => holder.owner === owner);
  if (!own?.permits.includes(permit)) return holders;
  const permits = own.permits.filter((other) => other !== permit);
  const others = holders.filter((holder) => holder !== own);
  return permits.length === 0 ? others : [...others, { ...own, permits }];
}

/** The holders after `owner` has said that it holds exactly `permits`, until `until`. */
export function renewPermits(holders: Holders, owner: string, permits: readonly number[], until: number): Holders {
  const others = holders.filter((holder) => holder.owner !== owner);
  if (permits.length === 0 && others.length === holders.length) return holders;
  return permits.length === 0 ? others : [...others, { owner, until, permits }];
}

function decodeHolder(entry: unknown): Holder | undefined {
  if (typeof entry !== "object" || entry === null) return undefined;
  const { owner, until, permits }: { owner?: unknown; until?: unknown; permits?: unknown } = entry;
  if (typeof owner !== "string" || typeof until !== "number" || !Number.isFinite(until)) return undefined;
  if (!Array.isArray(permits) || !permits.every((permit) => Number.isSafeInteger(permit))) return undefined;
  return { owner, until, permits };
}
