import type { Parts } from "./decide.ts";
import { holderOf, othersTook } from "./rules/concurrency.ts";
import type { Permits } from "./rules/states.ts";
import { lostWrite, type State } from "./state.ts";

/** The permits of a concurrency limit that this process holds on one key, and when to say so in the store. */
export interface Holdings {
  /** When the store has to hear what is held; `Infinity` if nothing is. */
  readonly renewAt: number;
  /** When everything that is held will be lost, unless it is renewed before. */
  readonly leaseUntil: number;
  readonly size: number;
  has(permit: number): boolean;
  hold(permit: number, now: number): void;
  /** The permit is not held any more. To write that is up to the caller. */
  drop(permit: number): void;
  dropAll(): void;
  /** The store may count permits that are not held, as it is not known what was written: it has to hear at `at`. */
  doubt(now: number, at: number): void;
  /** Finds out what was lost: to others, as `known` shows, or as the lease was not renewed in time. */
  check(known: State | undefined, now: number): void;
  /** What the store has to hear now: the permits that are held, if that is due. */
  toTell(now: number): readonly number[] | undefined;
  /** Whether other processes have taken permits since the states of the rules were these. */
  othersTook(before: Parts, parts: Parts): boolean;
  /** When others may first believe that the lease of what this process holds is over; `Infinity` if it holds nothing. */
  leaseEnd(state: State): number;
  /** Whether the others believe that somebody waits here. */
  readonly isMarked: boolean;
  /** A state that was planned at `plannedAt` stands in the store. */
  written(state: State, plannedAt: number, now: number): void;
  /** The store failed: it is tried again at `at`, for as long as it can matter. */
  failed(now: number, at: number): void;
}

/** What {@link createHoldings} needs. */
export interface HoldingsOptions {
  /** Which of the rules limits concurrency. */
  readonly index: number;
  readonly owner: string;
  readonly leaseMs: number;
  /** By how much earlier than here others may act on a lease that has run out, in milliseconds. */
  readonly marginMs: number;
  /** Called with every permit that this process held and does not hold any more, without having released it. */
  readonly onLost: (permit: number) => void;
}

/** So two renewals can fail. */
const RENEWALS_PER_LEASE = 3;

/** Nothing held yet. */
export function createHoldings({ index, owner, leaseMs, marginMs, onLost }: HoldingsOptions): Holdings {
  const held = new Set<number>();
  let renewAt = Infinity;
  let leaseUntil = Infinity;
  let doubtfulUntil = -Infinity;
  /** Whether a doubt has come since the store was last told. */
  let isDoubted = false;
  let isMarked = false;
  /** Until when the others believe that. */
  let markedUntil = -Infinity;
  let checked: State | undefined;
  let lastWrite = 0;
  const next = (now: number) => held.size > 0 ? now + leaseMs / RENEWALS_PER_LEASE : Infinity;
  const permitsIn = (parts: Parts) => parts[index] as Permits; // the state of the rule at that place

  function drop(permit: number): void {
    held.delete(permit);
    if (held.size > 0) return;
    leaseUntil = Infinity;
    if (doubtfulUntil === -Infinity) renewAt = Infinity;
  }

  function leaseEnd({ epoch, parts }: State): number {
    const own = holderOf(permitsIn(parts), owner);
    return own ? own.until + epoch - marginMs : Infinity;
  }

  function lose(permit: number): void {
    drop(permit);
    onLost(permit);
  }

  return {
    get renewAt() {
      return renewAt;
    },
    get leaseUntil() {
      return leaseUntil;
    },
    get size() {
      return held.size;
    },
    get isMarked() {
      return isMarked;
    },
    has: (permit) => held.has(permit),
    hold(permit, now) {
      held.add(permit);
      renewAt = Math.min(renewAt, next(now));
    },
    drop,
    dropAll() {
      for (const permit of [...held]) drop(permit);
    },
    doubt(now, at) {
      isDoubted = true;
      doubtfulUntil = now + leaseMs;
      renewAt = Math.min(renewAt, at);
    },
    check(known, now) {
      if (now >= leaseUntil) {
        // Nobody has to believe any more that these are held. To say that they are could be one too many.
        for (const permit of [...held]) lose(permit);
        doubtfulUntil = now + leaseMs;
        renewAt = now;
        return;
      }
      if (known === undefined || known === checked) return;
      checked = known;
      const lostData = lostWrite(known, [owner, lastWrite]);
      lastWrite = known.writers.find(([id]) => id === owner)?.[1] ?? lastWrite;
      const counted = new Set(holderOf(permitsIn(known.parts), owner)?.permits);
      const missing = [...held].filter((permit) => !counted.has(permit));
      if (missing.length === 0) return;
      // Nobody took what a store has lost: it is said to be held again.
      if (lostData) renewAt = now;
      else for (const permit of missing) lose(permit);
    },
    toTell(now) {
      if (now < renewAt) return undefined;
      isDoubted = false;
      return [...held];
    },
    othersTook: (before, parts) => othersTook(permitsIn(before), permitsIn(parts), owner),
    leaseEnd,
    written(state, plannedAt, now) {
      const permits = permitsIn(state.parts);
      checked = state;
      const mark = permits.waiting.find((one) => one.owner === owner);
      isMarked = mark !== undefined;
      markedUntil = mark ? mark.until + state.epoch : -Infinity;
      leaseUntil = held.size === 0 ? Infinity : leaseEnd(state);
      if (isDoubted) {
        renewAt = Math.min(renewAt, now);
        return;
      }
      if (plannedAt < renewAt) return;
      doubtfulUntil = -Infinity;
      renewAt = next(now);
    },
    failed(now, at) {
      // What the others believe is said again if it is still so; and they leave a permit to who does not wait any more.
      isMarked = false;
      renewAt = held.size > 0 || now < Math.max(doubtfulUntil, markedUntil) ? at : Infinity;
    },
  };
}
