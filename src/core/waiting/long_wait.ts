/** A caller that has waited for a permit for so long that somebody may have forgotten to release one. */
export interface LongWait {
  /** How long it has waited, in milliseconds. */
  readonly waitedMs: number;
  /** How many callers of this process wait for the same permits, this one included. */
  readonly callers: number;
  /** How many of these permits this process holds. */
  readonly held: number;
}

/** A wait for a permit that is longer than this is reported. */
export const LONG_WAIT_MS = 30_000;
/** The next report comes no sooner than this: the wait may well be what the limit is for. */
export const REPORT_AGAIN_MS = 60_000;

/** The wait for one of `maxConcurrent` permits, in sentences that say what to look for. It names no key. */
export function describeWait({ waitedMs, callers, held }: LongWait, maxConcurrent: number): string {
  const seconds = Math.floor(waitedMs / 1_000);
  const advice = held > 0
    ? " If they are no longer in use, somebody has forgotten to release them: use 'await using', or release()."
    : "";
  return `a caller has waited for a permit for ${seconds} s (${callers} in line here). This process holds ${held} of ` +
    `${maxConcurrent} permits.${advice}`;
}
