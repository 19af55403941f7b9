import { checkConsume, checkCost, checkKey, checkOptions, checkSignal, checkTimeout, shown } from "./arguments.ts";
import type { Grant } from "./batch.ts";
import type { CircuitBreaker } from "./breaker.ts";
import { messageOf } from "./cause.ts";
import { Cell, type Outcome } from "./cell.ts";
import type { Clock, ClockReading } from "./clock.ts";
import { earliestStart, earliestStartBehind, maximumCost, type Obstacle, obstacle, scarcest } from "./decide.ts";
import {
  ConfigValidationError,
  ImpossibleCostError,
  InvalidArgumentError,
  NotSynchronousError,
  RateLimiterAcquisitionError,
  StoreUnavailableError,
} from "./errors.ts";
import { eraseKeys } from "./erase.ts";
import { createHandOver, type HandOver } from "./hand_over.ts";
import { type Digest, storeKey } from "./key.ts";
import { because, createLedger, type Finding, type Identity } from "./ledger.ts";
import { createLease, type Lease, LeasedPermit, type LosableLease, NO_LEASE } from "./lease.ts";
import type { LimiterConfig } from "./limiter_config.ts";
import type { Logger } from "./logger.ts";
import { createMeter, type Meter, type RateLimiterMetrics } from "./metrics.ts";
import type {
  AcquireOptions,
  LimiterState,
  Permit,
  RateLimitFacts,
  RateLimitResult,
  SyncAcquireOptions,
} from "./result.ts";
import { rulesOf } from "./rules/rules.ts";
import type { Rule, Usage } from "./rules/rule.ts";
import { type Codec, freshState, type State, stateCodec } from "./state.ts";
import { opensNothing, type Store } from "./store.ts";

/**
 * What a check may ask for.
 *
 * @example
 * ```ts
 * import { checkLimiter, configureLimiter } from "@ratesync/core";
 *
 * configureLimiter("checked", { ratePerSecond: 10, burst: 3 });
 * const peek = await checkLimiter("checked", { consume: false });
 * console.log(peek.allowed, peek.remaining); // true 3
 * ```
 */
export interface CheckOptions extends AcquireOptions {
  /**
   * Whether an allowed request is counted. With `false` nothing is used up, and `remaining` is what is left now.
   *
   * @default {true}
   */
  readonly consume?: boolean | undefined;
}

/**
 * One limit, shared with every process that has a limiter with the same id on the same store. Most callers want
 * {@link Limiter.acquire}, which waits; {@link Limiter.tryAcquire} is for those who would rather answer "too many requests".
 *
 * @example
 * ```ts
 * import { createRateSync } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("api", { ratePerSecond: 100 });
 * const limiter = rateSync.getLimiter("api");
 * await limiter.acquire();
 * ```
 */
export interface Limiter {
  /** The limiter's id; for a keyed limiter `id:key`. */
  readonly id: string;
  /** Whether the store has been opened for it. */
  readonly initialized: boolean;
  /** Opens the store, which the first use does too, and checks that it can keep this limiter's limits. Idempotent. */
  initialize(): Promise<void>;
  /**
   * Waits for a slot, and resolves when it has come.
   *
   * @throws {RateLimiterAcquisitionError} if no slot can be had within the timeout, or if the store failed and the limiter
   * fails closed.
   * @throws {ImpossibleCostError} if no wait would be long enough.
   */
  acquire(options?: AcquireOptions): Promise<Permit>;
  /**
   * Takes a slot if there is one now, or within `timeoutMs`; a refusal is an answer and uses nothing up.
   *
   * @throws {RateLimiterAcquisitionError} only if the store failed and the limiter fails closed.
   * @throws {ImpossibleCostError} if no wait would be long enough.
   */
  tryAcquire(options?: AcquireOptions): Promise<RateLimitResult>;
  /**
   * As {@link Limiter.tryAcquire}, for who needs no promise: with a store in the memory of this process, and elsewhere for
   * a refusal that is certain without asking.
   *
   * @throws {NotSynchronousError} if the answer takes a conversation with the store. Nothing was used up, and
   * `tryAcquire()` has the answer.
   * @throws {ImpossibleCostError} if no wait would be long enough.
   */
  tryAcquireSync(options?: SyncAcquireOptions): RateLimitResult;
  /** As {@link Limiter.tryAcquire}; with `consume: false` it only looks. */
  check(options?: CheckOptions): Promise<RateLimitResult>;
  /** What is left, as all processes see it. Uses nothing up. */
  getState(): Promise<LimiterState>;
  /**
   * What this process has done with it: with all its keys together, those that were forgotten since included. What it did
   * with one key alone: `key(k).getMetrics()`.
   */
  getMetrics(): RateLimiterMetrics;
  /** How it is configured. */
  getConfig(): LimiterConfig;
  /** The time that it goes by, and how exactly this process knows it. */
  getClock(): ClockReading;
  /** The limiter of the same kind that counts for `key` alone. Kept while it is in use, and made again when needed. */
  key(key: string): Limiter;
}

