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
import * as front from "../mod.ts";
import { memoryKv } from "../src/adapters/memory.ts";
import { CompositeRateLimiter, type CompositeRateLimiterOptions, type CompositeStrategy } from "../src/composite.ts";
import type { LimiterOptions } from "../src/config/options.ts";
import { InvalidArgumentError, LimiterNotFoundError, RateLimiterAcquisitionError } from "../src/core/errors.ts";
import type { Kv } from "../src/core/store/kv.ts";
import { createRateSync, type RateSync } from "../src/registry/registry.ts";
import { createVirtualClock, type VirtualClock } from "../src/testing/virtual_clock.ts";

const STRATEGIES = ["most_restrictive", "all_must_pass", "any_must_pass"] as const;
const ALL = ["most_restrictive", "all_must_pass"] as const;
const WHO = { ip: "10.0.0.1", user: "alice" } as const;

interface Bench {
  readonly clock: VirtualClock;
  readonly rateSync: RateSync;
  readonly composite: CompositeRateLimiter<"ip" | "user">;
  /** What `ip` and `user` have left for {@link WHO}. */
  left(): Promise<[number, number]>;
}

function window(limit: number): LimiterOptions {
  return { algorithm: "sliding_window", limit, windowMs: 60_000 };
}

function setUp(strategy: CompositeStrategy, ip: LimiterOptions, user: LimiterOptions): Bench {
  const clock = createVirtualClock();
  const rateSync = createRateSync({ clock });
  rateSync.configureLimiter("auth_ip", ip);
  rateSync.configureLimiter("auth_user", user);
  const composite = new CompositeRateLimiter({ limiters: { ip: "auth_ip", user: "auth_user" }, strategy, rateSync });
  const leftOf = async (id: string, key: string) => (await rateSync.getLimiter(id).key(key).getState()).remaining;
  return {
    clock,
    rateSync,
    composite,
    left: async () => [await leftOf("auth_ip", WHO.ip), await leftOf("auth_user", WHO.user)],
  };
}

/** What untyped code may make. */
function make(options: unknown): CompositeRateLimiter<string> {
  return new CompositeRateLimiter(options as CompositeRateLimiterOptions<string>); // on purpose
}

test("a composite without a limiter is refused, and one with an unknown strategy [CMP-1]", () => {
  for (const limiters of [{}, undefined, null, [], ["auth_ip"], "ip", { ip: 5 }]) {
    assertThrows(() => make({ limiters }), InvalidArgumentError, "at least one limiter");
  }
  for (const strategy of ["strictest", "", null, "toString"]) {
    const error = assertThrows(() => make({ limiters: { ip: "a" }, strategy }), InvalidArgumentError);
    assertEquals(error.field, "strategy");
    assertStringIncludes(error.message, "most_restrictive, all_must_pass, any_must_pass");
  }
});

test("the strategy is most_restrictive unless another one is named [CMP-1]", () => {
  assertEquals(new CompositeRateLimiter({ limiters: { ip: "a" } }).strategy, "most_restrictive");
});

test("check() wants exactly one identifier for each limiter [CMP-2]", async () => {
  const { composite, left } = setUp("most_restrictive", window(5), window(5));
  const check = composite.check.bind(composite) as (identifiers: unknown) => Promise<unknown>; // on purpose
  for (const wrong of [{}, { ip: "a" }, { ...WHO, tenant: "t" }, { ip: "a", users: "b" }, undefined, null, "ip"]) {
    const error = await assertRejects(() => check(wrong), InvalidArgumentError);
    assertEquals(error.field, "identifiers");
    assertStringIncludes(error.message, "'ip', 'user'");
  }
  for (const user of [undefined, null, 42_042, {}]) {
    const error = await assertRejects(() => check({ ip: "a", user }), InvalidArgumentError);
    assertEquals([error.field, error.message.includes("42042")], ["identifiers.user", false]);
  }
  assertEquals(await left(), [5, 5]);
});

