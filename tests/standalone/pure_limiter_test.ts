import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertGreater,
  assertLess,
  assertLessOrEqual,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { createLimiter, type Kv } from "../../src/entries/limiter.ts";
import { memoryKv } from "../../src/entries/memory.ts";
import {
  ConfigValidationError,
  ImpossibleCostError,
  InvalidArgumentError,
  type PureDecision,
  pureLimiter,
  type PureLimiterOptions,
  RateLimiterError,
} from "../../src/entries/core.ts";
import { createVirtualClock } from "../../src/testing/virtual_clock.ts";
import { logBook } from "../support/log_book.ts";
import { concurrencyExcess, rateExcess, type Start, windowExcess } from "../support/oracles.ts";

const NOW = Date.UTC(2030, 0, 1);
const encode = (json: unknown) => new TextEncoder().encode(JSON.stringify(json));

/** The value that is to be stored after a decision, which has to be a grant. */
function granted(decision: PureDecision): Uint8Array {
  assert(decision.allowed, JSON.stringify(decision));
  return decision.value;
}

interface Rate {
  readonly ratePerSecond: number;
  readonly burst: number;
}
interface Window {
  readonly limit: number;
  readonly windowMs: number;
}
const rate: fc.Arbitrary<Rate> = fc.record({
  ratePerSecond: fc.constantFrom(0.5, 10, 333),
  burst: fc.constantFrom(1, 2.5, 20),
});
const window: fc.Arbitrary<Window> = fc.record({
  limit: fc.constantFrom(2, 5, 200),
  windowMs: fc.constantFrom(40, 1_000, 60_000),
});
/** A rate, a window, or both. */
const limits: fc.Arbitrary<{ readonly rate?: Rate; readonly window?: Window }> = fc.oneof(
  fc.record({ rate }),
  fc.record({ window }),
  fc.record({ rate, window }),
);
function optionsOf({ rate, window }: { readonly rate?: Rate; readonly window?: Window }): PureLimiterOptions {
  if (!rate) return { algorithm: "sliding_window", ...window! }; // it has at least one of them
  return { ...rate, rates: window ? [{ ...window, algorithm: "sliding_window" }] : [] };
}
const permits = fc.constantFrom({}, { maxConcurrent: 1, leaseMs: 700 }, { maxConcurrent: 3, leaseMs: 5_000 });
const steps = fc.array(
  fc.record({
    pauseMs: fc.oneof(fc.constantFrom(0, 0, 1), fc.double({ min: 0, max: 300, noNaN: true }), fc.constant(20_000)),
    waitMs: fc.constantFrom(0, 0, 50, 900, 1e9),
    cost: fc.constantFrom(1, 1, 1, 0.25, 2),
    /** How late it starts, as a part of how late it may. */
    late: fc.constantFrom(0, 0.5, 1),
    end: fc.constantFrom("releases", "crashes", "renews", "was not stored"),
  }),
  { maxLength: 60, size: "max" },
);

