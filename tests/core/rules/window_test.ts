import { assertAlmostEquals, assertEquals, assertGreater, assertGreaterOrEqual, assertLessOrEqual } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import type { Taken } from "../../../src/core/rules/rule.ts";
import { windowRule } from "../../../src/core/rules/window.ts";
import type { WindowLog } from "../../../src/core/rules/states.ts";
import { type Start, windowExcess } from "../../support/oracles.ts";

interface Limit {
  readonly limit: number;
  readonly windowMs: number;
}

const RESERVE_AHEAD_MS = 1_000;
const ruleOf = (limit: Limit, timingMarginMs = 10) =>
  windowRule({ ...limit, reserveAheadMs: RESERVE_AHEAD_MS, timingMarginMs });
const demand = (cost = 1) => ({ cost, owner: "me", permit: 1 });
const startAt = (at: number, cost: number): Start => ({ at, cost, until: Infinity });

const limits: fc.Arbitrary<Limit> = fc.record({
  limit: fc.constantFrom(1, 2, 5, 40, 128, 129, 400),
  windowMs: fc.constantFrom(10, 250, 1_000, 60_000),
});

/** Pauses as parts of the window, many of them very short; how late the start is, as a part of what it may be. */
const requests = fc.array(
  fc.record({
    pause: fc.oneof(fc.constantFrom(0, 0.002, 0.01), fc.double({ min: 0, max: 0.3, noNaN: true }), fc.constant(1.1)),
    late: fc.oneof(fc.constantFrom(0, 1), fc.double({ min: 0, max: 1, noNaN: true })),
    times: fc.constantFrom(1, 1, 2, 7, 60),
    cost: fc.constantFrom(1, 1, 1, 0.25, 2, 5),
  }),
  { maxLength: 40, size: "max" },
);

test("windowRule() grants the limit at once, and the next when the first is a window old [SW-1]", () => {
  const rule = ruleOf({ limit: 3, windowMs: 1_000 });
  let log = rule.initial;
  for (let i = 0; i < 3; i++) {
    assertEquals(rule.earliest(log, 50, demand()), 50);
    log = rule.take(log, 50, 50, demand());
  }
  const next = rule.earliest(log, 50, demand());
  assertGreaterOrEqual(next, 1_050);
  assertLessOrEqual(next, 1_050 + 3);
});

test("windowRule() lets its entries age out one by one, however they were spread [SW-1]", () => {
  const rule = ruleOf({ limit: 3, windowMs: 1_000 });
  let log = rule.initial;
  const at = [0, 400, 700];
  for (const moment of at) log = rule.take(log, rule.earliest(log, moment, demand()), moment, demand());
  for (const moment of at) {
    const next = rule.earliest(log, 700, demand());
    assertAlmostEquals(next, moment + 1_000, 3.5);
    log = rule.take(log, next, 700, demand());
  }
});

test("windowRule() never lets more than its limit start in any window, whenever in its tolerance each start is [SW-1]", () => {
  fc.assert(
    fc.property(limits, requests, fc.constantFrom(0, 1, 10, 100), (limit, requests, timingMarginMs) => {
      const rule = ruleOf(limit, timingMarginMs);
      let log = rule.initial;
      let now = 0.3;
      const starts: Start[] = [];
      for (const { pause, late, times, cost } of requests) {
        now += pause * limit.windowMs;
        for (let i = 0; i < times; i++) {
          const asked = Math.min(cost, limit.limit);
          const at = rule.earliest(log, now, demand(asked));
          if (at > now + RESERVE_AHEAD_MS) break;
          starts.push(startAt(at + late * rule.toleranceMs, asked));
          log = rule.take(log, at, now, demand(asked));
          assertEquals(rule.decode(JSON.parse(JSON.stringify(log))), log);
        }
      }
      assertEquals(windowExcess(starts, limit), undefined);
    }),
    { numRuns: 300 },
  );
});

