import type { LimiterConfig } from "../limiter_config.ts";
import { concurrencyRule } from "./concurrency.ts";
import { rateRule } from "./rate.ts";
import type { Rule } from "./rule.ts";
import { windowRule } from "./window.ts";

/** The rules of a limiter: first its own rate or window, then the further ones, and last its concurrency limit. */
export function rulesOf(config: LimiterConfig, timingMarginMs: number, clockErrorMs: number): readonly Rule[] {
  const rules: Rule[] = [];
  const addWindow = (limit: number, windowMs: number) =>
    rules.push(windowRule({ limit, windowMs, reserveAheadMs: config.reserveAheadMs, timingMarginMs, clockErrorMs }));
  if (config.ratePerSecond !== null) {
    rules.push(rateRule({ ratePerSecond: config.ratePerSecond, burst: config.burst, timingMarginMs }));
  }
  if (config.limit !== null && config.windowMs !== null) addWindow(config.limit, config.windowMs);
  for (const { limit, windowMs, burst = 1, algorithm } of config.rates) {
    if (algorithm === "token_bucket") {
      rules.push(rateRule({ ratePerSecond: limit * 1_000 / windowMs, burst, timingMarginMs }));
    } else addWindow(limit, windowMs);
  }
  if (config.maxConcurrent !== null) {
    rules.push(concurrencyRule({ maxConcurrent: config.maxConcurrent, leaseMs: config.leaseMs }));
  }
  return rules;
}
