import { earliestStart } from "./decide.ts";
import type { Ledger } from "./ledger.ts";
import type { Caller } from "./outcome.ts";
import type { Rule } from "./rules/rule.ts";

/** Who waits for less gets this long: a store that is only slower than the caller is no failure. */
export const GRACE_MS = 40;
/** A store that takes long for its answers is not silent either, for so many of them: others may be decided first. */
const TRIPS_OF_GRACE = 12;
/** What was given back since may be had again: after this long a refusal is not certain any more, nor how long to wait. */
export const CERTAIN_MS = 1_000;
/** Where no permits are limited, one that was asked and has not said anything since is silent after so many. */
const TRIPS_OF_SILENCE = 3;

/** What is known of a key when the time of somebody who waits for it is over. */
export interface Circumstances {
  readonly rules: readonly Rule[];
  readonly ledger: Pick<Ledger, "answeredAt" | "tripMs" | "base">;
  readonly limitsPermits: boolean;
  /** Who stands first in the line. */
  readonly head: Caller | undefined;
  /** Since when somebody asks the store. */
  readonly runningSince: number;
  /** When somebody had to wait or was refused last, as nothing was left. */
  readonly fullAt: number;
}

/** Whether it is the store, and not the limit, that keeps the caller from an answer, as far as anybody can tell. */
export function isStoreToBlame(
  { since, demand }: Caller,
  now: number,
  { rules, ledger, limitsPermits, head, runningSince, fullAt }: Circumstances,
): boolean {
  const wasSilent = ledger.answeredAt <= since;
  // Where a store goes on answering, and nothing was left, others were faster.
  const silentMs = now - Math.max(runningSince, ledger.answeredAt);
  const isSilent = silentMs >= Math.max(GRACE_MS, TRIPS_OF_GRACE * ledger.tripMs);
  // Who waited for a permit, or behind one who did, has not waited for the store, even if one has just been released: unless
  // the store was asked, and was silent.
  if (head?.metFull) return wasSilent && isSilent;
  const { epoch, parts } = ledger.base(now);
  if (wasSilent) {
    if (isSilent || !limitsPermits) return true;
    // A store that takes longer than the caller can wait has said just before that all permits are held.
    const isFull = now - ledger.answeredAt < CERTAIN_MS &&
      earliestStart(rules, parts, now - epoch, demand) === Infinity;
    return fullAt <= since && !isFull;
  }
  const isUnheard = !limitsPermits && ledger.answeredAt < runningSince &&
    silentMs >= Math.max(GRACE_MS, TRIPS_OF_SILENCE * ledger.tripMs);
  if (!isSilent && !isUnheard && fullAt > since) return false;
  // Others may have taken what it waited for until just now, or have given back what stood in its way.
  const start = earliestStart(rules, parts, since - epoch, demand) + epoch;
  return Math.max(start, head?.heldUntil ?? start) <= Math.max(since, now - GRACE_MS);
}
