import { assertEquals, assertGreater, assertLess } from "@std/assert";
import { test } from "node:test";
import { createSimulation } from "../../support/simulated_process.ts";

test("who finds that a key was written while it had nothing to do has lost no race, and writes it itself [TB-11, MET-1]", async () => {
  const { clock, start, run } = createSimulation();
  const [one, other] = [1, 2].map(() => start({ ratePerSecond: 100, burst: 100 }, { latencyMs: 2 }));
  await run(one!.limiter.acquire());
  await clock.advance(500);
  await run(other!.limiter.acquire());
  await clock.advance(600);
  const begun = clock.now();
  await run(one!.limiter.acquire());
  // It hears that somebody else has written, reads that, and writes.
  assertEquals(clock.now() - begun, 6);
  assertEquals([one!.peers.asked, one!.limiter.getMetrics().casFailures], [0, 0]);
});

test("a process that has lost races for half a second tries again without pauses, and finds the room that others make", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 10, burst: 10 }, { latencyMs: 5, retryIntervalMs: 200 });
  await run(limiter.acquire());
  link.setFaults(({ operation }) => operation === "compareAndSet" ? { kind: "conflict" } : undefined);
  const waiting = limiter.acquire();
  const triesIn = async (ms: number) => {
    const before = link.sent.compareAndSet;
    await clock.advance(ms);
    return link.sent.compareAndSet - before;
  };
  assertLess(await triesIn(400), 20);
  await clock.advance(400);
  // Each takes 10 ms.
  assertGreater(await triesIn(400), 35);
  link.clearFaults();
  await run(waiting);
});

test("a store that refuses one key is asked for the others one after another all the same, as many at once as before", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 1, failClosed: true }, { latencyMs: 10, mostAtOnce: 2 });
  link.failNext("refused");
  const calls = Array.from({ length: 10 }, (_, i) => limiter.acquire({ key: `key${i}` }));
  const ended = Promise.allSettled(calls);
  await clock.advance(15);
  assertEquals(link.sent.total, 4);
  const results = await run(ended);
  assertEquals(results.map(({ status }) => status === "fulfilled"), [false, ...Array.from({ length: 9 }, () => true)]);
});