test("windowRule() up to 128 refuses only what would exceed its limit, but for its margin", () => {
  const small = limits.filter(({ limit }) => limit <= 128);
  fc.assert(
    fc.property(small, requests, (limit, requests) => {
      const rule = ruleOf(limit);
      const slack = 2 * rule.toleranceMs + 0.1;
      let log = rule.initial;
      let now = 0.3;
      const starts: Start[] = [];
      for (const { pause, times } of requests) {
        now += pause * limit.windowMs;
        for (let i = 0; i < times; i++) {
          const at = rule.earliest(log, now, demand());
          if (at > now) {
            // As long as it is refused, the window before it is full.
            const before = at - slack;
            const used = starts.filter((start) => start.at > before - limit.windowMs && start.at <= before).length;
            if (before > now) assertGreaterOrEqual(used, limit.limit);
            break;
          }
          starts.push(startAt(at, 1));
          log = rule.take(log, at, now, demand());
        }
      }
    }),
    { numRuns: 300 },
  );
});

test("windowRule() refuses until exactly the moment that earliest() says, and grants then", () => {
  fc.assert(
    fc.property(limits, requests, (limit, requests) => {
      const rule = ruleOf(limit);
      let log = rule.initial;
      let now = 0.3;
      for (const { pause, times, cost } of requests) {
        now += pause * limit.windowMs;
        const asked = demand(Math.min(cost, limit.limit));
        for (let i = 0; i < times; i++) {
          const at = rule.earliest(log, now, asked);
          assertGreaterOrEqual(at, now);
          assertEquals(rule.earliest(log, at, asked), at);
          if (at > now) assertGreater(rule.earliest(log, now + (at - now) * 0.999, asked), now + (at - now) * 0.999);
          if (at > now + RESERVE_AHEAD_MS) break;
          log = rule.take(log, at, now, asked);
        }
      }
    }),
  );
});

test("windowRule() with a limit of 1,000,000 stays within 4 KiB and is used by at least 99 % under steady demand", () => {
  const limit = { limit: 1_000_000, windowMs: 60_000 };
  const rule = ruleOf(limit);
  let log = rule.initial;
  let granted = 0;
  let longest = 0;
  const starts: Start[] = [];
  const batch = 500;
  for (let now = 5_000_000.25; now < 5_000_000 + 10 * limit.windowMs; now += 7) {
    for (;;) {
      const at = rule.earliest(log, now, demand(batch));
      // As the cell does: what comes in the next second is reserved.
      if (at > now + RESERVE_AHEAD_MS) break;
      log = rule.take(log, at, now, demand(batch));
      starts.push(startAt(at, batch));
      granted += batch;
      longest = Math.max(longest, JSON.stringify(log).length);
    }
  }
  assertLessOrEqual(longest, 4_096);
  assertGreaterOrEqual(granted, 0.99 * 10 * limit.limit);
  const first = starts.filter((_, i) => i % 10 === 0);
  assertEquals(windowExcess(first.slice(0, 4_000), { ...limit, limit: limit.limit / 10 }), undefined);
});

/** What is granted to who asks every `tickMs`, for `forMs`: how much, when, and how long the value was at the most. */
function steadily(
  rule: ReturnType<typeof ruleOf>,
  tickMs: number,
  forMs: number,
  costOf: (calls: number) => number,
): { readonly granted: number; readonly starts: readonly Start[]; readonly longest: number } {
  let log = rule.initial;
  let longest = 0;
  let granted = 0;
  const starts: Start[] = [];
  for (let now = 0.25; now < forMs; now += tickMs) {
    const cost = costOf(starts.length);
    const at = rule.earliest(log, now, demand(cost));
    if (at > now + RESERVE_AHEAD_MS) continue;
    log = rule.take(log, at, now, demand(cost));
    starts.push(startAt(at, cost));
    granted += cost;
    longest = Math.max(longest, JSON.stringify(log).length);
  }
  return { granted, starts, longest };
}

