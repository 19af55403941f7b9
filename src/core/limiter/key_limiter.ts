import { checkConsume, checkOptions, namesOf, wrongArgument } from "../arguments.ts";
import type { Cell } from "../cell/cell.ts";
import { Meter, type RateLimiterMetrics } from "../cell/metrics.ts";
import type { ClockReading } from "../clock.ts";
import { leftIn } from "../decision/state.ts";
import { ConfigValidationError, NotSynchronousError } from "../errors.ts";
import type { LimiterConfig } from "../limiter_config.ts";
import { eraseKeys } from "../store/erase.ts";
import { type Decided, type Failed, type Granted, isDecided, type Outcome } from "../waiting/outcome.ts";
import { grantedResult, permitOf } from "./answers.ts";
import { ask, type Ending } from "./asking.ts";
import { type Form, PERMIT, RESULT, resultOf } from "./forms.ts";
import { NO_LEASE } from "./lease.ts";
import { Life, type LifeOwner, type Past, shorterOf } from "./life.ts";
import type { CheckOptions, ClosableLimiter, LimiterContext, Tentative } from "./limiter.ts";
import { peek, stateNow } from "./look.ts";
import { failure, noteAnswer, noteFailure } from "./outage.ts";
import type { AcquireOptions, LimiterState, Permit, RateLimitResult, SyncAcquireOptions } from "./result.ts";
import { closedError, localLimiter, move, mustBeOpen, readClock, type Shared } from "./shared.ts";
import { standIn } from "./stand_in.ts";
import { noteGrant, noteResult } from "./tally.ts";
import { type CallOptions, type SharedPatience, TOGETHER } from "./together.ts";
import { NO_OPTIONS, type Wish, wishOf } from "./wish.ts";

const CLOSED = "the limiter was closed, and has given it back.";
const BEGUN_ANEW = "the limiter was reset, and has begun anew.";
const MOVED = "the limiter has gone over to another store, as virtual time has begun or ended.";
const CHECK_NAMES = namesOf<CheckOptions>({ key: true, cost: true, timeoutMs: true, signal: true, consume: true });

/** The limiters of a limiter's keys. */
export interface KeyRing {
  /** The limiter of this key. */
  get(key: string): KeyLimiter;
  /** Applies `act` to all of them. */
  all(act: (limiter: KeyLimiter) => Promise<void>): Promise<void>;
}

/** The limiter of one key, or of the requests without a key. A class, because there is one for every key. */
export class KeyLimiter implements ClosableLimiter, LifeOwner {
  /** The key, for a keyed limiter. */
  readonly name: string | undefined;
  /** Whether anybody besides its limiter may have it. The limiter then keeps it as it is. */
  isHandedOut = false;
  /** Whether it was asked for again since somebody last looked. */
  isUsed = false;
  readonly #shared: Shared;
  /** The limiters of its keys, if it may have any. */
  readonly #keys: KeyRing | undefined;
  readonly #onRest: ((limiter: KeyLimiter) => void) | undefined;
  #id: string | undefined;
  #life: Life;
  /** How many calls are still to be counted. */
  #uncounted = 0;

  /**
   * Only the limiter itself has `keys`. For the limiter of a key, `name` is that key, `onRest` is called when it may no
   * longer be in use, and `past` is that of the limiter whose place it takes.
   */
  constructor(shared: Shared, keys?: KeyRing, name?: string, onRest?: (limiter: KeyLimiter) => void, past?: Past) {
    this.#shared = shared;
    this.name = name;
    this.#keys = keys;
    this.#onRest = onRest;
    this.#life = new Life(shared, this, past ?? this.#newborn());
  }

  get id(): string {
    const { id } = this.#shared.config;
    return this.#id ??= this.name === undefined ? id : `${id}:${this.name}`;
  }

  get life(): Life {
    return this.#life;
  }

  get initialized(): boolean {
    return this.#keys ? this.#shared.isOpened : this.#life.opened;
  }

  /** Whether nobody waits, here or in the limiter that stands in for its store, and nothing is held. */
  get idle(): boolean {
    return this.#uncounted === 0 && this.#life.idle;
  }

  /**
   * What is left of it once it is forgotten, which is what another one needs to take its place; `undefined` if it is
   * needed itself.
   */
  get past(): Past | undefined {
    return this.isHandedOut || !this.idle ? undefined : this.#life.past;
  }

  /** It is about to be forgotten, but may be used again by callers that still have it. */
  park(): void {
    this.#life.cell?.park();
  }

  /** It may not be in use any more. */
  rested(): void {
    this.#onRest?.(this);
  }

