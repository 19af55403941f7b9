import { type Grant, type Insight, reachOf, type Undo } from "../decision/batch.ts";
import { extraReachOf, obstacle, type Parts } from "../decision/decide.ts";
import { type State, withRecentEpoch } from "../decision/state.ts";
import type { Work } from "../decision/work.ts";
import type { Visit } from "../hand_over/guests.ts";
import { MOST_REQUESTS, type Verdict } from "../hand_over/hand_over.ts";
import { createTurns, type Turns } from "../hand_over/turns.ts";
import type { Demand } from "../rules/rule.ts";
import { Hints } from "../store/hints.ts";
import type { Identity, Ledger } from "../store/ledger.ts";
import type { Trips } from "../store/trips.ts";
import { Head } from "../waiting/head.ts";
import { LONG_WAIT_MS } from "../waiting/long_wait.ts";
import type { Caller, Refused } from "../waiting/outcome.ts";
import {
  isOverdue,
  leadOf,
  missOf,
  reservableMs,
  stepOf,
  whenToLook,
  whenToLookAgain,
  whenToReserve,
} from "../waiting/pacing.ts";
import { CERTAIN_MS } from "../waiting/patience.ts";
import { createPrefetch, type Prefetch, withStock } from "../waiting/prefetch.ts";
import { Waiter } from "../waiting/waiter.ts";
import { Waiting, type WaitingOwner } from "../waiting/waiting.ts";
import type { CellContext } from "./cell_context.ts";
import { Denials } from "./denials.ts";
import { createHoldings, type Holdings } from "./holdings.ts";
import type { Meter } from "./metrics.ts";
import { type Plan, planFor, planOf } from "./plan.ts";

/** What an {@link Agenda} needs from its owner. */
export interface AgendaOwner {
  readonly meter: Meter;
  /** A permit is lost: its lease ran out before it was renewed. */
  lost(permit: number): void;
  /** There may be something to decide now. */
  proceed(now: number): void;
}

/** A plan, and when to go on after it. */
export interface TimedPlan extends Plan {
  /** When to decide again about the first caller that the plan leaves waiting. */
  readonly resumeAt: number;
}

interface PendingUndo extends Undo {
  readonly resolve: () => void;
}

/**
 * Others are told that somebody waits here for a permit once they have taken one in the meantime, or after this long:
 * most waits are over by then.
 */
const MARK_AFTER_MS = 500;
/** No timer is shorter than this. */
const LEAST_TIMER_MS = 1;
/** How long to wait after a failure before the store is told again which permits are held. */
const TELL_AGAIN_MS = 500;

/**
 * What there is to decide about one key, and what was decided: who waits here, what is held or was granted ahead, what
 * goes back, and the work of others. It asks neither the store nor another process. A class, because there is one for
 * every key.
 */
export class Agenda implements WaitingOwner {
  readonly waiting: Waiting;
  /** The permits that this process holds and renews, where concurrency is limited. */
  readonly holdings: Holdings | undefined;
  /** The slots that were granted before anybody asked for them. */
  readonly prefetch: Prefetch | undefined;
  /** Why nothing can be requested any more. */
  ended: "closed" | "abandoned" | undefined;
  /** Set once a race was lost, or others have handed their work over. */
  turns: Turns | undefined;
  readonly #context: CellContext;
  readonly #owner: AgendaOwner;
  readonly #identity: Identity;
  readonly #ledger: Ledger;
  /** How far ahead moments are granted, in milliseconds. */
  readonly #reserveAheadMs: number;
  #undo = NOTHING_UNDONE;
  readonly #head = new Head();
  readonly #denials: Denials;
  #hints: Hints | undefined;

