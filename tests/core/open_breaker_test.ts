import {
  assert,
  assertEquals,
  assertGreater,
  assertInstanceOf,
  assertLess,
  assertLessOrEqual,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { test } from "node:test";
import { RateLimiterAcquisitionError, StoreUnavailableError } from "../../src/core/errors.ts";
import { STORE_DEFAULTS } from "../../src/core/limiter/defaults.ts";
import type { Permit } from "../../src/core/limiter/result.ts";
import { createSimulation, LIMITER_ID } from "../support/simulated_process.ts";

/** So long that nothing in these tests waits for it to be over by itself. */
const NEVER_COOL = { failures: 2, coolDownMs: 1e9, maxCoolDownMs: 1e9 };
const FAST = { backendTimeoutMs: 400 };
const NET = { latencyMs: 2 };
/** How long it takes until a store that is back has heard what it has to, however long its circuit breaker cools down. */
const SOON_MS = 2_000;

// Who may ask

test("after the cool-down one call of one key asks, and everybody else is answered at once [FAIL-3]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link, breaker } = start({ ...FAST, ratePerSecond: 1_000, burst: 1_000 }, {
    ...NET,
    breaker: STORE_DEFAULTS.breaker,
  });
  const keys = ["a", "b", "c", "d"].map((key) => limiter.key(key));
  await run(Promise.all(keys.map((each) => each.acquire())));
  link.isDown = true;
  await run(Promise.all(keys.map((each) => each.acquire())));
  assertEquals(breaker.state, "open");
  await clock.advance(1_000);
  link.latencyMs = 100;
  const before = link.sent.total;
  const begun = clock.now();
  const answeredAt: number[] = [];
  const calls = keys.flatMap((each) =>
    Array.from({ length: 25 }, async () => {
      const { degraded } = await each.tryAcquire();
      assertEquals(degraded, true);
      answeredAt.push(clock.now() - begun);
    })
  );
  await clock.advance(0);
  assertEquals([answeredAt.length, link.sent.total - before, breaker.state], [99, 1, "half_open"]);
  await run(Promise.all(calls));
  assertEquals(answeredAt.filter((ms) => ms > 0), [FAST.backendTimeoutMs]);
  assertEquals(breaker.state, "open");
});

test("one answer is enough: then everybody asks again, and nothing is degraded [FAIL-3]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link, breaker, warnings } = start({ ...FAST, ratePerSecond: 1_000, burst: 1_000 }, {
    ...NET,
    breaker: STORE_DEFAULTS.breaker,
  });
  link.isDown = true;
  while (breaker.state !== "open") await run(limiter.acquire());
  link.isDown = false;
  assertEquals((await run(limiter.tryAcquire())).degraded, true);
  await clock.advance(1_000);
  assertEquals((await run(limiter.tryAcquire())).degraded, false);
  const results = await run(Promise.all(["a", "b", "c"].map((key) => limiter.tryAcquire({ key }))));
  assertEquals(results.map(({ degraded }) => degraded), [false, false, false]);
  assertEquals([breaker.state, limiter.getMetrics().circuitBreaker], ["closed", "closed"]);
  assert(warnings.includes("Store 'simulated' answers again: its circuit breaker is closed."));
});

test("lost races, refusals and values of a newer version are no failures of the store [FAIL-5]", async () => {
  const { server, start, run } = createSimulation();
  const one = start({ ratePerSecond: 0.01, burst: 2 }, { ...NET, maxRetries: 2, breaker: { failures: 1 } });
  await run(one.limiter.acquire({ cost: 0.5 }));
  one.link.setFaults(({ operation }) => operation === "compareAndSet" ? { kind: "conflict" } : undefined);
  const lost = await run(one.limiter.tryAcquire({ timeoutMs: 300 }));
  assertEquals([lost.degraded, one.limiter.getMetrics().backendFailures], [true, 1]);
  assertGreater(one.limiter.getMetrics().casFailures, 0);
  one.link.setFaults({});
  for (let i = 0; i < 5; i++) await run(one.limiter.tryAcquire());
  assertEquals((await run(one.limiter.tryAcquire())).allowed, false);
  server.put(`${LIMITER_ID}.newer`, '{"v":99}');
  await run(one.limiter.key("newer").getState());
  assertEquals(one.breaker.state, "closed");
});

