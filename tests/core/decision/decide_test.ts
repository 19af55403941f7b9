import { assertEquals, assertGreater, assertGreaterOrEqual, assertLessOrEqual } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import {
  earliestStart,
  earliestStartBehind,
  extraReachOf,
  maximumCost,
  obstacle,
  type Parts,
  scarcest,
  takeAll,
} from "../../../src/core/decision/decide.ts";
import { concurrencyRule } from "../../../src/core/rules/concurrency.ts";
import { rateRule } from "../../../src/core/rules/rate.ts";
import type { Rule } from "../../../src/core/rules/rule.ts";
import { windowRule } from "../../../src/core/rules/window.ts";
import { rateExcess, type Start, windowExcess } from "../../support/oracles.ts";

const rate = (ratePerSecond: number, burst = 1) => rateRule({ ratePerSecond, burst, timingMarginMs: 10 });
const window = (limit: number, windowMs: number) =>
  windowRule({ limit, windowMs, reserveAheadMs: 1_000, timingMarginMs: 10 });
const permits = (maxConcurrent: number) => concurrencyRule({ maxConcurrent, leaseMs: 10_000 });
const demand = (cost = 1, permit = 1) => ({ cost, owner: "me", permit });
const initial = (rules: readonly Rule[]): Parts => rules.map((rule) => rule.initial);

test("earliestStart() is when the last of the rules agrees [CMB-1]", () => {
  const rules: Rule[] = [rate(10), window(2, 1_000)];
  let parts = initial(rules);
  const at: number[] = [];
  for (let i = 0; i < 4; i++) {
    const start = earliestStart(rules, parts, 0, demand());
    at.push(start);
    parts = takeAll(rules, parts, start, 0, demand());
  }
  assertEquals(at.slice(0, 2), [0, 100]);
  assertGreaterOrEqual(at[2] ?? 0, 1_000);
  assertLessOrEqual(at[2] ?? 0, 1_005);
  assertGreaterOrEqual(at[3] ?? 0, 1_100);
  assertLessOrEqual(at[3] ?? 0, 1_105);
});

test("earliestStart() is a moment that every rule allows, whichever of them comes first", () => {
  // The second window is full at the moment that the first one allows, and the other way round.
  const rules: Rule[] = [window(1, 300), window(1, 500)];
  const parts: Parts = [[0, 1], [0, 1]];
  assertEquals(earliestStart(rules, parts, 10, demand()), 500);
  assertEquals(earliestStart(rules, [[600, 1], [250, 1]], 10, demand()), 900);
});

test("earliestStart() is Infinity while all permits are held, whatever the rate says [CMB-1, SW-6]", () => {
  const rules: Rule[] = [rate(10), permits(1)];
  const parts = takeAll(rules, initial(rules), 0, 0, demand());
  assertEquals(earliestStart(rules, parts, 5_000, demand(1, 2)), Infinity);
  assertEquals(earliestStart([window(5, 100), permits(1)], [[], parts[1] ?? []], 5_000, demand(1, 2)), Infinity);
});

test("earliestStart() with a free permit and an exhausted window waits for the window [SW-6]", () => {
  const rules: Rule[] = [window(1, 1_000), permits(5)];
  const parts = takeAll(rules, initial(rules), 0, 0, demand());
  const start = earliestStart(rules, parts, 10, demand(1, 2));
  assertGreaterOrEqual(start, 1_000);
  assertLessOrEqual(start, 1_005);
});

/** The same states, so that any change throws. */
function frozen(parts: Parts): Parts {
  const freeze = (value: unknown): void => {
    if (typeof value !== "object" || value === null) return;
    Object.values(value).forEach(freeze);
    Object.freeze(value);
  };
  freeze(parts);
  return parts;
}

test("asking and being refused change nothing: states are never written to [CMB-2]", () => {
  const rules: Rule[] = [rate(1, 2), window(2, 1_000), permits(1)];
  let parts = frozen(initial(rules));
  for (let i = 0; i < 2; i++) {
    const before = JSON.stringify(parts);
    for (const cost of [0.5, 1, 2]) {
      earliestStart(rules, parts, 3, demand(cost, 9));
      earliestStartBehind(rules, parts, 3, 1, demand(cost, 9));
      obstacle(rules, parts, 3, demand(cost, 9));
      scarcest(rules, parts, 3);
    }
    const next = frozen(takeAll(rules, parts, 3, 3, demand(1, i)));
    rules.forEach((rule, r) => {
      const taken = { at: 3, before: parts[r] ?? 0, after: next[r] ?? 0, demand: demand(1, i) };
      rule.giveBack(next[r] ?? 0, taken);
    });
    assertEquals(JSON.stringify(parts), before);
    parts = next;
  }
});

