import { type Alarm, createAlarm } from "../alarm.ts";
import { type Grant, refusalOf } from "../decision/batch.ts";
import { earliestStart, takeAll } from "../decision/decide.ts";
import { counted } from "../decision/others.ts";
import { freshState, type Left, type State, withRecentEpoch } from "../decision/state.ts";
import type { Demand } from "../rules/rule.ts";
import { type Identity, type Knowledge, Ledger } from "../store/ledger.ts";
import type { Caller, Outcome, Refused } from "../waiting/outcome.ts";
import { type Standing, standingOf } from "../waiting/standing.ts";
import { Waiter } from "../waiting/waiter.ts";
import { Agenda, type AgendaOwner } from "./agenda.ts";
import type { CellContext } from "./cell_context.ts";
import { Loop, type LoopOwner } from "./loop.ts";
import type { Meter } from "./metrics.ts";

/** What a {@link Cell} needs from its owner. */
export interface CellOwner {
  readonly meter: Meter;
  /** A permit is lost: its lease ran out before it was renewed. */
  lost(permit: number): void;
  /** Nothing is being written any more. */
  rested(): void;
}

/** What a request for one wants that nobody asks about later. */
const ONE: Demand = { cost: 1, owner: "", permit: 0 };

/**
 * One key. What needs no conversation with the store is decided at once; everything else goes on the agenda of a loop,
 * where all that waits becomes one compare-and-set, and each request still has an outcome of its own.
 */
export class Cell implements AgendaOwner, LoopOwner {
  readonly #context: CellContext;
  readonly #owner: CellOwner;
  readonly #identity: Identity;
  readonly #ledger: Ledger;
  /** Set once there is something that was not decided at once. */
  #loop: Loop | undefined;
  /** Rings for what callers wait for. */
  #alarm: Alarm | undefined;
  /** Rings for the leases of the permits that are held, which end with the program anyway. */
  #leaseAlarm: Alarm | undefined;
  #refused: Standing | undefined;

  /** The cell of what the store calls `key`. `knowledge` is that of the cell whose place it takes. */
  constructor(context: CellContext, owner: CellOwner, key: string, knowledge?: Knowledge) {
    const { permitRule, prefetch, identity, nextIdentity } = context;
    this.#context = context;
    this.#owner = owner;
    this.#identity = permitRule === undefined ? identity : nextIdentity();
    this.#ledger = new Ledger(context, this.#identity, key, knowledge);
    // What is held, or granted before anybody asked for it, has to be on the agenda from the beginning.
    if (permitRule !== undefined || prefetch > 0) this.#ensureLoop();
  }

  get meter(): Meter {
    return this.#owner.meter;
  }