/** What a limiter needs from outside. */
export interface LimiterContext {
  readonly store: Store;
  /** The store's circuit breaker, which all limiters on it share. */
  readonly breaker: CircuitBreaker;
  /** Measures the caller's patience while the store is being opened, which may set the store's clock. */
  readonly localClock: Clock;
  /** The longest pause after a lost race, in milliseconds. */
  readonly retryIntervalMs: number;
  /** How many lost races in a row end a request with a timeout. */
  readonly maxRetries: number;
  /** By how many milliseconds a start may be late. */
  readonly timingMarginMs: number;
  /** How many keyed limiters are kept when they are idle. */
  readonly mostKeys: number;
  readonly logger: Logger;
  /** A new writer's name, for every key. */
  readonly identity: () => Identity;
  /** A number from 0 to 1. */
  readonly random: () => number;
  readonly digest: Digest;
  /** The same limiter within this process alone, for `onFailure: "local"`. */
  readonly localLimiter: () => ClosableLimiter;
}

/** An answer that is not settled yet: one of its methods has to be called, once. */
export interface Tentative {
  readonly result: RateLimitResult;
  /** Counts it in the metrics. The permit is the caller's. */
  keep(): void;
  /**
   * Gives everything back, the capacity of rates and windows included, as far as nobody builds on it by now. Resolves to
   * what was left before, when that is written or the store was silent for too long. Never throws.
   */
  cancel(): Promise<RateLimitResult>;
}

/** A {@link Limiter}, as the registry holds it. */
export interface ClosableLimiter extends Limiter {
  /** As {@link Limiter.tryAcquire}, for who may have to take it back. */
  tryTake(options?: AcquireOptions & SharedPatience): Promise<Tentative>;
  key(key: string): ClosableLimiter;
  /** Answers everybody who waits, and gives back what is held. The store stays open. */
  close(): Promise<void>;
  /**
   * Deletes what stands in the store, of its keys too, and begins anew as if it had never been used.
   *
   * @throws {StoreUnavailableError} if the store failed. In this process it has begun anew all the same.
   */
  reset(): Promise<void>;
  /**
   * Begins anew, with its keys: permits are lost, metrics are zero, and whoever waits is decided again once `erased` has
   * settled. Resolves when nothing is being written any more.
   */
  restart(erased: Promise<void>): Promise<void>;
  /** Closes what it does here, with its keys, and begins anew on another store or clock. */
  move(context: LimiterContext): Promise<void>;
}

/** A {@link Limiter} that opens its store at the first use. */
export function createLimiter(config: LimiterConfig, context: LimiterContext): ClosableLimiter {
  const clockErrorMs = toleratedClockError(context);
  const rules = rulesOf(config, context.timingMarginMs, clockErrorMs);
  const codec = stateCodec(rules);
  const shared: Shared = {
    config,
    context,
    clockErrorMs,
    isOpened: false,
    isFailing: false,
    isClosed: false,
    meter: createMeter(),
    rules,
    codec,
    handOver: createHandOver(rules, codec),
    most: maximumCost(rules),
  };
  const onAll = async (act: (limiter: KeyLimiter) => Promise<void>) => {
    await Promise.all([...keyed.values()].map(act));
  };
  const keyed = new Map<string, KeyLimiter>();

  /** Forgets the keys that were not used for longest, unless somebody waits or holds a permit there. */
  function evict(): void {
    let looked = 0;
    for (const [key, limiter] of keyed) {
      if (keyed.size <= context.mostKeys || looked++ >= EVICTION_SCAN) return;
      if (!limiter.idle) continue;
      limiter.rest();
      keyed.delete(key);
    }
  }

  return createKeyLimiter(shared, undefined, {
    get(key) {
      const limiter = keyed.get(checkKey(key)) ?? createKeyLimiter(shared, key);
      // A map keeps the order of insertion: what is used moves to its end, and what is idle to its start.
      keyed.delete(key);
      keyed.set(key, limiter);
      if (keyed.size > context.mostKeys) evict();
      return limiter;
    },
    close: () => onAll((limiter) => limiter.close()),
    restart: (erased) => onAll((limiter) => limiter.beginAnew(erased)),
    move: () => onAll((limiter) => limiter.closeAndBeginAnew()),
  });
}

/**
 * Marks the calls that one caller makes of several limiters in turn. A symbol, as it is nobody else's business.
 */
export const TOGETHER: unique symbol = Symbol("together");

/** Several calls whose stores may be silent together for as long as one of them may be, and not each for as long. */
export interface Together {
  /** When the first of them began, on the limiters' local clock. */
  since?: number;
  /** How long the caller waits for all of them, in milliseconds; 0: not at all. */
  readonly timeoutMs: number;
}

/** The options of a call that may be one of several. */
export interface SharedPatience {
  readonly [TOGETHER]?: Together | undefined;
}

/** What those that are asked after a silent store have at least for their answer: theirs may well be up. */
const LEFT_FOR_OTHERS_MS = 40;

/** How many keys are looked at when one has to go: those that are busy stay. */
const EVICTION_SCAN = 16;
/** How many turns of the microtask queue opening may take before a timer is started for it. */
const FREE_TURNS = 8;

/** What all keys of a limiter have in common. */
interface Shared {
  readonly config: LimiterConfig;
  /** Changes when the limiter moves. */
  context: LimiterContext;
  /** Whether the store has been opened, for any key. */
  isOpened: boolean;
  /** What is allowed for clocks of other processes that disagree with this one's. */
  readonly clockErrorMs: number;
  readonly rules: readonly Rule[];
  readonly codec: Codec;
  readonly handOver: HandOver;
  readonly most: { readonly maximum: number; readonly rule: Rule };
  /** Counts for all keys together, those that were forgotten included. Changes when the limiter begins anew. */
  meter: Meter;
  /** Whether the store has failed one of them, and none was granted anything since. */
  isFailing: boolean;
  /** Whether nobody can use it any more. */
  isClosed: boolean;
}

