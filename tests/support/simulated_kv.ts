import type { Clock } from "../../src/core/clock.ts";
import { StoreUnavailableError } from "../../src/core/errors.ts";
import type { CasResult, Kv, KvEntry } from "../../src/core/kv.ts";

/** What can go wrong with one message. */
export type Fault =
  /** It never arrives. */
  | { readonly kind: "request lost" }
  /** It is carried out, and the answer never arrives. */
  | { readonly kind: "answer lost" }
  /** It is carried out only after this long. */
  | { readonly kind: "request late"; readonly byMs: number }
  /** It is carried out at once, and the answer takes this long. */
  | { readonly kind: "answer late"; readonly byMs: number }
  /** The client gets an error of which nobody knows what it means. */
  | { readonly kind: "error"; readonly applied: boolean }
  /** The server refuses it, and says so. */
  | { readonly kind: "refused" }
  /** Somebody else writes the same key a moment earlier. */
  | { readonly kind: "conflict" };

/** One message of a process to the server. */
export interface Message {
  readonly kind: "get" | "compareAndSet";
  readonly key: string;
}

/** The connection of one process, with its own delays and faults. */
export interface SimulatedLink extends Kv {
  /** How long a message and its answer take together, in milliseconds; 0 takes no time at all. */
  latencyMs: number;
  /** Called for every message; what it returns happens to that one. */
  faults: (message: Message) => Fault | undefined;
  /** Whether everything is lost on the way. */
  down: boolean;
  /** How many messages were sent. */
  readonly sent: { readonly get: number; readonly compareAndSet: number; readonly total: number };
}

/** What stood on the server at some moment. */
export type Snapshot = { readonly entries: ReadonlyMap<string, StoredEntry>; readonly revision: number };

interface StoredEntry extends KvEntry {
  readonly expiresAt: number;
}

/** A key-value store that several processes share, on an injected clock. */
export interface SimulatedServer {
  /** The connection of one more process. */
  connect(options?: { readonly latencyMs?: number }): SimulatedLink;
  /** The value under `key` as text, or `undefined` if there is none. */
  text(key: string): string | undefined;
  /** Writes past all processes. */
  put(key: string, value: string | Uint8Array): void;
  /** What stands there now. */
  snapshot(): Snapshot;
  /** Loses everything since the snapshot, the revisions too. */
  restore(snapshot: Snapshot): void;
  /** How many listeners wait for hints. */
  readonly listeners: number;
}

/** So many messages while the clock stands still are a loop that never ends. */
const MOST_AT_ONCE = 20_000;

/** A {@link SimulatedServer} with nothing in it. */
export function createSimulatedServer(clock: Clock): SimulatedServer {
  let entries = new Map<string, StoredEntry>();
  let revision = 0;
  const listeners = new Set<{ readonly key: string; readonly onHint: () => void; readonly link: SimulatedLink }>();
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

  function pause(ms: number): Promise<void> {
    return ms > 0 ? clock.sleep(ms) : Promise.resolve();
  }

  function connect({ latencyMs = 0 } = {}): SimulatedLink {
    const counts = { get: 0, compareAndSet: 0 };
    async function send<T>(message: Message, apply: () => T): Promise<T> {
      guard();
      counts[message.kind]++;
      const fault: Fault | undefined = link.down ? { kind: "request lost" } : link.faults(message);
      const latency = link.latencyMs;
      await pause(latency / 2);
      if (fault?.kind === "request lost") return await new Promise<never>(() => {});
      if (fault?.kind === "refused") {
        await pause(latency / 2);
        throw new StoreUnavailableError("refused by the simulation.", { store: "simulated", outcome: "not_applied" });
      }
      if (fault?.kind === "request late") await pause(fault.byMs);
      if (fault?.kind === "conflict") {
        const entry = current(message.key);
        if (entry) store(message.key, entry.value, entry.expiresAt);
      }
      const answer = fault?.kind === "error" && !fault.applied ? undefined : apply();
      if (fault?.kind === "answer lost") return await new Promise<never>(() => {});
      if (fault?.kind === "answer late") await pause(fault.byMs);
      await pause(latency / 2);
      if (answer === undefined || fault?.kind === "error") throw new Error("the simulation failed");
      return answer;
    }
    const link: SimulatedLink = {
      latencyMs,
      faults: () => undefined,
      down: false,
      get sent() {
        return { ...counts, total: counts.get + counts.compareAndSet };
      },
      get(key) {
        return send({ kind: "get", key }, () => {
          const entry = current(key);
          return entry ? { value: entry.value.slice(), revision: entry.revision } : null;
        });
      },
      compareAndSet(key, value, expected, ttlMs = Infinity) {
        const copy = value.slice();
        return send<CasResult>({ kind: "compareAndSet", key }, () => {
          if ((current(key)?.revision ?? 0) !== expected) return { ok: false };
          return { ok: true, revision: store(key, copy, clock.now() + ttlMs) };
        });
      },
      delete(key) {
        entries.delete(key);
        return Promise.resolve();
      },
      async *keys(prefix = "") {
        for (const key of entries.keys()) if (key.startsWith(prefix) && current(key)) yield key;
      },
      wake(key, onHint) {
        const listener = { key, onHint, link };
        listeners.add(listener);
        return Promise.resolve({
          [Symbol.asyncDispose]() {
            listeners.delete(listener);
            return Promise.resolve();
          },
        });
      },
      announce(key) {
        if (link.down) return;
        for (const listener of listeners) {
          if (listener.key !== key) continue;
          void pause((link.latencyMs + listener.link.latencyMs) / 2).then(() => {
            if (listeners.has(listener) && !listener.link.down) listener.onHint();
          });
        }
      },
    };
    return link;
  }

  return {
    connect,
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
