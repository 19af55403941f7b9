import type { Simulation } from "./simulated_process.ts";

/**
 * Calls again and again for the given time, each caller after its last call has ended, and then ends all calls that
 * still wait.
 */
export async function keepCalling(
  { clock, run }: Simulation,
  ms: number,
  callers: readonly ((signal: AbortSignal) => Promise<void>)[],
): Promise<void> {
  const over = new AbortController();
  const ended = Promise.allSettled(callers.map(async (call) => {
    while (!over.signal.aborted) await call(over.signal);
  }));
  await run(clock.sleep(ms));
  over.abort();
  await run(ended);
}
