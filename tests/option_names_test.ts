import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { test } from "node:test";
import { CompositeRateLimiter, createRateSync, hashIdentifier, InvalidArgumentError, rateLimited } from "../mod.ts";
import { expandEnvironment, findConfigurationFile, parseConfiguration, parseToml } from "../src/entries/config.ts";
import { natsStore } from "../src/entries/nats.ts";
import { createFaultyKv, resetAllLimiters, resetLimiter, useVirtualTime } from "../src/testing/mod.ts";

const rateSync = createRateSync();
rateSync.configureLimiter("api", { ratePerSecond: 100, burst: 100 });
const api = rateSync.getLimiter("api");

/** What untyped code may call, with a name that is nearly right, and what is right. */
const calls: [what: string, call: (options: object) => unknown, wrong: object, right: string][] = [
  ["acquire()", (options) => rateSync.acquire("api", options), { timeout: 0.1 }, "timeoutMs"],
  ["tryAcquire()", (options) => rateSync.tryAcquire("api", options), { timeout: 1, key: "a" }, "timeoutMs"],
  ["tryAcquireSync()", (options) => api.tryAcquireSync(options), { timeout: 1 }, "timeoutMs"],
  ["checkLimiter()", (options) => rateSync.checkLimiter("api", options), { consum: false }, "consume"],
  ["checkMultiLimiters()", (options) => rateSync.checkMultiLimiters(["api"], options), { onmissing: 1 }, "onMissing"],
  [
    "checkMultiLimiters(), a request",
    (options) => rateSync.checkMultiLimiters([{ id: "api", ...options }]),
    { keys: "a" },
    "key",
  ],
  ["createRateSync()", (options) => createRateSync(options), { limiter: {} }, "limiters"],
  [
    "CompositeRateLimiter",
    (options) => new CompositeRateLimiter({ limiters: { a: "api" }, rateSync, ...options }),
    { stratgy: "any_must_pass" },
    "strategy",
  ],
  [
    "CompositeRateLimiter.check()",
    (options) => new CompositeRateLimiter({ limiters: { a: "api" }, rateSync }).check({ a: "b" }, options),
    { timeout: 1 },
    "timeoutMs",
  ],
  ["rateLimited()", (options) => rateLimited("api", () => 1, options), { timeoutms: 5 }, "timeoutMs"],
  ["hashIdentifier()", (options) => hashIdentifier("user", options), { slat: "x" }, "salt"],
  ["resetLimiter()", (options) => resetLimiter("api", { rateSync, ...options }), { keys: "a" }, "key"],
  ["resetAllLimiters()", (options) => resetAllLimiters({ rateSync, ...options }), { key: "a" }, "only rateSync"],
  ["useVirtualTime()", (options) => useVirtualTime({ rateSync, ...options }), { begin: 0 }, "start"],
  ["createFaultyKv()", (options) => createFaultyKv(options), { latency: 1 }, "latencyMs"],
];

/** What needs options, and may not be called without them. */
const demanding: [what: string, call: (options: unknown) => unknown, expected: string][] = [
  [
    "parseConfiguration()",
    (options) => Reflect.apply(parseConfiguration, undefined, ["", options]),
    "an object with environment",
  ],
  [
    "expandEnvironment()",
    (options) => Reflect.apply(expandEnvironment, undefined, [parseToml(""), options]),
    "an object with environment",
  ],
  [
    "findConfigurationFile()",
    (options) => Reflect.apply(findConfigurationFile, undefined, [options]),
    "an object with logger",
  ],
  ["CompositeRateLimiter", (options) => Reflect.construct(CompositeRateLimiter, [options]), "an object with limiters"],
  [
    "natsStore()",
    (options) => Reflect.apply(natsStore, undefined, [{ url: "nats://h" }, options]),
    "an object with id and logger",
  ],
  [
    "setFaults()",
    (options) => Reflect.apply(createFaultyKv().setFaults, undefined, [options]),
    "an object, or a function",
  ],
];

for (const [what, call, expected] of demanding) {
  test(`${what} without its options says what it needs [ERR-1]`, () => {
    for (const options of [undefined, null, 5]) {
      const error = assertThrows(() => call(options), InvalidArgumentError, "The options must be an object");
      assertEquals([error.field, error.expected, error.received], ["options", expected, String(options)]);
    }
  });
}

test("what may be called without options says so when it is given something else [ERR-1]", () => {
  assertEquals(Reflect.apply(createRateSync, undefined, [undefined]).listLimiters(), {});
  const error = assertThrows(() => Reflect.apply(createRateSync, undefined, [null]), InvalidArgumentError);
  assertEquals(error.expected, "an object, or nothing");
});

test("parseConfiguration() says that it needs a function for environment variables [ERR-1]", () => {
  for (const options of [{}, { environment: { NATS_URL: "nats://h" } }]) {
    const error = assertThrows(
      () => Reflect.apply(parseConfiguration, undefined, ['stores.a.engine = "$E"', options]),
      InvalidArgumentError,
      "environment",
    );
    assertEquals(error.field, "environment");
  }
});

for (const [what, call, wrong, right] of calls) {
  test(`an option that ${what} does not know is an error that says which there are [ERR-1]`, async () => {
    const before = api.getMetrics();
    const error = await assertRejects(async () => await call(wrong), InvalidArgumentError);
    const [name = ""] = Object.keys(wrong);
    assertStringIncludes(error.message, `There is no option "${name}" here`);
    assert(error instanceof InvalidArgumentError);
    assertStringIncludes(error.expected, right);
    assertEquals(api.getMetrics(), before);
  });
}
