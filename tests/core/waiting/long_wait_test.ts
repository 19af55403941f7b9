import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { memoryStore } from "../../../src/adapters/memory.ts";
import { createSimulation } from "../../support/simulated_process.ts";

const two = { maxConcurrent: 2, leaseMs: 10_000 } as const;

for (const place of ["in memory", "in a shared store"] as const) {
  test(`a caller that waits for a forgotten permit is reported after 30 s, and then once a minute, ${place} [LOG-1, LOG-2]`, async () => {
    const { clock, start, run } = createSimulation();
    const store = place === "in memory" ? { store: memoryStore(clock) } : {};
    const { limiter, warnings } = start(two, store);
    for (let i = 0; i < 2; i++) await run(limiter.acquire({ key: "alice@example.com" }));
    const begun = clock.now();
    const waiting = ["alice@example.com", "alice@example.com"].map((key) => limiter.acquire({ key }));
    await clock.advance(29_999);
    assertEquals(warnings, []);
    const timers = clock.sleepers;
    while (warnings.length === 0) await clock.advance(10);
    assertEquals(clock.now() - begun <= 31_000, true);
    // It takes no timer of its own. Those for the answers of a shared store come and go.
    if (place === "in memory") assertEquals(clock.sleepers, timers);
    assertEquals(warnings, [
      "Limiter 'api': a caller has waited for a permit for 30 s (2 in line here). This process holds 2 of 2 permits. " +
      "If they are no longer in use, somebody has forgotten to release them: use 'await using', or release().",
    ]);
    // Another key does not make it more.
    for (let i = 0; i < 3; i++) waiting.push(limiter.acquire({ key: "bob" }));
    await clock.advance(58_000);
    assertEquals(warnings.length, 1);
    await clock.advance(600_000);
    assertEquals([warnings.length >= 10, warnings.length <= 11], [true, true]);
    assertEquals(warnings.filter((line) => /alice|bob/.test(line)), []);
    await run(Promise.all([limiter.close(), ...waiting.map((each) => each.catch(() => {}))]));
  });
}

test("a caller that waits for permits of others is told that they are, and one that waits for its time is not reported [LOG-1]", async () => {
  const { clock, start, run } = createSimulation();
  const holder = start({ ...two, maxConcurrent: 1 });
  const permit = await run(holder.limiter.acquire());
  const { limiter, warnings } = start({ ...two, maxConcurrent: 1 });
  const waiting = limiter.acquire();
  await clock.advance(32_000);
  assertEquals(warnings, [
    "Limiter 'api': a caller has waited for a permit for 30 s (1 in line here). This process holds 0 of 1 permits.",
  ]);
  await run(permit.release());
  await run((await run(waiting)).release());
  assertEquals([warnings.length, holder.warnings], [1, []]);

  const slow = start({ ratePerSecond: 0.01, maxConcurrent: 1, leaseMs: 1_000 }, { store: memoryStore(clock) });
  await run((await run(slow.limiter.acquire())).release());
  await run(slow.limiter.acquire());
  assertEquals(slow.warnings, []);
});