test("windowRule() with demand spread over the window is used by at least 99 % and stays within 4 KiB", () => {
  const limit = { limit: 1_000_000, windowMs: 60_000 };
  const perTick = limit.limit / limit.windowMs * 3; // three ms a tick, as much as is allowed
  const { granted, longest } = steadily(ruleOf(limit), 3, 10 * limit.windowMs, () => perTick);
  assertLessOrEqual(longest, 4_096);
  assertGreaterOrEqual(granted, 0.99 * 10 * limit.limit);
});

for (const limit of [129, 1_000, 123_456]) {
  for (const windowMs of [50, 1_000, 3_600_000, 86_400_000]) {
    test(`windowRule() with ${limit} in ${windowMs} ms stays within 4 KiB whatever comes`, () => {
      const rule = ruleOf({ limit, windowMs });
      let log = rule.initial;
      let longest = 0;
      let now = 3_999_999.123;
      for (let i = 0; i < 3_000; i++) {
        now += windowMs * ((i * 7_919) % 101) / 101 / 150;
        const at = rule.earliest(log, now, demand());
        if (at > now + RESERVE_AHEAD_MS) continue;
        log = rule.take(log, at, now, demand());
        longest = Math.max(longest, JSON.stringify(log).length);
      }
      assertLessOrEqual(longest, 4_096);
      assertGreater(longest, 4);
    });
  }
}

for (const limit of [1, 5, 100, 128]) {
  test(`windowRule() with ${limit} and costs that are fractions stays within 4 KiB, and exact`, () => {
    const windowMs = 60_000;
    const parts = [0.001, 0.0003, 0.0007];
    const costOf = (calls: number) => limit * parts[calls % parts.length]!;
    const { granted, starts, longest } = steadily(ruleOf({ limit, windowMs }), 11, 4 * windowMs, costOf);
    assertLessOrEqual(longest, 4_096);
    assertGreaterOrEqual(granted, 3.5 * limit);
    assertEquals(windowExcess(starts.slice(-6_000), { limit: limit * (1 + 1e-6), windowMs }), undefined);
  });
}

test("windowRule() with fractions spread over the window is used by at least 99 %, however many they are", () => {
  const limit = { limit: 5, windowMs: 60_000 };
  const perTick = limit.limit / limit.windowMs * 11; // eleven ms a tick, as much as is allowed
  const { granted } = steadily(ruleOf(limit), 11, 4 * limit.windowMs, () => perTick);
  assertGreaterOrEqual(granted, 0.99 * 4 * limit.limit);
});

test("windowRule() grants several reservations in order, each at the moment of the one before it or later", () => {
  const rule = ruleOf({ limit: 3, windowMs: 200 });
  let log = rule.take(rule.initial, 0, 0, demand(3));
  const at: number[] = [];
  for (let i = 0; i < 3; i++) {
    at.push(rule.earliest(log, 9, demand()));
    log = rule.take(log, at[i] ?? 0, 9, demand());
  }
  assertEquals(at, at.toSorted((a, b) => a - b));
  assertEquals(rule.decode(JSON.parse(JSON.stringify(log))), log);
});

test("windowRule() lets nobody start long before who came earlier, although something in between was cancelled", () => {
  const rule = ruleOf({ limit: 5, windowMs: 1_000 });
  const full = rule.take(rule.initial, 0, 0, demand(5));
  const second = rule.earliest(full, 10, demand(3));
  const after = rule.take(full, second, 10, demand(3));
  const third = rule.earliest(after, 10, demand(3));
  assertGreaterOrEqual(third, 2_000);
  const log = rule.take(after, third, 10, demand(3));
  const rest = rule.giveBack(log, { at: second, before: full, after, demand: demand(3) });
  const at = rule.earliest(rest, 10, demand(2));
  assertGreater(at, 1_500);
  assertLessOrEqual(at, third);
});