// Refusals and outages

for (const onFailure of ["open", "closed", "local"] as const) {
  test(`a refusal that is certain stays one while the circuit breaker is open, on_failure ${onFailure} [FAIL-5]`, async () => {
    const { clock, start, run } = createSimulation();
    const options = { ...FAST, algorithm: "sliding_window", limit: 1, windowMs: 60_000, onFailure } as const;
    const { limiter, link, breaker } = start(options, { ...NET, breaker: NEVER_COOL });
    await run(limiter.acquire());
    link.isDown = true;
    while (breaker.state !== "open") await run(limiter.key("other").acquire().catch(() => {}));
    const sent = link.sent.total;
    for (const timeoutMs of [0, 1_000]) {
      const refused = await run(limiter.tryAcquire({ timeoutMs }));
      assertEquals([refused.allowed, refused.degraded], [false, false]);
      assertGreater(refused.retryAfterMs, 50_000);
    }
    // Its turn is within its timeout, and so only the store can grant it.
    const waiting = limiter.acquire({ timeoutMs: 120_000 });
    if (onFailure === "closed") {
      const error = await assertRejects(() => run(waiting), RateLimiterAcquisitionError);
      assertEquals(error.reason, "backend");
      assertInstanceOf(error.cause, StoreUnavailableError);
    } else assertEquals((await run(waiting)).degraded, true);
    await clock.advance(60_000);
    if (onFailure === "closed") await assertRejects(() => run(limiter.tryAcquire()), RateLimiterAcquisitionError);
    else assertEquals((await run(limiter.tryAcquire())).degraded, true);
    assertEquals(link.sent.total, sent);
  });
}

test("permits that were all taken are an outage and no refusal while nobody can look [FAIL-5]", async () => {
  const { start, run } = createSimulation();
  const options = { ...FAST, maxConcurrent: 1, failClosed: true };
  const { limiter, link, breaker } = start(options, { ...NET, breaker: NEVER_COOL });
  await run(limiter.acquire());
  link.isDown = true;
  while (breaker.state !== "open") await run(limiter.key("other").acquire().catch(() => {}));
  const error = await assertRejects(() => run(limiter.acquire({ timeoutMs: 0 })), RateLimiterAcquisitionError);
  assertEquals(error.reason, "backend");
});

test("a caller whose slot is free when its time is over was failed by the store, and not refused [FAIL-5, TMO-2]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { ratePerSecond: 1, reserveAheadMs: 0, failClosed: true, backendTimeoutMs: 5_000 };
  const { limiter, link } = start(options, NET);
  await run(limiter.acquire());
  const begun = clock.now();
  const waiting = limiter.acquire({ timeoutMs: 1_500 });
  waiting.catch(() => {}); // It is awaited below.
  await clock.advance(500);
  await run(limiter.getState()); // So the store has answered since.
  link.isDown = true;
  const error = await assertRejects(() => run(waiting), RateLimiterAcquisitionError);
  assertEquals([error.reason, clock.now() - begun], ["backend", 1_500]);
  assertStringIncludes(String(error.cause), "the request could not be written within 1500 ms");
});

test("a store that answers in 30 ms has not failed who cannot wait as long [FAIL-5, TMO-2]", async () => {
  for (const timeoutMs of [1, 10, 29]) {
    const { start, run } = createSimulation();
    const { limiter } = start({ ratePerSecond: 1, burst: 2 }, { latencyMs: 15 });
    for (const allowed of [true, true, false]) {
      const result = await run(limiter.tryAcquire({ timeoutMs }));
      assertEquals([result.allowed, result.degraded], [allowed, false], `${timeoutMs} ms`);
    }
    assertEquals(limiter.getMetrics().backendFailures, 0);
  }
});

test("a limit that is full stays a refusal when the time is over, however slow the store is [FAIL-5]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ maxConcurrent: 1, backendTimeoutMs: 2_000 }, NET);
  await run(limiter.acquire());
  link.latencyMs = 300;
  for (let timeoutMs = 700; timeoutMs < 1_400; timeoutMs += 50) {
    const result = await run(limiter.tryAcquire({ timeoutMs }));
    assertEquals([result.allowed, result.degraded], [false, false], `${timeoutMs} ms`);
  }
  assertEquals(limiter.getMetrics().degradedAcquisitions, 0);
  await clock.advance(0);
});

