import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { test } from "node:test";
import { Meter } from "../../../src/core/cell/metrics.ts";

test("new Meter() starts at zero and with no last acquisition [MET-1]", () => {
  assertEquals(new Meter().snapshot(), {
    totalAcquisitions: 0,
    totalWaitTimeMs: 0,
    avgWaitTimeMs: 0,
    maxWaitTimeMs: 0,
    casFailures: 0,
    timeouts: 0,
    aborted: 0,
    lastAcquisitionAt: null,
    currentConcurrent: 0,
    maxConcurrentReached: 0,
    totalReleases: 0,
    degradedAcquisitions: 0,
    backendFailures: 0,
    circuitBreaker: "closed",
  });
});

test("new Meter() sums, averages and keeps the longest wait [MET-2]", () => {
  const meter = new Meter();
  for (const [i, waited] of [0, 30, 12].entries()) meter.granted(5_000 + i, waited);
  const { totalAcquisitions, totalWaitTimeMs, avgWaitTimeMs, maxWaitTimeMs, lastAcquisitionAt } = meter.snapshot();
  assertEquals([totalAcquisitions, totalWaitTimeMs, maxWaitTimeMs, lastAcquisitionAt], [3, 42, 30, 5.002]);
  assertAlmostEquals(avgWaitTimeMs, 14, 0.01);
});

test("new Meter() counts permits, never below 0, and releases apart from what was given back unused [MET-3]", () => {
  const meter = new Meter();
  meter.permit("taken");
  meter.permit("taken");
  meter.permit("released");
  assertEquals([meter.snapshot().currentConcurrent, meter.snapshot().totalReleases], [1, 1]);
  meter.permit("lost");
  meter.permit("lost");
  assertEquals([meter.snapshot().currentConcurrent, meter.snapshot().totalReleases], [0, 1]);
});

for (const what of ["casFailures", "timeouts", "aborted", "maxConcurrentReached", "backendFailures"] as const) {
  test(`new Meter() counts ${what} and nothing else with it [MET-5]`, () => {
    const meter = new Meter();
    const before = meter.snapshot();
    meter.count(what);
    meter.count(what);
    assertEquals(meter.snapshot(), { ...before, [what]: 2 });
  });
}

test("new Meter() counts degraded grants by themselves [MET-7]", () => {
  const meter = new Meter();
  meter.degraded();
  assertEquals(meter.snapshot().degradedAcquisitions, 1);
});

test("new Meter().snapshot() does not change any more [MET-6]", () => {
  const meter = new Meter();
  const snapshot = meter.snapshot();
  meter.granted(1, 1);
  assertEquals(snapshot.totalAcquisitions, 0);
  assertThrows(() => Object.assign(snapshot, { totalAcquisitions: 5 }), TypeError);
});

test("new Meter() of a part counts for the whole, too [MET-5]", () => {
  const whole = new Meter();
  const parts = [new Meter(whole), new Meter(whole)];
  for (const [i, part] of parts.entries()) {
    part.granted(1_000 * i, 10 + i);
    part.degraded();
    part.count("timeouts");
    part.permit("taken");
  }
  parts[0]?.permit("released");
  parts[1]?.permit("lost");
  const { totalAcquisitions, totalWaitTimeMs, maxWaitTimeMs, degradedAcquisitions, timeouts } = whole.snapshot();
  assertEquals([totalAcquisitions, totalWaitTimeMs, maxWaitTimeMs, degradedAcquisitions, timeouts], [2, 21, 11, 2, 2]);
  assertEquals([whole.snapshot().currentConcurrent, whole.snapshot().totalReleases], [0, 1]);
  assertEquals(parts[1]?.snapshot().totalReleases, 0);
});

test("new Meter() that was frozen comes back with all that it has counted, and the whole counts nothing twice [MET-5]", () => {
  const whole = new Meter();
  const deeds: readonly ((meter: Meter) => void)[] = [
    () => {},
    (meter) => meter.granted(5_000, 0),
    (meter) => meter.granted(6_000, 30),
    (meter) => meter.granted(7_000, 12),
    (meter) => meter.degraded(),
    (meter) => meter.count("casFailures"),
    (meter) => meter.count("backendFailures"),
    (meter) => meter.permit("taken"),
    (meter) => meter.permit("released"),
  ];
  let part = new Meter(whole);
  for (const act of deeds) {
    act(part);
    const [before, all] = [part.snapshot(), whole.snapshot()];
    // A permit that is held is not kept: until it is released, its meter stays as it is.
    if (before.currentConcurrent > 0) continue;
    part = Meter.revived(part.frozen(), whole);
    assertEquals([part.snapshot(), whole.snapshot()], [before, all]);
  }
});