interface KeyLimiter extends ClosableLimiter {
  /** As the methods without `Here`, whatever key the options name. */
  acquireHere(options: AcquireOptions): Promise<Permit>;
  tryAcquireHere(options: AcquireOptions & SharedPatience): Promise<RateLimitResult>;
  tryAcquireSyncHere(options: SyncAcquireOptions): RateLimitResult;
  /** Whether nobody waits and nothing is held. */
  readonly idle: boolean;
  /** {@link ClosableLimiter.restart} of this one alone. */
  beginAnew(erased: Promise<void>): Promise<void>;
  /** {@link ClosableLimiter.move} of this one alone, when it is known where to. */
  closeAndBeginAnew(): Promise<void>;
  /** It is about to be forgotten, but may be used again by who still has it. */
  rest(): void;
}

/** The keyed limiters of a limiter. */
interface Keys {
  get(key: string): KeyLimiter;
  close(): Promise<void>;
  restart(erased: Promise<void>): Promise<void>;
  move(): Promise<void>;
}

/** What there is of a limiter for one key until it begins anew. */
interface Life {
  readonly context: LimiterContext;
  readonly clock: Clock;
  readonly meter: Meter;
  readonly leases: Map<number, LosableLease>;
  /** Before this has settled, the store is not asked. */
  readonly begins: Promise<unknown> | undefined;
  opening: Promise<Cell> | undefined;
  cell: Cell | undefined;
  /** Whether the store has been opened for this limiter, now or in an earlier life. */
  opened: boolean;
}

function createLife(context: LimiterContext, meter: Meter, begins?: Promise<unknown>, opened = false): Life {
  return {
    context,
    clock: context.store.clock,
    meter,
    leases: new Map(),
    begins,
    opening: undefined,
    cell: undefined,
    opened,
  };
}

/** How the store's state decided a request. */
type Decided = Extract<Outcome, { readonly kind: "granted" | "refused" }>;

interface DecidedAnswer {
  readonly life: Life;
  readonly outcome: Decided;
  readonly waitedMs: number;
  readonly timeoutMs: number;
  /** When it was decided. */
  readonly now: number;
}

interface Answer {
  readonly life: Life;
  readonly outcome: Decided | Extract<Outcome, { readonly kind: "failed" }>;
  readonly waitedMs: number;
  readonly timeoutMs: number;
}

