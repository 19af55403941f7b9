import { LONGEST_LEAD_MS } from "./hand_over.ts";
import type { Lateness } from "./lateness.ts";
import type { Rule } from "./rules/rule.ts";
import type { Trips } from "./trips.ts";

/** Waiting callers top up their reservations in steps of about this part of what may be reserved. */
const STEPS_PER_RESERVE = 32;
/** After so many turns that went to others a waiter comes twice as soon. */
const TURNS_TO_HURRY = 4;
/** After so many it is overdue. */
const TURNS_TO_BE_OVERDUE = 4;
/** Who was passed over by nobody leaves so many steps to the others. */
const STEPS_TO_OTHERS = 8;
/**
 * A waiter for a permit looks by itself, should the hint be lost or others pass the permit on among themselves: first after
 * about this long, then when it has waited for twice as long, and in the end this often.
 */
const FIRST_LOOK_MS = 50;
const LOOK_AGAIN_MS = 1_000;
/** A waiter for its time looks this often in the end. */
const LONGEST_LOOK_MS = 30_000;
/**
 * A grant counts for so much later after a slot was missed. An answer that was late as this process stood still says nothing
 * about the next one.
 */
const MISS_MS = 50;
/** A grant counts for so many round trips later at the most, however slow a single answer was: what counts late is used late. */
const MOST_TRIPS_OF_LEAD = 16;
/** A burst loses this part of it at the most to grants that count for later although the store is fast. */
const PART_TO_SPARE = 1 / 8;

/** What is later than this is no timer of a busy host, but one that stood still. */
const MOST_LATE_MS = 50;

/** The end of what may be reserved, in milliseconds, which is left to those who have waited for it. */
export function stepOf(reserveAheadMs: number): number {
  return reserveAheadMs / STEPS_PER_RESERVE;
}

/** Somebody who waits for its time. */
export interface Held {
  /** When it could start. */
  readonly until: number;
  /** How far ahead slots are granted, in milliseconds. */
  readonly reachMs: number;
  /** How many turns went to others meanwhile. */
  readonly passedOver: number;
  /** Whether its process has just had its turn. */
  readonly hadItsTurn: boolean;
  /** A number from 0 to 1. */
  readonly random: number;
}

/**
 * When to decide again about one that waits for its time: somewhat later than possible, so that several are decided at
 * once, and not all processes at the same moment; and the sooner the more turns went to others, as a clock that is a little
 * late would else lose all of them.
 */
export function whenToReserve({ until, reachMs, passedOver, hadItsTurn, random }: Held): number {
  const jitter = STEPS_TO_OTHERS * (0.5 + random) / (1 + passedOver / TURNS_TO_HURRY);
  // Who has just had its turn knows best what stands there, and would win again: it leaves the others a start.
  return Math.min(until, until - reachMs + stepOf(reachMs) * (jitter + (hadItsTurn ? 1 : 0)));
}

/** How far ahead moments are granted at the most, in milliseconds, so that the store does not forget them while they count. */
export function reservableMs(reserveAheadMs: number, rules: readonly Rule[], retentionMs = Infinity): number {
  return rules.reduce((least, { horizonMs }) => Math.max(0, Math.min(least, retentionMs - horizonMs)), reserveAheadMs);
}

/**
 * Whether somebody who was passed over so often may take a slot that is farther away than others reserve, if the store
 * remembers it for long enough: who wants much would else wait for ever beside those who want little, and take it before
 * there is enough.
 */
export function isOverdue(
  passedOver: number,
  rules: readonly Rule[],
  reserveAheadMs: number,
  retentionMs = Infinity,
): boolean {
  return passedOver >= TURNS_TO_BE_OVERDUE &&
    rules.every(({ horizonMs }) => reserveAheadMs + 2 * horizonMs <= retentionMs);
}

/** When to look again for one that waits for a permit since `since`. */
export function whenToLook(now: number, since: number, random: number): number {
  return nextLook(now, since, FIRST_LOOK_MS, LOOK_AGAIN_MS, random);
}

/** What being late costs. */
export interface Punctuality {
  /** By how many milliseconds a start may be late. */
  readonly toleranceMs: number;
  /** By how many milliseconds a grant may count for later, and next to nobody waits for that. */
  readonly spareMs: number;
}

/**
 * By how much later a grant may count. What a rate has left in its burst hides it, but for a part. In a window everybody waits
 * who comes behind it, and with a burst of 1 whoever comes at the very pace of the rate does.
 */
export function spareOf(rules: readonly Rule[]): number {
  return Math.min(...rules.map(({ kind, horizonMs, maximumCost: burst }) => {
    if (kind === "window") return 0;
    return kind === "rate" ? PART_TO_SPARE * horizonMs * (1 - 1 / burst) : Infinity;
  }));
}

/**
 * By how much a grant counts for later than it is decided. With a store whose answers take longer than a start may be
 * late, it counts for when the answer will be here, if it takes as long as the slowest of late; and for later still after
 * each slot that was missed, as answers that come now sooner and now later would be too late for most of them. With a store
 * that mostly answers sooner it does so too, after an answer that was late, where there is time to spare.
 */
export function leadOf(trips: Trips, { toleranceMs, spareMs }: Punctuality, missed: number, now: number): number {
  const tripMs = trips.ms;
  const isFast = tripMs <= toleranceMs / 4;
  const boundMs = Math.min(MOST_TRIPS_OF_LEAD * tripMs, LONGEST_LEAD_MS / 2, isFast ? spareMs : Infinity);
  // Every refusal asks for it, and where nothing can be late no history has to be looked at.
  if (isFast && boundMs <= toleranceMs / 2) return 0;
  const mostMs = Math.min(trips.mostMs(now), boundMs);
  if (isFast) return mostMs <= toleranceMs / 2 ? 0 : mostMs;
  return Math.max(tripMs, mostMs) + missed * Math.min(tripMs, MISS_MS);
}

/**
 * What timers that are as late as the latest ones were would miss, in milliseconds: they are set sooner by that, and a
 * reservation of a window counts for later by that.
 */
export function missOf({ mostMs }: Lateness, toleranceMs: number): number {
  return Math.min(MOST_LATE_MS, Math.max(0, mostMs - toleranceMs / 2));
}

/**
 * When to look again for one that waits for its time since `since`: somebody may give back what stands in its way. The longer
 * it waits, the more rarely.
 */
export function whenToLookAgain(now: number, since: number, random: number): number {
  return nextLook(now, since, LOOK_AGAIN_MS, LONGEST_LOOK_MS, random);
}

/** After as long as it has waited, within these bounds, or somewhat sooner. */
function nextLook(now: number, since: number, leastMs: number, mostMs: number, random: number): number {
  return now + Math.min(Math.max(leastMs, now - since), mostMs) * (0.5 + random / 2);
}

/** Decorrelated jitter: who lost waits for a random time that grows, so that the losers do not meet again. */
export function pauseAfter(pauseMs: number, mostMs: number, random: number): number {
  return Math.min(mostMs, 1 + random * (3 * pauseMs - 1));
}
