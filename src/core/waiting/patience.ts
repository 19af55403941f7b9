import { earliestStart } from "../decision/decide.ts";
import type { Rule } from "../rules/rule.ts";
import type { Ledger } from "../store/ledger.ts";
import type { Caller } from "./outcome.ts";

/** A caller that waits for less gets this long: a store that is only slower than the caller has not failed. */
export const GRACE_MS = 40;
/** A store is not silent before it could have given this many answers: others may be decided first. */
const TRIPS_OF_GRACE = 12;
/**
 * What was given back in the meantime may be available again: after this long, neither a refusal nor the time to wait
 * is certain any more.
 */
export const CERTAIN_MS = 1_000;
/**
 * If no permits are limited, a store that was asked and has not said anything since counts as silent after the time of
 * this many answers.
 */
const TRIPS_OF_SILENCE = 3;

/** What is known about a key when the time of a caller that waits for it is over. */
export interface Circumstances {
  readonly rules: readonly Rule[];
  readonly ledger: Pick<Ledger, "answeredAt" | "tripMs" | "base">;
  readonly limitsPermits: boolean;
  /** The first caller in the line. */
  readonly head: Caller | undefined;
  /** Since when the store is being asked. */
  readonly runningSince: number;
  /** When a caller last had to wait or was refused because nothing was left. */
  readonly fullAt: number;
}

/** Whether the store, and not the limit, keeps the caller from an answer, as far as anybody can tell. */
export function isStoreToBlame(
  { since, demand }: Caller,
  now: number,
  { rules, ledger, limitsPermits, head, runningSince, fullAt }: Circumstances,
): boolean {
  const wasSilent = ledger.answeredAt <= since;
  // A store that goes on answering is not silent: if nothing was left, others were faster.
  const silentMs = now - Math.max(runningSince, ledger.answeredAt);
  const isSilent = silentMs >= Math.max(GRACE_MS, TRIPS_OF_GRACE * ledger.tripMs);
  // A caller that waited for a permit, or behind one that did, has not waited for the store, even if a permit has just
  // been released, unless the store was asked and was silent.
  if (head?.metFull) return wasSilent && isSilent;
  const { epoch, parts } = ledger.base(now);
  if (wasSilent) {
    if (isSilent || !limitsPermits) return true;
    // A store that takes longer than the caller can wait may just have said that all permits are held.
    const isFull = now - ledger.answeredAt < CERTAIN_MS &&
      earliestStart(rules, parts, now - epoch, demand) === Infinity;
    return fullAt <= since && !isFull;
  }
  const isUnheard = !limitsPermits && ledger.answeredAt < runningSince &&
    silentMs >= Math.max(GRACE_MS, TRIPS_OF_SILENCE * ledger.tripMs);
  if (!isSilent && !isUnheard && fullAt > since) return false;
  // Others may only just have taken what it waited for, or given back what stood in its way.
  const start = earliestStart(rules, parts, since - epoch, demand) + epoch;
  return Math.max(start, head?.heldUntil ?? start) <= Math.max(since, now - GRACE_MS);
}