test("several rules all hold at every start, whatever is asked when [CMB-1]", () => {
  const limits = fc.record({
    rate: fc.record({ ratePerSecond: fc.constantFrom(5, 20, 100), burst: fc.constantFrom(1, 3, 10) }),
    window: fc.record({ limit: fc.constantFrom(2, 8, 30), windowMs: fc.constantFrom(100, 1_000) }),
    second: fc.record({ limit: fc.constantFrom(5, 20, 60), windowMs: fc.constantFrom(500, 3_000) }),
  });
  fc.assert(
    fc.property(
      limits,
      fc.array(fc.constantFrom(0, 0, 1, 10, 60, 400), { maxLength: 60, size: "max" }),
      (limits, pauses) => {
        const { rate: { ratePerSecond, burst }, window: first, second } = limits;
        const rules: Rule[] = [
          rate(ratePerSecond, burst),
          window(first.limit, first.windowMs),
          window(second.limit, second.windowMs),
        ];
        let parts = initial(rules);
        let now = 1;
        const starts: Start[] = [];
        for (const pause of pauses) {
          now += pause;
          const at = earliestStart(rules, parts, now, demand());
          for (const [i, rule] of rules.entries()) assertEquals(rule.earliest(parts[i] ?? 0, at, demand()), at);
          starts.push({ at, cost: 1, until: Infinity });
          parts = takeAll(rules, parts, at, now, demand());
        }
        assertEquals(rateExcess(starts, limits.rate), undefined);
        assertEquals(windowExcess(starts, first), undefined);
        assertEquals(windowExcess(starts, second), undefined);
      },
    ),
    { numRuns: 300 },
  );
});

test("earliestStartBehind() is never later than what those in front and the request really get [TMO-6]", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(1, 10, 100),
      fc.constantFrom(1, 5, 30),
      fc.nat({ max: 30 }),
      fc.array(fc.constantFrom(1, 1, 2), { maxLength: 20, size: "max" }),
      (ratePerSecond, limit, used, queue) => {
        const rules: Rule[] = [rate(ratePerSecond, 2), window(Math.max(2, limit), 700)];
        let parts = initial(rules);
        for (let i = 0; i < used; i++) {
          parts = takeAll(rules, parts, earliestStart(rules, parts, i * 9, demand()), i * 9, demand());
        }
        const known = parts;
        const now = used * 9;
        let ahead = 0;
        for (const cost of queue) {
          const at = earliestStart(rules, parts, now, demand(cost));
          assertLessOrEqual(earliestStartBehind(rules, known, now, ahead, demand(cost)), at + 1e-6);
          parts = takeAll(rules, parts, at, now, demand(cost));
          ahead += cost;
        }
      },
    ),
  );
});

test("obstacle() is the rule that takes longest", () => {
  const slow = window(1, 5_000);
  const single = permits(1);
  const rules: Rule[] = [rate(10), slow, single];
  const parts = takeAll(rules, initial(rules), 0, 0, demand());
  const { rule, retryAt } = obstacle(rules, parts, 0, demand(1, 2));
  assertEquals(rule.label, "1 at the same time");
  assertEquals(retryAt, 10_000);
  const free: Parts = [parts[0] ?? 0, parts[1] ?? [], single.initial];
  assertEquals(obstacle(rules, free, 0, demand(1, 2)).rule, slow);
  assertGreater(obstacle(rules, free, 0, demand(1, 2)).retryAt, 4_999);
});

test("scarcest() is what the rule says that has least left [STA-6]", () => {
  const rules: Rule[] = [rate(10, 5), window(3, 1_000), permits(4)];
  let parts = initial(rules);
  assertEquals(scarcest(rules, parts, 0).limit, 3);
  parts = takeAll(rules, parts, 0, 0, demand(0.5));
  parts = takeAll(rules, parts, 0, 0, demand(0.5, 2));
  parts = takeAll(rules, parts, 0, 0, demand(0.5, 3));
  assertEquals(scarcest(rules, parts, 0), { limit: 4, remaining: 1, resetAt: 10_000 });
});

test("maximumCost() is the smallest of what the rules can ever grant", () => {
  const small = window(3, 1_000);
  assertEquals(maximumCost([rate(10, 5), small, permits(1)]), { maximum: 3, rule: small });
  assertEquals(maximumCost([permits(1)]).maximum, Infinity);
});

test("obstacle() says when a request could be granted behind others, and then which rule takes longest", () => {
  const rules: Rule[] = [rate(10), window(5, 1_000)];
  const parts = takeAll(rules, initial(rules), 0, 0, demand());
  const alone = obstacle(rules, parts, 0, demand());
  assertEquals([alone.rule, alone.retryAt], [rules[0], 100]);
  // Four in front fill the window.
  const behind = obstacle(rules, parts, 0, demand(), 4);
  assertEquals(behind.rule, rules[1]);
  assertGreaterOrEqual(behind.retryAt, 1_000);
  assertGreater(obstacle(rules, parts, 0, demand(), 30).retryAt, behind.retryAt);
});

test("extraReachOf() is the time in which as much as a request wants comes, by the slowest of its rates [TB-9]", () => {
  assertEquals(extraReachOf([rate(10, 20)], 20), 2_000);
  assertEquals(extraReachOf([rate(10, 20)], 5), 500);
  assertEquals(extraReachOf([rate(100, 50), rate(2, 10)], 10), 5_000);
  for (const other of [window(5, 1_000), permits(3)]) assertEquals(extraReachOf([rate(10, 20), other], 20), 0);
});
