import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { checkLimiterOptions } from "../../src/config/limiters.ts";
import { ConfigValidationError } from "../../src/core/errors.ts";
import { resolveLimiter } from "../../src/core/limiter/defaults.ts";

function refusal(options: unknown, id = "a"): ConfigValidationError {
  return assertThrows(() => checkLimiterOptions(id, options), ConfigValidationError);
}

const backendTimeoutMs = 2_000;

test("checkLimiterOptions() returns what it was given, without what is undefined", () => {
  const options = {
    store: "s",
    ratePerSecond: 0.001,
    burst: 2.5,
    maxConcurrent: 3,
    leaseMs: 1,
    timeoutMs: 0,
    failClosed: true,
    onFailure: "closed",
    backendTimeoutMs: 5,
    reserveAheadMs: 0,
    prefetch: 0,
    rates: [{ limit: 1, windowMs: 0.5 }],
    replace: true,
  };
  assertEquals(checkLimiterOptions("a", { ...options, limit: undefined }) as unknown, options);
  const window = { algorithm: "sliding_window", limit: 5, windowMs: 300_000, maxConcurrent: 1 };
  assertEquals(checkLimiterOptions("a", window) as unknown, window);
});

test("checkLimiterOptions() needs no store", () => {
  assertEquals(checkLimiterOptions("a", { ratePerSecond: 1 }), { ratePerSecond: 1 });
});

test("checkLimiterOptions() names fields as they are written in code [LIM-2, LIM-4]", () => {
  const cases: [options: object, field: string, reason: string][] = [
    [{ ratePerSecond: -1 }, "ratePerSecond", "ratePerSecond must be > 0, got -1"],
    [{ ratePerSecond: "1" }, "ratePerSecond", 'must be a number > 0, got "1"'],
    [{ ratePerSecond: 1n }, "ratePerSecond", "got a bigint"],
    [{ ratePerSecond: new Date() }, "ratePerSecond", "got an object"],
    [{ ratePerSecond: null }, "ratePerSecond", "got null"],
    [{ maxConcurrent: 2.5 }, "maxConcurrent", "must be an integer >= 1, got 2.5"],
    [{ ratePerSecond: 1, burst: 0 }, "burst", "burst must be >= 1, got 0"],
    [{ ratePerSecond: 1, burst: Infinity }, "burst", "burst must be finite, got Infinity"],
    [{ ratePerSecond: 1, timeoutMs: Infinity }, "timeoutMs", "timeoutMs must be finite, got Infinity. Leave it out"],
    [{ ratePerSecond: 1, timeoutMs: -1 }, "timeoutMs", "timeoutMs must be >= 0, got -1"],
    [{ ratePerSecond: 1, leaseMs: 0 }, "leaseMs", "leaseMs must be >= 1, got 0"],
    [{ ratePerSecond: 1, reserveAheadMs: NaN }, "reserveAheadMs", "got NaN"],
    [{ ratePerSecond: 1, failClosed: "true" }, "failClosed", "must be true or false"],
    [{ ratePerSecond: 1, failClosed: true, onFailure: "open" }, "onFailure", "contradicts"],
    [{ ratePerSecond: 1, replace: 1 }, "replace", "must be true or false"],
    [{ ratePerSecond: 1, store: "" }, "store", "not empty"],
    [{ ratePerSecond: 1, store: {} }, "store", "store must be a text, got an object"],
    [{ ratePerSecond: 1, window_seconds: 1 }, "window_seconds", "Did you mean 'windowMs'?"],
    [{ rate_per_second: 1 }, "rate_per_second", "Did you mean 'ratePerSecond'?"],
    [{ ratePerSecond: 1, timeout: 1 }, "timeout", "Did you mean 'timeoutMs'?"],
    [{ algorithm: "sliding_window", limit: 5 }, "windowMs", "requires both 'limit' and 'windowMs'"],
    [{ algorithm: "bogus", ratePerSecond: 1 }, "algorithm", "token_bucket"],
    [{}, "ratePerSecond", "requires at least one of 'ratePerSecond', 'maxConcurrent' or 'rates'"],
    [{ rates: [] }, "rates", "'rates' is empty, and nothing else limits"],
    [{ rates: [{ limit: 1, window_seconds: 1 }] }, "rates[0].window_seconds", "Did you mean 'windowMs'?"],
    [{ rates: [{ limit: 1 }] }, "rates[0].windowMs", "Missing"],
    [{ rates: [null] }, "rates[0]", "an object with limit and windowMs"],
    [{ rates: new Array(2) }, "rates[0]", "an object with limit and windowMs, received=undefined"],
    [{ rates: [{ limit: 1, windowMs: 1 }, "1 in 1"] }, "rates[1]", "received=a value of type string"],
    [
      { rates: [{ limit: 1, windowMs: 1e-300, burst: 1 }] },
      "rates[0]",
      "which no clock can keep. Correct limit or windowMs",
    ],
    [
      { rates: [{ limit: 1, windowMs: 1 }, { limit: 2 ** 52, windowMs: 1, burst: 1 }] },
      "rates[1]",
      "which no clock can keep",
    ],
    [{ ratePerSecond: 1, backendTimeoutMs: 2 ** 31 }, "backendTimeoutMs", "must be <= 2147483647, got 2147483648"],
    [{ rates: {} }, "rates", "a list of objects with limit and windowMs, got an object"],
    [{ ratePerSecond: 1, prefetch: -1 }, "prefetch", "prefetch must be >= 0, got -1"],
    [{ ratePerSecond: 1, prefetch: 1.5 }, "prefetch", "must be an integer >= 0 and <= 5000, got 1.5"],
    [{ ratePerSecond: 1, prefetch: 5_001 }, "prefetch", "must be <= 5000, got 5001"],
    [{ ratePerSecond: 1, prefetch: 1, maxConcurrent: 1 }, "prefetch", "does not go with 'maxConcurrent'"],
    [{ algorithm: "sliding_window", limit: 1, windowMs: 1, prefetch: 1 }, "prefetch", "with sliding_window"],
    [
      { rates: [{ limit: 1, windowMs: 1 }], prefetch: 1 },
      "prefetch",
      "'rates' that have no 'burst', and so are windows",
    ],
  ];
  for (const [options, field, reason] of cases) {
    const error = refusal(options);
    assertEquals(error.field, `limiters.a.${field}`, error.message);
    assertStringIncludes(error.message, reason);
    assertEquals(error.file, undefined);
  }
});

