/** The process that this one hands its requests for a key to: the last writer, once a race was lost to it. */
export interface Following {
  /** The process to ask now; `undefined` if this one is to write itself. */
  leader(now: number): string | undefined;
  /**
   * `writer` writes the key: it is asked from now on, unless it lately failed to answer. `tripMs` is how long a write
   * takes.
   */
  follow(writer: string, now: number, tripMs: number): void;
  /** The process that was asked has answered. */
  answered(now: number, tripMs: number): void;
  /** The process that was asked did not answer, or not as it should: it is not asked for a while. */
  failed(now: number): void;
  /** From now on, nobody is asked. */
  lead(): void;
}

/**
 * Whoever has had no answer for this long, or for as long as this many writes take, follows nobody any more: the key is
 * no longer contended, and writing it oneself takes one trip less.
 */
const FOLLOW_MS = 100;
const TRIPS_OF_FOLLOWING = 4;
/**
 * A process that did not answer is asked again after this long, and after twice as long each time that it still does
 * not.
 */
const SHUN_MS = 100;
const LONGEST_SHUN_MS = 30_000;
/** How many writers that did not answer are remembered. */
const MOST_SHUNNED = 64;

/** A {@link Following} that follows nobody yet. */
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
