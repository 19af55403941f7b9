import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { test } from "node:test";
import {
  createLimiter,
  type LimiterStore,
  memoryKv,
  memoryStore,
  type StandaloneLimiterOptions,
} from "../../src/entries/memory.ts";
import { ImpossibleCostError, NotSynchronousError, RateLimiterAcquisitionError } from "../../src/core/errors.ts";
import { silentLogger } from "../../src/core/logger.ts";
import type { Kv } from "../../src/core/store/kv.ts";
import { createRateSync } from "../../src/registry/registry.ts";
import { resetLimiter } from "../../src/testing/reset.ts";
import { rateExcess, type Start } from "../support/oracles.ts";
import { createVirtualClock } from "../../src/testing/virtual_clock.ts";

function setUp(options: StandaloneLimiterOptions, store?: LimiterStore) {
  const clock = createVirtualClock();
  const used = store ?? memoryStore(clock);
  const limiter = createLimiter("api", used, options);
  return { clock, store: used, limiter };
}

async function stored({ kv }: LimiterStore, key = "api"): Promise<Record<string, unknown>> {
  const entry = await kv.get(key);
  assert(entry);
  return JSON.parse(new TextDecoder().decode(entry.value));
}

test("tryAcquireSync() on a memory store grants and refuses without a promise, and without having been opened", async () => {
  const { limiter, clock } = setUp({ ratePerSecond: 1, burst: 2 });
  const first = limiter.tryAcquireSync();
  assertEquals([first.allowed, first.limit, first.remaining], [true, 2, 1]);
  assert(limiter.tryAcquireSync().allowed);
  const refused = limiter.tryAcquireSync();
  assert(!refused.allowed);
  assertEquals([refused.retryAfterMs, refused.rule], [1_000, "1/s, burst 2"]);
  await clock.advance(1_000);
  assert(limiter.tryAcquireSync().allowed);
  const { totalAcquisitions, timeouts } = limiter.getMetrics();
  assertEquals([totalAcquisitions, timeouts], [3, 1]);
});

test("tryAcquireSync() takes a cost and a key, and says what is impossible", () => {
  const { limiter } = setUp({ ratePerSecond: 1, burst: 3 });
  assertEquals(limiter.tryAcquireSync({ key: "a", cost: 2 }).remaining, 1);
  assertEquals(limiter.tryAcquireSync({ key: "b" }).remaining, 2);
  assertEquals(limiter.key("a").tryAcquireSync({ cost: 2 }).allowed, false);
  assertThrows(() => limiter.tryAcquireSync({ cost: 4 }), ImpossibleCostError);
});

test("a refusal is not repeated, even in the same millisecond, once somebody else has changed what is stored", async () => {
  const { limiter, store } = setUp({ ratePerSecond: 1, burst: 1 });
  assert(limiter.tryAcquireSync().allowed);
  await stored(store); // from here on, what is stored and what the limiter knows are the same
  assertEquals(limiter.tryAcquireSync().allowed, false);
  await store.kv.delete("api");
  assert(limiter.tryAcquireSync().allowed);
});

test("tryAcquireSync() answers on a memory store for keys of any length, and at once after a reset", async () => {
  const rateSync = createRateSync({ clock: createVirtualClock() });
  rateSync.configureLimiter("api", { ratePerSecond: 1, burst: 1 });
  const limiter = rateSync.getLimiter("api");
  const keys = ["short", "k".repeat(257), "k".repeat(258), "\u6570".repeat(29), "x".repeat(10_000)];
  const take = () => keys.map((key) => limiter.tryAcquireSync({ key }).allowed);
  assertEquals([take(), take()], [keys.map(() => true), keys.map(() => false)]);
  assertEquals(limiter.tryAcquireSync().allowed, true);
  await resetLimiter("api", { rateSync });
  assertEquals([limiter.tryAcquireSync().allowed, ...take()], [true, ...keys.map(() => true)]);
  assertEquals((await limiter.tryAcquire({ key: keys[4] })).allowed, false);
});

test("tryAcquireSync() hands permits out and back without a promise", async () => {
  const { limiter } = setUp({ maxConcurrent: 2 });
  const [one, two] = [limiter.tryAcquireSync(), limiter.tryAcquireSync()];
  assert(one.allowed && two.allowed);
  assert(!limiter.tryAcquireSync().allowed);
  void one.release();
  assert(limiter.tryAcquireSync().allowed);
  const waiting = limiter.acquire();
  assert(!limiter.tryAcquireSync().allowed);
  void two.release();
  assert(!limiter.tryAcquireSync().allowed);
  assert(!(await waiting).lost);
});

