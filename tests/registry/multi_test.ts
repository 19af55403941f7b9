import {
  assert,
  assertEquals,
  assertGreaterOrEqual,
  assertLessOrEqual,
  assertRejects,
  assertThrows,
} from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import * as front from "../../mod.ts";
import { memoryKv } from "../../src/adapters/memory.ts";
import { systemClock } from "../../src/adapters/system_clock.ts";
import type { LimiterOptions } from "../../src/config/options.ts";
import {
  ImpossibleCostError,
  InvalidArgumentError,
  LimiterNotFoundError,
  RateLimiterAcquisitionError,
} from "../../src/core/errors.ts";
import type { Kv } from "../../src/core/store/kv.ts";
import { CompositeRateLimiter } from "../../src/composite.ts";
import { createLimiter } from "../../src/standalone/limiter.ts";
import { createRateSync, type RateSync } from "../../src/registry/registry.ts";
import { createVirtualClock, type VirtualClock } from "../../src/testing/virtual_clock.ts";
import { logBook } from "../support/log_book.ts";
import { createSimulatedServer } from "../support/simulated_kv.ts";

interface Bench {
  readonly clock: VirtualClock;
  readonly rateSync: RateSync;
  readonly lines: string[];
}

function setUp(limiters: Readonly<Record<string, LimiterOptions>>): Bench {
  const clock = createVirtualClock();
  const logger = logBook();
  const rateSync = createRateSync({ clock, logger });
  for (const [id, options] of Object.entries(limiters)) rateSync.configureLimiter(id, options);
  return { clock, rateSync, lines: logger.lines };
}

async function leftOf(rateSync: RateSync, ...ids: string[]): Promise<number[]> {
  return await Promise.all(ids.map(async (id) => (await rateSync.getLimiter(id).getState()).remaining));
}

/** What untyped code may call. */
function untyped(rateSync: RateSync) {
  return rateSync.checkMultiLimiters as (limiters: unknown, options?: unknown) => Promise<unknown>; // on purpose
}

const FIVE = { ratePerSecond: 0.001, burst: 5 } as const;
const TWO = { algorithm: "sliding_window", limit: 2, windowMs: 60_000 } as const;

test("a result of several limiters speaks of the one with the least left [CHK-5]", async () => {
  const { rateSync } = setUp({ a: FIVE, b: TWO, c: { ratePerSecond: 0.0001, burst: 9 } });
  const result = await rateSync.checkMultiLimiters(["a", "b", "c"]);
  assertEquals([result.allowed, result.blockingLimiterId, result.limit, result.remaining], [true, null, 2, 1]);
  assertEquals(result.results.map(({ limiterId, remaining }) => [limiterId, remaining]), [["a", 4], ["b", 1], [
    "c",
    8,
  ]]);
  assertEquals([result.resetInMs, result.retryAfterMs], [10_000_000, 0]);
  assert(Object.isFrozen(result) && Object.isFrozen(result.results));
});

test("any number of limiters can be taken together, in their order [CHK-5]", async () => {
  const ids = Array.from({ length: 20 }, (_, i) => `limiter ${i}`);
  const { rateSync } = setUp(Object.fromEntries(ids.map((id) => [id, FIVE])));
  const { results } = await rateSync.checkMultiLimiters(ids);
  assertEquals(results.map(({ limiterId }) => limiterId), ids);
});

test("the first limiter that refuses is named, and says when to try again [CHK-5]", async () => {
  const { clock, rateSync } = setUp({ a: FIVE, b: TWO, c: TWO });
  for (const id of ["b", "b", "c", "c"]) await rateSync.acquire(id);
  await clock.advance(10_000);
  const result = await rateSync.checkMultiLimiters(["a", "b", "c"]);
  assertEquals([result.allowed, result.blockingLimiterId, result.limit, result.remaining], [false, "b", 2, 0]);
  assertEquals(result.results.map(({ limiterId, allowed }) => [limiterId, allowed]), [["a", true], ["b", false]]);
  const [, refused] = result.results;
  assertEquals(result.retryAfterMs, refused?.retryAfterMs);
  assert(result.retryAfterMs > 49_000 && result.retryAfterMs <= 50_100, `${result.retryAfterMs}`);
});

test("without a limiter there is nothing to refuse [CHK-5]", async () => {
  const { allowed, limit, remaining, resetInMs, blockingLimiterId, results } = await setUp({}).rateSync
    .checkMultiLimiters([]);
  assertEquals([allowed, limit, remaining, resetInMs, blockingLimiterId], [true, 1_000, 999, 60_000, null]);
  assertEquals(results, []);
});

