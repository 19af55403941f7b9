import {
  assert,
  assertEquals,
  assertGreater,
  assertInstanceOf,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { createRateSync } from "../../mod.ts";
import {
  ConfigValidationError,
  createLimiter,
  type Kv,
  type LimiterStore,
  pureLimiter,
  RateLimiterAcquisitionError,
  type StandaloneLimiterOptions,
  StoreUnavailableError,
} from "../../src/entries/limiter.ts";
import { memoryKv, memoryStore } from "../../src/entries/memory.ts";
import { createFaultyKv } from "../../src/testing/faulty_kv.ts";
import { createVirtualClock } from "../../src/testing/virtual_clock.ts";
import { logBook } from "../support/log_book.ts";
import { createSimulatedPeers } from "../support/simulated_peers.ts";

test("createLimiter() and a registry that have the same store, id and key share one limit", async () => {
  const { kv, clock } = memoryStore();
  const rateSync = createRateSync();
  rateSync.configureStore("mine", { kv, clock });
  const options = { ratePerSecond: 0.001, burst: 2 };
  rateSync.configureLimiter("api", { store: "mine", ...options });
  const alone = createLimiter("api", { kv, clock }, options);
  for (const key of [undefined, "alice", "a long one, which is hashed ".repeat(20)]) {
    assertEquals((await alone.tryAcquire({ key })).allowed, true);
    assertEquals((await rateSync.tryAcquire("api", { key })).allowed, true);
    assertEquals((await alone.tryAcquire({ key })).allowed, false);
    assertEquals((await rateSync.tryAcquire("api", { key })).allowed, false);
  }
});

test("createLimiter() fills in what a registry does", () => {
  const rateSync = createRateSync();
  const all = [
    { ratePerSecond: 10 },
    { maxConcurrent: 3, rates: [{ limit: 1, windowMs: 1_000 }], timeoutMs: 0 },
    { algorithm: "sliding_window", limit: 5, windowMs: 300_000, onFailure: "closed", reserveAheadMs: 0 },
  ] as const satisfies readonly StandaloneLimiterOptions[];
  for (const [i, options] of all.entries()) {
    rateSync.configureLimiter(`limiter ${i}`, options);
    const expected = { ...rateSync.getLimiter(`limiter ${i}`).getConfig(), storeId: "kv" };
    assertEquals(createLimiter(`limiter ${i}`, memoryStore(), options).getConfig(), expected);
  }
});

test("createLimiter() waits, limits and gives back on the clock that it was given", async () => {
  const clock = createVirtualClock();
  const limiter = createLimiter("api", memoryStore(clock), { ratePerSecond: 1 / 3_600, maxConcurrent: 1 });
  const first = await limiter.acquire();
  await first.release();
  const second = await clock.runUntil(limiter.acquire());
  assertEquals(Math.round(second.waitedMs), 3_600_000);
  await limiter.close();
  assertEquals(clock.sleepers, 0);
});

test("a limiter of createLimiter() does not take a store that has lost its data for what it was [FAIL-3]", async () => {
  const clock = createVirtualClock();
  let server = memoryKv(clock);
  let session = 0;
  const kv: Kv = {
    get: (key) => server.get(key),
    compareAndSet: (...write) => server.compareAndSet(...write),
    delete: (key) => server.delete(key),
    keys: (prefix) => server.keys(prefix),
  };
  const store: LimiterStore = {
    kv,
    clock,
    get session() {
      return session;
    },
  };
  const options = { maxConcurrent: 2, leaseMs: 60_000, onFailure: "closed" } as const;
  const idle = createLimiter("upload", store, options);
  const busy = createLimiter("upload", store, options);
  // Revisions 1 and 2, after which nothing is held.
  await clock.runUntil(idle.acquire().then((permit) => permit.release()));
  server = memoryKv(clock);
  session++;
  // Revisions 1 and 2 again, after which everything is held.
  for (let i = 0; i < 2; i++) await clock.runUntil(busy.acquire());
  assertEquals((await clock.runUntil(idle.tryAcquire())).allowed, false);
});

test("a limiter of createLimiter() that is disposed of gives back what it holds", async () => {
  const store = memoryStore();
  {
    await using upload = createLimiter("upload", store, { maxConcurrent: 1 });
    await upload.acquire();
  }
  const other = createLimiter("upload", store, { maxConcurrent: 1 });
  assertEquals((await other.tryAcquire()).allowed, true);
  await other.close();
});

test("createLimiter() opens a store with the first use, and leaves it open", async () => {
  const calls: string[] = [];
  const store: LimiterStore & { close(): void } = {
    ...memoryStore(),
    open: () => Promise.resolve(void calls.push("open")),
    close: () => void calls.push("close"),
  };
  const limiter = createLimiter("api", store, { ratePerSecond: 10 });
  assertEquals(calls, []);
  await limiter.acquire();
  await limiter.close();
  assertEquals(calls, ["open"]);
});

test("createLimiter() refuses a store that forgets before the limit has run out", async () => {
  const store = { ...memoryStore(), retentionMs: 1_000 };
  const limiter = createLimiter("login", store, { algorithm: "sliding_window", limit: 5, windowMs: 60_000 });
  await assertRejects(() => limiter.acquire(), ConfigValidationError, "forgets after 1 s");
});

test("when the store fails a limiter of createLimiter() admits and says so, or with onFailure closed throws", async () => {
  const { clock } = memoryStore();
  const broken = () => Promise.reject(new StoreUnavailableError("The disk is full.", { store: "mine" }));
  const kv = { ...memoryKv(), get: broken, compareAndSet: broken };
  const logger = logBook();
  const { lines } = logger;
  const open = createLimiter("open", { kv, clock }, { ratePerSecond: 1, logger });
  assertEquals((await open.acquire()).degraded, true);
  const warnings = lines.filter((line) => line.startsWith("warn: "));
  assertEquals(warnings.length, 1);
  assertStringIncludes(warnings[0]!, "Limiter 'open': Store 'mine': The disk is full.");
  const closed = createLimiter("closed", { kv, clock }, { ratePerSecond: 1, logger, onFailure: "closed" });
  const error = await assertRejects(() => closed.acquire(), RateLimiterAcquisitionError);
  assertEquals(error.reason, "backend");
  assertInstanceOf(error.cause, StoreUnavailableError);
});

test("limiters of createLimiter() that want the same key hand their requests over, if their store lets them", async () => {
  const clock = createVirtualClock();
  const connect = createSimulatedPeers(clock);
  const kv = createFaultyKv({ clock, latencyMs: 4 });
  const peers = [1, 2].map(() => connect({ latencyMs: 1, isDown: false }));
  const options = { ratePerSecond: 1_000, burst: 1_000 };
  const limiters = peers.map((own) => createLimiter("api", { kv, clock, peers: own }, options));
  for (let turn = 0; turn < 5; turn++) {
    await clock.runUntil(Promise.all(limiters.map((limiter) => limiter.acquire())));
  }
  assertGreater(peers.reduce((sum, { asked }) => sum + asked, 0), 0);
});

test("a limiter of createLimiter() goes by what its store says about its clock and its connection", async () => {
  const clock = createVirtualClock();
  const memory = memoryKv(clock);
  const reading = { source: "server", now: clock.now(), offsetMs: 5, errorMs: 1, measuredAt: null } as const;
  let reads = 0;
  let isSilent = false;
  const kv: Kv = {
    get(key) {
      reads++;
      return isSilent ? new Promise(() => {}) : memory.get(key);
    },
    compareAndSet: (...write) => memory.compareAndSet(...write),
    delete: (key) => memory.delete(key),
    keys: (prefix) => memory.keys(prefix),
  };
  const store: LimiterStore = {
    kv,
    clock,
    readClock: () => reading,
    isClockStale: true,
    get problem() {
      return isSilent ? "the line is cut." : undefined;
    },
  };
  const logger = logBook();
  const limiter = createLimiter("api", store, { ratePerSecond: 10, burst: 5, onFailure: "closed", logger });
  assertEquals(limiter.getClock(), reading);
  for (let i = 0; i < 2; i++) await clock.runUntil(limiter.acquire());
  assertEquals(reads, 2, "with such a clock nothing is decided by what was known");
  isSilent = true;
  const failed = assertRejects(() => limiter.acquire(), RateLimiterAcquisitionError, "the line is cut.");
  await clock.runUntil(failed);
});

test("createLimiter() says which option is wrong, what was expected and what was there", () => {
  const wrong: [options: object, field: string, received: string][] = [
    [{}, "ratePerSecond", "nothing"],
    [{ ratePerSecond: 0 }, "ratePerSecond", "0"],
    [{ ratePerSecond: Infinity }, "ratePerSecond", "Infinity"],
    [{ ratePerSecond: NaN }, "ratePerSecond", "NaN"],
    [{ ratePerSecond: "10" }, "ratePerSecond", '"10"'],
    [{ ratePerSecond: 1, burst: 0.5 }, "burst", "0.5"],
    [{ maxConcurrent: 1, burst: 5 }, "burst", "5"],
    [{ maxConcurrent: 1.5 }, "maxConcurrent", "1.5"],
    [{ maxConcurrent: 1, leaseMs: 0 }, "leaseMs", "0"],
    [{ ratePerSecond: 1, timeoutMs: -1 }, "timeoutMs", "-1"],
    [{ ratePerSecond: 1, limit: 5 }, "limit", "5"],
    [{ ratePerSecond: 1, windowMs: 5 }, "windowMs", "5"],
    [{ algorithm: "sliding_window", limit: 5 }, "windowMs", "nothing"],
    [{ algorithm: "sliding_window", limit: 5, windowMs: 1, ratePerSecond: 1 }, "ratePerSecond", "1"],
    [{ algorithm: "sliding_window", limit: 5, windowMs: 1, burst: 1 }, "burst", "1"],
    [{ algorithm: "gcra", ratePerSecond: 5 }, "algorithm", '"gcra"'],
    [{ ratePerSecond: 1, onFailure: "local" }, "onFailure", '"local"'],
    [{ ratePerSecond: 1, store: "nats" }, "store", "an unknown option"],
    [{ ratePerSecond: 1, toString: 1 }, "toString", "an unknown option"],
    [{ ratePerSecond: 1, logger: null }, "logger", "null"],
    [{ ratePerSecond: 1, breakerFailures: -1 }, "breakerFailures", "-1"],
    [{ ratePerSecond: 1, breakerFailures: 1.5 }, "breakerFailures", "1.5"],
    [{ ratePerSecond: 1, breakerCoolDownMs: 0 }, "breakerCoolDownMs", "0"],
    [{ ratePerSecond: 1, breakerCoolDownMs: 20, breakerMaxCoolDownMs: 10 }, "breakerMaxCoolDownMs", "10"],
    [{ ratePerSecond: 1, retryIntervalMs: 0 }, "retryIntervalMs", "0"],
    [{ ratePerSecond: 1, maxRetries: 0 }, "maxRetries", "0"],
    [{ rates: [] }, "ratePerSecond", "nothing"],
    [{ rates: 5 }, "rates", "5"],
    [{ rates: [5] }, "rates[0]", "5"],
    [{ rates: [null] }, "rates[0]", "null"],
    [{ rates: new Array(2) }, "rates[0]", "undefined"],
    [{ rates: [{ limit: 1 }] }, "rates[0].windowMs", "nothing"],
    [{ rates: [{ limit: 1, windowMs: 1, burst: 0 }] }, "rates[0].burst", "0"],
    [{ rates: [{ limit: 1, windowMs: 1, burst: 2, algorithm: "sliding_window" }] }, "rates[0].burst", "2"],
    [{ rates: [{ limit: 1, windowMs: 1e13, burst: 1 }] }, "rates[0]", "1e-10 per second"],
    [{ ratePerSecond: 1, rates: [{ limit: 1, windowMs: 1 }], prefetch: 1 }, "prefetch", "1"],
    [{ rates: [{ limit: 1, windowMs: 1, leaseMs: 2 }] }, "rates[0].leaseMs", "an unknown option"],
  ];
  for (const [options, field, received] of wrong) {
    // Untyped code may give anything.
    const error = assertThrows(() => createLimiter("api", memoryStore(), options as never), ConfigValidationError);
    assertEquals([error.field, error.received], [`limiters.api.${field}`, received]);
    assert(error.expected !== "", error.message);
  }
});

test("createLimiter() says which methods its store lacks", () => {
  const { kv, clock } = memoryStore();
  const wrong: readonly (readonly [store: object, field: string, received: string])[] = [
    [{ kv: { ...kv, delete: undefined }, clock }, "store.kv", "an object without delete()"],
    [{ kv, clock: Date }, "store.clock", "a function without sleep()"],
    [{ kv: 5, clock }, "store.kv", "5"],
  ];
  for (const [store, field, received] of wrong) {
    // Untyped code may give anything.
    const error = assertThrows(() => createLimiter("api", store as never, { ratePerSecond: 1 }), ConfigValidationError);
    assertEquals([error.field, error.received], [`limiters.api.${field}`, received]);
  }
});

/** Values at the edges of what some option may be. */
const EDGES: readonly unknown[] = [
  ...[
    0,
    1,
    1.5,
    2,
    -1,
    1e-9,
    9e-10,
    1e9,
    1.1e9,
    5_000,
    5_001,
    2 ** 31 - 1,
    2 ** 31 - 0.5,
    2 ** 31,
    2 ** 53 - 1,
    2 ** 53,
  ],
  ...[NaN, Infinity, -0, "1", "closed", "local", true, null, [], {}, undefined],
];
const edges = fc.constantFrom(...EDGES);
const rate = fc.record({
  limit: edges,
  windowMs: edges,
  burst: edges,
  algorithm: fc.constantFrom("token_bucket", "sliding_window", "gcra"),
}, { requiredKeys: [] });
const LIMITS = [
  { ratePerSecond: 10 },
  { maxConcurrent: 2 },
  { algorithm: "sliding_window", limit: 5, windowMs: 1_000 },
];
const anyLimit = fc.oneof(
  fc.constantFrom(...LIMITS),
  fc.record({ rates: fc.array(fc.oneof(rate, fc.constant({ limit: 5, windowMs: 1_000 })), { maxLength: 2 }) }),
  fc.constant({}),
);
const NUMBERS = [
  ...["ratePerSecond", "burst", "limit", "windowMs", "maxConcurrent", "leaseMs"],
  ...["timeoutMs", "reserveAheadMs", "prefetch", "backendTimeoutMs"],
];
const anyOptions = fc.tuple(
  anyLimit,
  fc.record({
    algorithm: fc.constantFrom("token_bucket", "sliding_window", "gcra"),
    ...Object.fromEntries(NUMBERS.map((name) => [name, edges])),
    onFailure: fc.constantFrom("open", "closed", "never", 5, undefined),
    more: edges,
  }, { requiredKeys: [] }).map((all) => Object.fromEntries(Object.entries(all).slice(0, 2))),
).map(([limit, more]) => ({ ...limit, ...more }));

test("createLimiter(), pureLimiter() and a registry accept the same ids and options", () => {
  const accepts = (call: () => unknown) => {
    try {
      call();
      return true;
    } catch (error) {
      assertInstanceOf(error, ConfigValidationError);
      return false;
    }
  };
  const seen = new Set<boolean>();
  const check = (id: string, options: object) => {
    const given = options as { ratePerSecond: number }; // untyped code may give anything
    const expected = accepts(() => createRateSync().configureLimiter(id, given));
    assertEquals(accepts(() => createLimiter(id, memoryStore(), given)), expected, JSON.stringify([id, options]));
    const isPure = !Object.keys(options).some((name) =>
      ["timeoutMs", "prefetch", "backendTimeoutMs", "onFailure"].includes(name)
    );
    if (isPure) assertEquals(accepts(() => pureLimiter(id, given)), expected, JSON.stringify([id, options]));
    seen.add(expected);
  };
  for (
    const id of ["a", " a", "a ", "", " ", "a b", "__proto__", "constructor", "\ud800", "ü", "a.b*>", "x".repeat(999)]
  ) {
    check(id, { ratePerSecond: 1 });
  }
  for (const limit of LIMITS) {
    for (const name of NUMBERS) for (const value of EDGES) check("api", { ...limit, [name]: value });
  }
  fc.assert(fc.property(anyOptions, (options) => check("api", options)), { numRuns: 3_000 });
  assertEquals(seen.size, 2);
});

test("createLimiter() refuses what is no id, no store or no options at all", () => {
  const options = { ratePerSecond: 1 };
  for (const id of ["", undefined, 5]) {
    assertThrows(
      () => createLimiter(id as never, memoryStore(), options),
      ConfigValidationError,
      "The id of a limiter must ",
    );
  }
  for (const store of [undefined, {}, { kv: memoryKv() }]) {
    assertThrows(() => createLimiter("api", store as never, options), ConfigValidationError, "store must be an object");
  }
  for (const given of [undefined, null, 5]) {
    assertThrows(() => createLimiter("api", memoryStore(), given as never), ConfigValidationError, "options must be");
  }
});