test("tryAcquireSync() says anew when to retry if something was taken since it last refused as much", () => {
  const { limiter } = setUp({ ratePerSecond: 1, burst: 3 });
  assert(limiter.tryAcquireSync().allowed);
  const refused = limiter.tryAcquireSync({ cost: 3 });
  assert(limiter.tryAcquireSync().allowed);
  const again = limiter.tryAcquireSync({ cost: 3 });
  const times = [refused, again].map(({ allowed, remaining, retryAfterMs }) => [allowed, remaining, retryAfterMs]);
  assertEquals(times, [[false, 2, 1_000], [false, 1, 2_000]]);
});

test("what is decided at once is kept relative to an epoch that is never many hours old", async () => {
  const hour = 3_600_000;
  const { limiter, clock, store } = setUp({ ratePerSecond: 1_000 / hour, burst: 20 });
  for (let i = 0; i < 5; i++) {
    assert(limiter.tryAcquireSync({ cost: 4 }).allowed);
    const { epoch } = await stored(store);
    assert(typeof epoch === "number" && clock.now() - epoch < 2 * hour);
    await clock.advance(3 * hour);
  }
});

test("a slot in memory that is given back from between others lets nobody start too soon", async () => {
  const rate = { ratePerSecond: 10, burst: 2 };
  const { limiter, clock } = setUp(rate);
  const begun = clock.now();
  const starts: Start[] = [];
  const wait = async (cost: number, signal?: AbortSignal) => {
    await limiter.acquire({ cost, signal });
    starts.push({ at: clock.now() - begun, cost, until: Infinity });
  };
  const leaving = new AbortController();
  const left = [
    wait(2),
    wait(1),
    assertRejects(() => wait(2, leaving.signal), DOMException),
    wait(1),
    wait(1),
    wait(1),
  ];
  await clock.advance(1);
  leaving.abort();
  await clock.runUntil(Promise.all([...left, wait(1), wait(1)]));
  assertEquals(starts.map(({ at }) => at), [0, 100, 400, 500, 600, 700, 800]);
  assertEquals(rateExcess(starts, rate, 0), undefined);
});

test("a damaged value in memory is replaced as soon as it is found, so that it counts as used up only once", async () => {
  const { limiter, clock, store } = setUp({ ratePerSecond: 1, logger: silentLogger });
  const twin = createLimiter("api", store, { ratePerSecond: 1, logger: silentLogger });
  await store.kv.compareAndSet("api", new TextEncoder().encode("{ this is not JSON"), 0);
  assert(!limiter.tryAcquireSync().allowed);
  await clock.advance(1_000);
  assert(twin.tryAcquireSync().allowed);
});

test("tryAcquireSync() goes behind those who wait", async () => {
  const { limiter, clock } = setUp({ ratePerSecond: 10 });
  assert(limiter.tryAcquireSync().allowed);
  const waiting = limiter.acquire();
  const refused = limiter.tryAcquireSync();
  assert(!refused.allowed && refused.retryAfterMs > 100);
  await clock.advance(100);
  assertEquals((await waiting).waitedMs, 100);
  assert(!limiter.tryAcquireSync().allowed);
});

test("tryAcquireSync() is an error of its own where a store has to be asked, and uses nothing up", async () => {
  const clock = createVirtualClock();
  let calls = 0;
  const inner = memoryKv(clock);
  const kv: Kv = { ...inner, compareAndSet: (...call) => (calls++, inner.compareAndSet(...call)) };
  const { limiter } = setUp({ ratePerSecond: 1 }, { kv, clock });
  assertThrows(() => limiter.tryAcquireSync(), NotSynchronousError);
  assert((await limiter.tryAcquire()).allowed);
  assertEquals(calls, 1); // A copy of a Kv with other methods lends nothing: they are called.
  assert(!limiter.tryAcquireSync().allowed, "a certain refusal needs nobody");
  await clock.advance(1_000);
  assertThrows(() => limiter.tryAcquireSync(), NotSynchronousError, "Use tryAcquire()");
  assert((await limiter.tryAcquire()).allowed);
});

