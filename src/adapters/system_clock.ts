import type { Clock } from "../core/clock.ts";
import { BOUNDS } from "../core/limiter/defaults.ts";

/** Kept because reading it takes longer than reading the time since then. */
const ORIGIN = performance.timeOrigin;

/**
 * The time of this host: the wall clock when the process started, and the monotonic clock from then on. It therefore
 * never goes back, and setting the wall clock while the process runs cannot make a limit admit more.
 *
 * @example
 * ```ts
 * import { systemClock } from "@ratesync/core";
 *
 * const before = systemClock.now();
 * await systemClock.sleep(5);
 * console.log(systemClock.now() - before >= 5); // true
 * ```
 */
export const systemClock: Clock = {
  now: () => ORIGIN + performance.now(),
  async sleep(ms, signal, isBackground = false) {
    const until = performance.now() + ms;
    signal?.throwIfAborted();
    // Some runtimes round a timeout down and others add a millisecond, so it first waits one too few, and then the
    // rest.
    for (let left = ms; left > 0; left = until - performance.now()) {
      await timeout(Math.min(BOUNDS.longestTimeoutMs, left > 1 ? Math.ceil(left) - 1 : 1), signal, isBackground);
      // Between two timers nobody listens.
      signal?.throwIfAborted();
    }
  },
};

function timeout(ms: number, signal: AbortSignal | undefined, isBackground: boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    if (isBackground) letGo(timer);
    function abort(): void {
      clearTimeout(timer);
      reject(signal?.reason);
    }
    signal?.addEventListener("abort", abort, { once: true });
  });
}

/** Lets the program end before the timer does. Browsers and most workers cannot do that, and need not. */
function letGo(timer: unknown): void {
  const deno: unknown = Reflect.get(globalThis, "Deno");
  // Deno's timers are numbers, with a function for this; those of Node and Bun are objects with a method.
  if (typeof timer === "number") call(deno, "unrefTimer", timer);
  else call(timer, "unref");
}

function call(object: unknown, name: string, ...args: readonly unknown[]): void {
  const method: unknown = typeof object === "object" && object !== null ? Reflect.get(object, name) : undefined;
  if (typeof method === "function") Reflect.apply(method, object, args);
}
