import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import * as front from "../../mod.ts";
import { memoryKv, memoryStore } from "../../src/adapters/memory.ts";
import type { LimiterOptions, StoreOptions } from "../../src/config/options.ts";
import type { Clock } from "../../src/core/clock.ts";
import {
  ConfigValidationError,
  InvalidArgumentError,
  LimiterNotFoundError,
  RateLimiterAcquisitionError,
  RateLimiterAlreadyConfiguredError,
  RateLimiterError,
  StoreNotFoundError,
} from "../../src/core/errors.ts";
import type { Limiter } from "../../src/core/limiter/limiter.ts";
import type { Logger } from "../../src/core/logger.ts";
import type { Kv } from "../../src/core/store/kv.ts";
import { createLimiter } from "../../src/standalone/limiter.ts";
import { createRateSync, type RateSync } from "../../src/registry/registry.ts";
import { resetAllLimiters, resetBackendStore } from "../../src/testing/reset.ts";
import { createVirtualClock, type VirtualClock } from "../../src/testing/virtual_clock.ts";
import { logBook } from "../support/log_book.ts";
import { outputOf, startChild } from "../support/child.ts";
import { inDirectory } from "../support/directory.ts";

interface Bench {
  readonly clock: VirtualClock;
  readonly rateSync: RateSync;
  readonly lines: string[];
}

function setUp(): Bench {
  const clock = createVirtualClock();
  const logger = logBook();
  return { clock, rateSync: createRateSync({ clock, logger }), lines: logger.lines };
}

/** A Kv that fails at everything, and how often it was asked. */
function brokenKv(): Kv & { asked: number } {
  const fail = () => {
    kv.asked++;
    return Promise.reject(new Error("the disk is on fire"));
  };
  const kv = {
    asked: 0,
    get: fail,
    compareAndSet: fail,
    delete: fail,
    async *keys() {
      await fail();
      yield "";
    },
  };
  return kv;
}

/** What untyped code may call. */
function untyped(rateSync: RateSync) {
  return {
    configureLimiter: (id: string, options: unknown) => rateSync.configureLimiter(id, options as LimiterOptions), // on purpose
    configureStore: (id: string, options: unknown) => rateSync.configureStore(id, options as StoreOptions), // on purpose
  };
}

// Stores

test("configureStore() refuses an unknown engine and names those that there are [STO-1]", () => {
  const { configureStore } = untyped(setUp().rateSync);
  const error = assertThrows(() => configureStore("s", { engine: "redis" }), ConfigValidationError);
  assertStringIncludes(error.message, "Unknown engine 'redis'");
  assertStringIncludes(error.message, "memory, nats");
});

test("configureStore() refuses a store without what its engine needs [STO-1]", () => {
  const { configureStore } = untyped(setUp().rateSync);
  for (const [options, missing] of [[{ engine: "nats" }, "url"], [{}, "engine"]] as const) {
    assertStringIncludes(assertThrows(() => configureStore("s", options), ConfigValidationError).message, missing);
  }
});

test("configureStore() refuses what are no options with an error of this package's own [ERR-1]", () => {
  for (const options of [undefined, null, 1, "memory", []]) {
    assertThrows(() => untyped(setUp().rateSync).configureStore("s", options), RateLimiterError);
  }
});

test("many limiters share one store, and one connection [STO-2, STO-7]", async () => {
  const { clock, rateSync } = setUp();
  const kv = memoryKv(clock);
  rateSync.configureStore("shared", { kv, clock });
  for (const id of ["a", "b", "c"]) rateSync.configureLimiter(id, { store: "shared", ratePerSecond: 1 });
  for (const id of ["a", "b", "c"]) await rateSync.acquire(id);
  const keys: string[] = [];
  for await (const key of kv.keys()) keys.push(key);
  assertEquals(keys.sort(), ["a", "b", "c"]);
});

test("listStores() tells every option but the secrets, and whether the store is in use [STO-4, STO-5]", async () => {
  const { clock, rateSync } = setUp();
  rateSync.configureStore("n", { engine: "nats", url: "nats://joe:hunter2@h:4222", bucketName: "b" });
  rateSync.configureStore("t", { engine: "nats", url: "nats://h:4222", token: "s3cret" });
  rateSync.configureStore("c", { kv: memoryKv(clock), clock });
  rateSync.configureLimiter("l", { store: "c", ratePerSecond: 1 });
  const before = rateSync.listStores();
  assertEquals(Object.keys(before), ["n", "t", "c"]);
  assertEquals([before["n"]?.engine, before["c"]?.engine, before["n"]?.bucketName], ["nats", "custom", "b"]);
  assertEquals(before["t"]?.token, "***");
  assertEquals(JSON.stringify(before).match(/hunter2|s3cret|joe/), null);
  assertEquals(Object.values(before).map(({ initialized }) => initialized), [false, false, false]);
  await rateSync.acquire("l");
  assertEquals(rateSync.listStores()["c"]?.initialized, true);
  assertEquals(rateSync.listStores()["n"]?.initialized, false);
});

const CLOSED_BREAKER = {
  breakerFailures: 5,
  breakerCoolDownMs: 1_000,
  breakerMaxCoolDownMs: 5_000,
  circuitBreaker: "closed",
} as const;

test("listStores() tells all of a value, however long it is [STO-4]", () => {
  const rateSync = createRateSync();
  const url = Array.from({ length: 5 }, (_, i) => `nats://nats-${i}.example.com:4222`).join(",");
  rateSync.configureStore("long", { engine: "nats", url, tlsCaFile: `/etc/${"a".repeat(100)}.pem` });
  const listed = rateSync.listStores()["long"];
  assertEquals([listed?.url, listed?.tlsCaFile], [url, `/etc/${"a".repeat(100)}.pem`]);
});

test("a limiter may name the store that is there by default [STO-2]", async () => {
  const rateSync = createRateSync();
  rateSync.configureLimiter("api", { store: "memory", ratePerSecond: 1 });
  assertEquals((await rateSync.tryAcquire("api")).allowed, true);
});