test("an allowed request is taken once from each limiter: a limit of 4 allows 4 [CHK-6]", async () => {
  const { rateSync } = setUp({ a: { ...TWO, limit: 4 }, b: { ratePerSecond: 0.001, burst: 4 } });
  const verdicts: boolean[] = [];
  for (let i = 0; i < 6; i++) verdicts.push((await rateSync.checkMultiLimiters(["a", "b"])).allowed);
  assertEquals(verdicts, [true, true, true, true, false, false]);
});

test("what several limiters have granted was acquired by the store's clock, as everything else [MET-1]", async () => {
  const rateSync = createRateSync();
  const now = () => systemClock.now() + 300_000;
  rateSync.configureStore("ahead", { kv: memoryKv(), clock: { now, sleep: systemClock.sleep } });
  rateSync.configureLimiter("a", { store: "ahead", ratePerSecond: 100, burst: 10 });
  const begun = now();
  await rateSync.checkMultiLimiters(["a"]);
  const { lastAcquisitionAt } = rateSync.getLimiter("a").getMetrics();
  assertGreaterOrEqual(lastAcquisitionAt ?? 0, begun / 1_000);
});

test("a refusal leaves every limiter as it was: rates, windows and permits [CHK-6]", async () => {
  const { rateSync } = setUp({ rate: FIVE, window: TWO, permits: { maxConcurrent: 3 }, both: FIVE, full: TWO });
  for (const id of ["full", "full", "rate", "window"]) await rateSync.acquire(id);
  const ids = ["rate", "window", "permits", "both"];
  const before = await leftOf(rateSync, ...ids);
  const states = await Promise.all(ids.map((id) => rateSync.getLimiter(id).getState()));
  for (let i = 0; i < 10; i++) {
    const result = await rateSync.checkMultiLimiters([...ids, "full"]);
    assertEquals([result.allowed, result.blockingLimiterId], [false, "full"]);
    assertEquals(result.results.slice(0, 4).map(({ remaining }) => remaining), before);
  }
  assertEquals(await Promise.all(ids.map((id) => rateSync.getLimiter(id).getState())), states);
  const metrics = ids.map((id) => rateSync.getLimiter(id).getMetrics());
  assertEquals(metrics.map(({ totalAcquisitions, currentConcurrent }) => [totalAcquisitions, currentConcurrent]), [
    [1, 0],
    [1, 0],
    [0, 0],
    [0, 0],
  ]);
  assertEquals(rateSync.getLimiter("full").getMetrics().timeouts, 10);
});

test("limiters after the one that refuses are not asked [CHK-6]", async () => {
  const { rateSync } = setUp({ full: TWO, after: FIVE });
  for (const id of ["full", "full"]) await rateSync.acquire(id);
  await rateSync.checkMultiLimiters(["full", "after"]);
  assertEquals(rateSync.getLimiter("after").initialized, false);
});

test("permits are the caller's until the result is released [CHK-6]", async () => {
  const { rateSync } = setUp({ a: { maxConcurrent: 1 }, b: { maxConcurrent: 2 } });
  const first = await rateSync.checkMultiLimiters(["a", "b"]);
  assertEquals([first.allowed, await leftOf(rateSync, "a", "b")], [true, [0, 1]]);
  const second = await rateSync.checkMultiLimiters(["b", "a"]);
  assertEquals([second.allowed, second.blockingLimiterId, await leftOf(rateSync, "b")], [false, "a", [1]]);
  await second.release();
  assertEquals(await leftOf(rateSync, "a", "b"), [0, 1]);
  await first.release();
  await first.release();
  assertEquals(await leftOf(rateSync, "a", "b"), [1, 2]);
  {
    await using third = await rateSync.checkMultiLimiters(["a", "b"]);
    assert(third.allowed);
  }
  assertEquals(await leftOf(rateSync, "a", "b"), [1, 2]);
});

test("keys and costs count for the limiter that they are given for [CHK-6]", async () => {
  const { rateSync } = setUp({ ip: FIVE, user: FIVE });
  const requests = [{ id: "ip", key: "1.2.3.4", cost: 3 }, { id: "user", key: "alice" }, "user"];
  const result = await rateSync.checkMultiLimiters(requests);
  const left = result.results.map(({ limiterId, remaining }) => [limiterId, remaining]);
  assertEquals(left, [["ip:1.2.3.4", 2], ["user:alice", 4], ["user", 4]]);
  const refused = await rateSync.checkMultiLimiters([...requests].reverse());
  assertEquals([refused.allowed, refused.blockingLimiterId], [false, "ip:1.2.3.4"]);
  assertEquals((await rateSync.getLimiter("user").key("alice").getState()).remaining, 4);
});

