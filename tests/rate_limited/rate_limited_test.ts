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
import { memoryKv } from "../../src/adapters/memory.ts";
import type { LimiterOptions } from "../../src/config/options.ts";
import {
  ConfigValidationError,
  InvalidArgumentError,
  LimiterNotFoundError,
  RateLimiterAcquisitionError,
} from "../../src/core/errors.ts";
import type { Kv } from "../../src/core/store/kv.ts";
import { rateLimited } from "../../src/rate_limited/rate_limited.ts";
import { createRateSync, type RateSync } from "../../src/registry/registry.ts";
import { createVirtualClock, type VirtualClock } from "../../src/testing/virtual_clock.ts";

interface Bench {
  readonly clock: VirtualClock;
  readonly rateSync: RateSync;
  readonly kv: Kv;
}

function setUp(api: LimiterOptions = { ratePerSecond: 1 }): Bench {
  const clock = createVirtualClock();
  const rateSync = createRateSync({ clock });
  const kv = memoryKv(clock);
  rateSync.configureStore("shared", { kv, clock });
  rateSync.configureLimiter("api", { ...api, store: "shared" });
  return { clock, rateSync, kv };
}

async function keysOf(kv: Kv): Promise<string[]> {
  const keys: string[] = [];
  for await (const key of kv.keys()) keys.push(key);
  return keys.sort();
}

/** What untyped code may call. */
const untyped = rateLimited as (...args: unknown[]) => (...args: unknown[]) => Promise<unknown>; // on purpose

const TRY = { mode: "try", timeoutMs: 0 } as const;

// Results, exceptions and permits

test("a limited function returns what the function returns, and throws what it throws [DEC-1]", async () => {
  const { clock, rateSync } = setUp({ ratePerSecond: 1_000 });
  const add = rateLimited("api", (a: number, b: number) => Promise.resolve(a + b), { rateSync });
  assertEquals(await add(1, 2), 3);
  const failure = new RangeError("no");
  const fail = rateLimited("api", () => Promise.reject(failure), { rateSync });
  assertStrictEquals(await assertRejects(() => clock.runUntil(fail()), RangeError), failure);
});

test("the permit is held while the function runs, and released with its result or exception [DEC-1]", async () => {
  const { clock, rateSync } = setUp({ maxConcurrent: 2 });
  const left = async () => (await rateSync.getLimiter("api").getState()).remaining;
  for (const options of [{ rateSync }, { rateSync, ...TRY }]) {
    const during: number[] = [];
    const work = async (fails: boolean) => {
      during.push(await left());
      await clock.sleep(100);
      if (fails) throw new RangeError("no");
    };
    const limited = rateLimited("api", work, options as { rateSync: RateSync }); // either kind of options
    await clock.runUntil(limited(false));
    assertEquals(await left(), 2);
    await assertRejects(() => clock.runUntil(limited(true)), RangeError);
    assertEquals([during, await left()], [[1, 1], 2]);
  }
});

test("at most as many run at once as the limiter says [DEC-1]", async () => {
  const { clock, rateSync } = setUp({ maxConcurrent: 2 });
  let running = 0;
  let most = 0;
  const work = rateLimited("api", async () => {
    most = Math.max(most, ++running);
    await clock.sleep(10);
    running--;
  }, { rateSync });
  await clock.runUntil(Promise.all([work(), work(), work(), work(), work()]));
  assertEquals(most, 2);
});

test("functions that return no promise are limited as well, also those that throw [DEC-11]", async () => {
  const { clock, rateSync } = setUp({ maxConcurrent: 1 });
  const double = rateLimited("api", (n: number) => 2 * n, { rateSync });
  assertEquals(await double(4), 8);
  const fail = rateLimited("api", () => {
    throw new RangeError("no");
  }, { rateSync });
  await assertRejects(() => clock.runUntil(fail()), RangeError);
  assertEquals(await double(5), 10);
});

