import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { RateLimiterAcquisitionError } from "../../../src/core/errors.ts";
import { createSimulation } from "../../support/simulated_process.ts";

const NET = { latencyMs: 2 };

/** How a call ends. */
function endOf(call: Promise<unknown>): Promise<string> {
  return call.then(() => "served", (error) => {
    if (error instanceof RateLimiterAcquisitionError) return error.reason;
    throw error;
  });
}

test("who comes behind a caller that waits for much is told at once that its turn comes too late [TMO-6]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { ratePerSecond: 1, burst: 5 };
  await run(start(options).limiter.acquire({ cost: 5 }));
  const { limiter } = start(options, NET);
  const begun = clock.now();
  const timeOf = async (call: Promise<unknown>) => [await endOf(call), Math.round((clock.now() - begun) / 1_000)];
  const calls = [
    limiter.acquire({ cost: 5 }),
    limiter.acquire({ timeoutMs: 5_500 }),
    limiter.acquire({ timeoutMs: 6_500 }),
  ].map(timeOf);
  assertEquals(await run(Promise.all(calls)), [["served", 5], ["timeout", 0], ["served", 6]]);
});