test("listStores() tells what counts where an option is not given, and that a store in use by keys is [STO-3, STO-4]", async () => {
  const { clock, rateSync } = setUp();
  rateSync.configureStore("n", { engine: "nats", url: "nats://h:4222", replicas: 3, clock: "local" });
  rateSync.configureStore("m", { engine: "memory" });
  rateSync.configureStore("c", { kv: memoryKv(clock), clock });
  rateSync.configureLimiter("l", { store: "m", ratePerSecond: 1 });
  await rateSync.acquire("l", { key: "alice" });
  assertEquals(rateSync.getLimiter("l").initialized, true);
  assertEquals(rateSync.listStores(), {
    n: {
      engine: "nats",
      initialized: false,
      url: "nats://h:4222",
      bucketName: "rate_limits",
      partitions: 1,
      autoCreate: false,
      replicas: 3,
      storage: "file",
      bucketTtlMs: 86_400_000,
      retryIntervalMs: 50,
      maxRetries: 100,
      timingMarginMs: 10,
      backendTimeoutMs: 2_000,
      clock: "local",
      ...CLOSED_BREAKER,
    },
    m: { engine: "memory", initialized: true, circuitBreaker: "closed" },
    c: { engine: "custom", initialized: false, ...CLOSED_BREAKER, kv: "given in code", clock: "given in code" },
  });
});

test("a default that is given by name is the same option as one that is left out [STO-8]", () => {
  const { rateSync } = setUp();
  rateSync.configureStore("n", { engine: "nats", url: "nats://h:4222" });
  rateSync.configureStore("n", { engine: "nats", url: "nats://h:4222", bucketName: "rate_limits", maxRetries: 100 });
  assertThrows(
    () => rateSync.configureStore("n", { engine: "nats", url: "nats://h:4222", maxRetries: 7 }),
    RateLimiterAlreadyConfiguredError,
    "(maxRetries)",
  );
});

test("listStores() shows the circuit breaker's settings and state, and a store that is replaced has a new one [STO-4, FAIL-2]", async () => {
  const { clock, rateSync } = setUp();
  const fail = () => Promise.reject(new Error("the disk is on fire"));
  const kv = { ...memoryKv(clock), get: fail, compareAndSet: fail };
  const breaker = { breakerFailures: 2, breakerCoolDownMs: 20_000 };
  rateSync.configureStore("m", { engine: "memory" });
  rateSync.configureStore("c", { kv, clock, ...breaker });
  rateSync.configureLimiter("l", { store: "c", ratePerSecond: 1 });
  rateSync.configureLimiter("other", { store: "c", ratePerSecond: 1 });
  const shown = () => rateSync.listStores()["c"];
  assertEquals([rateSync.listStores()["m"]?.circuitBreaker, rateSync.listStores()["m"]?.breakerFailures], [
    "closed",
    undefined,
  ]);
  assertEquals([shown()?.breakerFailures, shown()?.breakerCoolDownMs, shown()?.breakerMaxCoolDownMs], [
    2,
    20_000,
    20_000,
  ]);
  assertEquals((await rateSync.tryAcquire("l")).degraded, true);
  assertEquals(shown()?.circuitBreaker, "open");
  for (const id of ["l", "other"]) assertEquals(rateSync.getLimiter(id).getMetrics().circuitBreaker, "open");
  rateSync.configureStore("c", { kv: memoryKv(clock), clock, ...breaker, replace: true });
  assertEquals(shown()?.circuitBreaker, "closed");
  assertEquals((await rateSync.tryAcquire("l")).degraded, false);
});

test("configureStore() with the same values again changes nothing, and with others needs replace [STO-8]", async () => {
  const { clock, rateSync } = setUp();
  const kv = memoryKv(clock);
  rateSync.configureStore("s", { kv, clock });
  rateSync.configureLimiter("l", { store: "s", ratePerSecond: 1 });
  await rateSync.acquire("l");
  rateSync.configureStore("s", { kv, clock });
  assertEquals((await rateSync.tryAcquire("l")).allowed, false);
  const error = assertThrows(
    () => rateSync.configureStore("s", { engine: "memory" }),
    RateLimiterAlreadyConfiguredError,
  );
  assertEquals(error.id, "s");
  assertStringIncludes(error.message, "replace: true");
  // What is left out differs too.
  assertThrows(() => rateSync.configureStore("s", { kv }), RateLimiterAlreadyConfiguredError, "(clock)");
  rateSync.configureStore("s", { engine: "memory", replace: true });
  assertEquals((await rateSync.tryAcquire("l")).allowed, true);
  assertEquals(rateSync.listStores()["s"]?.engine, "memory");
});

// Limiters

test("configureLimiter() refuses a store that is not there [LIM-1]", () => {
  const { rateSync } = setUp();
  const error = assertThrows(
    () => rateSync.configureLimiter("l", { store: "zz", ratePerSecond: 1 }),
    StoreNotFoundError,
    "Store 'zz' not found. Configure it first",
  );
  assertEquals(error.storeId, "zz");
  assertEquals(rateSync.listLimiters(), {});
});

for (
  const [what, options, message] of [
    ["nothing to limit", {}, "at least one of"],
    ["a rate of 0", { ratePerSecond: 0 }, "ratePerSecond"],
    ["a negative rate", { ratePerSecond: -1 }, "ratePerSecond"],
    ["a rate that is NaN", { ratePerSecond: NaN }, "ratePerSecond"],
    ["half a permit", { maxConcurrent: 2.5 }, "maxConcurrent"],
    ["a window without a limit", { algorithm: "sliding_window", windowMs: 1_000 }, "limit"],
    ["a limit without a window", { algorithm: "sliding_window", limit: 5 }, "windowMs"],
    ["a window of 0", { algorithm: "sliding_window", limit: 5, windowMs: 0 }, "windowMs"],
    ["a negative window", { algorithm: "sliding_window", limit: 5, windowMs: -1 }, "windowMs"],
    ["a limit of 0", { algorithm: "sliding_window", limit: 0, windowMs: 1_000 }, "limit"],
    ["a negative limit", { algorithm: "sliding_window", limit: -5, windowMs: 1_000 }, "limit"],
    ["no permits", { maxConcurrent: 0 }, "maxConcurrent"],
    [
      "both algorithms",
      { algorithm: "sliding_window", limit: 5, windowMs: 9, ratePerSecond: 1 },
      "Cannot specify both",
    ],
    ["an unknown algorithm", { algorithm: "leaky", ratePerSecond: 1 }, "algorithm"],
    ["an unknown option", { ratePerSecnd: 1 }, "ratePerSecnd"],
    ["a negative timeout", { ratePerSecond: 1, timeoutMs: -1 }, "timeoutMs"],
    ["a contradiction about failures", { ratePerSecond: 1, failClosed: true, onFailure: "open" }, "failClosed"],
  ] as const
) {
  test(`configureLimiter() refuses ${what}, and nothing is configured [LIM-2, LIM-4, LIM-6, SW-4]`, () => {
    const { rateSync } = setUp();
    const error = assertThrows(() => untyped(rateSync).configureLimiter("l", options), ConfigValidationError);
    assertStringIncludes(error.message, message);
    assertStringIncludes(error.field, "limiters.l");
    assertThrows(() => rateSync.getLimiter("l"), LimiterNotFoundError);
  });
}

