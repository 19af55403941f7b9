import { assert, assertEquals, assertInstanceOf, assertRejects, assertStringIncludes } from "@std/assert";
import { test } from "node:test";
import type { LimiterOptions } from "../../src/config/options.ts";
import { GLANCE_MS } from "../../src/core/alarm.ts";
import { RateLimiterAcquisitionError } from "../../src/core/errors.ts";
import { createSimulation, LIMITER_ID } from "../support/simulated_process.ts";

const LEASE_MS = 10_000;
const permits = { maxConcurrent: 2, leaseMs: LEASE_MS, backendTimeoutMs: 400, onFailure: "closed" } as const;
const policies: readonly LimiterOptions[] = [
  { maxConcurrent: 2, onFailure: "open" },
  { maxConcurrent: 2, onFailure: "closed" },
  { maxConcurrent: 2, onFailure: "local" },
];
/** Timers of something that was short are gone after this long. */
const MOMENT_MS = GLANCE_MS;

/** Why a promise was rejected. */
async function reasonOf(promise: Promise<unknown>): Promise<string> {
  const error = await assertRejects(() => promise, RateLimiterAcquisitionError);
  assertInstanceOf(error, RateLimiterAcquisitionError);
  return error.reason;
}

test("close() gives back held permits and reserved slots at once, and answers those who wait [LIM-18]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { ...permits, ratePerSecond: 10, burst: 1 };
  const { limiter } = start(options, { latencyMs: 2 });
  const other = start(options, { latencyMs: 2 });
  const held = await run(limiter.acquire());
  const waiting = [limiter.acquire(), limiter.acquire(), limiter.acquire()].map(reasonOf);
  await clock.advance(20);
  assertEquals((await run(other.limiter.getState())).currentUsage, 2);
  await run(limiter.close());
  assertEquals(await run(Promise.all(waiting)), ["closed", "closed", "closed"]);
  await clock.advance(100);
  assertEquals((await run(other.limiter.getState())).currentUsage, 0);
  assert(held.lost);
  assertStringIncludes(String(held.signal.reason), "the limiter was closed");
  await run(held.release());
  assertEquals((await run(other.limiter.getState())).currentUsage, 0);
  assertEquals(limiter.getMetrics().currentConcurrent, 0);
  await run(other.limiter.close());
  await clock.advance(MOMENT_MS);
  assertEquals(clock.sleepers, 0);
});

test("a limiter that was closed says so, whatever it is asked [LIM-18]", async () => {
  const { start, run } = createSimulation();
  for (const policy of policies) {
    const { limiter, link } = start(policy);
    await run(limiter.acquire());
    await run(Promise.all([limiter.close(), limiter.close()]));
    const { total } = link.sent;
    for (const closed of [limiter, limiter.key("k")]) {
      const calls = [
        closed.acquire(),
        closed.tryAcquire(),
        closed.check(),
        closed.check({ consume: false }),
        closed.getState(),
        closed.initialize(),
      ];
      assertEquals(await run(Promise.all(calls.map(reasonOf))), calls.map(() => "closed"));
    }
    await run(limiter.close());
    assertEquals(link.sent.total, total);
    assertEquals(limiter.getMetrics().backendFailures, 0);
  }
});

test("close() while the store is being opened answers who waits for that, and leaves nothing behind", async () => {
  const { clock, start, run } = createSimulation();
  for (const policy of policies) {
    let opened = () => {};
    const opening = new Promise<void>((resolve) => opened = resolve);
    const { limiter, link } = start(policy, { store: { open: () => opening } });
    const waiting = [limiter.acquire(), limiter.tryAcquire(), limiter.getState()].map(reasonOf);
    await clock.advance(20);
    await run(limiter.close());
    opened();
    assertEquals(await run(Promise.all(waiting)), ["closed", "closed", "closed"]);
    await clock.advance(MOMENT_MS);
    assertEquals(link.sent.total, 0);
    assertEquals(clock.sleepers, 0);
  }
});

test("close() leaves no timer and sends nothing more, although the store had failed before", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start(permits, { latencyMs: 2 });
  await run(limiter.acquire());
  link.setFaults(() => "answer_lost");
  await run(assertRejects(() => limiter.acquire(), RateLimiterAcquisitionError));
  link.clearFaults();
  await run(limiter.close());
  const { total } = link.sent;
  await clock.advance(5 * LEASE_MS);
  assertEquals(link.sent.total, total);
  assertEquals(clock.sleepers, 0);
  assertEquals((await run(start(permits).limiter.getState())).remaining, 2);
});

test("close() while the store is down answers everybody, ends, and leaves no timer", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ...permits, ratePerSecond: 10 }, { latencyMs: 2 });
  const held = await run(limiter.acquire());
  const waiting = [limiter.acquire(), limiter.acquire(), limiter.acquire()].map(reasonOf);
  await clock.advance(20);
  link.isDown = true;
  await clock.advance(20);
  await run(limiter.close());
  await run(Promise.all(waiting));
  const { total } = link.sent;
  // Who still has a permit gives it back into nothing: it comes back when its lease has run out.
  await run(held.release());
  await clock.advance(5 * LEASE_MS);
  assertEquals(link.sent.total, total);
  assertEquals(clock.sleepers, 0);
  link.isDown = false;
  assertEquals((await run(start(permits).limiter.getState())).remaining, 2);
});

test("close() gives back what was granted in the store's place, and leaves no timer", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ...permits, onFailure: "local" }, { latencyMs: 2 });
  link.isDown = true;
  const held = await run(limiter.acquire());
  const keyed = await run(limiter.key("k").acquire());
  assertEquals([held.degraded, keyed.degraded], [true, true]);
  await run(limiter.close());
  await clock.advance(MOMENT_MS);
  assertEquals(clock.sleepers, 0);
  await run(held.release());
});

test("who closes while it writes what others want too lets them hear what became of it [LIM-18, CON-1]", async () => {
  const simulation = createSimulation();
  const { clock, server, start, run } = simulation;
  const [writer, follower] = [start(permits, { latencyMs: 4 }), start(permits, { latencyMs: 4 })];
  // The follower knows the key, and loses a race against what the writer has written since.
  for (const { limiter } of [follower, writer]) await run(limiter.acquire().then((permit) => permit.release()));
  const { asked } = follower.peers;
  const taking = follower.limiter.acquire();
  const { compareAndSet: written } = writer.link.sent;
  for (let left = 200; left > 0 && writer.link.sent.compareAndSet === written; left--) await clock.advance(0.5);
  assertEquals(
    [follower.peers.asked - asked, writer.link.sent.compareAndSet - written],
    [1, 1],
    "the test knows the way",
  );
  const closing = writer.limiter.close();
  const permit = await run(taking);
  await run(closing);
  await run(permit.release());
  await run(clock.sleep(50));
  assertEquals(JSON.parse(server.text(LIMITER_ID) ?? "").concurrency.holders, []);
});

test("a permit that comes while the store is told which ones are held, and that nobody takes, is told next [CON-8]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ maxConcurrent: 2, leaseMs: LEASE_MS, onFailure: "closed" }, { latencyMs: 300 });
  const first = reasonOf(limiter.acquire({ timeoutMs: 100 }));
  await run(clock.sleep(290));
  const second = reasonOf(limiter.acquire({ timeoutMs: 100 }));
  assertEquals(await run(Promise.all([first, second])), ["backend", "backend"]);
  await run(clock.sleep(2_000));
  assertEquals((await run(limiter.getState())).currentUsage, 0);
});
