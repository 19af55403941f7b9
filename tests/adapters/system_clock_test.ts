import { assertEquals, assertGreaterOrEqual, assertLess, assertRejects } from "@std/assert";
import { test } from "node:test";
import { systemClock } from "../../src/adapters/system_clock.ts";

test("systemClock.now() is the time of this host, in fractions of milliseconds, and never goes back", () => {
  assertLess(Math.abs(systemClock.now() - Date.now()), 60_000);
  let last = systemClock.now();
  for (let i = 0; i < 10_000; i++) {
    const now = systemClock.now();
    assertGreaterOrEqual(now, last);
    last = now;
  }
});

test("systemClock.now() does not follow a wall clock that is set [TB-12]", () => {
  const original = Date.now;
  const before = systemClock.now();
  try {
    Date.now = () => original() + 86_400_000;
    assertLess(systemClock.now() - before, 3_600_000);
  } finally {
    Date.now = original;
  }
});

for (const ms of [0, 0.2, 1, 1.5, 5]) {
  test(`systemClock.sleep(${ms}) never ends early`, async () => {
    const begun = performance.now();
    await systemClock.sleep(ms);
    assertGreaterOrEqual(performance.now() - begun, ms);
  });
}

test("systemClock.sleep() of less than nothing ends at once", async () => {
  await systemClock.sleep(-1_000);
});

test("systemClock.sleep() rejects with the signal's reason, before and while it sleeps", async () => {
  const controller = new AbortController();
  const slept = systemClock.sleep(3_600_000, controller.signal);
  controller.abort(new RangeError("enough"));
  await assertRejects(() => slept, RangeError, "enough");
  await assertRejects(() => systemClock.sleep(0, controller.signal), RangeError, "enough");
});

test("systemClock.sleep() of longer than a timer can be does not end at once", async () => {
  const controller = new AbortController();
  let ended = false;
  const slept = systemClock.sleep(2 ** 31 + 1_000, controller.signal).then(() => ended = true, () => {});
  await systemClock.sleep(20);
  assertEquals(ended, false);
  controller.abort();
  await slept;
});

test("sleep() that is aborted in the turn in which a part of it is over rejects, too", async () => {
  const controller = new AbortController();
  const { signal } = controller;
  // A sleep stops listening whenever a timer of it has fired.
  signal.removeEventListener = (...listener: Parameters<AbortSignal["removeEventListener"]>) => {
    AbortSignal.prototype.removeEventListener.apply(signal, listener);
    controller.abort(new RangeError("enough"));
  };
  await assertRejects(() => systemClock.sleep(20, signal), RangeError, "enough");
});
