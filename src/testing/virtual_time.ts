import { namesOf } from "../core/arguments.ts";
import { RateLimiterError } from "../core/errors.ts";
import type { Store } from "../core/store.ts";
import { accessIn, type RegistryOptions } from "./access.ts";
import { createFaultyKv, type FaultyKv } from "./faulty_kv.ts";
import { createVirtualClock, type VirtualClock } from "./virtual_clock.ts";

/**
 * What {@link useVirtualTime} starts with.
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
   * What has taken the place of the store with this id: to let things go wrong, or to look what was sent.
   *
   * @throws {StoreNotFoundError} if no store has this id.
   */
  kv(storeId: string): FaultyKv;
}

const inUse = new WeakSet<object>();

/**
 * Lets all limiters of a registry work in virtual time and in memory, until the result is disposed of: for tests of code
 * that calls `acquire` and the like of the module, and that stays as it is. No server is needed, whatever store the code
 * has configured, nothing that it limits waits in real time, and every test begins with the whole limit.
 *
 * All stores are replaced by empty ones, each a {@link FaultyKv}, which has to be asked: `tryAcquireSync()` says so here.
 * What was opened is closed before, and in the end; who waits at that moment gets an error with the reason `closed`. The
 * configuration stays, and what is configured meanwhile counts too; so do limiters that the code got from `getLimiter`
 * before. In the end everything works as before.
 *
 * Only limiters live in this time. `Date.now()`, `setTimeout()` and the network go on as always, so code that has to wait
 * for something else in between should wait with the same clock: `await time.sleep(500)`.
 *
 * @throws {RateLimiterError} if the registry lives in virtual time already.
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
      // What is given back at the end takes its time too.
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
