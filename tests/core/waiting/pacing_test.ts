import { assertAlmostEquals, assertEquals, assertGreaterOrEqual, assertLess, assertLessOrEqual } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import {
  isOverdue,
  leadOf,
  missOf,
  pauseAfter,
  reservableMs,
  spareOf,
  stepOf,
  whenToLook,
  whenToReserve,
} from "../../../src/core/waiting/pacing.ts";
import { concurrencyRule } from "../../../src/core/rules/concurrency.ts";
import { rateRule } from "../../../src/core/rules/rate.ts";
import type { Rule } from "../../../src/core/rules/rule.ts";
import { windowRule } from "../../../src/core/rules/window.ts";
import { Lateness } from "../../../src/core/waiting/lateness.ts";
import { Trips } from "../../../src/core/store/trips.ts";

const part = fc.double({ min: 0, max: 1, noNaN: true });

const HELD = {
  ...{ now: 0, until: 10_000, deadline: Infinity, reachMs: 1_000, answerMs: 0 },
  ...{ passedOver: 0, hadItsTurn: false },
};

test("who waits for its time is decided before it comes, and the sooner the more turns went to others", () => {
  fc.assert(fc.property(part, fc.nat(20), (random, passedOver) => {
    const at = whenToReserve({ ...HELD, random });
    assertGreaterOrEqual(at, 9_000);
    assertLessOrEqual(at, 10_000);
    assertLessOrEqual(whenToReserve({ ...HELD, random, passedOver }), at);
    // The two moments are rounded.
    assertAlmostEquals(whenToReserve({ ...HELD, random, hadItsTurn: true }) - at, stepOf(1_000), 1e-9);
  }));
});

test("who may reserve nothing is decided a little late, unless it has no time for that, so that others have a turn", () => {
  const held = { ...HELD, reachMs: 0 };
  fc.assert(fc.property(part, fc.integer({ min: 1, max: 20 }), (random, passedOver) => {
    const at = whenToReserve({ ...held, hadItsTurn: true, random });
    assertGreaterOrEqual(at, 10_000);
    assertLessOrEqual(at, 10_070);
    assertLess(whenToReserve({ ...held, random, passedOver }), at);
    assertEquals(whenToReserve({ ...held, random, deadline: 10_000 }), 10_000);
    assertEquals(whenToReserve({ ...held, random, deadline: 10_140 }), whenToReserve({ ...held, random }));
    // It has to hear of it in time, too.
    assertEquals(whenToReserve({ ...held, random, deadline: 10_140, answerMs: 140 }), 10_000);
    const far = { ...held, reachMs: 20, answerMs: 20 };
    assertEquals(whenToReserve({ ...far, random, deadline: 10_001 }), whenToReserve({ ...far, random, now: 10_000 }));
  }));
});

const RATE = rateRule({ ratePerSecond: 10, burst: 20, timingMarginMs: 10 }); // 2 seconds
const WINDOW = windowRule({ limit: 5, windowMs: 60_000, reserveAheadMs: 1_000, timingMarginMs: 10 });

test("no moment is granted that the store would forget while it counts", () => {
  assertEquals(reservableMs(1_000, [RATE, WINDOW], undefined), 1_000);
  assertEquals(reservableMs(1_000, [RATE, WINDOW], 86_400_000), 1_000);
  assertEquals(reservableMs(1_000, [RATE, WINDOW], 60_400), 400);
  assertEquals(reservableMs(1_000, [RATE, WINDOW], 60_000), 0);
  assertEquals(reservableMs(1_000, [RATE, WINDOW], 0), 0);
});

test("who was passed over four times is overdue, where the store remembers that for long enough", () => {
  assertEquals([0, 3, 4, 5].map((times) => isOverdue(times, [RATE], 1_000)), [false, false, true, true]);
  // The state counts for as long as it takes to come by all that is used, and by as much again.
  assertEquals([4_999, 5_000].map((retentionMs) => isOverdue(4, [RATE], 1_000, retentionMs)), [false, true]);
});

test("who waits for a permit looks again after about as long as it has waited, but not more rarely than every second", () => {
  for (const [waited, least, most] of [[0, 25, 50], [200, 100, 200], [60_000, 500, 1_000]] as const) {
    assertEquals(whenToLook(waited, 0, 0) - waited, least);
    assertEquals(whenToLook(waited, 0, 1) - waited, most);
  }
});

test("a grant counts for when the slowest answer of late would be here, where the store is slow", () => {
  const trips = new Trips();
  const punctuality = { toleranceMs: 5, spareMs: 0 };
  assertEquals(leadOf(trips, punctuality, 3, 0), 0);
  for (let i = 0; i < 3; i++) trips.took(1, i);
  assertEquals(leadOf(trips, punctuality, 3, 3), 0); // soon enough for a start that may be late by 5 ms
  for (let i = 0; i < 3; i++) trips.took(20, i);
  trips.tookInAll(60, 3);
  assertEquals(leadOf(trips, punctuality, 0, 3), 60);
  assertEquals(leadOf(trips, punctuality, 2, 3), 100);
  trips.tookInAll(900, 4);
  assertEquals(leadOf(trips, punctuality, 0, 4), 320); // a single answer that took ages says little
});

test("after an answer that was late a grant of a rate counts for later with a fast store, too, and soon no more", () => {
  const trips = new Trips();
  for (let i = 0; i < 3; i++) trips.took(1, i);
  trips.tookInAll(12, 3);
  const lead = (spareMs: number, now: number) => leadOf(trips, { toleranceMs: 5, spareMs }, 0, now);
  assertEquals(lead(100, 3), 12);
  assertEquals(lead(8, 3), 8);
  assertEquals(lead(0, 3), 0);
  assertEquals(lead(100, 2_003), 3);
  assertEquals(lead(100, 3_003), 0);
  trips.tookInAll(900, 3_003);
  assertEquals(lead(100, 3_003), 16); // the host stood still, which says little about the next answer
});

test("there is time to spare in a burst, and none in a window or at an even pace", () => {
  const rate = (burst: number) => rateRule({ ratePerSecond: 100, burst, timingMarginMs: 10 }) as Rule;
  const window = windowRule({ limit: 5, windowMs: 1_000, reserveAheadMs: 0, timingMarginMs: 10 }) as Rule;
  const permits = concurrencyRule({ maxConcurrent: 1, leaseMs: 1_000 }) as Rule;
  assertAlmostEquals(spareOf([rate(17)]), 20);
  assertEquals(spareOf([rate(1)]), 0);
  assertEquals(spareOf([rate(17), window]), 0);
  assertAlmostEquals(spareOf([permits, rate(17)]), 20);
});

test("timers are set sooner where the latest ones were so late that slots would be missed", () => {
  const lateness = new Lateness();
  assertEquals(missOf(lateness, 10), 0);
  lateness.took(5);
  assertEquals(missOf(lateness, 10), 0);
  lateness.took(16);
  assertEquals(missOf(lateness, 10), 11);
  lateness.took(2_000);
  assertEquals(missOf(lateness, 10), 50); // it stood still, and no timer would have been soon enough
});

test("losers pause for a random time that grows", () => {
  fc.assert(fc.property(part, fc.double({ min: 1, max: 50, noNaN: true }), (random, pause) => {
    const next = pauseAfter(pause, 50, random);
    assertGreaterOrEqual(next, Math.min(1, 50));
    assertLessOrEqual(next, Math.min(50, 3 * pause));
  }));
  assertLess(pauseAfter(1, 50, 0.1), pauseAfter(1, 50, 0.9));
});
