import {
  assertAlmostEquals,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertLess,
  assertLessOrEqual,
} from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { freshState, type State, stateCodec, withRecentEpoch } from "../../../src/core/decision/state.ts";
import { rateRule } from "../../../src/core/rules/rate.ts";
import type { Taken } from "../../../src/core/rules/rule.ts";
import { TERMS } from "../../support/rule_terms.ts";

interface Limit {
  readonly ratePerSecond: number;
  readonly burst: number;
}

function tatOf({ parts: [tat] }: State): number {
  if (typeof tat !== "number") throw new Error("not the state of a rate");
  return tat;
}

interface Granted {
  readonly at: number;
  readonly cost: number;
}

const ruleOf = (limit: Limit) => rateRule({ ...limit, timingMarginMs: 10 });
const demand = (cost = 1) => ({ cost, owner: "me", permit: 1 });

/**
 * What a rate allows, slowly and from first principles: from every grant to the new one no more than the burst and what
 * the rate brought in between. By how much the new one at `at` would break that; what is not above 0 is right.
 */
function excess({ ratePerSecond, burst }: Limit, granted: readonly Granted[], at: number, cost: number): number {
  let sum = cost;
  let worst = cost - burst;
  for (const earlier of granted.toReversed()) {
    sum += earlier.cost;
    worst = Math.max(worst, sum - burst - (at - earlier.at) * ratePerSecond / 1_000);
  }
  return worst;
}

const limits: fc.Arbitrary<Limit> = fc.record({
  ratePerSecond: fc.oneof(fc.constantFrom(0.001, 0.5, 1, 10, 100, 12_345.6789), fc.double({ min: 0.01, max: 5_000 })),
  burst: fc.oneof(fc.constantFrom(1, 2, 5, 20), fc.double({ min: 1, max: 50 })),
}).filter(({ ratePerSecond, burst }) => Number.isFinite(ratePerSecond) && Number.isFinite(burst));

/** Pauses in units of the rate's interval, and costs as parts of the burst. */
const requests = fc.array(
  fc.record({
    pause: fc.oneof(fc.constantFrom(0, 0.5, 1, 3), fc.double({ min: 0, max: 4, noNaN: true })),
    part: fc.oneof(fc.constantFrom(0, 1), fc.double({ min: 0.01, max: 1, noNaN: true })),
  }),
  { maxLength: 60, size: "max" },
);

/** Rounding, in tokens. */
const EPSILON = 1e-6;

test("rateRule() admits its burst at once after a pause, and then one per interval [TB-1, TB-8]", () => {
  const rule = ruleOf({ ratePerSecond: 10, burst: 3 });
  let tat = rule.initial;
  const at: number[] = [];
  for (let i = 0; i < 6; i++) {
    at.push(rule.earliest(tat, 5_000, demand()));
    tat = rule.take(tat, at[i] ?? 0, 5_000, demand());
  }
  assertEquals(at, [5_000, 5_000, 5_000, 5_100, 5_200, 5_300]);
});

test("rateRule() with burst 1 is a spacing: the second of two never comes with the first [TB-1, TB-2]", () => {
  const rule = ruleOf({ ratePerSecond: 1, burst: 1 });
  const tat = rule.take(rule.initial, rule.earliest(rule.initial, 0, demand()), 0, demand());
  assertEquals(rule.earliest(tat, 0, demand()), 1_000);
  assertEquals(rule.earliest(tat, 999.999, demand()), 1_000);
  assertEquals(rule.earliest(tat, 1_000, demand()), 1_000);
  assertEquals(rule.earliest(tat, 1_700, demand()), 1_700);
});

test("rateRule() does not collect more than its burst, however long the pause [TB-8]", () => {
  const rule = ruleOf({ ratePerSecond: 100, burst: 20 });
  assertEquals(rule.usage(rule.initial, 1e9).remaining, 20);
  let tat = rule.initial;
  for (let i = 0; i < 20; i++) tat = rule.take(tat, 1e9, 1e9, demand());
  assertEquals(rule.usage(tat, 1e9).remaining, 0);
  assertAlmostEquals(rule.earliest(tat, 1e9, demand()), 1e9 + 10, 1e-6);
});

