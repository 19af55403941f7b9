import { assertEquals, assertGreater, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { test } from "node:test";
import "node:worker_threads"; // once it is loaded, Deno delivers messages earlier
import { InvalidArgumentError, RateLimiterError } from "../../src/core/errors.ts";
import { createRateSync } from "../../src/registry/registry.ts";
import { createVirtualClock, isHopeless, type VirtualClock } from "../../src/testing/virtual_clock.ts";

test("createVirtualClock() stands still until it is told to move [TST-5]", async () => {
  const clock = createVirtualClock(500);
  let woken = false;
  void clock.sleep(10).then(() => woken = true);
  await new Promise<void>((resolve) => setTimeout(resolve, 1));
  assertEquals([clock.now(), woken, clock.sleepers], [500, false, 1]);
  assertGreater(createVirtualClock().now(), Date.UTC(2029));
});

test("advance() wakes everybody who is due, in order of their times, at exactly them", async () => {
  const clock = createVirtualClock(0);
  const woken: [string, number][] = [];
  const sleeper = (name: string, ms: number) => clock.sleep(ms).then(() => woken.push([name, clock.now()]));
  void sleeper("c", 30);
  void sleeper("a", 10);
  void sleeper("b", 10);
  void sleeper("d", 30.5);
  void sleeper("late", 100);
  await clock.advance(99.9);
  assertEquals(woken, [["a", 10], ["b", 10], ["c", 30], ["d", 30.5]]);
  assertEquals([clock.now(), clock.sleepers], [99.9, 1]);
  await clock.advance(0.1);
  assertEquals(woken.length, 5);
});

test("advance() lets those who were woken sleep again and be woken again on the way", async () => {
  const clock = createVirtualClock(0);
  const ticks: number[] = [];
  const tick = async () => {
    for (let i = 0; i < 5; i++) {
      await clock.sleep(20);
      for (let turn = 0; turn < 50; turn++) await undefined;
      ticks.push(clock.now());
    }
  };
  void tick();
  await clock.advance(90);
  assertEquals(ticks, [20, 40, 60, 80]);
  assertEquals(clock.now(), 90);
});

test("sleep() of nothing or less wakes with the next step, and time does not go back", async () => {
  const clock = createVirtualClock(7);
  const slept = Promise.all([clock.sleep(0), clock.sleep(-50)]);
  await clock.advance(0);
  await slept;
  assertEquals(clock.now(), 7);
});

test("sleep() rejects with the signal's reason when it is aborted, and leaves nobody asleep", async () => {
  const clock = createVirtualClock();
  const controller = new AbortController();
  const reason = new RangeError("enough");
  const slept = clock.sleep(1_000, controller.signal);
  controller.abort(reason);
  await assertRejects(() => slept, RangeError, "enough");
  assertEquals(clock.sleepers, 0);
  await assertRejects(() => clock.sleep(1_000, controller.signal), RangeError, "enough");
  assertEquals(clock.sleepers, 0);
});

test("sleep() that has ended does not listen to its signal any more", async () => {
  const clock = createVirtualClock();
  const controller = new AbortController();
  const slept = clock.sleep(10, controller.signal);
  await clock.advance(10);
  await slept;
  controller.abort();
  assertEquals(clock.sleepers, 0);
});

test("runUntil() does not move before everything is done that needs no time, however many steps it takes [TST-5]", async () => {
  const clock = createVirtualClock(0);
  void clock.sleep(5);
  const work = async () => {
    for (let step = 0; step < 1_000; step++) await undefined;
    return clock.now();
  };
  assertEquals(await clock.runUntil(work()), 0);
});

test("runUntil() moves on from sleeper to sleeper until the promise is settled, and no further", async () => {
  const clock = createVirtualClock(0);
  void clock.sleep(5_000);
  const work = clock.sleep(100).then(() => clock.sleep(200)).then(() => "done");
  assertEquals(await clock.runUntil(work), "done");
  assertEquals([clock.now(), clock.sleepers], [300, 1]);
  await assertRejects(
    () => clock.runUntil(clock.sleep(50).then(() => Promise.reject(new RangeError("no")))),
    RangeError,
  );
  assertEquals(clock.now(), 350);
});

/** Sleeps again and again, for ever. */
async function sleepOn(clock: VirtualClock, ms: number): Promise<never> {
  for (;;) await clock.sleep(ms);
}

test("runUntil() gives up on a promise that nothing settles however long it goes on, and says what to look for", async () => {
  const clock = createVirtualClock(0);
  void sleepOn(clock, 1_000);
  const error = await assertRejects(() => clock.runUntil(new Promise(() => {})), RateLimiterError, "gives up");
  assertMatch(error.message, /1000000 sleepers and 11 d .* permit that nobody releases/);
});

test("runUntil() goes on for a year, and for many sleepers, if that is what it takes [TST-5]", async () => {
  const clock = createVirtualClock(0);
  const year = 365 * 86_400_000;
  await clock.runUntil(clock.sleep(year));
  assertEquals(clock.now(), year);
  assertEquals(isHopeless({ woken: 10_000_000, ms: 86_399_999 }), false);
  assertEquals(isHopeless({ woken: 999_999, ms: year }), false);
  assertEquals(isHopeless({ woken: 1_000_000, ms: 86_400_000 }), true);
});

test("runUntil() waits for what is real, however long it takes, and goes on when somebody sleeps after it", async () => {
  const clock = createVirtualClock(0);
  const real = async (ms: number) => {
    await new Promise<void>((resolve) => setTimeout(resolve, 20));
    await clock.sleep(ms);
    await new Promise<void>((resolve) => setTimeout(resolve, 20));
    return clock.now();
  };
  assertEquals(await Promise.all([clock.runUntil(real(500)), clock.runUntil(real(700))]), [700, 700]);
});

test("code that waits for a limiter is tested without waiting: a registry takes the clock [TST-5]", async () => {
  const clock = createVirtualClock();
  const rateSync = createRateSync({ clock });
  rateSync.configureLimiter("mail", { ratePerSecond: 1 / 60 });
  const begun = clock.now();
  const sendThree = async () => {
    for (let i = 0; i < 3; i++) await rateSync.acquire("mail");
  };
  await clock.runUntil(sendThree());
  assertEquals(clock.now() - begun, 120_000);
});

test("createVirtualClock() and advance() refuse what is no time to go on to: it never goes back [TST-5]", async () => {
  for (const start of [NaN, Infinity, "now" as unknown as number]) {
    assertEquals(assertThrows(() => createVirtualClock(start), InvalidArgumentError).field, "start");
  }
  const clock = createVirtualClock(500);
  for (const ms of [NaN, -1, Infinity]) {
    assertEquals((await assertRejects(() => clock.advance(ms), InvalidArgumentError)).field, "ms");
  }
  await clock.advance(0);
  assertEquals(clock.now(), 500);
});
