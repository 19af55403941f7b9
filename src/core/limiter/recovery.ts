import type { Clock } from "../clock.ts";

/** How long a store that failed is left alone before it is asked on behalf of those that wait, in milliseconds. */
const PROBE_MS = 1_000;

/** Tells callers that wait for the stand-in of a store that failed when that store answers again. */
export interface Recovery {
  /** The store answers again. */
  happened(): void;
  /**
   * Makes a call, which learns from the signal that the store answers again. While there are such calls, `probe` asks
   * the store now and then, in case nobody else does; it reports an answer itself.
   */
  during<T>(clock: Clock, probe: () => Promise<unknown>, call: (isBack: AbortSignal) => Promise<T>): Promise<T>;
}

/** A {@link Recovery} that nobody waits for yet. */
export function createRecovery(): Recovery {
  let back = new AbortController();
  let calls = 0;
  let probing = new AbortController();

  async function keepProbing(clock: Clock, probe: () => Promise<unknown>, over: AbortSignal): Promise<never> {
    for (;;) {
      await clock.sleep(PROBE_MS, over, true);
      await probe().catch(() => {}); // The next probe tries again.
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
