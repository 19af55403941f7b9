import type { CircuitBreaker } from "./breaker.ts";
import { StoreUnavailableError } from "./errors.ts";
import { type CasResult, type KvEntry, loansOf } from "./kv.ts";
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
  /** The next number, or the first of `count`: for an operation or for permits. Never the same one twice. */
  next(count?: number): number;
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
  readonly breaker: CircuitBreaker;
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
  /**
   * Asks the store what stands there. `isUrgent`: also while its circuit breaker is open. Returns which of the writes that were
   * refused since the last one that was not stands there all the same: a store that is told twice, by whatever brought the
   * message there, carries out one and refuses the other.
   */
  read(isUrgent: boolean): Promise<State | undefined>;
  /** Others write: what is known must be read before it is written. */
  suspect(): void;
  /** Another process has written this, or something later: it is known now, and must be read before it is written. */
  learn(state: State): void;
  /** Writes what was derived from {@link Ledger.base}: `false` if somebody else had written in between. */
  write(state: State, isUrgent: boolean): Promise<boolean>;
  /**
   * Whether {@link Ledger.base} is what stands there, and may be replaced with {@link Ledger.put}, until anything else is
   * called: where the store is in the memory of this process and lends it. `now`: when the request came that wants it.
   */
  borrow(now: number): boolean;
  /** Replaces what was borrowed. */
  put(state: State): void;
  /** Returns what was borrowed. */
  settle(): void;
}

/** How much longer than it matters a value is kept. */
const RETENTION_MARGIN_MS = 1_000;

/** A {@link Ledger} that has not asked yet. */
export function createLedger(options: LedgerOptions): Ledger {
  const { key, storeId, store, rules, codec, identity, breaker, backendTimeoutMs, reserveAheadMs, onFinding } = options;
  const { kv, clock } = store;
  const limit = createTimeLimit(clock);
  const found = new Set<Finding["kind"]>();
  let known: State | undefined;
  let revision = 0;
  let needsRead = false; // A key that this process never touched most likely does not exist: no need to ask.
  let session = store.session;
  let refused: { readonly writer: Writer; readonly state: State }[] = [];
  let answeredAt = -Infinity;
  const loans = loansOf(kv);
  let isBorrowed = false;
  let isReplaced = false;
  let trips: readonly [before: number, last: number] = [Infinity, Infinity];

  function late(): StoreUnavailableError {
    const advice =
      "Check that the server is up and reachable, or allow it more time with backend_timeout (backendTimeoutMs).";
    return new StoreUnavailableError(`no answer within ${backendTimeoutMs} ms${because(store, advice)}`, {
      store: storeId,
    });
  }

  /** One call of the store, if its circuit breaker lets it through. */
  async function call<T>(send: () => Promise<T>, isUrgent: boolean, ms = backendTimeoutMs): Promise<T> {
    const entered = breaker.enter(isUrgent);
    try {
      const answer = await limit.bound(send(), ms, late);
      answeredAt = clock.now();
      breaker.succeeded();
      return answer;
    } catch (error) {
      breaker.failed(entered, error);
      throw error;
    }
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
  async function look(isUrgent: boolean): Promise<State> {
    const asked = store.session;
    const state = adopt(await call(() => kv.get(key), isUrgent));
    session = asked;
    return state;
  }

  function adopt(entry: KvEntry | null, now = clock.now()): State {
    needsRead = false;
    if (entry === null) {
      known = freshState(rules, now);
      revision = 0;
      return known;
    }
    const { fingerprint } = codec;
    const decoded = plausible(rules, codec.decode(entry.value), { now, reserveAheadMs, fingerprint });
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
      known = exhaustedState(rules, now);
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
  async function compareAndSet(
    value: Uint8Array,
    expected: number,
    ttlMs: number | undefined,
    isUrgent: boolean,
  ): Promise<CasResult> {
    const sent = clock.now();
    const result = await call(() => kv.compareAndSet(key, value, expected, ttlMs), isUrgent, backendTimeoutMs / 2);
    trips = [trips[1], answeredAt - sent];
    return result;
  }

  /** For how long the value matters; `undefined` if nobody here can say. */
  function ttlOf(state: State): number | undefined {
    if (state.foreign.length > 0) return undefined;
    return Math.max(0, idleFrom(rules, state) - clock.now()) + RETENTION_MARGIN_MS;
  }

  /** The store calls back what it lent. */
  function callBack(next: number): { readonly value: Uint8Array; readonly ttlMs: number | undefined } | undefined {
    isBorrowed = false;
    if (!isReplaced || !known) return undefined;
    isReplaced = false;
    revision = next;
    known = { ...known, writers: withWriter(known.writers, [identity.id, identity.next()]) };
    return { value: codec.encode(known), ttlMs: ttlOf(known) };
  }

  async function exchange(next: State, writer: Writer, isUrgent: boolean): Promise<boolean> {
    const value = codec.encode(next);
    const ttl = ttlOf(next);
    if (isOtherSession()) return false;
    const expected = revision;
    const sentIn = store.session;
    let result;
    try {
      result = await compareAndSet(value, expected, ttl, isUrgent);
    } catch (error) {
      if (isNotApplied(error)) throw error;
      try {
        // At most one write can follow a revision: if this one is accepted the first was not, and never will be.
        result = isOtherSession() ? { ok: false } as const : await compareAndSet(value, expected, ttl, isUrgent);
        if (!result.ok) return wasWritten(await look(isUrgent), writer);
      } catch (second) {
        // That nothing was applied this time says nothing about the first.
        throw isNotApplied(second) ? error : second;
      }
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
      return needsRead || isOtherSession() || store.isClockStale === true;
    },
    get tripMs() {
      const shorter = Math.min(...trips);
      return shorter < Infinity ? shorter : 0;
    },
    get answeredAt() {
      return answeredAt;
    },
    base: (now) => known ?? freshState(rules, now),
    async read(isUrgent) {
      const found = await look(isUrgent);
      const written = refused.find(({ writer }) => wasWritten(found, writer))?.state;
      if (written) refused = [];
      return written;
    },
    suspect() {
      needsRead = true;
    },
    learn(state) {
      known = state;
      needsRead = true;
      answeredAt = clock.now();
    },
    async write(state, isUrgent) {
      const writer: Writer = [identity.id, identity.next()];
      const earlier = refused;
      refused = []; // As long as nobody knows how this ends, and for ever if it fails.
      needsRead = true;
      const isWritten = await exchange({ ...state, writers: withWriter(state.writers, writer) }, writer, isUrgent);
      if (!isWritten) refused = [...earlier, { writer, state }];
      return isWritten;
    },
    borrow(now) {
      if (isBorrowed || !loans) return isBorrowed;
      const entry = loans.borrow(key, callBack);
      if (!known || (entry?.revision ?? 0) !== revision) adopt(entry, now);
      return isBorrowed = true;
    },
    put(state) {
      known = state;
      isReplaced = true;
    },
    settle: () => loans?.settle(key),
  };
}

/** Whether it is certain that a write that failed with this error was not carried out, and never will be. */
export function isNotApplied(error: unknown): boolean {
  return error instanceof StoreUnavailableError && error.outcome === "not_applied";
}

/** Goes on from what happened to the reason if the store knows it, and else to what may help. */
export function because({ problem }: Store, advice: string): string {
  return problem === undefined ? `. ${advice}` : `: ${problem}`;
}
