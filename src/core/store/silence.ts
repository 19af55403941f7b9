import { StoreUnavailableError } from "../errors.ts";
import { because } from "./ledger.ts";
import type { Store } from "./store.ts";

/** The end of the time that calls to several limiters have together for silent stores. */
export const SHARED_TIME_ENDED = "the time that the limiters of one call share was over";

/** What is known of a caller whose time has ended. */
export interface Ended {
  /** How long it had waited. */
  readonly waitedMs: number;
  /** Whether the store has not said anything in the meantime. */
  readonly isSilent: boolean;
  /** Whether it was not its own timeout that ended, but the time that it shares with calls to other limiters. */
  readonly isShared: boolean;
}

/** The error for a caller whose time has ended before the store's own time limit. */
export function silence(
  storeId: string,
  store: Store,
  { waitedMs, isSilent, isShared }: Ended,
): StoreUnavailableError {
  const ms = Math.round(waitedMs);
  const what = isSilent
    ? `no answer ${ms > 0 ? `for ${ms} ms` : "yet"}`
    : `the request could not be written within ${ms} ms`;
  const advice = `Check that the server is up and reachable${isSilent ? "" : ", and its load"}.`;
  const ended = isShared ? SHARED_TIME_ENDED : "the caller's own timeout ended";
  return new StoreUnavailableError(`${what}, when ${ended}${because(store, advice)}`, {
    store: storeId,
  });
}

/**
 * The error for callers whose request was not even sent, because the store had failed those for many other keys by
 * then.
 */
export function tooBusy(storeId: string, store: Store, waitedMs: number): StoreUnavailableError {
  const advice = "Check that the server is up and reachable, and its load: requests for many other keys came before.";
  return new StoreUnavailableError(`it was not asked within ${Math.round(waitedMs)} ms${because(store, advice)}`, {
    store: storeId,
    outcome: "not_applied",
  });
}

/** The error for callers whose process has lost this many races in a row. */
export function tooManyRaces(storeId: string, races: number): StoreUnavailableError {
  return new StoreUnavailableError(
    `lost ${races} compare-and-set races in a row for one key. Too many processes write it at once: allow more tries ` +
      `with max_retries (maxRetries), or spread the load over more keys.`,
    { store: storeId, outcome: "not_applied" },
  );
}