test("pureLimiter() never grants more than its limits, whenever each start is, and says truly when to come again", () => {
  fc.assert(
    fc.property(limits, permits, steps, (limit, permits, steps) => {
      const limiter = pureLimiter("api", { ...optionsOf(limit), ...permits });
      const starts: Start[] = [];
      const holding: { holder: string; start: Start }[] = [];
      let value: Uint8Array | undefined;
      let now = NOW + 0.3;
      for (const [i, { pauseMs, waitMs, cost, late, end }] of steps.entries()) {
        now += pauseMs;
        const before = value?.slice();
        const request = { cost: Math.min(cost, limit.rate?.burst ?? cost), holder: `job-${i}` };
        const decision = limiter.decide(value, now, { ...request, startBy: now + waitMs });
        assertEquals(value, before);
        assertEquals(decision, limiter.decide(value, now, { ...request, startBy: now + waitMs }));
        if (!decision.allowed) {
          assertGreater(decision.retryAt, now);
          // If nobody else asks, and no permit comes back either: a lease may be renewed, or given to who waits.
          const again = limiter.decide(value, decision.retryAt, { ...request, startBy: decision.retryAt + waitMs });
          assert(again.allowed || decision.rule.includes("at the same time"), JSON.stringify([decision, again]));
          continue;
        }
        const { startAt, startUntil, keepUntil } = decision;
        assert(now <= startAt && startAt <= now + Math.min(waitMs, 1_000) && startAt < startUntil);
        assertLess(decision.value.length, 6_000);
        assertEquals(limiter.usage(decision.value, keepUntil + 1), limiter.usage(null, keepUntil + 1));
        if (end === "was not stored") continue;
        value = decision.value;
        // Who crashes while it works is dead when its lease has run out.
        const lasts = end === "crashes" ? permits.leaseMs ?? Infinity : Infinity;
        const lateMs = Math.min(late * (startUntil - startAt), 1_000, lasts / 2);
        const start = { at: startAt + lateMs, cost: request.cost, until: startAt + lasts };
        starts.push(start);
        if (!permits.maxConcurrent) continue;
        if (end !== "crashes") holding.push({ holder: request.holder, start });
        for (const held of holding.splice(0)) {
          const renewed: Uint8Array | undefined = held.holder === request.holder || end === "renews"
            ? limiter.renew(value, now, held.holder)
            : undefined;
          if (renewed) {
            value = renewed;
            holding.push(held);
            continue;
          }
          held.start.until = Math.min(now, held.start.at + permits.leaseMs);
          value = limiter.release(value, now, held.holder) ?? value;
        }
      }
      const { rate, window } = limit;
      if (window) assertEquals(windowExcess(starts, window), undefined);
      // A start may be late by that, and the rate holds where it is counted in whole intervals.
      if (rate) assertEquals(rateExcess(starts, rate, Math.max(800 / rate.ratePerSecond, 5)), undefined);
      if (permits.maxConcurrent) assertEquals(concurrencyExcess(starts, permits.maxConcurrent), undefined);
    }),
    { numRuns: 400 },
  );
});

test("pureLimiter() and a limiter with the same options have one value", async () => {
  const clock = createVirtualClock(NOW);
  const kv = memoryKv(clock);
  const all: readonly (
    | PureLimiterOptions & { readonly algorithm?: undefined }
    | Extract<
      PureLimiterOptions,
      { readonly algorithm: "sliding_window" }
    >
  )[] = [
    { ratePerSecond: 0.01, burst: 4 },
    { algorithm: "sliding_window", limit: 4, windowMs: 60_000 },
    { maxConcurrent: 4 },
    { ratePerSecond: 0.01, burst: 4, maxConcurrent: 9, rates: [{ limit: 9, windowMs: 5_000, burst: 4 }] },
  ];
  const logger = logBook();
  const { lines } = logger;
  for (const [i, options] of all.entries()) {
    const id = `limit-${i}`;
    const limiter = createLimiter(id, { kv: onlyCompareAndSet(kv), clock }, { ...options, logger });
    const pure = pureLimiter(id, options);
    for (let used = 0; used < 4; used += 2) {
      assertEquals((await limiter.tryAcquire()).allowed, true);
      const entry = await kv.get(id);
      const decision = pure.decide(entry?.value, clock.now(), { holder: `job-${used}` });
      assertEquals(decision.warning, undefined);
      const written = await kv.compareAndSet(id, granted(decision), entry?.revision ?? 0);
      assert(written.ok);
      assertEquals(decision.remaining, 2 - used);
    }
    assertEquals((await limiter.tryAcquire()).allowed, false);
    assertEquals(pure.decide((await kv.get(id))?.value, clock.now(), { holder: "job" }).allowed, false);
    await limiter.close();
  }
  assertEquals(lines.filter((line) => line.startsWith("warn")), []);
});

test("of two that decide on the same value at once, one has granted something", () => {
  const limiter = pureLimiter("api", { ratePerSecond: 1 });
  const [first, second] = [limiter.decide(null, NOW), limiter.decide(null, NOW)];
  const stored = granted(first); // in a transaction, or by a compare-and-set; the other one is told to decide anew
  assert(second.allowed);
  assertEquals(limiter.decide(stored, NOW).allowed, false);
});