function createKeyLimiter(shared: Shared, key: string | undefined, keys?: Keys): KeyLimiter {
  const { config, rules, most } = shared;
  const id = key === undefined ? config.id : `${config.id}:${key}`;
  let life = createLife(shared.context, newMeter());

  /** Counts for this life, and what a key does for the life of the whole limiter too. */
  function newMeter(): Meter {
    return keys ? shared.meter = createMeter() : createMeter(shared.meter);
  }

  /** The cell, once the store is open. Concurrent first uses open it once. */
  function open(own: Life): Promise<Cell> {
    return own.opening ??= begin(own).finally(() => own.opening = undefined);
  }

  /** The cell, unless the store has to be opened first, or its clock to be compared with the server's. */
  function readyCell({ cell, context: { store } }: Life): Cell | undefined {
    return store.isClockStale === true ? undefined : cell;
  }

  async function begin(own: Life): Promise<Cell> {
    if (own.begins) await own.begins;
    if (own.cell) {
      await own.context.breaker.open(own.context.store);
      return own.cell;
    }
    const cell = await openCell(shared, key, own);
    if (shared.isClosed) {
      await cell.close();
      throw closedError();
    }
    return opened(own, cell);
  }

  function opened(own: Life, cell: Cell): Cell {
    own.cell = cell;
    own.opened = true;
    if (!shared.isOpened) {
      const { storeId } = config;
      own.context.logger.info(`Limiter '${config.id}': open on store '${storeId}' (${shared.codec.fingerprint}).`);
    }
    shared.isOpened = true;
    return cell;
  }

  /** As {@link open}, if that takes no time. */
  function openNow(own: Life): Cell | undefined {
    const { store, breaker, digest } = own.context;
    if (own.cell || store.open !== opensNothing || own.begins || own.opening || breaker.state !== "closed") {
      return undefined;
    }
    const place = storeKey(config.id, key, digest);
    return typeof place === "string" ? opened(own, createCell(shared, own, place)) : undefined;
  }

  /** As {@link open}, for as long as the caller and the store may take. */
  async function openWithin(own: Life, patienceMs: number, signal: AbortSignal | undefined): Promise<Cell> {
    const refusal = own.context.breaker.refusal();
    if (refusal) throw refusal;
    const opening = open(own);
    opening.catch(() => {}); // It is awaited below.
    // A store that is open already, for another key, shall not cost every new key a timer.
    for (let turn = 0; turn < FREE_TURNS && !readyCell(own); turn++) await undefined;
    return readyCell(own) ?? await inTime(own, opening, "it could not be opened", patienceMs, signal);
  }

  /** Waits for the store, but not for longer than the caller can. */
  async function inTime<T>(
    { context: { store, localClock } }: Life,
    call: Promise<T>,
    what: string,
    patienceMs: number,
    signal?: AbortSignal,
  ): Promise<T> {
    const ms = Math.max(0, patienceMs);
    const done = new AbortController();
    const late = localClock.sleep(ms, signal ? AbortSignal.any([done.signal, signal]) : done.signal).then(() => {
      throw tooLate(config.storeId, store, what, ms);
    });
    try {
      return await Promise.race([call, late]);
    } finally {
      done.abort("done");
      late.catch(() => {}); // Nobody waits for it any more.
    }
  }

  /** When the call has to hear at the latest that its store is silent, if that is before the store's own time limit. */
  function answerByOf({ [TOGETHER]: together }: SharedPatience, { context: { localClock } }: Life): number {
    if (!together) return Infinity;
    together.since ??= localClock.now();
    const ms = together.timeoutMs > 0 ? Math.min(together.timeoutMs, config.backendTimeoutMs) : config.backendTimeoutMs;
    return together.since + ms + LEFT_FOR_OTHERS_MS;
  }

  /** The answer, if there is one without asking or waiting for anybody. */
  function requestNow(options: AcquireOptions, defaultTimeoutMs: number): DecidedAnswer | undefined {
    const signal = checkSignal(options.signal);
    const cost = options.cost === undefined ? 1 : checkCost(options.cost);
    const timeoutMs = options.timeoutMs === undefined ? defaultTimeoutMs : checkTimeout(options.timeoutMs);
    if (cost > most.maximum) throw new ImpossibleCostError(id, cost, most.maximum, most.rule.label);
    const own = life;
    if (shared.isClosed || signal?.aborted) return undefined;
    const cell = readyCell(own) ?? openNow(own);
    if (!cell) return undefined;
    const now = own.clock.now();
    const outcome = cell.requestNow(cost, now, now + timeoutMs);
    if (outcome?.kind !== "granted" && outcome?.kind !== "refused") return undefined;
    if (outcome.kind === "granted") noteAnswer(own);
    return { life: own, outcome, waitedMs: 0, timeoutMs, now };
  }

  async function request(options: AcquireOptions & SharedPatience, defaultTimeoutMs: number): Promise<Answer> {
    const signal = checkSignal(options.signal);
    const cost = options.cost === undefined ? 1 : checkCost(options.cost);
    const timeoutMs = options.timeoutMs === undefined ? defaultTimeoutMs : checkTimeout(options.timeoutMs);
    if (cost > most.maximum) throw new ImpossibleCostError(id, cost, most.maximum, most.rule.label);
    let waitedMs = 0;
    for (let own = life;; own = life) {
      const { clock, context: { store, localClock } } = own;
      try {
        const answerBy = answerByOf(options, own);
        signal?.throwIfAborted();
        if (shared.isClosed) throw closedError();
        let cell = readyCell(own);
        if (!cell) {
          const since = localClock.now();
          const patience = timeoutMs > 0 ? Math.min(timeoutMs, config.backendTimeoutMs) : config.backendTimeoutMs;
          try {
            cell = await openWithin(own, Math.min(patience, answerBy - since), signal);
          } finally {
            // What the opening took is not there any more, for whatever decides in the store's place either.
            waitedMs += localClock.now() - since;
          }
          // Whose time went into the opening has none left, and is not one who does not want to wait.
          if (timeoutMs > 0 && waitedMs >= timeoutMs) {
            throw tooLate(config.storeId, store, "it could not be opened", patience);
          }
        }
        const since = clock.now();
        const deadline = since + Math.max(0, timeoutMs - waitedMs);
        const silentUntil = answerBy === Infinity ? Infinity : since + answerBy - localClock.now();
        const outcome = await cell.request(cost, since, deadline, signal, silentUntil);
        if (outcome.kind === "closed") throw closedError();
        // A refusal may come from what was known before the store failed, and a slot from what was taken before.
        if (outcome.kind === "granted" && outcome.attempts > 0) noteAnswer(own);
        waitedMs += Math.max(0, (outcome.kind === "granted" ? outcome.servedAt : clock.now()) - since);
        if (outcome.kind === "abandoned") continue;
        // Who does not want to wait does not, however long the store takes to answer.
        return { life: own, outcome, waitedMs: timeoutMs === 0 ? 0 : waitedMs, timeoutMs };
      } catch (error) {
        if (signal?.aborted) own.meter.count("aborted");
        else if (shared.isClosed) throw closedError();
        else if (!(error instanceof ConfigValidationError || error instanceof RateLimiterAcquisitionError)) {
          const outcome = { kind: "failed", cause: error, attempts: 0 } as const;
          return { life: own, outcome, waitedMs: timeoutMs === 0 ? 0 : waitedMs, timeoutMs };
        }
        throw error;
      }
    }
  }

  /** Counts what the store failed, and says once what happens to requests until it is back. */
  function noteFailure({ meter, context: { logger } }: Life, cause: unknown): void {
    meter.count("backendFailures");
    if (shared.isFailing) return;
    shared.isFailing = true;
    const then = UNTIL_BACK[config.onFailure];
    const report = `Limiter '${config.id}': ${messageOf(cause)} Until the store is back, ${then}.`;
    if (config.onFailure === "closed") logger.error(report);
    else logger.warn(report);
  }

  function noteAnswer({ context: { logger } }: Life): void {
    if (!shared.isFailing) return;
    shared.isFailing = false;
    logger.info(`Limiter '${config.id}': its store answers again.`);
  }

  function closedError(): RateLimiterAcquisitionError {
    return new RateLimiterAcquisitionError(
      `Limiter '${id}' was closed. Ask the registry for it again with getLimiter().`,
      { limiterId: id, attempts: 0, reason: "closed" },
    );
  }

  function failure(cause: unknown, attempts: number): RateLimiterAcquisitionError {
    return new RateLimiterAcquisitionError(
      `Limiter '${id}' could not ask its store, and it fails closed (fail_closed, on_failure = "closed"): ${
        messageOf(cause)
      }`,
      { limiterId: id, attempts, reason: "backend", cause },
    );
  }

  /** What is granted or refused in place of a store that failed. */
  async function withoutStore(
    cause: unknown,
    options: AcquireOptions & SharedPatience,
    answer: Answer,
  ): Promise<Tentative> {
    const { life: own, outcome, waitedMs, timeoutMs } = answer;
    noteFailure(own, cause);
    if (config.onFailure === "closed") throw failure(cause, outcome.attempts);
    if (config.onFailure === "open") {
      const result = grantedResult(freshState(rules, 0), 0, permitOf(NO_LEASE, waitedMs, true));
      return { result, keep: () => note(own, result), cancel: () => Promise.resolve(result) };
    }
    const left = timeoutMs === 0 ? 0 : Math.max(0, timeoutMs - waitedMs);
    // It has time of its own: what the stores of several may take together is over.
    const local = await localLimiter(own.context).tryTake({
      ...options,
      key: undefined,
      timeoutMs: left,
      [TOGETHER]: undefined,
    });
    const result = inPlace(local.result, waitedMs);
    return {
      result,
      keep() {
        local.keep();
        note(own, result);
      },
      cancel: async () => inPlace(await local.cancel(), waitedMs),
    };
  }

  /** The local limiter's answer, as this one's. */
  function inPlace(result: RateLimitResult, waitedMs: number): RateLimitResult {
    if (!result.allowed) return Object.freeze({ ...result, limiterId: id, degraded: true });
    const permit = permitOf(result.permit, waitedMs + result.waitedMs, true);
    return Object.freeze({ ...result, limiterId: id, degraded: true, waitedMs: permit.waitedMs, permit });
  }

  function localLimiter({ localLimiter }: LimiterContext): ClosableLimiter {
    return key === undefined ? localLimiter() : localLimiter().key(key);
  }

  /** What the caller holds from now on. */
  function leaseOf(grant: Grant, own: Life): Lease {
    if (config.maxConcurrent === null) return NO_LEASE;
    const { meter, leases, cell } = own;
    const { permit } = grant.demand;
    meter.permit(1);
    const lease = createLease(id, config.leaseMs, {
      release() {
        leases.delete(permit);
        meter.permit("released");
        return cell!.giveBack(grant, false); // it was granted by the cell
      },
      lost: () => meter.permit(-1),
    });
    leases.set(permit, lease);
    if (own !== life) lease.lose(BEGUN_ANEW);
    return lease;
  }

  function facts(usage: Usage, time: number, degraded: boolean, release: () => Promise<void>): RateLimitFacts {
    return {
      limiterId: id,
      limit: usage.limit,
      remaining: usage.remaining,
      resetInMs: Math.max(0, usage.resetAt - time),
      degraded,
      release,
      [Symbol.asyncDispose]: release,
    };
  }

  function grantedResult(state: Snapshot, now: number, permit: Permit): RateLimitResult {
    const time = now - state.epoch;
    const usage = scarcest(rules, state.parts, time);
    const { waitedMs, degraded, release } = permit;
    return Object.freeze({
      ...facts(usage, time, degraded, release),
      allowed: true,
      waitedMs,
      retryAfterMs: 0,
      permit,
    });
  }

  function refusedResult(state: Snapshot, now: number, { retryAt, rule }: Obstacle, degraded = false): RefusedResult {
    const time = now - state.epoch;
    const usage = scarcest(rules, state.parts, time);
    const retryAfterMs = Math.max(0, retryAt - now);
    return Object.freeze({
      ...facts(usage, time, degraded, releaseNothing),
      allowed: false,
      retryAfterMs,
      rule: rule.label,
    });
  }

  function permitOf(lease: Lease, waitedMs: number, degraded: boolean): Permit {
    return new LeasedPermit(id, waitedMs, degraded, lease);
  }

  function resultOf(outcome: Decided, own: Life, waitedMs: number, now: number): RateLimitResult {
    if (outcome.kind === "refused") return refusedResult(outcome.state, now, outcome);
    const { grant } = outcome;
    const after = { epoch: grant.epoch, parts: grant.after };
    return grantedResult(after, now, permitOf(leaseOf(grant, own), waitedMs, false));
  }

  function note(own: Life, result: RateLimitResult): void {
    if (!result.allowed) return noteRefusal(own, result);
    noteGrant(own, own.context.localClock.now(), result.waitedMs, result.degraded);
  }

  function noteGrant({ meter, context: { logger } }: Life, now: number, waitedMs: number, degraded: boolean): void {
    meter.granted(now, waitedMs);
    if (degraded) meter.degraded();
    logger.debug?.(`Limiter '${id}': granted after ${inSeconds(waitedMs)}${degraded ? ", without its store" : ""}.`);
  }

  function noteRefusal({ meter, context: { logger } }: Life, { rule, retryAfterMs }: RefusedResult): void {
    meter.count("timeouts");
    logger.debug?.(`Limiter '${id}': refused by "${rule}", which has more in ${inSeconds(retryAfterMs)}.`);
  }

  /** Takes a grant back that nobody used. */
  async function cancelled(grant: Grant, own: Life, answerBy: number): Promise<RateLimitResult> {
    const { leases, meter, cell, clock, context: { localClock } } = own;
    if (leases.delete(grant.demand.permit)) meter.permit(-1);
    const written = cell!.giveBack(grant, true); // it was granted by the cell
    if (answerBy === Infinity) await written;
    else await inTime(own, written, "it did not answer", answerBy - localClock.now()).catch(() => {});
    const { epoch, before } = grant;
    return grantedResult({ epoch, parts: before }, clock.now(), permitOf(NO_LEASE, 0, false));
  }

  /** Where a request of this cost finds its answer: in the state of the store, or if it failed in what takes its place. */
  async function look(cost: number, options: SharedPatience = {}): Promise<View> {
    if (shared.isClosed) throw closedError();
    const own = life;
    const { clock, context: { localClock } } = own;
    const answerBy = answerByOf(options, own);
    const leftMs = () => Math.min(config.backendTimeoutMs, answerBy - localClock.now());
    try {
      const cell = own.cell ?? await openWithin(own, leftMs(), undefined);
      const reading = cell.read();
      const state = answerBy === Infinity ? await reading : await inTime(own, reading, "it did not answer", leftMs());
      if (shared.isClosed) throw closedError();
      const now = clock.now();
      return { state, now, soon: now + cell.leadAt(now), degraded: false };
    } catch (error) {
      if (shared.isClosed) throw closedError();
      if (error instanceof ConfigValidationError) throw error;
      noteFailure(own, error);
      if (config.onFailure === "closed") throw failure(error, 0);
      const now = clock.now();
      const known = own.cell?.known;
      const demand = { cost, owner: "", permit: 0 };
      // What only time can change is as certain without the store.
      if (known && earliestStartBehind(rules, known.parts, now - known.epoch, 0, demand) + known.epoch > now) {
        return { state: known, now, soon: now, degraded: true };
      }
      if (config.onFailure === "local") return { local: localLimiter(own.context) };
      return { state: freshState(rules, now), now, soon: now, degraded: true };
    }
  }

  function end(own: Life, why = BEGUN_ANEW): void {
    for (const lease of own.leases.values()) lease.lose(why);
    own.leases.clear();
  }

  /** The cell of a life that is over, if there is one or will be. */
  async function cellOf({ cell, opening }: Life): Promise<Cell | undefined> {
    return cell ?? await opening?.catch(() => undefined);
  }

  async function peek(cost: number, options: SharedPatience): Promise<RateLimitResult> {
    if (cost > most.maximum) throw new ImpossibleCostError(id, cost, most.maximum, most.rule.label);
    const { local, state, now, soon, degraded } = await look(cost, options);
    if (local) return inPlace(await local.check({ consume: false, cost }), 0);
    const demand = { cost, owner: "", permit: 0 };
    const start = earliestStart(rules, state.parts, now - state.epoch, demand) + state.epoch;
    if (start <= soon) return grantedResult(state, now, permitOf(NO_LEASE, 0, degraded));
    const { rule, retryAt } = obstacle(rules, state.parts, now - state.epoch, demand);
    return refusedResult(state, now, { rule, retryAt: retryAt + state.epoch }, degraded);
  }

  /** The limiter that counts for a key, if there is one. */
  function at(name: string | undefined): KeyLimiter {
    return name === undefined ? limiter : keyed(name);
  }

  function keyed(name: string): KeyLimiter {
    if (keys) return keys.get(name);
    throw new InvalidArgumentError(`Limiter '${id}' counts for one key already`, {
      field: "key",
      expected: `a call of key() on '${config.id}'`,
      received: shown(name),
    });
  }

  function permitFrom({ life: own, outcome, now, ...answer }: DecidedAnswer): Permit {
    if (outcome.kind === "granted") {
      noteGrant(own, outcome.servedAt, answer.waitedMs, false);
      return permitOf(leaseOf(outcome.grant, own), answer.waitedMs, false);
    }
    const refused = refusedResult(outcome.state, now, outcome);
    noteRefusal(own, refused);
    throw timedOut(refused, { ...answer, life: own, outcome });
  }

  function resultFrom({ life: own, outcome, waitedMs, now }: DecidedAnswer): RateLimitResult {
    const result = resultOf(outcome, own, waitedMs, now);
    if (result.allowed) noteGrant(own, outcome.kind === "granted" ? outcome.servedAt : now, waitedMs, false);
    else noteRefusal(own, result);
    return result;
  }

  async function acquireLater(options: AcquireOptions): Promise<Permit> {
    const answer = await request(options, config.timeoutMs ?? Infinity);
    const { life: own, outcome } = answer;
    if (outcome.kind !== "failed") return permitFrom({ ...answer, outcome, now: own.clock.now() });
    const { result, keep } = await withoutStore(outcome.cause, options, answer);
    keep();
    if (result.allowed) return result.permit;
    throw timedOut(result, answer);
  }

  async function tryAcquireLater(options: AcquireOptions & SharedPatience): Promise<RateLimitResult> {
    const answer = await request(options, 0);
    const { life: own, outcome } = answer;
    if (outcome.kind !== "failed") return resultFrom({ ...answer, outcome, now: own.clock.now() });
    const { result, keep } = await withoutStore(outcome.cause, options, answer);
    keep();
    return result;
  }

  const limiter: KeyLimiter = {
    id,
    get initialized() {
      return keys ? shared.isOpened : life.opened;
    },
    get idle() {
      return life.cell === undefined ? life.opening === undefined : life.cell.idle;
    },
    rest: () => life.cell?.rest(),
    async initialize() {
      if (shared.isClosed) throw closedError();
      const own = life;
      try {
        if (!own.cell) await openWithin(own, config.backendTimeoutMs, undefined);
      } catch (error) {
        if (shared.isClosed) throw closedError();
        if (error instanceof ConfigValidationError) throw error;
        noteFailure(own, error);
        if (config.onFailure === "closed") throw failure(error, 0);
      }
    },
    acquire(options = {}) {
      return promised(() => at(checkOptions(options).key).acquireHere(options));
    },
    acquireHere(options) {
      const decided = requestNow(options, config.timeoutMs ?? Infinity);
      return decided ? Promise.resolve(permitFrom(decided)) : acquireLater(options);
    },
    tryAcquire(options = {}) {
      return promised(() => at(checkOptions(options).key).tryAcquireHere(options));
    },
    tryAcquireHere(options) {
      const decided = requestNow(options, 0);
      return decided ? Promise.resolve(resultFrom(decided)) : tryAcquireLater(options);
    },
    tryAcquireSync(options = {}) {
      return at(checkOptions(options).key).tryAcquireSyncHere(options);
    },
    tryAcquireSyncHere({ cost }) {
      if (shared.isClosed) throw closedError();
      const decided = requestNow(cost === undefined ? NO_OPTIONS : { cost }, 0);
      if (!decided) throw new NotSynchronousError(id);
      return resultFrom(decided);
    },
    async tryTake(options = {}) {
      checkOptions(options);
      if (options.key !== undefined) {
        return await limiter.key(options.key).tryTake({ ...options, key: undefined });
      }
      const answer = await request(options, 0);
      const { life: own, outcome, waitedMs } = answer;
      if (outcome.kind === "failed") return await withoutStore(outcome.cause, options, answer);
      const result = resultOf(outcome, own, waitedMs, own.clock.now());
      return {
        result,
        keep: () => note(own, result),
        cancel: () =>
          outcome.kind === "granted"
            ? cancelled(outcome.grant, own, answerByOf(options, own))
            : Promise.resolve(result),
      };
    },
    async check(given: CheckOptions & SharedPatience = {}) {
      const { consume: isConsuming, ...options } = checkOptions(given);
      const consume = checkConsume(isConsuming);
      if (options.key !== undefined) {
        return await limiter.key(options.key).check({ ...options, consume, key: undefined });
      }
      if (consume) return await limiter.tryAcquire(options);
      return await peek(options.cost === undefined ? 1 : checkCost(options.cost), options);
    },
    async getState() {
      const { local, state, now, soon } = await look(1);
      if (local) return await local.getState();
      const { epoch, parts } = state;
      const usages = rules.map((rule, i) => rule.usage(parts[i]!, now - epoch));
      const start = earliestStart(rules, parts, now - epoch, { cost: 1, owner: "", permit: 0 });
      return Object.freeze({
        allowed: start <= soon - epoch,
        remaining: Math.min(...usages.map(({ remaining }) => remaining)),
        resetAt: Math.ceil(Math.max(...usages.map(({ resetAt }) => resetAt)) + epoch),
        currentUsage: Math.max(...usages.map(({ limit, remaining }) => limit - remaining)),
      });
    },
    async close() {
      shared.isClosed = true;
      end(life, CLOSED);
      await Promise.all([
        life.cell?.close(),
        keys?.close(),
        keys && config.onFailure === "local" ? localLimiter(life.context).close() : undefined,
      ]);
    },
    async reset() {
      if (shared.isClosed) throw closedError();
      let letBegin = () => {};
      const erased = new Promise<void>((resolve) => letBegin = resolve);
      try {
        await limiter.restart(erased);
        await erase(shared, key);
        shared.isOpened = life.opened = true;
      } finally {
        letBegin();
      }
    },
    async restart(erased) {
      const { context } = life;
      await Promise.all([
        limiter.beginAnew(erased),
        keys?.restart(erased),
        config.onFailure === "local" ? localLimiter(context).reset() : undefined,
      ]);
    },
    async beginAnew(erased) {
      const old = life;
      const begins = old.begins ? Promise.all([old.begins, erased]) : erased;
      life = createLife(shared.context, newMeter(), begins, old.opened);
      end(old);
      await (await cellOf(old))?.abandon();
    },
    async move(context) {
      shared.context = context;
      shared.isOpened = shared.isFailing = false;
      await Promise.all([limiter.closeAndBeginAnew(), keys?.move()]);
    },
    async closeAndBeginAnew() {
      const old = life;
      life = createLife(shared.context, newMeter());
      end(old);
      await (await cellOf(old))?.close();
    },
    getMetrics: () => life.meter.snapshot(life.context.breaker.state),
    getConfig: () => config,
    getClock: () => readClock(life.context),
    key: keyed,
  };
  return limiter;
}

