/** Whom a process hands its requests to, on one key: the last writer, after a race was lost to it. */
export interface Following {
  /** Whom to ask now; `undefined`: nobody, so it writes itself. */
  leader(now: number): string | undefined;
  /** This one writes: it is asked from now on, unless it did not answer lately. `tripMs`: how long a write takes. */
  follow(writer: string, now: number, tripMs: number): void;
  /** It answered. */
  answered(now: number, tripMs: number): void;
  /** It did not answer, or not as it should: it is not asked for a while. */
  failed(now: number): void;
  /** Nobody is asked any more. */
  lead(): void;
}

/**
 * Without an answer for this long, or for as long as so many writes take, the key is not contended any more, and to write oneself
 * takes one trip less.
 */
const FOLLOW_MS = 100;
const TRIPS_OF_FOLLOWING = 4;
/** Who did not answer is asked again after this long, and after twice as long each time that it does not. */
const SHUN_MS = 100;
const LONGEST_SHUN_MS = 30_000;
/** How many writers that did not answer are remembered. */
const MOST_SHUNNED = 64;

/** A {@link Following} of nobody. */
export function createFollowing(): Following {
  const shunned = new Map<string, { readonly until: number; readonly ms: number }>();
  let leader: string | undefined;
  let until = -Infinity;
  const end = (now: number, tripMs: number) => now + Math.max(FOLLOW_MS, TRIPS_OF_FOLLOWING * tripMs);

  return {
    leader: (now) => now < until ? leader : undefined,
    follow(writer, now, tripMs) {
      if ((shunned.get(writer)?.until ?? -Infinity) > now) return;
      leader = writer;
      until = end(now, tripMs);
    },
    answered(now, tripMs) {
      if (leader !== undefined) shunned.delete(leader);
      until = end(now, tripMs);
    },
    failed(now) {
      if (leader === undefined) return;
      const ms = Math.min(2 * (shunned.get(leader)?.ms ?? SHUN_MS / 2), LONGEST_SHUN_MS);
      shunned.delete(leader);
      shunned.set(leader, { until: now + ms, ms });
      if (shunned.size > MOST_SHUNNED) shunned.delete(shunned.keys().next().value!); // there is one
      leader = undefined;
    },
    lead() {
      leader = undefined;
    },
  };
}