test("rateRule() grants whenever no window is exceeded, and only then", () => {
  fc.assert(
    fc.property(limits, requests, (limit, requests) => {
      const rule = ruleOf(limit);
      const interval = 1_000 / limit.ratePerSecond;
      const granted: Granted[] = [];
      let tat = rule.initial;
      // Not at the epoch itself, so that nothing is special about the time before the first request.
      let now = 10 * limit.burst * interval;
      for (const { pause, part } of requests) {
        now += pause * interval;
        const cost = part === 0 ? 1 : part * limit.burst;
        const at = rule.earliest(tat, now, demand(cost));
        if (at > now) {
          assertGreater(excess(limit, granted, now, cost), -EPSILON, "refused, and would have been right");
          assertGreater(excess(limit, granted, at - 0.01 * interval, cost), 0, "could have come earlier");
          continue;
        }
        assertLessOrEqual(excess(limit, granted, now, cost), EPSILON, "granted, and breaks the rate");
        granted.push({ at: now, cost });
        tat = rule.take(tat, at, now, demand(cost));
      }
    }),
    { numRuns: 300 },
  );
});

test("rateRule() grants reservations for the first moments that break nothing", () => {
  fc.assert(
    fc.property(limits, requests, (limit, requests) => {
      const rule = ruleOf(limit);
      const interval = 1_000 / limit.ratePerSecond;
      const granted: Granted[] = [];
      let tat = rule.initial;
      let now = 10 * limit.burst * interval;
      for (const { pause, part } of requests) {
        now += pause * interval;
        const cost = part === 0 ? 1 : part * limit.burst;
        const at = rule.earliest(tat, now, demand(cost));
        assertLessOrEqual(excess(limit, granted, at, cost), EPSILON);
        if (at > now) assertGreater(excess(limit, granted, at - 0.01 * interval, cost), 0);
        granted.push({ at, cost });
        tat = rule.take(tat, at, now, demand(cost));
      }
    }),
    { numRuns: 300 },
  );
});

test("rateRule() refuses until exactly the moment that earliest() says, and grants then", () => {
  fc.assert(
    fc.property(limits, fc.double({ min: 0.001, max: 1, noNaN: true }), (limit, part) => {
      const rule = ruleOf(limit);
      let tat = rule.initial;
      for (let left = limit.burst; left > 0; left -= 1) tat = rule.take(tat, 7, 7, demand(Math.min(1, left)));
      const cost = part * limit.burst;
      const at = rule.earliest(tat, 7, demand(cost));
      assertEquals(rule.earliest(tat, at, demand(cost)), at);
      assertEquals(rule.retryAt(tat, 7, demand(cost)), at);
      const before = 7 + (at - 7) * 0.999_999;
      if (before < at) assertGreater(rule.earliest(tat, before, demand(cost)), before);
    }),
  );
});

for (const ratePerSecond of [0.001, 0.5, 1, 100, 12_345.6789, 1_000_000]) {
  test(`rateRule() admits ${ratePerSecond}/s within 0.01 % under steady demand [TB-5, TB-6, TB-7]`, () => {
    const rule = ruleOf({ ratePerSecond, burst: 1 });
    const rules = [rule];
    const codec = stateCodec(rules, TERMS);
    const start = Date.UTC(2030, 0, 1);
    // Shortly before the epoch moves on, where the numbers in the state are largest.
    let state = freshState(rules, start - 3_999_950);
    let shifts = 0;
    let now = start + 0.25;
    const first = now;
    const count = 100_000;
    for (let i = 0; i < count; i++) {
      // Every so often, and whenever the epoch moves on, through the bytes that are stored.
      const moved = withRecentEpoch(rules, state, now);
      if (moved !== state || i % 1_000 === 0) {
        if (moved !== state) shifts++;
        const decoded = codec.decode(codec.encode(moved), now);
        if (decoded.kind !== "state") throw new Error(decoded.kind);
        state = decoded.state;
      }
      const tat = tatOf(state);
      const at = rule.earliest(tat, now - state.epoch, demand());
      state = { ...state, parts: [rule.take(tat, at, now - state.epoch, demand())] };
      now = at + state.epoch;
    }
    const achieved = (count - 1) * 1_000 / (now - first);
    assertLess(Math.abs(achieved / ratePerSecond - 1), 1e-4, `${achieved} of ${ratePerSecond} per second`);
    assertGreaterOrEqual(shifts, 1);
  });
}

test("rateRule() with the epoch moved on long after long pauses keeps its rate", () => {
  const rule = ruleOf({ ratePerSecond: 1_000, burst: 5 });
  const rules = [rule];
  let state = freshState(rules, Date.UTC(2030, 0, 1));
  for (let day = 0; day < 50; day++) {
    const now = Date.UTC(2030, 0, 1) + day * 86_400_000 + 0.125;
    state = withRecentEpoch(rules, state, now);
    const times: number[] = [];
    for (let i = 0; i < 7; i++) {
      const tat = tatOf(state);
      const at = rule.earliest(tat, now - state.epoch, demand());
      times.push(at + state.epoch - now);
      state = { ...state, parts: [rule.take(tat, at, now - state.epoch, demand())] };
    }
    for (const [i, time] of times.entries()) assertAlmostEquals(time, [0, 0, 0, 0, 0, 1, 2][i] ?? 0, 1e-3);
  }
});

