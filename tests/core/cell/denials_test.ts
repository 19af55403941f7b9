import { assertAlmostEquals, assertEquals, assertGreaterOrEqual, assertRejects } from "@std/assert";
import { test } from "node:test";
import { RateLimiterAcquisitionError } from "../../../src/core/errors.ts";
import type { LimiterOptions } from "../../../src/config/options.ts";
import type { ClosableLimiter } from "../../../src/core/limiter/limiter.ts";
import { type CallOptions, TOGETHER, type Together, together } from "../../../src/core/limiter/together.ts";
import { createSimulation } from "../../support/simulated_process.ts";

const NET = { latencyMs: 2 };

/** How a call ends. */
function endOf(call: Promise<unknown>): Promise<string> {
  return call.then(() => "served", (error) => {
    if (error instanceof RateLimiterAcquisitionError) return error.reason;
    throw error;
  });
}

test("who comes behind a caller that waits for much is told at once that its turn comes too late [TMO-6]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { ratePerSecond: 1, burst: 5 };
  await run(start(options).limiter.acquire({ cost: 5 }));
  const { limiter } = start(options, NET);
  const begun = clock.now();
  const timeOf = async (call: Promise<unknown>) => [await endOf(call), Math.round((clock.now() - begun) / 1_000)];
  const calls = [
    limiter.acquire({ cost: 5 }),
    limiter.acquire({ timeoutMs: 5_500 }),
    limiter.acquire({ timeoutMs: 6_500 }),
  ].map(timeOf);
  assertEquals(await run(Promise.all(calls)), [["served", 5], ["timeout", 0], ["served", 6]]);
});

test("who does not want to wait gives its store all the time there is, although others give up before [FAIL-2]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 1, failClosed: true, backendTimeoutMs: 1_000 }, NET);
  link.isDown = true;
  const begun = clock.now();
  const waiting = endOf(limiter.acquire({ timeoutMs: 0 }));
  assertEquals(await run(endOf(limiter.acquire({ timeoutMs: 300 }))), "backend");
  assertEquals([clock.now() - begun, await run(waiting), clock.now() - begun], [300, "backend", 1_000]);
});

test("who has no time left for a silent store is refused at once where all permits were held just before [FAIL-2, FAIL-5]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { maxConcurrent: 1, failClosed: true, backendTimeoutMs: 300 };
  await run(start(options).limiter.acquire());
  const { limiter, link } = start(options, NET);
  assertEquals((await run(limiter.tryAcquire())).allowed, false);
  link.isDown = true;
  const calls: CallOptions = { timeoutMs: 0, [TOGETHER]: together(0) };
  assertEquals(await run(endOf(limiter.acquire(calls))), "backend");
  const begun = clock.now();
  assertEquals([await run(endOf(limiter.acquire(calls))), clock.now() - begun], ["timeout", 0]);
});

test("who has heard from its store within the time that it shares may wait as long for it as others after that [FAIL-2]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { ratePerSecond: 0.5, reserveAheadMs: 0, failClosed: true, backendTimeoutMs: 1_000 };
  await run(start(options).limiter.acquire());
  const { limiter, link } = start(options, NET);
  const begun = clock.now();
  const sharing: CallOptions = { timeoutMs: 10_000, [TOGETHER]: together(10_000) };
  const waiting = endOf(limiter.acquire(sharing));
  await clock.advance(1_500);
  link.isDown = true;
  await clock.advance(700);
  // It is its turn, and the store is being asked.
  assertEquals(await run(endOf(limiter.acquire({ timeoutMs: 100 }))), "backend");
  assertEquals(clock.now() - begun, 2_300);
  assertEquals(await run(waiting), "backend");
  assertGreaterOrEqual(clock.now() - begun, 3_000);
});

test("who has waited behind one that waited for a permit is refused, although that one has gone and the permit is coming [FAIL-5]", async () => {
  for (const isAborted of [true, false]) {
    const { clock, start, run } = createSimulation();
    const options = { maxConcurrent: 1, failClosed: true };
    const permit = await run(start(options).limiter.acquire());
    const { limiter } = start(options, { latencyMs: 10 });
    const leaving = new AbortController();
    const ahead = limiter.acquire(isAborted ? { signal: leaving.signal } : { timeoutMs: 5_010 }).catch(() => {});
    await clock.advance(5_000);
    await permit.release();
    // By the end of this time it is known that the permit is free, and not yet that it is taken.
    const behind = endOf(limiter.acquire({ timeoutMs: 30 }));
    await clock.advance(10);
    leaving.abort();
    assertEquals(await run(behind), "timeout", isAborted ? "aborted" : "timed out");
    await run(ahead);
  }
});

