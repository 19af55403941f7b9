import type { ConcurrencyOptions, RateOptions, SeveralRatesOptions, WindowOptions } from "../config/options.ts";
import { checkCost, checkOptions, namesOf, wrongArgument } from "../core/arguments.ts";
import {
  earliestStart,
  maximumCost,
  obstacle,
  permitsOf,
  scarcest,
  takeAll,
  withPermits,
} from "../core/decision/decide.ts";
import { counted } from "../core/decision/others.ts";
import { idleFrom, type State, stateCodec, withRecentEpoch } from "../core/decision/state.ts";
import { describe, readState } from "../core/decision/stored.ts";
import { ImpossibleCostError, RateLimiterError } from "../core/errors.ts";
import { DEFAULTS, type LimiterSettings, resolveLimiter } from "../core/limiter/defaults.ts";
import { holderOf, NOBODY_KNOWS, releasePermit, renewPermits } from "../core/rules/concurrency.ts";
import type { Demand, Usage } from "../core/rules/rule.ts";
import { rulesOf } from "../core/rules/rules.ts";
import type { Permits } from "../core/rules/states.ts";
import { checkLimits, LIMITS } from "./limit_checks.ts";

/**
 * The options that say what a limiter limits, among those of `configureLimiter`.
 *
 * @example
 * ```ts
 * import type { LimitName } from "@ratesync/core/core";
 *
 * const names: LimitName[] = ["ratePerSecond", "burst"];
 * console.log(names.length); // 2
 * ```
 */
export type LimitName =
  | ("algorithm" | "ratePerSecond" | "burst" | "limit" | "windowMs" | "rates")
  | ("maxConcurrent" | "leaseMs" | "reserveAheadMs");

/**
 * What {@link pureLimiter} limits: the options of `configureLimiter` that define the limits, with the same defaults.
 *
 * @example
 * ```ts
 * import type { PureLimiterOptions } from "@ratesync/core/core";
 *
 * const api: PureLimiterOptions = { ratePerSecond: 100, burst: 20, maxConcurrent: 8 };
 * const login: PureLimiterOptions = { algorithm: "sliding_window", limit: 5, windowMs: 300_000 };
 * console.log(api, login);
 * ```
 */
export type PureLimiterOptions =
  & (
    | Pick<RateOptions, LimitName>
    | Pick<ConcurrencyOptions, LimitName>
    | Pick<SeveralRatesOptions, LimitName>
    | Pick<WindowOptions, LimitName>
  )
  & {
    /**
     * The allowance for late timers and for hosts whose clocks disagree, in milliseconds.
     *
     * @default {10}
     */
    readonly timingMarginMs?: number | undefined;
  };

/**
 * A request to a {@link PureLimiter}.
 *
 * @example
 * ```ts
 * import type { PureRequest } from "@ratesync/core/core";
 *
 * const request: PureRequest = { cost: 2, startBy: Date.now() + 500 };
 * console.log(request.cost); // 2
 * ```
 */
export interface PureRequest {
  /**
   * How much of a rate or a window the request uses; finite and > 0.
   *
   * @default {1}
   */
  readonly cost?: number | undefined;
  /**
   * The latest moment at which it may start, in milliseconds since the Unix epoch: a slot up to then is reserved for
   * it, but not farther ahead than `reserveAheadMs`. The default is the time of the decision.
   */
  readonly startBy?: number | undefined;
  /** The holder of the permit, where concurrency is limited: a different text for each permit. */
  readonly holder?: string | undefined;
}

/**
 * The request is granted, once the `value` is stored.
 *
 * @example
 * ```ts
 * import { type PureGrant, pureLimiter } from "@ratesync/core/core";
 *
 * const decision = pureLimiter("api", { ratePerSecond: 10 }).decide(null, 1_000);
 * if (decision.allowed) {
 *   const { startAt, startUntil, keepUntil }: PureGrant = decision;
 *   console.log(startAt, startUntil, keepUntil); // 1000 1080 1101
 * }
 * ```
 */
export interface PureGrant extends Usage {
  /** The request is granted. */
  readonly allowed: true;
  /** The value to store. Nothing is granted unless it replaces the value that was decided on. */
  readonly value: Uint8Array;
  /** When it may start, in milliseconds since the Unix epoch. */
  readonly startAt: number;
  /**
   * When it must have started for the limit to hold. A request that is later has missed its slot, and must be decided
   * anew.
   */
  readonly startUntil: number;
  /** The moment from which the value says no more than an absent one, and may be deleted. */
  readonly keepUntil: number;
  /** For the log: what is wrong with the value that was decided on, in a sentence, if anything is. */
  readonly warning?: string | undefined;
}

/**
 * The request is refused. Usually there is nothing to store.
 *
 * @example
 * ```ts
 * import { pureLimiter, type PureRefusal } from "@ratesync/core/core";
 *
 * const api = pureLimiter("api", { ratePerSecond: 10 });
 * const first = api.decide(null, 1_000);
 * const second = api.decide(first.allowed ? first.value : null, 1_000);
 * if (!second.allowed) {
 *   const { rule, retryAt }: PureRefusal = second;
 *   console.log(rule, retryAt); // "10/s, burst 1" 1100
 * }
 * ```
 */
