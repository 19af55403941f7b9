import type { Clock } from "../../src/core/clock.ts";
import type { Kv, KvEntry } from "../../src/core/store/kv.ts";
import { createFaultyKv, type FaultyKv } from "../../src/testing/faulty_kv.ts";

/** What stood on the server at some moment. */
export type Snapshot = { readonly entries: ReadonlyMap<string, StoredEntry>; readonly revision: number };

interface StoredEntry extends KvEntry {
  readonly expiresAt: number;
}

/** A key-value store that several processes share, on an injected clock. */
export interface SimulatedServer {
  /** The connection of one more process. */
  connect(options?: { readonly latencyMs?: number }): FaultyKv;
  /** The value under `key` as text, or `undefined` if there is none. */
  text(key: string): string | undefined;
  /** Writes directly, bypassing all processes. */
  put(key: string, value: string | Uint8Array): void;
  /** What stands there now. */
  snapshot(): Snapshot;
  /** Loses everything since the snapshot, the revisions too. */
  restore(snapshot: Snapshot): void;
  /** How many listeners wait for hints. */
  readonly listeners: number;
}

/** This many messages while the clock stands still are a loop that never ends. */
const MOST_AT_ONCE = 20_000;

/** A {@link SimulatedServer} with nothing in it. */
export function createSimulatedServer(clock: Clock): SimulatedServer {
  let entries = new Map<string, StoredEntry>();
  let revision = 0;
  const listeners = new Set<{ readonly key: string; readonly onHint: () => void }>();
  let instant = -Infinity;
  let atOnce = 0;

  function current(key: string): StoredEntry | undefined {
    const entry = entries.get(key);
    return entry && entry.expiresAt > clock.now() ? entry : undefined;
  }

  function store(key: string, value: Uint8Array, expiresAt: number): number {
    entries.set(key, { value: value.slice(), revision: ++revision, expiresAt });
    return revision;
  }

  function guard(): void {
    if (clock.now() !== instant) {
      instant = clock.now();
      atOnce = 0;
    }
    if (++atOnce > MOST_AT_ONCE) throw new Error("a busy loop: thousands of messages while the clock stands still");
  }

  const kv: Kv = {
    get(key) {
      const entry = current(key);
      return Promise.resolve(entry ? { value: entry.value.slice(), revision: entry.revision } : null);
    },
    compareAndSet(key, value, expected, ttlMs = Infinity) {
      if ((current(key)?.revision ?? 0) !== expected) return Promise.resolve({ ok: false });
      return Promise.resolve({ ok: true, revision: store(key, value, clock.now() + ttlMs) });
    },
    delete(key) {
      entries.delete(key);
      return Promise.resolve();
    },
    async *keys(prefix = "") {
      for (const key of entries.keys()) if (key.startsWith(prefix) && current(key)) yield key;
    },
    wake(key, onHint) {
      const listener = { key, onHint };
      listeners.add(listener);
      return Promise.resolve({
        [Symbol.asyncDispose]() {
          listeners.delete(listener);
          return Promise.resolve();
        },
      });
    },
    announce(key) {
      for (const listener of listeners) if (listener.key === key) listener.onHint();
    },
  };

  return {
    connect({ latencyMs = 0 } = {}) {
      const link = createFaultyKv({ kv, clock, latencyMs });
      const { get, compareAndSet } = link;
      return Object.assign(link, {
        get(...call: Parameters<Kv["get"]>) {
          guard();
          return get(...call);
        },
        compareAndSet(...call: Parameters<Kv["compareAndSet"]>) {
          guard();
          return compareAndSet(...call);
        },
      });
    },
    text(key) {
      const entry = current(key);
      return entry && new TextDecoder().decode(entry.value);
    },
    put(key, value) {
      store(key, typeof value === "string" ? new TextEncoder().encode(value) : value, Infinity);
    },
    snapshot: () => ({ entries: new Map(entries), revision }),
    restore(snapshot) {
      entries = new Map(snapshot.entries);
      revision = snapshot.revision;
    },
    get listeners() {
      return listeners.size;
    },
  };
}
