import { LONGEST_LEAD_MS } from "../hand_over/hand_over.ts";
import type { Rule } from "../rules/rule.ts";
import type { Trips } from "../store/trips.ts";
import type { Lateness } from "./lateness.ts";

/** The number of steps, roughly, in which waiting callers top up what may be reserved. */
const STEPS_PER_RESERVE = 32;
/** Where next to nothing may be reserved, a step is this part of the wait: a little is lost so that all have a turn. */
const PART_OF_WAIT = 1 / 2_000;
/** After this many turns that went to others, a waiter comes twice as soon. */
const TURNS_TO_HURRY = 4;
/** After this many, it is overdue. */
const TURNS_TO_BE_OVERDUE = 4;
/** How many steps a waiter that was never passed over leaves to the others. */
const STEPS_TO_OTHERS = 8;
/**
 * A caller that waits for a permit looks by itself, in case the hint is lost or others pass the permit on among
 * themselves: first after this long, and then whenever its wait has about doubled.
 */
const FIRST_LOOK_MS = 50;
/** In the end it looks this often; and a caller that waits for its time looks first after this long. */
const LOOK_AGAIN_MS = 1_000;
/** A caller that waits for its time looks this often in the end. */
const LONGEST_LOOK_MS = 30_000;
/**
 * How much later a grant counts, at most, for each slot that was missed. An answer that was late because this process
 * stood still says nothing about the next one.
 */
const MISS_MS = 50;
/**
 * A grant counts for at most this many round trips later, however slow a single answer was: what counts late is used
 * late.
 */
const MOST_TRIPS_OF_LEAD = 16;
/** The largest part of a burst that may be lost to grants that count for later although the store is fast. */
const PART_TO_SPARE = 1 / 8;

/** A timer that is later than this is not that of a busy host, but of one that stood still. */
const MOST_LATE_MS = 50;

/** The end of what may be reserved, in milliseconds, which is left to those that have waited for it. */
export function stepOf(reserveAheadMs: number): number {
  return reserveAheadMs / STEPS_PER_RESERVE;
}

/** A caller that waits for its time. */
export interface Held {
  readonly now: number;
  /** When it could start. */
  readonly until: number;
  /** The latest moment at which it may start. */
  readonly deadline: number;
  /** How far ahead slots are granted, in milliseconds. */
  readonly reachMs: number;
  /** How long it takes until a decision is known, in milliseconds. */
  readonly answerMs: number;
  /** How many turns went to others in the meantime. */
  readonly passedOver: number;
  /** Whether its process has just had its turn. */
  readonly hadItsTurn: boolean;
  /** A number from 0 to 1. */
  readonly random: number;
}

/**
 * When to decide again about a caller that waits for its time: somewhat later than possible, so that several are
 * decided at once, and not all processes at the same moment. The more turns went to others, the sooner it is, because a
 * clock that is a little late would otherwise lose all of them.
 */
export function whenToReserve(
  { now, until, deadline, reachMs, answerMs, passedOver, hadItsTurn, random }: Held,
): number {
  const jitter = STEPS_TO_OTHERS * (0.5 + random) / (1 + passedOver / TURNS_TO_HURRY);
  // A process that has just had its turn knows best what is there, and would win again: it gives the others a head
  // start.
  const steps = jitter + (hadItsTurn ? 1 : 0);
  const soon = until - reachMs + steps * stepOf(reachMs);
  const at = Math.max(soon, until - reachMs + steps * PART_OF_WAIT * (until - now));
  // Who could start only just in time leaves no time to others.
  return at + (at - soon) + answerMs > deadline ? soon : at;
}

/**
 * How far ahead moments are granted at most, in milliseconds, so that the store does not forget them while they count.
 */
export function reservableMs(reserveAheadMs: number, rules: readonly Rule[], retentionMs = Infinity): number {
  return rules.reduce((least, { horizonMs }) => Math.max(0, Math.min(least, retentionMs - horizonMs)), reserveAheadMs);
}

/**
 * Whether a caller that was passed over this often may take a slot that is farther away than others reserve, if the
 * store remembers it for long enough. A caller that wants much would otherwise wait for ever beside others that want
 * little and take it before there is enough.
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

/** When to look again for a caller that has waited for a permit since `since`. */
export function whenToLook(now: number, since: number, random: number): number {
  return nextLook(now, since, FIRST_LOOK_MS, LOOK_AGAIN_MS, random);
}

/** How late starts and grants may be. */
export interface Punctuality {
  /** How late a start may be, in milliseconds. */
  readonly toleranceMs: number;
  /** How much later a grant may count, in milliseconds, while hardly anybody waits because of it. */
  readonly spareMs: number;
}

/**
 * How much later a grant may count. The burst of a rate hides the delay, at the cost of a part of the burst. In a
 * window everybody behind the grant waits for it, and with a burst of 1 so does a caller that comes exactly at the pace
 * of the rate.
 */
export function spareOf(rules: readonly Rule[]): number {
  return Math.min(...rules.map(({ kind, horizonMs, maximumCost: burst }) => {
    if (kind === "window") return 0;
    return kind === "rate" ? PART_TO_SPARE * horizonMs * (1 - 1 / burst) : Infinity;
  }));
}

/**
 * How much later than the moment of decision a grant counts. With a store whose answers take longer than a start may be
 * late, it counts for the moment when the answer will be here if it takes as long as the slowest recent one; and for
 * later still after each missed slot, because answers that come now sooner and now later would be too late for most
 * slots. With a store that mostly answers sooner, this applies after an answer that was late, if there is time to
 * spare.
 */
export function leadOf(trips: Trips, { toleranceMs, spareMs }: Punctuality, missed: number, now: number): number {
  const tripMs = trips.ms;
  const isFast = tripMs <= toleranceMs / 4;
  const boundMs = Math.min(MOST_TRIPS_OF_LEAD * tripMs, LONGEST_LEAD_MS / 2, isFast ? spareMs : Infinity);
  // This runs for every refusal, so the history is left alone where nothing can be late.
  if (isFast && boundMs <= toleranceMs / 2) return 0;
  const mostMs = Math.min(trips.mostMs(now), boundMs);
  if (isFast) return mostMs <= toleranceMs / 2 ? 0 : mostMs;
  return Math.max(tripMs, mostMs) + missed * Math.min(tripMs, MISS_MS);
}

/**
 * The time by which timers that are as late as recent ones would miss their moment, in milliseconds. They are set that
 * much sooner, and a reservation in a window counts for that much later.
 */
export function missOf({ mostMs }: Lateness, toleranceMs: number): number {
  return Math.min(MOST_LATE_MS, Math.max(0, mostMs - toleranceMs / 2));
}

/**
 * When to look again for a caller that has waited for its time since `since`: somebody may give back what stands in its
 * way. The longer it waits, the less often.
 */
export function whenToLookAgain(now: number, since: number, random: number): number {
  return nextLook(now, since, LOOK_AGAIN_MS, LONGEST_LOOK_MS, random);
}

/** After as long again as it has waited, within these bounds, or somewhat sooner. */
function nextLook(now: number, since: number, leastMs: number, mostMs: number, random: number): number {
  return now + Math.min(Math.max(leastMs, now - since), mostMs) * (0.5 + random / 2);
}

/**
 * Decorrelated jitter: a process that lost waits for a random time that grows, so that the losers do not meet again.
 */
export function pauseAfter(pauseMs: number, mostMs: number, random: number): number {
  return Math.min(mostMs, 1 + random * (3 * pauseMs - 1));
}
