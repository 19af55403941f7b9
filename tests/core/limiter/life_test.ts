import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { memoryStore } from "../../../src/adapters/memory.ts";
import { Meter } from "../../../src/core/cell/metrics.ts";
import { resolveLimiter } from "../../../src/core/limiter/defaults.ts";
import { Life } from "../../../src/core/limiter/life.ts";
import { createShared } from "../../../src/core/limiter/shared.ts";
import { createVirtualClock } from "../../../src/testing/virtual_clock.ts";
import { limiterContext } from "../../support/limiter_context.ts";

test("a permit that the local limiter has lost before its caller gets it is held by nobody [MET-3, LIM-17]", () => {
  const clock = createVirtualClock();
  const config = resolveLimiter("api", { maxConcurrent: 1, onFailure: "local" });
  const store = memoryStore(clock);
  const shared = createShared(config, limiterContext(config, { name: "p", store, localClock: clock, random: () => 0 }));
  const meter = new Meter();
  const owner = {
    id: "api",
    name: undefined,
    rested() {},
    get life(): Life {
      return life;
    },
  };
  const life = new Life(shared, owner, { meter, knowledge: undefined });
  const lease = life.leaseInPlace({ lost: true, signal: AbortSignal.abort("lost"), release: () => Promise.resolve() });
  assertEquals([lease?.lost, life.idle, meter.snapshot().currentConcurrent], [true, true, 0]);
});
