import {
  assert,
  assertEquals,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import * as front from "../../mod.ts";
import type { LimiterOverrides } from "../../src/registry/clone.ts";
import { memoryKv } from "../../src/adapters/memory.ts";
import {
  ConfigValidationError,
  InvalidArgumentError,
  LimiterNotFoundError,
  RateLimiterAcquisitionError,
  RateLimiterError,
  StoreNotFoundError,
} from "../../src/core/errors.ts";
import type { Kv } from "../../src/core/store/kv.ts";
import { createRateSync, type RateSync } from "../../src/registry/registry.ts";
import { createVirtualClock, type VirtualClock } from "../../src/testing/virtual_clock.ts";
import { logBook } from "../support/log_book.ts";

interface Bench {
  readonly clock: VirtualClock;
  readonly rateSync: RateSync;
  readonly kv: Kv;
  readonly lines: string[];
}

/** A registry with the store `shared`, whose keys can be listed. */
function setUp(): Bench {
  const clock = createVirtualClock();
  const logger = logBook();
  const rateSync = createRateSync({ clock, logger });
  const kv = memoryKv(clock);
  rateSync.configureStore("shared", { kv, clock });
  return { clock, rateSync, kv, lines: logger.lines };
}

async function keysOf(kv: Kv): Promise<string[]> {
  const keys: string[] = [];
  for await (const key of kv.keys()) keys.push(key);
  return keys.sort();
}

async function admits(rateSync: RateSync, id: string, key?: string): Promise<boolean> {
  return (await rateSync.tryAcquire(id, { key })).allowed;
}

// cloneLimiter()

test("cloneLimiter() copies every option, and the overrides replace some [CLN-1]", () => {
  const { rateSync } = setUp();
  const rates = [{ limit: 1_000, windowMs: 3_600_000 }];
  rateSync.configureLimiter("api", {
    store: "shared",
    ratePerSecond: 10,
    burst: 5,
    maxConcurrent: 3,
    leaseMs: 7_000,
    rates,
    timeoutMs: 500,
    failClosed: true,
    backendTimeoutMs: 900,
    reserveAheadMs: 100,
    prefetch: 0,
  });
  rateSync.cloneLimiter("api", "same");
  assertEquals(rateSync.getLimiter("same").getConfig(), { ...rateSync.getLimiter("api").getConfig(), id: "same" });
  rateSync.cloneLimiter("api", "api:premium", { ratePerSecond: 500, timeoutMs: undefined });
  assertEquals(rateSync.getLimiter("api:premium").getConfig(), {
    ...rateSync.getLimiter("api").getConfig(),
    id: "api:premium",
    ratePerSecond: 500,
  });
});

test("cloneLimiter() copies a sliding window [CLN-1]", () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("login", { algorithm: "sliding_window", limit: 5, windowMs: 1_000, maxConcurrent: 2 });
  rateSync.cloneLimiter("login", "strict", { limit: 1 });
  const { algorithm, limit, windowMs, maxConcurrent } = rateSync.getLimiter("strict").getConfig();
  assertEquals([algorithm, limit, windowMs, maxConcurrent], ["sliding_window", 1, 1_000, 2]);
});

test("a clone and its source share no state, and no metrics [CLN-1]", async () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("api", { store: "shared", ratePerSecond: 1 });
  rateSync.cloneLimiter("api", "other");
  assertEquals([await admits(rateSync, "api"), await admits(rateSync, "api")], [true, false]);
  assertEquals([await admits(rateSync, "other"), await admits(rateSync, "other")], [true, false]);
  rateSync.cloneLimiter("other", "third");
  assertEquals(rateSync.getLimiter("third").getMetrics().totalAcquisitions, 0);
  assert(await admits(rateSync, "third"));
});

test("cloneLimiter() on another store takes that store's defaults [CLN-1]", () => {
  const { rateSync } = setUp();
  rateSync.configureStore("nats", { engine: "nats", url: "nats://localhost:4222", backendTimeoutMs: 123 });
  rateSync.configureLimiter("api", { store: "shared", ratePerSecond: 1 });
  rateSync.cloneLimiter("api", "far", { store: "nats" });
  const { storeId, backendTimeoutMs } = rateSync.getLimiter("far").getConfig();
  assertEquals([storeId, backendTimeoutMs], ["nats", 123]);
  assertThrows(() => rateSync.cloneLimiter("api", "nowhere", { store: "none" }), StoreNotFoundError);
});

test("changing the source afterwards leaves its clone as it is [CLN-1]", () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("api", { ratePerSecond: 1 });
  rateSync.cloneLimiter("api", "other");
  rateSync.configureLimiter("api", { ratePerSecond: 2, replace: true });
  assertEquals(rateSync.getLimiter("other").getConfig().ratePerSecond, 1);
});