test("a caller whose time ends while another one is written is told when its turn would be, behind all that wait [ERR-2]", async () => {
  const { start, run } = createSimulation();
  const options = { ratePerSecond: 1, burst: 10, reserveAheadMs: 0 };
  await run(start(options).limiter.acquire({ cost: 9.5 }));
  const { limiter } = start(options, { latencyMs: 400 });
  // It takes 400 ms to hear that somebody else has written, 400 ms to read that, and 400 ms to write.
  const ahead = [limiter.acquire({ cost: 0.5 }), limiter.acquire({ cost: 10 })];
  const error = await assertRejects(
    () => run(limiter.acquire({ cost: 2, timeoutMs: 1_000 })),
    RateLimiterAcquisitionError,
  );
  assertEquals(error.reason, "timeout");
  // Of 12.5, one and a half are there.
  assertAlmostEquals(error.retryAfterMs ?? 0, 11_000, 500);
  await run(Promise.all(ahead));
});

test("calls that share their time are charged for as long as their store was asked and silent, and no longer [FAIL-2]", async () => {
  const options = { ratePerSecond: 2, reserveAheadMs: 0, failClosed: true, backendTimeoutMs: 2_000 };
  const { clock, start, run } = createSimulation();
  const silenceOf = async (call: Promise<unknown>, calls: Together) => {
    assertEquals(await run(endOf(call)), "backend");
    return Math.round(calls.silentMs / 100) * 100;
  };
  const begin = (limiter: ClosableLimiter, timeoutMs: number): [Promise<unknown>, Together] => {
    const calls = together(timeoutMs);
    return [limiter.acquire({ timeoutMs, [TOGETHER]: calls } as CallOptions), calls];
  };

  const silent = start(options, NET);
  silent.link.isDown = true;
  assertEquals(await silenceOf(...begin(silent.limiter, 300)), 300, "until the caller's own time is over");

  const asked = start(options, NET);
  asked.link.isDown = true;
  const earlier = endOf(asked.limiter.acquire());
  await clock.advance(400);
  assertEquals(await silenceOf(...begin(asked.limiter, 5_000)), 1_600, "not for whom it was asked before");
  await run(earlier);

  await run(start(options).limiter.acquire());
  const slow = start(options, { latencyMs: 100 });
  const answered = begin(slow.limiter, 5_000);
  slow.link.setFaults(({ operation }) => operation === "get" ? "request_lost" : undefined);
  assertEquals(await silenceOf(...answered), 2_000, "not until it answered, if it did");

  await run(start(options).limiter.acquire());
  const idle = start(options, NET);
  const waiting = begin(idle.limiter, 5_000);
  await clock.advance(100);
  idle.link.isDown = true;
  assertEquals(await silenceOf(...waiting), 1_500, "not while it need not be asked");
});

test("a store that does not answer when a caller's turn has come has failed it, unless others may be faster [FAIL-5]", async () => {
  const rate = { ratePerSecond: 10, reserveAheadMs: 0, failClosed: true };
  const endAfter = async (timeoutMs: number, options: LimiterOptions = rate, isFaster = false) => {
    const { clock, start, run } = createSimulation();
    const others = start(options);
    await run(others.limiter.acquire());
    const { limiter, link } = start(options, { latencyMs: 20 });
    const waiting = endOf(limiter.acquire({ timeoutMs }));
    await clock.advance(90);
    // Its turn comes at 100 ms. What it hears then, if anything, is that somebody else has written.
    if (isFaster) link.setFaults(({ operation }) => operation === "get" ? "request_lost" : undefined);
    else link.isDown = true;
    if (isFaster) await run(others.limiter.acquire());
    return await run(waiting);
  };
  assertEquals(await endAfter(150), "timeout", "an answer or two are not there yet");
  assertEquals(await endAfter(250), "backend");
  assertEquals(await endAfter(250, { ...rate, maxConcurrent: 5 }), "timeout", "others may hold the permits");
  assertEquals(await endAfter(250, rate, true), "timeout", "others were faster");
});
