import type { State } from "../decision/state.ts";
import type { Recipient, Respond } from "../hand_over/desk.ts";
import type { ForeignWork } from "../hand_over/hand_over.ts";
import { Room } from "../hand_over/room.ts";
import { canWaitForAnswer } from "../hand_over/turns.ts";
import type { Visitor } from "../store/gate.ts";
import { type Identity, isNotApplied, type Ledger } from "../store/ledger.ts";
import { tooBusy, tooManyRaces } from "../store/silence.ts";
import { pauseAfter } from "../waiting/pacing.ts";
import type { Agenda, TimedPlan } from "./agenda.ts";
import type { CellContext } from "./cell_context.ts";
import type { Meter } from "./metrics.ts";

/** What a {@link Loop} needs from its owner. */
export interface LoopOwner {
  readonly meter: Meter;
  /** Something was decided: there may be other times to wake up at. */
  decided(): void;
  /** Nothing is being written any more. */
  stopped(): void;
}

interface Peek {
  resolve(state: State): void;
  reject(error: unknown): void;
}

/** A write by another process counts as a race only if this process has heard of the key no longer ago than this. */
const RACE_MS = 1_000;
/**
 * A process that has lost races for this long tries again without pauses, so that it finds the room that others make.
 */
const STARVED_MS = 500;

/**
 * The compare-and-set loop of one key: decides everything on the agenda and writes it, or has another process do so,
 * until nothing is due. A class, because there is one for every key.
 */
export class Loop implements Recipient, Visitor {
  readonly agenda: Agenda;
  readonly #context: CellContext;
  readonly #owner: LoopOwner;
  readonly #identity: Identity;
  readonly #ledger: Ledger;
  #peeks = NOBODY;
  #room: Room | undefined;
  #isRunning = false;
  #isInside = false;
  /** When it last came to the gate. */
  #waitsSince = -Infinity;
  /** Whether nobody else can have written since this process last wrote or read, because that was only just now. */
  #isFresh = false;
  /** What is being written, or was when the store failed. */
  #writing: TimedPlan | undefined;
  /** Called when nothing is being written any more. */
  #onRest = NOBODY_WAITS;

  /** A loop at rest. */
  constructor(context: CellContext, owner: LoopOwner, identity: Identity, ledger: Ledger, agenda: Agenda) {
    this.#context = context;
    this.#owner = owner;
    this.#identity = identity;
    this.#ledger = ledger;
    this.agenda = agenda;
  }

  /** Whether something is being written, or waits to be. */
  get isRunning(): boolean {
    return this.#isRunning;
  }

  /** Whether the gate has let it in. */
  get isInside(): boolean {
    return this.#isInside;
  }

  /** Since when it wants to ask the store, if it does. */
  get runningSince(): number | undefined {
    return this.#isRunning ? this.#waitsSince : undefined;
  }

