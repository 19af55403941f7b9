import {
  assert,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertLess,
  assertLessOrEqual,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { test } from "node:test";
import type { LimiterOptions } from "../../../src/config/options.ts";
import { GLANCE_MS } from "../../../src/core/alarm.ts";
import { RateLimiterAcquisitionError, StoreUnavailableError } from "../../../src/core/errors.ts";
import { rateExcess, type Start } from "../../support/oracles.ts";
import type { Fault, FaultScript } from "../../../src/testing/faulty_kv.ts";
import { createSimulation, LIMITER_ID } from "../../support/simulated_process.ts";

/** A fault for each message in turn, and none for those after them. */
function inTurn(...faults: (Fault | undefined)[]): FaultScript {
  return ({ operation }) => operation === "announce" ? undefined : faults.shift();
}

/** The limit's own number in the stored value. */
function stored(text: string | undefined, field: string): unknown {
  const json: unknown = JSON.parse(text ?? "null");
  return typeof json === "object" && json !== null ? Reflect.get(json, field) : undefined;
}

const LOST: Fault = { kind: "request_lost" };
const UNANSWERED: Fault = { kind: "answer_lost" };

// Outcomes that nobody knows

test("a write whose acknowledgement is lost counts once: it is repeated, and recognised as written", async () => {
  const { clock, server, start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 1, burst: 5, backendTimeoutMs: 400 }, { latencyMs: 2 });
  await run(limiter.acquire());
  link.setFaults(inTurn(UNANSWERED));
  const begun = clock.now();
  const result = await run(limiter.tryAcquire());
  assertEquals([result.allowed, result.degraded], [true, false]);
  assertLessOrEqual(clock.now() - begun, 410);
  assertEquals(stored(server.text(LIMITER_ID), "rate"), 2_000);
  assertEquals((await run(limiter.getState())).remaining, 3);
});

test("a write that never arrived is repeated and counts once", async () => {
  const { server, start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 1, burst: 5, backendTimeoutMs: 400 }, { latencyMs: 2 });
  await run(limiter.acquire());
  link.setFaults(inTurn(LOST));
  assertEquals((await run(limiter.tryAcquire())).degraded, false);
  assertEquals(stored(server.text(LIMITER_ID), "rate"), 2_000);
});

test("a write that arrives after it was repeated changes nothing any more", async () => {
  const { clock, server, start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 1, burst: 5, backendTimeoutMs: 400 }, { latencyMs: 2 });
  await run(limiter.acquire());
  link.setFaults(inTurn({ kind: "request_late", byMs: 300 }));
  assertEquals((await run(limiter.tryAcquire())).allowed, true);
  await clock.advance(1_000);
  assertEquals(stored(server.text(LIMITER_ID), "rate"), 2_000);
  assertEquals((await run(limiter.tryAcquire())).allowed, true);
});

test("a write that is applied after everybody gave up is counted, and admits nobody", async () => {
  const { clock, start, run } = createSimulation();
  const options = { ratePerSecond: 0.1, burst: 2, backendTimeoutMs: 400, failClosed: true };
  const { limiter, link } = start(options, { latencyMs: 2 });
  link.setFaults(inTurn({ kind: "request_late", byMs: 900 }, LOST, LOST, LOST));
  await assertRejects(() => run(limiter.acquire({ timeoutMs: 5_000 })), RateLimiterAcquisitionError);
  await clock.advance(1_000);
  link.setFaults({});
  assertEquals((await run(limiter.getState())).remaining, 1);
});

test("an error that says nothing is treated as an outcome that nobody knows", async () => {
  for (const applied of [true, false]) {
    const { server, start, run } = createSimulation();
    const { limiter, link } = start({ ratePerSecond: 1, burst: 5 }, { latencyMs: 2 });
    await run(limiter.acquire());
    link.setFaults(inTurn({ kind: "error", applied }));
    assertEquals((await run(limiter.tryAcquire())).degraded, false);
    assertEquals(stored(server.text(LIMITER_ID), "rate"), 2_000);
  }
});

