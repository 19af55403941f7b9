// What the hot path costs, in work that can be counted on any machine: messages, writes, timers, and turns of the microtask
// queue, which every await and every promise that follows another one takes.
import { assertEquals, assertGreaterOrEqual, assertLessOrEqual, assertStrictEquals } from "@std/assert";
import { test } from "node:test";
import { memoryStore } from "../../src/adapters/memory.ts";
import type { Clock } from "../../src/core/clock.ts";
import type { Kv } from "../../src/core/store/kv.ts";
import { createRateSync, type RateSync } from "../../src/registry/registry.ts";
import { resetLimiter } from "../../src/testing/mod.ts";
import { createVirtualClock } from "../../src/testing/virtual_clock.ts";
import { createSimulation } from "../support/simulated_process.ts";

interface Counted {
  readonly rateSync: RateSync;
  /** So often was the store asked, written, and a timer started. */
  readonly counts: { reads: number; writes: number; timers: number };
}

/** A limiter that is never full, and one that is, in a memory store that counts what is asked of it. */
async function counted(): Promise<Counted> {
  const clock = createVirtualClock(); // a machine that stands still for a moment would cost more
  const { kv } = memoryStore(clock);
  const counts = { reads: 0, writes: 0, timers: 0 };
  const countingKv: Kv = {
    ...kv,
    get(key) {
      counts.reads++;
      return kv.get(key);
    },
    compareAndSet(key, value, expected, ttlMs) {
      counts.writes++;
      return kv.compareAndSet(key, value, expected, ttlMs);
    },
  };
  const countingClock: Clock = {
    now: clock.now,
    sleep(ms, signal, isBackground) {
      counts.timers++;
      return clock.sleep(ms, signal, isBackground);
    },
  };
  const rateSync = createRateSync();
  rateSync.configureStore("counting", { kv: countingKv, clock: countingClock });
  rateSync.configureLimiter("wide", { store: "counting", ratePerSecond: 1e6, burst: 1e6 });
  rateSync.configureLimiter("full", { store: "counting", ratePerSecond: 1e-3 });
  // The first request opens the store, and the first one of a key finds out what stands there.
  for (const key of [undefined, "user"]) {
    for (let i = 0; i < 3; i++) {
      await rateSync.tryAcquire("wide", { key });
      await rateSync.tryAcquire("full", { key });
    }
  }
  Object.assign(counts, { reads: 0, writes: 0, timers: 0 });
  return { rateSync, counts };
}

/** After how many turns of the microtask queue it is settled. */
async function turnsOf(promise: Promise<unknown>): Promise<number> {
  let isSettled = false;
  let turns = 0;
  promise.then(() => isSettled = true);
  for (; !isSettled; turns++) await null;
  return turns;
}

for (const key of [undefined, "user"]) {
  const of = key === undefined ? "" : " of a key";
  test(`a grant${of} is one write, no read and no timer, within 15 turns of the microtask queue [TB-11]`, async () => {
    const { rateSync, counts } = await counted();
    for (let i = 1; i <= 20; i++) {
      assertLessOrEqual(await turnsOf(rateSync.tryAcquire("wide", { key })), 15);
      assertEquals(counts, { reads: 0, writes: 2 * i - 1, timers: 0 });
      assertLessOrEqual(await turnsOf(rateSync.acquire("wide", { key })), 15);
      assertEquals(counts, { reads: 0, writes: 2 * i, timers: 0 });
    }
  });

  test(`a certain refusal${of} is no message and no timer, within 1 turn of the microtask queue [TB-11]`, async () => {
    const { rateSync, counts } = await counted();
    for (let i = 0; i < 20; i++) {
      assertLessOrEqual(await turnsOf(rateSync.tryAcquire("full", { key })), 1);
    }
    assertEquals(counts, { reads: 0, writes: 0, timers: 0 });
  });
}

