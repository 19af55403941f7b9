import { StoreUnavailableError } from "./errors.ts";
import type { CasResult, KvEntry } from "./kv.ts";
import type { Rule } from "./rules/rule.ts";
import {
  type Codec,
  exhaustedState,
  freshState,
  idleFrom,
  plausible,
  type State,
  STATE_VERSION,
  wasWritten,
  withWriter,
  type Writer,
} from "./state.ts";
import type { Store } from "./store.ts";
import { createTimeLimit } from "./time_limit.ts";

/** Who writes. Unique for each process and registry. */
export interface Identity {
  /** A short random name. */
  readonly id: string;
  /** The next number: for an operation or a permit. Never the same one twice. */
  next(): number;
}

/** What a ledger found in the store that somebody should know. */
export type Finding =
  | { readonly kind: "other rules"; readonly theirs: string; readonly ours: string }
  | { readonly kind: "damaged"; readonly problem: string };

/** What a {@link Ledger} needs. */
export interface LedgerOptions {
  readonly key: string;
  readonly storeId: string;
  readonly store: Store;
  readonly rules: readonly Rule[];
  readonly codec: Codec;
  readonly identity: Identity;
  readonly backendTimeoutMs: number;
  /** How far into the future moments are granted, in milliseconds. */
  readonly reserveAheadMs: number;
  /** Called for what was found, each kind once. */
  readonly onFinding: (finding: Finding) => void;
}

/** One key of the store: what is known to stand there, and the conversation about it. One call at a time. */
export interface Ledger {
  /** The key in the store. */
  readonly key: string;
  /** What stood there when this process last wrote or read it. */
  readonly known: State | undefined;
  /** Whether {@link Ledger.read} must come before {@link Ledger.write}, as something else may stand there by now. */
  readonly needsRead: boolean;
  /** What a new state is derived from: the known one, or at the first use the hope that there is none. */
  base(now: number): State;
  /** When the store answered last; `-Infinity` if it never did. */
  readonly answeredAt: number;
  /** How long a compare-and-set takes: the shorter of the last two that were answered, in milliseconds. */
  readonly tripMs: number;
  /** Asks the store what stands there. */
  read(): Promise<void>;
  /** Writes what was derived from {@link Ledger.base}: `false` if somebody else had written in between. */
  write(state: State): Promise<boolean>;
}

/** How much longer than it matters a value is kept. */
const RETENTION_MARGIN_MS = 1_000;

/** A {@link Ledger} that has not asked yet. */
export function createLedger(options: LedgerOptions): Ledger {
  const { key, storeId, store, rules, codec, identity, backendTimeoutMs, reserveAheadMs, onFinding } = options;
  const { kv, clock } = store;
  const limit = createTimeLimit(clock);
  const found = new Set<Finding["kind"]>();
  let known: State | undefined;
  let revision = 0;
  let needsRead = false; // A key that this process never touched most likely does not exist: no need to ask.
  let session = store.session;
  let answeredAt = -Infinity;
  let trips: readonly [before: number, last: number] = [Infinity, Infinity];

  function late(): StoreUnavailableError {
    return new StoreUnavailableError(
      `no answer within ${backendTimeoutMs} ms. Check that the server is up and reachable, or allow it more time with ` +
        `backend_timeout (backendTimeoutMs).`,
      { store: storeId },
    );
  }

  async function bounded<T>(call: Promise<T>, ms = backendTimeoutMs): Promise<T> {
    const answer = await limit.bound(call, ms, late);
    answeredAt = clock.now();
    return answer;
  }

  function report(finding: Finding): void {
    if (found.has(finding.kind)) return;
    found.add(finding.kind);
    onFinding(finding);
  }

  /** Whether the store may count its revisions anew since it was asked last: then none that is known says anything. */
  function isOtherSession(): boolean {
    return revision > 0 && session !== store.session;
  }

  /** What stands there, as the leader says. */
  async function look(): Promise<State> {
    const asked = store.session;
    const state = adopt(await bounded(kv.get(key)));
    session = asked;
    return state;
  }

  function adopt(entry: KvEntry | null): State {
    needsRead = false;
    if (entry === null) {
      known = freshState(rules, clock.now());
      revision = 0;
      return known;
    }
    const { fingerprint } = codec;
    const decoded = plausible(rules, codec.decode(entry.value), { now: clock.now(), reserveAheadMs, fingerprint });
    if (decoded.kind === "newer") {
      throw new StoreUnavailableError(
        `a stored value has version ${decoded.version}, and this process understands versions up to ` +
          `${STATE_VERSION}. It is left as it is. Upgrade @ratesync/core in this process.`,
        { store: storeId, outcome: "not_applied" },
      );
    }
    revision = entry.revision;
    if (decoded.kind === "damaged") {
      // Nobody knows what was used, so everything was: the limit recovers by itself and is never exceeded.
      known = exhaustedState(rules, clock.now());
      report(decoded);
      return known;
    }
    known = decoded.state;
    if (decoded.fingerprint !== codec.fingerprint) {
      report({ kind: "other rules", theirs: decoded.fingerprint, ours: codec.fingerprint });
    }
    return known;
  }

  /** A compare-and-set for which the store may take half of its time: the other half is for asking again. */
  async function compareAndSet(value: Uint8Array, expected: number, ttlMs: number | undefined): Promise<CasResult> {
    const sent = clock.now();
    const result = await bounded(kv.compareAndSet(key, value, expected, ttlMs), backendTimeoutMs / 2);
    trips = [trips[1], answeredAt - sent];
    return result;
  }

  async function exchange(next: State, writer: Writer): Promise<boolean> {
    const value = codec.encode(next);
    const ttl = next.foreign.length > 0
      ? undefined
      : Math.max(0, idleFrom(rules, next) - clock.now()) + RETENTION_MARGIN_MS;
    if (isOtherSession()) return false;
    const expected = revision;
    const sentIn = store.session;
    let result;
    try {
      result = await compareAndSet(value, expected, ttl);
    } catch (error) {
      if (error instanceof StoreUnavailableError && error.outcome === "not_applied") throw error;
      // At most one write can follow a revision: if this one is accepted the first was not, and never will be.
      result = isOtherSession() ? { ok: false } as const : await compareAndSet(value, expected, ttl);
      if (!result.ok) return wasWritten(await look(), writer);
    }
    if (!result.ok) return false;
    known = next;
    revision = result.revision;
    session = sentIn;
    needsRead = false;
    return true;
  }

  return {
    key,
    get known() {
      return known;
    },
    get needsRead() {
      return needsRead || isOtherSession();
    },
    get tripMs() {
      const shorter = Math.min(...trips);
      return shorter < Infinity ? shorter : 0;
    },
    get answeredAt() {
      return answeredAt;
    },
    base: (now) => known ?? freshState(rules, now),
    async read() {
      await look();
    },
    async write(state) {
      const writer: Writer = [identity.id, identity.next()];
      needsRead = true; // Until it is known how this ends.
      return await exchange({ ...state, writers: withWriter(state.writers, writer) }, writer);
    },
  };
}