export interface PureRefusal extends Usage {
  /** The request is refused. */
  readonly allowed: false;
  /** When the same request, with the same patience, could be granted, as far as can be told: a whole millisecond. */
  readonly retryAt: number;
  /** The rule that refused, e.g. `100/s, burst 1`; if several did, the one that takes longest. */
  readonly rule: string;
  /**
   * What is to be stored: if the stored value is damaged, or was written by other limits in whose place these stand. What
   * is used comes back from that moment on.
   */
  readonly value?: Uint8Array | undefined;
  /** For the log: what is wrong with the value that was decided on, in a sentence, if anything is. */
  readonly warning?: string | undefined;
}

/**
 * The decision of a {@link PureLimiter}. Narrow it on `allowed`.
 *
 * @example
 * ```ts
 * import { type PureDecision, pureLimiter } from "@ratesync/core/core";
 *
 * const decision: PureDecision = pureLimiter("api", { ratePerSecond: 10 }).decide(null, Date.now());
 * console.log(decision.allowed, decision.remaining); // true 0
 * ```
 */
export type PureDecision = PureGrant | PureRefusal;

/**
 * All limits of one key as a pure function of the stored value, the time and the request. Nothing is kept between
 * calls, and no argument is changed.
 *
 * @example
 * ```ts
 * import { type PureLimiter, pureLimiter } from "@ratesync/core/core";
 *
 * const api: PureLimiter = pureLimiter("api", { ratePerSecond: 10, burst: 5 });
 * console.log(api.usage(null, Date.now()).remaining); // 5
 * ```
 */
export interface PureLimiter {
  /** The limits in words, e.g. `100/s, burst 20; 8 at the same time`. */
  readonly label: string;
  /**
   * Decides a request at the time `now`, in milliseconds since the Unix epoch.
   *
   * @param value The stored value; `null` or `undefined` if there is none.
   * @throws {ImpossibleCostError} if the request asks for more than the limits ever allow at once.
   * @throws {InvalidArgumentError} if an argument cannot be right, or the holder already has a permit.
   * @throws {RateLimiterError} if the value was written by a newer version that this one does not understand.
   */
  decide(value: Uint8Array | null | undefined, now: number, request?: PureRequest): PureDecision;
  /**
   * What is left, at the time `now`, of the rule that has the least left.
   *
   * @throws {InvalidArgumentError} if an argument cannot be right.
   * @throws {RateLimiterError} if the value was written by a newer version.
   */
  usage(value: Uint8Array | null | undefined, now: number): Usage;
  /**
   * The value to store so that a permit is held for `leaseMs` from `now` on; `undefined` if it is lost because its
   * lease has run out and somebody else may hold it.
   *
   * @throws {InvalidArgumentError} if an argument cannot be right.
   * @throws {RateLimiterError} if the value was written by a newer version.
   */
  renew(value: Uint8Array | null | undefined, now: number, holder: string): Uint8Array | undefined;
  /**
   * The value to store so that a permit is free; `undefined` if no holder of this name has one, and there is nothing to
   * store.
   *
   * @throws {InvalidArgumentError} if an argument cannot be right.
   * @throws {RateLimiterError} if the value was written by a newer version.
   */
  release(value: Uint8Array | null | undefined, now: number, holder: string): Uint8Array | undefined;
}

/** Each holder has one permit. */
const PERMIT = 1;
/** Up to here a Date can say what time it is. */
const LATEST = 8.64e15;
const NAMES = namesOf<PureRequest>({ cost: true, startBy: true, holder: true });

/**
 * The algorithm alone: it decides on a value that you keep, in a transaction of your own, such as a row in a database,
 * the storage of a durable object, or an atomic operation of Deno KV. The value is the one that limiters store, as
 * readable JSON: at most 4 KiB, and some 50 bytes more for each holder where concurrency is limited.
 *
 * The value must change only as a whole, from the one that was decided on to the one that resulted: in a transaction or
 * by a compare-and-set. Otherwise two requests decided at the same time are granted the same thing twice.
 *
 * @param id Its name, for messages.
 * @param options What is limited.
 * @throws {ConfigValidationError} if an option is missing, wrong or unknown.
 *
 * @example
 * ```ts
 * import { pureLimiter } from "@ratesync/core/core";
 *
 * const login = pureLimiter("login", { algorithm: "sliding_window", limit: 2, windowMs: 60_000 });
 * const rows = new Map<string, Uint8Array>(); // a table in your database
 *
 * function isAllowed(user: string): boolean { // in a transaction
 *   const decision = login.decide(rows.get(user), Date.now());
 *   if (decision.value) rows.set(user, decision.value);
 *   return decision.allowed;
 * }
 * console.log(isAllowed("alice"), isAllowed("alice"), isAllowed("alice")); // true true false
 * ```
 */
