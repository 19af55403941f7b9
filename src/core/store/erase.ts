import { sentenceOf } from "../cause.ts";
import type { Clock } from "../clock.ts";
import { RateLimiterError, StoreUnavailableError } from "../errors.ts";
import type { Store } from "./store.ts";
import { createTimeLimit } from "./time_limit.ts";

/** What {@link eraseKeys} deletes. */
export interface EraseOptions {
  readonly keys?: readonly string[];
  /** All keys that begin with this. */
  readonly prefix?: string;
  /** How long each call may take, in milliseconds. */
  readonly timeoutMs: number;
  /** Measures the time. */
  readonly clock: Clock;
}

/**
 * Opens a store, deletes keys from it, and wakes everybody who waits for something there.
 *
 * @throws {StoreUnavailableError} if the store failed; some keys may have been deleted.
 */
export async function eraseKeys(storeId: string, store: Store, options: EraseOptions): Promise<void> {
  const { keys = [], prefix, timeoutMs, clock } = options;
  const { kv } = store;
  const limit = createTimeLimit(clock);
  const late = () =>
    new StoreUnavailableError(
      `no answer within ${timeoutMs} ms while it was reset. Check that it is up and reachable.`,
      { store: storeId },
    );
  const bounded = <T>(call: Promise<T>) => limit.bound(call, timeoutMs, { late });
  try {
    await bounded(store.open());
    const found = new Set(keys);
    if (prefix !== undefined) {
      const listing = kv.keys(prefix)[Symbol.asyncIterator]();
      for (let next = await bounded(listing.next()); !next.done; next = await bounded(listing.next())) {
        found.add(next.value);
      }
    }
    for (const key of found) {
      await bounded(kv.delete(key));
      kv.announce?.(key);
    }
  } catch (error) {
    if (error instanceof RateLimiterError) throw error;
    throw new StoreUnavailableError(`it failed while it was reset: ${sentenceOf(error)}`, {
      store: storeId,
      cause: error,
    });
  }
}
