import type { Demand, Rule, Usage } from "../rules/rule.ts";
import type { Permits, RuleState } from "../rules/states.ts";

/** The states of a limiter's rules, in the order of the rules. */
export type Parts = readonly RuleState[];

/**
 * The first moment from `from` on at which every rule lets the request start, or `Infinity` if time alone does not make
 * it fit. What fits at one moment also fits at any later one, so each rule is asked once, and only about now: nobody
 * knows who will hold a permit at a later moment.
 */
export function earliestStart(
  rules: readonly Rule[],
  parts: Parts,
  now: number,
  demand: Demand,
  from: number = now,
): number {
  let at = from;
  for (let i = 0; i < rules.length; i++) at = Math.max(at, rules[i]!.earliest(parts[i]!, now, demand));
  return at;
}

/** A lower bound for when a request starts behind others whose total cost is `ahead`. */
export function earliestStartBehind(
  rules: readonly Rule[],
  parts: Parts,
  now: number,
  ahead: number,
  demand: Demand,
): number {
  let at = now;
  for (let i = 0; i < rules.length; i++) at = Math.max(at, rules[i]!.earliestBehind(parts[i]!, now, ahead, demand));
  return at;
}

/** The states after every rule has granted the request for the moment `at`. */
export function takeAll(rules: readonly Rule[], parts: Parts, at: number, now: number, demand: Demand): Parts {
  if (rules.length === 1) return [rules[0]!.take(parts[0]!, at, now, demand)];
  return rules.map((rule, i) => rule.take(parts[i]!, at, now, demand));
}

/** What stood in the way of a request that did not fit. */
export interface Obstacle {
  /** The rule that refused; if several did, the one that takes longest. */
  readonly rule: Rule;
  /** When the request could be granted, as far as that rule can tell. */
  readonly retryAt: number;
}

/** The rule that keeps the request from starting now, behind others whose total cost is `ahead`. */
export function obstacle(rules: readonly Rule[], parts: Parts, now: number, demand: Demand, ahead = 0): Obstacle {
  const retryAtOf = (rule: Rule, i: number) => {
    const at = rule.retryAt(parts[i]!, now, demand);
    return ahead > 0 ? Math.max(at, rule.earliestBehind(parts[i]!, now, ahead, demand)) : at;
  };
  let rule = rules[0]!;
  let retryAt = retryAtOf(rule, 0);
  for (let i = 1; i < rules.length; i++) {
    const other = retryAtOf(rules[i]!, i);
    if (other > retryAt) [rule, retryAt] = [rules[i]!, other];
  }
  return { rule, retryAt };
}

/** What is left of the rule that has the least left. */
export function scarcest(rules: readonly Rule[], parts: Parts, now: number): Usage {
  let least = rules[0]!.usage(parts[0]!, now);
  for (let i = 1; i < rules.length; i++) {
    const usage = rules[i]!.usage(parts[i]!, now);
    if (usage.remaining < least.remaining) least = usage;
  }
  return least;
}

/** The largest cost that every rule can grant, and the rule that sets it. */
export function maximumCost(rules: readonly Rule[]): { readonly maximum: number; readonly rule: Rule } {
  const rule = rules.reduce((least, rule) => rule.maximumCost < least.maximumCost ? rule : least);
  return { maximum: rule.maximumCost, rule };
}

/**
 * How much farther ahead than others a request that was passed over may reserve, in milliseconds: the time until as
 * much as it wants has come. That is 0 where a permit would be held until then, or where all would wait behind a slot
 * of a window.
 */
export function extraReachOf(rules: readonly Rule[], cost: number): number {
  if (rules.some(({ kind }) => kind !== "rate")) return 0;
  return Math.max(...rules.map(({ horizonMs, maximumCost }) => horizonMs * cost / maximumCost));
}

/** Who holds which permits, if one of the rules limits concurrency. */
export function permitsOf(rules: readonly Rule[], parts: Parts): Permits | undefined {
  return parts[rules.findIndex(limitsConcurrency)] as Permits | undefined; // the state of the rule at that place
}

/** The states with the permits replaced; the same object if there are none, or they stay as they are. */
export function withPermits(rules: readonly Rule[], parts: Parts, replace: (permits: Permits) => Permits): Parts {
  const permits = permitsOf(rules, parts);
  const next = permits && replace(permits);
  if (next === undefined || next === permits) return parts;
  return parts.map((part, i) => limitsConcurrency(rules[i]!) ? next : part);
}

/** Whether the rule counts permits. */
export function limitsConcurrency({ kind }: Rule): boolean {
  return kind === "concurrency";
}
