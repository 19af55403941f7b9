import { assertEquals, assertLess } from "@std/assert";
import { test } from "node:test";
import { createSimulation } from "../../support/simulated_process.ts";

test("who does not want to wait gets a slot that comes no later than the answer of its store [TMO-1]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 5 }, { latencyMs: 100 });
  for (let i = 0; i < 4; i++) await run(limiter.acquire());
  for (const [inMs, expected] of [[180, false], [110, false], [90, true], [10, true]] as const) {
    await run(limiter.acquire());
    await clock.advance(200 - inMs);
    const { allowed, retryAfterMs } = await run(limiter.tryAcquire());
    assertEquals([allowed, Math.round(retryAfterMs)], [expected, expected ? 0 : inMs]);
    await clock.advance(1_000);
  }
});

test("who asks for more than one each time has nothing put in stock, which could not serve it", async () => {
  /** What is left to others after 20 such requests, 10 ms after one another. */
  const leftAfter = async (cost: number, prefetch: number) => {
    const { clock, start, run } = createSimulation();
    const options = { ratePerSecond: 100, burst: 100 };
    const { limiter } = start({ ...options, prefetch }, { latencyMs: 2 });
    for (let i = 0; i < 20; i++) {
      await clock.advance(10);
      await run(limiter.acquire({ cost }));
    }
    return (await run(start(options).limiter.getState())).remaining;
  };
  assertEquals(await leftAfter(2, 10), await leftAfter(2, 0));
  assertLess(await leftAfter(1, 10), await leftAfter(1, 0));
});

test("nobody takes from what is in stock before those that came earlier [TB-9]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 100, burst: 100, prefetch: 10 }, { latencyMs: 2 });
  for (let i = 0; i < 20; i++) {
    await clock.advance(10);
    await run(limiter.acquire());
  }
  const order: number[] = [];
  const call = (cost: number) => limiter.acquire({ cost }).then(() => order.push(cost));
  await run(Promise.all([call(5), call(1)]));
  assertEquals(order, [5, 1]);
});

test("the slot of somebody who leaves is put in stock only if it is likely to be asked for, and others have it otherwise", async () => {
  const { clock, start, run } = createSimulation();
  const options = { ratePerSecond: 1, reserveAheadMs: 5_000 };
  const { limiter } = start({ ...options, prefetch: 10 }, { latencyMs: 2 });
  await run(limiter.acquire());
  const begun = clock.now();
  const leaving = new AbortController();
  const left = limiter.acquire({ signal: leaving.signal }).catch(() => {});
  await clock.advance(100);
  leaving.abort();
  await run(left);
  await clock.advance(100);
  await run(start(options).limiter.acquire());
  assertLess(clock.now() - begun, 1_100);
});

test("who waits for the permit of a process that has gone has it when the lease is over, however seldom it looks [CON-6]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { maxConcurrent: 1, leaseMs: 10_000 };
  const gone = start(options);
  await run(gone.limiter.acquire());
  gone.link.isDown = true;
  const begun = clock.now();
  await run(start(options).limiter.acquire());
  assertEquals(clock.now() - begun, 10_000);
});

test("slots for nobody that come after close() go back, whenever that was [LIM-18]", async () => {
  const options = { ratePerSecond: 0.1, burst: 1_000 };
  for (let closedAfter = 100; closedAfter < 150; closedAfter += 3) {
    const { clock, start, run } = createSimulation();
    const { limiter } = start({ ...options, prefetch: 50 }, { latencyMs: 10 });
    let granted = 0;
    for (let ms = 0; ms < closedAfter; ms++) {
      limiter.acquire().then(() => granted++, () => {});
      await clock.advance(1);
    }
    await run(limiter.close());
    await clock.advance(100);
    assertEquals((await run(start(options).limiter.getState())).remaining, 1_000 - granted, `after ${closedAfter} ms`);
  }
});
