import { checkCost, checkKey, checkTimeout, shown } from "./arguments.ts";
import type { Grant } from "./batch.ts";
import { Cell, type Outcome } from "./cell.ts";
import type { Clock } from "./clock.ts";
import { earliestStart, maximumCost, type Obstacle, obstacle, scarcest } from "./decide.ts";
import {
  ConfigValidationError,
  ImpossibleCostError,
  InvalidArgumentError,
  RateLimiterAcquisitionError,
  StoreUnavailableError,
} from "./errors.ts";
import { type Digest, storeKey } from "./key.ts";
import { createLedger, type Finding, type Identity } from "./ledger.ts";
import { createLease, type Lease, LeasedPermit, type LosableLease, NO_LEASE } from "./lease.ts";
import type { LimiterConfig } from "./limiter_config.ts";
import type { Logger } from "./logger.ts";
import { createMeter, type Meter, type RateLimiterMetrics } from "./metrics.ts";
import type { AcquireOptions, LimiterState, Permit, RateLimitFacts, RateLimitResult } from "./result.ts";
import { rulesOf } from "./rules/rules.ts";
import type { Rule, Usage } from "./rules/rule.ts";
import { type Codec, freshState, type State, stateCodec } from "./state.ts";
import type { Store } from "./store.ts";

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
  /** As {@link Limiter.tryAcquire}; with `consume: false` it only looks. */
  check(options?: CheckOptions): Promise<RateLimitResult>;
  /** What is left, as all processes see it. Uses nothing up. */
  getState(): Promise<LimiterState>;
  /** What this process has done with it. */
  getMetrics(): RateLimiterMetrics;
  /** How it is configured. */
  getConfig(): LimiterConfig;
  /** The limiter of the same kind that counts for `key` alone. Kept while it is in use, and made again when needed. */
  key(key: string): Limiter;
}

/** What a limiter needs from outside. */
export interface LimiterContext {
  readonly store: Store;
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
   * what was left before. Never throws.
   */
  cancel(): Promise<RateLimitResult>;
}

/** A {@link Limiter}, as the registry holds it. */
export interface ClosableLimiter extends Limiter {
  /** As {@link Limiter.tryAcquire}, for who may have to take it back. */
  tryTake(options?: AcquireOptions): Promise<Tentative>;
  key(key: string): ClosableLimiter;
  /** Answers everybody who waits, and gives back what is held. The store stays open. */
  close(): Promise<void>;
}

/** A {@link Limiter} that opens its store at the first use. */
export function createLimiter(config: LimiterConfig, context: LimiterContext): ClosableLimiter {
  const rules = rulesOf(config, context.timingMarginMs);
  const shared: Shared = { config, context, rules, codec: stateCodec(rules), most: maximumCost(rules) };
  const keyed = new Map<string, KeyLimiter>();

  /** Forgets the keys that were not used for longest, unless somebody waits or holds a permit there. */
  function evict(): void {
    let looked = 0;
    for (const [key, limiter] of keyed) {
      if (keyed.size <= context.mostKeys || looked++ >= EVICTION_SCAN) return;
      if (limiter.idle) keyed.delete(key);
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
    async close() {
      await Promise.all([...keyed.values()].map((limiter) => limiter.close()));
    },
  });
}

/** How many keys are looked at when one has to go: those that are busy stay. */
const EVICTION_SCAN = 16;
/** How many turns of the microtask queue opening may take before a timer is started for it. */
const FREE_TURNS = 8;

/** What all keys of a limiter have in common. */
interface Shared {
  readonly config: LimiterConfig;
  readonly context: LimiterContext;
  readonly rules: readonly Rule[];
  readonly codec: Codec;
  readonly most: { readonly maximum: number; readonly rule: Rule };
}

interface KeyLimiter extends ClosableLimiter {
  /** Whether nobody waits and nothing is held. */
  readonly idle: boolean;
}

/** The keyed limiters of a limiter. */
interface Keys {
  get(key: string): ClosableLimiter;
  close(): Promise<void>;
}

/** How the store's state decided a request. */
type Decided = Extract<Outcome, { readonly kind: "granted" | "refused" }>;

interface Answer {
  readonly outcome: Decided | Extract<Outcome, { readonly kind: "failed" }>;
  readonly waitedMs: number;
  readonly timeoutMs: number;
}

