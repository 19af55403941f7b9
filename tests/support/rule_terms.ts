import type { RuleTerms } from "../../src/core/rules/rules.ts";

/** The terms of a limiter for which nothing else was configured. */
export const TERMS: RuleTerms = { reserveAheadMs: 1_000, leaseMs: 10_000, timingMarginMs: 10, clockErrorMs: 0 };
