import { assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { GLANCE_MS } from "../../../src/core/alarm.ts";
import { createTimeLimit } from "../../../src/core/store/time_limit.ts";
import { createVirtualClock } from "../../../src/testing/virtual_clock.ts";

class TooLate extends Error {}
const caller = { late: () => new TooLate("too late") };
const never = () => new Promise<never>(() => {});

test("createTimeLimit() passes on what comes in time", async () => {
  const clock = createVirtualClock();
  const limit = createTimeLimit(clock);
  assertEquals(await limit.bound(Promise.resolve(7), 100, caller), 7);
  assertEquals(await clock.runUntil(limit.bound(clock.sleep(99).then(() => 8), 100, caller)), 8);
  await assertRejects(() => limit.bound(Promise.reject(new RangeError("mine")), 100, caller), RangeError, "mine");
});

test("createTimeLimit() rejects a call that takes longer, at exactly its limit", async () => {
  const clock = createVirtualClock();
  const limit = createTimeLimit(clock);
  const begun = clock.now();
  await assertRejects(() => clock.runUntil(limit.bound(never(), 100, caller)), TooLate);
  assertEquals(clock.now() - begun, 100);
});

test("createTimeLimit() starts no timer for a call that settles at once", async () => {
  const clock = createVirtualClock();
  const limit = createTimeLimit(clock);
  await limit.bound(Promise.resolve(), 100, caller);
  for (let turn = 0; turn < 20; turn++) await undefined;
  assertEquals(clock.sleepers, 0);
});

test("createTimeLimit() has no timer any more a moment after the call [TMO-7]", async () => {
  const clock = createVirtualClock();
  const limit = createTimeLimit(clock);
  await clock.runUntil(limit.bound(clock.sleep(50), 10_000, caller));
  await clock.advance(GLANCE_MS);
  assertEquals(clock.sleepers, 0);
});

test("createTimeLimit() gives each of many calls in a row its whole time, with one timer", async () => {
  const clock = createVirtualClock();
  const limit = createTimeLimit(clock);
  for (let i = 0; i < 10; i++) {
    await clock.runUntil(limit.bound(clock.sleep(60), 100, caller));
    assertEquals(clock.sleepers <= 1, true);
  }
  const begun = clock.now();
  await assertRejects(() => clock.runUntil(limit.bound(never(), 100, caller)), TooLate);
  assertEquals(clock.now() - begun, 100);
});

test("createTimeLimit() bounds a call with a shorter time than the one before it", async () => {
  const clock = createVirtualClock();
  const limit = createTimeLimit(clock);
  await clock.runUntil(limit.bound(clock.sleep(10), 10_000, caller));
  const begun = clock.now();
  await assertRejects(() => clock.runUntil(limit.bound(never(), 50, caller)), TooLate);
  assertEquals(clock.now() - begun, 50);
});

test("createTimeLimit() does not let the late answer of one call end the next", async () => {
  const clock = createVirtualClock();
  const limit = createTimeLimit(clock);
  const slow = clock.sleep(150).then(() => "slow");
  await assertRejects(() => clock.runUntil(limit.bound(slow, 100, caller)), TooLate);
  const begun = clock.now();
  await assertRejects(() => clock.runUntil(limit.bound(never(), 100, caller)), TooLate);
  assertEquals(clock.now() - begun, 100);
});

test("createTimeLimit() with a call that fails after its limit leaves no rejection unhandled", async () => {
  const clock = createVirtualClock();
  const limit = createTimeLimit(clock);
  const failing = clock.sleep(150).then(() => Promise.reject(new Error("nobody hears this")));
  await assertRejects(() => clock.runUntil(limit.bound(failing, 100, caller)), TooLate);
  await clock.advance(100);
  assertEquals(clock.sleepers, 0);
});

test("createTimeLimit() ends each of many calls at its own limit, whatever the others do, and no timer is left", async () => {
  const calls = fc.array(
    fc.record({
      pauseMs: fc.nat({ max: 120 }),
      limitMs: fc.integer({ min: 1, max: 400 }),
      tookMs: fc.nat({ max: 500 }),
    }),
    { maxLength: 20, size: "max" },
  );
  await fc.assert(
    fc.asyncProperty(calls, async (calls) => {
      const clock = createVirtualClock();
      const limit = createTimeLimit(clock);
      const ended: (readonly [string, number])[] = [];
      for (const [i, { pauseMs, limitMs, tookMs }] of calls.entries()) {
        await clock.advance(pauseMs);
        const begun = clock.now();
        // Never at the same moment as the limit.
        const call = clock.sleep(tookMs + 0.5).then(() => "in time");
        limit.bound(call, limitMs, caller).catch(() => "too late").then((how) => {
          ended[i] = [how, clock.now() - begun];
        });
      }
      await clock.advance(500 + GLANCE_MS);
      const expected = calls.map(({ limitMs, tookMs }): readonly [string, number] =>
        tookMs < limitMs ? ["in time", tookMs + 0.5] : ["too late", limitMs]
      );
      assertEquals(ended, expected);
      assertEquals(clock.sleepers, 0);
    }),
  );
});
