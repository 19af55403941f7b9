import { assert, assertEquals, assertInstanceOf, assertRejects, assertStringIncludes } from "@std/assert";
import { test } from "node:test";
import {
  acquire,
  close,
  configureLimiter,
  createRateSync,
  InvalidArgumentError,
  type Kv,
  type Limiter,
  LimiterNotFoundError,
  memoryKv,
  RateLimiterError,
  StoreNotFoundError,
  StoreUnavailableError,
  tryAcquire,
} from "../../mod.ts";
import { createVirtualClock, resetAllLimiters, resetBackendStore, resetLimiter } from "../../src/testing/mod.ts";
import { logBook } from "../support/log_book.ts";

const SLOW = { ratePerSecond: 0.001 } as const;

/** A store in memory of which some things do not work. */
function brokenKv(broken: Partial<Kv>): Kv {
  return { ...memoryKv(), ...broken };
}

test("the functions that reset work on the module's own limiters by default [TST-1, TST-2]", async () => {
  configureLimiter("reset-default", SLOW);
  await acquire("reset-default");
  await resetLimiter("reset-default");
  assertEquals((await tryAcquire("reset-default")).allowed, true);
  await resetAllLimiters();
  assertEquals((await tryAcquire("reset-default")).allowed, true);
  await resetBackendStore("memory");
  assertEquals((await tryAcquire("reset-default")).allowed, true);
  await close();
});

test("resetLimiter() of an unknown limiter says which ones there are [TST-1]", async () => {
  const rateSync = createRateSync();
  rateSync.configureLimiter("api", SLOW);
  const error = await assertRejects(() => resetLimiter("apo", { rateSync }), LimiterNotFoundError);
  assertStringIncludes(error.message, "'api'");
});

test("resetLimiter() refuses what is no limiter, and a registry that is none", async () => {
  const nothing = {} as Limiter; // what untyped code may hand in
  await assertRejects(() => resetLimiter(nothing), InvalidArgumentError, "limiter");
  const registry = { ...createRateSync() };
  await assertRejects(() => resetAllLimiters({ rateSync: registry }), InvalidArgumentError, "rateSync");
});

test("resetLimiter() of a limiter that was closed says so", async () => {
  const rateSync = createRateSync();
  rateSync.configureLimiter("api", SLOW);
  const limiter = rateSync.getLimiter("api");
  await limiter.acquire();
  await rateSync.close();
  await assertRejects(() => resetLimiter(limiter), RateLimiterError, "closed");
  await resetLimiter("api", { rateSync });
});

test("resetAllLimiters() with nothing configured does nothing [TST-2]", async () => {
  await resetAllLimiters({ rateSync: createRateSync() });
});

test("resetAllLimiters() resets the others where one fails, and then throws what that one did [TST-2]", async () => {
  const cause = new Error("the disk is full");
  const kv = brokenKv({ delete: () => Promise.reject(cause) });
  const rateSync = createRateSync({ logger: logBook() });
  rateSync.configureStore("broken", { kv });
  rateSync.configureLimiter("first", SLOW);
  rateSync.configureLimiter("failing", { ...SLOW, store: "broken" });
  rateSync.configureLimiter("last", SLOW);
  for (const id of ["first", "failing", "last"]) await rateSync.acquire(id);
  const error = await assertRejects(() => resetAllLimiters({ rateSync }), StoreUnavailableError, "the disk is full");
  assertEquals([error.store, error.cause], ["broken", cause]);
  assertEquals((await rateSync.tryAcquire("first")).allowed, true);
  assertEquals((await rateSync.tryAcquire("last")).allowed, true);
  // It has begun anew here, and finds what could not be deleted.
  assertEquals(rateSync.getLimiter("failing").getMetrics().totalAcquisitions, 0);
  assertEquals((await rateSync.tryAcquire("failing")).allowed, false);
});

