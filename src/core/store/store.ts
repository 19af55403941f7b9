import type { Clock, ClockReading } from "../clock.ts";
import type { Peers } from "../peers.ts";
import type { Kv } from "./kv.ts";

/**
 * A store as limiters use it: a {@link Kv}, the clock that all processes on it share, and its lifetime. It is opened on
 * first use, and only once even if many first uses come together.
 *
 * @example
 * ```ts
 * import { memoryStore, type Store } from "@ratesync/core";
 *
 * const store: Store = memoryStore();
 * await store.open();
 * console.log(await store.kv.get("nothing")); // null
 * await store.close();
 * ```
 */
export interface Store {
  /** Where the limits are kept. Its methods may be called before {@link Store.open}; they open the store first. */
  readonly kv: Kv;
  /** The time that everybody on this store agrees on. Exact once the store is open. */
  readonly clock: Clock;
  /**
   * Connects, if needed. Concurrent and repeated calls share one connection; after a failure the next call tries again.
   *
   * @throws {StoreUnavailableError} if the store cannot be reached or used; the message says what to do.
   */
  open(): Promise<void>;
  /** Closes what this store opened itself; what the caller passed in stays open. Repeated calls do nothing. */
  close(): Promise<void>;
  /**
   * Which connection to the store this is, if it can be lost. The number changes whenever the store was out of reach
   * and may have lost what it had acknowledged, and may count its revisions anew. What was known before is then read
   * again.
   */
  readonly session?: number | undefined;
  /** How the processes on this store talk to each other, if they can. Without it, every process writes for itself. */
  readonly peers?: Peers | undefined;
  /** How long the store keeps a value that is not written again, in milliseconds, if that is limited and known. */
  readonly retentionMs?: number | undefined;
  /** Whether the store is open, if opening it takes time: what is new on an open store need not wait. */
  readonly isOpen?: boolean | undefined;
  /**
   * How exact {@link Store.clock} is. Without it, the clock is taken for this host's, or for one that is the same
   * everywhere.
   */
  readClock?(): ClockReading;
  /**
   * Whether {@link Store.clock} had not been compared with the server's for so long, when it was last asked for the
   * time, that nothing should be decided by it. The next {@link Store.open} and {@link Kv.get} compare it again.
   */
  readonly isClockStale?: boolean | undefined;
  /** This host's own clock, if opening the store sets {@link Store.clock} by another one. */
  readonly localClock?: Clock | undefined;
  /**
   * What is wrong with the connection at this moment, if the store can tell: it continues after "no answer within 2000
   * ms:" and ends as a sentence.
   */
  readonly problem?: string | undefined;
}

/** The {@link Store.open} of a store that is always open. A caller that finds this function need not call it. */
export const opensNothing = (): Promise<void> => Promise.resolve();
