import type { LimiterConfig } from "../limiter_config.ts";
import { concurrencyRule } from "./concurrency.ts";
import { rateRule } from "./rate.ts";
import type { Rule } from "./rule.ts";
import { windowRule } from "./window.ts";

/** What the rules of a process have in common, in milliseconds. */
export interface RuleTerms extends Pick<LimiterConfig, "reserveAheadMs" | "leaseMs"> {
  readonly timingMarginMs: number;
  readonly clockErrorMs: number;
}

/** The rules of a limiter: first its own rate or window, then the further ones, and last its concurrency limit. */
export function rulesOf(config: LimiterConfig, terms: RuleTerms): readonly Rule[] {
  const rules: Rule[] = [];
  const addRate = (ratePerSecond: number, burst: number) => rules.push(rateRule({ ...terms, ratePerSecond, burst }));
  const addWindow = (limit: number, windowMs: number) => rules.push(windowRule({ ...terms, limit, windowMs }));
  if (config.ratePerSecond !== null) addRate(config.ratePerSecond, config.burst);
  if (config.limit !== null && config.windowMs !== null) addWindow(config.limit, config.windowMs);
  for (const { limit, windowMs, burst = 1, algorithm } of config.rates) {
    if (algorithm === "token_bucket") addRate(limit * 1_000 / windowMs, burst);
    else addWindow(limit, windowMs);
  }
  if (config.maxConcurrent !== null) rules.push(concurrencyRule({ ...terms, maxConcurrent: config.maxConcurrent }));
  return rules;
}

/** The rule that has this label, on these terms; `undefined` if no rule has it. */
export function ruleOf(label: string, terms: RuleTerms): Rule | undefined {
  const [first = "", word, third, fourth] = label.split(" ");
  const amount = parseFloat(first);
  const rule = word === "burst"
    ? rateRule({ ...terms, ratePerSecond: amount, burst: Number(third) })
    : word === "in"
    ? windowRule({ ...terms, limit: amount, windowMs: Math.round(Number(fourth) * 1e9) / 1e6 })
    : concurrencyRule({ ...terms, maxConcurrent: amount });
  const isPossible = amount > 0 && rule.horizonMs > 0 && rule.horizonMs < Infinity;
  return isPossible && rule.label === label ? rule : undefined;
}
