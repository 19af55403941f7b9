import type { Clock } from "./clock.ts";

/** How long a store that failed is left alone before it is asked for those who wait, in milliseconds. */
const PROBE_MS = 1_000;

/** Tells those who wait for what stands in for a store that failed when that store answers again. */
export interface Recovery {
  /** It does. */
  happened(): void;
  /**
   * Makes a call, which hears by the signal that the store answers again. While there are such calls `probe` asks the store
   * now and then, as nobody else may: it says so itself if there is an answer.
   */
  during<T>(clock: Clock, probe: () => Promise<unknown>, call: (isBack: AbortSignal) => Promise<T>): Promise<T>;
}

/** Of a store that nobody waits for. */
export function createRecovery(): Recovery {
  let back = new AbortController();
  let calls = 0;
  let probing = new AbortController();

  async function keepProbing(clock: Clock, probe: () => Promise<unknown>, over: AbortSignal): Promise<never> {
    for (;;) {
      await clock.sleep(PROBE_MS, over, true);
      await probe().catch(() => {}); // Then the next time.
    }
  }

  return {
    happened() {
      back.abort("the store is back");
      back = new AbortController();
    },
    async during(clock, probe, call) {
      if (calls++ === 0) {
        probing = new AbortController();
        keepProbing(clock, probe, probing.signal).catch(() => {}); // It ends by being aborted.
      }
      try {
        return await call(back.signal);
      } finally {
        if (--calls === 0) probing.abort("nobody waits");
      }
    },
  };
}