for (const ratePerSecond of [0.001, 0.5, 42.5, 10_000]) {
  test(`a rate of ${ratePerSecond} is valid and read back unchanged [LIM-3, STA-1]`, () => {
    const { rateSync } = setUp();
    rateSync.configureLimiter("l", { ratePerSecond, maxConcurrent: 10_000 });
    const config = rateSync.getLimiter("l").getConfig();
    assertEquals([config.ratePerSecond, config.maxConcurrent, config.storeId], [ratePerSecond, 10_000, "memory"]);
    assertThrows(() => Object.assign(config, { ratePerSecond: 1 }), TypeError);
  });
}

test("getConfig() is frozen, a new and equal object each time, complete, and names the store by its id [STA-1, STA-2]", async () => {
  const { clock, rateSync } = setUp();
  rateSync.configureStore("my store", { kv: memoryKv(clock), clock });
  rateSync.configureLimiter("l", { store: "my store", maxConcurrent: 3 });
  const before = rateSync.getLimiter("l").getConfig();
  assertEquals(before, {
    id: "l",
    storeId: "my store",
    algorithm: "token_bucket",
    ratePerSecond: null,
    burst: 1,
    maxConcurrent: 3,
    leaseMs: 10_000,
    limit: null,
    windowMs: null,
    rates: [],
    timeoutMs: null,
    failClosed: false,
    onFailure: "open",
    backendTimeoutMs: 2_000,
    reserveAheadMs: 1_000,
    prefetch: 0,
  });
  const again = rateSync.getLimiter("l").getConfig();
  assertEquals(again, before);
  assert(again !== before);
  assertThrows(() => Object.assign(before, { storeId: "other" }), TypeError);
  assertThrows(() => Object.assign(before.rates, { 0: { limit: 1, windowMs: 1 } }), TypeError);
  await rateSync.acquire("l");
  assertEquals(rateSync.getLimiter("l").getConfig(), before);
  assertEquals(rateSync.getLimiter("l").key("k").getConfig(), before);
  assertEquals(rateSync.listLimiters()["l"]?.storeId, "my store");
});

test("a sliding window reads back as it was configured [SW-3]", () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("l", { algorithm: "sliding_window", limit: 5, windowMs: 1_500.5 });
  const { algorithm, limit, windowMs, ratePerSecond } = rateSync.getLimiter("l").getConfig();
  assertEquals([algorithm, limit, windowMs, ratePerSecond], ["sliding_window", 5, 1_500.5, null]);
});

for (
  const [method, use] of [
    ["acquire", (limiter: Limiter) => limiter.acquire()],
    ["tryAcquire", (limiter: Limiter) => limiter.tryAcquire()],
    ["check", (limiter: Limiter) => limiter.check({ consume: false })],
    ["getState", (limiter: Limiter) => limiter.getState()],
  ] as const
) {
  test(`${method}() of a limiter that nobody opened opens it, and many at the same time open once [LIM-10, LIM-11]`, async () => {
    const clock = createVirtualClock();
    const infos: string[] = [];
    const ignore = () => {};
    const logger = { info: (line: string) => void infos.push(line), warn: ignore, error: ignore };
    const rateSync = createRateSync({ clock, logger });
    rateSync.configureLimiter("l", { maxConcurrent: 100 });
    const limiter = rateSync.getLimiter("l");
    assertEquals(limiter.initialized, false);
    await Promise.all(Array.from({ length: 20 }, () => use(limiter)));
    assertEquals(limiter.initialized, true);
    assertEquals(infos.filter((line) => line.includes("open on store")).length, 1);
  });
}

test("a window and a limit of concurrency hold together [LIM-5, SW-6]", async () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("l", { algorithm: "sliding_window", limit: 3, windowMs: 1_000, maxConcurrent: 1 });
  assertEquals(rateSync.getLimiter("l").getConfig().maxConcurrent, 1);
  const permit = await rateSync.acquire("l");
  assertEquals((await rateSync.tryAcquire("l")).allowed, false);
  await permit.release();
  for (let i = 0; i < 2; i++) await (await rateSync.acquire("l")).release();
  assertEquals((await rateSync.tryAcquire("l")).allowed, false);
});

test("configureLimiter() with the same values again changes nothing, and with others needs replace [LIM-7]", async () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("l", { ratePerSecond: 1, rates: [{ limit: 5, windowMs: 60_000 }] });
  const limiter = rateSync.getLimiter("l");
  await rateSync.acquire("l");
  rateSync.configureLimiter("l", {
    rates: [{ windowMs: 60_000, limit: 5, algorithm: "sliding_window" }],
    ratePerSecond: 1,
    burst: 1,
  });
  assert(rateSync.getLimiter("l") === limiter);
  const error = assertThrows(
    () => rateSync.configureLimiter("l", { ratePerSecond: 2 }),
    RateLimiterAlreadyConfiguredError,
    "ratePerSecond",
  );
  assertStringIncludes(error.message, "Limiter 'l'");
  assertEquals(rateSync.getLimiter("l").getConfig().ratePerSecond, 1);
  rateSync.configureLimiter("l", { ratePerSecond: 2, replace: true });
  assertEquals(rateSync.getLimiter("l").getConfig().ratePerSecond, 2);
  // What was used stays used: the state is in the store.
  assertEquals((await rateSync.tryAcquire("l")).allowed, false);
});

