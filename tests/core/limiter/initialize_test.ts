import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { test } from "node:test";
import { memoryStore } from "../../../src/adapters/memory.ts";
import { RateLimiterAcquisitionError } from "../../../src/core/errors.ts";
import { createSimulation, LIMITER_ID } from "../../support/simulated_process.ts";

const closed = { ratePerSecond: 0.001, failClosed: true } as const;

test("initialize() finds out with one write and one read whether both are possible, and changes nothing [LIM-9]", async () => {
  const { server, start, run } = createSimulation();
  const { limiter, link } = start(closed, { latencyMs: 5 });
  await run(Promise.all([limiter.initialize(), limiter.initialize()]));
  await run(limiter.initialize());
  assertEquals([link.sent.compareAndSet, link.sent.get, link.sent.total], [1, 1, 2]);
  assertEquals(server.text(LIMITER_ID), undefined);
  await run(limiter.key("alice").initialize());
  assertEquals(link.sent.total, 2);
});

for (const operation of ["get", "compareAndSet"] as const) {
  for (const kind of ["refused", "error", "request_lost"] as const) {
    test(`initialize() hears that a ${operation} fails (${kind}), and again until it does not [LIM-9, FAIL-2]`, async () => {
      const { clock, start, run } = createSimulation();
      const { limiter, link, warnings } = start(closed);
      const open = start({ ratePerSecond: 1 });
      for (const each of [link, open.link]) {
        each.setFaults((message) => message.operation === operation ? { kind } : undefined);
      }
      const begun = clock.now();
      for (let i = 0; i < 2; i++) {
        const error = await assertRejects(() => run(limiter.initialize()), RateLimiterAcquisitionError);
        assertEquals(error.reason, "backend");
      }
      assertEquals(clock.now() - begun <= 2 * 2_000, true);
      assertEquals(warnings.length, 1);
      await run(open.limiter.initialize());
      assertMatch(open.warnings[0] ?? "", /requests are admitted without a limit/);
      for (const each of [link, open.link]) each.setFaults(() => undefined);
      await run(limiter.initialize());
      await run(open.limiter.initialize());
    });
  }
}

test("what initialize() reads need not be read again [LIM-9]", async () => {
  const { start, run } = createSimulation();
  const first = start({ ratePerSecond: 1, burst: 2 });
  await run(first.limiter.acquire());
  const { limiter, link } = start({ ratePerSecond: 1, burst: 2 });
  await run(limiter.initialize());
  const before = link.sent;
  await run(limiter.acquire());
  assertEquals([link.sent.get - before.get, link.sent.compareAndSet - before.compareAndSet], [0, 1]);
});

test("initialize() takes a damaged value for used up, and one of a newer version for a store that is down [LIM-9, FAIL-2]", async () => {
  const { server, start, run } = createSimulation();
  server.put(LIMITER_ID, "garbage");
  const damaged = start(closed);
  await run(damaged.limiter.initialize());
  assertEquals((await run(damaged.limiter.tryAcquire())).allowed, false);
  const newer = JSON.stringify({ v: 999 });
  server.put(LIMITER_ID, newer);
  const { limiter } = start(closed);
  const error = await assertRejects(() => run(limiter.initialize()), RateLimiterAcquisitionError);
  assertStringIncludes(error.message, "version 999");
  assertEquals(server.text(LIMITER_ID), newer);
});

test("initialize() says so if a store writes without comparing [LIM-9]", async () => {
  const { start, run } = createSimulation();
  const { limiter, link } = start(closed);
  const { compareAndSet } = link;
  link.compareAndSet = (key, value) => compareAndSet(key, value, 0);
  const error = await assertRejects(() => run(limiter.initialize()), RateLimiterAcquisitionError);
  assertStringIncludes(error.message, "no limit would hold");
});

test("initialize() asks nothing of a store in memory, where nothing can be wrong [LIM-9]", async () => {
  const { clock, start, run } = createSimulation();
  const store = memoryStore(clock);
  let asked = 0;
  const ask = () => Promise.reject(new Error(`asked ${++asked} times`));
  // It still lends: that is up to the object.
  Object.assign(store.kv, { get: ask, compareAndSet: ask });
  const { limiter } = start(closed, { store });
  await run(limiter.initialize());
  assertEquals(asked, 0);
});