export function pureLimiter(id: string, options: PureLimiterOptions): PureLimiter {
  const checked = checkLimits<Omit<LimiterSettings, "store"> & PureLimiterOptions>(id, LIMITS, options);
  const { timingMarginMs = DEFAULTS.timingMarginMs } = checked;
  const config = resolveLimiter(id, checked);
  const { reserveAheadMs, leaseMs } = config;
  const terms = { ...config, timingMarginMs, clockErrorMs: timingMarginMs };
  const rules = rulesOf(config, terms);
  const codec = stateCodec(rules, terms);
  const most = maximumCost(rules);
  const toleranceMs = Math.min(...rules.map((rule) => rule.toleranceMs));

  function read(value: Uint8Array | null | undefined, now: number) {
    if (value !== null && value !== undefined && !(value instanceof Uint8Array)) {
      throw wrongArgument(
        "The stored value must be bytes",
        "value",
        "a Uint8Array, or null if nothing is stored",
        value,
      );
    }
    if (!Number.isFinite(now) || Math.abs(now) > LATEST) {
      throw wrongArgument("There is no such time", "now", "milliseconds since the Unix epoch", now);
    }
    const reading = readState(rules, codec, value ?? undefined, now, reserveAheadMs);
    const { state, finding } = reading;
    const warning = finding && `Limiter '${id}': ${describe(finding)}`;
    if (!state) throw new RateLimiterError(warning);
    return { state: withRecentEpoch(rules, state, now), isToBeWritten: reading.isToBeWritten, warning };
  }

  function usageOf({ parts, epoch }: State, now: number): Usage {
    const { limit, remaining, resetAt } = scarcest(rules, parts, now - epoch);
    return { limit, remaining, resetAt: resetAt + epoch };
  }

  function replaced(state: State, replace: (permits: Permits) => Permits): Uint8Array {
    return codec.encode({ ...state, parts: withPermits(rules, state.parts, replace) });
  }

  /** Until when the holder has a permit, relative to the epoch. */
  function heldUntil(state: State, holder: string): number {
    const permits = permitsOf(rules, state.parts);
    return (permits && holderOf(permits, holder))?.until ?? -Infinity;
  }

  return {
    label: codec.fingerprint,
    decide(value, now, request = {}) {
      const { cost = 1, startBy = now, holder = "" } = checkOptions(request, NAMES);
      const { state, isToBeWritten, warning } = read(value, now);
      if (checkCost(cost) > most.maximum) throw new ImpossibleCostError(id, cost, most.maximum, most.rule.label);
      if (typeof startBy !== "number" || !(startBy >= now)) {
        throw wrongArgument("Nothing can start in the past", "startBy", "a moment >= now", startBy);
      }
      const { epoch, parts } = state;
      const time = now - epoch;
      if (config.maxConcurrent !== null) {
        checkHolder(holder);
        if (heldUntil(state, holder) > time) {
          throw wrongArgument("That one holds a permit", "holder", "another text for each permit", holder);
        }
      }
      const demand: Demand = { cost, owner: holder, permit: PERMIT };
      const at = earliestStart(rules, parts, time, demand);
      const waitMs = Math.min(startBy - now, reserveAheadMs);
      if (at > time + waitMs) {
        const { rule, retryAt } = obstacle(rules, parts, time, demand);
        const fitsAt = at === Infinity ? retryAt : Math.max(retryAt, at) - waitMs;
        // Rounded before it is added, because the sum has fewer digits: a caller that asks again then is not too early.
        return {
          allowed: false,
          retryAt: Math.ceil(fitsAt) + epoch,
          rule: rule.label,
          ...usageOf(state, now),
          value: isToBeWritten ? codec.encode(state) : undefined,
          warning,
        };
      }
      const next: State = {
        ...state,
        parts: takeAll(rules, parts, at, time, demand),
        others: counted(state, [{ at: at + epoch, demand }], now),
      };
      const startAt = at + epoch;
      return {
        allowed: true,
        value: codec.encode(next),
        startAt,
        startUntil: startAt + toleranceMs,
        keepUntil: Math.floor(idleFrom(rules, next)) + 1,
        ...usageOf(next, now),
        warning,
      };
    },
    usage: (value, now) => usageOf(read(value, now).state, now),
    renew(value, now, holder) {
      const { state } = read(value, now);
      const time = now - state.epoch;
      const until = heldUntil(state, checkHolder(holder));
      if (until <= time) return undefined;
      return replaced(state, (all) => renewPermits(all, holder, [PERMIT], Math.max(until, time + leaseMs)));
    },
    release(value, now, holder) {
      const { state } = read(value, now);
      if (heldUntil(state, checkHolder(holder)) === -Infinity) return undefined;
      return replaced(state, (all) => releasePermit(all, holder, PERMIT));
    },
  };
}

function checkHolder(holder: unknown): string {
  if (typeof holder === "string" && holder !== "" && holder !== NOBODY_KNOWS) return holder;
  const expected = `a text that is not empty, nor "${NOBODY_KNOWS}"`;
  throw wrongArgument("Where concurrency is limited a permit has a holder", "holder", expected, holder);
}
