import { assertEquals, assertStringIncludes } from "@std/assert";
import { test } from "node:test";
import { createSimulation } from "../../support/simulated_process.ts";

const LATENCY_MS = 15;

/** What the log says after five callers have wanted permits and slots for a minute and a half. */
async function warningsWith(
  leaseMs: number,
  limitsRate = true,
): Promise<readonly string[]> {
  const { clock, start, run } = createSimulation();
  const permits = { maxConcurrent: 2, leaseMs, onFailure: "closed" } as const;
  const { limiter, warnings } = start(limitsRate ? { ...permits, ratePerSecond: 10 } : permits, {
    latencyMs: LATENCY_MS,
  });
  const until = clock.now() + 90_000;
  const callers = Array.from({ length: 5 }, async () => {
    while (clock.now() < until) {
      const result = await limiter.tryAcquire({ timeoutMs: 5_000 });
      await clock.sleep(5);
      if (result.allowed) await result.release();
    }
  });
  await run(Promise.all(callers), 200_000);
  return warnings;
}

test("a lease that is too short for its store is reported once a minute, and one that is long enough is not [LOG-1]", async () => {
  const warnings = await warningsWith(40);
  assertEquals(warnings.length, 2);
  for (const warning of warnings) {
    assertStringIncludes(
      warning,
      "Limiter 'api': permits are lost before they are renewed: the lease of 40 ms is too short",
    );
    assertStringIncludes(warning, "the store takes 15 ms to answer");
  }
  const enough = Number(/at least (\d+) ms/.exec(warnings[0] ?? "")?.[1]);
  assertEquals(await warningsWith(enough), []);
});

test("a lease that is over before the store has answered is reported too, although nobody ever holds a permit [LOG-1]", async () => {
  const warnings = await warningsWith(LATENCY_MS - 5, false);
  assertEquals(warnings.length, 2);
  for (const warning of warnings) assertStringIncludes(warning, "the lease of 10 ms is too short");
});