test("a write that the store refused is not repeated: the caller hears at once", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 1, failClosed: true }, { latencyMs: 2 });
  link.setFaults(() => ({ kind: "refused" }));
  const error = await assertRejects(() => run(limiter.acquire()), RateLimiterAcquisitionError);
  assertEquals([error.reason, link.sent.total], ["backend", 1]);
  assert(error.cause instanceof StoreUnavailableError);
  assertGreater(clock.now(), 0);
});

test("a write that nobody can recognise any more is decided anew, and admits nobody twice", async () => {
  const { clock, start, run } = createSimulation();
  const options = { ratePerSecond: 0.01, burst: 50, backendTimeoutMs: 400 };
  const slow = start(options, { latencyMs: 2 });
  // So that each of them writes for itself.
  const alone = { peers: undefined };
  const others = Array.from({ length: 10 }, () => start(options, { latencyMs: 1, store: alone }));
  await run(slow.limiter.acquire());
  slow.link.setFaults(inTurn(UNANSWERED));
  const asked = slow.limiter.tryAcquire();
  await clock.advance(20);
  for (const { limiter } of others) await run(limiter.acquire());
  assertEquals((await run(asked)).allowed, true);
  // 1 + 10 + 1, and what was written without anybody hearing of it.
  assertEquals((await run(slow.limiter.getState())).remaining, 50 - 13);
});

test("permits of an unknown outcome come back although there is traffic all the time [CON-8]", async () => {
  const { clock, start, run } = createSimulation();
  const options: LimiterOptions = { maxConcurrent: 3, leaseMs: 60_000, backendTimeoutMs: 400, failClosed: true };
  const { limiter, link } = start(options, { latencyMs: 2 });
  let last = await run(limiter.acquire());
  link.setFaults(({ operation }) => operation === "compareAndSet" ? UNANSWERED : LOST);
  await assertRejects(() => run(limiter.acquire()), RateLimiterAcquisitionError);
  link.setFaults({});
  for (let i = 0; i < 20; i++) {
    await clock.advance(100);
    const next = await run(limiter.acquire());
    await run(last.release());
    last = next;
  }
  assertEquals((await run(limiter.getState())).currentUsage, 1);
});

test("a slot that is given back twice, as nobody heard of the first time, is not taken from its new owner", async () => {
  const { clock, start, run } = createSimulation();
  const options = { ratePerSecond: 1, burst: 3, reserveAheadMs: 5_000, maxConcurrent: 100, backendTimeoutMs: 400 };
  const first = start(options, { latencyMs: 2 });
  const second = start(options, { latencyMs: 2 });
  const starts: Start[] = [];
  const note = () => starts.push({ at: clock.now(), cost: 1, until: Infinity });
  for (let i = 0; i < 3; i++) await run(first.limiter.acquire().then(note));
  const controller = new AbortController();
  const leaving = first.limiter.acquire({ signal: controller.signal }).catch(() => {});
  await clock.advance(50);
  first.link.setFaults(({ operation }) => operation === "compareAndSet" ? UNANSWERED : LOST);
  controller.abort();
  await clock.advance(20);
  const waiting = second.limiter.acquire().then(note);
  await clock.advance(800);
  first.link.setFaults({});
  await clock.advance(1_000);
  const more = [second.limiter.acquire().then(note), first.limiter.acquire().then(note)];
  await run(Promise.all([leaving, waiting, ...more]));
  assertEquals(rateExcess(starts, options, 2), undefined);
});

// What stands in the store

test("a value that is damaged counts as used up, is reported once, and recovers with time", async () => {
  const { clock, server, start, run } = createSimulation();
  const { limiter, warnings } = start({ ratePerSecond: 1, burst: 4 }, { latencyMs: 1 });
  server.put(LIMITER_ID, "{ this is not JSON");
  const refused = await run(limiter.tryAcquire());
  assertEquals(refused.allowed, false);
  assertEquals(warnings.length, 1);
  assertStringIncludes(warnings[0] ?? "", "damaged");
  await clock.advance(1_000);
  assertEquals((await run(limiter.tryAcquire())).allowed, true);
  assertEquals((await run(limiter.tryAcquire())).allowed, false);
  server.put(LIMITER_ID, new Uint8Array([0xff, 0xfe]));
  await clock.advance(1_100);
  await run(limiter.getState());
  assertEquals(warnings.length, 1);
});