for (const store of ["memory", "of one's own"]) {
  test(`refusals of one millisecond are one answer, each is counted, and none outlives what it goes by, with a store ${store} [CHK-1]`, async () => {
    const clock = createVirtualClock();
    const { kv } = memoryStore(clock);
    const rateSync = createRateSync({ clock });
    rateSync.configureStore("shared", store === "memory" ? { engine: "memory" } : { kv: { ...kv }, clock });
    rateSync.configureLimiter("slow", { store: "shared", ratePerSecond: 1, burst: 2 });
    rateSync.configureLimiter("fast", { store: "shared", ratePerSecond: 2_000 });
    rateSync.configureLimiter("never", { store: "shared", ratePerSecond: 1e-6 });
    const { tryAcquire } = rateSync;
    const slow = rateSync.getLimiter("slow");

    await slow.acquire({ cost: 2 });
    const refused = await slow.tryAcquire();
    assertEquals([refused.allowed, refused.retryAfterMs], [false, 1_000]);
    await clock.advance(0.875);
    assertStrictEquals(await slow.tryAcquire({ cost: 1 }), refused);
    assertStrictEquals(slow.tryAcquireSync(), refused);
    assertEquals((await slow.tryAcquire({ cost: 2 })).retryAfterMs, 1_999.125);
    assertEquals((await slow.tryAcquire()).retryAfterMs, 999.125);
    await clock.advance(1);
    assertEquals((await slow.tryAcquire()).retryAfterMs, 998.125);
    assertEquals(slow.getMetrics().timeouts, 6);

    // A slot that comes sooner.
    await tryAcquire("fast");
    assertEquals((await tryAcquire("fast")).allowed, false);
    await clock.advance(0.5);
    assertEquals((await tryAcquire("fast")).allowed, true);

    // One that is given back.
    await clock.advance(2_000);
    await tryAcquire("never");
    const taken = await slow.tryAcquire();
    const both = rateSync.checkMultiLimiters(["slow", "never"]);
    const meanwhile = slow.tryAcquire();
    assertEquals([taken.allowed, (await meanwhile).allowed, (await both).allowed], [true, false, false]);
    assertEquals((await slow.tryAcquire()).allowed, true);

    // Everything is as new.
    assertEquals((await slow.tryAcquire()).allowed, false);
    await resetLimiter("slow", { rateSync });
    assertEquals((await slow.tryAcquire()).allowed, true);
  });
}

test("a refusal that was decided before others were let in does not stand for those who come behind them [CHK-1]", async () => {
  const clock = createVirtualClock();
  const rateSync = createRateSync({ clock });
  rateSync.configureLimiter("slow", { ratePerSecond: 5, reserveAheadMs: 10 });
  await rateSync.tryAcquire("slow");
  const waiting = rateSync.acquire("slow");
  await clock.advance(1);
  const reset = resetLimiter("slow", { rateSync });
  const atOnce = [rateSync.tryAcquire("slow"), rateSync.tryAcquire("slow")];
  await reset;
  // One is served at once, and who waited is decided anew, behind it.
  const [served, refused] = await Promise.all(atOnce);
  assertEquals([served?.allowed, refused?.retryAfterMs], [true, 200]);
  assertEquals((await rateSync.tryAcquire("slow")).retryAfterMs, 400);
  await clock.runUntil(waiting);
});

test("a grant in memory is there within 1 turn of the microtask queue, and the clock is read once for it", async () => {
  const virtual = createVirtualClock();
  let readings = 0;
  const now = () => {
    readings++;
    return virtual.now();
  };
  const rateSync = createRateSync({ clock: { ...virtual, now } });
  rateSync.configureLimiter("near", { ratePerSecond: 1e6, burst: 1e6 });
  for (const key of [undefined, "user"]) {
    await rateSync.acquire("near", { key });
    for (const call of [rateSync.acquire, rateSync.tryAcquire]) {
      readings = 0;
      assertLessOrEqual(await turnsOf(call("near", { key })), 1);
      assertEquals(readings, 1);
    }
  }
});