/** What there is to be told about: a state, or the limiter that counts in place of a store that failed. */
type View =
  | {
    readonly state: State;
    readonly now: number;
    /** Until when a start counts as one that is possible now. */
    readonly soon: number;
    readonly degraded: boolean;
    readonly local?: undefined;
  }
  | { readonly [what in "state" | "now" | "soon" | "degraded"]?: undefined } & { readonly local: ClosableLimiter };

/** The time that the store goes by. */
function readClock({ store, localClock, timingMarginMs }: LimiterContext): ClockReading {
  if (store.readClock) return Object.freeze(store.readClock());
  const { clock } = store;
  const now = clock.now();
  const isHost = clock === localClock;
  return Object.freeze({
    source: isHost ? "host" : "custom",
    now,
    offsetMs: isHost ? 0 : now - localClock.now(),
    errorMs: isHost ? timingMarginMs : 0,
    measuredAt: null,
  });
}

/** What two hosts may disagree by that drift by 500 ppm in opposite directions and measure every two seconds. */
const MEASURED_CLOCKS_ERROR_MS = 2;

/** What is allowed for clocks that disagree. Those that are not measured are believed as far as was agreed. */
function toleratedClockError(context: LimiterContext): number {
  const { source, errorMs } = readClock(context);
  return source === "server" ? MEASURED_CLOCKS_ERROR_MS : errorMs;
}