test("generators are refused, as they would run without the permit [DEC-11]", () => {
  const generators = [function* count() {}, async function* count() {}];
  for (const generator of generators) {
    assertThrows(() => untyped("api", generator), InvalidArgumentError, "'count'");
  }
});

test("name, length, this and types of the function are preserved [DEC-11]", async () => {
  const { rateSync } = setUp({ ratePerSecond: 1_000, burst: 10 });
  async function fetchUser(this: { prefix: string }, id: number, suffix: string): Promise<string> {
    return await Promise.resolve(`${this.prefix}${id}${suffix}`);
  }
  const limited: (this: { prefix: string }, id: number, suffix: string) => Promise<string> = rateLimited(
    "api",
    fetchUser,
    { rateSync, key: (id) => `${id}` },
  );
  assertEquals([limited.name, limited.length], ["fetchUser", 2]);
  assertEquals(await limited.call({ prefix: "user " }, 7, "!"), "user 7!");
  const tried: (n: number) => Promise<number | null> = rateLimited("api", (n: number) => n, { ...TRY, rateSync });
  assertEquals(await tried(1), 1);
});

// Timeouts and modes

test("the timeout is the option's, else the limiter's, else as long as it takes [DEC-2]", async () => {
  const { clock, rateSync } = setUp({ ratePerSecond: 0.1, timeoutMs: 5_000 });
  rateSync.cloneLimiter("api", "patient", { timeoutMs: null });
  const now = () => clock.now();
  await rateLimited("api", now, { rateSync })();
  await assertRejects(() => rateLimited("api", now, { rateSync })(), RateLimiterAcquisitionError, "within 5 s");
  const begun = clock.now();
  assertEquals(await clock.runUntil(rateLimited("api", now, { rateSync, timeoutMs: 10_000 })()), begun + 10_000);
  const patient = rateLimited("patient", now, { rateSync });
  const times = await clock.runUntil(Promise.all([patient(), patient(), patient()]));
  assertEquals(times.map((time) => time - times[0]!), [0, 10_000, 20_000]);
});

test("timeout 0 fails at once [DEC-2]", async () => {
  const { rateSync } = setUp();
  const run = rateLimited("api", () => "done", { rateSync, timeoutMs: 0 });
  assertEquals(await run(), "done");
  const error = await assertRejects(() => run(), RateLimiterAcquisitionError);
  assertEquals([error.reason, error.limiterId], ["timeout", "api"]);
});

test("mode try resolves to null where mode wait rejects, and the function does not run [DEC-3]", async () => {
  const { clock, rateSync } = setUp();
  let runs = 0;
  const run = rateLimited("api", () => ++runs, { rateSync, ...TRY });
  assertEquals([await run(), await run(), await run()], [1, null, null]);
  const patient = rateLimited("api", () => ++runs, { rateSync, mode: "try", timeoutMs: 1_000 });
  assertEquals(await clock.runUntil(Promise.all([patient(), patient()])), [2, null]);
});

test("a wrong mode, and mode try without a timeout, are refused where the function is limited [DEC-3]", () => {
  const work = () => 1;
  const wrong: [unknown, string, string][] = [
    [{ mode: "maybe" }, "mode", '"wait" or "try"'],
    [{ mode: null }, "mode", '"wait" or "try"'],
    [{ mode: "try" }, "timeoutMs", "needs a timeoutMs"],
    [{ timeoutMs: -1 }, "timeoutMs", "negative"],
    [{ key: "user" }, "key", "a function"],
    [{ onMissing: "allow" }, "onMissing", '"throw" or "run"'],
    [5, "options", "object"],
  ];
  for (const [options, field, text] of wrong) {
    for (const limit of [() => untyped("api", work, options), () => untyped("api", options)]) {
      const error = assertThrows(limit, InvalidArgumentError, text);
      assertEquals(error.field, field);
    }
  }
  for (const limiter of [undefined, null, 5, {}]) {
    assertEquals(assertThrows(() => untyped(limiter, work), InvalidArgumentError).field, "limiter");
  }
});