  #ensureLoop(): Loop {
    return this.#loop ??= new Loop(
      this.#context,
      this,
      this.#identity,
      this.#ledger,
      new Agenda(this.#context, this, this.#identity, this.#ledger),
    );
  }

  /** Whether nobody waits here and nothing is held: then it may be forgotten. */
  get idle(): boolean {
    return !this.#loop || (!this.#loop.isRunning && this.#loop.agenda.isIdle);
  }

  /** Whether the store lends this cell's key, so that there is nothing to gain by forgetting the cell. */
  get lends(): boolean {
    return this.#ledger.lends;
  }

  /** What it knows, for a cell that takes its place. Only to be used while it is idle. */
  get knowledge(): Knowledge | undefined {
    return this.#ledger.knowledge;
  }

  /** What stood in the store when it was last written or read. */
  get known(): State | undefined {
    return this.#ledger.known;
  }

  /** The total cost of the callers that wait for a decision here. */
  get waitingCost(): number {
    return this.#loop?.agenda.waiting.line.cost ?? 0;
  }

  /** How much later than the moment of decision a grant counts. */
  leadAt(now: number): number {
    return this.#ensureLoop().agenda.leadAt(now);
  }

  /** The cell is about to be forgotten: until its next write, nobody can hand work over to it. */
  park(): void {
    this.#loop?.shut();
    this.#ledger.settle();
  }

  /**
   * Decides the request, which {@link Cell.answerNow} has just left undecided, waits for its moment if it is granted,
   * and then tells `settle` how it ended. `deadline` is the latest moment to start at; one that is not after `now`
   * means that the caller does not want to wait. `answerBy` is when the caller is told, at the latest, that the store
   * is silent, if that is to be before the store's own time limit. Once `signal` is aborted, the request is forgotten
   * and `settle` is not called.
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
    const loop = this.#ensureLoop();
    const { agenda } = loop;
    const waiter: Caller = new Waiter(this.#demand(cost), now, deadline, answerBy, settle);
    if (signal) {
      waiter.listen(signal, () => {
        agenda.leave(waiter, loop.isRunning);
        onAbort?.();
      });
    }
    agenda.join(waiter, now);
    this.proceed(now);
  }

  /**
   * Like {@link Cell.request}, if the request can be decided without asking anybody: because it is certain that it
   * cannot be served in time, because there is a slot in stock, or because the store is in the memory of this process
   * and the caller does not want to wait or does not have to.
   */
  requestNow(cost: number, now: number, deadline: number): Outcome | undefined {
    return this.#grantNow(cost, now) ?? this.answerNow(cost, now, deadline);
  }

  /** Like {@link Cell.requestNow}, for a request that {@link Cell.takeNow} has nothing for. */
  answerNow(cost: number, now: number, deadline: number): Outcome | undefined {
    const { agenda, isRunning } = this.#ensureLoop();
    if (agenda.ended) return { kind: agenda.ended, attempts: 0 };
    const demand = this.#demand(cost);
    const { prefetch } = agenda;
    if (cost === 1) prefetch?.asked(now);
    const slot = agenda.stocked(cost, now);
    if (slot) return this.#answerFromStock(slot, demand, now, deadline);
    // If somebody waits here, the store is about to be asked. This request does not have to wait for that answer, too.
    const cause = this.#context.breaker.refusal(agenda.waiting.line.length > 0);
    // Only this process knows what is in stock, and it may give that back for the request.
    const isCertain = prefetch?.isEmpty ?? true;
    const refused = isCertain ? agenda.refusalNow(demand, now, deadline, cause !== undefined) : undefined;
    if (refused) return this.#remembered(refused, cost, now);
    // A permit that somebody waits for may have been released, or something left in stock: a caller that cannot wait
    // makes everybody look.
    if (deadline <= now) agenda.hurry();
    if (cause) return { kind: "failed", cause, silentMs: 0, attempts: 0 };
    if (deadline > now || isRunning || !this.#borrows(now)) return undefined;
    let outcome: Outcome | undefined;
    agenda.join(new Waiter<Outcome>(demand, now, deadline, Infinity, (ended) => outcome = ended), now);
    this.proceed(now);
    return outcome;
  }

  /** The refusal of a request that does not want to wait, if it is like the last one and nothing has changed since. */
  refusedAgain(cost: number, now: number): Refused | undefined {
    const last = this.#refused;
    if (last?.cost !== cost || now < last.from || now >= last.until || last.ahead !== this.waitingCost) {
      return undefined;
    }
    return this.#ledger.knows(last.outcome.state) ? last.outcome : undefined;
  }

  #remembered(outcome: Refused, cost: number, decidedAt: number): Refused {
    const { permitRule, prefetch } = this.#context;
    // A permit may come back at any moment, and so may what is in stock.
    if (permitRule === undefined && prefetch === 0) {
      this.#refused = standingOf(outcome, cost, this.waitingCost, decidedAt, this.leadAt(decidedAt));
    }
    return outcome;
  }

  /** What this slot in stock means for a request; `undefined` if the request has to wait for it. */
  #answerFromStock(slot: Grant, demand: Demand, now: number, deadline: number): Outcome | undefined {
    const { agenda } = this.#ensureLoop();
    const { prefetch, waiting } = agenda;
    if (slot.from > agenda.latestStart(now, deadline)) {
      const refusal = refusalOf(this.#context.rules, this.#ledger.base(now), now, demand);
      return { ...refusal, kind: "refused", attempts: 0, retryAt: slot.from };
    }
    if (slot.from > now || waiting.hasMoments) return undefined;
    prefetch?.take();
    if (prefetch?.isLow(now)) this.proceed(now);
    return { kind: "granted", grant: slot, servedAt: now, attempts: 0 };
  }

  #demand(cost: number): Demand {
    return { cost, owner: this.#identity.id, permit: 0 };
  }

  /**
   * The short way for a request that does not have to wait, if no conversation is needed to know that and permits are
   * not limited: takes what the request wants at once, if there is so much.
   */
  takeNow(cost: number, now: number): boolean {
    if (!this.#isFree || !this.#borrows(now)) return false;
    const { rules, soleRate } = this.#context;
    const demand = cost === 1 ? ONE : { ...ONE, cost };
    if (soleRate && this.#ledger.isPlain(now)) return this.#ledger.take(soleRate, demand, now);
    const base = withRecentEpoch(rules, this.#ledger.base(now), now);
    const { epoch, parts, writers } = base;
    const time = now - epoch;
    if (earliestStart(rules, parts, time, demand) > time) return false;
    const taken = takeAll(rules, parts, time, time, demand);
    const state: State = { epoch, parts: taken, writers, others: counted(base, [{ at: now, demand }], now) };
    this.#ledger.put({ state, latest: now, mixes: false });
    return true;
  }

  /** What is left, as far as is known. */
  left(now: number): Left {
    return this.#ledger.left(now);
  }

  /** Whether nobody waits here, and nothing is to be written or held. */
  get #isFree(): boolean {
    const loop = this.#loop;
    return !loop || (!loop.isRunning && loop.agenda.isFree);
  }

  #grantNow(cost: number, now: number): Outcome | undefined {
    // What is borrowed may have been left there by another limiter.
    if (!this.#isFree || !this.#borrows(now)) return undefined;
    const { parts: before } = withRecentEpoch(this.#context.rules, this.#ledger.base(now), now);
    if (!this.takeNow(cost, now)) return undefined;
    const { epoch, parts: after } = this.#ledger.base(now);
    const grant = { from: now, at: now, epoch, before, after, demand: this.#demand(cost) };
    return { kind: "granted", grant, servedAt: now, attempts: 1 };
  }

  /** Whether no conversation is needed. If anything is wrong with the value, that shows on the way that takes one. */
  #borrows(now: number): boolean {
    try {
      return this.#ledger.borrow(now);
    } catch {
      return false;
    }
  }

  /** Resolves to what stands in the store now. */
  read(): Promise<State> {
    const loop = this.#ensureLoop();
    if (loop.agenda.ended === "abandoned") return Promise.resolve(this.#nothing());
    const peek = loop.peek();
    this.proceed(this.#context.store.clock.now());
    return peek;
  }

  /** Finds out whether this process may write and read the key. Changes nothing in the store. */
  async probe(): Promise<void> {
    if (this.lends) return;
    await this.#ledger.probe();
    await this.read();
  }

  /** What stands in a store from which everything was deleted. */
  #nothing(): State {
    return freshState(this.#context.rules, this.#context.store.clock.now());
  }

  /**
   * Takes back what was granted: the permit alone, or everything if the request never started. Resolves when that is
   * written, or when the store has failed: the store is then told later which permits are held, until their lease has
   * run out anyway.
   */
  giveBack(grant: Grant, unused: boolean): Promise<void> {
    return this.#ensureLoop().agenda.giveBack(grant, unused);
  }

  /** Answers everybody who waits, and gives back what is held or was reserved. Nothing can be requested afterwards. */
  async close(): Promise<void> {
    const loop = this.#ensureLoop();
    loop.shut();
    loop.agenda.end("closed");
    this.proceed(this.#context.store.clock.now());
    if (loop.isRunning) await loop.whenAtRest();
    // What the store has not been told by now comes back when its lease has run out: nobody is left to try again.
    await this.abandon();
    this.#ledger.settle();
  }

  /**
   * Sends everybody who waits away, to ask again elsewhere, and forgets what is held: what stands in the store is about
   * to be deleted. Nothing is written any more once this has resolved.
   */
  async abandon(): Promise<void> {
    const loop = this.#ensureLoop();
    loop.shut();
    loop.agenda.end("abandoned");
    loop.tell(this.#nothing());
    this.#setAlarm();
    if (loop.isInside) await loop.whenAtRest();
  }

  /** Whether the permit that was granted here is neither lost nor given back. */
  holds(permit: number): boolean {
    return this.#ensureLoop().agenda.holdings?.has(permit) === true;
  }

  /** Finds out now whether the lease on what is held has run out. */
  checkLease(): void {
    this.#ensureLoop().agenda.checkLease(this.#context.store.clock.now());
  }

  /** A permit is lost. */
  lost(permit: number): void {
    this.#owner.lost(permit);
  }

  /** Does, or begins, whatever there is to do now. */
  proceed(now: number): void {
    this.#ensureLoop().proceed(now);
    this.#setAlarm();
  }

  /** The times to wake up at may have changed. */
  decided(): void {
    this.#setAlarm();
  }

  /** Nothing is being written any more. */
  stopped(): void {
    this.#setAlarm();
    // With something in stock it is not at rest yet: that is soon used, or of no use any more.
    if (this.idle && (this.#ensureLoop().agenda.prefetch?.isEmpty ?? true)) this.#owner.rested();
  }

  /** The alarm has rung. */
  #wake(lateMs: number): void {
    const { agenda, runningSince } = this.#ensureLoop();
    this.#context.lateness.took(lateMs);
    const now = this.#context.store.clock.now();
    agenda.wake(now, runningSince);
    this.proceed(now);
  }

  #setAlarm(): void {
    const { agenda, isRunning } = this.#ensureLoop();
    const { line } = agenda.waiting;
    if (agenda.ended === "abandoned") {
      this.#alarm?.clear();
      this.#leaseAlarm?.clear();
      agenda.unlisten();
      return;
    }
    this.#setLeaseAlarm();
    const at = agenda.wakeAt(isRunning);
    if (at < Infinity) this.#rings.set(at);
    if (isRunning) {
      if (line.soonestDeadline < Infinity) this.#rings.glance(line.soonestDeadline);
      return;
    }
    if (at === Infinity) this.#alarm?.clear();
    if (line.length === 0) agenda.unlisten();
  }

  #setLeaseAlarm(): void {
    const { agenda, isRunning } = this.#ensureLoop();
    if (!agenda.holdings) return;
    const at = Math.min(agenda.leaseUntil, isRunning ? Infinity : agenda.holdings.renewAt);
    if (at < Infinity) {
      this.#leaseAlarm ??= createAlarm(this.#context.store.clock, (lateMs) => this.#wake(lateMs), true);
      this.#leaseAlarm.set(at);
    } else if (!isRunning) this.#leaseAlarm?.clear();
  }

  get #rings(): Alarm {
    return this.#alarm ??= createAlarm(this.#context.store.clock, (lateMs) => this.#wake(lateMs));
  }
}