test("a limiter that was replaced is closed with its store: who waits hears so, and nobody is let in beside [LIM-7, CON-1]", async () => {
  const { rateSync, clock } = setUp();
  rateSync.configureStore("s", { kv: memoryKv(clock), clock });
  rateSync.configureLimiter("job", { store: "s", maxConcurrent: 1 });
  const first = await rateSync.acquire("job");
  const waiting = rateSync.acquire("job");
  rateSync.configureLimiter("job", { store: "s", maxConcurrent: 1, timeoutMs: 20_000, replace: true });
  assertEquals(first.lost, false);
  rateSync.configureStore("s", { kv: memoryKv(clock), clock, breakerFailures: 2, replace: true });
  await assertRejects(() => waiting, RateLimiterError, "was closed");
  assertEquals(first.lost, true);
  const next = await rateSync.acquire("job");
  assertEquals([next.degraded, next.lost], [false, false]);
});

test("who waits when a limiter is replaced keeps the old limits, and calls that name it have the new ones [LIM-7]", async () => {
  const { rateSync, clock } = setUp();
  rateSync.configureLimiter("job", { ratePerSecond: 0.1 });
  const before = rateSync.getLimiter("job");
  await before.acquire();
  const start = clock.now();
  const waiting = before.acquire().then(() => clock.now() - start);
  await clock.advance(1_000);
  rateSync.configureLimiter("job", { ratePerSecond: 10, burst: 2, replace: true });
  await clock.runUntil(rateSync.acquire("job"));
  assert(clock.now() - start < 1_100);
  assertEquals((await before.tryAcquire()).allowed, false);
  assertEquals(before.getConfig().ratePerSecond, 0.1);
  assert(await clock.runUntil(waiting) >= 10_000);
});

test("a store stays listed as initialized when its limiter is replaced [STO-4]", async () => {
  const { rateSync, clock } = setUp();
  rateSync.configureStore("s", { kv: memoryKv(clock), clock });
  rateSync.configureLimiter("job", { store: "s", ratePerSecond: 1 });
  const limiter = rateSync.getLimiter("job");
  await limiter.acquire();
  rateSync.configureLimiter("job", { store: "s", ratePerSecond: 2, replace: true });
  assertEquals(rateSync.listStores()["s"]?.initialized, true);
});

test("what is handed in has to be what it shall be used as, and is looked at before anything is kept [ERR-1]", () => {
  const wrong: readonly (readonly [field: string, make: () => unknown])[] = [
    ["logger", () => createRateSync({ logger: {} as Logger })],
    ["logger", () => createRateSync({ logger: { info() {}, warn: 5 } as unknown as Logger })],
    ["clock", () => createRateSync({ clock: Date as unknown as Clock })],
    ["rateSync", () => front.rateLimited("job", () => 1, { rateSync: {} as RateSync })],
    ["rateSync", () => new front.CompositeRateLimiter({ limiters: { a: "job" }, rateSync: {} as RateSync })],
  ];
  for (const [field, make] of wrong) {
    assertEquals(assertThrows(make, InvalidArgumentError, "This is no").field, field);
  }
});

test("limiters go by the settings of the store that took the place of theirs, and are the same ones [LIM-7]", () => {
  const { rateSync } = setUp();
  const store = { engine: "nats", url: "nats://localhost:4222" } as const;
  rateSync.configureStore("n", store);
  rateSync.configureLimiter("job", { store: "n", ratePerSecond: 1 });
  rateSync.configureStore("n", { ...store, backendTimeoutMs: 250, replace: true });
  assertEquals(rateSync.getLimiter("job").getConfig().backendTimeoutMs, 250);
  rateSync.configureLimiter("job", { store: "n", ratePerSecond: 1 });
});

test("getLimiter() is always the same one, and may not be initialized yet [LIM-8]", async () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("l", { ratePerSecond: 1 });
  const limiter = rateSync.getLimiter("l");
  assertEquals([limiter.initialized, limiter.id], [false, "l"]);
  await limiter.acquire();
  assert(rateSync.getLimiter("l") === limiter);
  assertEquals(limiter.initialized, true);
});

test("a limiter that is not there is an error that says what there is, when it is awaited [LIM-8, LIM-13, CHK-2]", async () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("known", { ratePerSecond: 1 });
  const missing = assertThrows(() => rateSync.getLimiter("x"), LimiterNotFoundError, "Limiter 'x' not found");
  assertEquals(missing.limiterId, "x");
  assertStringIncludes(missing.message, "'known'");
  const calls = [
    rateSync.acquire("x"),
    rateSync.tryAcquire("x"),
    rateSync.checkLimiter("x"),
    rateSync.initializeLimiter("x"),
  ];
  for (const call of calls) await assertRejects(() => call, LimiterNotFoundError);
});

test("names that mean something to JavaScript are never found, and are keys like others [LIM-8, LIM-16]", async () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("l", { ratePerSecond: 1 });
  for (const name of ["__proto__", "constructor", "toString"]) {
    assertThrows(() => rateSync.getLimiter(name), LimiterNotFoundError);
    assertThrows(() => rateSync.configureLimiter("m", { store: name, ratePerSecond: 1 }), StoreNotFoundError);
    assertEquals((await rateSync.tryAcquire("l", { key: name })).allowed, true);
    assertEquals((await rateSync.tryAcquire("l", { key: name })).allowed, false);
  }
});

test("initializeLimiter() and initializeAllLimiters() open early, and again do nothing [LIM-9]", async () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("a", { ratePerSecond: 1 });
  rateSync.configureLimiter("b", { maxConcurrent: 1 });
  await rateSync.initializeLimiter("a");
  assertEquals([rateSync.getLimiter("a").initialized, rateSync.getLimiter("b").initialized], [true, false]);
  await rateSync.initializeAllLimiters();
  await rateSync.initializeAllLimiters();
  assertEquals(rateSync.getLimiter("b").initialized, true);
  assertEquals(rateSync.getLimiter("a").getMetrics().totalAcquisitions, 0);
});

test("listLimiters() shows the configuration, and metrics once there are some [LIM-15]", async () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("l", { ratePerSecond: 10, timeoutMs: 500 });
  const before = rateSync.listLimiters()["l"];
  assertEquals([before?.initialized, before?.metrics, before?.ratePerSecond, before?.timeoutMs, before?.limit], [
    false,
    null,
    10,
    500,
    null,
  ]);
  await rateSync.acquire("l");
  const { id: _, ...config } = rateSync.getLimiter("l").getConfig();
  assertEquals(before, { ...config, initialized: false, metrics: null });
  const after = rateSync.listLimiters()["l"];
  assertEquals([after?.initialized, after?.metrics?.totalAcquisitions, after?.storeId], [true, 1, "memory"]);
});