test("cloneLimiter() refuses an unknown source and names it [CLN-2]", () => {
  const { rateSync } = setUp();
  const error = assertThrows(() => rateSync.cloneLimiter("nobody", "new"), LimiterNotFoundError);
  assertEquals(error.limiterId, "nobody");
});

test("cloneLimiter() refuses a target that there is, whatever its values are, and changes nothing [CLN-2]", () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("api", { ratePerSecond: 1 });
  rateSync.configureLimiter("taken", { ratePerSecond: 1 });
  for (const target of ["taken", "api"]) {
    const error = assertThrows(
      () => rateSync.cloneLimiter("api", target, { ratePerSecond: 9 }),
      ConfigValidationError,
      `Limiter '${target}' already exists`,
    );
    assertEquals(error.field, `limiters.${target}`);
    assertEquals(rateSync.getLimiter(target).getConfig().ratePerSecond, 1);
  }
  assertThrows(() => rateSync.cloneLimiter("api", "taken"), ConfigValidationError);
});

test("cloneLimiter() clears what is overridden with null [CLN-3]", () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("api", { store: "shared", ratePerSecond: 1, maxConcurrent: 2, timeoutMs: 5, burst: 4 });
  rateSync.cloneLimiter("api", "a", { maxConcurrent: null, timeoutMs: null, burst: null });
  const a = rateSync.getLimiter("a").getConfig();
  assertEquals([a.ratePerSecond, a.maxConcurrent, a.timeoutMs, a.burst], [1, null, null, 1]);
  rateSync.cloneLimiter("api", "b", {
    algorithm: "sliding_window",
    ratePerSecond: null,
    burst: null,
    limit: 3,
    windowMs: 1_000,
  });
  const b = rateSync.getLimiter("b").getConfig();
  assertEquals([b.algorithm, b.ratePerSecond, b.limit, b.maxConcurrent], ["sliding_window", null, 3, 2]);
});

test("cloneLimiter() to the other algorithm names every option that stands in its way [CLN-3]", () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("rate", { ratePerSecond: 1, burst: 2, timeoutMs: 5 });
  rateSync.configureLimiter("window", { algorithm: "sliding_window", limit: 3, windowMs: 1_000, maxConcurrent: 2 });
  rateSync.configureLimiter("permits", { maxConcurrent: 2 });
  const window = { limit: 3, windowMs: 1_000 } as const;
  const slides = { algorithm: "sliding_window", ...window } as const;
  const cases: [source: string, given: LimiterOverrides, missing: LimiterOverrides][] = [
    ["rate", slides, { ratePerSecond: null, burst: null }],
    ["rate", { ...slides, ratePerSecond: null }, { burst: null }],
    ["rate", window, { algorithm: "sliding_window", ratePerSecond: null, burst: null }],
    ["permits", window, { algorithm: "sliding_window" }],
    ["window", { ratePerSecond: 5 }, { algorithm: "token_bucket", limit: null, windowMs: null }],
    ["window", { algorithm: "token_bucket", ratePerSecond: 5 }, { limit: null, windowMs: null }],
  ];
  for (const [i, [source, given, missing]] of cases.entries()) {
    const error = assertThrows(() => rateSync.cloneLimiter(source, "new", given), ConfigValidationError);
    const shown = Object.entries(missing).map(([name, value]) => `${name}: ${JSON.stringify(value)}`).join(", ");
    assertStringIncludes(error.problem, `pass ${shown}, too`);
    rateSync.cloneLimiter(source, `${i}`, { ...given, ...missing });
  }
});

test("cloneLimiter() adds no advice where none would help [CLN-3]", () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("rate", { ratePerSecond: 1 });
  const wrong: unknown[] = [
    { ratePerSecond: -1 },
    { ratePerSecond: 2, limit: 3, windowMs: 1 },
    { algorithm: "toString" },
    { algorithm: "sliding_window", limit: 3, ratePerSecond: null },
    5,
  ];
  for (const overrides of wrong) {
    const untyped = overrides as LimiterOverrides; // on purpose
    const error = assertThrows(() => rateSync.cloneLimiter("rate", "new", untyped), ConfigValidationError);
    assertEquals(error.message.includes("A clone keeps"), false, error.message);
  }
});

