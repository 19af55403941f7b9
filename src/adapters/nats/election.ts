import type { Clock } from "../../core/clock.ts";

/** While nobody leads a bucket it is asked again after so many milliseconds, and then more rarely. */
export const FIRST_PAUSE_MS = 10;
/** After so many milliseconds it is asked again at the latest. */
export const LONGEST_PAUSE_MS = 160;

/** Calls again while nobody leads the bucket that it is about, for up to `patienceMs`. `isElection`: whether an error says so. */
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