test("windowRule().giveBack() restores the state when what was taken last is cancelled", () => {
  fc.assert(
    fc.property(limits, requests, (limit, requests) => {
      const rule = ruleOf(limit);
      let log = rule.initial;
      let now = 0.3;
      for (const { pause, cost } of requests) {
        now += pause * limit.windowMs;
        const asked = demand(Math.min(cost, limit.limit));
        const at = rule.earliest(log, now, asked);
        const after = rule.take(log, at, now, asked);
        const back = rule.giveBack(after, { at, before: log, after, demand: asked });
        assertEquals(rule.usage(back, now).remaining, rule.usage(log, now).remaining);
        log = after;
      }
    }),
  );
});

test("windowRule().giveBack() in any order, with new grants in between, leaves starts that hold the limit", () => {
  const steps = fc.array(
    fc.oneof(
      fc.record({
        kind: fc.constant("take"),
        pause: fc.constantFrom(0, 0, 0.003, 0.05, 0.4),
        cost: fc.constantFrom(1, 1, 3, 0.5),
        late: fc.constantFrom(0, 1),
      }),
      fc.record({ kind: fc.constant("cancel"), which: fc.nat({ max: 60 }) }),
      fc.record({ kind: fc.constant("shift"), ms: fc.constantFrom(1, 7, 331) }),
    ),
    { maxLength: 120, size: "max" },
  );
  fc.assert(
    fc.property(limits, steps, (limit, steps) => {
      const rule = ruleOf(limit);
      let log = rule.initial;
      let now = 1_000;
      let epoch = 0;
      const living: { taken: Taken<WindowLog>; start: Start; epoch: number }[] = [];
      for (const step of steps) {
        if (step.kind === "take") {
          now += step.pause * limit.windowMs;
          const asked = demand(Math.min(step.cost, limit.limit));
          const at = rule.earliest(log, now - epoch, asked);
          const after = rule.take(log, at, now - epoch, asked);
          const start = startAt(at + epoch + step.late * rule.toleranceMs, asked.cost);
          living.push({ taken: { at, before: log, after, demand: asked }, start, epoch });
          log = after;
        } else if (step.kind === "shift") {
          log = rule.shift(log, step.ms);
          epoch += step.ms;
        } else {
          const open = living.filter(({ start }) => start.at > now);
          const reservation = open[step.which % Math.max(1, open.length)];
          if (!reservation) continue;
          living.splice(living.indexOf(reservation), 1);
          const moved = epoch - reservation.epoch;
          const { at, before, after, demand } = reservation.taken;
          log = rule.giveBack(log, {
            at: at - moved,
            before: rule.shift(before, moved),
            after: rule.shift(after, moved),
            demand,
          });
        }
      }
      assertEquals(windowExcess(living.map(({ start }) => start), limit), undefined);
    }),
    { numRuns: 1_000 },
  );
});

test("windowRule().giveBack() takes back what is logged together with a later grant", () => {
  const rule = ruleOf({ limit: 1_000, windowMs: 60_000 });
  const first = rule.take(rule.initial, 1_000, 1_000, demand(3));
  const log = rule.take(first, 1_100, 1_100, demand());
  assertEquals(log.length, 2);
  const taken: Taken<WindowLog> = { at: 1_000, before: rule.initial, after: first, demand: demand(3) };
  assertEquals(rule.usage(rule.giveBack(log, taken), 1_100).remaining, 999);
});

test("windowRule().giveBack() twice, or of what is not logged any more, takes nothing from others of another moment", () => {
  const rule = ruleOf({ limit: 2, windowMs: 1_000 });
  const first = rule.take(rule.initial, 0, 0, demand());
  const taken: Taken<WindowLog> = { at: 0, before: rule.initial, after: first, demand: demand() };
  const log = rule.take(first, 100, 100, demand());
  const once = rule.giveBack(log, taken);
  assertEquals(rule.usage(once, 100).remaining, 1);
  assertEquals(rule.giveBack(once, taken), once);
});

