import { assert, assertEquals } from "@std/assert";
import { test } from "node:test";
import { createLimiter, memoryStore } from "../../../src/entries/memory.ts";
import { createVirtualClock } from "../../../src/testing/virtual_clock.ts";

test("further rates hold beside the limiter's own limit: per window, with their bursts, 1 by default [CMB-1]", async () => {
  const clock = createVirtualClock();
  for (const [burst, most] of [[undefined, 1], [3, 3]] as const) {
    const limiter = createLimiter("api", memoryStore(clock), {
      ratePerSecond: 1_000,
      burst: 100,
      rates: [
        { limit: 600, windowMs: 60_000, algorithm: "token_bucket", ...(burst === undefined ? {} : { burst }) },
        { limit: 5, windowMs: 60_000, algorithm: "sliding_window" },
      ],
    });
    for (let i = 0; i < most; i++) assertEquals(limiter.tryAcquireSync().allowed, true);
    const refused = limiter.tryAcquireSync();
    assert(!refused.allowed);
    assertEquals([refused.rule, refused.retryAfterMs], [`10/s, burst ${most}`, 100]);
    for (let i = most; i < 5; i++) {
      await clock.advance(100);
      assertEquals(limiter.tryAcquireSync().allowed, true);
    }
    await clock.advance(1_000);
    const full = limiter.tryAcquireSync();
    assert(!full.allowed);
    assertEquals(full.rule, "5 in any 60 s");
  }
});
