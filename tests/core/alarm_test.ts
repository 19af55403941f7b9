import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { createAlarm, GLANCE_MS } from "../../src/core/alarm.ts";
import { createVirtualClock } from "../../src/testing/virtual_clock.ts";

function setUp() {
  const clock = createVirtualClock(1_000);
  const rung: number[] = [];
  const alarm = createAlarm(clock, () => rung.push(clock.now()));
  return { clock, rung, alarm };
}

test("createAlarm() rings once, at its time, and leaves no timer behind", async () => {
  const { clock, rung, alarm } = setUp();
  alarm.set(1_500);
  await clock.advance(499);
  assertEquals(rung, []);
  await clock.advance(10_000);
  assertEquals(rung, [1_500]);
  assertEquals(clock.sleepers, 0);
});

test("createAlarm() set to an earlier time rings then", async () => {
  const { clock, rung, alarm } = setUp();
  alarm.set(5_000);
  alarm.set(1_200);
  assertEquals(clock.sleepers, 1);
  await clock.advance(10_000);
  assertEquals(rung, [1_200]);
});

test("createAlarm() set to a later time keeps the timer that it has", async () => {
  const { clock, rung, alarm } = setUp();
  alarm.set(1_200);
  alarm.set(5_000);
  assertEquals(clock.sleepers, 1);
  await clock.advance(200);
  assertEquals(rung, [1_200]);
});

test("createAlarm() set to the past rings as soon as the clock runs", async () => {
  const { clock, rung, alarm } = setUp();
  alarm.set(3);
  await clock.advance(0);
  assertEquals(rung, [1_000]);
});

test("createAlarm() that is cleared does not ring and leaves no timer behind [TMO-7]", async () => {
  const { clock, rung, alarm } = setUp();
  alarm.clear();
  alarm.set(1_500);
  alarm.clear();
  assertEquals(clock.sleepers, 0);
  await clock.advance(1_000);
  assertEquals(rung, []);
  alarm.set(2_500);
  await clock.advance(1_000);
  assertEquals(rung, [2_500]);
});

test("createAlarm() can be set again while it rings", async () => {
  const clock = createVirtualClock(0);
  const rung: number[] = [];
  const alarm = createAlarm(clock, () => {
    rung.push(clock.now());
    if (rung.length < 4) alarm.set(clock.now() + 10);
  });
  alarm.set(10);
  await clock.advance(100);
  assertEquals(rung, [10, 20, 30, 40]);
  assertEquals(clock.sleepers, 0);
});

test("createAlarm() that is cleared in the turn in which its timer ends does not ring", async () => {
  const { clock, rung, alarm } = setUp();
  void clock.sleep(500).then(() => alarm.clear());
  alarm.set(1_500);
  await clock.advance(1_000);
  assertEquals(rung, []);
});

test("glance() rings at its time or sooner, again and again if it is set again", async () => {
  const clock = createVirtualClock(0);
  const rung: number[] = [];
  const alarm = createAlarm(clock, () => {
    rung.push(clock.now());
    if (clock.now() < 2.5 * GLANCE_MS) alarm.glance(2.5 * GLANCE_MS);
  });
  alarm.glance(2.5 * GLANCE_MS);
  await clock.advance(1_000);
  assertEquals(rung, [GLANCE_MS, 2 * GLANCE_MS, 2.5 * GLANCE_MS]);
  assertEquals(clock.sleepers, 0);
});

test("glance() never makes a timer that was set ring later", async () => {
  const { clock, rung, alarm } = setUp();
  alarm.set(1_005);
  alarm.glance(1_500);
  await clock.advance(10);
  assertEquals(rung, [1_005]);
});

test("set() during a glance rings at its time at the latest", async () => {
  const clock = createVirtualClock(0);
  const due = [7, 33];
  const met: number[] = [];
  const alarm = createAlarm(clock, () => {
    if (due[0] !== undefined && clock.now() >= due[0]) met.push(due.shift() ?? 0, clock.now());
    if (due[0] !== undefined) alarm.set(due[0]);
  });
  alarm.glance(100);
  alarm.set(7);
  await clock.advance(100);
  assertEquals(met, [7, 7, 33, 33]);
  assertEquals(clock.sleepers, 0);
});

test("a glance that nobody needs any more leaves its timer for a moment only [TMO-7]", async () => {
  const { clock, alarm } = setUp();
  alarm.glance(60_000);
  alarm.clear();
  await clock.advance(GLANCE_MS);
  assertEquals(clock.sleepers, 0);
});
