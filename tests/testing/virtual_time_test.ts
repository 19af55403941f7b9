import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { test } from "node:test";
import {
  acquire,
  close,
  configureLimiter,
  configureStore,
  createRateSync,
  getLimiter,
  InvalidArgumentError,
  rateLimited,
  RateLimiterAcquisitionError,
  RateLimiterError,
  StoreNotFoundError,
  tryAcquire,
} from "../../mod.ts";
import { resetLimiter, useVirtualTime } from "../../src/testing/mod.ts";
import { logBook } from "../support/log_book.ts";

const NOWHERE = { engine: "nats", url: "nats://127.0.0.1:1" } as const;

test("code that calls acquire() of the module runs in virtual time, as it is, without its server [TST-5]", async () => {
  configureStore("virtual-time", NOWHERE);
  configureLimiter("virtual-time", { store: "virtual-time", ratePerSecond: 1 / 60, onFailure: "closed" });
  const limiter = getLimiter("virtual-time");
  const send = rateLimited("virtual-time", (to: string) => `sent to ${to}`);
  const codeUnderTest = async () => {
    await acquire("virtual-time");
    await limiter.acquire();
    return await send("alice");
  };
  for (let turn = 0; turn < 2; turn++) {
    await using time = await useVirtualTime();
    const begun = time.now();
    assertEquals(await time.runUntil(codeUnderTest()), "sent to alice");
    assertEquals(time.now() - begun, 120_000);
    assertEquals(limiter.getMetrics().totalAcquisitions, 3);
    assertEquals(time.kv("virtual-time").sent.compareAndSet, 3);
  }
  await close();
});

test("useVirtualTime() closes what was open, and in the end everything is as before [TST-5]", async () => {
  const rateSync = createRateSync({ logger: logBook() });
  rateSync.configureLimiter("slow", { ratePerSecond: 0.001 });
  rateSync.configureLimiter("busy", { maxConcurrent: 1 });
  await rateSync.acquire("slow");
  const held = await rateSync.acquire("busy");
  const waiting = assertRejects(() => rateSync.acquire("busy"), RateLimiterAcquisitionError, "closed");
  const before = Date.now();
  {
    await using time = await useVirtualTime({ rateSync, start: 5_000 });
    await waiting;
    assertEquals(time.now(), 5_000);
    assertEquals([held.lost, rateSync.getLimiter("slow").initialized], [true, false]);
    assertEquals((await rateSync.tryAcquire("slow")).allowed, true);
    assertEquals((await rateSync.tryAcquire("slow")).allowed, false);
    const permit = await rateSync.acquire("busy");
    await held.release();
    assertEquals((await rateSync.tryAcquire("busy")).allowed, false);
    await permit.release();
    // Configured meanwhile, it lives in this time too, and after it.
    rateSync.configureLimiter("later", { ratePerSecond: 0.001 });
    await rateSync.acquire("later");
    assertEquals(rateSync.getLimiter("later").getMetrics().lastAcquisitionAt, 5);
    const late = assertRejects(() => rateSync.acquire("later"), RateLimiterAcquisitionError, "closed");
    await time[Symbol.asyncDispose]();
    await time[Symbol.asyncDispose]();
    await late;
  }
  for (const id of ["slow", "busy", "later"]) await rateSync.acquire(id);
  const { lastAcquisitionAt } = rateSync.getLimiter("later").getMetrics();
  assert(lastAcquisitionAt !== null && lastAcquisitionAt * 1_000 >= before - 1, `${lastAcquisitionAt}`);
  await rateSync.close();
});

