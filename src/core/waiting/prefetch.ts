import { type Grant, withoutUndone } from "../decision/batch.ts";
import type { Parts } from "../decision/decide.ts";
import type { State } from "../decision/state.ts";
import { LONGEST_LEAD_MS } from "../hand_over/hand_over.ts";
import type { Rule } from "../rules/rule.ts";

/** What a process takes ahead of its callers. */
export interface Prefetch {
  /** Whether nothing is in stock. */
  readonly isEmpty: boolean;
  /** Somebody asks for a slot of cost 1. Demand is known from these calls alone. */
  asked(now: number): void;
  /**
   * The first slot that can still be used, with the moment from which it is to be used now. Slots that were missed are
   * dropped.
   */
  next(now: number): Grant | undefined;
  /** Takes the slot that {@link Prefetch.next} has returned. */
  take(): void;
  /** Adds a slot that nobody waits for. It may be used up to `latest`, or later by as much as any start may be late. */
  add(grant: Grant, latest: number): void;
  /** How many slots to take now, and for how many milliseconds they are kept. */
  wish(now: number): { readonly count: number; readonly keepMs: number };
  /** Whether to ask for slots although nobody waits. */
  isLow(now: number): boolean;
  /** Of `wished` slots that were asked for, `granted` came. */
  heard(wished: number, granted: number, now: number): void;
  /** The store failed: before `until` it is not asked for slots that nobody waits for. */
  pause(until: number): void;
  /** What is in stock, in order. */
  all(): readonly Grant[];
  /** Takes everything. */
  clear(): readonly Grant[];
}

interface Kept {
  readonly grant: Grant;
  /** The last moment at which it may be used. */
  readonly until: number;
}

/** Demand is the average over about this long, or since it began. */
const MEMORY_MS = 200;
const LEAST_MEMORY_MS = 1;
/** Fewer slots are not worth it. */
const LEAST_STOCK = 2;
/** Slots are kept for this many times as long as they are likely to last. */
const MARGIN = 2;
const NOTHING = { count: 0, keepMs: 0 };
/** If fewer than this have asked lately, demand begins anew. */
const LEAST_DEMAND = 0.5;
/**
 * If less could be had than was asked for, the store is asked again after the time that may be reserved divided by
 * this.
 */
const PAUSES_PER_RESERVE = 32;
const LEAST_PAUSE_MS = 1;
/** The part of a burst that others may have to do without, because it is kept for callers that are still to come. */
const KEPT_OF_BURST = 0.5;

/**
 * The slots that a process takes before its callers ask: at most `most`, only as many as demand is likely to use in
 * time, and none if nobody asks.
 *
 * A slot of a rate may be used as long as the limit holds whenever that happens. By GCRA, that is until the moment that
 * it counts for, or until the theoretical arrival time at which it was granted, whichever is later: of any grants in a
 * row, the last one starts no earlier than `cost - burst` intervals after that moment of the first one. So a slot that
 * is to be kept counts for a later moment. That takes nothing from a limit that is used up; otherwise others have to do
 * without up to `most` more of the burst in the meantime.
 *
 * @returns `undefined` if there is nothing to take ahead: permits are not for keeping, and a window starts nothing
 * before what it has already counted.
 */
