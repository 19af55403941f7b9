import { check, type Verdict } from "../support/checker.ts";
import type { Fault } from "./faults.ts";
import { LATE_MS, sleep, startWorld, type WorldOptions } from "./world.ts";

/** How a play went. */
export interface Played {
  readonly verdict: Verdict;
  /** How many things went wrong. */
  readonly faults: number;
}

/** For how long everything goes well before something goes wrong, at the most. */
const CALM_MS = 200;

/**
 * Lets faults happen under load, one after another, until `isOver`; after each of them every caller has to be served again.
 * In the end everything that was taken has to come back, and the checker judges what was recorded.
 */
export async function play(
  options: WorldOptions,
  faults: readonly Fault[],
  isOver: () => boolean = () => true,
): Promise<Played> {
  await using world = await startWorld(options);
  let count = 0;
  do {
    for (const fault of faults) {
      await sleep(Math.random() * CALM_MS);
      try {
        await fault.happen(world);
        await world.recovered();
      } catch (cause) {
        throw new Error(`after "${fault.name}": ${cause instanceof Error ? cause.message : cause}`, { cause });
      }
      count++;
    }
  } while (!isOver());
  return { verdict: check(await world.finish(), LATE_MS), faults: count };
}