test("check() asks the limiter of each identifier: what getOrCloneLimiter gives [CMP-2]", async () => {
  const { composite, rateSync, left } = setUp("most_restrictive", window(5), window(5));
  const { results } = await composite.check(WHO);
  assertEquals([results.ip?.limiterId, results.user?.limiterId], ["auth_ip:10.0.0.1", "auth_user:alice"]);
  assertEquals((await (await rateSync.getOrCloneLimiter("auth_ip", WHO.ip)).getState()).remaining, 4);
  await composite.check({ user: "bob", ip: WHO.ip });
  assertEquals(await left(), [3, 4]);
});

test("check() names an unknown limiter before anything is taken [CMP-2]", async () => {
  const { rateSync, left } = setUp("most_restrictive", window(5), window(5));
  for (const strategy of STRATEGIES) {
    const composite = new CompositeRateLimiter({ limiters: { ip: "auth_ip", user: "nobody" }, strategy, rateSync });
    const error = await assertRejects(() => composite.check(WHO), LimiterNotFoundError);
    assertEquals(error.limiterId, "nobody");
  }
  assertEquals(await left(), [5, 5]);
});

test("the result holds every limiter's, and the one with the least left [CMP-3]", async () => {
  for (const strategy of STRATEGIES) {
    const { composite } = setUp(strategy, window(5), window(3));
    const verdict = await composite.check(WHO);
    assertEquals([verdict.allowed, verdict.triggeredBy], [true, null]);
    assertEquals(Object.keys(verdict.results), ["ip", "user"]);
    assertStrictEquals(verdict.mostRestrictive, verdict.results.user);
    assertEquals(verdict.results.ip?.remaining, 4);
    assertEquals(verdict.results.user?.remaining, strategy === "any_must_pass" ? 3 : 2);
    assert(Object.isFrozen(verdict) && Object.isFrozen(verdict.results));
  }
});

test("most_restrictive says of every limiter what is left, all_must_pass stops at the first refusal [CMP-3]", async () => {
  for (const strategy of ALL) {
    const { composite } = setUp(strategy, window(1), window(5));
    await composite.check(WHO);
    const denied = await composite.check(WHO);
    assertEquals([denied.allowed, denied.triggeredBy], [false, "ip"]);
    assertStrictEquals(denied.mostRestrictive, denied.results.ip);
    assertEquals(denied.results.user?.remaining, strategy === "all_must_pass" ? undefined : 4);
  }
});

test("most_restrictive and all_must_pass deny if one does, and name the first [CMP-4]", async () => {
  for (const strategy of ALL) {
    const { composite, rateSync } = setUp(strategy, window(3), window(2));
    const verdicts: unknown[] = [];
    for (let i = 0; i < 4; i++) {
      const { allowed, triggeredBy } = await composite.check(WHO);
      verdicts.push([allowed, triggeredBy]);
    }
    assertEquals(verdicts, [[true, null], [true, null], [false, "user"], [false, "user"]]);
    await rateSync.acquire("auth_ip", { key: WHO.ip });
    assertEquals((await composite.check(WHO)).triggeredBy, "ip");
  }
});

test("any_must_pass allows if one does, and says all if none does [CMP-4]", async () => {
  const { composite } = setUp("any_must_pass", window(1), window(2));
  const verdicts: unknown[] = [];
  for (let i = 0; i < 4; i++) {
    const { allowed, triggeredBy } = await composite.check(WHO);
    verdicts.push([allowed, triggeredBy]);
  }
  assertEquals(verdicts, [[true, null], [true, null], [true, null], [false, "all"]]);
});

test("any_must_pass says of the limiter that allows that it does, and of those after it what is left [CMP-3, CMP-5]", async () => {
  const { composite } = setUp("any_must_pass", window(1), window(2));
  const { results } = await composite.check(WHO);
  assertEquals([results.ip?.allowed, results.ip?.remaining, results.user?.remaining], [true, 0, 2]);
});

test("who is denied drains nothing, however often [CMP-5]", async () => {
  for (const strategy of ALL) {
    const { composite, left } = setUp(strategy, { ratePerSecond: 0.001, burst: 3, maxConcurrent: 9 }, window(1));
    await (await composite.check(WHO)).release();
    for (let i = 0; i < 5; i++) {
      const { allowed, triggeredBy, results } = await composite.check(WHO);
      assertEquals([allowed, triggeredBy, results.ip?.remaining], [false, "user", 2]);
    }
    assertEquals(await left(), [2, 0]);
  }
});