test("while all permits are held every caller is refused, however its wait ends, and however far the store is [FAIL-5, TMO-2]", async () => {
  for (const latencyMs of [1, 5, 30, 130]) {
    const { clock, start, run } = createSimulation();
    const { limiter } = start({ maxConcurrent: 1, backendTimeoutMs: 2_000 }, { latencyMs });
    const held = await run(limiter.acquire());
    const calls: Promise<unknown>[] = [];
    for (let i = 0; i < 400; i++) {
      const timeoutMs = [50, 100, 505, 1_000, 3][i % 5]!;
      calls.push(assertRejects(() => limiter.acquire({ timeoutMs }), RateLimiterAcquisitionError, "held"));
      if (i % 7 === 0) {
        const abort = new AbortController();
        calls.push(assertRejects(() => limiter.acquire({ signal: abort.signal }), RangeError));
        void clock.sleep(i % 90).then(() => abort.abort(new RangeError("enough")));
      }
      await clock.advance(7.3 * (i % 6));
    }
    await run(Promise.all(calls));
    assertEquals([limiter.getMetrics().degradedAcquisitions, held.lost], [0, false]);
  }
});

test("what is free is not refused for a store that only takes a little longer than the caller [FAIL-5, TMO-2]", async () => {
  for (const options of [{ maxConcurrent: 2 }, { ratePerSecond: 1, burst: 2 }]) {
    // Just before the store answers somebody else, and some time after that.
    for (const afterMs of [29, 40]) {
      const { clock, start, run } = createSimulation();
      const { limiter } = start({ ...options, failClosed: true }, { latencyMs: 30 });
      const first = limiter.acquire();
      await clock.advance(afterMs);
      const { allowed, degraded } = await run(limiter.tryAcquire({ timeoutMs: 10 }));
      assertEquals([allowed, degraded], [true, false], `${afterMs} ms`);
      await run(first);
    }
  }
});

test("a store that is silent is down, although all permits were held just before [FAIL-5]", async () => {
  const { start, run } = createSimulation();
  const { limiter, link } = start({ maxConcurrent: 1, failClosed: true }, NET);
  await run(limiter.acquire());
  link.isDown = true;
  const error = await assertRejects(() => run(limiter.acquire({ timeoutMs: 200 })), RateLimiterAcquisitionError);
  assertEquals(error.reason, "backend");
});

test("an answer that comes a little late is no outage for whoever waits for a permit [FAIL-5, TMO-2]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { maxConcurrent: 1, failClosed: true };
  const [holder, waiting] = [start(options, NET), start(options, NET)];
  await run(holder.limiter.acquire());
  const leaving = new AbortController();
  const first = waiting.limiter.acquire({ signal: leaving.signal });
  await clock.advance(5_000);
  waiting.link.setFaults(() => ({ kind: "answer_late", byMs: 30 }));
  const reasons = Array.from(
    { length: 1_000 },
    (_, ms) =>
      waiting.limiter.acquire({ timeoutMs: ms + 1 }).then(
        () => "served",
        (error: RateLimiterAcquisitionError) => error.reason,
      ),
  );
  assertEquals(new Set(await run(Promise.all(reasons))), new Set(["timeout"]));
  leaving.abort(new RangeError("enough"));
  await assertRejects(() => first, RangeError);
});

test("while others are faster every caller is refused for want of the rate, and not as if the store had failed [FAIL-5, TMO-2]", async () => {
  for (const latencyMs of [5, 30]) {
    const { clock, start, run } = createSimulation();
    const options = { ratePerSecond: 20, reserveAheadMs: 0, backendTimeoutMs: 2_000, failClosed: true };
    const [near, far] = [start(options, { latencyMs: 1 }), start(options, { latencyMs })];
    for (const { limiter } of [near!, far!]) await run(limiter.acquire());
    const reasons: string[] = [];
    const calls: Promise<unknown>[] = [];
    for (let i = 0; i < 400; i++) {
      const timeoutMs = [55, 100, 505, 1_000, 203][i % 5]!;
      const note = (error: RateLimiterAcquisitionError) => void reasons.push(error.reason);
      calls.push(near!.limiter.acquire({ timeoutMs }).catch(note), far!.limiter.acquire({ timeoutMs }).catch(note));
      await clock.advance(7.3 * (i % 6));
    }
    await run(Promise.all(calls));
    assertEquals(reasons.filter((reason) => reason !== "timeout"), [], `${latencyMs} ms`);
  }
});