test("the timeout is for all limiters together [CHK-6]", async () => {
  const { clock, rateSync } = setUp({ a: { ratePerSecond: 1 }, b: { ratePerSecond: 1 } });
  await rateSync.acquire("a");
  await clock.advance(600);
  await rateSync.acquire("b");
  const begun = clock.now();
  const waited = await clock.runUntil(rateSync.checkMultiLimiters(["a", "b"], { timeoutMs: 1_000 }));
  assertEquals([waited.allowed, clock.now() - begun], [true, 1_000]);
  await clock.advance(500);
  // a is free in 0 ms (it was taken 600 ms earlier than b), b in 500 ms.
  const refused = await clock.runUntil(rateSync.checkMultiLimiters(["a", "b"], { timeoutMs: 499 }));
  assertEquals([refused.allowed, refused.blockingLimiterId], [false, "b"]);
  assertEquals((await rateSync.getLimiter("a").getState()).allowed, true);
});

for (const onFailure of ["open", "closed", "local"] as const) {
  test(`a limiter that is asked once another one has been waited for refuses by its limit, as its store is up, ${onFailure} [CHK-6, FAIL-5]`, async () => {
    for (const latencyMs of [0, 1, 45, 100]) {
      const { clock, rateSync } = setUp({});
      const kv = createSimulatedServer(clock).connect({ latencyMs });
      rateSync.configureStore("far", { kv, clock });
      const options = { store: "far", onFailure, backendTimeoutMs: 500 } as const;
      rateSync.configureLimiter("slow", { ratePerSecond: 0.25, ...options });
      rateSync.configureLimiter("full", { maxConcurrent: 1, ...options });
      await clock.runUntil(rateSync.acquire("slow"));
      const held = await clock.runUntil(rateSync.acquire("full"));
      const result = await clock.runUntil(rateSync.checkMultiLimiters(["slow", "full"], { timeoutMs: 10_000 }));
      const told = result.results.map(({ allowed, degraded }) => [allowed, degraded]);
      assertEquals(told, [[true, false], [false, false]], `${latencyMs} ms away`);
      assertEquals(held.lost, false);
      const composite = new CompositeRateLimiter({
        limiters: { one: "full", other: "slow" },
        strategy: "any_must_pass",
        rateSync,
      });
      await clock.runUntil(rateSync.acquire("full", { key: "k" }));
      await clock.runUntil(rateSync.acquire("slow", { key: "k" }));
      const verdict = await clock.runUntil(composite.check({ one: "k", other: "k" }, { timeoutMs: 3_000 }));
      assertEquals([verdict.allowed, verdict.mostRestrictive.degraded], [false, false], `${latencyMs} ms away`);
      await clock.runUntil(rateSync.close());
    }
  });
}

test("limiters behind one that was waited for, and that is full, take no more time than the caller has [CHK-6, TMO-2]", async () => {
  for (const strategy of ["most_restrictive", "all_must_pass", "any_must_pass"] as const) {
    const { clock, rateSync } = setUp({});
    const dead = createSimulatedServer(clock).connect({ latencyMs: 1 });
    rateSync.configureStore("near", { kv: createSimulatedServer(clock).connect({ latencyMs: 1 }), clock });
    rateSync.configureStore("dead", { kv: dead, clock });
    rateSync.configureLimiter("full", { store: "near", maxConcurrent: 1 });
    for (const id of ["b", "c"]) rateSync.configureLimiter(id, { store: "dead", ratePerSecond: 1 });
    await clock.runUntil(rateSync.acquire("full", { key: "k" }));
    dead.isDown = true;
    const composite = new CompositeRateLimiter({ limiters: { a: "full", b: "b", c: "c" }, strategy, rateSync });
    const begun = clock.now();
    await clock.runUntil(composite.check({ a: "k", b: "k", c: "k" }, { timeoutMs: 1_000 }));
    assertLessOrEqual(clock.now() - begun, 1_050, strategy);
  }
});