test("a store that has to be opened is opened before a memory's limit is asked", async () => {
  let isOpen = false;
  const store = { ...memoryStore(createVirtualClock()), open: () => Promise.resolve(void (isOpen = true)) };
  const { limiter } = setUp({ ratePerSecond: 1 }, store);
  assertThrows(() => limiter.tryAcquireSync(), NotSynchronousError);
  await limiter.initialize();
  assert(isOpen);
  assert(limiter.tryAcquireSync().allowed);
});

test("after close() tryAcquireSync() says so", async () => {
  const { limiter } = setUp({ ratePerSecond: 1 });
  await limiter.close();
  assertThrows(() => limiter.tryAcquireSync(), RateLimiterAcquisitionError, "closed");
});

test("what was decided at once stands in the store as soon as somebody looks", async () => {
  const { limiter, store } = setUp({ ratePerSecond: 1, burst: 5 });
  const twin = createLimiter("api", store, { ratePerSecond: 1, burst: 5 });
  for (let used = 1; used <= 5; used++) {
    const result = (used % 2 ? limiter : twin).tryAcquireSync();
    assertEquals([result.allowed, result.remaining], [true, 5 - used]);
  }
  assert(!limiter.tryAcquireSync().allowed && !twin.tryAcquireSync().allowed);
  assertEquals((await stored(store))["rules"], "1/s, burst 5");
  assertEquals((await twin.getState()).remaining, 0);
  const keys = [];
  for await (const key of store.kv.keys()) keys.push(key);
  assertEquals(keys, ["api"]);
});

test("a value that is written or deleted by others is what counts from then on", async () => {
  const { limiter, store } = setUp({ ratePerSecond: 1 });
  assert(limiter.tryAcquireSync().allowed);
  await store.kv.delete("api");
  assert((await limiter.check({ consume: false })).allowed);
  assert(limiter.tryAcquireSync().allowed);
  const { revision } = (await store.kv.get("api"))!;
  await store.kv.compareAndSet("api", new TextEncoder().encode('{"v":99}'), revision);
  await assertRejects(() => limiter.acquire({ timeoutMs: 0 }), RateLimiterAcquisitionError);
});

test("the sweep of a memory store keeps what was lent and is still worth something", async () => {
  const { limiter, clock, store } = setUp({ ratePerSecond: 0.001 });
  assert(limiter.tryAcquireSync({ key: "kept" }).allowed);
  await clock.advance(10_000);
  for (let i = 0; i < 50; i++) limiter.tryAcquireSync({ key: `other-${i}` });
  for await (const _ of store.kv.keys()) { /* calls all back */ }
  assert(!limiter.tryAcquireSync({ key: "kept" }).allowed);
  assertEquals((await stored(store, "api.kept"))["v"], 1);
});

test("the first request is granted, however much time passes while it is decided", async () => {
  let time = 1_000;
  const clock = { now: () => time += 0.6, sleep: () => new Promise<never>(() => {}) };
  for (let i = 0; i < 20; i++) {
    const { limiter } = setUp({ ratePerSecond: 1_000 }, memoryStore(clock));
    assert(i % 2 ? limiter.tryAcquireSync().allowed : (await limiter.tryAcquire()).allowed);
  }
});

test("what is taken at once and given back is what was taken, whatever others took of it before [CHK-6]", async () => {
  const limits = [
    { ratePerSecond: 1e-3, burst: 4 },
    { algorithm: "sliding_window", limit: 4, windowMs: 1e6 },
    { ratePerSecond: 1e-3, burst: 4, rates: [{ limit: 1, windowMs: 1e6, burst: 9 }] },
  ] as const;
  for (const limit of limits) {
    const clock = createVirtualClock();
    const store = memoryStore(clock);
    const [one, other] = [createRateSync(), createRateSync()].map((rateSync) => {
      rateSync.configureStore("shared", { kv: store.kv, clock });
      rateSync.configureLimiter("api", { store: "shared", ...limit });
      rateSync.configureLimiter("full", { store: "shared", ratePerSecond: 1e-3 });
      return rateSync;
    });
    assert(one && other);
    await one.acquire("full");
    assertEquals((await one.tryAcquire("api")).remaining, 3);
    assertEquals((await other.tryAcquire("api")).remaining, 2);
    assertEquals((await one.checkMultiLimiters(["api", "full"])).blockingLimiterId, "full");
    assertEquals((await one.getLimiter("api").getState()).remaining, 2);
  }
});
