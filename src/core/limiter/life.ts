import { Cell, type CellOwner } from "../cell/cell.ts";
import type { CellContext } from "../cell/cell_context.ts";
import type { Meter } from "../cell/metrics.ts";
import type { Clock } from "../clock.ts";
import type { Grant } from "../decision/batch.ts";
import { StoreUnavailableError } from "../errors.ts";
import { storeKey } from "../store/key.ts";
import { loansOf } from "../store/kv.ts";
import { because, type Knowledge } from "../store/ledger.ts";
import { checkRetention } from "../store/retention.ts";
import { SHARED_TIME_ENDED } from "../store/silence.ts";
import { opensNothing } from "../store/store.ts";
import type { Refused } from "../waiting/outcome.ts";
import type { RefusedResult } from "./answers.ts";
import { createLease, type Lease, type LosableLease, NO_LEASE } from "./lease.ts";
import type { LimiterContext } from "./limiter.ts";
import { closedError, type Shared } from "./shared.ts";
import { type SharedPatience, TOGETHER } from "./together.ts";

/** What a {@link Life} needs from its owner. */
export interface LifeOwner {
  /** Its present life. */
  readonly life: Life;
  /** The limiter's id, with its key. */
  readonly id: string;
  /** The key, for a keyed limiter. */
  readonly name: string | undefined;
  /** It may not be in use any more. */
  rested(): void;
}

/** What is left of the limiter of a key that is not kept as it is. */
export interface Past {
  readonly meter: Meter;
  /** What its cell knew, if that may still be true. */
  readonly knowledge: Knowledge | undefined;
}

/** The least time that limiters asked after a silent store have for their answer: their stores may well be up. */
const LEFT_FOR_OTHERS_MS = 40;
/** How many answers of a store that is farther away there is time for. */
const TRIPS_FOR_OTHERS = 2;
/** How many turns of the microtask queue opening may take before a timer is started for it. */
const FREE_TURNS = 8;

/** For how long a caller waits for the store. */
export interface Patience {
  readonly ms: number;
  /** Whether it has no more because calls to other limiters have used up the rest. */
  readonly isShared?: boolean;
}

/** The patience of a caller that has `ownMs` milliseconds, and `sharedMs` together with calls to other limiters. */
export function shorterOf(ownMs: number, sharedMs: number): Patience {
  return { ms: Math.max(0, Math.min(ownMs, sharedMs)), isShared: sharedMs < ownMs };
}

/** What belongs to the limiter of one key until it begins anew: its cell, and what was granted there. */
export class Life implements CellOwner {
  readonly shared: Shared;
  readonly owner: LifeOwner;
  readonly context: LimiterContext;
  /** The clock that the store goes by. */
  readonly clock: Clock;
  readonly meter: Meter;
  /** Whether the store has been opened for this limiter, now or in an earlier life. */
  opened = false;
  /** The last refusal and its result, which may be the next one too. */
  refused: { readonly outcome: Refused; readonly result: RefusedResult } | undefined;
  /** What the cells share on the store that it began with. */
  readonly #cells: CellContext;
  /** The store is not asked before this has settled. */
  #begins: Promise<unknown> | undefined;
  /** What the cell of an earlier life knew, if that life was only forgotten to save space. */
  readonly #knowledge: Knowledge | undefined;
  #opening: Promise<Cell> | undefined;
  #cell: Cell | undefined;
  #leases: Map<number, LosableLease> | undefined;
  /** How many permits are held from the limiter that counts in place of a store that failed. */
  #heldInPlace = 0;
  #ended: string | undefined;

  /** A life in which nothing has happened yet, unless its past is that of an earlier one. */
  constructor(shared: Shared, owner: LifeOwner, { meter, knowledge }: Past, begins?: Promise<unknown>) {
    this.context = shared.context;
    this.clock = shared.context.store.clock;
    this.#cells = shared.cells;
    this.meter = meter;
    this.shared = shared;
    this.owner = owner;
    this.#begins = begins;
    void begins?.then(() => this.#begins = undefined);
    this.#knowledge = knowledge;
  }

  /** Settles when the next life may begin, which waits for `erased` too. */
  beginsAfter(erased: Promise<void>): Promise<unknown> {
    return this.#begins ? Promise.all([this.#begins, erased]) : erased;
  }

  /** The cell, once the store is open. */
  get cell(): Cell | undefined {
    return this.#cell;
  }

  /** The cell, unless getting at it takes time. It is made if there is none. */
  cellNow(): Cell | undefined {
    return this.#usableCell ?? this.#openNow();
  }

  /** The cell, unless the store has to be opened first, or its clock has to be compared with the server's. */
  get #usableCell(): Cell | undefined {
    return this.context.store.isClockStale === true ? undefined : this.#cell;
  }