  /** Begins to work if there is something to do, unless it is working already. */
  proceed(now: number): void {
    if (!this.#isRunning && this.#hasWork(now) && !this.#runNow()) this.#enterGate(now);
  }

  /** Resolves to what stands in the store now. */
  peek(): Promise<State> {
    return new Promise((resolve, reject) => this.#peeks = [...this.#peeks, { resolve, reject }]);
  }

  /** Tells those that wanted to know what stands in the store. */
  tell(state: State): void {
    for (const peek of this.#takePeeks()) peek.resolve(state);
  }

  #takePeeks(): readonly Peek[] {
    const peeks = this.#peeks;
    this.#peeks = NOBODY;
    return peeks;
  }

  /** Resolves when nothing is being written any more. May only be called while the loop is running. */
  whenAtRest(): Promise<void> {
    return new Promise((resolve) => this.#onRest = [...this.#onRest, resolve]);
  }

  /** Another process hands its work over. */
  receive(foreign: ForeignWork, respond: Respond): void {
    this.agenda.ensureTurns().receive(foreign, respond);
  }

  /** A process whose work cannot be decided here wants to write. */
  makeRoom(): void {
    this.#room?.make(this.#context.store.clock.now());
  }

  /** From now on until the next write, nobody can hand anything over. */
  shut(): void {
    this.#context.desk?.shut(this.#identity.id, this.#ledger.key, this);
    // What is being written may concern some guests: they are told what became of it, and the others are sent away
    // after that.
    if (!this.#isInside) this.agenda.turns?.dismiss();
  }

  /** The gate lets it ask the store now. */
  admitted(isEarly: boolean): void {
    if (isEarly) {
      const { storeId, store, backendTimeoutMs } = this.#context;
      const waitedMs = store.clock.now() - this.#waitsSince;
      // The store has failed those that came before: there is no time left to ask it for this one as well.
      if (waitedMs >= backendTimeoutMs / 2) this.#fail(tooBusy(storeId, store, waitedMs));
    }
    void this.#run();
  }

  #hasWork(now: number): boolean {
    if (this.agenda.ended === "abandoned") return false;
    return this.#peeks.length > 0 || this.agenda.isDue(now);
  }

  #enterGate(now: number): void {
    this.#isRunning = true;
    this.#waitsSince = now;
    // A lease runs out, however busy the store is.
    this.#context.gate.enter(this, this.agenda.holdings !== undefined);
  }

  /** Like {@link Loop.#run}, if no conversation with the store is needed. Returns whether that is so. */
  #runNow(): boolean {
    const ledger = this.#ledger;
    if (!ledger.lends) return false;
    const { clock } = this.#context.store;
    this.#isRunning = true;
    try {
      for (let now = clock.now(); this.#hasWork(now); now = clock.now()) {
        ledger.borrow(now);
        this.agenda.forgetHint();
        this.#show(this.#takePeeks());
        const plan = this.agenda.plan(true);
        if (plan.changed) ledger.put(plan);
        this.#commit(plan);
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#isRunning = false;
    }
    return true;
  }

  async #run(): Promise<void> {
    const { gate, store: { clock } } = this.#context;
    const { agenda } = this;
    const { waiting } = agenda;
    const tell = () => agenda.turns?.tell();
    this.#isInside = true;
    this.#isFresh = false;
    while (this.#hasWork(clock.now())) {
      await waiting.gather(tell);
      // Sent together with the next write, if there is one, it wakes the server only once.
      tell();
      try {
        await this.#round();
      } catch (error) {
        this.#fail(error);
        // Nobody has to queue for a store that does not answer: it is not busy.
        if (!isNotApplied(error)) gate.open();
      }
      // Those whose slot was missed have already waited for their turn, and go on.
      if (gate.isCrowded && waiting.missed === 0) break;
    }
    this.#isInside = false;
    tell();
    if (agenda.ended) agenda.turns?.dismiss();
    gate.leave();
    const now = clock.now();
    if (this.#hasWork(now)) return this.#enterGate(now);
    this.#isRunning = false;
    const onRest = this.#onRest;
    this.#onRest = NOBODY_WAITS;
    for (const resolve of onRest) resolve();
    this.#owner.stopped();
  }

  /**
   * Decides what is waiting and writes it, again and again until nobody else is faster; or has it decided elsewhere.
   */
  async #round(): Promise<void> {
    const ledger = this.#ledger;
    const agenda = this.agenda;
    const { storeId, maxRetries, retryIntervalMs, random, store: { clock } } = this.#context;
    const begunAt = clock.now();
    let pause = 1;
    let races = 0;
    /** How many of these races the callers that wait can have lost. */
    let lost = 0;
    let hasAsked = false;
    let refused: readonly TimedPlan[] = NOTHING_REFUSED;
    while (agenda.ended !== "abandoned") {
      if (this.#peeks.length > 0) {
        const plan = await this.#readFor(refused);
        if (plan) return this.#finish(plan);
      }
      const leader = agenda.turns?.leader(clock.now());
      if (leader !== undefined) {
        if (await this.#ask(leader)) return;
        hasAsked = true;
        continue;
      }
      if (ledger.needsRead) {
        const plan = await this.#readFor(refused);
        if (plan) return this.#finish(plan);
        if (races > 0 && !hasAsked) this.#followWriter();
        if (agenda.turns?.leader(clock.now()) !== undefined) continue;
      }
      const pausing = this.#pauseForOthers();
      if (pausing) {
        await pausing;
        this.#isFresh = false;
      }
      const known = agenda.plan(this.#isFresh);
      const plan = (known.isDoubtful && !known.changed) || agenda.isDated(known) ? await this.#planAnew(known) : known;
      if (!plan.changed) return this.#finish(plan);
      const isRace = clock.now() - ledger.answeredAt < RACE_MS;
      const isWritten = await this.#write(plan);
      this.#writing = undefined;
      if (isWritten) return this.#finish(plan);
      refused = [...refused.filter(({ state }) => ledger.mayStand(state)), plan];
      // Somebody has written the key since this process last heard of it, which may be long ago.
      if (!isRace) continue;
      this.#owner.meter.count("casFailures");
      if (++lost > maxRetries) {
        agenda.giveUp(tooManyRaces(storeId, lost));
        // Callers that come from now on have lost none of them.
        lost = 0;
      }
      hasAsked = false;
      const isStarved = clock.now() - begunAt > STARVED_MS;
      if (races > 0 && !isStarved) await clock.sleep(pause = pauseAfter(pause, retryIntervalMs, random()));
      races++;
    }
  }

  /** Reads the key and plans again, because the plan on what was known may be out of date. */
  async #planAnew(plan: TimedPlan): Promise<TimedPlan> {
    try {
      await this.#read();
    } catch (error) {
      // A caller that only waits for its time goes on waiting: there was no need to look whether it comes sooner.
      if (plan.isDoubtful || plan.batch.waitsFor !== "time") throw error;
      return plan;
    }
    return this.agenda.plan(true);
  }

  /**
   * Pauses while others have room to write. Nobody can be waiting for this process on a key that it has not written
   * yet.
   */
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
    this.agenda.ensureTurns().lose(winner, this.#context.store.clock.now());
  }

  /** Reads the key. Returns the refused state that stands in the store all the same, if any. */
  async #read(): Promise<State | undefined> {
    const ledger = this.#ledger;
    const peeks = this.#takePeeks();
    this.agenda.forgetHint();
    try {
      const written = await ledger.read(this.agenda.isUrgent);
      this.#isFresh = true;
      this.#show(peeks);
      return written;
    } catch (error) {
      for (const peek of peeks) peek.reject(error);
      throw error;
    }
  }

  /** Answers those that wanted to know what stands in the store, which is known now. */
  #show(peeks: readonly Peek[]): void {
    if (peeks.length === 0) return;
    const now = this.#context.store.clock.now();
    const state = this.agenda.withOwnStock(this.#ledger.base(now), now);
    for (const peek of peeks) peek.resolve(state);
  }

  /**
   * Reads the key, and returns the plan that stands there although it was refused, if any: carrying it out again could
   * give something back twice.
   */
  async #readFor(refused: readonly TimedPlan[]): Promise<TimedPlan | undefined> {
    const written = await this.#read();
    return written && refused.find(({ state }) => state === written);
  }