  async initialize(): Promise<void> {
    this.#mustBeOpen();
    const life = this.#life;
    try {
      const cell = life.cell ?? await life.open({ ms: this.#shared.config.backendTimeoutMs }, undefined);
      // What is wrong with the store is wrong for all keys.
      if (this.#keys) await this.#probe(cell);
      this.#mustBeOpen();
    } catch (error) {
      this.#mustBeOpen();
      if (error instanceof ConfigValidationError) throw error;
      noteFailure(this.#shared, life.meter, error);
      if (this.#shared.config.onFailure === "closed") throw failure(this.id, error, 0);
    }
  }

  /** Concurrent calls share one attempt, and there is none after one that has succeeded. */
  async #probe(cell: Cell): Promise<void> {
    const shared = this.#shared;
    const probe = shared.probe ??= cell.probe();
    try {
      await probe;
    } catch (error) {
      if (shared.probe === probe) shared.probe = undefined;
      throw error;
    }
  }

  acquire(options: AcquireOptions = NO_OPTIONS): Promise<Permit> {
    return this.#ask(options, this.#shared.config.timeoutMs ?? Infinity, PERMIT);
  }

  tryAcquire(options: AcquireOptions = NO_OPTIONS): Promise<RateLimitResult> {
    return this.#ask(options, 0, RESULT);
  }

  tryAcquireSync(options: SyncAcquireOptions = NO_OPTIONS): RateLimitResult {
    const limiter = options === NO_OPTIONS ? this : this.#at(checkOptions(options).key);
    limiter.#mustBeOpen();
    const wish = wishOf(limiter.#shared, limiter, options, 0);
    const life = limiter.#life;
    const now = life.clock.now();
    const cell = life.cellNow();
    const again = cell?.refusedAgain(wish.cost, now);
    if (!again && cell?.takeNow(wish.cost, now)) {
      noteGrant(life, now, 0, false);
      return RESULT.taken(life, cell, now);
    }
    const outcome = again ?? cell?.answerNow(wish.cost, now, now);
    if (!isDecided(outcome)) throw new NotSynchronousError(limiter.id);
    return limiter.#formed(RESULT, life, outcome, 0, wish, now);
  }

  async tryTake(options: CallOptions = NO_OPTIONS): Promise<Tentative> {
    const limiter = this.#at(checkOptions(options).key);
    limiter.#uncounted++;
    try {
      const { result, keep, cancel } = await limiter.#tryTakeHere(options);
      return {
        result,
        keep() {
          keep();
          limiter.#counted();
        },
        async cancel() {
          try {
            return await cancel();
          } finally {
            limiter.#counted();
          }
        },
      };
    } catch (error) {
      limiter.#counted();
      throw error;
    }
  }

  async #tryTakeHere(options: CallOptions): Promise<Tentative> {
    const wish = wishOf(this.#shared, this, options, 0);
    let answer = await ask(this, options, wish);
    while (answer.outcome.kind === "failed") {
      const instead = await standIn({ ...answer, outcome: answer.outcome }, options);
      if (!("backAfterMs" in instead)) return instead;
      answer = await ask(this, options, wish, instead.backAfterMs);
    }
    const { life, outcome, waitedMs } = answer;
    const result = resultOf(life, outcome, waitedMs, life.clock.now());
    return {
      result,
      keep: () => noteResult(life, result),
      cancel: () => outcome.kind === "granted" ? this.#cancelled(outcome, life, options) : Promise.resolve(result),
    };
  }

  /** A call that took time has been counted. */
  #counted(): void {
    this.#uncounted--;
    this.rested();
  }

  async check(given: CheckOptions & SharedPatience = NO_OPTIONS): Promise<RateLimitResult> {
    const { consume: isConsuming, ...options } = checkOptions(given, CHECK_NAMES);
    if (checkConsume(isConsuming)) return await this.tryAcquire(options);
    const limiter = this.#at(options.key);
    const { cost, signal } = wishOf(limiter.#shared, limiter, options, 0);
    return await peek(limiter.#life, cost, options, signal);
  }

  async getState(): Promise<LimiterState> {
    return await stateNow(this.#life);
  }

  getMetrics(): RateLimiterMetrics {
    return this.#life.meter.snapshot(this.#life.context.breaker.state);
  }

  getConfig(): LimiterConfig {
    return Object.freeze({ ...this.#shared.config });
  }

  getClock(): ClockReading {
    return readClock(this.#life.context);
  }

  key(name: string): KeyLimiter {
    const limiter = this.#keyed(name);
    limiter.isHandedOut = true;
    return limiter;
  }

  async close(): Promise<void> {
    this.#shared.isClosed = true;
    this.#life.end(CLOSED);
    await Promise.all([
      this.#life.cell?.close(),
      this.#keys?.all((limiter) => limiter.close()),
      this.#keys && this.#standIn?.close(),
    ]);
    if (this.#keys) this.#shared.cells.desk?.close();
  }

  async reset(): Promise<void> {
    this.#mustBeOpen();
    let letBegin = () => {};
    const erased = new Promise<void>((resolve) => letBegin = resolve);
    try {
      await this.restart(erased);
      await this.#erase();
      this.#shared.isOpened = this.#life.opened = true;
    } finally {
      letBegin();
    }
  }

  async restart(erased: Promise<void>): Promise<void> {
    const standIn = this.#standIn;
    await Promise.all([
      this.#beginAnew(erased),
      this.#keys?.all((limiter) => limiter.#beginAnew(erased)),
      standIn?.reset(),
    ]);
  }

  /** The limiter that takes the place of a store that failed, if there is to be one. */
  get #standIn(): ClosableLimiter | undefined {
    return this.#shared.config.onFailure === "local" ? localLimiter(this.#life.context, this.name) : undefined;
  }

  async move(context: LimiterContext): Promise<void> {
    const { desk } = this.#shared.cells;
    const standIn = this.#standIn;
    move(this.#shared, context);
    await Promise.all([
      this.#closeAndBeginAnew(),
      this.#keys?.all((limiter) => limiter.#closeAndBeginAnew()),
      standIn?.close(),
    ]);
    desk?.close();
  }

  /**
   * The past of a limiter to which nothing has happened. What is counted for a key is counted for the whole limiter
   * too.
   */
  #newborn(): Past {
    const shared = this.#shared;
    const meter = this.#keys ? shared.meter = new Meter() : new Meter(shared.meter);
    return { meter, knowledge: undefined };
  }

  #mustBeOpen(): void {
    mustBeOpen(this.#shared, this.id);
  }

  /** The limiter that counts for a key, if there is one. */
  #at(name: string | undefined): KeyLimiter {
    return name === undefined ? this : this.#keyed(name);
  }

  #keyed(name: string): KeyLimiter {
    if (this.#keys) return this.#keys.get(name);
    throw wrongArgument(
      `Limiter '${this.id}' counts for one key already`,
      "key",
      `a call of key() on '${this.#shared.config.id}'`,
      name,
    );
  }

  /** An error that is thrown before there is a promise rejects it. */
  #ask<T>(options: AcquireOptions, defaultTimeoutMs: number, form: Form<T>): Promise<T> {
    try {
      const limiter = options === NO_OPTIONS ? this : this.#at(checkOptions(options).key);
      return limiter.#askHere(options, wishOf(limiter.#shared, limiter, options, defaultTimeoutMs), form);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #askHere<T>(options: CallOptions, wish: Wish, form: Form<T>): Promise<T> {
    const life = this.#life;
    const { cost, timeoutMs, signal } = wish;
    const isAnswered = this.#shared.isClosed || signal?.aborted === true;
    const now = life.clock.now();
    const cell = isAnswered || options[TOGETHER] ? undefined : life.cellNow();
    if (!cell) return this.#askLater(options, wish, 0, form);
    const again = timeoutMs === 0 ? cell.refusedAgain(cost, now) : undefined;
    if (!again && cell.takeNow(cost, now)) {
      noteAnswer(this.#shared);
      noteGrant(life, now, 0, false);
      return Promise.resolve(form.taken(life, cell, now));
    }
    const outcome = again ?? cell.answerNow(cost, now, now + timeoutMs);
    if (isDecided(outcome)) return Promise.resolve(this.#formed(form, life, outcome, 0, wish, now));
    if (outcome) return this.#askOn(outcome, life, options, wish, 0, form);
    return this.#wait(life, cell, options, wish, now, form);
  }

  /**
   * Like {@link KeyLimiter.#askHere}, for a caller that waits. A separate method, because what its closures need would
   * cost callers that do not wait.
   */
  #wait<T>(life: Life, cell: Cell, options: CallOptions, wish: Wish, now: number, form: Form<T>): Promise<T> {
    const { cost, timeoutMs, signal } = wish;
    return new Promise((resolve, reject) => {
      const settle = (outcome: Outcome) => {
        const decidedAt = outcome.kind === "granted" ? outcome.servedAt : life.clock.now();
        const waitedMs = Math.max(0, decidedAt - now);
        if (!isDecided(outcome)) return resolve(this.#askOn(outcome, life, options, wish, waitedMs, form));
        try {
          // A caller that does not want to wait has not waited, however long the store takes to answer.
          resolve(this.#formed(form, life, outcome, timeoutMs === 0 ? 0 : waitedMs, wish, decidedAt));
        } catch (error) {
          reject(error);
        }
      };
      const onAbort = signal && (() => {
        life.meter.count("aborted");
        reject(signal.reason);
      });
      cell.request(cost, now, now + timeoutMs, settle, signal, onAbort);
    });
  }

  #formed<T>(form: Form<T>, life: Life, outcome: Decided, waitedMs: number, wish: Wish, now: number): T {
    // A refusal may come from what was known before the store failed, and a slot from what was taken before.
    if (outcome.kind === "granted" && outcome.attempts > 0) noteAnswer(this.#shared);
    return form.of(life, outcome, waitedMs, wish, now);
  }

  /** Goes on with a request that the store did not decide. */
  async #askOn<T>(
    outcome: Exclude<Outcome, Decided>,
    life: Life,
    options: AcquireOptions,
    wish: Wish,
    waitedMs: number,
    form: Form<T>,
  ): Promise<T> {
    if (outcome.kind === "closed") throw closedError(this.id);
    if (outcome.kind === "abandoned") return await this.#askLater(options, wish, waitedMs, form);
    const { timeoutMs } = wish;
    const waited = timeoutMs === 0 ? 0 : waitedMs;
    return await this.#formedWithoutStore({ life, outcome, waitedMs: waited, timeoutMs }, options, wish, form);
  }

  async #askLater<T>(options: AcquireOptions, wish: Wish, waitedMs: number, form: Form<T>): Promise<T> {
    this.#uncounted++;
    try {
      const answer = await ask(this, options, wish, waitedMs);
      const { life, outcome } = answer;
      if (outcome.kind !== "failed") return form.of(life, outcome, answer.waitedMs, wish, life.clock.now());
      return await this.#formedWithoutStore({ ...answer, outcome }, options, wish, form);
    } finally {
      this.#counted();
    }
  }

  async #formedWithoutStore<T>(
    answer: Ending<Failed>,
    options: AcquireOptions,
    wish: Wish,
    form: Form<T>,
  ): Promise<T> {
    this.#uncounted++;
    const { localClock } = answer.life.context;
    const begun = localClock.now();
    try {
      const instead = await standIn(answer, options);
      if ("backAfterMs" in instead) return await this.#askLater(options, wish, instead.backAfterMs, form);
      instead.keep();
      return form.instead(instead.result, { ...answer, waitedMs: answer.waitedMs + localClock.now() - begun });
    } finally {
      this.#counted();
    }
  }

  /** Takes back a grant that nobody used. */
  async #cancelled({ grant }: Granted, life: Life, options: CallOptions): Promise<RateLimitResult> {
    const written = life.cancel(grant);
    const answerBy = life.answerBy(options);
    const { localClock } = life.context;
    const begun = localClock.now();
    const overdue = () => life.wasSilent(options, localClock.now() - begun);
    if (answerBy === Infinity) await written;
    else await life.inTime(written, "it did not answer", shorterOf(Infinity, answerBy - begun)).catch(overdue);
    const { epoch, before } = grant;
    const permit = permitOf(this.id, NO_LEASE, 0, false);
    return grantedResult(leftIn(this.#shared.rules, { epoch, parts: before }, life.clock.now()), permit);
  }

  async #beginAnew(erased: Promise<void>): Promise<void> {
    const old = this.#life;
    this.#life = new Life(this.#shared, this, this.#newborn(), old.beginsAfter(erased));
    this.#life.opened = old.opened;
    old.end(BEGUN_ANEW);
    await (await old.lastCell())?.abandon();
  }

  async #closeAndBeginAnew(): Promise<void> {
    const old = this.#life;
    this.#life = new Life(this.#shared, this, this.#newborn());
    old.end(MOVED);
    await (await old.lastCell())?.close();
  }

  /** Deletes what stands in the store for it and for all its keys. */
  async #erase(): Promise<void> {
    const { config, context } = this.#shared;
    const { place } = this.#life;
    const root = typeof place === "string" ? place : await place();
    await eraseKeys(config.storeId, context.store, {
      keys: [root],
      // An encoded part has no dot in it, so nothing else begins like this.
      ...(this.name === undefined ? { prefix: `${root}.` } : {}),
      timeoutMs: config.backendTimeoutMs,
      clock: context.localClock,
    });
    context.breaker.succeeded();
  }
}