type RefusedResult = Extract<RateLimitResult, { readonly allowed: false }>;

/** As much of a state as says what is left. */
type Snapshot = Pick<State, "epoch" | "parts">;

const NO_OPTIONS: AcquireOptions = {};

/** What is thrown before there is a promise rejects it. */
function promised<T>(call: () => Promise<T>): Promise<T> {
  try {
    return call();
  } catch (error) {
    return Promise.reject(error);
  }
}

const releaseNothing = () => Promise.resolve();

const CLOSED = "the limiter was closed, and has given it back.";
const BEGUN_ANEW = "the limiter was reset, and has begun anew.";

function tooLate(storeId: string, store: Store, what: string, ms: number): StoreUnavailableError {
  return new StoreUnavailableError(
    `${what} within ${Math.round(ms)} ms${because(store, "Check that the server is up and reachable.")}`,
    { store: storeId, outcome: "not_applied" },
  );
}

const UNTIL_BACK = {
  open: 'requests are admitted without a limit (on_failure = "open")',
  closed: 'requests are refused (on_failure = "closed")',
  local: 'the limit holds within this process only (on_failure = "local")',
};

async function openCell(shared: Shared, key: string | undefined, life: Life): Promise<Cell> {
  const { breaker, store, digest } = life.context;
  await breaker.open(store);
  const place = storeKey(shared.config.id, key, digest);
  return createCell(shared, life, typeof place === "string" ? place : await place());
}