test("a permit that was lost while another limiter was waited for is taken again, or the whole is refused [CHK-6, CON-7]", async () => {
  for (const isTaken of [false, true]) {
    const { clock, rateSync } = setUp({});
    const near = createSimulatedServer(clock);
    const [link, rival] = [near.connect({ latencyMs: 1 }), near.connect({ latencyMs: 1 })];
    rateSync.configureStore("near", { kv: link, clock });
    rateSync.configureStore("other", { kv: createSimulatedServer(clock).connect({ latencyMs: 1 }), clock });
    const leased = { maxConcurrent: 1, leaseMs: 1_000 };
    rateSync.configureLimiter("leased", { store: "near", backendTimeoutMs: 200, ...leased });
    rateSync.configureLimiter("full", { store: "other", maxConcurrent: 1 });
    const held = await clock.runUntil(rateSync.acquire("full"));
    const checking = rateSync.checkMultiLimiters(["leased", "full"], { timeoutMs: 10_000 });
    await clock.advance(300);
    link.isDown = true;
    await clock.advance(2_000);
    link.isDown = false;
    const other = createLimiter("leased", { kv: rival, clock }, leased);
    if (isTaken) await clock.runUntil(other.acquire());
    await clock.advance(1_000);
    await clock.runUntil(held.release());
    const result = await clock.runUntil(checking);
    const told = result.results.map((each) => [each.limiterId, each.allowed, each.allowed && each.permit.lost]);
    if (isTaken) assertEquals([result.blockingLimiterId, told], ["leased", [["leased", false, false]]]);
    else assertEquals(told, [["leased", true, false], ["full", true, false]]);
    await clock.runUntil(result.release());
    const left = await clock.runUntil(rateSync.getLimiter("full").getState());
    assertEquals(left.currentUsage, 0);
    await clock.runUntil(Promise.all([other.close(), rateSync.close()]));
  }
});

test("permits that are lost sooner than all can be taken are not taken without end [CHK-6]", async () => {
  const { clock, rateSync } = setUp({});
  rateSync.configureStore("far", { kv: createSimulatedServer(clock).connect({ latencyMs: 50 }), clock });
  for (const id of ["a", "b"]) rateSync.configureLimiter(id, { store: "far", maxConcurrent: 5, leaseMs: 100 });
  const begun = clock.now();
  const result = await clock.runUntil(rateSync.checkMultiLimiters(["a", "b"]));
  assertEquals(result.allowed, true);
  assertLessOrEqual(clock.now() - begun, 5_000);
});

test("a limiter may have a shorter timeout of its own [CHK-6]", async () => {
  const { clock, rateSync } = setUp({ a: { ratePerSecond: 1 }, b: { ratePerSecond: 1 } });
  for (const id of ["a", "b"]) await rateSync.acquire(id);
  const requests = [{ id: "a" }, { id: "b", timeoutMs: 0 }];
  const both = await clock.runUntil(rateSync.checkMultiLimiters(requests, { timeoutMs: 2_000 }));
  assertEquals(both.allowed, true);
  const refused = await rateSync.checkMultiLimiters([...requests].reverse(), { timeoutMs: 2_000 });
  assertEquals([refused.allowed, refused.blockingLimiterId], [false, "b"]);
});

test("an abort while waiting gives everything back [CHK-6]", async () => {
  const { clock, rateSync } = setUp({ a: FIVE, b: { ratePerSecond: 1 } });
  await rateSync.acquire("b");
  const abort = new AbortController();
  const checking = rateSync.checkMultiLimiters(["a", "b"], { timeoutMs: 5_000, signal: abort.signal });
  checking.catch(() => {}); // It is awaited below.
  await clock.advance(100);
  abort.abort(new RangeError("enough"));
  await assertRejects(() => checking, RangeError);
  await clock.advance(900);
  assertEquals(await leftOf(rateSync, "a", "b"), [5, 1]);
});

test("an error of a later limiter gives everything back [CHK-6]", async () => {
  const { clock, rateSync } = setUp({ a: FIVE, b: FIVE });
  const fail = () => Promise.reject(new Error("the disk is on fire"));
  const kv: Kv = { ...memoryKv(clock), get: fail, compareAndSet: fail };
  rateSync.configureStore("broken", { kv, clock });
  rateSync.configureLimiter("closed", { store: "broken", ratePerSecond: 1, failClosed: true });
  const error = await assertRejects(() => rateSync.checkMultiLimiters(["a", "closed"]), RateLimiterAcquisitionError);
  assertEquals(error.reason, "backend");
  await assertRejects(() => rateSync.checkMultiLimiters(["a", { id: "b", cost: 6 }]), ImpossibleCostError);
  await assertRejects(() => rateSync.checkMultiLimiters(["a", { id: "b", timeoutMs: -1 }]), InvalidArgumentError);
  assertEquals(await leftOf(rateSync, "a", "b"), [5, 5]);
});