test("checkLimiterOptions() refuses options that are no object", () => {
  for (const options of [undefined, null, 5, "x", [], () => {}]) assertEquals(refusal(options).field, "limiters.a");
});

test("checkLimiterOptions() ignores what an options' prototype has", () => {
  refusal(Object.create({ ratePerSecond: 1 }));
  refusal(JSON.parse('{"__proto__": {"ratePerSecond": 1}}'));
});

test("checkLimiterOptions() refuses ids that are empty, padded, reserved or no text", () => {
  const ids: unknown[] = [
    "",
    " ",
    " a",
    "a\n",
    "__proto__",
    "constructor",
    "prototype",
    "\ud800",
    5,
    null,
    {},
  ];
  for (const id of ids) {
    // Untyped code can pass anything.
    const error = refusal({ ratePerSecond: 1 }, id as string);
    assertStringIncludes(error.field, "limiters");
  }
  for (const id of ["user@example.com", "1.2.3.4:80", "a b", "toString", "*", ">", "😀", "x".repeat(10_000)]) {
    assertEquals(checkLimiterOptions(id, { ratePerSecond: 1 }), { ratePerSecond: 1 });
  }
});

test("resolveLimiter() fills in the defaults [CFG-18, STA-1]", () => {
  assertEquals(resolveLimiter("a", { ratePerSecond: 10 }, { backendTimeoutMs }), {
    id: "a",
    storeId: "memory",
    algorithm: "token_bucket",
    ratePerSecond: 10,
    burst: 1,
    maxConcurrent: null,
    leaseMs: 10_000,
    limit: null,
    windowMs: null,
    rates: [],
    timeoutMs: null,
    failClosed: false,
    onFailure: "open",
    backendTimeoutMs,
    reserveAheadMs: 1_000,
    prefetch: 0,
  });
});

test("resolveLimiter() keeps what was configured", () => {
  const config = resolveLimiter(
    "a",
    {
      store: "s",
      algorithm: "sliding_window",
      limit: 5,
      windowMs: 500,
      maxConcurrent: 2,
      leaseMs: 1,
      timeoutMs: 0,
      onFailure: "local",
      backendTimeoutMs: 7,
      reserveAheadMs: 0,
      prefetch: 9,
      rates: [
        { limit: 1, windowMs: 1 },
        { limit: 2, windowMs: 2, algorithm: "token_bucket" },
        { limit: 3, windowMs: 3, burst: 4 },
      ],
    },
    { backendTimeoutMs },
  );
  assertEquals(config, {
    id: "a",
    storeId: "s",
    algorithm: "sliding_window",
    ratePerSecond: null,
    burst: 1,
    maxConcurrent: 2,
    leaseMs: 1,
    limit: 5,
    windowMs: 500,
    rates: [
      { limit: 1, windowMs: 1, algorithm: "sliding_window" },
      { limit: 2, windowMs: 2, algorithm: "token_bucket", burst: 1 },
      { limit: 3, windowMs: 3, algorithm: "token_bucket", burst: 4 },
    ],
    timeoutMs: 0,
    failClosed: false,
    onFailure: "local",
    backendTimeoutMs: 7,
    reserveAheadMs: 0,
    prefetch: 9,
  });
});

test("resolveLimiter() makes failClosed and onFailure agree [FAIL-4, CFG-16]", () => {
  const facts = (options: object) => {
    const { failClosed, onFailure } = resolveLimiter("a", checkLimiterOptions("a", { ratePerSecond: 1, ...options }), {
      backendTimeoutMs,
    });
    return [failClosed, onFailure];
  };
  assertEquals(facts({}), [false, "open"]);
  assertEquals(facts({ failClosed: true }), [true, "closed"]);
  assertEquals(facts({ onFailure: "closed" }), [true, "closed"]);
  assertEquals(facts({ failClosed: true, onFailure: "closed" }), [true, "closed"]);
  assertEquals(facts({ failClosed: false, onFailure: "local" }), [false, "local"]);
});

test("resolveLimiter() returns a frozen configuration", () => {
  const config = resolveLimiter("a", { rates: [{ limit: 1, windowMs: 1 }] }, { backendTimeoutMs });
  assert(Object.isFrozen(config) && Object.isFrozen(config.rates) && config.rates.every(Object.isFrozen));
});

test("checkLimiterOptions() throws nothing but ConfigValidationError, whatever it is given (property)", () => {
  fc.assert(
    fc.property(
      fc.string(),
      fc.anything({ withNullPrototype: true, withBigInt: true, withDate: true }),
      (id, options) => {
        try {
          checkLimiterOptions(id, options);
        } catch (error) {
          assert(error instanceof ConfigValidationError, String(error));
        }
      },
    ),
  );
});