test("what became of a write is found out within the time that one answer may take, however it goes wrong [TMO-2]", async () => {
  for (const timeoutMs of [0, 5_000]) {
    const { clock, start, run } = createSimulation();
    const { limiter, link } = start({ maxConcurrent: 1, backendTimeoutMs: 2_000 }, NET);
    await run(limiter.acquire().then((permit) => permit.release()));
    link.failNext("answer_lost", { operation: "compareAndSet" });
    link.failNext({ kind: "answer_late", byMs: 990 }, { operation: "compareAndSet" });
    link.failNext("request_lost", { operation: "get" });
    const begun = clock.now();
    const { degraded } = await run(limiter.acquire({ timeoutMs }));
    assertEquals([degraded, clock.now() - begun], [true, 2_000]);
  }
});

test("with on_failure local the store and the local limiter together take no longer than the caller's timeout [TMO-2]", async () => {
  for (const known of [true, false]) {
    const { clock, start, run } = createSimulation();
    const { limiter, link } = start({ ratePerSecond: 1, onFailure: "local", backendTimeoutMs: 300 }, NET);
    if (known) await run(limiter.acquire());
    await clock.advance(10_000);
    link.isDown = true;
    await run(limiter.acquire());
    for (const timeoutMs of [100, 500, 900]) {
      const begun = clock.now();
      await run(limiter.tryAcquire({ timeoutMs }));
      assertLessOrEqual(clock.now() - begun, timeoutMs + 50);
    }
  }
});

test("with on_failure local who waits returns to the store when it answers again, and keeps the time that has passed [FAIL-3]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { ...FAST, maxConcurrent: 1, onFailure: "local", leaseMs: 300_000 } as const;
  const { limiter, link } = start(options, { ...NET, breaker: STORE_DEFAULTS.breaker });
  await run(limiter.tryAcquire().then((result) => result.release()));
  link.isDown = true;
  const local = await run(limiter.acquire());
  assertEquals(local.degraded, true);
  const begun = clock.now();
  const waiting = limiter.acquire();
  const impatient = limiter.acquire({ timeoutMs: 20_000 });
  impatient.catch(() => {}); // It is awaited below.
  const abort = new AbortController();
  const aborted = limiter.acquire({ signal: abort.signal });
  aborted.catch(() => {}); // It is awaited below.
  await clock.advance(5_000);
  abort.abort(new RangeError("enough"));
  await assertRejects(() => aborted, RangeError);
  link.isDown = false;
  // Nobody else asks, so somebody does it for those who wait; the circuit breaker lets that through when it has cooled down.
  await clock.advance(STORE_DEFAULTS.breaker.maxCoolDownMs + SOON_MS);
  const permit = await run(waiting);
  assertEquals(permit.degraded, false);
  assertGreater(permit.waitedMs, 5_000);
  assertLessOrEqual(permit.waitedMs, clock.now() - begun);
  const error = await assertRejects(() => run(impatient), RateLimiterAcquisitionError);
  assertEquals([error.waitedMs, clock.now() - begun], [20_000, 20_000]);
  assertEquals(limiter.getMetrics().aborted, 1);
  await run(Promise.all([local.release(), permit.release()]));
  assertEquals(limiter.getMetrics().currentConcurrent, 0);
  await run(limiter.close());
  await clock.advance(FAST.backendTimeoutMs);
  assertEquals(clock.sleepers, 0);
});

