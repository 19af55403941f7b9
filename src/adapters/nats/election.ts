import type { Clock } from "../../core/clock.ts";

/** While nobody leads a bucket, it is asked again after this many milliseconds, and then more rarely. */
export const FIRST_PAUSE_MS = 10;
/** The longest pause before it is asked again, in milliseconds. */
export const LONGEST_PAUSE_MS = 160;

/** Repeats a call while its bucket has no leader, for up to `patienceMs`. `isElection`: whether an error says that. */
export async function whileLeaderless<T>(
  call: () => Promise<T>,
  isElection: (error: unknown) => boolean,
  patienceMs: number,
  { now, sleep }: Pick<Clock, "now" | "sleep">,
): Promise<T> {
  const until = now() + patienceMs;
  for (let pause = FIRST_PAUSE_MS;; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
    try {
      return await call();
    } catch (error) {
      if (!isElection(error) || now() + pause > until) throw error;
    }
    await sleep(pause);
  }
}
