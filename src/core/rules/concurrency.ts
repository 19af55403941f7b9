import type { Rule } from "./rule.ts";
import type { Holder, Permits, Waiting } from "./states.ts";

/**
 * The limit of {@link concurrencyRule}.
 *
 * @example
 * ```ts
 * import type { ConcurrencyLimit } from "@ratesync/core/core";
 *
 * const limit: ConcurrencyLimit = { maxConcurrent: 10, leaseMs: 10_000 };
 * console.log(limit.maxConcurrent); // 10
 * ```
 */
export interface ConcurrencyLimit {
  /** How many may hold a permit at the same time; an integer >= 1. */
  readonly maxConcurrent: number;
  /** For how many milliseconds a permit is held without being renewed; finite and > 0. */
  readonly leaseMs: number;
}

/**
 * How long a process waits before the next free permit is left to it by one that holds as many. Until then whoever
 * comes first takes it, because handing a permit on within a process costs less than handing it to another one.
 */
const FAIR_AFTER_MS = 50;
/**
 * How long a process with more permits to give than another one keeps to the limit of that one, which waits. What is
 * held for longer would keep both from taking any.
 */
const STRICT_MS = 5_000;
/** To have waited for this much longer counts like a permit fewer: what is held may be held for long. */
const PERMIT_MS = 1_000;

/** The owner of all permits, however many there are, when nobody knows who holds them. No process has this name. */
export const NOBODY_KNOWS = "unknown";

/**
 * Concurrency by leases: at most `maxConcurrent` permits at a time. A permit belongs to an owner and comes back when it
 * is released, or when its owner has not renewed its lease for `leaseMs`. Any cost takes one permit. Of the processes that
 * wait, the one that holds fewer permits comes first, and the one that has waited longer if they hold as many; a second
 * of waiting counts like a permit fewer.
 *
 * @example
 * ```ts
 * import { concurrencyRule } from "@ratesync/core/core";
 *
 * const rule = concurrencyRule({ maxConcurrent: 1, leaseMs: 10_000 });
 * const state = rule.take(rule.initial, 1_000, 1_000, { cost: 1, owner: "me", permit: 1 });
 * const other = { cost: 1, owner: "you", permit: 1 };
 * console.log(rule.earliest(state, 1_000, other)); // Infinity: time alone does not bring it
 * console.log(rule.earliest(state, 11_000, other)); // 11000: the lease has run out
 * ```
 */
export function concurrencyRule({ maxConcurrent, leaseMs }: ConcurrencyLimit): Rule<Permits> {
  const held = ({ holders }: Permits, now: number) =>
    holders.reduce((sum, { owner, until, permits }) => {
      if (until <= now) return sum;
      return sum + (owner === NOBODY_KNOWS ? maxConcurrent : permits.length);
    }, 0);
  const isFree = (state: Permits, now: number, owner: string) => {
    const before = rivals(state, now, owner);
    // What is left to one that has a stricter limit has to be free by that limit, unless that takes too long.
    const most = before.map(({ since, most }) => now - since < STRICT_MS ? most : maxConcurrent);
    return held(state, now) + before.length < Math.min(maxConcurrent, ...most);
  };
  const firstExpiry = ({ holders }: Permits, now: number) =>
    holders.reduce((first, { until }) => until > now ? Math.min(first, until) : first, Infinity);
  return {
    kind: "concurrency",
    label: `${maxConcurrent} at the same time`,
    maximumCost: Infinity,
    toleranceMs: Infinity,
    horizonMs: leaseMs,
    initial: { holders: [], waiting: [] },
    earliest: (state, now, { owner }) => isFree(state, now, owner) ? now : Infinity,
    earliestBehind: (_state, now) => now,
    take({ holders, waiting }, at, now, { owner, permit, leaseMs: ownLeaseMs = leaseMs }) {
      const living = alive(holders, now);
      const own = living.find((holder) => holder.owner === owner);
      const until = Math.max(own?.until ?? -Infinity, at + ownLeaseMs);
      const permits = own ? [...own.permits, permit] : [permit];
      return {
        holders: [...living.filter((holder) => holder !== own), { owner, until, permits }],
        waiting: alive(waiting, now).filter((other) => other.owner !== owner),
      };
    },
    giveBack: (state, { demand: { owner, permit } }) => releasePermit(state, owner, permit),
    retryAt: (state, now, { owner }) =>
      isFree(state, now, owner) ? now : Math.min(firstExpiry(state, now), now + leaseMs),
    usage(state, now) {
      const free = Math.max(0, maxConcurrent - held(state, now));
      return { limit: maxConcurrent, remaining: free, resetAt: now + leaseMs };
    },
    exhausted: (now) => ({ holders: [{ owner: NOBODY_KNOWS, until: now + leaseMs, permits: [] }], waiting: [] }),
    idleFrom: ({ holders, waiting }) =>
      [...holders, ...waiting].reduce((last, { until }) => Math.max(last, until), -Infinity),
    shift: ({ holders, waiting }, ms) => ({
      holders: holders.map((holder) => ({ ...holder, until: holder.until - ms })),
      waiting: waiting.map((mark) => ({ ...mark, since: mark.since - ms, until: mark.until - ms })),
    }),
    decode(json) {
      if (typeof json !== "object" || json === null) return undefined;
      const { holders, waiting }: { holders?: unknown; waiting?: unknown } = json;
      const decodedHolders = decodeAll(holders, decodeHolder);
      const decodedWaiting = decodeAll(waiting, decodeWaiting);
      return decodedHolders && decodedWaiting && { holders: decodedHolders, waiting: decodedWaiting };
    },
  };
}

