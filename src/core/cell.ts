import { type Alarm, createAlarm } from "./alarm.ts";
import { type Batch, type Grant, reachOf, refusalOf, type Undo } from "./batch.ts";
import { earliestStart, earliestStartBehind, obstacle, type Parts, takeAll } from "./decide.ts";
import type { Counter, Desk } from "./desk.ts";
import type { Gate, Visitor } from "./gate.ts";
import { type ForeignWork, type HandOver, MOST_REQUESTS } from "./hand_over.ts";
import { Hints } from "./hints.ts";
import { createHoldings, type Holdings } from "./holdings.ts";
import { type Identity, isNotApplied, type Knowledge, Ledger, type LedgerContext } from "./ledger.ts";
import type { Lateness } from "./lateness.ts";
import { Line } from "./line.ts";
import type { Meter } from "./metrics.ts";
import type { Caller, Outcome } from "./outcome.ts";
import { leadOf, missOf, pauseAfter, stepOf, whenToLook, whenToReserve } from "./pacing.ts";
import { type Plan, planFor, planOf, type ResumeAt } from "./plan.ts";
import { createPrefetch, type Prefetch, withStock } from "./prefetch.ts";
import { Room } from "./room.ts";
import type { Demand } from "./rules/rule.ts";
import { createSchedule, type Schedule } from "./schedule.ts";
import { silence, tooBusy, tooManyRaces } from "./silence.ts";
import { freshState, type State, withRecentEpoch } from "./state.ts";
import { canWaitForAnswer, createTurns, type Turns } from "./turns.ts";
import { Waiter } from "./waiter.ts";
import type { Work } from "./work.ts";

/** What all cells of a limiter share. */
export interface CellContext extends LedgerContext {
  /** Who writes, in the cells of a limiter without permits. */
  readonly identity: Identity;
  /** A name of its own, for a cell with permits: what its owner says that it holds is all that it holds. */
  readonly nextIdentity: () => Identity;
  readonly handOver: HandOver;
  /** Bounds how many keys are written at once. */
  readonly gate: Gate;
  /** Where other processes hand their work over. */
  readonly desk: Desk | undefined;
  /** A number from 0 to 1, for pauses that shall not be the same everywhere. */
  readonly random: () => number;
  /** Which of the rules limits concurrency; -1: none does. */
  readonly concurrency: number;
  /** By how much a start may be late, in milliseconds. */
  readonly toleranceMs: number;
  /** How late timers are here. */
  readonly lateness: Lateness;
  /** Whether one of the rules limits a rate. */
  readonly limitsRate: boolean;
  /** How many slots may be taken before anybody asks for them. */
  readonly prefetch: number;
  readonly leaseMs: number;
  readonly timingMarginMs: number;
  /** By how much the clocks of two processes may disagree, in milliseconds. */
  readonly clockErrorMs: number;
  readonly retryIntervalMs: number;
  readonly maxRetries: number;
}

/** Whose cell it is. */
export interface CellOwner {
  readonly meter: Meter;
  /** A permit is lost: its lease ran out before it was renewed. */
  lost(permit: number): void;
  /** Nothing is being written any more. */
  rested(): void;
}

interface PendingUndo extends Undo {
  readonly resolve: () => void;
}

interface Peek {
  resolve(state: State): void;
  reject(error: unknown): void;
}

/** How many turns of the microtask queue without a new request end the wait for those who were just served. */
const QUIET_TURNS = 8;
const MOST_TURNS = 1_000;
/**
 * Others hear that somebody waits here for a permit when they have taken one since, or after this long: most waits are
 * over by then.
 */
const MARK_AFTER_MS = 500;
/** Who waits for less gets this long: a store that is only slower than the caller is no failure. */
const GRACE_MS = 40;
/** So many missed slots count at the most. */
const MOST_MISSED = 3;
/** Who has lost races for this long tries again without pauses, and so meets the room that others make. */
const STARVED_MS = 500;
/** No timer is shorter. */
const LEAST_TIMER_MS = 1;
/** How long to wait after a failure before the store is told again which permits are held. */
const TELL_AGAIN_MS = 500;

/**
 * One key: its queue of requests, and the loop that decides them. Everything that is waiting goes into one
 * compare-and-set, in order, each request with an outcome of its own.
 */
export class Cell implements Counter, Visitor {
  readonly #context: CellContext;
  readonly #owner: CellOwner;
  readonly #identity: Identity;
  readonly #ledger: Ledger;
  /** For what somebody waits for. */
  #alarm: Alarm | undefined;
  /** For the leases of the permits that are held, which end with the program anyway. */
  #leaseAlarm: Alarm | undefined;
  /** Of those who wait, once somebody has. */
  #queue: Line | undefined;
  /** Granted for a moment that is still to come, in order of the moments. */
  #schedule: Schedule<Caller, Grant> | undefined;
  /** Granted before anybody asked for it. */
  readonly #prefetch: Prefetch | undefined;
  #undo: PendingUndo[] = [];
  #peeks: Peek[] = [];
  /** The permits that this process holds and renews, where concurrency is limited. */
  readonly #holdings: Holdings | undefined;
  /** Why nothing can be requested any more. */
  #ended: "closed" | "abandoned" | undefined;
  /** Once a race was lost, or others have handed their work over. */
  #turns: Turns | undefined;
  #room: Room | undefined;
  #driving = false;
  /** When it came to the gate last. */
  #waitsSince = -Infinity;
  /** Whether the gate has let it in. */
  #inside = false;
  /** Settles when nothing is being written any more, if somebody waits for that. */
  #atRest: PromiseWithResolvers<void> | undefined;
  /** Whether nobody else can have written since this process last did, as that was just now. */
  #fresh = false;
  #resumeAt = -Infinity;
  #served = false;
  /** How often slots were missed since the last one that was not. */
  #missed = 0;
  /** Whether a hint has come since the store was last asked: then there is no pause before it is asked again. */
  #nudged = false;
  /** Whether what is being written grants something. */
  #granting = false;
  #hints: Hints | undefined;