export function createPrefetch(rules: readonly Rule[], most: number, reserveAheadMs: number): Prefetch | undefined {
  if (most === 0 || rules.some(({ kind }) => kind !== "rate")) return undefined;
  const intervalMs = Math.max(...rules.map((rule) => rule.horizonMs / rule.maximumCost));
  const toleranceMs = Math.min(...rules.map((rule) => rule.toleranceMs));
  const mostKeptMs = Math.min(
    reserveAheadMs,
    LONGEST_LEAD_MS,
    most * intervalMs,
    ...rules.map(({ horizonMs, maximumCost: burst }) => KEPT_OF_BURST * horizonMs * (burst - 1) / burst),
  );
  let stock: Kept[] = [];
  let askedAt = -Infinity;
  let begunAt = -Infinity;
  /** How many have asked; each counts for less the longer ago it was. */
  let weight = 0;
  /** The same before the last one asked: a caller that comes alone is no demand. */
  let before = 0;
  let pausedUntil = -Infinity;

  const fading = (now: number) => Math.exp(-Math.max(0, now - askedAt) / MEMORY_MS);

  /** How many slots to have in stock, and how much longer than an interval each of them lasts. */
  function target(now: number): readonly [count: number, behindMs: number] {
    const lengthMs = Math.max(MEMORY_MS * (1 - Math.exp((begunAt - askedAt) / MEMORY_MS)), LEAST_MEMORY_MS);
    if (before === 0) return [0, 0];
    const perMs = before * fading(now) / lengthMs;
    const behindMs = Math.max(0, 1 / perMs - intervalMs);
    // The nth slot is used after n / demand. It can be used for as long as it is kept, and for an interval longer for
    // each one before it.
    const usable = (mostKeptMs + toleranceMs) / behindMs;
    // Demand that has lasted for a while is likely to last for as long again. Many callers that ask at once may be all
    // there are.
    const lastsMs = Math.min(askedAt - begunAt, reserveAheadMs);
    return [Math.floor(Math.min(most, usable, perMs * lastsMs)), behindMs];
  }

  return {
    get isEmpty() {
      return stock.length === 0;
    },
    asked(now) {
      before = weight * fading(now);
      if (before < LEAST_DEMAND) {
        before = 0;
        begunAt = now;
      }
      weight = before + 1;
      askedAt = now;
    },
    next(now) {
      while (stock[0] && stock[0].until < now) stock.shift();
      const [first] = stock;
      if (!first) return undefined;
      // From then on, a caller that uses it may be late.
      const from = Math.max(first.grant.from, Math.min(now, first.until - toleranceMs));
      return from === first.grant.from ? first.grant : { ...first.grant, from };
    },
    take() {
      stock.shift();
    },
    add(grant, latest) {
      const arrival = Math.min(...grant.before.map((tat) => Number(tat) + grant.epoch));
      const until = Math.max(grant.from, Math.min(Math.max(grant.at, arrival), latest)) + toleranceMs;
      let place = stock.length;
      while (place > 0 && stock[place - 1]!.grant.from > grant.from) place--;
      stock.splice(place, 0, { grant, until });
    },
    wish(now) {
      const [most, behindMs] = target(now);
      if (most < LEAST_STOCK || most <= stock.length) return NOTHING;
      return { count: most - stock.length, keepMs: Math.min(mostKeptMs, MARGIN * most * behindMs) };
    },
    isLow(now) {
      if (now < pausedUntil) return false;
      const [most] = target(now);
      return most >= LEAST_STOCK && 2 * stock.length <= most;
    },
    heard(wished, granted, now) {
      if (2 * granted < wished) pausedUntil = now + Math.max(reserveAheadMs / PAUSES_PER_RESERVE, LEAST_PAUSE_MS);
    },
    pause(until) {
      pausedUntil = until;
    },
    all: () => stock.map(({ grant }) => grant),
    clear() {
      const all = stock.map(({ grant }) => grant);
      stock = [];
      return all;
    },
  };
}

/** What is left for a process that has slots in stock, besides what stands in the store. */
export function withStock(
  rules: readonly Rule[],
  state: State,
  prefetch: Pick<Prefetch, "all" | "next"> | undefined,
  now: number,
): State {
  const undos = (prefetch?.all() ?? []).map((grant) => ({ grant, unused: true }));
  if (undos.length === 0) return state;
  const { parts } = withoutUndone(rules, state, undos);
  const slot = prefetch?.next(now);
  if (!slot || slot.from > now) return { ...state, parts };
  // A slot that cannot be given back can still be used by a request of cost 1.
  return { ...state, parts: atLeastOne(rules, parts, now - state.epoch) };
}

/** The states of rates that have at least 1 left. */
function atLeastOne(rules: readonly Rule[], parts: Parts, now: number): Parts {
  return rules.map(({ horizonMs, maximumCost: burst }, i) =>
    Math.min(Number(parts[i]), now + horizonMs * (burst - 1) / burst)
  );
}