test("a permit of pureLimiter() is held until it is released, or its lease runs out", () => {
  const limiter = pureLimiter("upload", { maxConcurrent: 2, leaseMs: 1_000 });
  const one = granted(limiter.decide(null, NOW, { holder: "one" }));
  const both = granted(limiter.decide(one, NOW + 100, { holder: "two" }));
  const refused = limiter.decide(both, NOW + 200, { holder: "three" });
  assertEquals(refused, {
    allowed: false,
    retryAt: NOW + 1_000,
    rule: "2 at the same time",
    limit: 2,
    remaining: 0,
    resetAt: NOW + 1_200,
    value: undefined,
    warning: undefined,
  });
  const released = limiter.release(both, NOW + 200, "one");
  assert(released && limiter.decide(released, NOW + 200, { holder: "three" }).allowed);
  const renewed = limiter.renew(both, NOW + 900, "one");
  assertEquals(limiter.decide(renewed, NOW + 1_000, { holder: "three" }).allowed, false);
  assertEquals(limiter.decide(renewed, NOW + 1_100, { holder: "three" }).allowed, true);
  assertEquals(limiter.renew(both, NOW + 1_000, "one"), undefined);
  assertEquals(limiter.renew(released, NOW + 300, "one"), undefined);
  assertEquals(limiter.release(released, NOW + 300, "one"), undefined);
  assertEquals(limiter.release(null, NOW, "one"), undefined);
  const usage = limiter.usage(both, NOW + 1_050);
  assertEquals([usage.limit, usage.remaining], [2, 1]);
});

test("a permit that starts later is held from then on, and renewing it before takes nothing from that", () => {
  const limiter = pureLimiter("upload", { ratePerSecond: 2, maxConcurrent: 5, leaseMs: 1_000 });
  const first = granted(limiter.decide(null, NOW, { holder: "one" }));
  const second = limiter.decide(first, NOW, { holder: "two", startBy: NOW + 800 });
  assert(second.allowed);
  assertAlmostEquals(second.startAt, NOW + 500, 1e-3);
  const renewed = limiter.renew(second.value, NOW + 10, "two");
  assert(limiter.renew(renewed, NOW + 1_499, "two"), "its lease has run out");
  assertEquals(limiter.renew(renewed, NOW + 1_501, "two"), undefined);
});

test("a slot is reserved as far ahead as reserveAheadMs, however long one would wait", () => {
  const limiter = pureLimiter("api", { ratePerSecond: 1, reserveAheadMs: 1_500 });
  const one = granted(limiter.decide(null, NOW));
  const two = limiter.decide(one, NOW, { startBy: Infinity });
  assert(two.allowed);
  assertEquals(two.startAt, NOW + 1_000);
  const three = limiter.decide(two.value, NOW, { startBy: Infinity });
  assert(!three.allowed);
  assertEquals(three.retryAt, NOW + 500);
  const again = limiter.decide(two.value, NOW + 500, { startBy: Infinity });
  assertEquals(again.allowed && again.startAt, NOW + 2_000);
});

test("pureLimiter() says what is wrong with a value, takes it for used up, and leaves one of a newer version alone", () => {
  const limiter = pureLimiter("api", { ratePerSecond: 10, burst: 5 });
  const damaged = limiter.decide(new TextEncoder().encode("not JSON"), NOW);
  assert(!damaged.allowed && damaged.value);
  assertEquals(damaged.remaining, 0);
  assertStringIncludes(damaged.warning ?? "", "Limiter 'api': its stored value was damaged (it is not a JSON object)");
  const others = granted(pureLimiter("api", { ratePerSecond: 20, burst: 5 }).decide(null, NOW));
  const decision = limiter.decide(others, NOW);
  assertStringIncludes(decision.warning ?? "", 'other rules ("20/s, burst 5", here "10/s, burst 5")');
  assertEquals(decision.remaining, 3);
  const newer = encode({ v: 2, more: "than this process knows" });
  for (const call of ["decide", "usage"] as const) {
    const error = assertThrows(() => limiter[call](newer, NOW), RateLimiterError);
    assertStringIncludes(error.message, "Limiter 'api': a stored value has version 2");
  }
});

test("a damaged value recovers once what came of it is stored, whatever the rule", () => {
  const all: readonly PureLimiterOptions[] = [
    { ratePerSecond: 10, burst: 5 },
    { algorithm: "sliding_window", limit: 5, windowMs: 60_000 },
    { maxConcurrent: 3, leaseMs: 5_000 },
  ];
  for (const options of all) {
    const limiter = pureLimiter("api", options);
    const damaged = limiter.decide(new TextEncoder().encode("not JSON"), NOW, { holder: "one" });
    assert(!damaged.allowed && damaged.value);
    const early = limiter.decide(damaged.value, damaged.retryAt - 50, { holder: "one" });
    assertEquals([early.allowed, early.value, early.warning], [false, undefined, undefined]);
    assertEquals(limiter.decide(damaged.value, damaged.retryAt, { holder: "one" }).allowed, true);
  }
});