test("rateRule() admits nothing more when the clock steps back [TB-12]", () => {
  fc.assert(
    fc.property(
      limits,
      fc.array(fc.double({ min: -50, max: 20, noNaN: true }), { maxLength: 60, size: "max" }),
      (limit, steps) => {
        const rule = ruleOf(limit);
        const interval = 1_000 / limit.ratePerSecond;
        let tat = rule.initial;
        let now = 1_000 * interval;
        let first = now;
        let last = now;
        let admitted = 0;
        for (const step of steps) {
          now += step * interval;
          first = Math.min(first, now);
          last = Math.max(last, now);
          while (rule.earliest(tat, now, demand()) <= now) {
            tat = rule.take(tat, now, now, demand());
            admitted++;
          }
        }
        // However the clock jumped about: no more than the burst and what the rate brings between first and last.
        assertLessOrEqual(admitted, limit.burst + (last - first) / interval + EPSILON);
      },
    ),
  );
});

test("rateRule().giveBack() restores the state exactly when the last reservations are cancelled, last first", () => {
  fc.assert(
    fc.property(limits, requests, fc.nat({ max: 60 }), (limit, requests, kept) => {
      const rule = ruleOf(limit);
      const interval = 1_000 / limit.ratePerSecond;
      let tat = rule.initial;
      let now = 100;
      const taken: Taken<number>[] = [];
      for (const { pause, part } of requests) {
        now += pause * interval;
        const cost = part === 0 ? 1 : part * limit.burst;
        const at = rule.earliest(tat, now, demand(cost));
        const after = rule.take(tat, at, now, demand(cost));
        taken.push({ at, before: tat, after, demand: demand(cost) });
        tat = after;
      }
      const undone = taken.slice(Math.min(kept, taken.length));
      const expected = undone[0]?.before ?? tat;
      for (const reservation of undone.toReversed()) tat = rule.giveBack(tat, reservation);
      assertEquals(tat, expected);
    }),
  );
});

test("rateRule().giveBack() in any order, with new grants in between, leaves grants that break nothing", () => {
  const steps = fc.array(
    fc.oneof(
      fc.record({
        kind: fc.constant("take"),
        pause: fc.constantFrom(0, 0.3, 1, 2.5),
        cost: fc.constantFrom(1, 0.5, 2),
      }),
      fc.record({ kind: fc.constant("cancel"), which: fc.nat({ max: 40 }) }),
    ),
    { maxLength: 80, size: "max" },
  );
  const limit = fc.record({ ratePerSecond: fc.constantFrom(1, 10, 333), burst: fc.constantFrom(2, 3, 7) });
  fc.assert(
    fc.property(limit, steps, fc.boolean(), (limit, steps, knowsLatest) => {
      const rule = ruleOf(limit);
      const interval = 1_000 / limit.ratePerSecond;
      let tat = rule.initial;
      let now = 1_000;
      let latest = -Infinity;
      const living: Taken<number>[] = [];
      for (const step of steps) {
        if (step.kind === "take") {
          now += step.pause * interval;
          const at = rule.earliest(tat, now, demand(step.cost));
          const after = rule.take(tat, at, now, demand(step.cost));
          living.push({ at, before: tat, after, demand: demand(step.cost) });
          latest = Math.max(latest, at);
          tat = after;
        } else {
          // Who has started does not cancel, but whose moment has come may.
          const open = living.filter(({ at }) => at >= now - 2 * interval);
          const reservation = open[step.which % Math.max(1, open.length)];
          if (!reservation) continue;
          living.splice(living.indexOf(reservation), 1);
          const left = rule.giveBack(tat, knowsLatest ? { ...reservation, latest } : reservation);
          assertLessOrEqual(left, tat, "who gives back takes something");
          tat = left;
        }
      }
      const kept = living.map(({ at, demand: { cost } }) => ({ at, cost })).sort((a, b) => a.at - b.at);
      for (const [i, { at, cost }] of kept.entries()) {
        assertLessOrEqual(excess(limit, kept.slice(0, i), at, cost), EPSILON);
      }
    }),
    { numRuns: 2_000 },
  );
});

