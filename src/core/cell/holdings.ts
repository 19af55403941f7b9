import type { Parts } from "../decision/decide.ts";
import { lostWrite, type State } from "../decision/state.ts";
import { holderOf, othersTook } from "../rules/concurrency.ts";
import type { Permits } from "../rules/states.ts";
import type { ShortLease } from "../waiting/short_lease.ts";

/** The permits of a concurrency limit that this process holds for one key, and when the store has to be told. */
export interface Holdings {
  /** When the store has to be told what is held; `Infinity` if nothing is. */
  readonly renewAt: number;
  /** When everything that is held will be lost, unless it is renewed first. */
  readonly leaseUntil: number;
  readonly size: number;
  has(permit: number): boolean;
  hold(permit: number, now: number): void;
  /** The permit is no longer held. Writing that is up to the caller. */
  drop(permit: number): void;
  dropAll(): void;
  /** The store may count permits that are not held, because it is not known what was written: it has to be told now. */
  doubt(now: number): void;
  /** The lease, if it is over before it can be renewed, where the store takes this long to answer. */
  shortLease(tripMs: number): ShortLease | undefined;
  /** Finds out what was lost: to others, as `known` shows, or because the lease was not renewed in time. */
  check(known: State | undefined, now: number): void;
  /** What the store has to be told now: the permits that are held, if that is due. */
  toTell(now: number): readonly number[] | undefined;
  /** Whether other processes have taken permits between the states `before` and `parts`. */
  othersTook(before: Parts, parts: Parts): boolean;
  /**
   * When others may first believe that the lease on what this process holds is over; `Infinity` if it holds nothing.
   */
  leaseEnd(state: State): number;
  /** Whether others believe that somebody waits here. */
  readonly isMarked: boolean;
  /** A state that was planned at `plannedAt` is now in the store. */
  written(state: State, plannedAt: number, now: number): void;
  /**
   * The store failed: it is tried again at `at`, as long as that can matter. `mayStand` is what it may have written all
   * the same.
   */
  failed(now: number, at: number, mayStand?: State): void;
}

/** What {@link createHoldings} needs. */
export interface HoldingsOptions {
  /** The index of the rule that limits concurrency. */
  readonly index: number;
  readonly owner: string;
  readonly leaseMs: number;
  /** How much earlier than this process others may act on a lease that has run out, in milliseconds. */
  readonly marginMs: number;
  /** Called with every permit that this process no longer holds although it has not released it. */
  readonly onLost: (permit: number) => void;
}

/** With three renewals per lease, two can fail. */
const RENEWALS_PER_LEASE = 3;

/** {@link Holdings} without any permit yet. */
export function createHoldings({ index, owner, leaseMs, marginMs, onLost }: HoldingsOptions): Holdings {
  const held = new Set<number>();
  let renewAt = Infinity;
  let leaseUntil = Infinity;
  let doubtfulUntil = -Infinity;
  /** Whether there has been a doubt since the store was last told. */
  let isDoubted = false;
  let isMarked = false;
  /** Until when others believe that somebody waits here. */
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

  function markEnd({ epoch, parts }: State): number {
    const mark = permitsIn(parts).waiting.find((one) => one.owner === owner);
    return mark ? mark.until + epoch : -Infinity;
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
    doubt(now) {
      isDoubted = true;
      doubtfulUntil = now + leaseMs;
      renewAt = now;
    },
    shortLease(tripMs) {
      // When the renewal is due, another write may be on its way.
      const renewedAfterMs = leaseMs / RENEWALS_PER_LEASE + 2 * tripMs;
      return renewedAfterMs < leaseMs - marginMs ? undefined : { leaseMs, marginMs, tripMs };
    },
    check(known, now) {
      if (now >= leaseUntil) {
        // For others the lease is over, and they may have taken these permits: declared as held, they could be one too
        // many.
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
      // Nobody has taken what a store has lost: it is declared as held again.
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
      checked = state;
      markedUntil = markEnd(state);
      isMarked = markedUntil > -Infinity;
      leaseUntil = held.size === 0 ? Infinity : leaseEnd(state);
      if (isDoubted) {
        renewAt = now;
        return;
      }
      if (plannedAt < renewAt) return;
      doubtfulUntil = -Infinity;
      renewAt = next(now);
    },
    failed(now, at, mayStand) {
      // Others are told again if somebody still waits here. Until they are told, they would leave a permit to a process
      // that no longer waits.
      isMarked = false;
      if (mayStand) markedUntil = Math.max(markedUntil, markEnd(mayStand));
      renewAt = held.size > 0 || now < Math.max(doubtfulUntil, markedUntil) ? at : Infinity;
    },
  };
}
