import { assertEquals, assertStringIncludes } from "@std/assert";
import { test } from "node:test";
import type { Clock } from "../../../src/core/clock.ts";
import { RateLimiterError } from "../../../src/core/errors.ts";
import { createSimulation } from "../../support/simulated_process.ts";

const one = { maxConcurrent: 1, leaseMs: 100, onFailure: "closed" } as const;

/** A simulation in which time can pass while a process computes, so that none of its timers fires. */
function computing() {
  const { clock, start, run } = createSimulation();
  let aheadMs = 0;
  const busy: Clock = { now: () => clock.now() + aheadMs, sleep: (ms, signal) => clock.sleep(ms, signal) };
  return { clock, busy, start, run, compute: (ms: number) => void (aheadMs += ms) };
}

test("a permit is lost as soon as its holder looks after the lease has run out, before any timer says so [CON-6]", async () => {
  for (const look of ["lost", "signal"] as const) {
    const { clock, busy, start, run, compute } = computing();
    const { limiter } = start(one, { store: { clock: busy } });
    const permit = await run(limiter.acquire());
    const isLost = () => look === "lost" ? permit.lost : permit.signal.aborted;
    compute(50);
    assertEquals(isLost(), false);
    compute(350);
    assertEquals(isLost(), true);
    const { reason } = permit.signal;
    assertEquals(reason instanceof RateLimiterError, true);
    assertStringIncludes(String(reason), "its lease of 0.1 s ran out");
    assertEquals([permit.lost, limiter.getMetrics().currentConcurrent], [true, 0]);
    // The store hears of it, and the next one gets a permit that is not lost.
    await clock.advance(50);
    const next = await run(limiter.acquire());
    assertEquals([next.lost, next.signal.aborted], [false, false]);
    await run(permit.release());
    assertEquals((await run(limiter.getState())).remaining, 0);
    await run(next.release());
    compute(1_000);
    assertEquals([next.lost, next.signal.aborted], [false, false]);
    assertEquals(limiter.getMetrics().totalReleases, 1);
  }
});

test("all permits on the same lease are lost at once, however its holder hears of one [CON-6]", async () => {
  const { busy, start, run, compute } = computing();
  const { limiter } = start({ ...one, maxConcurrent: 3 }, { store: { clock: busy } });
  const permits = await run(Promise.all([limiter.acquire(), limiter.acquire(), limiter.acquire()]));
  const heard: boolean[] = [];
  // Whoever hears of one may look at another.
  permits.forEach(({ signal }, i) => signal.addEventListener("abort", () => heard.push(permits[2 - i]?.lost === true)));
  compute(400);
  assertEquals(permits[1]?.lost, true);
  assertEquals([heard.length, permits.map(({ lost }) => lost)], [3, [true, true, true]]);
  assertEquals(limiter.getMetrics().currentConcurrent, 0);
});

test("what is held in place of a store that is down is lost as soon as its holder looks [CON-6, FAIL-4]", async () => {
  const { clock, start, run } = createSimulation();
  let aheadMs = 0;
  const now = clock.now.bind(clock);
  clock.now = () => now() + aheadMs;
  const { limiter, link } = start({ ...one, onFailure: "local" });
  link.setFaults(() => ({ kind: "refused" }));
  const permit = await run(limiter.acquire());
  assertEquals([permit.degraded, permit.lost, limiter.getMetrics().currentConcurrent], [true, false, 1]);
  aheadMs = 400;
  assertEquals([permit.lost, permit.signal.aborted, limiter.getMetrics().currentConcurrent], [true, true, 0]);
});

test("a permit whose lease runs out on its way to the caller is lost, whenever its process stands still [CON-6]", async () => {
  for (let stop = 1; stop <= 40; stop++) {
    const { clock, start, run } = createSimulation();
    let aheadMs = 0;
    let looks = 0;
    const halting: Clock = {
      now: () => clock.now() + (++looks === stop ? aheadMs += one.leaseMs : aheadMs),
      // A timer that is due already goes off at once, which is before the first caller of a process has its permit.
      sleep: (ms, signal) => ms > 0 ? clock.sleep(ms, signal) : Promise.resolve(),
    };
    const { limiter } = start(one, { store: { clock: halting } });
    const permit = await run(limiter.acquire());
    aheadMs += one.leaseMs;
    assertEquals([permit.lost, permit.signal.aborted], [true, true], `stopped at look ${stop}`);
    assertEquals(limiter.getMetrics().currentConcurrent, 0);
  }
});