  /**
   * Writes the plan. Callers that wait for a permit elsewhere are told already now: the hint reaches them while the
   * answer is on its way here, and what they read then has been written. If it comes too early, the hint after the
   * answer does not.
   */
  #write(plan: TimedPlan): Promise<boolean> {
    this.#writing = plan;
    this.agenda.forgetHint();
    const writing = this.#ledger.write(plan, this.agenda.isUrgent);
    // From now on others may lose races against this process.
    if (!this.agenda.ended) this.#context.desk?.open(this.#identity.id, this.#ledger.key, this);
    this.#announce(plan);
    return writing;
  }

  /** Has everything decided by another process. Returns whether it was. */
  async #ask(leader: string): Promise<boolean> {
    const { clock } = this.#context.store;
    const agenda = this.agenda;
    const turns = agenda.ensureTurns();
    const sentAt = clock.now();
    const work = agenda.workForOthers(sentAt);
    // Permits that are released while the answer is on its way must not go unheard.
    if (agenda.holdings && work.requests.some(({ patient }) => patient)) agenda.listen();
    agenda.forgetHint();
    this.#isFresh = false;
    const heard = await turns.ask(leader, work);
    if (heard.kind === "declined") return false;
    const plan = heard.kind === "decided" ? agenda.planOf(work, heard.verdict, sentAt) : undefined;
    if (!plan) {
      turns.disbelieve();
      agenda.doubt(work);
      return false;
    }
    this.#ledger.learn(plan.state);
    this.#commit(plan);
    return true;
  }

  /** Commits a plan. If it was written, nobody else can have written since. */
  #finish(plan: TimedPlan): void {
    this.#isFresh = plan.changed;
    this.#commit(plan);
  }

  #commit(plan: TimedPlan): void {
    this.agenda.commit(plan);
    this.#owner.decided();
    this.#announce(plan);
  }

  #announce({ givesBack, state, decidedAt }: TimedPlan): void {
    const { rules, permitRule, store: { kv } } = this.#context;
    if (!givesBack || permitRule === undefined) return;
    const { remaining } = rules[permitRule]!.usage(state.parts[permitRule]!, decidedAt - state.epoch);
    if (remaining > 0) kv.announce?.(this.#ledger.key);
  }

  /** The store failed: everybody who waits for it is told so. */
  #fail(cause: unknown): void {
    for (const peek of this.#takePeeks()) peek.reject(cause);
    this.#isFresh = false;
    const mayStand = isNotApplied(cause) ? undefined : this.#writing;
    this.#writing = undefined;
    this.agenda.fail(cause, mayStand, this.runningSince ?? Infinity);
  }
}

const NOBODY: readonly Peek[] = [];
const NOBODY_WAITS: readonly (() => void)[] = [];
const NOTHING_REFUSED: readonly TimedPlan[] = [];
