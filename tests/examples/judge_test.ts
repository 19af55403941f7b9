import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { judge } from "../../examples/demo/judge.ts";

const every = (ms: number, count: number, from = 0) => Array.from({ length: count }, (_, i) => from + i * ms);

test("judge() lets the burst and the rate of a second pass together", () => {
  // 20 at once, and then one every 10 ms
  const moments = [...every(0, 20), ...every(10, 100, 0.5)];
  assertEquals(judge(moments, { ratePerSecond: 100, burst: 20 }, 1_000), {
    held: true,
    mostInASecond: 120,
    promisedInASecond: 120,
    allowedInASecond: 120,
    admitted: 120,
    allowedInAll: 120,
    usedShare: 1,
  });
});

test("judge() finds the one admission too many, wherever its second begins", () => {
  const moments = [...every(10, 200), ...every(0, 21, 1_234)];
  const { held, mostInASecond } = judge(moments, { ratePerSecond: 100, burst: 20 }, 2_000);
  assertEquals({ held, mostInASecond }, { held: false, mostInASecond: 121 });
});

test("judge() allows for late timers only where the burst passes faster than they are precise", () => {
  const { held, promisedInASecond, allowedInASecond } = judge(
    every(0, 1_010),
    { ratePerSecond: 1_000, burst: 1 },
    1_000,
  );
  assertEquals({ held, promisedInASecond, allowedInASecond }, {
    held: true,
    promisedInASecond: 1_001,
    allowedInASecond: 1_010,
  });
  assertEquals(judge(every(0, 1_011), { ratePerSecond: 1_000, burst: 1 }, 1_000).held, false);
});

test("judge() says how much of the limit was used", () => {
  const { admitted, allowedInAll, usedShare } = judge(every(20, 55), { ratePerSecond: 100, burst: 10 }, 1_000);
  assertEquals({ admitted, allowedInAll, usedShare }, { admitted: 55, allowedInAll: 110, usedShare: 0.5 });
});