function createKeyLimiter(shared: Shared, key: string | undefined, keys?: Keys): KeyLimiter {
  const { config, context, rules, most } = shared;
  const { store, localClock } = context;
  const { clock } = store;
  const id = key === undefined ? config.id : `${config.id}:${key}`;
  const meter = createMeter();
  let cell: Cell | undefined;
  let opening: Promise<Cell> | undefined;
  const leases = new Map<number, LosableLease>();
  let failing = false;
  let closed = false;

  /** The cell, once the store is open. Concurrent first uses open it once. */
  function open(): Promise<Cell> {
    return opening ??= openCell(shared, key, meter, onLost).then((opened) => cell = opened).finally(() =>
      opening = undefined
    );
  }

  /** As {@link open}, for as long as the caller and the store may take. */
  async function openWithin(patienceMs: number, signal: AbortSignal | undefined): Promise<Cell> {
    const opened = open();
    opened.catch(() => {}); // It is awaited below.
    // A store that is open already, for another key, shall not cost every new key a timer.
    for (let turn = 0; turn < FREE_TURNS && !cell; turn++) await undefined;
    if (cell) return cell;
    const done = new AbortController();
    const late = localClock.sleep(patienceMs, signal ? AbortSignal.any([done.signal, signal]) : done.signal).then(
      () => {
        const ms = Math.round(patienceMs);
        throw new StoreUnavailableError(
          `it could not be opened within ${ms} ms. Check that the server is up and reachable.`,
          {
            store: config.storeId,
            outcome: "not_applied",
          },
        );
      },
    );
    try {
      return await Promise.race([opened, late]);
    } finally {
      done.abort("opened");
      late.catch(() => {}); // Nobody waits for it any more.
    }
  }

  async function request(options: AcquireOptions, defaultTimeoutMs: number): Promise<Answer> {
    const { signal } = options;
    const cost = options.cost === undefined ? 1 : checkCost(options.cost);
    const timeoutMs = options.timeoutMs === undefined ? defaultTimeoutMs : checkTimeout(options.timeoutMs);
    if (cost > most.maximum) throw new ImpossibleCostError(id, cost, most.maximum, most.rule.label);
    let openedAfterMs = 0;
    try {
      signal?.throwIfAborted();
      if (closed) throw closedError();
      if (!cell) {
        const since = localClock.now();
        await openWithin(
          timeoutMs > 0 ? Math.min(timeoutMs, config.backendTimeoutMs) : config.backendTimeoutMs,
          signal,
        );
        openedAfterMs = localClock.now() - since;
      }
      const since = clock.now();
      const deadline = since + Math.max(0, timeoutMs - openedAfterMs);
      const outcome = await cell!.request(cost, since, deadline, signal);
      if (outcome.kind === "closed") throw closedError();
      // A refusal may come from what was known before the store failed.
      if (outcome.kind === "granted") noteAnswer();
      // Who does not want to wait does not, however long the store takes to answer.
      const now = outcome.kind === "granted" ? outcome.servedAt : clock.now();
      const waitedMs = timeoutMs === 0 ? 0 : Math.max(0, now - since) + openedAfterMs;
      return { outcome, waitedMs, timeoutMs };
    } catch (error) {
      if (signal?.aborted) meter.count("aborted");
      else if (!(error instanceof ConfigValidationError || error instanceof RateLimiterAcquisitionError)) {
        return { outcome: { kind: "failed", cause: error, attempts: 0 }, waitedMs: openedAfterMs, timeoutMs };
      }
      throw error;
    }
  }

  /** Counts what the store failed, and says once what happens to requests until it is back. */
  function noteFailure(cause: unknown): void {
    meter.count("backendFailures");
    if (failing) return;
    failing = true;
    context.logger.warn(
      `Limiter '${config.id}': ${messageOf(cause)} Until the store is back, ${UNTIL_BACK[config.onFailure]}.`,
    );
  }

  function noteAnswer(): void {
    if (failing) context.logger.info(`Limiter '${config.id}': its store answers again.`);
    failing = false;
  }

  function closedError(): RateLimiterAcquisitionError {
    return new RateLimiterAcquisitionError(
      `Limiter '${id}' was closed while the request waited. Ask the registry for it again with getLimiter().`,
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
  async function withoutStore(cause: unknown, options: AcquireOptions, answer: Answer): Promise<Tentative> {
    const { outcome, waitedMs, timeoutMs } = answer;
    noteFailure(cause);
    if (config.onFailure === "closed") throw failure(cause, outcome.attempts);
    if (config.onFailure === "open") {
      const result = grantedResult(freshState(rules, 0), 0, permitOf(NO_LEASE, waitedMs, true));
      return { result, keep: () => note(result), cancel: () => Promise.resolve(result) };
    }
    const left = timeoutMs === 0 ? 0 : Math.max(0, timeoutMs - waitedMs);
    const local = await localLimiter().tryTake({ ...options, timeoutMs: left });
    const result = inPlace(local.result, waitedMs);
    return {
      result,
      keep() {
        local.keep();
        note(result);
      },
      cancel: async () => inPlace(await local.cancel(), waitedMs),
    };
  }

  /** The local limiter's answer, as this one's. */
  function inPlace(result: RateLimitResult, waitedMs: number): RateLimitResult {
    if (!result.allowed) return { ...result, limiterId: id, degraded: true };
    const permit = permitOf(result.permit, waitedMs + result.waitedMs, true);
    return { ...result, limiterId: id, degraded: true, waitedMs: permit.waitedMs, permit };
  }

  function localLimiter(): ClosableLimiter {
    return key === undefined ? context.localLimiter() : context.localLimiter().key(key);
  }

  function onLost(permit: number): void {
    leases.get(permit)?.lose();
    leases.delete(permit);
  }

  /** What the caller holds from now on. */
  function leaseOf(grant: Grant): Lease {
    if (config.maxConcurrent === null) return NO_LEASE;
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
    return { ...facts(usage, time, degraded, release), allowed: true, waitedMs, retryAfterMs: 0, permit };
  }

  function refusedResult(state: Snapshot, now: number, { retryAt, rule }: Obstacle, degraded = false): RefusedResult {
    const time = now - state.epoch;
    const usage = scarcest(rules, state.parts, time);
    const retryAfterMs = Math.max(0, retryAt - now);
    return { ...facts(usage, time, degraded, releaseNothing), allowed: false, retryAfterMs, rule: rule.label };
  }

  function permitOf(lease: Lease, waitedMs: number, degraded: boolean): Permit {
    return new LeasedPermit(id, waitedMs, degraded, lease);
  }

  function resultOf(outcome: Decided, waitedMs: number): RateLimitResult {
    if (outcome.kind === "refused") return refusedResult(outcome.state, clock.now(), outcome);
    const { grant } = outcome;
    const after = { epoch: grant.epoch, parts: grant.after };
    return grantedResult(after, clock.now(), permitOf(leaseOf(grant), waitedMs, false));
  }

  function note(result: RateLimitResult): void {
    if (!result.allowed) return meter.count("timeouts");
    meter.granted(localClock.now(), result.waitedMs);
    if (result.degraded) meter.degraded();
  }

  /** Takes a grant back that nobody used. */
  async function cancelled(grant: Grant): Promise<RateLimitResult> {
    if (leases.delete(grant.demand.permit)) meter.permit(-1);
    await cell!.giveBack(grant, true); // it was granted by the cell
    const { epoch, before } = grant;
    return grantedResult({ epoch, parts: before }, clock.now(), permitOf(NO_LEASE, 0, false));
  }

  /** The state of the store, or if it failed what the limiter goes by instead. */
  async function look(): Promise<{ readonly state: State; readonly degraded: boolean }> {
    try {
      cell ??= await openWithin(config.backendTimeoutMs, undefined);
      return { state: await cell.read(), degraded: false };
    } catch (error) {
      if (error instanceof ConfigValidationError) throw error;
      noteFailure(error);
      if (config.onFailure === "closed") throw failure(error, 0);
      return { state: freshState(rules, clock.now()), degraded: true };
    }
  }

  async function peek(cost: number): Promise<RateLimitResult> {
    if (cost > most.maximum) throw new ImpossibleCostError(id, cost, most.maximum, most.rule.label);
    const { state, degraded } = await look();
    const now = clock.now();
    const demand = { cost, owner: "", permit: 0 };
    const start = earliestStart(rules, state.parts, now - state.epoch, demand) + state.epoch;
    if (start <= now) return grantedResult(state, now, permitOf(NO_LEASE, 0, degraded));
    const { rule, retryAt } = obstacle(rules, state.parts, now - state.epoch, demand);
    return refusedResult(state, now, { rule, retryAt: retryAt + state.epoch }, degraded);
  }

  const limiter: KeyLimiter = {
    id,
    get initialized() {
      return cell !== undefined;
    },
    get idle() {
      return cell === undefined ? opening === undefined : cell.idle;
    },
    async initialize() {
      try {
        cell ??= await openWithin(config.backendTimeoutMs, undefined);
      } catch (error) {
        if (error instanceof ConfigValidationError) throw error;
        noteFailure(error);
        if (config.onFailure === "closed") throw failure(error, 0);
      }
    },
    async acquire(options = {}) {
      if (options.key !== undefined) return await limiter.key(options.key).acquire({ ...options, key: undefined });
      const answer = await request(options, config.timeoutMs ?? Infinity);
      const { outcome, waitedMs } = answer;
      if (outcome.kind === "granted") {
        meter.granted(outcome.servedAt, waitedMs);
        return permitOf(leaseOf(outcome.grant), waitedMs, false);
      }
      if (outcome.kind === "failed") {
        const { result, keep } = await withoutStore(outcome.cause, options, answer);
        keep();
        if (result.allowed) return result.permit;
        throw timedOut(result, answer);
      }
      meter.count("timeouts");
      throw timedOut(refusedResult(outcome.state, clock.now(), outcome), answer);
    },
    async tryAcquire(options = {}) {
      if (options.key !== undefined) return await limiter.key(options.key).tryAcquire({ ...options, key: undefined });
      const answer = await request(options, 0);
      const { outcome, waitedMs } = answer;
      if (outcome.kind === "failed") {
        const { result, keep } = await withoutStore(outcome.cause, options, answer);
        keep();
        return result;
      }
      const result = resultOf(outcome, waitedMs);
      note(result);
      return result;
    },
    async tryTake(options = {}) {
      if (options.key !== undefined) return await limiter.key(options.key).tryTake({ ...options, key: undefined });
      const answer = await request(options, 0);
      const { outcome, waitedMs } = answer;
      if (outcome.kind === "failed") return await withoutStore(outcome.cause, options, answer);
      const result = resultOf(outcome, waitedMs);
      return {
        result,
        keep: () => note(result),
        cancel: () => outcome.kind === "granted" ? cancelled(outcome.grant) : Promise.resolve(result),
      };
    },
    async check({ consume = true, ...options } = {}) {
      if (options.key !== undefined) {
        return await limiter.key(options.key).check({ ...options, consume, key: undefined });
      }
      if (consume) return await limiter.tryAcquire(options);
      return await peek(options.cost === undefined ? 1 : checkCost(options.cost));
    },
    async getState() {
      const { state: { epoch, parts } } = await look();
      const now = clock.now();
      const usages = rules.map((rule, i) => rule.usage(parts[i]!, now - epoch));
      const start = earliestStart(rules, parts, now - epoch, { cost: 1, owner: "", permit: 0 });
      return Object.freeze({
        allowed: start <= now - epoch,
        remaining: Math.min(...usages.map(({ remaining }) => remaining)),
        resetAt: Math.ceil(Math.max(...usages.map(({ resetAt }) => resetAt)) + epoch),
        currentUsage: Math.max(...usages.map(({ limit, remaining }) => limit - remaining)),
      });
    },
    async close() {
      closed = true;
      await Promise.all([cell?.close(), keys?.close()]);
    },
    getMetrics: () => meter.snapshot(),
    getConfig: () => config,
    key(name) {
      if (keys) return keys.get(name);
      throw new InvalidArgumentError(`Limiter '${id}' counts for one key already`, {
        field: "key",
        expected: `a call of key() on '${config.id}'`,
        received: shown(name),
      });
    },
  };
  return limiter;
}

type RefusedResult = Extract<RateLimitResult, { readonly allowed: false }>;

/** As much of a state as says what is left. */
type Snapshot = Pick<State, "epoch" | "parts">;

const releaseNothing = () => Promise.resolve();

const UNTIL_BACK = {
  open: 'requests are admitted without a limit (on_failure = "open")',
  closed: 'requests are refused (on_failure = "closed")',
  local: 'the limit holds within this process only (on_failure = "local")',
};

async function openCell(
  { config, context, rules, codec }: Shared,
  key: string | undefined,
  meter: Meter,
  onLost: (permit: number) => void,
): Promise<Cell> {
  const { store, logger } = context;
  await store.open();
  checkRetention(config, rules, store);
  const place = storeKey(config.id, key, context.digest);
  const identity = context.identity();
  const ledger = createLedger({
    key: typeof place === "string" ? place : await place(),
    storeId: config.storeId,
    store,
    rules,
    codec,
    identity,
    backendTimeoutMs: config.backendTimeoutMs,
    onFinding: (finding) => logger.warn(`Limiter '${config.id}': ${describe(finding)}`),
  });
  return new Cell({ ...context, ...config, ledger, rules, identity, meter, onLost });
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
  return `another process has other rules for it ("${finding.theirs}", here "${finding.ours}"). Both count in the same ` +
    `state, and each process applies its own rules: deploy the same configuration everywhere.`;
}

function timedOut(refused: RefusedResult, { outcome, timeoutMs }: Answer): RateLimiterAcquisitionError {
  const { limiterId, limit, remaining, resetInMs, retryAfterMs, rule } = refused;
  const when = timeoutMs === 0 ? "at once" : `within ${timeoutMs / 1_000} s`;
  return new RateLimiterAcquisitionError(
    `Unable to acquire slot for limiter '${limiterId}' ${when}: its rule "${rule}" has none before ` +
      `${(Math.ceil(retryAfterMs) / 1_000).toFixed(3)} s from now. Retry then, or allow a longer timeout.`,
    { limiterId, attempts: outcome.attempts, reason: "timeout", retryAfterMs, rule, limit, remaining, resetInMs },
  );
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