test("a damaged value is replaced once: who is refused after that writes nothing", async () => {
  const { clock, server, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 0.01 }, { latencyMs: 1 });
  server.put(LIMITER_ID, "{ this is not JSON");
  const revisions: number[] = [];
  for (let i = 0; i < 3; i++) {
    assertEquals((await run(limiter.tryAcquire())).allowed, false);
    revisions.push(server.snapshot().revision);
    await clock.advance(10_000);
  }
  assertEquals(revisions, [2, 2, 2]);
});

test("a value of a newer version is left as it is, and counts as a store that fails", async () => {
  const { server, start, run } = createSimulation();
  const newer = '{"v":2,"rules":"something new"}';
  const { limiter } = start({ ratePerSecond: 1, failClosed: true }, { latencyMs: 1 });
  server.put(LIMITER_ID, newer);
  for (let i = 0; i < 3; i++) {
    const error = await assertRejects(() => run(limiter.acquire()), RateLimiterAcquisitionError);
    assertEquals(error.reason, "backend");
    assertStringIncludes(error.message, "Upgrade");
  }
  assertEquals(server.text(LIMITER_ID), newer);
});

test("a process with other rules is warned once, applies its own, and the state stays one [TB-13]", async () => {
  const { clock, server, start, run } = createSimulation();
  const slow = start({ ratePerSecond: 1 }, { latencyMs: 1 });
  const fast = start({ ratePerSecond: 100, maxConcurrent: 5 }, { latencyMs: 1 });
  await run(slow.limiter.acquire());
  for (let i = 0; i < 3; i++) {
    const permit = await run(fast.limiter.acquire());
    await run(slow.limiter.getState());
    await run(permit.release());
  }
  assertEquals([fast.warnings.length, slow.warnings.length], [1, 1]);
  assertStringIncludes(fast.warnings[0] ?? "", '"1/s, burst 1"');
  // What the slow one does not know, it leaves in place.
  const permit = await run(fast.limiter.acquire());
  await clock.advance(1_200);
  await run(slow.limiter.acquire());
  assertStringIncludes(server.text(LIMITER_ID) ?? "", '"permits":[');
  assertEquals((await run(fast.limiter.getState())).currentUsage >= 1, true);
  await run(permit.release());
});

test("processes share the permits although one of them allows fewer [CON-2, TB-13]", async () => {
  const { clock, start, run } = createSimulation();
  const END = clock.now() + 20_000;
  const shares = [2, 6].map(async (maxConcurrent) => {
    const { limiter } = start({ maxConcurrent }, { latencyMs: 1 });
    let started = 0;
    const callers = Array.from({ length: 8 }, async () => {
      while (clock.now() < END) {
        const permit = await limiter.acquire();
        started++;
        await clock.sleep(50);
        await permit.release();
      }
    });
    await Promise.all(callers);
    return started;
  });
  const [strict = 0, loose = 0] = await run(Promise.all(shares));
  assertGreater(strict, loose / 10, `${strict} of the one that allows two, ${loose} of the other one`);
});

test("a store that lost its data is a lost race like any other", async () => {
  const { clock, server, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 10, maxConcurrent: 2 }, { latencyMs: 1 });
  await run((await run(limiter.acquire())).release());
  const before = server.snapshot();
  await clock.advance(200);
  const permit = await run(limiter.acquire());
  for (let i = 0; i < 3; i++) {
    await clock.advance(200);
    await run((await run(limiter.acquire())).release());
  }
  server.restore(before);
  await clock.advance(200);
  assertEquals((await run(limiter.tryAcquire())).allowed, true);
  await clock.advance(20_000);
  // The permit went with the data, and nobody can have taken it: it is counted again, and its holder keeps it.
  assertEquals(permit.lost, false);
  assertEquals((await run(limiter.getState())).currentUsage, 2);
  await run(permit.release());
  assertEquals((await run(limiter.getState())).currentUsage, 1);
});

test("a key that vanished is created again", async () => {
  const { clock, start, run, server } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 100, burst: 5 }, { latencyMs: 1 });
  for (let i = 0; i < 5; i++) {
    assertEquals((await run(limiter.tryAcquire())).allowed, true);
    await run(link.delete(LIMITER_ID));
    await clock.advance(20);
  }
  assertEquals(server.text(LIMITER_ID), undefined);
});

