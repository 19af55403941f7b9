import type { Insight } from "../decision/batch.ts";
import {
  type Codec,
  freshState,
  idleFrom,
  isRecent,
  type Left,
  leftIn,
  leftOf,
  type State,
  wasWritten,
  withWriter,
  type Writer,
} from "../decision/state.ts";
import { describe, type Finding, readState } from "../decision/stored.ts";
import { StoreUnavailableError } from "../errors.ts";
import type { Demand, Rule } from "../rules/rule.ts";
import type { CircuitBreaker } from "./breaker.ts";
import { type CallBack, type CasResult, type KvEntry, type Loans, loansOf } from "./kv.ts";
import type { Store } from "./store.ts";
import type { Bounded, TimeLimit } from "./time_limit.ts";
import type { Trips } from "./trips.ts";

/** The identity of a writer, unique for each process and registry. */
export interface Identity {
  /** A short random name. */
  readonly id: string;
  /** The next number, or the first of `count`, for an operation or for permits. No number is returned twice. */
  next(count?: number): number;
}

/** What all ledgers of a limiter share. */
export interface LedgerContext {
  readonly storeId: string;
  readonly store: Store;
  readonly rules: readonly Rule[];
  readonly codec: Codec;
  readonly breaker: CircuitBreaker;
  /** Bounds the calls of all ledgers. */
  readonly limit: TimeLimit;
  /** How long their compare-and-sets take, so that a new key does not have to find that out by itself. */
  readonly trips: Trips;
  readonly backendTimeoutMs: number;
  /** How far into the future moments are granted, in milliseconds. */
  readonly reserveAheadMs: number;
  /** Called for what was found. */
  readonly onFinding: (finding: Finding) => void;
}

/** What a {@link Ledger} knows, for one that takes its place later. */
export interface Knowledge {
  readonly state: State;
  readonly revision: number;
  readonly session: number | undefined;
  /** When the store last answered. */
  readonly answeredAt: number;
}

/** What is to be written. */
export interface Change {
  readonly state: State;
  /** The last moment that it grants to anybody; `-Infinity` if it grants nothing. */
  readonly latest: number;
  /** Whether it takes something out from between other grants. */
  readonly mixes: boolean;
}

interface Write {
  readonly value: Uint8Array;
  readonly expected: number;
  readonly ttlMs: number | undefined;
  readonly isUrgent: boolean;
}

interface RefusedWrite {
  readonly writer: Writer;
  readonly expected: number;
  readonly state: State;
}

/** No store ever gets as far as this revision. */
const NO_REVISION = Number.MAX_SAFE_INTEGER;
/** How much longer a value is kept than it matters. */
const RETENTION_MARGIN_MS = 1_000;
const NOTHING_REFUSED: readonly RefusedWrite[] = [];
const LOST = { ok: false } as const;

/**
 * One key of the store: what is known to stand there, and the conversation about it, one call at a time. A class,
 * because there is one for every key.
 */
export class Ledger implements Bounded {
  /** The key in the store. */
  readonly key: string;
  readonly #context: LedgerContext;
  readonly #identity: Identity;
  readonly #loans: Loans | undefined;
  #known: State | undefined;
  /**
   * What the only rule keeps, if that is a number and was replaced since `#known` was made; otherwise `NaN`. In memory, a
   * state for each request would cost more than the decision.
   */
  #draft = NaN;
  #revision = 0;
  #needsWrite = false;
  #needsRead = false; // A key that this process never touched most likely does not exist: no need to ask.
  #session: number | undefined;
  #refused = NOTHING_REFUSED;
  #answeredAt = -Infinity;
  #wroteAt = -Infinity;
  /** All grants that count for a later moment than this were made here. */
  #soleSince = -Infinity;
  /** The last moment that was granted here. */
  #latest = -Infinity;
  #mixedUntil = -Infinity;
  #isBorrowed = false;
  /** Whether what was borrowed has changed. */
  #isReplaced = false;

  /** A ledger that has not asked yet. Its `knowledge`, if any, comes from another ledger of this process. */
  constructor(context: LedgerContext, identity: Identity, key: string, knowledge?: Knowledge) {
    this.#context = context;
    this.#identity = identity;
    this.key = key;
    this.#loans = loansOf(context.store.kv);
    if (!knowledge) return;
    this.#known = knowledge.state;
    this.#revision = knowledge.revision;
    this.#session = knowledge.session;
    this.#answeredAt = knowledge.answeredAt;
    this.#soleSince = Infinity;
  }

