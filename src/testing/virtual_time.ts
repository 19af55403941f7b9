import { namesOf } from "../core/arguments.ts";
import { RateLimiterError } from "../core/errors.ts";
import type { Store } from "../core/store/store.ts";
import { accessIn, type RegistryOptions } from "./access.ts";
import { createFaultyKv, type FaultyKv } from "./faulty_kv.ts";
import { createVirtualClock, type VirtualClock } from "./virtual_clock.ts";

/**
 * The options of {@link useVirtualTime}.
 *
 * @example
 * ```ts
 * import { useVirtualTime, type VirtualTimeOptions } from "@ratesync/core/testing";
 *
 * const options: VirtualTimeOptions = { start: Date.UTC(2031, 5, 1) };
 * await using time = await useVirtualTime(options);
 * console.log(new Date(time.now()).toISOString()); // "2031-06-01T00:00:00.000Z"
 * ```
 */
export interface VirtualTimeOptions extends RegistryOptions {
  /** The time at the beginning, in milliseconds since the Unix epoch. The default is the start of 2030. */
  readonly start?: number | undefined;
}

const NAMES = namesOf<VirtualTimeOptions>({ rateSync: true, start: true });

/**
 * The time of a registry's limiters, until it is disposed of. Made by {@link useVirtualTime}.
 *
 * @example
 * ```ts
 * import { configureLimiter, tryAcquire } from "@ratesync/core";
 * import { useVirtualTime, type VirtualTime } from "@ratesync/core/testing";
 *
 * configureLimiter("newsletter", { ratePerSecond: 1 / 86_400 });
 * await using time: VirtualTime = await useVirtualTime();
 * console.log((await tryAcquire("newsletter")).allowed, (await tryAcquire("newsletter")).allowed); // true false
 * await time.advance(86_400_000);
 * console.log((await tryAcquire("newsletter")).allowed); // true
 * ```
 */
export interface VirtualTime extends VirtualClock, AsyncDisposable {
  /**
   * The replacement for the store with this id: to let things go wrong, or to see what was sent.
   *
   * @throws {StoreNotFoundError} if no store has this id.
   */
  kv(storeId: string): FaultyKv;
}

const inUse = new WeakSet<object>();

/**
 * Lets all limiters of a registry work in virtual time and in memory until the result is disposed of: for tests of code
 * that calls the module's `acquire` and the like, without changing that code. No server is needed, whatever store the
 * code has configured; nothing that it limits waits in real time; and every test begins with the whole limit.
 *
 * All stores are replaced by empty ones, each a {@link FaultyKv}. Such a store has to be asked, and `tryAcquireSync()`
 * says so. What was opened is closed at the beginning and again at the end; callers that wait at that moment get an
 * error with the reason `closed`. The configuration stays, and whatever is configured meanwhile counts too, as do
 * limiters that the code obtained from `getLimiter` before. Afterwards everything works as before.
 *
 * Only limiters live in this time. `Date.now()`, `setTimeout()` and the network go on as always, so code that has to
 * wait for something else in between should use the same clock: `await time.sleep(500)`.
 *
 * @throws {RateLimiterError} if the registry already lives in virtual time.
 *
 * @example A test of code that calls `acquire`
 * ```ts
 * import { acquire, configureLimiter, configureStore } from "@ratesync/core";
 * import { useVirtualTime } from "@ratesync/core/testing";
 *
 * // The code: four calls a minute, shared with other processes.
 * configureStore("partner", { engine: "nats", url: "nats://nats.example.com:4222" });
 * configureLimiter("partner-calls", { store: "partner", ratePerSecond: 4 / 60 });
 * async function call(path: string): Promise<string> {
 *   await acquire("partner-calls");
 *   return `answer to ${path}`;
 * }
 *
 * // The test
 * await using time = await useVirtualTime();
 * const begun = time.now();
 * await time.runUntil(Promise.all(["/a", "/b", "/c", "/d", "/e"].map(call)));
 * console.log(time.now() - begun); // 60000
 * ```
 */
export async function useVirtualTime(options: VirtualTimeOptions = {}): Promise<VirtualTime> {
  const access = accessIn(options, NAMES);
  if (inUse.has(access)) {
    throw new RateLimiterError(
      "These limiters live in virtual time already. Dispose of what useVirtualTime() returned before, or declare it with " +
        "`await using`, so that one test ends before the next one begins.",
    );
  }
  const clock = createVirtualClock(options.start);
  inUse.add(access);
  const replaced = new Map<string, FaultyKv>();
  let ended: Promise<void> | undefined;

  function kvOf(id: string): FaultyKv {
    const kv = replaced.get(id) ?? createFaultyKv({ clock });
    replaced.set(id, kv);
    return kv;
  }

  function store(id: string): Store {
    const nothing = () => Promise.resolve();
    return { kv: kvOf(id), clock, open: nothing, close: nothing };
  }

  async function end(): Promise<void> {
    for (const kv of replaced.values()) kv.clearFaults();
    try {
      // Giving back at the end takes time too.
      await clock.runUntil(access.moveTo(undefined));
    } finally {
      inUse.delete(access);
    }
  }

  try {
    await access.moveTo({ clock, store });
  } catch (error) {
    inUse.delete(access);
    throw error;
  }
  return {
    now: () => clock.now(),
    sleep: (ms, signal) => clock.sleep(ms, signal),
    advance: (ms) => clock.advance(ms),
    runUntil: (promise) => clock.runUntil(promise),
    get sleepers() {
      return clock.sleepers;
    },
    kv(storeId) {
      access.storeInUse(storeId);
      return kvOf(storeId);
    },
    [Symbol.asyncDispose]: () => ended ??= end(),
  };
}
