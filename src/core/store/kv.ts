/**
 * A value as a {@link Kv} holds it.
 *
 * @example
 * ```ts
 * import type { KvEntry } from "@ratesync/core";
 *
 * const entry: KvEntry = { value: new TextEncoder().encode("{}"), revision: 7 };
 * console.log(entry.revision); // 7
 * ```
 */
export interface KvEntry {
  /** The stored bytes. */
  readonly value: Uint8Array;
  /** Which write of the store this is: a positive integer that changes with every write of the key. */
  readonly revision: number;
}

/**
 * How a compare-and-set ended. Losing the race is an outcome, not an exception.
 *
 * @example
 * ```ts
 * import type { CasResult } from "@ratesync/core";
 *
 * const describe = (result: CasResult) => result.ok ? `stored as revision ${result.revision}` : "somebody was faster";
 * console.log(describe({ ok: false })); // "somebody was faster"
 * ```
 */
export type CasResult = { readonly ok: true; readonly revision: number } | { readonly ok: false };

/**
 * What a limiter needs from a store: a key-value store with compare-and-set. Every adapter implements it, and a custom
 * one is passed in with `configureStore("mine", { kv, clock })`.
 *
 * An exception from any method means that the store failed or that the outcome is unknown. Throw a
 * `StoreUnavailableError` with `outcome: "not_applied"` if it is certain that nothing was written.
 *
 * @example The smallest one: a single process, values that never expire
 * ```ts
 * import type { Kv, KvEntry } from "@ratesync/core";
 *
 * const entries = new Map<string, KvEntry>();
 * let revision = 0;
 * const kv: Kv = {
 *   get: (key) => Promise.resolve(entries.get(key) ?? null),
 *   compareAndSet(key, value, expected) {
 *     if ((entries.get(key)?.revision ?? 0) !== expected) return Promise.resolve({ ok: false });
 *     entries.set(key, { value, revision: ++revision });
 *     return Promise.resolve({ ok: true, revision });
 *   },
 *   delete(key) {
 *     entries.delete(key);
 *     return Promise.resolve();
 *   },
 *   async *keys(prefix = "") {
 *     for (const key of entries.keys()) if (key.startsWith(prefix)) yield key;
 *   },
 * };
 * console.log(await kv.compareAndSet("api", new Uint8Array(), 0)); // { ok: true, revision: 1 }
 * console.log(await kv.compareAndSet("api", new Uint8Array(), 0)); // { ok: false }
 * ```
 */
export interface Kv {
  /** The entry under `key`, as the last acknowledged write left it (never a stale one), or `null` if there is none. */
  get(key: string): Promise<KvEntry | null>;
  /**
   * Writes `value` if the key's revision is still `expected`; 0 means that the key must not exist. `expected` may be a
   * revision that the store has never come to, up to `Number.MAX_SAFE_INTEGER`.
   *
   * `ttlMs` says after how many milliseconds the value no longer matters, so that a store may forget it then. A store
   * that never forgets it, or forgets it later, is correct too.
   */
  compareAndSet(key: string, value: Uint8Array, expected: number, ttlMs?: number): Promise<CasResult>;
  /** Removes the key. It is not an error if the key does not exist. */
  delete(key: string): Promise<void>;
  /** All keys that start with `prefix`, in no particular order. */
  keys(prefix?: string): AsyncIterable<string>;
  /**
   * Calls `onHint` when another process announces that something under `key` was released, until the result is disposed
   * of. This is only a hint: it may come late, twice, or never.
   */
  wake?(key: string, onHint: () => void): Promise<AsyncDisposable>;
  /** Announces to everybody who called {@link Kv.wake} for `key` that something was released. Never throws. */
  announce?(key: string): void;
  /** Lets limiters use stored values without a conversation, if these are in the memory of their own process. */
  readonly loans?: Loans | undefined;
}

/**
 * Lends what a {@link Kv} in the memory of this process holds: a limiter that borrows a key decides at once, without
 * encoding anything. As soon as anybody else wants the key, through any method, it is called back, so nobody sees an
 * old value.
 *
 * @example
 * ```ts
 * import { memoryKv } from "@ratesync/core";
 *
 * const kv = memoryKv();
 * kv.loans?.borrow("visits", () => ({ value: new TextEncoder().encode("3") }));
 * const entry = await kv.get("visits"); // calls it back
 * console.log(new TextDecoder().decode(entry?.value)); // 3
 * ```
 */
export interface Loans {
  /**
   * The {@link Kv} that lends. An object made of its methods and some others lends nothing: it may be there to count
   * calls, or to make them fail.
   */
  readonly of: Kv;
  /**
   * Calls the key back from its borrower, if it has one, and returns its entry. Until `callBack` is called, once and
   * without delay, nobody but the borrower knows the value.
   */
  borrow(key: string, callBack: CallBack): KvEntry | null;
  /** Calls the key back, if it is borrowed. */
  settle(key: string): void;
}

/**
 * Returns what was borrowed: the value if it has changed, which then has this revision, and for how long it matters. It
 * must neither throw nor use the store.
 *
 * @example
 * ```ts
 * import type { CallBack } from "@ratesync/core";
 *
 * const unchanged: CallBack = () => undefined;
 * const changed: CallBack = (revision) => ({ value: new TextEncoder().encode(`write ${revision}`), ttlMs: 1_000 });
 * console.log(unchanged(7), changed(7)?.ttlMs); // undefined 1000
 * ```
 */
export type CallBack = (
  revision: number,
) => { readonly value: Uint8Array; readonly ttlMs?: number | undefined } | undefined;

/** What the store lends, unless it lends nothing or is a modified copy. */
export function loansOf(kv: Kv): Loans | undefined {
  return kv.loans?.of === kv ? kv.loans : undefined;
}