test("each scope that is nested in another one holds one permit more [LIM-12]", async () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("l", { maxConcurrent: 2 });
  const left = async () => (await rateSync.getLimiter("l").getState()).remaining;
  {
    await using _outer = await rateSync.acquire("l");
    assertEquals(await left(), 1);
    {
      await using _inner = await rateSync.acquire("l");
      assertEquals([await left(), (await rateSync.tryAcquire("l")).allowed], [0, false]);
    }
    assertEquals(await left(), 1);
  }
  assertEquals(await left(), 2);
});

test("registries share nothing, unless they share a Kv [LIM-16]", async () => {
  const { clock } = setUp();
  const kv = memoryKv(clock);
  const apart = [createRateSync({ clock }), createRateSync({ clock })];
  const together = [createRateSync({ clock }), createRateSync({ clock })];
  for (const rateSync of together) rateSync.configureStore("memory", { kv, clock });
  const allowed: boolean[] = [];
  for (const rateSync of [...apart, ...together]) {
    rateSync.configureLimiter("l", { ratePerSecond: 1 });
    allowed.push((await rateSync.tryAcquire("l")).allowed);
  }
  assertEquals(allowed, [true, true, true, false]);
});

test("checkLimiter() takes one slot, and with consume: false none [CHK-2, CHK-3]", async () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("l", { algorithm: "sliding_window", limit: 2, windowMs: 1_000 });
  for (let i = 0; i < 5; i++) assertEquals((await rateSync.checkLimiter("l", { consume: false })).remaining, 2);
  assertEquals((await rateSync.checkLimiter("l")).remaining, 1);
  assertEquals((await rateSync.checkLimiter("l")).remaining, 0);
  assertEquals((await rateSync.checkLimiter("l")).allowed, false);
});

test("checkLimiter() does not wait, whatever timeout the limiter has [CHK-2]", async () => {
  const { clock, rateSync } = setUp();
  rateSync.configureLimiter("l", { ratePerSecond: 1, timeoutMs: 60_000 });
  const begun = clock.now();
  const answers = [await rateSync.checkLimiter("l"), await rateSync.checkLimiter("l")];
  assertEquals(answers.map(({ allowed }) => allowed), [true, false]);
  assertEquals([clock.now(), rateSync.getLimiter("l").getMetrics().totalWaitTimeMs], [begun, 0]);
});

// Errors

test("every error that is thrown on purpose has one base class [ERR-1]", () => {
  for (const [name, value] of Object.entries(front)) {
    if (!name.endsWith("Error") || name === "RateLimiterError") continue;
    assert(typeof value === "function" && value.prototype instanceof RateLimiterError, name);
  }
});

const THROWN: readonly (readonly [what: string, thrown: unknown])[] = [
  ["an error of a driver", Object.assign(new Error("stream not found"), { name: "StreamNotFoundError", code: 10_059 })],
  ["a TypeError", new TypeError("undefined is not a function")],
  ["text", "it broke"],
  ["nothing", undefined],
  ["an object without a prototype", Object.create(null)],
];
for (const [what, thrown] of THROWN) {
  for (const when of ["at once", "later"] as const) {
    test(`a store that throws ${what} ${when} fails with this package's errors alone [ERR-1, ERR-4, ERR-5]`, async () => {
      const { clock, rateSync, lines } = setUp();
      const fail = () => {
        if (when === "at once") throw thrown;
        return Promise.reject(thrown);
      };
      rateSync.configureStore("s", {
        kv: { ...brokenKv(), get: fail, compareAndSet: fail },
        clock,
        breakerFailures: 0,
      });
      rateSync.configureLimiter("closed", { store: "s", maxConcurrent: 1, failClosed: true });
      rateSync.configureLimiter("open", { store: "s", maxConcurrent: 1 });
      const limiter = rateSync.getLimiter("closed");
      const calls = [
        () => limiter.acquire(),
        () => limiter.acquire({ timeoutMs: 10, key: "k" }),
        () => limiter.tryAcquire(),
        () => limiter.check({ consume: false }),
        () => limiter.getState(),
        () => rateSync.checkMultiLimiters(["open", "closed"]),
      ];
      for (const call of calls) {
        const error = await assertRejects<RateLimiterAcquisitionError>(call, RateLimiterAcquisitionError);
        assertEquals(error.reason, "backend");
        assertStringIncludes(error.message, "Limiter 'closed");
        assertStringIncludes(error.message, "fails closed");
        assertEquals(error.cause, thrown);
      }
      const permit = await rateSync.acquire("open");
      assertEquals(permit.degraded, true);
      await permit.release();
      await rateSync.getLimiter("open").getState();
      await rateSync.close();
      assertEquals(lines.filter((line) => line.startsWith("error")).length, 1);
    });
  }
}

test("a failed acquisition says which limiter, how long it was tried, and what refused [ERR-2]", async () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("one", { ratePerSecond: 0.5 });
  await rateSync.acquire("one");
  const error = await assertRejects(() => rateSync.acquire("one", { timeoutMs: 50 }), RateLimiterAcquisitionError);
  assertStringIncludes(error.message, "Unable to acquire slot for limiter 'one' within 0.05 s");
  assertStringIncludes(error.message, "0.5/s, burst 1");
  assertEquals([error.name, error.limiterId, error.reason, error.rule], [
    "RateLimiterAcquisitionError",
    "one",
    "timeout",
    "0.5/s, burst 1",
  ]);
  assertEquals(error.retryAfterMs, 2_000);
});

test("initializeAllLimiters() shows that a store is broken which needs no opening [LIM-9, FAIL-2]", async () => {
  const { clock, rateSync, lines } = setUp();
  const retention = { store: "short", algorithm: "sliding_window", limit: 1, windowMs: 1_000 } as const;
  rateSync.configureStore("short", { kv: brokenKv(), clock });
  rateSync.configureLimiter("fine", { ratePerSecond: 1 });
  rateSync.configureLimiter("closed", { ...retention, failClosed: true });
  rateSync.configureLimiter("open", retention);
  const error = await assertRejects(() => rateSync.initializeAllLimiters(), RateLimiterAcquisitionError);
  assertEquals([error.reason, error.limiterId], ["backend", "closed"]);
  assertInstanceOf(error.cause, Error);
  assertEquals(rateSync.getLimiter("fine").initialized, true);
  assertEquals(lines.filter((line) => line.startsWith("warn: Limiter 'open': the disk is on fire.")).length, 1);
});

