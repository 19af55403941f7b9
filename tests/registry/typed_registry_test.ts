import { assertEquals, assertInstanceOf, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import process from "node:process";
import { test } from "node:test";
import { memoryKv } from "../../src/adapters/memory.ts";
import {
  ConfigValidationError,
  LimiterNotFoundError,
  RateLimiterAlreadyConfiguredError,
  StoreNotFoundError,
} from "../../src/core/errors.ts";
import type { Kv } from "../../src/core/store/kv.ts";
import { createRateSync, type RateSync, type RateSyncOptions } from "../../src/registry/registry.ts";
import { createVirtualClock } from "../../src/testing/virtual_clock.ts";

/** What untyped code may give. */
function untyped(settings: unknown): RateSync {
  return createRateSync(settings as RateSyncOptions); // on purpose
}

test("createRateSync() configures its stores and limiters as configureStore() and configureLimiter() do [LIM-1]", async () => {
  const clock = createVirtualClock();
  const kv = memoryKv(clock);
  const options = { store: "shared", ratePerSecond: 2, burst: 3, timeoutMs: 500 } as const;
  const rateSync = createRateSync({ clock, stores: { shared: { kv, clock } }, limiters: { api: options } });
  const other = createRateSync({ clock });
  other.configureStore("shared", { kv, clock });
  other.configureLimiter("api", options);
  assertEquals(rateSync.getLimiter("api").getConfig(), other.getLimiter("api").getConfig());
  assertEquals(rateSync.listStores(), other.listStores());
  for (const remaining of [2, 1, 0]) assertEquals((await rateSync.tryAcquire("api")).remaining, remaining);
  assertEquals((await other.tryAcquire("api")).allowed, false);
});

test("createRateSync() opens nothing [LIM-8]", async () => {
  let calls = 0;
  const count = () => Promise.reject(new Error(`call ${++calls}`));
  const kv: Kv = { get: count, compareAndSet: count, delete: count, keys: () => (async function* () {})() };
  const rateSync = createRateSync({ stores: { own: { kv } }, limiters: { api: { store: "own", ratePerSecond: 1 } } });
  assertEquals(rateSync.listLimiters()["api"]?.initialized, false);
  assertEquals(calls, 0);
  await rateSync.close();
});

test("the order of limiters and of stores does not matter, and a limiter without a store uses the memory [LIM-1]", async () => {
  const rateSync = createRateSync({
    limiters: { api: { ratePerSecond: 1 }, other: { store: "late", maxConcurrent: 1 } },
    stores: { late: { engine: "memory" } },
  });
  assertEquals([...Object.keys(rateSync.listStores())].sort(), ["late", "memory"]);
  assertEquals((await rateSync.tryAcquire("other")).allowed, true);
  await rateSync.close();
});

test("what is configured at creation is configured: again the same is nothing, and another needs replace [LIM-7, STO-8]", () => {
  const rateSync = createRateSync({
    stores: { shared: { engine: "memory" } },
    limiters: { api: { store: "shared", ratePerSecond: 1 } },
  });
  rateSync.configureLimiter("api", { store: "shared", ratePerSecond: 1 });
  assertThrows(
    () => rateSync.configureLimiter("api", { store: "shared", ratePerSecond: 2 }),
    RateLimiterAlreadyConfiguredError,
  );
  rateSync.configureLimiter("api", { store: "shared", ratePerSecond: 2, replace: true });
  assertEquals(rateSync.getLimiter("api").getConfig().ratePerSecond, 2);
});

test("a limiter that names a store that is not there is refused, and nobody gets the registry [LIM-1]", () => {
  const settings = {
    stores: { shared: { engine: "memory" } },
    limiters: { api: { store: "shred", ratePerSecond: 1 } },
  };
  const error = assertThrows(() => untyped(settings), StoreNotFoundError);
  assertEquals(error.storeId, "shred");
  assertStringIncludes(error.message, "shared");
});

for (
  const [what, settings, field] of [
    ["a limiter of nothing", { limiters: { api: {} } }, "limiters.api.ratePerSecond"],
    ["a misspelt option", { limiters: { ok: { maxConcurrent: 1 }, api: { ratePerSecnd: 1 } } }, "limiters.api"],
    ["a store without its URL", { stores: { s: { engine: "nats" } } }, "stores.s.url"],
    ["a URL that is none", { stores: { s: { engine: "nats", url: "http://h" } } }, "stores.s.url"],
    ["a limiter that is no object", { limiters: { api: 5 } }, "limiters.api"],
    ["an id that is empty", { limiters: { "": { ratePerSecond: 1 } } }, "limiters"],
    ["limiters that are a list", { limiters: [{ ratePerSecond: 1 }] }, "limiters"],
    ["stores that are text", { stores: "memory" }, "stores"],
    ["stores that are null", { stores: null }, "stores"],
  ] as const
) {
  test(`createRateSync() refuses ${what} with the error of configureStore() and configureLimiter() [CFG-14, LIM-2, ERR-1]`, () => {
    const error = assertThrows(() => untyped(settings), ConfigValidationError);
    assertInstanceOf(error, ConfigValidationError);
    assertStringIncludes(error.field, field);
  });
}

test("names that mean something to JavaScript are no limiters of a registry [LIM-8]", async () => {
  const open: RateSync = createRateSync({ limiters: { api: { ratePerSecond: 1 } } });
  for (const id of ["toString", "__proto__", "constructor"]) {
    await assertRejects(() => open.acquire(id), LimiterNotFoundError);
  }
});

test("the open type of a typed registry finds what was added at run time [LIM-8, CLN-1]", async () => {
  const rateSync = createRateSync({ limiters: { api: { ratePerSecond: 1 } } });
  rateSync.cloneLimiter("api", "api:premium", { ratePerSecond: 500 });
  const open: RateSync = rateSync;
  assertEquals((await open.tryAcquire("api:premium")).allowed, true);
  assertEquals(open.getLimiter("api"), rateSync.getLimiter("api"));
});

test("what was configured at creation is enough: no file is looked for [CFG-1, CFG-2]", async () => {
  const lines: string[] = [];
  const write = (message: string) => void lines.push(message);
  const logger = { info() {}, warn: write, error: write };
  const before = process.env["RATE_SYNC_CONFIG"];
  process.env["RATE_SYNC_CONFIG"] = "/no/such/rate-sync.toml"; // who looks for it warns
  try {
    const made = createRateSync({ autoLoad: true, logger, limiters: { api: { ratePerSecond: 1 } } });
    assertEquals((await made.tryAcquire("api")).allowed, true);
    const stored = createRateSync({ autoLoad: true, logger, stores: { main: { engine: "memory" } } });
    assertEquals(Object.keys(stored.listStores()), ["main"]);
    assertEquals(lines, []);
    assertEquals(createRateSync({ autoLoad: true, logger }).listLimiters(), {});
    assertEquals(lines.length, 1);
  } finally {
    if (before === undefined) delete process.env["RATE_SYNC_CONFIG"];
    else process.env["RATE_SYNC_CONFIG"] = before;
  }
});