test("with on_failure local what waits to be taken or cancelled returns to the store, too [FAIL-3, CHK-6]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { ...FAST, maxConcurrent: 1, onFailure: "local", leaseMs: 300_000 } as const;
  const { limiter, link } = start(options, NET);
  link.isDown = true;
  const local = await run(limiter.acquire());
  const taking = limiter.tryTake({ timeoutMs: 60_000 });
  await clock.advance(5_000);
  link.isDown = false;
  const { result, cancel } = await run(taking);
  assertEquals([local.degraded, result.allowed, result.degraded], [true, true, false]);
  assertEquals((await run(limiter.getState())).remaining, 0);
  await run(Promise.all([cancel(), local.release()]));
  assertEquals((await run(limiter.getState())).remaining, 1);
  assertEquals(limiter.getMetrics().currentConcurrent, 0);
});

test("with on_failure local a rate is not used twice once the store is back [FAIL-3]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ...FAST, ratePerSecond: 1, onFailure: "local" }, NET);
  await run(limiter.acquire());
  link.isDown = true;
  const starts: number[] = [];
  for (let i = 0; i < 100; i++) void limiter.acquire().then(() => starts.push(clock.now()));
  await clock.advance(3_000);
  link.isDown = false;
  await clock.advance(10_000);
  const from = clock.now();
  await clock.advance(60_000);
  const seen = starts.filter((at) => at > from).length;
  assert(seen >= 59 && seen <= 61, `${seen} in 60 s at 1/s`);
});

test("with on_failure local a key that holds a permit of this process alone is not forgotten [LIM-17]", async () => {
  const { start, run } = createSimulation();
  const { limiter, link } = start({ ...FAST, maxConcurrent: 1, onFailure: "local" }, { ...NET, mostKeys: 3 });
  link.isDown = true;
  const key = limiter.key("held");
  const permit = await run(key.acquire());
  for (let i = 0; i < 10; i++) await run(limiter.tryAcquire({ key: `other-${i}` }).then((result) => result.release()));
  assertEquals(limiter.key("held").getMetrics().currentConcurrent, 1);
  assertEquals((await run(limiter.tryAcquire({ key: "held" }))).allowed, false);
  await permit.release();
  assertEquals(limiter.key("held").getMetrics().currentConcurrent, 0);
});

// Permits

test("with on_failure local a key whose caller waits in this process alone is not forgotten [LIM-17]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { ...FAST, ratePerSecond: 0.01, onFailure: "local" } as const;
  const { limiter, link } = start(options, { ...NET, mostKeys: 10 });
  await run(limiter.tryAcquire({ key: "busy" }));
  link.isDown = true;
  await run(limiter.acquire({ key: "busy" }));
  const waiting = limiter.acquire({ key: "busy" });
  await clock.advance(10 * FAST.backendTimeoutMs);
  for (let i = 0; i < 40; i++) await run(limiter.tryAcquire({ key: `other ${i}` }));
  assertEquals(limiter.key("busy").getMetrics().totalAcquisitions, 2);
  await run(waiting);
  assertEquals(limiter.key("busy").getMetrics().totalAcquisitions, 3);
});

test("permits are renewed as soon as the store is back, whatever the circuit breaker's cool-down [CON-7, FAIL-3]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link, breaker } = start({ ...FAST, maxConcurrent: 5, leaseMs: 9_000 }, {
    ...NET,
    breaker: NEVER_COOL,
  });
  const permit = await run(limiter.acquire());
  link.isDown = true;
  while (breaker.state !== "open") await run(limiter.key("other").acquire());
  await clock.advance(5_000);
  link.isDown = false;
  await clock.advance(SOON_MS);
  assertEquals(breaker.state, "closed");
  await clock.advance(60_000);
  assertEquals(permit.lost, false);
  assertEquals((await run(limiter.getState())).currentUsage, 1);
});

test("hundreds of keys keep their permits over an outage, with one call at a time until it is over [CON-7, FAIL-3]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link, breaker } = start({ ...FAST, maxConcurrent: 1, leaseMs: 12_000 }, {
    ...NET,
    breaker: NEVER_COOL,
  });
  const keys = Array.from({ length: 200 }, (_, i) => limiter.key(`k${i}`));
  const permits: Permit[] = await run(Promise.all(keys.map((key) => key.acquire())));
  link.isDown = true;
  while (breaker.state !== "open") await run(limiter.acquire());
  const before = link.sent.total;
  await clock.advance(7_000);
  // Each takes 200 ms, which is half of the time that a store has to answer.
  assertLessOrEqual(link.sent.total - before, 7_000 / 200 + 1);
  link.isDown = false;
  await clock.advance(60_000);
  assertEquals(permits.filter(({ lost }) => lost).length, 0);
  assertEquals(breaker.state, "closed");
});