// Logging

test("what is configured and loaded is reported at info, and what is opened [LOG-1]", async () => {
  await withFile(
    '[stores.m]\nengine = "memory"\n[limiters.api]\nstore = "m"\nrate_per_second = 2\n',
    async (path) => {
      const { rateSync, lines } = setUp();
      await rateSync.loadConfig(path);
      rateSync.configureLimiter("api", { store: "m", ratePerSecond: 2 });
      await rateSync.acquire("api");
      assertEquals(lines, [
        "info: Store 'm': configured, with engine memory.",
        "info: Limiter 'api': configured, on store 'm'.",
        `info: Loaded 1 stores and 1 limiters from ${path}.`,
        "info: Limiter 'api': open on store 'm' (2/s, burst 1).",
        "debug: Limiter 'api': granted after 0.000 s.",
      ]);
    },
  );
});

test("a setting of a file that has no effect is warned about [LOG-1]", async () => {
  await withFile('[fastapi]\ntrusted_proxy_networks = ["10.0.0.0/8"]\n', async (path) => {
    const { rateSync, lines } = setUp();
    await rateSync.loadConfig(path);
    assertEquals(lines.at(-1), `warn: trusted_proxy_networks in ${path} has no effect in this version.`);
  });
});

test("a duration of a file that was probably meant in milliseconds is warned about, and one in code is not [LOG-1]", async () => {
  const text = '[stores.m]\nengine = "memory"\n[limiters.api]\nstore = "m"\nmax_concurrent = 2\nlease = 10000\n';
  await withFile(text, async (path) => {
    const { rateSync, lines } = setUp();
    await rateSync.loadConfig(path);
    assertEquals(
      lines.at(-1),
      `warn: ${path}: limiters.api.lease is 10000 seconds; did you mean 10? Durations in TOML are in seconds.`,
    );
    const before = lines.length;
    rateSync.configureLimiter("own", { maxConcurrent: 2, leaseMs: 10_000_000 });
    assertEquals(lines.slice(before).filter((line) => line.startsWith("warn")), []);
  });
});

test("without a logger only warnings and errors are written, to the console [LOG-1]", async () => {
  const { warn, error, info, debug, log } = console;
  const lines: string[] = [];
  const keep = (level: string) => (...args: unknown[]) => void lines.push([level, ...args].join(" "));
  Object.assign(console, { warn: keep("warn"), error: keep("error"), info: keep("info"), debug: keep("debug") });
  Object.assign(console, { log: keep("log") });
  try {
    const rateSync = createRateSync();
    rateSync.configureStore("broken", { kv: brokenKv() });
    for (const onFailure of ["open", "closed"] as const) {
      rateSync.configureLimiter(onFailure, { store: "broken", ratePerSecond: 1, onFailure });
      await rateSync.tryAcquire(onFailure).catch(() => {});
    }
    rateSync.configureLimiter("fine", { ratePerSecond: 1 });
    await rateSync.tryAcquire("fine");
    await rateSync.close();
  } finally {
    Object.assign(console, { warn, error, info, debug, log });
  }
  const why = "the disk is on fire. Until the store is back, requests are";
  assertEquals(lines, [
    `warn ratesync: Limiter 'open': ${why} admitted without a limit (on_failure = "open").`,
    `error ratesync: Limiter 'closed': ${why} refused (on_failure = "closed").`,
  ]);
});

test("setLogger() replaces the logger for all that was made before, and refuses what is none [LOG-1]", async () => {
  const { rateSync, lines } = setUp();
  rateSync.configureLimiter("api", { ratePerSecond: 1 });
  await rateSync.acquire("api");
  const seen = lines.length;
  const others: string[] = [];
  const other = (message: string) => void others.push(message);
  rateSync.setLogger({ info: other, warn: other, error: other });
  await rateSync.tryAcquire("api");
  rateSync.configureLimiter("more", { ratePerSecond: 1 });
  await rateSync.tryAcquire("api", { key: "alice" });
  assertEquals(lines.slice(seen), []);
  assertEquals(others, ["Limiter 'more': configured, on store 'memory'."]);
  rateSync.setLogger({ debug: other, info: other, warn: other, error: other });
  await rateSync.tryAcquire("api", { key: "bob" });
  assertEquals(others.slice(1), ["Limiter 'api:bob': granted after 0.000 s."]);
  for (const wrong of [null, undefined, {}, { info() {}, warn() {} }]) {
    // @ts-expect-error: no logger
    assertThrows(() => rateSync.setLogger(wrong), InvalidArgumentError, "This is no logger");
  }
});

test("what lacks a method that it needs is refused with the name of the method [ERR-1]", () => {
  const rateSync = createRateSync();
  // @ts-expect-error: no logger
  const error = assertThrows(() => rateSync.setLogger({ warn() {} }), InvalidArgumentError);
  assertEquals([error.expected, error.received], [
    "an object with info(), warn(), error()",
    "an object without info(), error()",
  ]);
  const { delete: _, ...kv } = memoryKv();
  // @ts-expect-error: no Kv
  assertThrows(() => rateSync.configureStore("s", { kv }), ConfigValidationError, "It has no delete().");
});

test("an id that is in a file that was not read says when files are read [CFG-4, LIM-8]", async () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("extra", { ratePerSecond: 1 });
  const error = await assertRejects(() => rateSync.acquire("local"), LimiterNotFoundError);
  assertStringIncludes(error.message, "the limiters are 'extra'. The file is read by loadConfig()");
  assertThrows(
    () => rateSync.configureLimiter("l", { store: "zz", ratePerSecond: 1 }),
    StoreNotFoundError,
    "The file is read by loadConfig()",
  );
});