test("windowRule().earliestBehind() is never later than what those in front and the request really get [TMO-6]", () => {
  fc.assert(
    fc.property(limits, requests, requests, (limit, before, queue) => {
      const rule = ruleOf(limit);
      let log = rule.initial;
      let now = 0.3;
      const costOf = (cost: number) => Math.min(cost, limit.limit);
      for (const { pause, cost, times } of before) {
        now += pause * limit.windowMs;
        for (let i = 0; i < times; i++) {
          const at = rule.earliest(log, now, demand(costOf(cost)));
          if (at > now + RESERVE_AHEAD_MS) break;
          log = rule.take(log, at, now, demand(costOf(cost)));
        }
      }
      const known = log;
      let ahead = 0;
      for (const { cost, times } of queue) {
        const asked = demand(costOf(cost));
        for (let i = 0; i < times; i++) {
          const at = rule.earliest(log, now, asked);
          assertLessOrEqual(rule.earliestBehind(known, now, ahead, asked), at + 1e-6);
          log = rule.take(log, at, now, asked);
          ahead += asked.cost;
        }
      }
    }),
  );
});

test("windowRule().earliestBehind() counts what those in front will have taken [TMO-6]", () => {
  const rule = ruleOf({ limit: 2, windowMs: 1_000 });
  const log = rule.take(rule.initial, 0, 0, demand());
  assertEquals(rule.earliestBehind(log, 500, 0, demand()), 500);
  for (const [ahead, from] of [[1, 1_000], [2, 1_500], [3, 2_000]] as const) {
    const at = rule.earliestBehind(log, 500, ahead, demand());
    assertGreaterOrEqual(at, from);
    assertLessOrEqual(at, from + 2 * rule.toleranceMs);
  }
});

test("windowRule().usage() says how many could be taken now [STA-5]", () => {
  fc.assert(
    fc.property(limits, requests, (limit, requests) => {
      const rule = ruleOf(limit);
      let log = rule.initial;
      let now = 0.3;
      for (const { pause, times } of requests) {
        now += pause * limit.windowMs;
        for (let i = 0; i < times; i++) {
          const { limit: most, remaining, resetAt } = rule.usage(log, now);
          assertEquals(most, limit.limit);
          assertGreater(resetAt, now);
          if (remaining > 0) assertEquals(rule.earliest(log, now, demand(remaining)), now);
          const more = remaining + 1;
          if (more <= limit.limit) assertGreater(rule.earliest(log, now, demand(more)), now);
          if (remaining === 0) break;
          log = rule.take(log, now, now, demand());
        }
      }
    }),
  );
});

test("windowRule() leaves nothing in the exhausted state, and everything a window later", () => {
  const rule = ruleOf({ limit: 7, windowMs: 1_000 });
  const log = rule.exhausted(300);
  assertEquals(rule.usage(log, 300).remaining, 0);
  assertGreaterOrEqual(rule.earliest(log, 300, demand()), 1_300);
  assertEquals(rule.usage(log, 1_310).remaining, 7);
  assertEquals(rule.idleFrom(rule.initial), -Infinity);
  assertGreaterOrEqual(rule.idleFrom(log), 1_300);
  assertEquals(rule.usage(log, rule.idleFrom(log)).remaining, 7);
});

for (
  const json of [null, undefined, 1, "[]", {}, [1], [1, 2, 3], [1, "1"], [1, 0], [1, -1], [2, 1, 1, 1], [null, 1], [
    Infinity,
    1,
  ], [1, NaN]]
) {
  test(`windowRule().decode() does not take ${typeof json} ${JSON.stringify(json)} (${String(json)}) for a state`, () => {
    assertEquals(ruleOf({ limit: 1, windowMs: 1 }).decode(json), undefined);
  });
}

test("windowRule().decode() reads what was written", () => {
  const rule = ruleOf({ limit: 5, windowMs: 1_000 });
  const log = rule.take(rule.take(rule.initial, 3.7, 3.7, demand()), 90.01, 90.01, demand(2.5));
  assertEquals(rule.decode(JSON.parse(JSON.stringify(log))), log);
});

