import type { RuleState } from "./states.ts";

/**
 * What a request asks for, as a rule sees it.
 *
 * @example
 * ```ts
 * import type { Demand } from "@ratesync/core/core";
 *
 * const demand: Demand = { cost: 1, owner: "process-7", permit: 42 };
 * console.log(demand.cost); // 1
 * ```
 */
export interface Demand {
  /** How much of a rate or a window the request uses. */
  readonly cost: number;
  /** The process that asks, as the holder of a lease. */
  readonly owner: string;
  /** The number of the request, unique for its owner: a permit is released by owner and number. */
  readonly permit: number;
  /** How long a permit is held without being renewed, in milliseconds; by default as long as the rule says. */
  readonly leaseMs?: number;
}

/**
 * A request that was granted, with what one rule needs to undo it.
 *
 * @example
 * ```ts
 * import { rateRule, type Taken } from "@ratesync/core/core";
 *
 * const rule = rateRule({ ratePerSecond: 10, burst: 1, timingMarginMs: 0 });
 * const demand = { cost: 1, owner: "me", permit: 1 };
 * const after = rule.take(0, 1_000, 1_000, demand);
 * const taken: Taken<number> = { at: 1_000, before: 0, after, demand };
 * console.log(rule.giveBack(after, taken)); // 0: as if it had not been made
 * ```
 */
export interface Taken<State extends RuleState = RuleState> {
  /** The moment for which it was granted. */
  readonly at: number;
  /** The state of the rule in which it was granted. */
  readonly before: State;
  /** The state of the rule after it. */
  readonly after: State;
  /** What was asked for. */
  readonly demand: Demand;
  /**
   * The last moment that is granted in the state from which this is to be taken. Without it, nobody knows what was
   * granted since, and only a grant that the state shows to be the last is taken back.
   */
  readonly latest?: number;
}

/**
 * What is left of a rule's limit.
 *
 * @example
 * ```ts
 * import { concurrencyRule, type Usage } from "@ratesync/core/core";
 *
 * const rule = concurrencyRule({ maxConcurrent: 3, leaseMs: 10_000 });
 * const usage: Usage = rule.usage(rule.initial, 0);
 * console.log(usage.remaining, usage.limit); // 3 3
 * ```
 */
export interface Usage {
  /** How much the rule allows at once. */
  readonly limit: number;
  /** How much a request could take now. */
  readonly remaining: number;
  /** When everything is available again; if nothing is used, when it would be after a request made now. */
  readonly resetAt: number;
}

/**
 * One limit as a pure function of its state, the time and the request. A limiter holds several rules and does not know
 * which they are. No method changes its arguments.
 *
 * @example
 * ```ts
 * import { rateRule, type Rule, windowRule } from "@ratesync/core/core";
 *
 * const rules: Rule[] = [
 *   rateRule({ ratePerSecond: 10, burst: 1, timingMarginMs: 0 }),
 *   windowRule({ limit: 100, windowMs: 60_000, reserveAheadMs: 0, timingMarginMs: 0 }),
 * ];
 * console.log(rules.map(({ label }) => label)); // ["10/s, burst 1", "100 in any 60 s"]
 * ```
 */
export interface Rule<State extends RuleState = RuleState> {
  /** The kind of rule. */
  readonly kind: "rate" | "window" | "concurrency";
  /** The limit in words, e.g. `100/s, burst 1`. */
  readonly label: string;
  /** The largest cost that a single request can have. */
  readonly maximumCost: number;
  /** How late, after the moment granted to it, a request may start without breaking the limit, in milliseconds. */
  readonly toleranceMs: number;
  /** How long the state has to be kept for the limit to hold, in milliseconds. */
  readonly horizonMs: number;
  /** The state in which nothing is used, as of the epoch. */
  readonly initial: State;
  /** The first moment from `now` on at which the request fits; `Infinity` if time alone does not make it fit. */
  earliest(state: State, now: number, demand: Demand): number;
  /** A lower bound for when a request fits behind others whose total cost is `ahead`. */
  earliestBehind(state: State, now: number, ahead: number, demand: Demand): number;
  /** The state after the request was granted for the moment `at`, which is what `earliest` returned, or later. */
  take(state: State, at: number, now: number, demand: Demand): State;
  /**
   * The state without a request that never started, as far as nothing later depends on it; or the state after a permit
   * came back.
   */
  giveBack(state: State, taken: Taken<State>): State;
  /** When a request that does not fit now could be granted, as far as can be told. */
  retryAt(state: State, now: number, demand: Demand): number;
  /** What is left of the limit. */
  usage(state: State, now: number): Usage;
  /** The state in which nothing is left. It stands in for a value that could not be read. */
  exhausted(now: number): State;
  /** The moment from which the state says no more than the initial state does. */
  idleFrom(state: State): number;
  /** The same state, relative to an epoch that is later by `ms`. */
  shift(state: State, ms: number): State;
  /** The state that `json` represents, or `undefined` if it represents none. */
  decode(json: unknown): State | undefined;
}