  /** The cell of what the store calls `key`. `knowledge`: of the cell that it takes the place of. */
  constructor(context: CellContext, owner: CellOwner, key: string, knowledge?: Knowledge) {
    const { rules, concurrency: index, leaseMs, clockErrorMs, timingMarginMs } = context;
    this.#context = context;
    this.#owner = owner;
    this.#identity = index < 0 ? context.identity : context.nextIdentity();
    this.#ledger = new Ledger(context, this.#identity, key, knowledge);
    if (context.prefetch > 0) this.#prefetch = createPrefetch(rules, context.prefetch, context.reserveAheadMs);
    if (index < 0) return;
    this.#holdings = createHoldings({
      index,
      owner: this.#identity.id,
      leaseMs,
      // Another clock may be ahead, and the timer that says that the lease is over may be late.
      marginMs: Math.min(clockErrorMs, leaseMs / 2) + Math.min(timingMarginMs, leaseMs / 10),
      onLost: (permit) => owner.lost(permit),
    });
  }

  get #line(): Line {
    return this.#queue ??= new Line();
  }

  /** Whether nobody waits here and nothing is held: then it may be forgotten. */
  get idle(): boolean {
    return !this.#driving && !this.#queue?.length && !this.#schedule?.size && this.#undo.length === 0 &&
      (this.#holdings?.renewAt ?? Infinity) === Infinity;
  }

  /** Whether the store lends what this cell is about, so that there is nothing to gain by forgetting it. */
  get lends(): boolean {
    return this.#ledger.lends;
  }

  /** What it knows, for a cell that takes its place. To be asked for when it is idle. */
  get knowledge(): Knowledge | undefined {
    return this.#ledger.knowledge;
  }

  /** Nobody is to come here before the next write: for one that is about to be forgotten. */
  rest(): void {
    this.#context.desk?.shut(this.#identity.id, this.#ledger.key, this);
    this.#turns?.dismiss();
    this.#ledger.settle();
  }

  /**
   * Decides the request, which {@link Cell.answerNow} has just left undecided, and if it is granted waits for its moment;
   * then `settle` hears how it ended. `deadline` is the latest moment to start at; one that is not after `now` means that
   * the caller does not want to wait. `answerBy` is when it hears at the latest that the store is silent, if that shall be
   * before the store's own time limit. Once `signal` is aborted it is forgotten, and `settle` hears nothing.
   */
  request(
    cost: number,
    now: number,
    deadline: number,
    settle: (outcome: Outcome) => void,
    signal?: AbortSignal,
    onAbort?: () => void,
    answerBy: number = Infinity,
  ): void {
    if (this.#ended) return settle({ kind: this.#ended, attempts: 0 });
    const slot = this.#stocked(cost, now);
    const waiter: Caller = new Waiter(this.#demand(cost), now, deadline, answerBy, settle);
    if (signal) {
      waiter.listen(signal, () => {
        this.#line.settled(waiter);
        waiter.unlisten();
        this.#leave(waiter);
        onAbort?.();
      });
    }
    if (!slot) return this.#join(waiter, now);
    this.#prefetch?.take();
    this.#scheduled.add(waiter, slot);
    this.#proceed(now);
  }

  /**
   * As {@link Cell.request}, if it can be decided without asking anybody: because it is certain that the request cannot be
   * served in time, because there is a slot in stock, or because the store is in the memory of this process, and the caller
   * does not want to wait or need not.
   */
  requestNow(cost: number, now: number, deadline: number): Outcome | undefined {
    return this.#grantNow(this.#demand(cost), now) ?? this.answerNow(cost, now, deadline);
  }

  /** As {@link Cell.requestNow}, for a request that {@link Cell.takeNow} has nothing for. */
  answerNow(cost: number, now: number, deadline: number): Outcome | undefined {
    if (this.#ended) return { kind: this.#ended, attempts: 0 };
    const demand = this.#demand(cost);
    if (cost === 1) this.#prefetch?.asked(now);
    const slot = this.#stocked(cost, now);
    if (slot) return this.#answerFromStock(slot, demand, now, deadline);
    // Those who wait here already are about to ask: nobody else needs to wait for that answer.
    const cause = this.#context.breaker.refusal(this.#line.length > 0);
    // Of what is in stock nobody knows but this process, which may give it back for the request.
    const isCertain = this.#prefetch?.isEmpty ?? true;
    const refused = isCertain ? this.#refuseNow(demand, now, deadline, cause !== undefined) : undefined;
    if (refused) return refused;
    // Somebody may wait for a permit that has been released, or have left something in stock: who cannot wait makes all look.
    if (deadline <= now) this.#resumeAt = -Infinity;
    if (cause) return { kind: "failed", cause, attempts: 0 };
    if (deadline > now || this.#driving || !this.#borrows(now)) return undefined;
    let outcome: Outcome | undefined;
    this.#join(new Waiter<Outcome>(demand, now, deadline, Infinity, (ended) => outcome = ended), now);
    return outcome;
  }

  /** The slot in stock for a request that comes now, if there is one. */
  #stocked(cost: number, now: number): Grant | undefined {
    if (!this.#prefetch || cost !== 1 || this.#line.waiting > 0) return undefined;
    return this.#inStock(this.#prefetch, now);
  }

  /** What this slot in stock means for a request; nothing yet, if it has to wait for it. */
  #answerFromStock(slot: Grant, demand: Demand, now: number, deadline: number): Outcome | undefined {
    if (slot.from > (deadline > now ? deadline : now + this.leadAt(now))) {
      const refusal = refusalOf(this.#context.rules, this.#ledger.base(now), now, demand);
      return { kind: "refused", attempts: 0, ...refusal, retryAt: slot.from };
    }
    if (slot.from > now || this.#schedule?.size) return undefined;
    this.#prefetch?.take();
    if (this.#prefetch?.isLow(now)) this.#proceed(now);
    return { kind: "granted", grant: slot, servedAt: now, attempts: 0 };
  }

  #demand(cost: number): Demand {
    return { cost, owner: this.#identity.id, permit: 0 };
  }

  /** The refusal that is certain from what is known, if it is. */
  #refuseNow(demand: Demand, now: number, deadline: number, isDown: boolean): Outcome | undefined {
    const { known } = this.#ledger;
    if (!known || (this.#resumeAt <= now && deadline > now && !isDown)) return undefined;
    if (this.#startsTooLate(known, now, this.#line.cost, demand, deadline)) {
      return this.#refusal(known, now, demand, 0);
    }
    return undefined;
  }

  /**
   * The short way for a request that need not wait, where it takes no conversation to know that and no permit is held: takes
   * what it wants at once, and returns the state that is left.
   */
  takeNow(demand: Demand, now: number): State | undefined {
    if (!this.#isFree || !this.#borrows(now)) return undefined;
    const { rules } = this.#context;
    const { epoch, parts, writers, foreign } = withRecentEpoch(rules, this.#ledger.base(now), now);
    const time = now - epoch;
    if (earliestStart(rules, parts, time, demand) > time) return undefined;
    const state: State = { epoch, parts: takeAll(rules, parts, time, time, demand), writers, foreign };
    this.#ledger.put(state);
    return state;
  }

  /** Whether nobody waits here, and nothing is to be written or held. */
  get #isFree(): boolean {
    return !this.#holdings && !this.#driving && !this.#ended && !this.#prefetch && !this.#queue?.length &&
      this.#undo.length === 0;
  }

  #grantNow(demand: Demand, now: number): Outcome | undefined {
    // What is borrowed may be what another limiter has left there.
    if (!this.#isFree || !this.#borrows(now)) return undefined;
    const { parts: before } = withRecentEpoch(this.#context.rules, this.#ledger.base(now), now);
    const state = this.takeNow(demand, now);
    if (!state) return undefined;
    const grant: Grant = { from: now, at: now, epoch: state.epoch, before, after: state.parts, demand };
    return { kind: "granted", grant, servedAt: now, attempts: 1 };
  }

  /** Whether no conversation is needed. What is wrong with the value, if anything, shows on the way that takes one. */
  #borrows(now: number): boolean {
    if (!this.#ledger.lends) return false;
    try {
      return this.#ledger.borrow(now);
    } catch {
      return false;
    }
  }

  /** Those whose moment is still to come, to add one. */
  get #scheduled(): Schedule<Caller, Grant> {
    return this.#schedule ??= createSchedule();
  }

  #join(waiter: Caller, now: number): void {
    this.#line.join(waiter);
    this.#proceed(now);
  }

  /** Answers everybody who waits, and gives back what is held or was reserved. Nothing can be requested afterwards. */
  async close(): Promise<void> {
    for (const grant of this.#end("closed")) void this.giveBack(grant, true);
    const now = this.#context.store.clock.now();
    if (this.#holdings && this.#holdings.size > 0) {
      this.#holdings.dropAll();
      this.#holdings.doubt(now, now);
    }
    this.#proceed(now);
    if (this.#driving) await this.#rest();
    // What the store has not heard by now comes back when its lease has run out: nobody is left to try again.
    await this.abandon();
    this.#ledger.settle();
  }

  /**
   * Sends everybody who waits away, to ask again elsewhere, and forgets what is held: what stands in the store is about to
   * be deleted. Nothing is written any more once this has resolved.
   */
  async abandon(): Promise<void> {
    this.#end("abandoned");
    this.#holdings?.dropAll();
    for (const { resolve } of this.#undo.splice(0)) resolve();
    for (const peek of this.#peeks.splice(0)) peek.resolve(this.#nothing());
    this.#setAlarm();
    if (this.#inside) await this.#rest();
  }

  /** Answers everybody who waits, in order of arrival, and returns what they had been granted. */
  #end(kind: "closed" | "abandoned"): Grant[] {
    this.#ended = kind;
    const stock = this.#prefetch?.clear() ?? [];
    this.#context.desk?.shut(this.#identity.id, this.#ledger.key, this);
    this.#turns?.dismiss();
    const unused: Grant[] = [...stock];
    while (this.#schedule && this.#schedule.size > 0) {
      const { waiter, grant } = this.#schedule.take();
      this.#line.settle(waiter, { kind, attempts: waiter.attempts });
      unused.push(grant);
    }
    for (const waiter of this.#line) {
      if (!waiter.settled) this.#line.settle(waiter, { kind, attempts: waiter.attempts });
    }
    return unused;
  }

  /** What stands in a store of which everything was deleted. */
  #nothing(): State {
    return freshState(this.#context.rules, this.#context.store.clock.now());
  }

  /** What stood in the store when it was last written or read. */
  get known(): State | undefined {
    return this.#ledger.known;
  }

  /** What stands in the store now. */
  read(): Promise<State> {
    if (this.#ended === "abandoned") return Promise.resolve(this.#nothing());
    return new Promise((resolve, reject) => {
      this.#peeks.push({ resolve, reject });
      this.#proceed(this.#context.store.clock.now());
    });
  }

  /**
   * Takes back what was granted: the permit alone, or if the request never started everything. Resolves when that is
   * written, or when the store has failed: then it hears later which permits are held, until their lease has run out anyway.
   */
  giveBack(grant: Grant, unused: boolean): Promise<void> {
    // The permit went with the state that counted it; what is counted now is somebody else's.
    if (this.#ended === "abandoned") return Promise.resolve();
    this.#holdings?.drop(grant.demand.permit);
    return new Promise((resolve) => {
      this.#undo.push({ grant, unused, resolve });
      this.#resumeAt = -Infinity;
      const proceed = () => this.#proceed(this.#context.store.clock.now());
      // Several that are taken back together are, whatever their order: nothing depends on what goes too.
      if (unused) void Promise.resolve().then(proceed);
      else proceed();
    });
  }

  /** Whether time alone makes it certain that a request behind others of `ahead` cost cannot start by its deadline. */
  #startsTooLate(state: State, now: number, ahead: number, demand: Demand, deadline: number): boolean {
    if (deadline === Infinity) return false;
    const start = earliestStartBehind(this.#context.rules, state.parts, now - state.epoch, ahead, demand) + state.epoch;
    return start > (deadline > now ? deadline : now + this.leadAt(now));
  }

  #refusal(state: State, now: number, demand: Demand, attempts: number): Outcome {
    const { rule, retryAt } = refusalOf(this.#context.rules, state, now, demand);
    return { kind: "refused", attempts, rule, retryAt, state };
  }

  #hasWork(now: number): boolean {
    if (this.#ended === "abandoned") return false;
    if (!this.#ended && this.#line.waiting === 0 && this.#prefetch?.isLow(now)) return true;
    return (this.#line.length > 0 && now >= this.#resumeAt) || this.#undo.length > 0 ||
      this.#peeks.length > 0 || this.#turns?.hasGuests === true ||
      (this.#holdings !== undefined &&
        (now >= this.#holdings.renewAt || (this.#holdings.isMarked && this.#line.waiting === 0)));
  }

  #proceed(now: number): void {
    if (!this.#driving && this.#hasWork(now) && !this.#driveNow()) this.#enterGate();
    this.#setAlarm();
  }

  #enterGate(): void {
    this.#driving = true;
    this.#waitsSince = this.#context.store.clock.now();
    // A lease runs out, however busy the store is.
    this.#context.gate.enter(this, this.#holdings !== undefined);
  }

  /** Nothing is being written any more. */
  async #rest(): Promise<void> {
    await (this.#atRest ??= Promise.withResolvers<void>()).promise;
  }

  /** As {@link Cell.#drive}, where it takes no conversation. Whether that is so. */
  #driveNow(): boolean {
    const ledger = this.#ledger;
    if (!ledger.lends) return false;
    const { clock } = this.#context.store;
    this.#driving = true;
    try {
      for (let now = clock.now(); this.#hasWork(now); now = clock.now()) {
        if (!ledger.borrow(now)) return false;
        this.#nudged = false;
        for (const peek of this.#peeks.splice(0)) peek.resolve(ledger.base(now));
        const plan = this.#plan(true);
        if (plan.changed) ledger.put(plan.state);
        this.#commit(plan);
        this.#announce(plan);
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#driving = false;
    }
    return true;
  }

  /** It may ask the store now. */
  admitted(isEarly: boolean): void {
    const { storeId, store, backendTimeoutMs } = this.#context;
    const waitedMs = store.clock.now() - this.#waitsSince;
    // The store has failed those who came before: there is no time left to ask it as well.
    if (isEarly && waitedMs >= backendTimeoutMs / 2) this.#fail(tooBusy(storeId, store, waitedMs));
    void this.#drive();
  }

  async #drive(): Promise<void> {
    const { gate, store: { clock } } = this.#context;
    this.#inside = true;
    this.#fresh = false;
    while (this.#hasWork(clock.now())) {
      await this.#gather();
      try {
        await this.#round();
      } catch (error) {
        this.#fail(error);
        // A store that does not answer is not busy.
        if (!isNotApplied(error)) gate.open();
      }
      // Whose slot was missed has waited for its turn already.
      if (gate.isCrowded && this.#missed === 0) break;
    }
    this.#inside = false;
    gate.leave();
    if (this.#hasWork(clock.now())) return this.#enterGate();
    this.#driving = false;
    this.#setAlarm();
    this.#atRest?.resolve();
    this.#atRest = undefined;
    // What is in stock is soon used, or of no use any more.
    if (this.idle && (this.#prefetch?.isEmpty ?? true)) this.#owner.rested();
  }

  /** Lets callers that come in the same turn, and those that were just served and come again, join the batch. */
  async #gather(): Promise<void> {
    await undefined;
    if (!this.#served) return;
    this.#served = false;
    let size = this.#line.length;
    for (let turn = 0, quiet = 0; quiet < QUIET_TURNS && turn < MOST_TURNS; turn++) {
      await undefined;
      quiet = this.#line.length === size ? quiet + 1 : 0;
      size = this.#line.length;
    }
  }

  /** Decides what is waiting and writes it, again and again until nobody else was faster; or has it decided elsewhere. */
  async #round(): Promise<void> {
    const ledger = this.#ledger;
    const { maxRetries, retryIntervalMs, random, store: { clock } } = this.#context;
    const begunAt = clock.now();
    let pause = 1;
    let races = 0;
    let hasAsked = false;
    const refused: Plan[] = [];
    while (this.#ended !== "abandoned") {
      let fresh = this.#fresh && races === 0;
      if (this.#peeks.length > 0) {
        const plan = await this.#readFor(refused);
        if (plan) return this.#finish(plan);
        fresh = true;
      }
      const leader = this.#turns?.leader(clock.now());
      if (leader !== undefined) {
        if (await this.#ask(leader)) return;
        hasAsked = true;
        continue;
      }
      if (ledger.needsRead) {
        const plan = await this.#readFor(refused);
        if (plan) return this.#finish(plan);
        fresh = true;
        if (races > 0 && !hasAsked) this.#followWriter();
        if (this.#turns?.leader(clock.now()) !== undefined) continue;
      }
      const pausing = this.#pauseForOthers();
      if (pausing) await pausing;
      let plan = this.#plan(fresh);
      if (plan.isDoubtful && !plan.changed) {
        await this.#read();
        plan = this.#plan(true);
      }
      if (!plan.changed) return this.#finish(plan);
      const isWritten = await this.#write(plan);
      this.#granting = false;
      if (isWritten) return this.#finish(plan);
      refused.push(plan);
      this.#owner.meter.count("casFailures");
      if (races >= maxRetries) this.#giveUp(races + 1);
      hasAsked = false;
      const isStarved = clock.now() - begunAt > STARVED_MS;
      if (races > 0 && !isStarved) await clock.sleep(pause = pauseAfter(pause, retryIntervalMs, random()));
      races++;
    }
  }

  /** Nobody can wait for this process on a key that it has not written yet. */
  #pauseForOthers(): Promise<void> | undefined {
    if (this.#ledger.wroteAt === -Infinity) return undefined;
    const { clock } = this.#context.store;
    const now = clock.now();
    this.#room ??= new Room(this.#ledger, now);
    const leftMs = this.#room.leftMs(now);
    return leftMs > 0 ? clock.sleep(leftMs) : undefined;
  }

  /** A race was lost: from now on the last writer decides, if it can be asked. */
  #followWriter(): void {
    const { desk, backendTimeoutMs } = this.#context;
    const winner = this.#ledger.known?.writers.at(-1)?.[0];
    if (!desk || winner === undefined || winner === this.#identity.id) return;
    if (!canWaitForAnswer(this.#ledger, backendTimeoutMs)) return;
    this.#taken().lose(winner, this.#context.store.clock.now());
  }

  #taken(): Turns {
    return this.#turns ??= createTurns({
      ...this.#context,
      identity: this.#identity,
      ledger: this.#ledger,
      onGuest: (now) => this.#proceed(now),
    });
  }

  /** Another process hands its work over: the answer, when there is one. */
  receive(foreign: ForeignWork): Promise<Uint8Array | undefined> {
    return this.#taken().receive(foreign);
  }

  /** Others want to write whose work cannot be decided here. */
  makeRoom(): void {
    this.#room?.make(this.#context.store.clock.now());
  }

  #finish(plan: Plan): void {
    this.#fresh = plan.changed;
    this.#commit(plan);
    this.#announce(plan);
  }

  /** Reads, and returns the plan that stands there although it was refused: to do it again could give back twice. */
  async #readFor(refused: readonly Plan[]): Promise<Plan | undefined> {
    const written = await this.#read();
    return written && refused.find(({ state }) => state === written);
  }

  /**
   * Writes the plan. Who waits for a permit hears of it already now: the hint reaches it while the answer is on its way
   * here, and what it reads then has been written. Should it be too early, the hint after the answer is not.
   */
  #write(plan: Plan): Promise<boolean> {
    this.#granting = plan.batch.granted.length > 0;
    this.#nudged = false;
    const writing = this.#ledger.write(plan.state, this.#isUrgent());
    // From now on others may lose races against this process.
    if (!this.#ended) this.#context.desk?.open(this.#identity.id, this.#ledger.key, this);
    this.#announce(plan);
    return writing;
  }

  /** Whether the store has to hear which permits are held, however often it has failed: a lease runs out by itself. */
  #isUrgent(): boolean {
    return this.#holdings !== undefined && this.#context.store.clock.now() >= this.#holdings.renewAt;
  }

  #announce({ givesBack, state, decidedAt }: Plan): void {
    if (!givesBack || !this.#hasFreePermits(state, decidedAt)) return;
    this.#context.store.kv.announce?.(this.#ledger.key);
  }

  /** Has everything decided by another process. Whether it did. */
  async #ask(leader: string): Promise<boolean> {
    const { clock } = this.#context.store;
    const turns = this.#taken();
    const sentAt = clock.now();
    const work = this.#work(sentAt, MOST_REQUESTS);
    // What is released while the answer is on its way shall be heard of.
    if (this.#holdings && work.requests.some(({ patient }) => patient)) this.#listen();
    this.#nudged = false;
    const heard = await turns.ask(leader, work);
    if (heard.kind === "declined") return false;
    const plan = heard.kind === "decided"
      ? planOf(this.#context.rules, work, heard.verdict, sentAt, this.#resumeAtAfter)
      : undefined;
    if (!plan) {
      turns.disbelieve();
      this.#forgetUndone(work.undos.length, work.requests.length > 0, clock.now());
      return false;
    }
    this.#ledger.learn(plan.state);
    this.#fresh = false;
    this.#commit(plan);
    return true;
  }

  /** Returns what stands in the store of all that was refused. */
  async #read(): Promise<State | undefined> {
    const ledger = this.#ledger;
    const { clock } = this.#context.store;
    const peeks = this.#peeks.splice(0);
    this.#nudged = false;
    try {
      const written = await ledger.read(this.#isUrgent());
      for (const peek of peeks) {
        peek.resolve(withStock(this.#context.rules, ledger.base(clock.now()), this.#prefetch, clock.now()));
      }
      return written;
    } catch (error) {
      for (const peek of peeks) peek.reject(error);
      throw error;
    }
  }

  /** The first slot in stock, if nobody who came before is overtaken with it. */
  #inStock(prefetch: Prefetch, now: number): Grant | undefined {
    const slot = prefetch.next(now);
    return slot && slot.from >= (this.#schedule?.last ?? -Infinity) ? slot : undefined;
  }

  /** Serves those who wait, in order, as long as there is something in stock. What is being written is not about them. */
  #serveFromStock(prefetch: Prefetch, now: number): void {
    for (let waiter = this.#line.head; waiter; waiter = this.#line.head) {
      if (!waiter.settled) {
        const slot = waiter.demand.cost === 1 ? this.#inStock(prefetch, now) : undefined;
        if (!slot || slot.from > Math.max(waiter.deadline, now)) return;
        prefetch.take();
        if (slot.from <= now && !this.#schedule?.size) this.#serve(waiter, slot, now);
        else {
          this.#line.exit(waiter);
          this.#scheduled.add(waiter, slot);
        }
      }
      this.#line.shift();
    }
  }

  /** The requests, and behind them those for slots that somebody is likely to ask for. */
  #withAhead(prefetch: Prefetch, waiting: readonly Caller[], now: number, most: number): readonly Caller[] {
    // Who wants something else shall not come after what nobody has asked for.
    if (waiting.some(({ demand: { cost } }) => cost !== 1)) {
      for (const grant of prefetch.clear()) this.#undo.push({ grant, unused: true, resolve: () => {} });
    }
    const { count, keepMs } = prefetch.wish(now);
    const room = Math.min(count, most - waiting.length);
    if (this.#ended || room <= 0) return waiting;
    const { reserveAheadMs } = this.#context;
    // As far as everybody reserves who comes anew.
    const latest = now + reserveAheadMs - stepOf(reserveAheadMs);
    const ahead: Caller = new Waiter(this.#demand(1), now, latest, Infinity, undefined, keepMs);
    return [...waiting, ...Array.from({ length: room }, () => ahead)];
  }

  /** Everything that is to be decided here, at most so many requests of it. */
  #work(now: number, most = Infinity): Work<Caller> {
    const { leaseMs, reserveAheadMs, limitsRate, lateness, toleranceMs } = this.#context;
    const identity = this.#identity;
    this.#holdings?.check(this.#ledger.known, now);
    const waiting = this.#line.unanswered(most);
    const [first] = waiting;
    const requests = this.#prefetch ? this.#withAhead(this.#prefetch, waiting, now, most) : waiting;
    return {
      owner: identity.id,
      leaseMs,
      undos: this.#undo.length > 0 ? this.#undo.slice() : NOTHING_UNDONE,
      held: this.#holdings?.toTell(now),
      requests,
      firstPermit: this.#holdings ? identity.next(requests.length) : 0,
      since: first?.since ?? now,
      marks: first !== undefined && this.#isOvertaken(first, now),
      isMarked: this.#holdings?.isMarked ?? false,
      lead: this.leadAt(now),
      // A rate would lose what counts for later.
      slack: limitsRate ? 0 : missOf(lateness, toleranceMs),
      // Who comes anew leaves the end of what may be reserved to those who have waited for it, here and elsewhere.
      restraint: this.#resumeAt === -Infinity ? stepOf(reserveAheadMs) : 0,
    };
  }

  /**
   * Decides as much of the queue as can be decided now, and what the guests want, on what is known to be stored, and tells
   * nobody: that is for {@link Cell.#commit}. `isFresh`: what is known cannot have changed since.
   */
  #plan(isFresh: boolean): Plan {
    const { rules, reserveAheadMs, store: { clock } } = this.#context;
    const now = clock.now();
    const own = this.#work(now);
    const base = withRecentEpoch(rules, this.#ledger.base(now), now);
    const visit = this.#turns?.guests(now, base.writers) ?? NOBODY;
    return planFor(rules, base, own, visit, { now, horizon: now + reserveAheadMs, isFresh }, this.#resumeAtAfter);
  }

  /** For plans: when to decide again about the first one that was not decided. */
  get #resumeAtAfter(): ResumeAt {
    return (batch, requests, state) => {
      const head = requests[batch.dealtWith];
      if (!head || head.isAhead || batch.held === "doubt") return -Infinity;
      return this.#whenToResume(batch, state, this.#context.store.clock.now(), head);
    };
  }

  /** Whether others have taken permits while the waiter waited for one, or may have. */
  #isOvertaken({ since, metFull }: Caller, now: number): boolean {
    const { known } = this.#ledger;
    if (!this.#holdings) return false;
    if (now - since >= MARK_AFTER_MS) return true;
    return metFull !== undefined && known !== undefined && this.#holdings.othersTook(metFull, known.parts);
  }

  #meetFull(waiter: Caller, parts: Parts): void {
    if (waiter.metFull) return;
    waiter.metFull = parts;
    this.#owner.meter.count("maxConcurrentReached");
  }

  /** Those who stand behind one who has to wait, and who cannot or do not want to wait so long, hear so now. */
  #refuseBehind(state: State, now: number): void {
    let ahead = 0;
    for (const waiter of this.#line) {
      if (waiter.settled) continue;
      if (ahead > 0 && (!waiter.patient || this.#startsTooLate(state, now, ahead, waiter.demand, waiter.deadline))) {
        this.#line.settle(waiter, this.#refusal(state, now, waiter.demand, waiter.attempts + 1));
      } else ahead += waiter.demand.cost;
    }
  }

  #whenToResume({ held, heldUntil, granted }: Batch<Caller>, state: State, now: number, head: Caller): number {
    const { rules, random, reserveAheadMs } = this.#context;
    if (held === "time") {
      const hadItsTurn = granted.length > 0 || state.writers.at(-1)?.[0] === this.#identity.id;
      head.hold(heldUntil);
      const { passedOver } = head;
      const reachMs = reachOf(rules, reserveAheadMs, this.leadAt(now));
      return whenToReserve({ until: heldUntil, reachMs, passedOver, hadItsTurn, random: random() });
    }
    this.#meetFull(head, state.parts);
    this.#listen();
    const { retryAt } = obstacle(rules, state.parts, now - state.epoch, head.demand);
    return Math.min(retryAt + state.epoch, whenToLook(now, head.since, random()));
  }

  /** By how much a grant counts for later than it is decided. */
  leadAt(now: number): number {
    const { trips, toleranceMs } = this.#context;
    return leadOf(this.#turns?.answers(now) ?? trips, toleranceMs, this.#missed, now);
  }

  /** Tells everybody what was written. */
  #commit(plan: Plan): void {
    const { toleranceMs, store: { clock } } = this.#context;
    const now = clock.now();
    const holdings = this.#holdings;
    const undone = plan.undone > 0 ? this.#undo.splice(0, plan.undone) : NOTHING_UNDONE;
    const decided = plan.dealtWith + (plan.resumeAt === -Infinity ? 0 : 1);
    for (let i = 0; i < decided && i < plan.requests.length; i++) plan.requests[i]!.attempts++;
    this.#line.advance(plan.requests, plan.dealtWith);
    this.#resumeAt = this.#nudged && plan.batch.held === "permit" ? -Infinity : plan.resumeAt;
    // The answer may have been on its way for longer than the lease lasts: somebody else may hold the permits by now.
    const isOver = holdings !== undefined && now >= holdings.leaseEnd(plan.state);
    const again: Caller[] = [];
    let stocked = 0;
    for (const { request: waiter, grant } of plan.batch.granted) {
      if (waiter.isAhead && !this.#ended) {
        this.#prefetch?.add(grant, plan.decidedAt + this.#context.reserveAheadMs);
        stocked++;
      } else if (waiter.failed) holdings?.doubt(now, now);
      else if (waiter.settled) void this.giveBack(grant, true);
      else if (isOver) {
        void this.giveBack(grant, true);
        again.push(waiter);
      } else {
        holdings?.hold(grant.demand.permit, now);
        if (grant.from <= now && now - grant.at <= toleranceMs) this.#serve(waiter, grant, now);
        else {
          this.#line.exit(waiter);
          this.#scheduled.add(waiter, grant);
        }
      }
    }
    holdings?.written(plan.state, plan.decidedAt, now);
    if (isOver) holdings.check(this.#ledger.known, now);
    for (const { request: waiter, refusal } of plan.batch.refused) {
      if (refusal.rule.kind === "concurrency") this.#meetFull(waiter, plan.state.parts);
      if (!waiter.settled) this.#line.settle(waiter, { kind: "refused", attempts: waiter.attempts, ...refusal });
    }
    if (this.#resumeAt > now) this.#refuseBehind(plan.state, now);
    const left = this.#serveDue(now);
    this.#line.prepend([...again, ...left]);
    if (plan.ahead > 0) this.#prefetch?.heard(plan.ahead, stocked, now);
    if (this.#prefetch && !this.#ended) this.#serveFromStock(this.#prefetch, now);
    for (const { resolve } of undone) resolve();
    this.#turns?.answer(plan.verdicts);
    this.#setAlarm();
  }

  #hasFreePermits({ epoch, parts }: State, now: number): boolean {
    const { rules, concurrency } = this.#context;
    const rule = rules[concurrency];
    return rule !== undefined && rule.usage(parts[concurrency]!, now - epoch).remaining > 0;
  }

  #serve(waiter: Caller, grant: Grant, now: number): void {
    this.#served = true;
    this.#missed = 0;
    this.#line.settle(waiter, { kind: "granted", grant, servedAt: now, attempts: waiter.attempts });
  }

  /** Whether the permit of a grant is gone before its moment has come. */
  #isLost(grant: Grant): boolean {
    return this.#holdings !== undefined && !this.#holdings.has(grant.demand.permit);
  }

  /** Serves those whose moment has come. Returns those who are left without a slot, as it was missed. */
  #serveDue(now: number): readonly Caller[] {
    const schedule = this.#schedule;
    if (!schedule || schedule.next > now) return NOBODY.all;
    const left: Caller[] = [];
    for (let next = schedule.nextGrant; next && next.from <= now; next = schedule.nextGrant) {
      const latest = Math.max(next.from, next.at) + this.#context.toleranceMs;
      if (now <= latest && !this.#isLost(next)) {
        const { waiter, grant } = schedule.take();
        this.#serve(waiter, grant, now);
      } else {
        // To start this late could be too close to the slots after it.
        const { waiter, missed } = schedule.miss();
        void this.giveBack(missed, true);
        this.#line.enter(waiter);
        left.unshift(waiter);
      }
    }
    if (left.length > 0) this.#missed = Math.min(this.#missed + 1, MOST_MISSED);
    return left;
  }

  /** The alarm has rung: looks at everything that may be due. */
  #wake(lateMs: number): void {
    this.#context.lateness.took(lateMs);
    const now = this.#context.store.clock.now();
    this.#holdings?.check(this.#ledger.known, now);
    const left = this.#serveDue(now);
    if (left.length > 0) {
      // What is being written is about the head of the queue: that must stay as it is.
      if (this.#driving) this.#line.append(left);
      else {
        this.#line.prepend(left);
        if (this.#prefetch) this.#serveFromStock(this.#prefetch, now);
      }
      this.#resumeAt = -Infinity;
    }
    if (now >= this.#line.soonestDeadline) this.#expire(now);
    this.#proceed(now);
  }

  /** Answers those whose time is up. */
  #expire(now: number): void {
    const ledger = this.#ledger;
    let soonest = Infinity;
    for (const waiter of this.#line) {
      if (waiter.settled) continue;
      const deadline = waiter.patient ? waiter.deadline : Infinity;
      let until = Math.min(deadline, waiter.answerBy);
      const isUndecided = until <= now && this.#driving && this.#isUndecided(waiter, now);
      if (isUndecided) until = Math.min(Math.max(deadline, waiter.since + GRACE_MS), waiter.answerBy);
      else if (until <= now) until = deadline;
      if (until > now) soonest = Math.min(soonest, until);
      else if (isUndecided) {
        const { storeId, store } = this.#context;
        this.#failOne(waiter, silence(storeId, store, now - waiter.since, ledger.answeredAt <= waiter.since));
      } else this.#line.settle(waiter, this.#refusal(ledger.base(now), now, waiter.demand, waiter.attempts));
    }
    this.#line.soonestDeadline = soonest;
  }

  /** Whether it is the store, and not the limit, that keeps the waiter from an answer, as far as anybody can tell. */
  #isUndecided({ since, demand }: Caller, now: number): boolean {
    const ledger = this.#ledger;
    const wasSilent = ledger.answeredAt <= since;
    // Who waited for a permit, or behind one who did, has not waited for the store, even if one has just been released: unless
    // the store was asked, and was silent.
    if (this.#line.head?.metFull) return wasSilent && now - Math.max(this.#waitsSince, ledger.answeredAt) >= GRACE_MS;
    if (wasSilent) return true;
    const { epoch, parts } = ledger.base(now);
    // Others may have taken what it waited for until just now.
    const start = earliestStart(this.#context.rules, parts, since - epoch, demand) + epoch;
    return start <= Math.max(since, now - GRACE_MS);
  }

  #failOne(waiter: Caller, cause: unknown): void {
    waiter.failed = true;
    this.#line.settle(waiter, { kind: "failed", cause, attempts: waiter.attempts });
  }

  /** Nobody who wants an answer in a certain time loses races for ever. */
  #giveUp(races: number): void {
    const cause = tooManyRaces(this.#context.storeId, races);
    for (const waiter of this.#line) {
      if (!waiter.settled && waiter.deadline < Infinity) this.#failOne(waiter, cause);
    }
  }

  /** The store failed: everybody who waits for it hears so. */
  #fail(cause: unknown): void {
    const now = this.#context.store.clock.now();
    for (const waiter of this.#line) if (!waiter.settled) this.#failOne(waiter, cause);
    for (const peek of this.#peeks.splice(0)) peek.reject(cause);
    this.#line.clear();
    this.#fresh = false;
    this.#resumeAt = -Infinity;
    this.#turns?.fail();
    const mayHaveGranted = this.#granting && !isNotApplied(cause);
    this.#granting = false;
    this.#forgetUndone(this.#undo.length, mayHaveGranted, now);
    this.#holdings?.failed(now, now + TELL_AGAIN_MS);
    this.#prefetch?.pause(now + TELL_AGAIN_MS);
  }

  /**
   * What was to be undone may have been: to do it again could give back what is somebody else's by now. A permit is safe, as
   * the store hears which ones are held.
   */
  #forgetUndone(count: number, mayHaveGranted: boolean, now: number): void {
    for (const { resolve } of this.#undo.splice(0, count)) resolve();
    if (count > 0 || mayHaveGranted) this.#holdings?.doubt(now, now);
  }

  /** A waiter has gone: if there was a slot for it, that is given back. */
  #leave(waiter: Caller): void {
    const free = this.#schedule?.leave(waiter);
    const prefetch = free?.demand.cost === 1 ? this.#prefetch : undefined;
    if (free && prefetch && prefetch.wish(this.#context.store.clock.now()).count > 0) prefetch.add(free, free.from);
    else if (free) void this.giveBack(free, true);
    else if (!this.#driving) {
      this.#line.remove(waiter);
      // If nobody is left here, others shall not wait for it to have its turn.
      this.#proceed(this.#context.store.clock.now());
    }
  }

  /** Hears of released permits from now on, where the store can tell. */
  #listen(): void {
    const { kv, clock } = this.#context.store;
    this.#hints ??= new Hints(kv, this.#ledger.key, () => {
      // To take a free permit oneself takes one trip less than to have it taken.
      const now = clock.now();
      this.#turns?.hear(now);
      this.#nudged = true;
      this.#resumeAt = -Infinity;
      this.#proceed(now);
    });
    this.#hints.listen();
  }

  #setAlarm(): void {
    if (this.#ended === "abandoned") {
      this.#alarm?.clear();
      this.#leaseAlarm?.clear();
      this.#hints?.unlisten();
      return;
    }
    if (this.#line.length === 0 && !this.#driving) this.#line.soonestDeadline = Infinity;
    if (this.#holdings) this.#setLeaseAlarm(this.#holdings);
    let at = Math.min(this.#whenToWake(), this.#driving ? Infinity : this.#line.soonestDeadline);
    if (this.#line.length > 0 && !this.#driving) at = Math.min(at, this.#resumeAt);
    if (at < Infinity) this.#rings.set(at);
    if (this.#driving) {
      if (this.#line.soonestDeadline < Infinity) this.#rings.glance(this.#line.soonestDeadline);
      return;
    }
    if (at === Infinity) this.#alarm?.clear();
    if (this.#line.length === 0) this.#hints?.unlisten();
  }

  /** When to be woken for the next moment that was granted: sooner, where timers are late. */
  #whenToWake(): number {
    const next = this.#schedule?.next ?? Infinity;
    if (next === Infinity) return next;
    const { lateness, toleranceMs, store: { clock } } = this.#context;
    const missMs = missOf(lateness, toleranceMs);
    if (missMs === 0) return next;
    // Who was woken too soon waits for a timer again, and not for the next turn: that says nothing about timers.
    return Math.min(next, Math.max(next - missMs, clock.now() + LEAST_TIMER_MS));
  }

  #setLeaseAlarm({ leaseUntil, renewAt }: Holdings): void {
    const lease = Math.min(leaseUntil, this.#driving ? Infinity : renewAt);
    if (lease < Infinity) {
      this.#leaseAlarm ??= createAlarm(this.#context.store.clock, (lateMs) => this.#wake(lateMs), true);
      this.#leaseAlarm.set(lease);
    } else if (!this.#driving) this.#leaseAlarm?.clear();
  }

  get #rings(): Alarm {
    return this.#alarm ??= createAlarm(this.#context.store.clock, (lateMs) => this.#wake(lateMs));
  }
}

const NOBODY = { all: [], next: undefined } as const;
const NOTHING_UNDONE: readonly PendingUndo[] = [];
