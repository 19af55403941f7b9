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
  /** How much of a rate or a window it uses. */
  readonly cost: number;
  /** The process that asks, as holder of a lease. */
  readonly owner: string;
  /** The number of the request, unique for its owner: a permit is released by owner and number. */
  readonly permit: number;
}

/**
 * A request that was granted, as one rule needs it to undo it.
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
  /** The moment that it was granted for. */
  readonly at: number;
  /** The rule's state that it was granted in. */
  readonly before: State;
  /** The rule's state that it left. */
  readonly after: State;
  /** What was asked for. */
  readonly demand: Demand;
  /**
   * The last moment that is granted in the state from which this is to be taken: without it nobody knows what was granted
   * since, and only what the state shows to be the last is taken back.
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
  /** When everything is available again; where nothing is used, when it would be after a request that is made now. */
  readonly resetAt: number;
}

/**
 * One limit as a pure function of its state, the time and the request. A limiter holds several and does not know which
 * it has. None of the methods changes its arguments.
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
  /** Which rule it is. */
  readonly kind: "rate" | "window" | "concurrency";
  /** The limit in words, e.g. `100/s, burst 1`. */
  readonly label: string;
  /** The largest cost that a single request can have. */
  readonly maximumCost: number;
  /** By how many milliseconds a request may start after the moment it was granted for, and the limit still holds. */
  readonly toleranceMs: number;
  /** For how many milliseconds the state has to be kept so that the limit holds. */
  readonly horizonMs: number;
  /** The state in which nothing is used, as of the epoch. */
  readonly initial: State;
  /** The first moment from `now` on at which the request fits; `Infinity` if time alone does not bring it. */
  earliest(state: State, now: number, demand: Demand): number;
  /** At least when a request fits that comes after others of `ahead` cost in all. */
  earliestBehind(state: State, now: number, ahead: number, demand: Demand): number;
  /** The state after the request was granted for the moment `at`, which is what `earliest` said or later. */
  take(state: State, at: number, now: number, demand: Demand): State;
  /**
   * The state as if a request that never started had not been made, as far as nothing later depends on it; and the state
   * after a permit came back.
   */
  giveBack(state: State, taken: Taken<State>): State;
  /** When a request could be granted that is not now, as far as it can be told. */
  retryAt(state: State, now: number, demand: Demand): number;
  /** What is left. */
  usage(state: State, now: number): Usage;
  /** The state in which nothing is left: what stands in for a value that could not be read. */
  exhausted(now: number): State;
  /** From when on the state says nothing that the initial state does not say. */
  idleFrom(state: State): number;
  /** The same state with an epoch that is later by `ms`. */
  shift(state: State, ms: number): State;
  /** The state that `json` stands for, or `undefined` if it stands for none. */
  decode(json: unknown): State | undefined;
}