test("rateRule().giveBack() of what others came after gives back all that they do not need [CHK-6]", () => {
  const rule = ruleOf({ ratePerSecond: 10, burst: 100 });
  const now = 50_000;
  const take = (tat: number, cost: number, at = rule.earliest(tat, now, demand(cost))): Taken<number> => {
    return { at, before: tat, after: rule.take(tat, at, now, demand(cost)), demand: demand(cost) };
  };
  // Ten at once, of which nine are taken back in any order, and one of them again.
  const taken = [take(rule.initial, 1)];
  while (taken.length < 10) taken.push(take(taken.at(-1)!.after, 1));
  let tat = taken.at(-1)!.after;
  for (const which of [3, 0, 8, 5, 1, 2, 7, 4, 6]) tat = rule.giveBack(tat, { ...taken[which]!, latest: now });
  assertEquals(tat, now + 100);
  // Without knowing what came later, nothing.
  assertEquals(rule.giveBack(taken.at(-1)!.after, taken[3]!), taken.at(-1)!.after);
  // A large one that had to wait, and a small one behind it, which does: it starts as late as it was told.
  const first = take(rule.initial, 5);
  const large = take(first.after, 100);
  const small = take(large.after, 1);
  assertEquals([large.at, small.at], [now + 500, now + 600]);
  const after = rule.giveBack(small.after, { ...large, latest: small.at });
  assertEquals(after, small.at + 100);
});

test("rateRule().earliestBehind() is never later than what those in front and the request really get [TMO-6]", () => {
  fc.assert(
    fc.property(limits, requests, requests, (limit, before, queue) => {
      const rule = ruleOf(limit);
      const interval = 1_000 / limit.ratePerSecond;
      let tat = rule.initial;
      let now = 50;
      const costOf = (part: number) => part === 0 ? 1 : part * limit.burst;
      for (const { pause, part } of before) {
        now += pause * interval;
        tat = rule.take(tat, rule.earliest(tat, now, demand(costOf(part))), now, demand(costOf(part)));
      }
      const known = tat;
      let ahead = 0;
      for (const { part } of queue) {
        const cost = costOf(part);
        const at = rule.earliest(tat, now, demand(cost));
        assertLessOrEqual(rule.earliestBehind(known, now, ahead, demand(cost)), at + 1e-6 * interval);
        tat = rule.take(tat, at, now, demand(cost));
        ahead += cost;
      }
    }),
  );
});

test("rateRule().usage() says how many could be taken now [STA-7]", () => {
  fc.assert(
    fc.property(limits, requests, (limit, requests) => {
      const rule = ruleOf(limit);
      const interval = 1_000 / limit.ratePerSecond;
      let tat = rule.initial;
      let now = 10 * limit.burst * interval;
      for (const { pause, part } of requests) {
        now += pause * interval;
        const { limit: most, remaining, resetAt } = rule.usage(tat, now);
        assertEquals(most, limit.burst);
        assertGreater(resetAt, now);
        let rest = tat;
        // A rounding error more or less of time does not make a whole token.
        const soon = now + 1e-5 * interval;
        for (let i = 0; i < remaining; i++) {
          assertLessOrEqual(rule.earliest(rest, now, demand()), soon);
          rest = rule.take(rest, now, now, demand());
        }
        assertGreater(rule.earliest(rest, now, demand()), now);
        const cost = part === 0 ? 1 : part * limit.burst;
        const at = rule.earliest(tat, now, demand(cost));
        if (at <= now) tat = rule.take(tat, at, now, demand(cost));
      }
    }),
  );
});

test("rateRule() leaves nothing of its burst in the exhausted state", () => {
  const rule = ruleOf({ ratePerSecond: 10, burst: 4 });
  const tat = rule.exhausted(700);
  assertEquals(rule.usage(tat, 700).remaining, 0);
  assertEquals(rule.earliest(tat, 700, demand()), 800);
});

test("rateRule() says nothing more once its state is idle", () => {
  fc.assert(
    fc.property(limits, fc.double({ min: 0, max: 1e6, noNaN: true }), (limit, at) => {
      const rule = ruleOf(limit);
      const tat = rule.take(rule.take(rule.initial, at, at, demand()), at, at, demand(limit.burst));
      const idle = rule.idleFrom(tat);
      assertEquals(rule.usage(tat, idle).remaining, rule.usage(rule.initial, idle).remaining);
      assertAlmostEquals(rule.earliest(tat, idle, demand(limit.burst)), idle, 1e-6);
    }),
  );
});

for (const json of [null, undefined, "1", true, {}, [], [1], NaN, Infinity, -Infinity]) {
  test(`rateRule().decode() does not take ${typeof json} ${String(json)} for a state`, () => {
    assertEquals(ruleOf({ ratePerSecond: 1, burst: 1 }).decode(json), undefined);
  });
}

test("a fast rate that was idle for months has all of its burst left", () => {
  const rule = ruleOf({ ratePerSecond: 100_000, burst: 20 });
  const tat = rule.take(rule.initial, 0, 0, demand());
  for (const idle of [60_000.003, 86_400_000.003, 30 * 86_400_000.1]) {
    assertEquals(rule.usage(tat, idle).remaining, 20, `after ${idle} ms`);
  }
});