test("the first request for a key that nobody has used is one message, whichever connection it goes over", async () => {
  for (const session of [undefined, 1]) {
    const { start, run } = createSimulation();
    const { limiter, link } = start({ ratePerSecond: 1 }, { latencyMs: 1, store: { session } });
    assertEquals((await run(limiter.tryAcquire())).allowed, true);
    assertEquals(link.sent.total, 1);
  }
});

// A store that fails

const OUTAGE = { ratePerSecond: 10, backendTimeoutMs: 500 };

test("a store that is down lets requests in when the limiter fails open, marked and counted [FAIL-1, MET-7]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link, warnings } = start(OUTAGE, { latencyMs: 2 });
  await run(limiter.acquire());
  await clock.advance(200);
  link.isDown = true;
  for (let i = 0; i < 3; i++) {
    const begun = clock.now();
    const permit = await run(limiter.acquire());
    assertEquals(permit.degraded, true);
    assertLessOrEqual(clock.now() - begun, 2 * 500);
    await run(permit.release());
  }
  const result = await run(limiter.tryAcquire());
  assertEquals([result.allowed, result.degraded], [true, true]);
  assertEquals(warnings.length, 1);
  assertEquals([limiter.getMetrics().degradedAcquisitions, limiter.getMetrics().backendFailures], [4, 4]);
  link.isDown = false;
  const back = await run(limiter.acquire());
  assertEquals([back.degraded, warnings.at(-1)], [false, `Limiter '${LIMITER_ID}': its store answers again.`]);
});

test("who was let in without an answer has used what the store granted later [FAIL-1]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 0.01, burst: 3 }, { latencyMs: 2 });
  link.setFaults(inTurn({ kind: "answer_late", byMs: 300 }));
  const { allowed, degraded } = await run(limiter.tryAcquire({ timeoutMs: 50 }));
  assertEquals([allowed, degraded], [true, true]);
  await clock.advance(1_000);
  assertEquals((await run(limiter.getState())).remaining, 2);
});

test("a store that is down refuses with a reason of its own when the limiter fails closed [FAIL-1, ERR-4]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ...OUTAGE, failClosed: true }, { latencyMs: 2 });
  await run(limiter.initialize());
  link.isDown = true;
  for (
    const ask of [
      () => limiter.acquire(),
      () => limiter.acquire({ timeoutMs: 60_000 }),
      () => limiter.tryAcquire(),
      () => limiter.getState(),
      () => limiter.check({ consume: false }),
    ]
  ) {
    const begun = clock.now();
    const error = await assertRejects(() => run<unknown>(ask()), RateLimiterAcquisitionError);
    assertEquals([error.reason, error.limiterId], ["backend", LIMITER_ID]);
    assert(error.cause instanceof StoreUnavailableError);
    assertLessOrEqual(clock.now() - begun, 1_000);
  }
  assertEquals(limiter.getMetrics().timeouts, 0);
  link.isDown = false;
  assertEquals((await run(limiter.tryAcquire())).allowed, true);
});

test("a store that is down leaves the same limit to this process with onFailure local [FAIL-4]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ...OUTAGE, burst: 2, onFailure: "local" }, { latencyMs: 2 });
  link.isDown = true;
  const result = await run(limiter.tryAcquire());
  assertEquals([result.allowed, result.degraded, result.limiterId], [true, true, LIMITER_ID]);
  // Ten of a second for as long as three requests to a silent store take, and no more.
  const begun = clock.now();
  const results = await run(
    Promise.all(Array.from({ length: 30 }, () =>
      limiter.acquire({ timeoutMs: 600 }).catch((error) => {
        assert(error instanceof RateLimiterAcquisitionError);
        return undefined;
      }))),
  );
  const granted = results.filter((permit) => permit !== undefined).length;
  assertLessOrEqual(granted, 2 + (clock.now() - begun) / 100);
  assertGreater(granted, 1);
  await clock.advance(1_000);
  assertEquals((await run(limiter.acquire())).degraded, true);
  link.isDown = false;
  assertEquals((await run(limiter.acquire())).degraded, false);
});