test("cloneLimiter() replaces failClosed by onFailure, and the reverse [CLN-3]", () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("closed", { ratePerSecond: 1, failClosed: true });
  rateSync.cloneLimiter("closed", "local", { onFailure: "local" });
  rateSync.cloneLimiter("local", "closed again", { failClosed: true });
  rateSync.cloneLimiter("closed", "open", { failClosed: null });
  const modes = ["local", "closed again", "open"].map((id) => rateSync.getLimiter(id).getConfig().onFailure);
  assertEquals(modes, ["local", "closed", "open"]);
});

test("cloneLimiter() refuses overrides that are wrong, unknown or contradict what is copied [CLN-3]", () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("api", { ratePerSecond: 1, burst: 2 });
  const wrong: [unknown, string][] = [
    [{ ratePerSecond: -1 }, "limiters.new.ratePerSecond"],
    [{ ratePerSecond: null }, "limiters.new.burst"],
    [{ ratePerSecond: null, burst: null }, "limiters.new.ratePerSecond"],
    [{ rate_per_second: 5 }, "limiters.new.rate_per_second"],
    [{ rate_per_second: null }, "limiters.new.rate_per_second"],
    [5, "limiters.new"],
    [null, "limiters.new"],
  ];
  for (const [overrides, field] of wrong) {
    const untyped = overrides as LimiterOverrides; // on purpose
    const error = assertThrows(() => rateSync.cloneLimiter("api", "new", untyped), ConfigValidationError);
    assertEquals(error.field, field);
    assertEquals(Object.keys(rateSync.listLimiters()), ["api"]);
  }
  assertThrows(() => rateSync.cloneLimiter("api", " ", {}), ConfigValidationError);
});

test("cloneLimiter() works after the source was used, and after it was closed [CLN-6]", async () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("api", { store: "shared", ratePerSecond: 1 });
  await rateSync.acquire("api");
  rateSync.cloneLimiter("api", "b", { ratePerSecond: 2 });
  assert(await admits(rateSync, "b"));
  await rateSync.close();
  rateSync.cloneLimiter("api", "c");
  assert(await admits(rateSync, "c"));
});

// getOrCloneLimiter()

test("getOrCloneLimiter() gives an opened limiter with the id base:key, and always the same one [CLN-4]", async () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("api", { store: "shared", ratePerSecond: 1 });
  const [first, second] = await Promise.all([
    rateSync.getOrCloneLimiter("api", "alice"),
    rateSync.getOrCloneLimiter("api", "alice"),
  ]);
  assertStrictEquals(first, second);
  assertStrictEquals(first, await rateSync.getOrCloneLimiter("api", "alice"));
  assertStrictEquals(first, rateSync.getLimiter("api").key("alice"));
  assertEquals([first.id, first.initialized], ["api:alice", true]);
});

test("getOrCloneLimiter() gives every key a limit and metrics of its own [CLN-4]", async () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("api", { store: "shared", ratePerSecond: 1 });
  const alice = await rateSync.getOrCloneLimiter("api", "alice");
  const bob = await rateSync.getOrCloneLimiter("api", "bob");
  assertEquals([(await alice.tryAcquire()).allowed, (await alice.tryAcquire()).allowed], [true, false]);
  assertEquals(bob.getMetrics().totalAcquisitions, 0);
  assertEquals((await bob.tryAcquire()).allowed, true);
  assertEquals((await rateSync.tryAcquire("api", { key: "bob" })).allowed, false);
  assertEquals(await admits(rateSync, "api"), true);
});

test("getOrCloneLimiter() refuses an unknown base and names it, and a key that is no text [CLN-4]", async () => {
  const { rateSync } = setUp();
  const error = await assertRejects(() => rateSync.getOrCloneLimiter("nobody", "alice"), LimiterNotFoundError);
  assertEquals(error.limiterId, "nobody");
  rateSync.configureLimiter("api", { ratePerSecond: 1 });
  for (const key of [42, null, undefined]) {
    const untyped = key as unknown as string; // on purpose
    await assertRejects(() => rateSync.getOrCloneLimiter("api", untyped), InvalidArgumentError);
  }
});

test("the limiter of a key fails closed if its base does [CLN-4]", async () => {
  const { clock, rateSync } = setUp();
  const fail = () => Promise.reject(new Error("the disk is on fire"));
  const kv: Kv = { ...memoryKv(clock), get: fail, compareAndSet: fail };
  rateSync.configureStore("broken", { kv, clock });
  rateSync.configureLimiter("api", { store: "broken", ratePerSecond: 1, failClosed: true });
  const limiter = await rateSync.getOrCloneLimiter("api", "alice");
  await assertRejects(() => limiter.acquire(), RateLimiterAcquisitionError);
});