test("an unknown limiter is an error before anything is taken [CHK-7]", async () => {
  const { rateSync } = setUp({ a: FIVE });
  const error = await assertRejects(() => rateSync.checkMultiLimiters(["a", "nobody"]), LimiterNotFoundError);
  assertEquals(error.limiterId, "nobody");
  assertEquals(rateSync.getLimiter("a").initialized, false);
});

test("with onMissing allow the others decide without the unknown limiter [CHK-7]", async () => {
  const { rateSync } = setUp({ a: FIVE, full: TWO });
  for (const id of ["full", "full"]) await rateSync.acquire(id);
  const result = await rateSync.checkMultiLimiters(["nobody", "a"], { onMissing: "allow" });
  assertEquals([result.allowed, result.results.map(({ limiterId }) => limiterId)], [true, ["a"]]);
  assertEquals((await rateSync.checkMultiLimiters(["nobody", "full"], { onMissing: "allow" })).allowed, false);
  assertEquals((await rateSync.checkMultiLimiters(["nobody"], { onMissing: "allow" })).remaining, 999);
});

test("what is no list of limiters, and wrong options, are refused before anything is taken [ERR-1]", async () => {
  const { rateSync } = setUp({ a: FIVE });
  const wrong: [unknown, unknown][] = [
    ["a", {}],
    [undefined, {}],
    [["a", 5], {}],
    [["a", { key: "k" }], {}],
    [["a", null], {}],
    [["a", ...new Array(1)], {}],
    [new Array(2), {}],
    [["a"], { timeoutMs: -1 }],
    [["a"], { timeoutMs: NaN }],
    [["a"], { onMissing: "ignore" }],
  ];
  for (const [limiters, options] of wrong) {
    await assertRejects(() => untyped(rateSync)(limiters, options), InvalidArgumentError);
  }
  assertEquals(await leftOf(rateSync, "a"), [5]);
});

test("whatever is asked for, all is taken or nothing [CHK-6]", async () => {
  const names = ["a", "b", "c"] as const;
  const options = fc.oneof(
    fc.record({ ratePerSecond: fc.constant(0.000_1), burst: fc.integer({ min: 1, max: 4 }) }),
    fc.record({
      algorithm: fc.constant("sliding_window" as const),
      limit: fc.integer({ min: 1, max: 4 }),
      windowMs: fc.constant(3_600_000),
    }),
    fc.record({ maxConcurrent: fc.integer({ min: 1, max: 4 }) }),
  );
  const calls = fc.array(fc.array(fc.constantFrom(...names), { maxLength: 4 }), { maxLength: 8 });
  await fc.assert(fc.asyncProperty(fc.tuple(options, options, options), calls, async ([a, b, c], lists) => {
    const { rateSync } = setUp({ a, b, c });
    for (const ids of lists) {
      const before = await leftOf(rateSync, ...names);
      const { allowed } = await rateSync.checkMultiLimiters(ids);
      const wanted = names.map((name) => ids.filter((id) => id === name).length);
      assertEquals(allowed, wanted.every((count, i) => count <= before[i]!));
      const after = await leftOf(rateSync, ...names);
      assertEquals(after, before.map((left, i) => allowed ? left - wanted[i]! : left));
    }
  }));
});

test("a refusal of several limiters logs no key above debug [LOG-2]", async () => {
  const { rateSync, lines } = setUp({ a: FIVE, full: { ratePerSecond: 0.001 } });
  const requests = ["a", { id: "full", key: "user@example.com" }];
  for (let i = 0; i < 3; i++) await rateSync.checkMultiLimiters(requests);
  assertEquals(lines.filter((line) => line.includes("user@") && !line.startsWith("debug")), []);
});

test("the module asks several limiters as a registry does [CHK-5]", async () => {
  front.configureLimiter("multi-front", { ratePerSecond: 0.001 });
  assertEquals((await front.checkMultiLimiters(["multi-front"])).allowed, true);
  assertEquals((await front.checkMultiLimiters(["multi-front"])).allowed, false);
  assertThrows(() => front.getLimiter("multi-front-unknown"), LimiterNotFoundError);
});