function alive<T extends { readonly until: number }>(entries: readonly T[], now: number): readonly T[] {
  return entries.filter(({ until }) => until > now);
}

/**
 * The other processes that come before this one, so that each is left a free permit. Those that hold fewer do: all come
 * to hold as many, and pass them on within. The order of two that wait does not change while they wait, so neither
 * leaves the other what that one leaves to it.
 */
function rivals({ holders, waiting }: Permits, now: number, owner: string): readonly Waiting[] {
  if (waiting.length === 0) return waiting;
  // Many may wait and hold, and this is asked for each request.
  const counts = new Map(alive(holders, now).map((holder) => [holder.owner, holder.permits.length]));
  const held = (name: string) => counts.get(name) ?? 0;
  const since = waiting.find((mark) => mark.owner === owner)?.since ?? now;
  const comesBefore = (other: Waiting) => {
    const fewer = held(owner) - held(other.owner);
    return fewer * PERMIT_MS + since - other.since > 0 && (fewer > 0 || now - other.since >= FAIR_AFTER_MS);
  };
  return alive(waiting, now).filter(comesBefore);
}

/** The permits without this one; the same object if it is not held. */
export function releasePermit(state: Permits, owner: string, permit: number): Permits {
  const own = state.holders.find((holder) => holder.owner === owner);
  if (!own?.permits.includes(permit)) return state;
  const permits = own.permits.filter((other) => other !== permit);
  const others = state.holders.filter((holder) => holder !== own);
  return { ...state, holders: permits.length === 0 ? others : [...others, { ...own, permits }] };
}

/** The permits after `owner` has declared that it holds exactly these, until `until`. */
export function renewPermits(state: Permits, owner: string, permits: readonly number[], until: number): Permits {
  const others = state.holders.filter((holder) => holder.owner !== owner);
  if (permits.length === 0 && others.length === state.holders.length) return state;
  return { ...state, holders: permits.length === 0 ? others : [...others, { owner, until, permits }] };
}

/** The permits that `owner` holds according to the state, and until when. */
export function holderOf(state: Permits, owner: string): Holder | undefined {
  return state.holders.find((holder) => holder.owner === owner);
}

/** Whether another process has taken a permit since the state was `before`. */
export function othersTook(before: Permits, state: Permits, owner: string): boolean {
  return state.holders.some((holder) => {
    if (holder.owner === owner) return false;
    const had = new Set(holderOf(before, holder.owner)?.permits);
    return holder.permits.some((permit) => !had.has(permit));
  });
}

/**
 * Whether `owner` has left anything to others since the state was `before`: a permit that it held, or, as it no longer
 * waits, one that was left to it.
 */
export function leftToOthers(before: Permits, state: Permits, owner: string): boolean {
  const had = holderOf(before, owner)?.permits ?? [];
  const has = new Set(holderOf(state, owner)?.permits);
  const waits = ({ waiting }: Permits) => waiting.some((mark) => mark.owner === owner);
  return had.some((permit) => !has.has(permit)) || (waits(before) && !waits(state) && has.size === had.length);
}

/**
 * The permits after `owner` has declared that it has waited since `since`, or, if that is `undefined`, that it does not
 * wait. It can take one only where all processes hold fewer than `most`. The declaration holds for `ms`, and is made
 * only if there are others that need to know.
 */
export function markWaiting(
  state: Permits,
  owner: string,
  most: number,
  since: number | undefined,
  now: number,
  ms: number,
): Permits {
  const own = state.waiting.find((mark) => mark.owner === owner);
  const othersAreThere = [...state.holders, ...state.waiting].some((entry) => entry.owner !== owner);
  if (since !== undefined && othersAreThere) {
    if (own && own.until - now > ms / 2) return state;
    const others = state.waiting.filter((mark) => mark !== own);
    return { ...state, waiting: [...others, { owner, since: own?.since ?? since, until: now + ms, most }] };
  }
  return own ? { ...state, waiting: state.waiting.filter((mark) => mark !== own) } : state;
}

function decodeAll<T>(json: unknown, decode: (entry: unknown) => T | undefined): T[] | undefined {
  if (!Array.isArray(json)) return undefined;
  const all: T[] = [];
  for (const entry of json) {
    const decoded = decode(entry);
    if (decoded === undefined) return undefined;
    all.push(decoded);
  }
  return all;
}

function isNumber(value: unknown): value is number {
  return Number.isFinite(value);
}

function decodeHolder(entry: unknown): Holder | undefined {
  if (typeof entry !== "object" || entry === null) return undefined;
  const { owner, until, permits }: { owner?: unknown; until?: unknown; permits?: unknown } = entry;
  if (typeof owner !== "string" || !isNumber(until)) return undefined;
  if (!Array.isArray(permits) || !permits.every((permit) => Number.isSafeInteger(permit))) return undefined;
  return { owner, until, permits };
}

function decodeWaiting(entry: unknown): Waiting | undefined {
  if (typeof entry !== "object" || entry === null) return undefined;
  const { owner, since, until, most }: { owner?: unknown; since?: unknown; until?: unknown; most?: unknown } = entry;
  if (typeof owner !== "string" || !isNumber(since) || !isNumber(until) || !isNumber(most)) return undefined;
  return { owner, since, until, most };
}