  /** The agenda of `identity` for the key of the ledger, with nothing to do yet. */
  constructor(context: CellContext, owner: AgendaOwner, identity: Identity, ledger: Ledger) {
    const { rules, permitRule, leaseMs, clockErrorMs, timingMarginMs, toleranceMs } = context;
    this.#context = context;
    this.#reserveAheadMs = reservableMs(context.reserveAheadMs, rules, context.store.retentionMs);
    this.#owner = owner;
    this.#identity = identity;
    this.#ledger = ledger;
    this.waiting = new Waiting(this, toleranceMs);
    this.#denials = new Denials(context, ledger, this.waiting.line, (now, deadline) => this.latestStart(now, deadline));
    if (context.prefetch > 0) this.prefetch = createPrefetch(rules, context.prefetch, this.#reserveAheadMs);
    if (permitRule === undefined) return;
    this.holdings = createHoldings({
      index: permitRule,
      owner: identity.id,
      leaseMs,
      // Another clock may be ahead, and the timer that reports the end of the lease may be late.
      marginMs: Math.min(clockErrorMs, leaseMs / 2) + Math.min(timingMarginMs, leaseMs / 10),
      onLost: (permit) => {
        this.#noteLoss();
        owner.lost(permit);
      },
    });
  }

  /** Whether nobody waits here and nothing is to be written. */
  get isIdle(): boolean {
    return this.waiting.isEmpty && this.#undo.length === 0 && (this.holdings?.renewAt ?? Infinity) === Infinity;
  }

  /** Whether a request that can be granted may be granted at once, because nothing comes before it or depends on it. */
  get isFree(): boolean {
    return !this.holdings && !this.prefetch && !this.ended && this.waiting.line.length === 0 && this.#undo.length === 0;
  }

  /** Whether there is something to decide or to write. */
  isDue(now: number): boolean {
    const { waiting: { line }, prefetch, holdings } = this;
    if (!this.ended && line.waiting === 0 && prefetch?.isLow(now)) return true;
    return this.#head.isDue(line, now) || this.#undo.length > 0 || this.turns?.hasGuests === true ||
      (holdings !== undefined && (now >= holdings.renewAt || (holdings.isMarked && line.waiting === 0)));
  }

  /**
   * Whether the store has to be told which permits are held, however often it has failed: a lease runs out by itself.
   */
  get isUrgent(): boolean {
    return this.holdings !== undefined && this.#context.store.clock.now() >= this.holdings.renewAt;
  }

  /** The waiter waits for a slot in stock, if there is one, and otherwise for a decision. */
  join(waiter: Caller, now: number): void {
    const slot = this.stocked(waiter.demand.cost, now);
    if (!slot) return this.waiting.line.join(waiter);
    this.prefetch?.take();
    this.waiting.schedule(waiter, slot);
  }

  /** The slot in stock for a request that comes now, if there is one. */
  stocked(cost: number, now: number): Grant | undefined {
    if (!this.prefetch || cost !== 1 || this.waiting.line.waiting > 0) return undefined;
    return this.waiting.inStock(this.prefetch, now);
  }

  /** Whether the permit of a grant was lost before its moment came. */
  isLost({ demand }: Grant): boolean {
    return this.holdings !== undefined && !this.holdings.has(demand.permit);
  }

  /** The refusal, if what is known makes it certain. */
  refusalNow(demand: Demand, now: number, deadline: number, isDown: boolean): Refused | undefined {
    const { known } = this.#ledger;
    if (!known || (this.#head.resumeAt <= now && deadline > now && !isDown)) return undefined;
    const ahead = this.waiting.line.cost;
    if (!this.#denials.startsTooLate(known, now, ahead, demand, deadline)) return undefined;
    if (isDown || this.#isCertain(now)) return this.#denials.refusal(known, now, demand, 0, ahead);
    // The request will most likely be refused. The store is asked now, so that this is certain soon.
    this.hurry();
    return undefined;
  }

  /** Whether what is known is recent, or nobody else can give anything back. */
  #isCertain(now: number): boolean {
    return this.#ledger.lends || now - this.#ledger.answeredAt < CERTAIN_MS;
  }

  /** Whether a plan refuses callers or makes them wait although something may be left by now. */
  isDated({ changed, batch: { waitsFor, refused } }: Plan): boolean {
    if (changed || (waitsFor === undefined && refused.length === 0)) return false;
    return !this.#isCertain(this.#context.store.clock.now());
  }

  /**
   * The latest moment at which a request may start. One that does not want to wait may start as soon as its answer is
   * here.
   */
  latestStart(now: number, deadline: number): number {
    return deadline > now ? deadline : now + this.leadAt(now);
  }

  /** A waiter has gone: its slot, if it had one, is given back. `isRunning` says whether something is being written. */
  leave(waiter: Caller, isRunning: boolean): void {
    this.#denials.noteEnd(waiter, this.#context.store.clock.now());
    const free = this.waiting.leave(waiter);
    const prefetch = free?.demand.cost === 1 ? this.prefetch : undefined;
    if (free && prefetch && prefetch.wish(this.#context.store.clock.now()).count > 0) prefetch.add(free, free.from);
    else if (free) this.drop(free);
    else if (!isRunning) {
      this.waiting.line.remove(waiter);
      // If nobody is left here, others must not wait for this process to have its turn.
      this.#proceed();
    }
  }

  /**
   * Takes back what was granted: the permit alone, or everything if the request never started. Resolves when that is
   * written, or when the store has failed: the store is then told later which permits are held, until their lease has
   * run out anyway.
   */
  giveBack(grant: Grant, unused: boolean): Promise<void> {
    return new Promise((resolve) => this.#takeBack({ grant, unused, resolve }));
  }

  /** Takes back a grant that nobody started with. */
  drop(grant: Grant): void {
    this.#takeBack({ grant, unused: true, resolve: nothing });
  }

  #takeBack(undo: PendingUndo): void {
    // The permit went with the state that counted it; what is counted now belongs to somebody else.
    if (this.ended === "abandoned") return undo.resolve();
    const { grant, unused } = undo;
    this.holdings?.drop(grant.demand.permit);
    this.#undoNext(undo);
    // A permit that comes back does not make any time come sooner.
    if (!unused) return this.#proceed();
    this.#head.hurry();
    // Grants that are dropped in the same turn are taken back together: then none stands in the way of another.
    void Promise.resolve().then(() => this.#proceed());
  }

  #proceed(): void {
    this.#owner.proceed(this.#context.store.clock.now());
  }

  #undoNext(undo: PendingUndo): void {
    // Most keys never give anything back: they share an empty list.
    if (this.#undo.length === 0) this.#undo = [undo];
    else this.#undo.push(undo);
  }

  /**
   * Answers everybody who waits, in order of arrival, and gives back what they had been granted, unless nothing is to
   * be written any more.
   */
  end(kind: "closed" | "abandoned"): void {
    this.ended = kind;
    const stock = this.prefetch?.clear() ?? [];
    const unused = [...stock, ...this.waiting.dismiss(kind)];
    if (kind === "closed") {
      for (const grant of unused) this.drop(grant);
      if (!this.holdings || this.holdings.size === 0) return;
      const now = this.#context.store.clock.now();
      this.holdings.dropAll();
      this.holdings.doubt(now);
    } else {
      this.holdings?.dropAll();
      for (const { resolve } of this.#undo.splice(0)) resolve();
    }
  }

  /** Collects everything that is to be decided here, with at most `most` of the requests. */
  #collect(now: number, most = Infinity): Work<Caller> {
    const { leaseMs, limitsRate, lateness, toleranceMs } = this.#context;
    const { prefetch, holdings } = this;
    const identity = this.#identity;
    // The order matters: checkLease() may find permits lost, #withAhead() may add to what is taken back, and toTell() and
    // next() count what they return as used.
    this.checkLease(now);
    const waiting = this.waiting.line.unanswered(most);
    const requests = prefetch ? this.#withAhead(prefetch, waiting, now, most) : waiting;
    const undos = this.#undo.length > 0 ? this.#undo.slice() : NOTHING_UNDONE;
    const held = holdings?.toTell(now);
    const firstPermit = holdings ? identity.next(requests.length) : 0;
    const [first] = waiting;
    return {
      owner: identity.id,
      leaseMs,
      undos,
      held,
      requests,
      firstPermit,
      since: first?.since ?? now,
      marks: first !== undefined && this.#isOvertaken(first, now),
      isMarked: holdings?.isMarked ?? false,
      isOverdue: first !== undefined && this.#isOverdue(first),
      lead: this.leadAt(now),
      // A rate would lose the time by which a grant counts later.
      slack: limitsRate ? 0 : missOf(lateness, toleranceMs),
      restraint: this.#head.restraint(now, this.#reserveAheadMs),
    };
  }

  /** The work that another process is to decide, which does not know what was taken back here. */
  workForOthers(now: number): Work<Caller> {
    const work = this.#collect(now, MOST_REQUESTS);
    if (work.undos.length === 0) return work;
    const { mixedUntil } = this.#ledger.insight;
    const undos = work.undos.map((undo) => undo.grant.at <= mixedUntil ? { ...undo, unused: false } : undo);
    return { ...work, undos };
  }

  /** The requests, followed by those for slots that somebody is likely to ask for. */
  #withAhead(prefetch: Prefetch, waiting: readonly Caller[], now: number, most: number): readonly Caller[] {
    // A caller that wants a different amount must not wait behind slots that nobody has asked for.
    if (waiting.some(({ demand: { cost } }) => cost !== 1)) {
      for (const grant of prefetch.clear()) this.#undoNext({ grant, unused: true, resolve: nothing });
    }
    const { count, keepMs } = prefetch.wish(now);
    const room = Math.min(count, most - waiting.length);
    if (this.ended || room <= 0) return waiting;
    const reserveAheadMs = this.#reserveAheadMs;
    // New callers reserve no further ahead than this either.
    const latest = now + reserveAheadMs - stepOf(reserveAheadMs);
    const demand: Demand = { cost: 1, owner: this.#identity.id, permit: 0 };
    const ahead: Caller = new Waiter(demand, now, latest, Infinity, undefined, keepMs);
    return [...waiting, ...Array.from({ length: room }, () => ahead)];
  }

  /**
   * Decides as much of the queue as can be decided now, and what the guests want, based on what is known to be stored.
   * It tells nobody: that is for {@link Agenda.commit}. `isFresh` says that what is known cannot have changed since.
   */
  plan(isFresh: boolean): TimedPlan {
    const { rules, store: { clock } } = this.#context;
    const now = clock.now();
    const own = this.#collect(now);
    const base = withRecentEpoch(rules, this.#ledger.base(now), now);
    const visit = this.turns?.guests(now, base.writers) ?? NO_VISIT;
    const terms = { now, horizon: now + this.#reserveAheadMs, isFresh };
    const insight = own.undos.length > 0 ? this.#insight : undefined;
    return this.#timed(planFor(rules, base, own, visit, terms, insight));
  }

  /** What is known about the grants in the state that is known to be stored. */
  get #insight(): Insight {
    const { insight } = this.#ledger;
    // What is in stock may start later than the moment it counts for, and what others take back is decided without this
    // knowledge.
    return this.prefetch || this.turns ? { ...insight, since: Infinity } : insight;
  }

  /**
   * The plan that another process has made for this work, which was sent at `sentAt`; `undefined` if it was made for
   * other work.
   */
  planOf(work: Work<Caller>, verdict: Verdict, sentAt: number): TimedPlan | undefined {
    const plan = planOf(this.#context.rules, work, verdict, sentAt);
    // The process that decides may reserve less far ahead: it is of no use to ask it sooner than it can grant anything.
    const { now, horizon } = verdict.terms;
    return plan && this.#timed(plan, Math.max(0, Math.min(this.#reserveAheadMs, horizon - now)));
  }

  /** The plan, after preparing the first caller that it leaves waiting. */
  #timed(plan: Plan, reserveAheadMs: number = this.#reserveAheadMs): TimedPlan {
    const changed = plan.changed || this.#ledger.needsWrite;
    return { ...plan, changed, resumeAt: this.#prepareToWait(plan, reserveAheadMs) };
  }

  /**
   * Sees to it that the first caller that the plan leaves waiting hears of what it waits for, and returns when to
   * decide about it again. `reserveAheadMs` is how far ahead moments are granted where that is decided.
   */
  #prepareToWait(
    { batch: { dealtWith, waitsFor, waitsUntil, granted }, requests, state }: Plan,
    reserveAheadMs: number,
  ): number {
    const head = requests[dealtWith];
    if (!head || head.isAhead || waitsFor === "doubt") return -Infinity;
    const { rules, random, store: { clock } } = this.#context;
    const now = clock.now();
    if (waitsFor === "time") {
      const hadItsTurn = granted.length > 0 || state.writers.at(-1)?.[0] === this.#identity.id;
      head.hold(waitsUntil);
      const { passedOver, demand, deadline } = head;
      const reachMs = reachOf(rules, reserveAheadMs, this.leadAt(now)) +
        (this.#isOverdue(head) ? extraReachOf(rules, demand.cost) : 0);
      const answerMs = this.#answers(now).ms;
      const held = { now, until: waitsUntil, deadline, reachMs, answerMs, passedOver, hadItsTurn, random: random() };
      const resumeAt = whenToReserve(held);
      return Math.min(resumeAt, whenToLookAgain(now, head.since, random()));
    }
    this.#meetFull(head, state.parts);
    this.#noteWait(head, now);
    this.listen();
    const { retryAt } = obstacle(rules, state.parts, now - state.epoch, head.demand);
    return Math.min(retryAt + state.epoch, whenToLook(now, head.since, random()));
  }

  #isOverdue({ passedOver }: Caller): boolean {
    const { rules, store: { retentionMs } } = this.#context;
    return isOverdue(passedOver, rules, this.#reserveAheadMs, retentionMs);
  }

  /** How much later than the moment of decision a grant counts. */
  leadAt(now: number): number {
    return leadOf(this.#answers(now), this.#context, this.waiting.missed, now);
  }

  /** How long it takes until what is decided is known here. */
  #answers(now: number): Trips {
    return this.turns?.answers(now) ?? this.#context.trips;
  }

  /** How much later it may be by the clocks of others: a lease is over as soon as it may be over for them. */
  get #behindMs(): number {
    const { store } = this.#context;
    return store.isClockStale === true ? store.readClock?.().errorMs ?? 0 : 0;
  }

  /** When everything that is held will be lost, unless it is renewed first, by a clock that may be behind. */
  get leaseUntil(): number {
    const { leaseUntil = Infinity } = this.holdings ?? {};
    return leaseUntil === Infinity ? Infinity : leaseUntil - this.#behindMs;
  }

  /** Finds out what is no longer held. */
  checkLease(now: number): void {
    this.holdings?.check(this.#ledger.known, now + this.#behindMs);
  }

  /** Whether others have taken permits, or may have, while the waiter waited for one. */
  #isOvertaken({ since, metFull }: Caller, now: number): boolean {
    const { known } = this.#ledger;
    if (!this.holdings) return false;
    if (now - since >= MARK_AFTER_MS) return true;
    return metFull !== undefined && known !== undefined && this.holdings.othersTook(metFull, known.parts);
  }

  #meetFull(waiter: Caller, parts: Parts): void {
    if (waiter.metFull) return;
    waiter.metFull = parts;
    this.#owner.meter.count("maxConcurrentReached");
  }

  #noteWait({ since }: Caller, now: number): void {
    const waitedMs = now - since;
    if (waitedMs < LONG_WAIT_MS) return;
    this.#context.onLongWait({ waitedMs, callers: this.waiting.line.waiting, held: this.holdings?.size ?? 0 });
  }

  #noteLoss(): void {
    const lease = this.holdings?.shortLease(this.#context.trips.ms);
    if (lease) this.#context.onShortLease(lease);
  }

  /** Tells everybody what was written. */
  commit(plan: TimedPlan): void {
    const now = this.#context.store.clock.now();
    const { waiting, holdings, prefetch } = this;
    if (plan.batch.waitsFor !== undefined || plan.batch.refused.length > 0) this.#denials.noteFull(now);
    const undone = plan.undone > 0 ? this.#undo.splice(0, plan.undone) : NOTHING_UNDONE;
    const decided = plan.dealtWith + (plan.resumeAt === -Infinity ? 0 : 1);
    for (let i = 0; i < decided && i < plan.requests.length; i++) plan.requests[i]!.attempts++;
    waiting.line.advance(plan.requests, plan.dealtWith);
    this.#head.leave(plan.requests[plan.dealtWith], plan.batch.waitsFor, plan.resumeAt);
    // The answer may have been on its way for longer than the lease lasts: somebody else may hold the permits by now.
    const isOver = holdings !== undefined && now >= holdings.leaseEnd(plan.state);
    const again: Caller[] = [];
    let stocked = 0;
    for (const { request: waiter, grant } of plan.batch.granted) {
      if (waiter.isAhead && !this.ended) {
        prefetch?.add(grant, plan.decidedAt + this.#reserveAheadMs);
        stocked++;
      } else if (waiter.failed) holdings?.doubt(now);
      else if (waiter.settled) this.drop(grant);
      else if (isOver) {
        this.drop(grant);
        again.push(waiter);
      } else {
        holdings?.hold(grant.demand.permit, now);
        waiting.serveOrSchedule(waiter, grant, now);
      }
    }
    holdings?.written(plan.state, plan.decidedAt, now);
    if (isOver) {
      this.#noteLoss();
      holdings.check(this.#ledger.known, now);
    }
    for (const { request: waiter, refusal } of plan.batch.refused) {
      if (refusal.rule.kind === "concurrency") this.#meetFull(waiter, plan.state.parts);
      if (!waiter.settled) waiting.line.settle(waiter, { ...refusal, kind: "refused", attempts: waiter.attempts });
    }
    if (this.#head.resumeAt > now) this.#denials.refuseBehind(plan.state, now);
    const left = waiting.serveDue(now);
    waiting.line.prepend([...again, ...left]);
    if (plan.ahead > 0) prefetch?.heard(plan.ahead, stocked, now);
    if (prefetch && !this.ended) waiting.serveFromStock(prefetch, now);
    for (const { resolve } of undone) resolve();
    this.turns?.served(plan.verdicts);
  }

  /** What is left for this process in a state. */
  withOwnStock(state: State, now: number): State {
    return withStock(this.#context.rules, state, this.prefetch, now);
  }

  /** The store failed: everybody who waits for it is told so. `mayStand` is what it may have written all the same. */
  fail(cause: unknown, mayStand: Plan | undefined, runningSince: number): void {
    const now = this.#context.store.clock.now();
    this.#denials.fail(cause, now, runningSince);
    this.waiting.line.clear();
    this.#head.hurry();
    this.turns?.fail();
    this.#forgetUndone(this.#undo.length, mayStand !== undefined && mayStand.batch.granted.length > 0, now);
    this.holdings?.failed(now, now + TELL_AGAIN_MS, mayStand?.state);
    this.prefetch?.pause(now + TELL_AGAIN_MS);
  }

  /** Nobody knows what another process made of this work. */
  doubt({ undos, requests }: Work<Caller>): void {
    this.#forgetUndone(undos.length, requests.length > 0, this.#context.store.clock.now());
  }

  /**
   * Forgets what was to be undone, because it may have been: undoing it again could give back what belongs to somebody
   * else by now. A permit is safe, because the store is told which ones are held.
   */
  #forgetUndone(count: number, mayHaveGranted: boolean, now: number): void {
    for (const { resolve } of this.#undo.splice(0, count)) resolve();
    if (count > 0 || mayHaveGranted) this.holdings?.doubt(now);
  }

  /** Too many races were lost. */
  giveUp(cause: unknown): void {
    this.#denials.giveUp(cause);
  }

  /** Somebody cannot wait: the store is asked now, whatever is known. */
  hurry(): void {
    this.#head.hurry();
  }

  /** The store is being asked: hints that come from now on are news. */
  forgetHint(): void {
    this.#head.asked();
  }

  /** Hears of released permits from now on, if the store can tell. */
  listen(): void {
    const { kv, clock } = this.#context.store;
    this.#hints ??= new Hints(kv, this.#ledger.key, () => {
      if (!this.#head.hinted()) return;
      // Taking a free permit oneself takes one trip less than having it taken by another process.
      const now = clock.now();
      this.turns?.hear(now);
      this.#owner.proceed(now);
    });
    this.#hints.listen();
  }

  /** Nobody waits for a permit any more. */
  unlisten(): void {
    this.#hints?.unlisten();
  }

  /** The turns that processes take in writing this key. */
  ensureTurns(): Turns {
    return this.turns ??= createTurns({
      ...this.#context,
      identity: this.#identity,
      ledger: this.#ledger,
      onGuest: (now) => this.#owner.proceed(now),
    });
  }

  /** Looks at everything that may be due. `runningSince` is since when the store is being asked, if it is. */
  wake(now: number, runningSince: number | undefined): void {
    const { waiting, prefetch } = this;
    this.checkLease(now);
    const left = waiting.serveDue(now);
    if (left.length > 0) {
      // What is being written concerns the head of the queue, which must stay as it is.
      if (runningSince !== undefined) waiting.line.append(left);
      else {
        waiting.line.prepend(left);
        if (prefetch) waiting.serveFromStock(prefetch, now);
      }
      this.#head.hurry();
    }
    if (now >= waiting.line.soonestDeadline) this.#denials.expire(now, runningSince);
  }

  /** When to look at what was already decided, and, unless the store is being asked, when to ask it. */
  wakeAt(isRunning: boolean): number {
    const { line } = this.waiting;
    if (isRunning) return this.#momentToWake();
    return Math.min(this.#momentToWake(), line.soonestDeadline, line.length > 0 ? this.#head.resumeAt : Infinity);
  }

  /** When to be woken for the next moment that was granted: sooner if timers are late. */
  #momentToWake(): number {
    const next = this.waiting.nextMoment;
    if (next === Infinity) return next;
    const { lateness, toleranceMs, store: { clock } } = this.#context;
    const missMs = missOf(lateness, toleranceMs);
    if (missMs === 0) return next;
    // If it was woken too soon, it waits for a timer again: a mere turn of the event loop would say nothing about how
    // late timers are.
    return Math.min(next, Math.max(next - missMs, clock.now() + LEAST_TIMER_MS));
  }
}

const nothing = () => {};
const NO_VISIT: Visit = { all: [], next: undefined };
const NOTHING_UNDONE: PendingUndo[] = []; // and nothing is ever put into it
