import { StoreUnavailableError } from "../errors.ts";
import { because } from "./ledger.ts";
import type { Store } from "./store.ts";

/**
 * The error for a caller whose own time has ended after `waitedMs`. `isSilent` says that the store has not said
 * anything in the meantime.
 */
export function silence(storeId: string, store: Store, waitedMs: number, isSilent: boolean): StoreUnavailableError {
  const ms = Math.round(waitedMs);
  const what = isSilent ? `no answer for ${ms} ms` : `the request could not be written within ${ms} ms`;
  const advice = `Check that the server is up and reachable${isSilent ? "" : ", and its load"}.`;
  return new StoreUnavailableError(`${what}, when the caller's own timeout ended${because(store, advice)}`, {
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
