import { mostInAnyWindow } from "./statistics.ts";

/** What a rate limiter promises: in any period at most `burst`, plus `ratePerSecond` for every second of it. */
export interface Promised {
  readonly ratePerSecond: number;
  readonly burst: number;
}

/** Whether the promise was kept. */
export interface Judgement {
  /** Whether there was no second with more than {@link Judgement.allowedInASecond}. */
  readonly held: boolean;
  /** The most that was admitted in any window of one second. */
  readonly mostInASecond: number;
  /** The rate and the burst. */
  readonly promisedInASecond: number;
  /** The same, plus what may come on top because timers are late. */
  readonly allowedInASecond: number;
  readonly admitted: number;
  /** How much could have been admitted in the whole time. */
  readonly allowedInAll: number;
  /** The part of that which was used, from 0 to 1. */
  readonly usedShare: number;
}

const SECOND_MS = 1_000;

/** How many milliseconds late a start may always be: the library's default of `timing_margin_ms`. */
export const TIMING_MARGIN_MS = 10;

/** Judges admissions that could happen during `durationMs`, given by their moments in milliseconds. */
export function judge(moments: readonly number[], promised: Promised, durationMs: number): Judgement {
  const mostInASecond = mostInAnyWindow(moments, SECOND_MS);
  const allowedInASecond = Math.floor(allowedIn(SECOND_MS + latenessBeyondBurst(promised), promised));
  const allowedInAll = Math.floor(allowedIn(durationMs, promised));
  return {
    held: mostInASecond <= allowedInASecond,
    mostInASecond,
    promisedInASecond: Math.floor(allowedIn(SECOND_MS, promised)),
    allowedInASecond,
    admitted: moments.length,
    allowedInAll,
    usedShare: Math.min(1, moments.length / allowedInAll),
  };
}

function allowedIn(ms: number, { ratePerSecond, burst }: Promised): number {
  // thousandths of an admission are rounding
  return Math.round((burst + ratePerSecond * ms / 1_000) * 1_000) / 1_000;
}

/**
 * A late start comes closer to those after it. The burst covers that, unless all of it passes faster than a timer is
 * precise: 1,000 per second with a burst of 1 leave 1 ms.
 */
function latenessBeyondBurst({ ratePerSecond, burst }: Promised): number {
  return Math.max(0, TIMING_MARGIN_MS - burst * 1_000 / ratePerSecond);
}