  /** The cell, if there is one or will be. */
  async lastCell(): Promise<Cell | undefined> {
    return this.#cell ?? await this.#opening?.catch(() => undefined);
  }

  /** Whether nobody waits and nothing is held. */
  get idle(): boolean {
    if (this.#heldInPlace > 0) return false;
    return this.#cell === undefined ? this.#opening === undefined : this.#cell.idle;
  }

  /**
   * What is left of it once it is forgotten, for one that takes its place; `undefined` if it is needed itself. Only to
   * be used while it is idle.
   */
  get past(): Past | undefined {
    if (this.#begins || this.#cell?.lends) return undefined;
    return { meter: this.meter, knowledge: this.#cell?.knowledge };
  }

  /** The key in the store. */
  get place(): ReturnType<typeof storeKey> {
    const { store: { kv }, digest } = this.context;
    // A store in memory takes keys of any length, and must not have to wait for a hash.
    return storeKey(this.shared.config.id, this.owner.name, loansOf(kv) ? undefined : digest);
  }

  /** The cell, once the store is open. Waits only for as long as the caller and the store may take. */
  async open(patience: Patience, signal: AbortSignal | undefined): Promise<Cell> {
    const refusal = this.context.breaker.refusal();
    if (refusal) throw refusal;
    // Concurrent first uses open it once.
    const opening = this.#opening ??= this.#openSlowly().finally(() => this.#opening = undefined);
    opening.catch(() => {}); // Callers that no longer wait for it have heard of something else.
    // A store that is already open for another key must not cost every new key a timer.
    for (let turn = 0; turn < FREE_TURNS && !this.#usableCell; turn++) await undefined;
    return this.#usableCell ?? await this.inTime(opening, "it could not be opened", patience, signal);
  }

  async #openSlowly(): Promise<Cell> {
    const { breaker, store } = this.context;
    await this.#begins;
    await breaker.open(store);
    if (this.#cell) return this.#cell;
    const { place } = this;
    const cell = this.#createCell(typeof place === "string" ? place : await place());
    if (!this.shared.isClosed) return cell;
    await cell.close();
    throw closedError(this.owner.id);
  }

  /** Like {@link Life.open}, if that takes no time. */
  #openNow(): Cell | undefined {
    const { store, breaker } = this.context;
    if (this.#cell || this.#begins || this.#opening || breaker.state !== "closed") return undefined;
    if (store.open !== opensNothing && (store.isOpen !== true || store.isClockStale === true)) return undefined;
    const { place } = this;
    return typeof place === "string" ? this.#createCell(place) : undefined;
  }

  #createCell(place: string): Cell {
    const shared = this.shared;
    const { config, rules, codec } = shared;
    const { store, logger } = this.context;
    checkRetention(config, rules, store);
    if (!shared.isOpened) {
      logger.info(`Limiter '${config.id}': open on store '${config.storeId}' (${codec.fingerprint}).`);
    }
    shared.isOpened = this.opened = true;
    return this.#cell = new Cell(this.#cells, this, place, this.#knowledge);
  }

  /** Waits for the store, but no longer than the caller can. */
  async inTime<T>(call: Promise<T>, what: string, patience: Patience, signal?: AbortSignal): Promise<T> {
    const { localClock } = this.context;
    const done = new AbortController();
    const late = localClock.sleep(patience.ms, signal ? AbortSignal.any([done.signal, signal]) : done.signal).then(
      () => {
        throw this.tooLate(what, patience);
      },
    );
    try {
      return await Promise.race([call, late]);
    } finally {
      done.abort("done");
      late.catch(() => {}); // Nobody waits for it any more.
    }
  }

  /** The error for a caller that cannot wait for the store any longer. `what` says what the store did not do. */
  tooLate(what: string, { ms, isShared = false }: Patience): StoreUnavailableError {
    const end = isShared ? `before ${SHARED_TIME_ENDED}` : `within ${Math.round(ms)} ms`;
    const advice = because(this.context.store, "Check that the server is up and reachable.");
    return new StoreUnavailableError(`${what} ${end}${advice}`, {
      store: this.shared.config.storeId,
      outcome: "not_applied",
    });
  }

  /** When the call has to hear at the latest that its store is silent, if that is before the store's own time limit. */
  answerBy({ [TOGETHER]: together }: SharedPatience): number {
    if (!together) return Infinity;
    const { shared: { config, cells }, context: { localClock, store } } = this;
    const now = localClock.now();
    together.since ??= now;
    const { timeoutMs, since, silentMs, silent } = together;
    const ms = timeoutMs > 0 ? Math.min(timeoutMs, config.backendTimeoutMs) : config.backendTimeoutMs;
    const budgetEnds = now + Math.max(0, ms - silentMs);
    const end = timeoutMs > 0 ? Math.min(budgetEnds, Math.max(now, since + timeoutMs)) : budgetEnds;
    return silent.has(store) ? end : end + Math.max(LEFT_FOR_OTHERS_MS, TRIPS_FOR_OTHERS * cells.trips.ms);
  }

  /** The store failed a call, after so many milliseconds of silence: what comes after it has less time for that. */
  wasSilent({ [TOGETHER]: together }: SharedPatience, ms: number): void {
    if (!together) return;
    together.silentMs += ms;
    together.silent.add(this.context.store);
  }

  /** The lease on this grant, which its caller holds from now on. */
  lease(grant: Grant): Lease {
    const { maxConcurrent, leaseMs } = this.shared.config;
    if (maxConcurrent === null) return NO_LEASE;
    const { permit } = grant.demand;
    const cell = this.#cell!; // it has granted this
    this.meter.permit("taken");
    const lease = createLease(this.owner.id, leaseMs, {
      check: () => cell.checkLease(),
      release: () => {
        this.#leases?.delete(permit);
        this.meter.permit("released");
        return cell.giveBack(grant, false);
      },
      lost: () => this.meter.permit("lost"),
    });
    this.#leases ??= new Map();
    this.#leases.set(permit, lease);
    if (this.#ended !== undefined) lease.lose(this.#ended);
    // A short lease may have run out while the grant was on its way here, when there was nobody to be told.
    else if (!cell.holds(permit)) this.lost(permit);
    return lease;
  }

  /**
   * A lease on what is held from the limiter that counts in place of a store that failed, if there is anything to hold.
   * It is counted here, because nobody looks at what that limiter counts.
   */
  leaseInPlace(held: Lease): LosableLease | undefined {
    if (this.shared.config.maxConcurrent === null) return undefined;
    const { meter } = this;
    let isOver = false;
    const end = (how: "lost" | "released") => {
      if (isOver) return;
      isOver = true;
      meter.permit(how);
      this.#heldInPlace--;
      this.owner.rested();
    };
    meter.permit("taken");
    this.#heldInPlace++;
    const lose = () => end("lost");
    if (held.lost) lose();
    else held.signal.addEventListener("abort", lose, { once: true });
    return {
      get lost() {
        return held.lost;
      },
      get signal() {
        return held.signal;
      },
      release() {
        end("released");
        return held.release();
      },
      lose,
    };
  }

  /** Takes back a grant that nobody used. Resolves when that is written. */
  cancel(grant: Grant): Promise<void> {
    if (this.#leases?.delete(grant.demand.permit)) this.meter.permit("lost");
    return this.#cell!.giveBack(grant, true); // it was granted by the cell
  }

  /** A permit is lost: its lease ran out before it was renewed. */
  lost(permit: number): void {
    this.#leases?.get(permit)?.lose();
    this.#leases?.delete(permit);
  }

  /** Nothing is being written any more. */
  rested(): void {
    this.owner.rested();
  }

  /** Everything that is held is lost. `why` says how, in a sentence. */
  end(why: string): void {
    this.#ended = why;
    for (const lease of this.#leases?.values() ?? []) lease.lose(why);
    this.#leases?.clear();
  }
}