test("keys have a limit each with onFailure local [FAIL-4]", async () => {
  const { start, run } = createSimulation();
  const { limiter, link } = start({ ...OUTAGE, onFailure: "local" }, { latencyMs: 2 });
  link.isDown = true;
  for (const key of ["a", "b"]) {
    const results = await run(Promise.all(Array.from({ length: 5 }, () => limiter.tryAcquire({ key }))));
    assertEquals(results.filter(({ allowed }) => allowed).length, 1);
  }
});

test("nobody waits longer than his own timeout and a moment while the store is silent [TMO-2, FAIL-2]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 10, failClosed: true, backendTimeoutMs: 5_000 }, { latencyMs: 2 });
  await run(limiter.acquire());
  await clock.advance(1_000);
  link.isDown = true;
  for (const timeoutMs of [1, 30, 200, 1_000]) {
    const begun = clock.now();
    const error = await assertRejects(() => run(limiter.acquire({ timeoutMs })), RateLimiterAcquisitionError);
    assertEquals(error.reason, "backend");
    assertLessOrEqual(clock.now() - begun, Math.max(timeoutMs, 40) + 1);
  }
  const begun = clock.now();
  await assertRejects(() => run(limiter.acquire({ timeoutMs: 0 })), RateLimiterAcquisitionError);
  assertLessOrEqual(clock.now() - begun, 2 * 5_000);
});

test("an outage and a refusal are told apart [FAIL-5]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 0.1, failClosed: true, backendTimeoutMs: 300 }, { latencyMs: 2 });

  await run(limiter.acquire());
  const refused = await assertRejects(() => run(limiter.acquire({ timeoutMs: 50 })), RateLimiterAcquisitionError);
  assertEquals(refused.reason, "timeout");
  link.isDown = true;
  // What is certain is certain without the store, too.
  const certain = await assertRejects(() => run(limiter.acquire({ timeoutMs: 0 })), RateLimiterAcquisitionError);
  assertEquals(certain.reason, "timeout");
  await clock.advance(2_000);
  // By now the store is asked all the same, in case that something was given back.
  const asked = await assertRejects(() => run(limiter.acquire({ timeoutMs: 5_000 })), RateLimiterAcquisitionError);
  assertEquals([asked.reason, link.sent.total > 1], ["timeout", true]);
  await clock.advance(10_000);
  const failed = await assertRejects(() => run(limiter.acquire({ timeoutMs: 5_000 })), RateLimiterAcquisitionError);
  assertEquals(failed.reason, "backend");
});

test("a store that has answered at the very moment of the request, and is silent since, is down [FAIL-5]", async () => {
  const { start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 5, failClosed: true });
  await run(limiter.acquire());
  link.isDown = true;
  const failed = await assertRejects(() => run(limiter.acquire({ timeoutMs: 300 })), RateLimiterAcquisitionError);
  assertEquals(failed.reason, "backend");
});

test("a store that failed for those in front is asked for whoever has not waited for long, and for nobody else [FAIL-2]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { ratePerSecond: 1, failClosed: true, backendTimeoutMs: 400 };
  const { limiter, link } = start(options, { latencyMs: 2, mostAtOnce: 1 });
  link.setFaults(inTurn(LOST, LOST));
  const ended = (key: string) =>
    limiter.acquire({ key }).then(() => "served", (error: RateLimiterAcquisitionError) => error.reason);
  const begun = clock.now();
  const first = ended("first");
  await clock.advance(100);
  const early = ended("early");
  await clock.advance(200);
  const late = ended("late");
  assertEquals(await run(Promise.all([first, early, late])), ["backend", "backend", "served"]);
  assertLess(clock.now() - begun, 410);
  // Two messages for the first, and one for the last.
  assertEquals(link.sent.compareAndSet, 3);
});

test("whoever asks for the state of a key while it is written is answered, although other keys wait [STA-4]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 1, burst: 3 }, { latencyMs: 2, mostAtOnce: 1 });
  const first = limiter.acquire({ key: "first" });
  await clock.advance(1);
  const looking = limiter.key("first").getState();
  const second = limiter.acquire({ key: "second" });
  assertEquals((await run(looking)).remaining, 2);
  await run(Promise.all([first, second]));
});