/** The cell of an open store for what it calls `key`. */
function createCell(
  { config, clockErrorMs, rules, codec, handOver }: Shared,
  { context, meter, leases }: Life,
  key: string,
): Cell {
  const { store, logger } = context;
  checkRetention(config, rules, store);
  const identity = context.identity();
  const ledger = createLedger({
    key,
    storeId: config.storeId,
    store,
    rules,
    codec,
    identity,
    breaker: context.breaker,
    backendTimeoutMs: config.backendTimeoutMs,
    reserveAheadMs: config.reserveAheadMs,
    onFinding: (finding) => logger.warn(`Limiter '${config.id}': ${describe(finding)}`),
  });
  const onLost = (permit: number) => {
    leases.get(permit)?.lose();
    leases.delete(permit);
  };
  return new Cell({ ...context, ...config, clockErrorMs, ledger, rules, identity, handOver, meter, onLost });
}

/** Deletes what stands in the store for a key, or for a limiter and all of its keys. */
async function erase({ config, context }: Shared, key: string | undefined): Promise<void> {
  const place = storeKey(config.id, key, context.digest);
  const root = typeof place === "string" ? place : await place();
  await eraseKeys(config.storeId, context.store, {
    keys: [root],
    // An encoded part has no dot in it, so nothing else begins like this.
    ...(key === undefined ? { prefix: `${root}.` } : {}),
    timeoutMs: config.backendTimeoutMs,
    clock: context.localClock,
  });
  context.breaker.succeeded();
}