  /** What stood there when this process last wrote or read it. */
  get known(): State | undefined {
    if (this.#known && this.#isDrafted) {
      this.#known = { ...this.#known, parts: [this.#draft] };
      this.#draft = NaN;
    }
    return this.#known;
  }

  get #isDrafted(): boolean {
    return !Number.isNaN(this.#draft);
  }

  /** Whether something is known that has nothing of others in it, and the epoch of that may stay as it is. */
  isPlain(now: number): boolean {
    return this.#known !== undefined && this.#known.others.length === 0 && isRecent(this.#known, now);
  }

  /** What is left, as far as is known. */
  left(now: number): Left {
    const { rules } = this.#context;
    if (!this.#known || !this.#isDrafted) return leftIn(rules, this.base(now), now);
    const time = now - this.#known.epoch;
    return leftOf(rules[0]!.usage(this.#draft, time), time);
  }

  /** Whether this state is still what is known. What is lent may have been changed by whoever has it now. */
  knows(state: State): boolean {
    return state === this.known && (this.#isBorrowed || !this.#loans);
  }

  /** What a ledger that takes the place of this one may know; `undefined` if that one has to ask. */
  get knowledge(): Knowledge | undefined {
    const { known } = this;
    if (!known || this.needsRead) return undefined;
    return { state: known, revision: this.#revision, session: this.#session, answeredAt: this.#answeredAt };
  }

  /** Whether the store is in the memory of this process, and lends. */
  get lends(): boolean {
    return this.#loans !== undefined;
  }

  /** Whether {@link Ledger.read} must come before {@link Ledger.write}, as something else may stand there by now. */
  get needsRead(): boolean {
    return this.#needsRead || this.#isOtherSession() || this.#context.store.isClockStale === true;
  }

  /** How long a compare-and-set takes, as far as is known, in milliseconds. */
  get tripMs(): number {
    return this.#context.trips.ms;
  }

  /** When this process last wrote, as far as it knows; `-Infinity` if it never did. */
  get wroteAt(): number {
    return this.#wroteAt;
  }

  /** Whether something has to be written, because everybody who reads what stands there begins anew. */
  get needsWrite(): boolean {
    return this.#needsWrite;
  }

  /** When the store last answered; `-Infinity` if it never did. */
  get answeredAt(): number {
    return this.#answeredAt;
  }

  /** What is known about the grants in the known state. */
  get insight(): Insight {
    return { since: this.#soleSince, latest: this.#latest, mixedUntil: this.#mixedUntil };
  }

  /** What a new state is derived from: the known state, or at first use the hope that there is none. */
  base(now: number): State {
    return this.known ?? freshState(this.#context.rules, now);
  }

  /**
   * Asks the store what stands there; if `isUrgent`, also while its circuit breaker is open.
   *
   * A write that was refused may have been carried out all the same: a store that receives a message twice carries out
   * one and refuses the other. If one of the writes that were refused since the last success stands there, its state is
   * returned.
   */
  async read(isUrgent: boolean): Promise<State | undefined> {
    const found = await this.#look(isUrgent);
    const written = this.#refused.find(({ writer }) => wasWritten(found, writer))?.state;
    // A refused write can be carried out later only if the revision that it was to follow still stands there.
    this.#refused = this.#refused.filter(({ expected }) => expected === this.#revision);
    return written;
  }

  /**
   * Asks for a write that every store has to refuse, to find out whether this process may write.
   *
   * @throws {StoreUnavailableError} if it may not, or if the store has written all the same.
   */
  async probe(): Promise<void> {
    const { store: { clock }, codec, storeId } = this.#context;
    const state = this.base(clock.now());
    const write = { value: codec.encode(state), expected: NO_REVISION, ttlMs: this.#ttlOf(state), isUrgent: false };
    if (!(await this.#compareAndSet(write)).ok) return;
    const problem =
      "its compareAndSet() writes whatever revision is expected, so no limit would hold. Make it compare.";
    throw new StoreUnavailableError(problem, { store: storeId });
  }

  /** Whether this state, although it was refused, may stand there now or later. */
  mayStand(state: State): boolean {
    return this.#refused.some((refused) => refused.state === state);
  }

  /** Others write: the key must be read before it is written. */
  suspect(): void {
    this.#needsRead = true;
  }

  /**
   * Another process has written this state or a later one: it is known now, but the key must be read before it is
   * written.
   */
  learn(state: State): void {
    this.#known = state;
    this.#needsRead = true;
    this.#answeredAt = this.#context.store.clock.now();
  }

  /** Writes what was derived from {@link Ledger.base}. Returns `false` if somebody else had written in between. */
  async write(change: Change, isUrgent: boolean): Promise<boolean> {
    const { state } = change;
    const { store, codec, trips, backendTimeoutMs } = this.#context;
    const writer: Writer = [this.#identity.id, this.#identity.next()];
    const { epoch, parts, others } = state;
    const next: State = { epoch, parts, writers: withWriter(state.writers, writer), others };
    const earlier = this.#refused;
    this.#refused = NOTHING_REFUSED; // Until it is known how this ends; if it fails, that is never known.
    this.#needsRead = true;
    const write: Write = { value: codec.encode(next), expected: this.#revision, ttlMs: this.#ttlOf(next), isUrgent };
    const sentIn = store.session;
    const sentAt = store.clock.now();
    let result: CasResult = LOST;
    if (!this.#isOtherSession()) {
      try {
        result = await this.#compareAndSet(write);
      } catch (error) {
        if (isNotApplied(error)) throw error;
        const again = await this.#writeAgain(write, writer, sentAt, error);
        const now = store.clock.now();
        if (now - sentAt <= 2 * backendTimeoutMs) trips.tookInAll(now - sentAt, now);
        if (again === "written") return true;
        result = again;
      }
    }
    if (!result.ok) {
      this.#refused = [...earlier, { writer, expected: write.expected, state }];
      return false;
    }
    this.#known = next;
    this.#needsWrite = false;
    this.#count(change);
    this.#revision = result.revision;
    this.#session = sentIn;
    this.#needsRead = false;
    this.#wroteAt = this.#answeredAt;
    return true;
  }

  /**
   * Borrows the key, if the store is in the memory of this process and lends it. Returns whether {@link Ledger.base} is
   * now what stands there, and may be replaced with {@link Ledger.put} until anything else is called. `now` is when the
   * request that wants it came.
   */
  borrow(now: number): boolean {
    if (this.#isBorrowed || !this.#loans) return this.#isBorrowed;
    const entry = this.#loans.borrow(this.key, (next) => this.#giveBack(next));
    if (!this.#known || (entry?.revision ?? 0) !== this.#revision) {
      this.#adopt(entry, now);
      this.#isReplaced = this.#needsWrite;
    }
    return this.#isBorrowed = true;
  }

  /**
   * Takes what is wanted of what was borrowed, if there is so much. `rule` is the only rule, and {@link Ledger.isPlain}.
   */
  take(rule: Rule<number>, demand: Demand, now: number): boolean {
    const { epoch, parts } = this.#known!;
    const time = now - epoch;
    const part = this.#isDrafted ? this.#draft : parts[0] as number; // the rule's
    if (rule.earliest(part, time, demand) > time) return false;
    this.#draft = rule.take(part, time, time, demand);
    if (now > this.#latest) this.#latest = now;
    this.#isReplaced = true;
    return true;
  }

  /** Replaces what was borrowed. */
  put(change: Change): void {
    this.#known = change.state;
    this.#count(change);
    this.#isReplaced = true;
  }

  #count({ latest, mixes }: Change): void {
    if (mixes) this.#mixedUntil = this.#latest;
    if (latest > this.#latest) this.#latest = latest;
  }

  /** Returns what was borrowed. */
  settle(): void {
    this.#loans?.settle(this.key);
  }

  /** The store calls back what it lent. */
  #giveBack(next: number): ReturnType<CallBack> {
    this.#isBorrowed = false;
    const { known } = this;
    if (!this.#isReplaced || !known) return undefined;
    const { codec } = this.#context;
    this.#isReplaced = false;
    this.#needsWrite = false;
    this.#revision = next;
    this.#known = { ...known, writers: withWriter(known.writers, [this.#identity.id, this.#identity.next()]) };
    return { value: codec.encode(this.#known), ttlMs: this.#ttlOf(this.#known) };
  }

  /**
   * Whether the store may have begun to count its revisions anew since it was last asked, so that the known one says
   * nothing.
   */
  #isOtherSession(): boolean {
    return this.#revision > 0 && this.#session !== this.#context.store.session;
  }

  /** The error for a store that did not answer in time. */
  late(): StoreUnavailableError {
    const { backendTimeoutMs, store, storeId } = this.#context;
    const advice =
      "Check that the server is up and reachable, or allow it more time with backend_timeout (backendTimeoutMs).";
    return new StoreUnavailableError(`no answer within ${backendTimeoutMs} ms${because(store, advice)}`, {
      store: storeId,
    });
  }

  /** Reads what stands there, never a stale value, within `ms` milliseconds. */
  async #look(isUrgent: boolean, ms: number = this.#context.backendTimeoutMs): Promise<State> {
    const { breaker, limit, store } = this.#context;
    const asked = store.session;
    const entered = breaker.enter(isUrgent);
    let entry;
    try {
      entry = await limit.bound(store.kv.get(this.key), ms, this);
      this.#answeredAt = store.clock.now();
      breaker.succeeded();
    } catch (error) {
      breaker.failed(entered, error);
      throw error;
    }
    const state = this.#adopt(entry);
    this.#session = asked;
    return state;
  }

  #adopt(entry: KvEntry | null, now: number = this.#context.store.clock.now()): State {
    this.#needsRead = false;
    const revision = entry?.revision ?? 0;
    const isOther = revision !== this.#revision || this.#isOtherSession();
    const state = this.#stateOf(entry, now);
    if (isOther) this.#soleSince = this.#isOver(this.known, now) && this.#isOver(state, now) ? now : Infinity;
    this.#revision = revision;
    return this.#known = state;
  }

  /** Whether all that was granted in the state counts for a moment that has passed. */
  #isOver(state: State | undefined, now: number): boolean {
    return state === undefined || idleFrom(this.#context.rules, state) <= now;
  }

  #stateOf(entry: KvEntry | null, now: number): State {
    const { rules, codec, reserveAheadMs, storeId, onFinding } = this.#context;
    const reading = readState(rules, codec, entry?.value, now, reserveAheadMs);
    const { state, finding } = reading;
    if (!state) throw new StoreUnavailableError(describe(finding), { store: storeId, outcome: "not_applied" });
    if (finding) onFinding(finding);
    this.#needsWrite = reading.isToBeWritten;
    return state;
  }

  /** A compare-and-set for which the store may take half of its time: the other half is for asking again. */
  async #compareAndSet({ value, expected, ttlMs, isUrgent }: Write): Promise<CasResult> {
    const { breaker, limit, trips, store: { clock, kv }, backendTimeoutMs } = this.#context;
    const entered = breaker.enter(isUrgent);
    const sent = clock.now();
    try {
      const call = kv.compareAndSet(this.key, value, expected, ttlMs);
      const result = await limit.bound(call, backendTimeoutMs / 2, this);
      this.#answeredAt = clock.now();
      breaker.succeeded();
      const tookMs = this.#answeredAt - sent;
      // A call that took longer than it may says only that this process stood still.
      if (tookMs <= backendTimeoutMs / 2) trips.took(tookMs, this.#answeredAt);
      return result;
    } catch (error) {
      breaker.failed(entered, error);
      throw error;
    }
  }

  /**
   * Writes again what was sent at `sentAt`, because nobody knows whether it was written. All of it together takes no
   * longer than one answer may.
   */
  async #writeAgain(write: Write, writer: Writer, sentAt: number, error: unknown): Promise<CasResult | "written"> {
    const { store: { clock }, backendTimeoutMs } = this.#context;
    try {
      // At most one write can follow a revision: if this one is accepted, the first was not, and never will be.
      const result = this.#isOtherSession() ? LOST : await this.#compareAndSet(write);
      if (result.ok) return result;
      const state = await this.#look(write.isUrgent, Math.max(0, sentAt + backendTimeoutMs - clock.now()));
      return wasWritten(state, writer) ? "written" : result;
    } catch (second) {
      // That nothing was applied this time says nothing about the first time.
      throw isNotApplied(second) ? error : second;
    }
  }

  /** How long the value matters. */
  #ttlOf(state: State): number {
    const { rules, store: { clock } } = this.#context;
    return Math.max(0, idleFrom(rules, state) - clock.now()) + RETENTION_MARGIN_MS;
  }
}

/** Whether it is certain that a write that failed with this error was not carried out, and never will be. */
export function isNotApplied(error: unknown): boolean {
  return error instanceof StoreUnavailableError && error.outcome === "not_applied";
}

/** Continues a message about what happened: with the reason if the store knows it, and otherwise with what may help. */
export function because({ problem }: Store, advice: string): string {
  return problem === undefined ? `. ${advice}` : `: ${problem}`;
}