test("callers who have their slot already keep it when the store goes down", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 10, failClosed: true }, { latencyMs: 2 });
  await run(limiter.acquire());
  const begun = clock.now();
  const waiting = [limiter.acquire(), limiter.acquire(), limiter.acquire()];
  await clock.advance(50);
  link.isDown = true;
  await run(Promise.all(waiting));
  assertLessOrEqual(clock.now() - begun, 300);
});

test("release() during an outage is not lost, and does not hold up the caller for long [CON-9]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { maxConcurrent: 1, leaseMs: 30_000, backendTimeoutMs: 400 };
  const holder = start(options, { latencyMs: 2 });
  const other = start(options, { latencyMs: 2 });
  const permit = await run(holder.limiter.acquire());
  holder.link.isDown = true;
  const begun = clock.now();
  await run(permit.release());
  assertLessOrEqual(clock.now() - begun, 1_000);
  await clock.advance(2_000);
  assertEquals((await run(other.limiter.tryAcquire())).allowed, false);
  holder.link.isDown = false;
  await clock.advance(2_000);
  assertEquals((await run(other.limiter.tryAcquire())).allowed, true);
});

test("release() during contention is not lost [CON-9]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ maxConcurrent: 1 }, { latencyMs: 2, maxRetries: 3 });
  const permit = await run(limiter.acquire());
  let conflicts = 10;
  link.setFaults(({ operation }) =>
    operation === "compareAndSet" && conflicts-- > 0 ? { kind: "conflict" } : undefined
  );
  await run(permit.release());
  await clock.advance(100);
  assertEquals((await run(limiter.getState())).currentUsage, 0);
});

test("an outage longer than anything leaves nothing running when it is over [FAIL-3]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ maxConcurrent: 2, leaseMs: 2_000, backendTimeoutMs: 300 }, { latencyMs: 2 });
  const permit = await run(limiter.acquire());
  link.isDown = true;
  const calls = Array.from({ length: 5 }, () => limiter.acquire());
  await run(Promise.all(calls));
  await run(permit.release());
  await clock.advance(600_000);
  assertLess(link.sent.total, 1_000);
  link.isDown = false;
  await clock.advance(5_000);
  assertEquals(clock.sleepers, 0);
  assertEquals((await run(limiter.getState())).currentUsage, 0);
});

test("a slow store makes requests slow, and not late for ever after [TMO-1, TB-7]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 100 }, { latencyMs: 0 });
  link.latencyMs = 800;
  await run(limiter.acquire());
  await clock.advance(1_000);
  link.latencyMs = 0;
  for (const timeoutMs of [0, 100]) {
    const begun = clock.now();
    assertEquals((await run(limiter.tryAcquire({ timeoutMs }))).allowed, true);
    assertLessOrEqual(clock.now() - begun, 10);
    // One slot may have been counted for when a store as slow as before would have answered.
    await clock.advance(1_000);
  }
});

test("callers start at their slot although the store is slow for those behind them", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 10 }, { latencyMs: 40 });
  const begun = clock.now();
  const served: number[] = [];
  const note = () => served.push(clock.now() - begun);
  const first = [limiter.acquire().then(note), limiter.acquire().then(note)];
  await clock.advance(20);
  link.latencyMs = 1_000;
  const behind = limiter.acquire().then(note);
  await run(Promise.all([...first, behind]));
  assertLessOrEqual(served[1] ?? Infinity, 150);
});

test("a process that was stopped for a while does not start what it slept through too close to the rest", async () => {
  const { clock, start, run } = createSimulation();
  let stoppedUntil = -Infinity;
  // Its timers end late, as in a process that was stopped or overloaded.
  const stalled = {
    now: () => clock.now(),
    async sleep(ms: number, signal?: AbortSignal) {
      await clock.sleep(ms, signal);
      if (clock.now() < stoppedUntil) await clock.sleep(stoppedUntil - clock.now(), signal);
    },
  };
  const rate = { ratePerSecond: 10, burst: 1 };
  const stopped = start(rate, { store: { clock: stalled } });
  const other = start(rate, {});
  const starts: Start[] = [];
  const begun = clock.now();
  const ask = async (limiter: typeof other.limiter) => {
    for (let i = 0; i < 20; i++) {
      await limiter.acquire();
      starts.push({ at: clock.now() - begun, cost: 1, until: Infinity });
    }
  };
  const all = Promise.all([ask(stopped.limiter), ask(stopped.limiter), ask(other.limiter)]);
  await clock.advance(450);
  stoppedUntil = clock.now() + 730;
  await run(all);
  assertEquals(starts.length, 60);
  // A start may be late by most of an interval; what comes later than that is given another slot.
  assertEquals(rateExcess(starts, rate, 90), undefined);
  assertGreaterOrEqual(clock.now() - begun, 5_800);
});