test("who is denied drains no rate either, however many ask at the same time [CMP-5, CHK-6]", async () => {
  for (const strategy of ALL) {
    const { clock, composite, left } = setUp(strategy, { ratePerSecond: 0.1, burst: 10 }, { maxConcurrent: 1 });
    await using held = await clock.runUntil(composite.check(WHO));
    assert(held.allowed);
    const denied = Array.from({ length: 9 }, async (_, i) => {
      await clock.sleep(5 * i);
      return await composite.check(WHO, { timeoutMs: 50 });
    });
    const results = await clock.runUntil(Promise.all(denied));
    assertEquals(results.map(({ allowed }) => allowed), Array(9).fill(false));
    // What the rate brings while one waits for the other is all that may be missing: less than one in ten seconds.
    assertEquals((await clock.runUntil(left()))[0], 8);
    await clock.advance(1_000);
    assertEquals((await clock.runUntil(left()))[0], 9);
  }
});

test("any_must_pass takes one slot from the first that has one, and none from the others [CMP-5]", async () => {
  const { composite, left } = setUp("any_must_pass", window(2), window(2));
  const seen: unknown[] = [];
  for (let i = 0; i < 5; i++) {
    await composite.check(WHO);
    seen.push(await left());
  }
  assertEquals(seen, [[1, 2], [0, 2], [0, 1], [0, 0], [0, 0]]);
});

test("each strategy takes what it says, whatever is left [CMP-4, CMP-5]", async () => {
  const limits = fc.tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 4 }));
  await fc.assert(fc.asyncProperty(fc.constantFrom(...STRATEGIES), limits, async (strategy, [ip, user]) => {
    const { composite, left } = setUp(strategy, window(ip), window(user));
    for (let i = 0; i < 9; i++) {
      const before = await left();
      const { allowed } = await composite.check(WHO);
      const after = await left();
      const taken = before.map((left, i) => left - after[i]!);
      if (strategy === "any_must_pass") {
        assertEquals(allowed, before.some((left) => left > 0));
        assertEquals(taken, allowed ? before[0] > 0 ? [1, 0] : [0, 1] : [0, 0]);
      } else {
        assertEquals(allowed, before.every((left) => left > 0));
        assertEquals(taken, allowed ? [1, 1] : [0, 0]);
      }
    }
  }));
});

test("without a timeout each limiter's own counts, and who has none does not wait [CMP-6]", async () => {
  for (const strategy of ALL) {
    const { clock, composite } = setUp(strategy, { ratePerSecond: 1, timeoutMs: 1_500 }, { ratePerSecond: 2 });
    await composite.check(WHO);
    const begun = clock.now();
    assertEquals((await clock.runUntil(composite.check(WHO))).allowed, true);
    assertEquals(clock.now() - begun, 1_000);
    await clock.advance(1_000);
    await composite.check({ ...WHO, ip: "10.0.0.2" });
    const denied = await composite.check({ ...WHO, ip: "10.0.0.3" });
    assertEquals([denied.allowed, denied.triggeredBy], [false, "user"]);
  }
});

test("a timeout is for all limiters together [CMP-6]", async () => {
  const slow = { ratePerSecond: 0.5 };
  const { clock, composite } = setUp("most_restrictive", { ratePerSecond: 1, timeoutMs: 9_000 }, slow);
  const begun = clock.now();
  await composite.check(WHO);
  assertEquals((await composite.check(WHO, { timeoutMs: 0 })).triggeredBy, "ip");
  assertEquals((await clock.runUntil(composite.check(WHO, { timeoutMs: 1_900 }))).triggeredBy, "user");
  // That was known after the wait for ip, which was given back.
  assertEquals(clock.now() - begun, 1_000);
  const { allowed } = await clock.runUntil(composite.check(WHO, { timeoutMs: 1_000 }));
  assertEquals([allowed, clock.now() - begun], [true, 2_000]);
  await assertRejects(() => composite.check(WHO, { timeoutMs: -1 }), InvalidArgumentError);
});