test("mode try returns null for its own refusal alone [DEC-4]", async () => {
  const { rateSync } = setUp({ ratePerSecond: 1, burst: 5 });
  rateSync.configureLimiter("inner", { ratePerSecond: 0.001 });
  await rateSync.acquire("inner");
  const work = () => rateSync.acquire("inner", { timeoutMs: 0 });
  const error = await assertRejects(
    () => rateLimited("api", work, { rateSync, ...TRY })(),
    RateLimiterAcquisitionError,
  );
  assertEquals(error.limiterId, "inner");
  const undefinedIsNotNull = rateLimited("api", () => undefined, { rateSync, ...TRY });
  assertEquals(await undefinedIsNotNull(), undefined);
});

test("mode try does not take a store that is down for a limit that is reached [DEC-4, ERR-1]", async () => {
  const { clock, rateSync } = setUp();
  const fail = () => Promise.reject(new Error("the disk is on fire"));
  rateSync.configureStore("broken", { kv: { ...memoryKv(clock), get: fail, compareAndSet: fail }, clock });
  rateSync.configureLimiter("down", { store: "broken", ratePerSecond: 1, failClosed: true });
  const run = rateLimited("down", () => 1, { rateSync, ...TRY });
  assertEquals((await assertRejects(() => run(), RateLimiterAcquisitionError)).reason, "backend");
});

test("the limiter is looked up and opened by the first call, once [DEC-5]", async () => {
  const clock = createVirtualClock();
  const rateSync = createRateSync({ clock });
  const run = rateLimited("later", () => "done", { rateSync });
  rateSync.configureLimiter("later", { ratePerSecond: 1_000, burst: 5 });
  const limiter = rateSync.getLimiter("later");
  assertEquals(limiter.initialized, false);
  assertEquals([await run(), await run()], ["done", "done"]);
  assertEquals([limiter.initialized, limiter.getMetrics().totalAcquisitions], [true, 2]);
});

// Limiters that are not there

test("a limiter that is not configured is an error, and the function does not run [DEC-6, DEC-8]", async () => {
  const { rateSync } = setUp();
  let runs = 0;
  const count = (_: { user: string }) => ++runs;
  for (const limiter of ["nobody", "nobody:{user}", () => "nobody", () => ({ id: "nobody", key: "k" })]) {
    const error = await assertRejects(
      () => rateLimited(limiter, count, { rateSync })({ user: "alice" }),
      LimiterNotFoundError,
      "Limiter 'nobody' not found.",
    );
    assertEquals([error.limiterId, error.message.split("not found").length], ["nobody", 2]);
  }
  assertEquals(runs, 0);
});

test("with onMissing run it runs without a limit, until the limiter is configured [DEC-6]", async () => {
  const { rateSync } = setUp();
  const run = rateLimited("later", () => "done", { rateSync, onMissing: "run", ...TRY });
  const byUser = rateLimited("later:{user}", (_: { user: string }) => "done", { rateSync, onMissing: "run", ...TRY });
  const user = { user: "alice" };
  assertEquals([await run(), await run(), await byUser(user), await byUser(user)], ["done", "done", "done", "done"]);
  rateSync.configureLimiter("later", { ratePerSecond: 0.001 });
  assertEquals([await run(), await run(), await byUser(user), await byUser(user)], ["done", null, "done", null]);
  await assertRejects(
    // @ts-expect-error: the function has no argument with a user
    () => rateLimited("api:{user}", () => 1, { rateSync, onMissing: "run" })(),
    InvalidArgumentError,
  );
});

test("onMissing run does not run without a limit when the configuration is wrong [DEC-6]", async () => {
  const { rateSync } = setUp();
  const wrong = new ConfigValidationError("It is wrong.", { field: "engine", expected: "one", received: "another" });
  const unreadable: RateSync = {
    ...rateSync,
    getLimiter() {
      throw wrong;
    },
  };
  const run = rateLimited("api", () => "done", { rateSync: unreadable, onMissing: "run" });
  await assertRejects(() => run(), ConfigValidationError);
});