test("a logger that throws changes nothing: what is granted is given, and given back [CON-8, LOG-1]", async () => {
  const { clock } = setUp();
  const fail = () => {
    throw new Error("the log is full");
  };
  const logger: Logger = { debug: fail, info: fail, warn: fail, error: fail };
  const rateSync = createRateSync({ clock, logger });
  rateSync.configureLimiter("upload", { maxConcurrent: 1, leaseMs: 200 });
  rateSync.configureStore("broken", { kv: brokenKv() });
  for (const onFailure of ["open", "closed"] as const) {
    rateSync.configureLimiter(onFailure, { store: "broken", ratePerSecond: 1, onFailure });
  }
  const alone = createLimiter("alone", memoryStore(clock), { maxConcurrent: 1, logger });
  for (const limiter of [rateSync.getLimiter("upload"), alone]) {
    for (let i = 0; i < 3; i++) {
      const permit = await limiter.acquire({ timeoutMs: 0 });
      assertEquals((await limiter.tryAcquire()).allowed, false);
      await permit.release();
    }
  }
  assertEquals((await rateSync.tryAcquire("open")).degraded, true);
  await assertRejects(() => rateSync.tryAcquire("closed"), RateLimiterAcquisitionError, "the disk is on fire");
  await alone.close();
  await rateSync.close();
});

test("a logger that is asynchronous may fail, too [LOG-1]", async () => {
  const { clock } = setUp();
  const unhandled: unknown[] = [];
  const note = (event: { preventDefault(): void; reason: unknown }) => {
    event.preventDefault();
    unhandled.push(event.reason);
  };
  globalThis.addEventListener("unhandledrejection", note);
  const fail = () => Promise.reject(new Error("the log is full"));
  const rateSync = createRateSync({ clock, logger: { debug: fail, info: fail, warn: fail, error: fail } as Logger });
  rateSync.configureLimiter("api", { ratePerSecond: 1 });
  await rateSync.acquire("api");
  await new Promise((resolve) => setTimeout(resolve));
  globalThis.removeEventListener("unhandledrejection", note);
  assertEquals(unhandled, []);
});

test("initializeAllLimiters() says of each limiter that cannot be opened why, and opens the others [LIM-9, ERR-1]", async () => {
  const { rateSync } = setUp();
  for (const id of ["a", "b"]) {
    rateSync.configureStore(id, { engine: "nats", url: "nats://127.0.0.1:1", backendTimeoutMs: 5_000 });
    rateSync.configureLimiter(id, { store: id, ratePerSecond: 1, failClosed: true });
  }
  rateSync.configureLimiter("open", { store: "a", ratePerSecond: 1 });
  rateSync.configureLimiter("fine", { ratePerSecond: 1 });
  const all = await assertRejects<RateLimiterError>(() => rateSync.initializeAllLimiters(), RateLimiterError);
  assertStringIncludes(all.message, "2 limiters could not be initialized");
  for (const id of ["a", "b"]) assertStringIncludes(all.message, `Limiter '${id}' could not ask its store`);
  assertInstanceOf(all.cause, AggregateError);
  assertEquals(all.cause.errors.map((error) => error instanceof RateLimiterAcquisitionError), [true, true]);
  const one = await assertRejects<RateLimiterAcquisitionError>(
    () => rateSync.initializeLimiter("a"),
    RateLimiterAcquisitionError,
  );
  assertEquals(one.reason, "backend");
  const opened = Object.entries(rateSync.listLimiters()).filter(([, { initialized }]) => initialized);
  assertEquals(opened.map(([id]) => id), ["fine"]);
  await rateSync.close();
});

// Loading and closing

const FILE = "rate-sync.toml";

/** Runs `body` with the path of a configuration file, in a directory where nothing is looked for. */
function withFile(toml: string, body: (path: string) => Promise<void>): Promise<void> {
  return inDirectory({ [`elsewhere/${FILE}`]: toml }, (directory) => body(join(directory, "elsewhere", FILE)));
}

test("createRateSync() looks for no file by itself, and loads one when it is told to [CFG-3]", async () => {
  const toml = '[stores.m]\nengine = "memory"\n[limiters.api]\nstore = "m"\nrate_per_second = 2\n';
  await inDirectory({ [FILE]: toml }, async () => {
    const { rateSync } = setUp();
    assertThrows(() => rateSync.getLimiter("api"), LimiterNotFoundError);
    await rateSync.loadConfig(FILE);
    assertEquals(rateSync.getLimiter("api").getConfig().ratePerSecond, 2);
    assertEquals((await rateSync.tryAcquire("api")).allowed, true);
  });
});

test("loadConfig() without a file to find is no error, and warns about where it looked [CFG-4]", async () => {
  const { rateSync, lines } = setUp();
  const named = process.env["RATE_SYNC_CONFIG"];
  delete process.env["RATE_SYNC_CONFIG"];
  try {
    await inDirectory({}, () => rateSync.loadConfig());
  } finally {
    if (named !== undefined) process.env["RATE_SYNC_CONFIG"] = named;
  }
  assertEquals(lines, [
    "warn: loadConfig() found no file, and nothing was loaded. It looked for what RATE_SYNC_CONFIG names, and then for " +
    "./rate-sync.toml and ./config/rate-sync.toml.",
  ]);
});

test("loadConfig() of a file with one mistake applies nothing of it [CFG-14]", async () => {
  const toml =
    '[stores.m]\nengine = "memory"\n[limiters.ok]\nstore = "m"\nrate_per_second = 2\n[limiters.bad]\nstore = "m"\n';
  await withFile(toml, async (path) => {
    const { rateSync } = setUp();
    rateSync.configureLimiter("mine", { ratePerSecond: 1 });
    const error = await assertRejects(() => rateSync.loadConfig(path), ConfigValidationError);
    assertStringIncludes(error.message, path);
    assertEquals(Object.keys(rateSync.listLimiters()), ["mine"]);
    assertEquals(Object.keys(rateSync.listStores()), ["memory"]);
  });
});

test("a second file adds to the first and overrides it, and code and files mix [CFG-15, CFG-16]", async () => {
  const limiter = (id: string, more: string) => `[limiters.${id}]\nstore = "m"\n${more}\n`;
  const store = '[stores.m]\nengine = "memory"\n';
  const first = store + limiter("one", "rate_per_second = 1") + limiter("two", "rate_per_second = 2");
  const second = limiter("two", "rate_per_second = 20\nfail_closed = true") + limiter("three", "max_concurrent = 3");
  const { rateSync } = setUp();
  rateSync.configureLimiter("mine", { ratePerSecond: 4 });
  rateSync.configureLimiter("one", { ratePerSecond: 9 });
  await withFile(first, async (path) => {
    await rateSync.loadConfig(path);
    const before = rateSync.getLimiter("one");
    await rateSync.acquire("one");
    await rateSync.loadConfig(path);
    assert(rateSync.getLimiter("one") === before, "the same again is nothing new");
  });
  await withFile(second, async (path) => await rateSync.loadConfig(path));
  const configs = ["mine", "one", "two", "three"].map((id) => rateSync.getLimiter(id).getConfig());
  assertEquals(
    configs.map(({ ratePerSecond, maxConcurrent, failClosed }) => [ratePerSecond, maxConcurrent, failClosed]),
    [
      [4, null, false],
      [1, null, false],
      [20, null, true],
      [null, 3, false],
    ],
  );
  assertEquals((await rateSync.tryAcquire("one")).allowed, false);
});