// What is left behind, and what was once wrong

test("no timer is left when the last permit was released [TMO-7]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ maxConcurrent: 2, leaseMs: 10_000 }, { latencyMs: 2 });
  const permits = await run(Promise.all([limiter.acquire(), limiter.acquire()]));
  await run(Promise.all(permits.map((permit) => permit.release())));
  await clock.advance(GLANCE_MS);
  assertEquals(clock.sleepers, 0);
});

test("a limiter that waited for permits does not listen for hints any more when it is idle [LIM-17, TMO-7]", async () => {
  const { clock, server, start, run } = createSimulation();
  const { limiter } = start({ maxConcurrent: 1, leaseMs: 1_000 }, { latencyMs: 2, mostKeys: 2 });
  for (let i = 0; i < 50; i++) {
    const permit = await run(limiter.acquire({ key: `key${i}` }));
    const waiting = limiter.acquire({ key: `key${i}` });
    await clock.advance(10);
    await run(permit.release());
    await run((await run(waiting)).release());
  }
  await clock.advance(10_000);
  assertEquals(server.listeners, 0);
});

test("a request with timeout 0 that comes while others are being written is answered with them [TMO-1, TMO-6]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { algorithm: "sliding_window", limit: 1, windowMs: 5_000 } as const;
  const { limiter } = start(options, { latencyMs: 10 });
  const first = limiter.acquire();
  const waiting = limiter.acquire();
  await clock.advance(4);
  const begun = clock.now();
  const results = await run(Promise.all([limiter.tryAcquire(), limiter.tryAcquire({ timeoutMs: 1_000 })]));
  assertEquals(results.map(({ allowed }) => allowed), [false, false]);
  assertLessOrEqual(clock.now() - begun, 30);
  await run(Promise.all([first, waiting]));
});

test("what nobody could write is not refused as if the limit were full [FAIL-5]", async () => {
  const { start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 10, burst: 2, backendTimeoutMs: 500 }, { latencyMs: 2 });
  link.isDown = true;
  const results = await run(Promise.all(Array.from({ length: 10 }, () => limiter.tryAcquire())));
  assertEquals(results.map(({ allowed, degraded }) => allowed && degraded), Array.from({ length: 10 }, () => true));
});

test("a permit has a number of its own, whoever comes too late for a slot [CON-1, CMB-1]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({
    ratePerSecond: 100,
    maxConcurrent: 5,
    rates: [{ limit: 10, windowMs: 200, algorithm: "sliding_window" }],
  }, { latencyMs: 4 });
  let running = 0;
  let most = 0;
  await run(Promise.all(Array.from({ length: 8 }, async () => {
    const permit = await limiter.acquire({ cost: 0.5 });
    most = Math.max(most, ++running);
    await clock.sleep(100);
    running--;
    await permit.release();
  })));
  assertEquals(most, 5);
});

test("a waiting caller's slot is written only when the store remembers it for as long as it counts [SW-2]", async () => {
  for (
    const { retentionMs, isAhead } of [{ retentionMs: 15_000, isAhead: true }, { retentionMs: 10_000, isAhead: false }]
  ) {
    const { clock, start, run } = createSimulation();
    const options = { algorithm: "sliding_window", limit: 1, windowMs: 10_000, reserveAheadMs: 5_000 } as const;
    const { limiter, link } = start(options, { latencyMs: 1, store: { retentionMs } });
    await run(limiter.acquire());
    const next = limiter.acquire();
    await clock.advance(9_900);
    assertEquals(link.sent.compareAndSet, isAhead ? 2 : 1);
    await run(next);
    assertEquals(link.sent.compareAndSet, 2);
  }
});