test("windowRule() takes an expired log for empty, whatever adding and subtracting fractions leave", () => {
  const rule = ruleOf({ limit: 1, windowMs: 1_000 });
  let log = rule.take(rule.initial, 0, 0, demand(0.1));
  log = rule.take(log, 20, 20, demand(0.2));
  const at = rule.earliest(log, 500, demand(1));
  assertLessOrEqual(at, 1_040);
  assertEquals(rule.earliest(log, at, demand(1)), at);
  // The larger the sums are, the more is left over.
  const large = ruleOf({ limit: 1e9, windowMs: 1_000 });
  log = [0, 0.1, 100, 1e9 / 3 + 0.7, 200, 1e9 / 3 + 0.1];
  assertEquals(large.earliest(log, 500, demand(1e9)), 1_200);
});

test("windowRule() grants all of its limit in fractions, whatever adding them makes of it", () => {
  for (const [limit, cost, times] of [[2, 0.1, 20], [7, 0.7, 10], [1, 0.001, 1_000], [3, 0.3, 10]] as const) {
    const rule = windowRule({ limit, windowMs: 60_000, reserveAheadMs: 0, timingMarginMs: 0 });
    const asked = { cost, owner: "me", permit: 0 };
    let log = rule.initial;
    for (let i = 0; i < times; i++) {
      assertEquals(rule.earliest(log, 1_000, asked), 1_000, `${i} of ${limit} by ${cost}`);
      assertEquals(rule.earliestBehind(rule.initial, 1_000, i * cost, asked), 1_000);
      log = rule.take(log, 1_000, 1_000, asked);
    }
    assertGreater(rule.earliest(log, 1_000, asked), 60_000);
  }
});

test("windowRule().decode() takes no cost that no limit could have granted", () => {
  const rule = ruleOf({ limit: 1, windowMs: 1_000 });
  assertEquals(rule.decode([0, 1e308, 1, 1e308]), undefined);
  assertEquals(rule.decode([0, Number.MAX_SAFE_INTEGER]), [0, Number.MAX_SAFE_INTEGER]);
});

test("windowRule() with an allowance for clocks never lets more than its limit start, however they disagree within it [SW-1, TB-12]", () => {
  const CLOCK_ERROR_MS = 4;
  const request = fc.record({
    pause: fc.oneof(fc.constantFrom(0, 0.5, 2), fc.double({ min: 0, max: 300, noNaN: true })),
    // What the clock of the process that decides is ahead, half of what two of them may differ by.
    ahead: fc.oneof(fc.constantFrom(-1, 1), fc.double({ min: -1, max: 1, noNaN: true })),
    late: fc.oneof(fc.constantFrom(0, 1), fc.double({ min: 0, max: 1, noNaN: true })),
  });
  fc.assert(
    fc.property(limits, fc.array(request, { maxLength: 200 }), (limit, list) => {
      const rule = windowRule({ ...limit, reserveAheadMs: 0, timingMarginMs: 10, clockErrorMs: CLOCK_ERROR_MS });
      const starts: Start[] = [];
      let log = rule.initial;
      let truth = 0;
      for (const { pause, ahead, late } of list) {
        const asked = truth + pause + ahead * CLOCK_ERROR_MS / 2;
        // It comes when its process believes that there is room.
        const now = rule.earliest(log, asked, demand());
        truth += pause + now - asked;
        log = rule.take(log, now, now, demand());
        starts.push(startAt(truth + late * rule.toleranceMs, 1));
      }
      assertEquals(windowExcess(starts, limit), undefined);
    }),
    { numRuns: 300 },
  );
});

test("windowRule() refuses nobody whose clock is behind that of the last grant by what is allowed for", () => {
  for (const clockErrorMs of [2, 200]) {
    const rule = windowRule({ limit: 5, windowMs: 1_000, reserveAheadMs: 0, timingMarginMs: 10, clockErrorMs });
    const log = rule.take(rule.initial, 300, 300, demand());
    const behind = 300 - clockErrorMs;
    assertEquals(rule.earliest(log, behind, demand()), behind);
    const next = rule.take(log, behind, behind, demand());
    assertGreaterOrEqual(next.at(-2) ?? 0, log.at(-2) ?? Infinity);
  }
});