/** A store that forgets a limit before it has run out would admit too much. */
function checkRetention(config: LimiterConfig, rules: readonly Rule[], { retentionMs }: Store): void {
  if (retentionMs === undefined) return;
  for (const { horizonMs, label } of rules) {
    if (horizonMs <= retentionMs) continue;
    throw new ConfigValidationError(
      `Limiter '${config.id}' needs "${label}" to be remembered for ${horizonMs / 1_000} s, and store ` +
        `'${config.storeId}' forgets after ${retentionMs / 1_000} s. Raise the TTL of its bucket (bucket_ttl, or ` +
        `\`nats stream edit\` for an existing one), or shorten the window`,
      {
        field: `limiters.${config.id}`,
        expected: `a window of at most ${retentionMs / 1_000} s`,
        received: `${horizonMs / 1_000} s`,
      },
    );
  }
}

function describe(finding: Finding): string {
  if (finding.kind === "damaged") {
    return `its stored value was damaged (${finding.problem}). It counts as used up, and recovers as time passes.`;
  }
  return `another process has other rules for it (${shown(finding.theirs)}, here ${
    shown(finding.ours)
  }). Both count in the same ` +
    `state, and each process applies its own rules: deploy the same configuration everywhere.`;
}

function timedOut(refused: RefusedResult, { outcome, timeoutMs, waitedMs }: Answer): RateLimiterAcquisitionError {
  const { rule, retryAfterMs } = refused;
  const when = timeoutMs === 0 ? "at once" : `within ${timeoutMs / 1_000} s`;
  return new RateLimiterAcquisitionError(
    `Unable to acquire slot for limiter '${refused.limiterId}' ${when}: its rule "${rule}" has none before ` +
      `${inSeconds(retryAfterMs)} from now, after a wait of ${
        inSeconds(waitedMs)
      }. Retry then, or allow a longer timeout.`,
    { ...refused, attempts: outcome.attempts, reason: "timeout", timeoutMs, waitedMs },
  );
}

/** Not earlier than it is. */
function inSeconds(ms: number): string {
  return `${(Math.ceil(ms) / 1_000).toFixed(3)} s`;
}