test("any_must_pass waits for the limiter that has a slot first [CMP-6]", async () => {
  const { clock, composite, left } = setUp("any_must_pass", { ratePerSecond: 0.1 }, { ratePerSecond: 1 });
  for (let i = 0; i < 2; i++) await composite.check(WHO);
  assertEquals((await composite.check(WHO)).triggeredBy, "all");
  const begun = clock.now();
  assertEquals((await composite.check(WHO, { timeoutMs: 999 })).triggeredBy, "all");
  const verdict = await clock.runUntil(composite.check(WHO, { timeoutMs: 1_000 }));
  assertEquals([verdict.allowed, verdict.triggeredBy, clock.now() - begun], [true, null, 1_000]);
  assertEquals([verdict.results.ip?.allowed, verdict.results.user?.allowed], [false, true]);
  assertEquals(await left(), [0, 0]);
});

test("any_must_pass waits for a permit where time does not help, however soon it would [CMP-6]", async () => {
  for (const ip of [window(1), { ratePerSecond: 0.5 }]) {
    const { clock, composite, left } = setUp("any_must_pass", ip, { maxConcurrent: 1 });
    await composite.check(WHO);
    const holder = await composite.check(WHO);
    const waiting = composite.check(WHO, { timeoutMs: 500 });
    await clock.advance(300);
    await holder.release();
    const verdict = await clock.runUntil(waiting);
    assertEquals([verdict.allowed, verdict.results.user?.allowed], [true, true]);
    await verdict.release();
    assertEquals(await left(), [0, 1]);
  }
});

test("a wait for a permit may take longer than a store that is silent [CMP-6]", async () => {
  for (const strategy of ALL) {
    const permit = { maxConcurrent: 1, backendTimeoutMs: 100 };
    const { clock, composite } = setUp(strategy, permit, permit);
    const holder = await composite.check(WHO);
    const waiting = composite.check(WHO, { timeoutMs: 1_000 });
    await clock.advance(600);
    await holder.release();
    assertEquals((await clock.runUntil(waiting)).allowed, true);
  }
});

test("any_must_pass takes what another limiter has got while it waited for one in vain [CMP-4, CMP-6]", async () => {
  const { clock, composite } = setUp("any_must_pass", { maxConcurrent: 1 }, { maxConcurrent: 1 });
  const held = [await clock.runUntil(composite.check(WHO)), await clock.runUntil(composite.check(WHO))];
  const waiting = composite.check(WHO, { timeoutMs: 1_000 });
  await clock.advance(100);
  await held[1]!.release();
  const { allowed, triggeredBy, results } = await clock.runUntil(waiting);
  assertEquals([allowed, triggeredBy, results.ip?.allowed, results.user?.allowed], [true, null, false, true]);
  const inVain = await clock.runUntil(composite.check(WHO, { timeoutMs: 1_000 }));
  assertEquals([inVain.allowed, inVain.triggeredBy], [false, "all"]);
  assertEquals([inVain.results.ip?.allowed, inVain.results.user?.allowed], [false, false]);
});

test("an abort ends the wait and leaves nothing taken [CMP-6]", async () => {
  for (const strategy of STRATEGIES) {
    const { clock, composite, left } = setUp(strategy, window(1), { ratePerSecond: 0.01 });
    await composite.check({ ...WHO, ip: "10.0.0.2" });
    if (strategy === "any_must_pass") { for (let i = 0; i < 2; i++) await composite.check(WHO); }
    const before = await left();
    const abort = new AbortController();
    const checking = composite.check(WHO, { timeoutMs: 200_000, signal: abort.signal });
    checking.catch(() => {}); // It is awaited below.
    await clock.advance(10);
    abort.abort(new RangeError("enough"));
    await assertRejects(() => checking, RangeError);
    await clock.advance(10);
    assertEquals(await left(), before);
  }
});