test("the first use of the module's functions loads the configuration file, if nothing is configured [CFG-1]", async () => {
  await withFile('[stores.m]\nengine = "memory"\n[limiters.api]\nstore = "m"\nrate_per_second = 2\n', async (path) => {
    const before = process.env["RATE_SYNC_CONFIG"];
    process.env["RATE_SYNC_CONFIG"] = path;
    try {
      const { ratePerSecond } = JSON.parse(await outputOf(startChild("tests/support/first_use_process.ts")));
      assertEquals(ratePerSecond, 2);
    } finally {
      if (before === undefined) delete process.env["RATE_SYNC_CONFIG"];
      else process.env["RATE_SYNC_CONFIG"] = before;
    }
  });
});

test("a wrong file shows at the first use and at every one after, with its path, and not before [CFG-1, CFG-3]", async () => {
  await withFile('[stores.m]\nengine = "memry"\n', async (path) => {
    const before = process.env["RATE_SYNC_CONFIG"];
    process.env["RATE_SYNC_CONFIG"] = path;
    try {
      const rateSync = createRateSync({ autoLoad: true });
      for (
        const use of [
          () => rateSync.acquire("api"),
          () => rateSync.tryAcquire("api"),
          () => rateSync.checkMultiLimiters(["api"]),
          () => rateSync.checkMultiLimiters(["api"], { onMissing: "allow" }),
          () => rateSync.initializeAllLimiters(),
          () => resetAllLimiters({ rateSync }),
          () => resetBackendStore("m", { rateSync }),
        ]
      ) {
        for (let i = 0; i < 2; i++) {
          const error = await assertRejects<ConfigValidationError>(
            use,
            ConfigValidationError,
            "Unknown engine 'memry'",
          );
          assertEquals(error.file, path);
          assertStringIncludes(error.message, path);
        }
      }
      for (
        const use of [
          () => rateSync.listLimiters(),
          () => rateSync.listStores(),
          () => rateSync.cloneLimiter("api", "clone"),
        ]
      ) assertThrows(use, ConfigValidationError, path);
      await writeFile(path, '[stores.m]\nengine = "memory"\n[limiters.api]\nstore = "m"\nrate_per_second = 2\n');
      assertEquals((await rateSync.tryAcquire("api")).allowed, true);
    } finally {
      if (before === undefined) delete process.env["RATE_SYNC_CONFIG"];
      else process.env["RATE_SYNC_CONFIG"] = before;
    }
  });
});

test("close() is idempotent, and the next use opens everything again [LIM-18]", async () => {
  const { rateSync } = setUp();
  await rateSync.close();
  rateSync.configureLimiter("l", { ratePerSecond: 1 });
  const before = rateSync.getLimiter("l");
  await rateSync.acquire("l");
  await rateSync.close();
  await rateSync.close();
  assertEquals(rateSync.listLimiters()["l"]?.initialized, false);
  assertNotEquals(rateSync.getLimiter("l"), before);
  // The memory of a store that was closed is gone.
  assertEquals((await rateSync.tryAcquire("l")).allowed, true);
  await using disposable = rateSync;
  assertEquals(disposable, rateSync);
});

test("close() answers those who wait, with a reason of its own, and leaves no timer behind [LIM-18]", async () => {
  const { clock, rateSync } = setUp();
  rateSync.configureLimiter("rate", { ratePerSecond: 0.1, reserveAheadMs: 15_000 });
  rateSync.configureLimiter("permits", { maxConcurrent: 1 });
  await rateSync.acquire("rate");
  const permit = await rateSync.acquire("permits");
  const waiting = ["rate", "rate", "rate", "permits"].map((id) => rateSync.acquire(id));
  const reasons = Promise.all(waiting.map(async (call) => {
    const error = await assertRejects(() => call, RateLimiterAcquisitionError);
    return error.reason;
  }));
  await clock.advance(10);
  await rateSync.close();
  assertEquals(await reasons, ["closed", "closed", "closed", "closed"]);
  await permit.release();
  await clock.advance(50);
  assertEquals(clock.sleepers, 0);
});

test("getClock() says whose time a limiter goes by, and how exactly it is known [TB-12]", () => {
  const { clock, rateSync } = setUp();
  const now = clock.now();
  const ahead: Clock = { now: () => clock.now() + 500, sleep: clock.sleep };
  const { kv } = memoryStore(clock);
  rateSync.configureStore("shared", { kv });
  rateSync.configureStore("timed", { kv, clock: ahead });
  rateSync.configureStore("nats", { engine: "nats", url: "nats://localhost:1" });
  rateSync.configureStore("local", { engine: "nats", url: "nats://localhost:1", clock: "local", timingMarginMs: 25 });
  const clockOf = (store?: string) => {
    const id = store ?? "alone";
    rateSync.configureLimiter(id, { ...(store === undefined ? {} : { store }), ratePerSecond: 1 });
    const reading = rateSync.getLimiter(id).getClock();
    assert(Object.isFrozen(reading));
    assertEquals(rateSync.getLimiter(id).key("k").getClock(), reading);
    return reading;
  };
  const measuredAt = null;
  assertEquals(clockOf(), { source: "host", now, offsetMs: 0, errorMs: 0, measuredAt });
  // Other hosts may share it, and their clocks are believed to agree as far as the timing margin says.
  assertEquals(clockOf("shared"), { source: "host", now, offsetMs: 0, errorMs: 10, measuredAt });
  assertEquals(clockOf("timed"), { source: "custom", now: now + 500, offsetMs: 500, errorMs: 0, measuredAt });
  assertEquals(clockOf("local"), { source: "host", now, offsetMs: 0, errorMs: 25, measuredAt });
  assertEquals(clockOf("nats"), { source: "server", now, offsetMs: 0, errorMs: Infinity, measuredAt });
});
