import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { test } from "node:test";
import { CompositeRateLimiter, createRateSync, hashIdentifier, InvalidArgumentError, rateLimited } from "../mod.ts";
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