test("permits are given back by release(), and the limiters can be used again [CMP-7]", async () => {
  for (const strategy of STRATEGIES) {
    const { composite, left } = setUp(strategy, { maxConcurrent: 1 }, { maxConcurrent: 1 });
    for (let i = 0; i < 3; i++) {
      const verdict = await composite.check(WHO);
      assertEquals(verdict.allowed, true);
      assertEquals(await left(), strategy === "any_must_pass" ? [0, 1] : [0, 0]);
      await verdict.release();
      await verdict.release();
      assertEquals(await left(), [1, 1]);
    }
    {
      await using held = await composite.check(WHO);
      const second = await composite.check(WHO);
      assertEquals([held.allowed, second.allowed], [true, strategy === "any_must_pass"]);
      await second.release();
    }
    assertEquals(await left(), [1, 1]);
  }
});

test("limit and remaining are those of the limiter's state, for every kind of limit [CMP-8]", async () => {
  const { composite } = setUp("most_restrictive", { ratePerSecond: 1, burst: 7 }, { maxConcurrent: 3 });
  const { results } = await composite.check(WHO);
  assertEquals([results.ip?.limit, results.ip?.remaining], [7, 6]);
  assertEquals([results.user?.limit, results.user?.remaining], [3, 2]);
});

test("a store that failed is an error and no denial, if its limiter fails closed [CMP-4, ERR-1]", async () => {
  const { clock, rateSync, left } = setUp("most_restrictive", window(5), window(5));
  const fail = () => Promise.reject(new Error("the disk is on fire"));
  const kv: Kv = { ...memoryKv(clock), get: fail, compareAndSet: fail };
  rateSync.configureStore("broken", { kv, clock });
  rateSync.configureLimiter("down", { store: "broken", ratePerSecond: 1, failClosed: true });
  for (const strategy of ALL) {
    const composite = new CompositeRateLimiter({ limiters: { ip: "auth_ip", user: "down" }, strategy, rateSync });
    await assertRejects(() => composite.check(WHO), RateLimiterAcquisitionError);
  }
  assertEquals(await left(), [5, 5]);
  const any = new CompositeRateLimiter({
    limiters: { ip: "auth_ip", user: "down" },
    strategy: "any_must_pass",
    rateSync,
  });
  const { allowed, results } = await any.check(WHO);
  assertEquals([allowed, Object.keys(results)], [true, ["ip"]]);
});

test("limiters on one silent store blame the time that they share, and no timeout that nobody gave [CMP-4, ERR-1]", async () => {
  const messagesOf = async (timeoutMs?: number) => {
    const clock = createVirtualClock();
    const lines: string[] = [];
    const silent = () => {};
    const logger = { debug: silent, info: silent, warn: (line: string) => void lines.push(line), error: silent };
    const rateSync = createRateSync({ clock, logger });
    const never = () => new Promise<never>(() => {});
    rateSync.configureStore("silent", { kv: { ...memoryKv(clock), get: never, compareAndSet: never }, clock });
    const options = { store: "silent", ratePerSecond: 1, backendTimeoutMs: 250 };
    for (const id of ["a", "b"]) rateSync.configureLimiter(id, options);
    const composite = new CompositeRateLimiter({ limiters: { a: "a", b: "b" }, rateSync });
    await clock.runUntil(composite.check({ a: "1", b: "2" }, { timeoutMs }));
    return lines.map((line) => /Store 'silent': ([^.]*)/.exec(line)?.[1]);
  };
  const shared = "no answer yet, when the time that the limiters of one call share was over";
  assertEquals(await messagesOf(), ["no answer within 250 ms", shared]);
  assertEquals((await messagesOf(100))[0], "no answer for 100 ms, when the caller's own timeout ended");
});

test("a composite uses the module's limiters unless it is given a registry [CMP-2]", async () => {
  front.configureLimiter("composite-front", { ratePerSecond: 0.001 });
  const composite = new front.CompositeRateLimiter({ limiters: { it: "composite-front" } });
  assertEquals((await composite.check({ it: "a" })).allowed, true);
  assertEquals((await front.tryAcquire("composite-front", { key: "a" })).allowed, false);
});
