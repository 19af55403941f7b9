import type { Clock } from "../core/clock.ts";
import type { CallBack, Kv, KvEntry, Loans } from "../core/store/kv.ts";
import { opensNothing, type Store } from "../core/store/store.ts";
import { systemClock } from "./system_clock.ts";

interface MemoryEntry {
  readonly entry: KvEntry;
  readonly expiresAt: number;
}

/** How many entries each write inspects. More than one, so that the expired ones run out. */
const SWEPT_PER_WRITE = 2;

/**
 * A store in the memory of this process: the default, and all that a single process needs. Values that no longer matter
 * are dropped, so a limiter with a million keys does not keep a million values.
 *
 * @example
 * ```ts
 * import { createRateSync, memoryStore } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * const { kv, clock } = memoryStore();
 * rateSync.configureStore("mine", { kv, clock });
 * rateSync.configureLimiter("api", { store: "mine", ratePerSecond: 100 });
 * await rateSync.acquire("api");
 * ```
 */
export function memoryStore(clock: Clock = systemClock): Store {
  return {
    kv: memoryKv(clock),
    clock,
    readClock: () => ({ source: "host", now: clock.now(), offsetMs: 0, errorMs: 0, measuredAt: null }),
    open: opensNothing,
    close: () => Promise.resolve(),
  };
}

/**
 * The {@link Kv} of {@link memoryStore}.
 *
 * @example
 * ```ts
 * import { memoryKv } from "@ratesync/core";
 *
 * const kv = memoryKv();
 * console.log(await kv.compareAndSet("api", new Uint8Array([1]), 0)); // { ok: true, revision: 1 }
 * ```
 */
export function memoryKv(clock: Clock = systemClock): Kv {
  const entries = new Map<string, MemoryEntry>();
  const lent = new Map<string, CallBack>();
  const listeners = new Map<string, Set<() => void>>();
  let revision = 0;
  // A map's iterator sees what is inserted while it runs, so it can go round and round.
  let sweeper = entries.entries();

  function put(key: string, value: Uint8Array, ttlMs = Infinity): void {
    entries.set(key, { entry: { value, revision: ++revision }, expiresAt: clock.now() + ttlMs });
    sweep();
  }

  function settle(key: string): void {
    const callBack = lent.get(key);
    if (!callBack) return;
    lent.delete(key);
    const changed = callBack(revision + 1);
    if (changed) put(key, changed.value, changed.ttlMs);
  }

  function current(key: string): KvEntry | undefined {
    settle(key);
    const kept = entries.get(key);
    return kept && kept.expiresAt > clock.now() ? kept.entry : undefined;
  }

  function sweep(): void {
    const now = clock.now();
    for (let looked = 0; looked < SWEPT_PER_WRITE; looked++) {
      const { value, done } = sweeper.next();
      if (done) sweeper = entries.entries();
      else if (value[1].expiresAt <= now) entries.delete(value[0]);
    }
  }

  const kv: Kv = {
    get(key) {
      return Promise.resolve(current(key) ?? null);
    },
    compareAndSet(key, value, expected, ttlMs) {
      if ((current(key)?.revision ?? 0) !== expected) return Promise.resolve({ ok: false });
      put(key, value.slice(), ttlMs);
      return Promise.resolve({ ok: true, revision });
    },
    delete(key) {
      settle(key);
      entries.delete(key);
      return Promise.resolve();
    },
    async *keys(prefix = "") {
      for (const key of lent.keys()) if (key.startsWith(prefix)) settle(key);
      for (const key of entries.keys()) if (key.startsWith(prefix) && current(key)) yield key;
    },
    wake(key, onHint) {
      const hints = listeners.get(key) ?? new Set();
      listeners.set(key, hints.add(onHint));
      return Promise.resolve({
        [Symbol.asyncDispose]() {
          hints.delete(onHint);
          if (hints.size === 0 && listeners.get(key) === hints) listeners.delete(key);
          return Promise.resolve();
        },
      });
    },
    announce(key) {
      for (const onHint of listeners.get(key) ?? []) onHint();
    },
    get loans() {
      return loans;
    },
  };
  const loans: Loans = {
    of: kv,
    borrow(key, callBack) {
      const entry = current(key) ?? null;
      lent.set(key, callBack);
      return entry;
    },
    settle,
  };
  return kv;
}