test("onMissing run does not hide an error of the function [DEC-6]", async () => {
  const { rateSync } = setUp();
  const run = rateLimited("api", () => rateSync.acquire("nobody"), { rateSync, onMissing: "run" });
  await assertRejects(() => run(), LimiterNotFoundError);
});

// Templates

test("a template gives each value a limit of its own, that of getOrCloneLimiter [DEC-7]", async () => {
  const { rateSync, kv } = setUp();
  const run = rateLimited("api:{userId}", ({ userId }: { userId: string | number }) => userId, { rateSync, ...TRY });
  const results = [];
  for (const userId of ["alice", "bob", "alice", 0, 0]) results.push(await run({ userId }));
  assertEquals(results, ["alice", "bob", null, 0, null]);
  assertEquals((await (await rateSync.getOrCloneLimiter("api", "alice")).tryAcquire()).allowed, false);
  assertEquals(await keysOf(kv), ["api.0", "api.alice", "api.bob"]);
  assertEquals(Object.keys(rateSync.listLimiters()), ["api"]);
});

test("a template may have several placeholders, text around them, and paths [DEC-7, DEC-9]", async () => {
  const { rateSync, kv } = setUp();
  const call = { tenant: "acme", user: { id: 7, "e-mail": "x" } };
  const templates = ["api:{tenant}:{user.id}", "api:t-{tenant}/:u-{user.id}!", "api:{user.e-mail}", "api:x:{tenant}"];
  for (const template of templates) await rateLimited(template, (_: typeof call) => 1, { rateSync })(call);
  const expected = ["acme:7", "t-acme/:u-7!", "x", "x:acme"];
  for (const key of expected) {
    assertEquals((await rateSync.tryAcquire("api", { key })).allowed, false, key);
  }
  assertEquals((await keysOf(kv)).length, expected.length);
});

test("different values never share a limit [DEC-7, CLN-7]", async () => {
  const text = fc.string({ unit: fc.constantFrom("a", ":", "%", "3", "A", "2", "5"), maxLength: 5 });
  const values = fc.record({ tenant: text, user: text });
  await fc.assert(fc.asyncProperty(values, values, async (one, other) => {
    fc.pre(one.tenant !== other.tenant || one.user !== other.user);
    const { rateSync, kv } = setUp();
    const run = rateLimited("api:{tenant}:{user}", (_: typeof one) => "done", { rateSync, ...TRY });
    assertEquals([await run(one), await run(other)], ["done", "done"]);
    assertEquals((await keysOf(kv)).length, 2);
  }));
});

test("a value that is missing is named, with what there is, and the function does not run [DEC-7, DEC-9]", async () => {
  const { rateSync } = setUp();
  let runs = 0;
  const count = () => ++runs;
  const wrong: [string, unknown, string][] = [
    ["api:{zz}", { user: 1, tenant: 2 }, "'{zz}'. Available: 'user', 'tenant'"],
    ["api:{zz}", {}, "Available: nothing"],
    ["api:{user}", { user: null }, "received=null"],
    ["api:{user}", { user: undefined }, "received=undefined"],
    ["api:{user}", { user: NaN }, "no value for '{user}'"],
    ["api:{user}", { user: Number("x") }, "received=NaN"],
    ["api:{user}", { user: {} }, "a value of type object"],
    ["api:{user}", { user: Symbol("s") }, "a value of type symbol"],
    ["api:{user.id}", { user: null }, "'{user.id}'"],
    ["api:{user.id}", { user: "alice" }, "received=undefined"],
    ["api:{constructor}", {}, "a value of type function"],
    ["api:{__proto__}", {}, "no value for '{__proto__}'"],
  ];
  for (const [template, argument, text] of wrong) {
    await assertRejects(() => untyped(template, count, { rateSync })(argument), InvalidArgumentError, text);
  }
  assertEquals(runs, 0);
});