test("useVirtualTime() lets the store of the code go wrong [TST-5]", async () => {
  const rateSync = createRateSync({ logger: logBook() });
  rateSync.configureStore("nats", NOWHERE);
  rateSync.configureLimiter("login", { store: "nats", ratePerSecond: 1, failClosed: true, backendTimeoutMs: 500 });
  rateSync.configureLimiter("search", { store: "nats", ratePerSecond: 1, backendTimeoutMs: 500 });
  await using time = await useVirtualTime({ rateSync });
  time.kv("nats").isDown = true;
  const begun = time.now();
  const refused = assertRejects(() => rateSync.acquire("login"), RateLimiterAcquisitionError, "fails closed");
  const permit = await time.runUntil(rateSync.acquire("search"));
  await time.runUntil(refused);
  assertEquals([permit.degraded, time.now() - begun], [true, 500]);
  time.kv("nats").isDown = false;
  assertEquals((await time.runUntil(rateSync.acquire("search"))).degraded, false);
});

test("useVirtualTime() ends also while the store is down and permits are held [TST-5]", async () => {
  const rateSync = createRateSync({ logger: logBook() });
  rateSync.configureLimiter("busy", { maxConcurrent: 1 });
  {
    await using time = await useVirtualTime({ rateSync });
    const permit = await rateSync.acquire("busy");
    time.kv("memory").isDown = true;
    time.kv("memory").latencyMs = 50;
    void permit.release();
    void rateSync.tryAcquire("busy").catch(() => {});
  }
  await rateSync.acquire("busy");
  await rateSync.close();
});

test("useVirtualTime() ends the waits in the limiter that counts in place of a store that is down [TST-5]", async () => {
  const rateSync = createRateSync({ logger: logBook() });
  rateSync.configureStore("down", NOWHERE);
  rateSync.configureLimiter("local", { store: "down", maxConcurrent: 1, onFailure: "local" });
  const time = await useVirtualTime({ rateSync });
  time.kv("down").isDown = true;
  const held = await time.runUntil(rateSync.acquire("local"));
  const waiting = assertRejects(() => rateSync.acquire("local"), RateLimiterAcquisitionError, "closed");
  await time.advance(10_000);
  await time[Symbol.asyncDispose]();
  await waiting;
  assertEquals([held.degraded, held.lost], [true, true]);
  await rateSync.close();
});

test("resets work in virtual time [TST-1, TST-5]", async () => {
  const rateSync = createRateSync();
  rateSync.configureLimiter("daily", { ratePerSecond: 1 / 86_400 });
  await using time = await useVirtualTime({ rateSync });
  time.kv("memory").latencyMs = 10;
  await time.runUntil(rateSync.acquire("daily"));
  const waiting = rateSync.acquire("daily");
  const begun = time.now();
  await time.runUntil(resetLimiter("daily", { rateSync }));
  await time.runUntil(waiting);
  assert(time.now() - begun < 100);
});

test("useVirtualTime() is for one test at a time, of each registry", async () => {
  const rateSync = createRateSync();
  const other = createRateSync();
  {
    await using _time = await useVirtualTime({ rateSync });
    await assertRejects(() => useVirtualTime({ rateSync }), RateLimiterError, "virtual time already");
    await using _other = await useVirtualTime({ rateSync: other });
  }
  await using time = await useVirtualTime({ rateSync });
  assertThrows(() => time.kv("nats"), StoreNotFoundError);
});

test("the keys of a limiter live in virtual time too [TST-5]", async () => {
  configureLimiter("virtual-keys", { ratePerSecond: 0.001 });
  const alice = getLimiter("virtual-keys").key("alice");
  await alice.acquire();
  {
    await using time = await useVirtualTime();
    assertEquals((await alice.tryAcquire()).allowed, true);
    assertEquals((await tryAcquire("virtual-keys", { key: "alice" })).allowed, false);
    await time.advance(1_000_000);
    assertEquals((await tryAcquire("virtual-keys", { key: "alice" })).allowed, true);
  }
  assertEquals((await alice.tryAcquire()).allowed, true);
  await close();
});

test("a virtual time that cannot begin does not keep the next one from it", async () => {
  const rateSync = createRateSync();
  await assertRejects(() => useVirtualTime({ rateSync, start: NaN }), InvalidArgumentError);
  await using time = await useVirtualTime({ rateSync });
  assert(time.now() > 0);
});
