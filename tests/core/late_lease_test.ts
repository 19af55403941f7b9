import { assertEquals, assertGreaterOrEqual } from "@std/assert";
import { test } from "node:test";
import type { Clock } from "../../src/core/clock.ts";
import { concurrencyExcess, type Start } from "../support/oracles.ts";
import { createSimulation } from "../support/simulated_process.ts";

const options = { maxConcurrent: 1, leaseMs: 300, backendTimeoutMs: 4_000, onFailure: "closed" } as const;

test("a permit whose lease has run out before its answer came is not handed out [CON-1, CON-6]", async () => {
  for (const rate of [{}, { ratePerSecond: 1_000, burst: 5 }]) {
    const { clock, start, run } = createSimulation();
    const slow = start({ ...options, ...rate });
    const quick = start({ ...options, ...rate });
    const starts: Start[] = [];
    const work = async (limiter: typeof slow.limiter, ms: number) => {
      await using _permit = await limiter.acquire();
      const started: Start = { at: clock.now(), cost: 1, until: Infinity };
      starts.push(started);
      await clock.sleep(ms);
      started.until = clock.now();
    };
    // As when a process stands still while its answer is on the way.
    slow.link.failNext({ kind: "answer_late", byMs: 400 });
    const slowWork = [work(slow.limiter, 50), work(slow.limiter, 50)];
    await clock.advance(10);
    const quickWork = work(quick.limiter, 1_000);
    await run(Promise.all([...slowWork, quickWork]));
    assertEquals(concurrencyExcess(starts, 1), undefined);
    assertEquals(starts.length, 3);
    await clock.advance(1_000);
    assertEquals((await run(quick.limiter.getState())).remaining, 1);
    assertEquals(slow.limiter.getMetrics().currentConcurrent, 0);
  }
});

test("a permit that came too late takes nothing of the rate beside it [CON-6, CHK-6]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ...options, maxConcurrent: 10, ratePerSecond: 0.1, burst: 5 });
  link.failNext({ kind: "answer_late", byMs: 400 });
  const permit = await run(limiter.acquire());
  await run(permit.release());
  await clock.advance(100);
  assertEquals((await run(limiter.getState())).remaining, 4);
});

test("who gets no permit because it came too late keeps its place before those that came later [TB-9]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start(options);
  const order: number[] = [];
  const call = async (number: number) => {
    await using _permit = await limiter.acquire();
    order.push(number);
    await clock.sleep(10);
  };
  link.failNext({ kind: "answer_late", byMs: 400 });
  const calls: Promise<void>[] = [];
  for (const number of [1, 2, 3]) {
    calls.push(call(number));
    await clock.advance(100);
  }
  await run(Promise.all(calls));
  assertEquals(order, [1, 2, 3]);
});

test("who is cut off from the store hears that its permit is lost before anybody else can have it [CON-5, CON-6]", async () => {
  for (const [leaseMs, marginMs] of [[300, 10], [40, 4]] as const) {
    const { clock, start, run } = createSimulation();
    const cutOff = start({ ...options, leaseMs });
    const other = start({ ...options, leaseMs });
    const permit = await run(cutOff.limiter.acquire());
    cutOff.link.isDown = true;
    let lostAt = Infinity;
    permit.signal.addEventListener("abort", () => lostAt = clock.now());
    await run(other.limiter.acquire());
    assertGreaterOrEqual(clock.now() - lostAt, marginMs);
    assertEquals(permit.lost, true);
  }
});

test("who is cut off and does not know the time well takes its permit for lost when it may be, by the others' clock [CON-6, TB-12]", async () => {
  const { clock, start, run } = createSimulation();
  const begun = clock.now();
  // As the clock of a store that cannot be measured: rather behind, and it says by how much it may be.
  const behindMs = () => (clock.now() - begun) / 100;
  const lagging: Clock = { now: () => clock.now() - behindMs(), sleep: (ms, signal) => clock.sleep(ms, signal) };
  const readClock = () => ({
    ...{ source: "server", now: lagging.now(), offsetMs: 0, measuredAt: null } as const,
    errorMs: behindMs(),
  });
  const store = { clock: lagging, isClockStale: true, readClock };
  const { limiter, link } = start({ maxConcurrent: 1, leaseMs: 10_000, onFailure: "closed" }, { latencyMs: 1, store });
  const permit = await run(limiter.acquire());
  link.setFaults(() => ({ kind: "request_lost" }));
  await clock.advance(9_000);
  assertEquals(permit.lost, false);
  await clock.advance(1_000);
  assertEquals(permit.lost, true);
});