test("resetAllLimiters() throws what several did together [TST-2]", async () => {
  const rateSync = createRateSync({ logger: logBook() });
  rateSync.configureStore("broken", { kv: brokenKv({ delete: () => Promise.reject(new Error("the disk is full")) }) });
  rateSync.configureLimiter("a", { ...SLOW, store: "broken" });
  rateSync.configureLimiter("b", { ...SLOW, store: "broken" });
  const error = await assertRejects(() => resetAllLimiters({ rateSync }), RateLimiterError, "2 limiters");
  assertInstanceOf(error.cause, AggregateError);
  assertEquals(error.cause.errors.map((one) => one instanceof StoreUnavailableError), [true, true]);
});

test("resetBackendStore() of an unknown store says which ones there are [TST-3]", async () => {
  const rateSync = createRateSync();
  rateSync.configureStore("shared", { engine: "memory" });
  rateSync.configureStore("other", { engine: "memory" });
  const error = await assertRejects(() => resetBackendStore("zz", { rateSync }), StoreNotFoundError);
  assertEquals(error.storeId, "zz");
  assertStringIncludes(error.message, "'shared', 'other'");
});

test("resetBackendStore() that fails leaves limiters that work, and nobody waiting [TST-3, TST-4]", async () => {
  const rateSync = createRateSync({ logger: logBook() });
  let fails = true;
  const kv = memoryKv();
  const erase = kv.delete;
  rateSync.configureStore("broken", {
    kv: { ...kv, delete: (key) => fails ? Promise.reject(new Error("no")) : erase(key) },
  });
  rateSync.configureLimiter("api", { store: "broken", maxConcurrent: 1, leaseMs: 1_000 });
  const held = await rateSync.acquire("api");
  const waiting = rateSync.acquire("api");
  const error = await assertRejects(() => resetBackendStore("broken", { rateSync }), StoreUnavailableError);
  assert(held.lost, error.message);
  fails = false;
  await resetBackendStore("broken", { rateSync });
  await (await waiting).release();
});

test("a reset of a store that never answers ends in time, and nobody waits for it any longer [TST-4]", async () => {
  const clock = createVirtualClock();
  const never = () => new Promise<never>(() => {});
  const endless = { [Symbol.asyncIterator]: () => ({ next: never }) };
  for (const broken of [{ delete: never }, { keys: () => endless }] satisfies Partial<Kv>[]) {
    const rateSync = createRateSync({ clock, logger: logBook() });
    rateSync.configureStore("silent", { kv: { ...memoryKv(clock), ...broken }, clock });
    rateSync.configureLimiter("api", { store: "silent", ratePerSecond: 1, backendTimeoutMs: 300 });
    await rateSync.acquire("api");
    const waiting = rateSync.acquire("api");
    const begun = clock.now();
    await assertRejects(
      () => clock.runUntil(resetLimiter("api", { rateSync })),
      StoreUnavailableError,
      "no answer within 300 ms",
    );
    assertEquals(clock.now() - begun, 300);
    await clock.runUntil(waiting);
    assert(clock.now() - begun <= 1_001);
  }
});

test("a limiter that counted within its process, as its store was down, is reset there too [TST-1]", async () => {
  let down = true;
  const kv = memoryKv();
  const write = kv.compareAndSet;
  const rateSync = createRateSync({ logger: logBook() });
  rateSync.configureStore("down", {
    kv: { ...kv, compareAndSet: (...call) => down ? Promise.reject(new Error("down")) : write(...call) },
  });
  rateSync.configureLimiter("api", { ...SLOW, store: "down", onFailure: "local" });
  for (const key of [undefined, "alice"]) {
    assertEquals((await rateSync.tryAcquire("api", { key })).allowed, true);
    assertEquals((await rateSync.tryAcquire("api", { key })).allowed, false);
  }
  await resetLimiter("api", { rateSync });
  for (const key of [undefined, "alice"]) assertEquals((await rateSync.tryAcquire("api", { key })).allowed, true);
  await resetBackendStore("down", { rateSync });
  for (const key of [undefined, "alice"]) assertEquals((await rateSync.tryAcquire("api", { key })).allowed, true);
  down = false;
});