test("a template without key wants a single object, and says so [DEC-10]", async () => {
  const { rateSync } = setUp();
  const run = untyped("api:{user}", () => 1, { rateSync });
  for (const args of [[], ["alice"], [null], [5], [{ user: "alice" }, 2]]) {
    const error = await assertRejects(() => run(...args), InvalidArgumentError, "key: (…args) => ({ … })");
    assertEquals(error.message.includes("alice"), false);
  }
});

test("a template that cannot be read is refused where the function is limited [DEC-9]", () => {
  const wrong = ["{user}", "api{user}", ":{user}", "a{b}:{user}", "api:{user", "api:user}", "api:{}", "api:{ user }"];
  for (const template of [...wrong, "api:{user.}", "api:{.id}", "api:{a}{b}", "api:{a}-{b}", "api:{{a}}"]) {
    const error = assertThrows(() => rateLimited(template, () => 1), InvalidArgumentError);
    assertEquals(error.field, "limiter");
    assertStringIncludes(error.message, template);
  }
});

test("an id without placeholders is a whole id, with or without a colon [DEC-7]", async () => {
  const { rateSync } = setUp();
  rateSync.cloneLimiter("api", "api:premium");
  assertEquals(await rateLimited("api:premium", () => 1, { rateSync })(), 1);
  assertEquals(rateSync.getLimiter("api:premium").getMetrics().totalAcquisitions, 1);
});

// Keys and factories

test("key gives the values of a template, or the one value as text [DEC-10]", async () => {
  const { rateSync } = setUp();
  const call = (user: string, n: number) => `${user} ${n}`;
  const byRecord = rateLimited("api:{who.name}:{n}", call, {
    rateSync,
    ...TRY,
    key: (user, n) => ({ who: { name: user }, n }),
  });
  assertEquals([await byRecord("al", 1), await byRecord("al", 1), await byRecord("al", 2)], ["al 1", null, "al 2"]);
  const byText = rateLimited("api:u-{user}", call, { rateSync, ...TRY, key: (user) => user });
  assertEquals([await byText("al", 1), await byText("al", 2), await byText("bo", 1)], ["al 1", null, "bo 1"]);
});

test("the value of a placeholder may be a number, a bigint or a boolean [DEC-7]", async () => {
  const { rateSync, kv } = setUp();
  const run = rateLimited("api:{value}", (_: { value: number | bigint | boolean }) => {}, { rateSync });
  for (const value of [5, 7n, true]) await run({ value });
  assertEquals(await keysOf(kv), ["api.5", "api.7", "api.true"]);
});

test("key with a plain id selects the key, as in acquire [DEC-10]", async () => {
  const { rateSync, kv } = setUp();
  const run = rateLimited("api", (user: string) => user, { rateSync, ...TRY, key: (user) => user });
  assertEquals([await run("al"), await run("al"), await run("bo")], ["al", null, "bo"]);
  assertEquals(await keysOf(kv), ["api.al", "api.bo"]);
});

test("a key that is not what it should be is refused at the call, and its own errors pass [DEC-10]", async () => {
  const { rateSync } = setUp();
  const run = (limiter: string, key: () => unknown) => untyped(limiter, () => 1, { rateSync, key })();
  for (const value of [undefined, null, 5, () => 1]) {
    await assertRejects(() => run("api", () => value), InvalidArgumentError);
    await assertRejects(() => run("api:{user}", () => value), InvalidArgumentError);
  }
  await assertRejects(() => run("api", () => ({ user: "a" })), InvalidArgumentError);
  await assertRejects(() => run("api:{a}:{b}", () => "a"), InvalidArgumentError, "'a', 'b'");
  const fail = () => {
    throw new RangeError("no");
  };
  await assertRejects(() => run("api", fail), RangeError);
});