test("who wrote the value stays there, and a field that nobody understands does not", () => {
  const limiter = pureLimiter("api", { ratePerSecond: 10 });
  const value = encode({ v: 1, rules: "10/s, burst 1", epoch: NOW, rate: 0, writers: [["a", 7]], more: [1, 2] });
  const after = JSON.parse(new TextDecoder().decode(granted(limiter.decide(value, NOW + 500))));
  assertEquals(after, { v: 1, rules: "10/s, burst 1", epoch: NOW, rate: 600, writers: [["a", 7]] });
});

test("pureLimiter() refuses wrong options, and those that only a store has a use for", () => {
  const wrong: readonly (readonly [unknown, string])[] = [
    [{}, "ratePerSecond"],
    [undefined, "options"],
    [{ ratePerSecond: 0 }, "ratePerSecond"],
    [{ ratePerSecond: 1, windowMs: 1 }, "windowMs"],
    [{ ratePerSecond: 1, prefetch: 5 }, "prefetch"],
    [{ ratePerSecond: 1, timeoutMs: 5 }, "timeoutMs"],
    [{ ratePerSecond: 1, onFailure: "open" }, "onFailure"],
    [{ maxConcurrent: 1, leaseMs: 0 }, "leaseMs"],
    [{ rates: [{ limit: 1, windowMs: 0 }] }, "rates[0].windowMs"],
  ];
  for (const [options, field] of wrong) {
    const error = assertThrows(() => pureLimiter("api", options as never), ConfigValidationError); // untyped code
    assertEquals(error.field, `limiters.api.${field}`);
  }
  const typo = { ratePerSecnd: 1 } as never; // untyped code
  assertThrows(() => pureLimiter("api", typo), ConfigValidationError, "expected=one of limit, windowMs, burst,");
  assertThrows(() => pureLimiter("", { ratePerSecond: 1 }), ConfigValidationError, "must not be empty");
});

test("pureLimiter() refuses arguments that cannot be right, with their names", () => {
  const limiter = pureLimiter("upload", { ratePerSecond: 1, burst: 2, maxConcurrent: 2 });
  const one = granted(limiter.decide(null, NOW, { holder: "one" }));
  const decide = (value: unknown, now: unknown, request: object = { holder: "two" }) => () =>
    limiter.decide(value as null, now as number, request); // untyped code may give anything
  const wrong: readonly (readonly [() => unknown, string])[] = [
    [decide("text", NOW), "value"],
    [decide({}, NOW), "value"],
    [decide(one, NaN), "now"],
    [decide(one, new Date(NOW)), "now"],
    [decide(one, undefined), "now"],
    [decide(one, NOW, { holder: "two", cost: 0 }), "cost"],
    [decide(one, NOW, { holder: "two", cost: "1" }), "cost"],
    [decide(one, NOW, { holder: "two", startBy: NOW - 1 }), "startBy"],
    [decide(one, NOW, { holder: "two", startBy: NaN }), "startBy"],
    [decide(one, NOW, { holder: "two", startBy: "now" }), "startBy"],
    [decide(one, NOW, { holder: "two", timeoutMs: 5 }), "options"],
    [decide(one, NOW, null as never), "options"],
    [decide(one, 1e300), "now"],
    [decide(one, NOW, {}), "holder"],
    [decide(one, NOW, { holder: 5 }), "holder"],
    [decide(one, NOW, { holder: "unknown" }), "holder"],
    [decide(one, NOW, { holder: "one" }), "holder"],
    [() => limiter.renew(one, NOW, ""), "holder"],
    [() => limiter.release(one, NOW, ""), "holder"],
    [() => limiter.usage(one, Infinity), "now"],
  ];
  for (const [call, field] of wrong) assertEquals(assertThrows(call, InvalidArgumentError).field, field);
  const error = assertThrows(decide(one, NOW, { holder: "two", cost: 3 }), ImpossibleCostError);
  assertEquals([error.limiterId, error.maximum], ["upload", 2]);
  assertLessOrEqual(limiter.usage(one, NOW).remaining, 1);
});

/** A store that lends nothing, so that each decision is written. */
function onlyCompareAndSet({ get, compareAndSet, delete: remove, keys }: Kv): Kv {
  return { get, compareAndSet, delete: remove, keys };
}