test("any text is a key [CLN-5]", async () => {
  const { rateSync, kv } = setUp();
  rateSync.configureLimiter("api", { store: "shared", ratePerSecond: 1 });
  const names = [
    "user@example.com",
    "1.2.3.4:8080",
    "hash:abc",
    "2001:db8::1",
    "two words",
    "*",
    ">",
    "/",
    "\\",
    "ünï🦊",
  ];
  const texts = [...names, "", ".", "..", "a.b", "\0", "x".repeat(10_000), "x".repeat(10_001)];
  for (const key of texts) {
    const limiter = await rateSync.getOrCloneLimiter("api", key);
    assertEquals([(await limiter.tryAcquire()).allowed, (await limiter.tryAcquire()).allowed], [true, false], key);
  }
  const keys = await keysOf(kv);
  assertEquals(keys.length, texts.length);
  for (const key of keys) assert(/^api\.[A-Za-z0-9_=-]+$/.test(key), key);
});

test("limiter a:b with key c, limiter a with key b:c, and limiter a:b:c do not meet [CLN-7]", async () => {
  const { rateSync, kv } = setUp();
  rateSync.configureLimiter("a", { store: "shared", ratePerSecond: 1 });
  for (const id of ["a:b", "a:b:c"]) rateSync.cloneLimiter("a", id);
  const limiters = [
    await rateSync.getOrCloneLimiter("a:b", "c"),
    await rateSync.getOrCloneLimiter("a", "b:c"),
    rateSync.getLimiter("a:b:c"),
  ];
  for (const limiter of limiters) {
    assertEquals(limiter.id, "a:b:c");
    assertEquals((await limiter.tryAcquire()).allowed, true);
  }
  assertEquals((await keysOf(kv)).length, 3);
});

test("no two bases and keys meet in the store [CLN-7]", async () => {
  const part = fc.string({
    unit: fc.constantFrom("a", "b", ":", ".", "=", "%", "3", "A", "ü"),
    minLength: 1,
    maxLength: 4,
  });
  const pair = fc.tuple(part, part);
  await fc.assert(fc.asyncProperty(pair, pair, async ([base, key], [otherBase, otherKey]) => {
    fc.pre(base !== otherBase || key !== otherKey);
    const { rateSync, kv } = setUp();
    for (const id of [base, otherBase]) rateSync.configureLimiter(id, { store: "shared", ratePerSecond: 1 });
    await (await rateSync.getOrCloneLimiter(base, key)).acquire();
    const state = await (await rateSync.getOrCloneLimiter(otherBase, otherKey)).getState();
    assertEquals(state.allowed, true);
    assertEquals((await keysOf(kv)).length, 1);
  }));
});

test("keys that are idle are forgotten in this process, and their limits are not [LIM-17]", async () => {
  const { rateSync } = setUp();
  rateSync.configureLimiter("api", { store: "shared", ratePerSecond: 0.001 });
  const first = await rateSync.getOrCloneLimiter("api", "first");
  assertEquals((await first.tryAcquire()).allowed, true);
  for (let i = 0; i < 10_001; i++) await rateSync.getOrCloneLimiter("api", `other ${i}`);
  const again = await rateSync.getOrCloneLimiter("api", "first");
  assert(again !== first);
  assertEquals((await again.tryAcquire()).allowed, false);
  assertEquals(Object.keys(rateSync.listLimiters()), ["api"]);
});

test("a key is logged at debug and nowhere else [LOG-1, LOG-2]", async () => {
  const { rateSync, lines } = setUp();
  rateSync.configureLimiter("api", { store: "shared", ratePerSecond: 1 });
  const limiter = await rateSync.getOrCloneLimiter("api", "user@example.com");
  await limiter.tryAcquire();
  await limiter.tryAcquire();
  assertEquals(lines.filter((line) => line.includes("user@example.com")), [
    "debug: Limiter 'api:user@example.com': granted after 0.000 s.",
    `debug: Limiter 'api:user@example.com': refused by "1/s, burst 1", which has more in 1.000 s.`,
  ]);
});

test("the module clones as a registry does, and its errors are of one kind [CLN-1, ERR-1]", async () => {
  front.configureLimiter("clone-front", { ratePerSecond: 1 });
  front.cloneLimiter("clone-front", "clone-front:b", { ratePerSecond: 5 });
  assertEquals(front.getLimiter("clone-front:b").getConfig().ratePerSecond, 5);
  const keyed = await front.getOrCloneLimiter("clone-front", "k");
  assertStrictEquals(keyed, front.getLimiter("clone-front").key("k"));
  const error = assertThrows(() => front.cloneLimiter("clone-front", "clone-front:b"), RateLimiterError);
  assertStringIncludes(error.message, "clone-front:b");
});