test("a function of the arguments may name the limiter, its key and its cost [DEC-10]", async () => {
  const { rateSync, kv } = setUp({ ratePerSecond: 0.001, burst: 3 });
  const work = (user: string, size: number) => `${user} ${size}`;
  const byId = rateLimited((user) => user === "root" ? "api" : "none", work, { rateSync, ...TRY });
  assertEquals(await byId("root", 1), "root 1");
  await assertRejects(() => byId("alice", 1), LimiterNotFoundError);
  const byCost = rateLimited((user, size) => Promise.resolve({ id: "api", key: user, cost: size }), work, {
    rateSync,
    ...TRY,
  });
  assertEquals([await byCost("al", 2), await byCost("al", 2), await byCost("al", 1)], ["al 2", null, "al 1"]);
  assertEquals(await keysOf(kv), ["api", "api.al"]);
});

test("what a factory throws passes, and what is no limiter is refused [DEC-10]", async () => {
  const { rateSync } = setUp();
  const fail = () => Promise.reject(new RangeError("no"));
  await assertRejects(() => rateLimited(fail, () => 1, { rateSync })(), RangeError);
  for (const value of [undefined, null, 5, {}, { id: 5 }]) {
    await assertRejects(() => untyped(() => value, () => 1, { rateSync })(), InvalidArgumentError);
  }
  // @ts-expect-error: who names the limiter by a function names the key there
  assertThrows(() => rateLimited(() => "api", () => 1, { rateSync, key: () => "k" }), InvalidArgumentError);
});

// The decorator

test("as a decorator it limits methods, with their this and their name [DEC-1, DEC-10]", async () => {
  const { clock, rateSync } = setUp({ ratePerSecond: 0.001, maxConcurrent: 1 });
  class Client {
    calls = 0;

    @rateLimited("api:{userId}", { rateSync, mode: "try", timeoutMs: 0 })
    async fetch({ userId }: { userId: string }): Promise<string | null> {
      this.calls++;
      return await Promise.resolve(`data of ${userId}`);
    }

    @rateLimited("api", { rateSync, timeoutMs: 0, key: (user: { id: string }) => user.id })
    async send(user: { id: string }, text: string): Promise<string> {
      await clock.sleep(1);
      return `${text} to ${user.id}`;
    }

    @rateLimited((id: string) => ({ id: "api", key: id }), { rateSync, timeoutMs: 0 })
    static async find(id: string): Promise<string> {
      return await Promise.resolve(`found ${id}`);
    }
  }
  const client = new Client();
  assertEquals(await client.fetch({ userId: "alice" }), "data of alice");
  assertEquals([await client.fetch({ userId: "alice" }), client.calls, client.fetch.name], [null, 1, "fetch"]);
  assertEquals(await new Client().fetch({ userId: "alice" }), null);
  assertEquals(await clock.runUntil(client.send({ id: "bob" }, "hello")), "hello to bob");
  await assertRejects(() => client.send({ id: "bob" }, "again"), RateLimiterAcquisitionError);
  assertEquals(await Client.find("carol"), "found carol");
  await assertRejects(() => Client.find("carol"), RateLimiterAcquisitionError);
});

test("as a decorator it refuses what is no method [DEC-11]", () => {
  const decorate = untyped("api");
  for (
    const args of [[], [() => 1], [() => 1, "fetch"], [undefined, { kind: "field" }], [() => 1, { kind: "getter" }]]
  ) {
    assertThrows(() => decorate(...args), InvalidArgumentError, "experimentalDecorators");
  }
});

test("without a registry it uses the module's limiters [DEC-1]", async () => {
  front.configureLimiter("rate-limited-front", { ratePerSecond: 0.001 });
  const run = front.rateLimited("rate-limited-front:{user}", ({ user }: { user: string }) => user, TRY);
  assertEquals([await run({ user: "a" }), await run({ user: "a" })], ["a", null]);
  assert((await front.tryAcquire("rate-limited-front", { key: "b" })).allowed);
});
