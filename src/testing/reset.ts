import { namesOf, wrongArgument } from "../core/arguments.ts";
import type { ClosableLimiter, Limiter } from "../core/limiter/limiter.ts";
import { eraseKeys } from "../core/store/erase.ts";
import { throwFailures } from "../registry/failures.ts";
import { accessIn, type RegistryOptions } from "./access.ts";

/**
 * The options of {@link resetLimiter}.
 *
 * @example
 * ```ts
 * import { acquire, configureLimiter } from "@ratesync/core";
 * import { resetLimiter, type ResetLimiterOptions } from "@ratesync/core/testing";
 *
 * configureLimiter("by-user", { ratePerSecond: 0.01 });
 * await acquire("by-user", { key: "alice" });
 * const alone: ResetLimiterOptions = { key: "alice" };
 * await resetLimiter("by-user", alone);
 * await acquire("by-user", { key: "alice" });
 * ```
 */
export interface ResetLimiterOptions extends RegistryOptions {
  /** Only the limiter for this key. The default is the limiter and all of its keys. */
  readonly key?: string | undefined;
}

const NAMES = namesOf<ResetLimiterOptions>({ rateSync: true, key: true });

/**
 * Makes a limiter as if it had never been used: nothing is used up or held, and its metrics are zero. It stays
 * configured, and can be used at once. All of its keys are reset with it, even those that only other processes used;
 * other limiters, including clones of it, stay as they are. It may be called any number of times.
 *
 * Its values in the store are deleted, which every process on the store notices with its next write. In this process:
 *
 * - Waiting callers are decided anew, with what is left of their timeouts.
 * - Held permits are lost: `permit.lost` is `true`, `permit.signal` is aborted, and releasing one does nothing, so
 *   nobody else's permit is freed. Other processes keep theirs, and write them to the store with their next renewal.
 *
 * If a virtual clock has to move before the store answers (because it has latency or is down), let it:
 * `await clock.runUntil(resetLimiter("api"))`.
 *
 * @param limiter The id of a limiter, or a limiter.
 * @throws {LimiterNotFoundError} if no limiter has this id.
 * @throws {StoreUnavailableError} if the store failed. The values there may remain; in this process the limiter has
 * started over all the same, and waiting callers go on.
 *
 * @example Every test begins with the whole limit
 * ```ts
 * import { configureLimiter, tryAcquire } from "@ratesync/core";
 * import { resetLimiter } from "@ratesync/core/testing";
 *
 * configureLimiter("signup", { ratePerSecond: 0.01 });
 * console.log((await tryAcquire("signup")).allowed); // true
 * console.log((await tryAcquire("signup")).allowed); // false
 * await resetLimiter("signup");
 * console.log((await tryAcquire("signup")).allowed); // true
 * ```
 */
export async function resetLimiter(limiter: string | Limiter, options: ResetLimiterOptions = {}): Promise<void> {
  const found = typeof limiter === "string" ? accessIn(options, NAMES).limiter(limiter) : closable(limiter);
  await (options.key === undefined ? found : found.key(options.key)).reset();
}

/**
 * {@link resetLimiter} for every configured limiter, including clones and all keys. Limiters that were not used yet are
 * reset too: on a store that outlives the process, an earlier run may have left something there.
 *
 * All are tried, whatever happens to one of them.
 *
 * @throws {RateLimiterError} what the limiter that failed throws or, if several failed, an error with all their
 * messages, whose cause is an `AggregateError`.
 *
 * @example
 * ```ts
 * import { configureLimiter, tryAcquire } from "@ratesync/core";
 * import { resetAllLimiters } from "@ratesync/core/testing";
 *
 * configureLimiter("mails", { ratePerSecond: 0.01 });
 * configureLimiter("calls", { maxConcurrent: 1 });
 * await tryAcquire("mails");
 * await tryAcquire("calls");
 * await resetAllLimiters(); // in beforeEach() or afterEach()
 * console.log((await tryAcquire("mails")).allowed, (await tryAcquire("calls")).allowed); // true true
 * ```
 */
export async function resetAllLimiters(options: RegistryOptions = {}): Promise<void> {
  const access = accessIn(options);
  const results = await Promise.allSettled(access.limiterIds().map(async (id) => await access.limiter(id).reset()));
  throwFailures(results, (count) => `${count} limiters could not be reset`);
}

/**
 * Deletes **everything** in a store, whoever put it there, and resets all limiters on it. Nothing is left of a NATS
 * bucket, even if others use it too.
 *
 * If no limiter on it has been used in this process, nothing is opened or deleted, and the logger gets a warning.
 *
 * @throws {StoreNotFoundError} if no store has this id; the message names the existing ones.
 * @throws {StoreUnavailableError} if the store failed.
 *
 * @example
 * ```ts
 * import { configureLimiter, configureStore, tryAcquire } from "@ratesync/core";
 * import { resetBackendStore } from "@ratesync/core/testing";
 *
 * configureStore("shared", { engine: "memory" });
 * configureLimiter("reads", { store: "shared", ratePerSecond: 0.01 });
 * configureLimiter("writes", { store: "shared", ratePerSecond: 0.01 });
 * await tryAcquire("reads");
 * await tryAcquire("writes", { key: "alice" });
 * await resetBackendStore("shared");
 * console.log((await tryAcquire("writes", { key: "alice" })).allowed); // true
 * ```
 */
export async function resetBackendStore(id: string, options: RegistryOptions = {}): Promise<void> {
  const { logger, clock, ...access } = accessIn(options);
  const { store, breaker, limiters, backendTimeoutMs } = access.storeInUse(id);
  if (!store || !limiters.some(({ initialized }) => initialized)) {
    logger.warn(
      `Store '${id}' was not reset: no limiter on it has been used in this process. To delete what an earlier run left ` +
        `there, use resetAllLimiters().`,
    );
    return;
  }
  let letBegin = () => {};
  const erased = new Promise<void>((resolve) => letBegin = resolve);
  try {
    const restarted = await Promise.allSettled(limiters.map((limiter) => limiter.restart(erased)));
    const [deleted] = await Promise.allSettled([
      eraseKeys(id, store, { prefix: "", timeoutMs: backendTimeoutMs, clock }).then(() => breaker?.succeeded()),
    ]);
    throwFailures([...restarted, deleted], (count) => `${count} things went wrong when store '${id}' was reset`);
  } finally {
    letBegin();
  }
}

function closable(limiter: Limiter): ClosableLimiter {
  if (isClosable(limiter)) return limiter;
  throw wrongArgument(
    "This is no limiter that could be reset",
    "limiter",
    "the id of a limiter, or what getLimiter() returned",
    limiter,
  );
}

/** Untyped code may pass anything. */
function isClosable(limiter: Limiter): limiter is ClosableLimiter {
  return typeof limiter === "object" && limiter !== null && "reset" in limiter && typeof limiter.reset === "function";
}