test("1,000 callers at once are two writes, the first caller's and that of all who came meanwhile [TB-11]", async () => {
  const { rateSync, counts } = await counted();
  const results = await Promise.all(Array.from({ length: 1_000 }, () => rateSync.tryAcquire("wide")));
  assertEquals(results.filter(({ allowed }) => allowed).length, 1_000);
  assertEquals(counts.reads, 0);
  assertLessOrEqual(counts.writes, 2);
});

for (const [processes, served] of [[1, 25], [2, 30], [4, 45], [8, 75]] as const) {
  test(`${processes} x 25 callers on one key: a message serves 20 of them, and a write ${served} [TB-11]`, async () => {
    const { clock, start, run } = createSimulation();
    const all = Array.from({ length: processes }, () => {
      return start({ ratePerSecond: 1e6, burst: 1e6, failClosed: true }, { latencyMs: 2 });
    });
    const messages = () => all.reduce((sum, { link, peers }) => sum + link.sent.total + peers.asked, 0);
    const writes = () => all.reduce((sum, { link }) => sum + link.sent.compareAndSet, 0);
    let count = 0;
    const rush = (ms: number) => {
      const until = clock.now() + ms;
      return run(Promise.all(all.flatMap(({ limiter }) =>
        Array.from({ length: 25 }, async () => {
          while (clock.now() < until) {
            await limiter.acquire();
            count++;
          }
        })
      )));
    };
    await rush(200); // until one of them writes for all
    const before = { count, messages: messages(), writes: writes() };
    await rush(400);
    assertGreaterOrEqual((count - before.count) / (messages() - before.messages), 20);
    assertGreaterOrEqual((count - before.count) / (writes() - before.writes), served);
  });
}

test("a writer answers the others together with its next write, so that both leave at once [TB-11]", async () => {
  const { clock, start, run } = createSimulation();
  const all = Array.from({ length: 4 }, () => {
    return start({ ratePerSecond: 1e6, burst: 1e6, failClosed: true }, { latencyMs: 2 });
  });
  let answers = 0;
  let together = 0;
  for (const { link, peers } of all) {
    const { compareAndSet } = link;
    const { serve } = peers;
    let unsent = 0;
    peers.serve = (address, receive) =>
      serve(address, (message, respond) =>
        receive(message, (answer) => {
          respond(answer);
          answers++;
          unsent++;
          // A client sends what it has at the end of a turn.
          void Promise.resolve().then(() => unsent = 0);
        }));
    link.compareAndSet = (...call) => {
      together += unsent;
      unsent = 0;
      return compareAndSet(...call);
    };
  }
  const until = clock.now() + 500;
  await run(Promise.all(all.flatMap(({ limiter }) =>
    Array.from({ length: 25 }, async () => {
      while (clock.now() < until) await limiter.acquire();
    })
  )));
  assertGreaterOrEqual(answers, 200);
  // Whoever lets another one write has nothing to write next.
  assertGreaterOrEqual(together / answers, 0.75);
});

test("answers that are late now and then cost a fast store's callers their slot once, and not every time [TB-11]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 1e6, burst: 1e6, failClosed: true }, { latencyMs: 1 });
  const { compareAndSet } = link;
  let writes = 0;
  link.compareAndSet = async (...call) => {
    const isLate = ++writes % 7 === 0;
    const answer = await compareAndSet(...call);
    if (isLate) await clock.sleep(12);
    return answer;
  };
  const until = clock.now() + 2_000;
  let calls = 0;
  let missed = 0;
  await run(Promise.all(Array.from({ length: 100 }, async () => {
    while (clock.now() < until) {
      const { waitedMs } = await limiter.acquire();
      calls++;
      // Longer than the answer took that was late.
      if (waitedMs > 1 + 12) missed++;
    }
  })));
  assertGreaterOrEqual(calls, 20_000);
  assertLessOrEqual(missed, 100);
});