test("a key that nobody can write does not keep the others from renewing their permits [CON-7]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ...FAST, maxConcurrent: 1, leaseMs: 5_000 }, { ...NET, breaker: NEVER_COOL });
  const poisoned = await run(limiter.key("poisoned").acquire());
  const permits: Permit[] = [];
  for (let i = 0; i < 20; i++) {
    permits.push(await run(limiter.key(`k${i}`).acquire()));
    await clock.advance(37);
  }
  link.setFaults(({ key }) => key?.endsWith("poisoned") ? { kind: "error", applied: false } : undefined);
  await clock.advance(60_000);
  assertEquals(permits.filter(({ lost }) => lost).length, 0);
  assertEquals(poisoned.lost, true);
});

test("release() answers at once while the circuit breaker is open, and is done as soon as the store is back [CON-9, FAIL-1]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { ...FAST, maxConcurrent: 1, leaseMs: 60_000 };
  const holder = start(options, { ...NET, breaker: NEVER_COOL });
  const other = start(options, NET);
  const permit = await run(holder.limiter.acquire());
  holder.link.isDown = true;
  while (holder.breaker.state !== "open") await run(holder.limiter.key("other").acquire());
  const begun = clock.now();
  await run(permit.release());
  assertEquals(clock.now(), begun);
  await clock.advance(20_000);
  assertEquals((await run(other.limiter.tryAcquire())).allowed, false);
  holder.link.isDown = false;
  await clock.advance(SOON_MS);
  assertEquals((await run(other.limiter.tryAcquire())).allowed, true);
  assertEquals(holder.breaker.state, "closed");
});

test("a release is tried again until its lease is over, and then nothing runs any more [CON-9, FAIL-3]", async () => {
  for (const breaker of [NEVER_COOL, { failures: 0 }]) {
    const { clock, start, run } = createSimulation();
    const { limiter, link } = start({ ...FAST, maxConcurrent: 1, leaseMs: 10_000 }, { ...NET, breaker });
    const permit = await run(limiter.acquire());
    link.isDown = true;
    await run(permit.release());
    await clock.advance(9_000);
    assertGreater(link.sent.total, 8);
    await clock.advance(5_000);
    const { total } = link.sent;
    assertEquals(clock.sleepers, 0);
    await clock.advance(600_000);
    assertEquals([link.sent.total, clock.sleepers], [total, 0]);
  }
});

test("somebody who is refused by an open circuit breaker leaves nothing running [FAIL-2]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link, breaker } = start({ ...FAST, maxConcurrent: 3 }, { ...NET, breaker: NEVER_COOL });
  await run((await run(limiter.acquire())).release());
  link.isDown = true;
  while (breaker.state !== "open") await run(limiter.key("other").acquire());
  await clock.advance(60_000);
  assertEquals(clock.sleepers, 0);
  const { total } = link.sent;
  for (let i = 0; i < 100; i++) assertEquals((await run(limiter.acquire())).degraded, true);
  assertEquals([link.sent.total, clock.sleepers], [total, 0]);
});

test("waiting for a permit ends by the policy when the store goes away, and a mark that is left there runs out [FAIL-2]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { maxConcurrent: 1, leaseMs: 60_000, backendTimeoutMs: 400, failClosed: true };
  const holder = start(options, NET);
  const waiter = start(options, { ...NET, breaker: NEVER_COOL });
  await run(holder.limiter.acquire());
  const waiting = waiter.limiter.acquire();
  waiting.catch(() => {}); // It is awaited below.
  await clock.advance(5_000); // It has marked its place by now.
  waiter.link.setFaults(() => ({ kind: "error", applied: false }));
  const begun = clock.now();
  const error = await assertRejects(() => run(waiting), RateLimiterAcquisitionError);
  assertEquals(error.reason, "backend");
  assertLess(clock.now() - begun, 2_000);
  await clock.advance(60_000);
  assertLess(waiter.link.sent.total, 100);
});
