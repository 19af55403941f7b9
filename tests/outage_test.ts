import { assert, assertEquals, assertInstanceOf, assertLessOrEqual } from "@std/assert";
import { test } from "node:test";
import { memoryKv } from "../src/adapters/memory.ts";
import { CompositeRateLimiter, type CompositeStrategy } from "../src/composite.ts";
import { RateLimiterAcquisitionError } from "../src/core/errors.ts";
import type { OnFailure } from "../src/core/limiter_config.ts";
import type { Kv } from "../src/core/store/kv.ts";
import { rateLimited } from "../src/rate_limited/rate_limited.ts";
import { createRateSync, type RateSync } from "../src/registry/registry.ts";
import { createVirtualClock, type VirtualClock } from "../src/testing/virtual_clock.ts";

const BACKEND_TIMEOUT_MS = 500;
/** By how much an answer may be later than the caller's timeout or the store's. */
const MARGIN_MS = 50;
const LATENCY_MS = 2;

type Trouble = "silent" | "failing";

/** A store whose server can go away. */
interface Bench {
  readonly clock: VirtualClock;
  readonly rateSync: RateSync;
  readonly lines: string[];
  /** How many calls the store got. */
  readonly calls: number;
  /** How many timers were started. */
  readonly timers: number;
  trouble: Trouble | undefined;
}

const UNLIMITED = { ratePerSecond: 1_000, burst: 1_000 } as const;

function setUp(onFailure: OnFailure, breakerFailures: number): Bench {
  const virtual = createVirtualClock();
  let timers = 0;
  const clock: VirtualClock = Object.create(virtual, {
    sleep: {
      value(ms: number, signal?: AbortSignal) {
        timers++;
        return virtual.sleep(ms, signal);
      },
    },
  });
  const memory = memoryKv(clock);
  const lines: string[] = [];
  const log = (level: string) => (message: string) => void lines.push(`${level}: ${message}`);
  const rateSync = createRateSync({
    clock,
    logger: { debug: () => {}, info: log("info"), warn: log("warn"), error: log("error") },
  });
  let calls = 0;
  async function through<T>(call: () => Promise<T>): Promise<T> {
    calls++;
    if (bench.trouble === "failing") throw new Error("the disk is on fire");
    if (bench.trouble === "silent") return await new Promise<never>(() => {});
    await clock.sleep(LATENCY_MS);
    return await call();
  }
  const kv: Kv = {
    ...memory,
    get: (key) => through(() => memory.get(key)),
    compareAndSet: (key, value, expected, ttlMs) => through(() => memory.compareAndSet(key, value, expected, ttlMs)),
  };
  rateSync.configureStore("s", { kv, clock, breakerFailures });
  const common = { store: "s", onFailure, backendTimeoutMs: BACKEND_TIMEOUT_MS };
  for (const id of ["a", "b", "c"]) rateSync.configureLimiter(id, { ...common, ...UNLIMITED });
  rateSync.configureLimiter("permits", { ...common, ...UNLIMITED, maxConcurrent: 5, leaseMs: 60_000 });
  rateSync.configureLimiter("tripwire", { ...common, ...UNLIMITED, onFailure: "open" });
  const bench: Bench = {
    clock,
    rateSync,
    lines,
    trouble: undefined,
    get calls() {
      return calls;
    },
    get timers() {
      return timers;
    },
  };
  return bench;
}

interface Method {
  readonly name: string;
  readonly timeoutMs?: number;
  /** Prepares the call while the store is up, and returns it. */
  readonly prepare: (bench: Bench) => Promise<() => Promise<unknown>> | (() => Promise<unknown>);
  /** Whether it can be answered also where the limiter fails closed. */
  readonly mayAnswer?: boolean;
  /** Whether the lease of a permit keeps a timer, which is held or has to be given back. */
  readonly leases?: boolean;
}

const composite = (strategy: CompositeStrategy, timeoutMs: number | undefined): Method => ({
  name: `CompositeRateLimiter.check() ${strategy}${timeoutMs === undefined ? "" : `, timeout ${timeoutMs}`}`,
  ...(timeoutMs === undefined ? {} : { timeoutMs }),
  prepare({ rateSync }) {
    const limiter = new CompositeRateLimiter({ limiters: { x: "a", y: "b", z: "c" }, strategy, rateSync });
    return () => limiter.check({ x: "1", y: "2", z: "3" }, { timeoutMs });
  },
});

const METHODS: readonly Method[] = [
  { name: "acquire()", prepare: ({ rateSync }) => () => rateSync.acquire("a") },
  ...[0, 1, 30, 300, 5_000].flatMap((timeoutMs): Method[] => [
    {
      name: `acquire(), timeout ${timeoutMs}`,
      timeoutMs,
      prepare: ({ rateSync }) => () => rateSync.acquire("a", { timeoutMs }),
    },
    {
      name: `acquire() of a permit, timeout ${timeoutMs}`,
      timeoutMs,
      prepare: ({ rateSync }) => () => rateSync.acquire("permits", { timeoutMs }),
      leases: true,
    },
    {
      name: `tryAcquire(), timeout ${timeoutMs}`,
      timeoutMs,
      prepare: ({ rateSync }) => () => rateSync.tryAcquire("a", { timeoutMs }),
    },
    {
      name: `tryAcquire() of a new key, timeout ${timeoutMs}`,
      timeoutMs,
      prepare: ({ rateSync }) => () => rateSync.tryAcquire("a", { timeoutMs, key: "new" }),
    },
    {
      name: `checkMultiLimiters() of three, timeout ${timeoutMs}`,
      timeoutMs,
      prepare: ({ rateSync }) => () => rateSync.checkMultiLimiters(["a", "b", "permits"], { timeoutMs }),
      leases: true,
    },
    {
      name: `a limited function that waits, timeout ${timeoutMs}`,
      timeoutMs,
      prepare: ({ rateSync }) => rateLimited("a", () => Promise.resolve(1), { timeoutMs, rateSync }),
    },
    {
      name: `a limited function that tries, timeout ${timeoutMs}`,
      timeoutMs,
      prepare: ({ rateSync }) => rateLimited("a", () => Promise.resolve(1), { timeoutMs, mode: "try", rateSync }),
    },
  ]),
  ...(["most_restrictive", "all_must_pass", "any_must_pass"] as const).flatMap((strategy) =>
    [undefined, 0, 300, 5_000].map((timeoutMs) => composite(strategy, timeoutMs))
  ),
  { name: "checkLimiter()", prepare: ({ rateSync }) => () => rateSync.checkLimiter("a") },
  {
    name: "checkLimiter(), consume: false",
    prepare: ({ rateSync }) => () => rateSync.checkLimiter("a", { consume: false }),
  },
  { name: "getState()", prepare: ({ rateSync }) => () => rateSync.getLimiter("a").getState() },
  { name: "initializeLimiter()", prepare: ({ rateSync }) => () => rateSync.initializeLimiter("a") },
  {
    name: "getOrCloneLimiter()",
    prepare: ({ rateSync }) => () => rateSync.getOrCloneLimiter("a", "new"),
    mayAnswer: true,
  },
  {
    name: "release()",
    async prepare({ rateSync, clock }) {
      const permit = await clock.runUntil(rateSync.acquire("permits"));
      return () => permit.release();
    },
    mayAnswer: true,
    leases: true,
  },
];

/** Makes the call in every mode and says how long it took; what it settles to must fit the mode. */
async function measure(bench: Bench, method: Method, mode: OnFailure, call: () => Promise<unknown>): Promise<number> {
  const begun = bench.clock.now();
  const [outcome] = await bench.clock.runUntil(Promise.allSettled([call()]));
  const tookMs = bench.clock.now() - begun;
  const what = `${method.name}, on_failure ${mode}`;
  if (outcome.status === "rejected") {
    assertEquals(mode, "closed", `${what}: ${outcome.reason}`);
    assert(method.name !== "release()", what);
    assertInstanceOf(outcome.reason, RateLimiterAcquisitionError);
    assertEquals(outcome.reason.reason, "backend", `${what} was reported as a refusal`);
    assertInstanceOf(outcome.reason.cause, Error);
    return tookMs;
  }
  assert(mode !== "closed" || method.mayAnswer, `${what} was answered as if nothing had happened`);
  const { value } = outcome;
  if (typeof value === "object" && value !== null && "allowed" in value) assertEquals(value.allowed, true, what);
  if (typeof value === "object" && value !== null && "degraded" in value) assertEquals(value.degraded, true, what);
  return tookMs;
}

for (const mode of ["open", "closed", "local"] as const) {
  for (const trouble of ["silent", "failing"] as const) {
    for (const known of [true, false]) {
      const before = known ? "that was used before" : "at the first use";
      test(`with a ${trouble} store ${before} every method answers in time, on_failure ${mode} [FAIL-1, FAIL-2, TMO-2]`, async () => {
        for (const method of METHODS) {
          // A breaker that never opens: every call is a conversation with the store.
          const bench = setUp(mode, 0);
          if (known) {
            for (const id of ["a", "b", "c", "permits"]) await bench.clock.runUntil(bench.rateSync.acquire(id));
          }
          await bench.clock.advance(1_000);
          const call = await method.prepare(bench);
          bench.trouble = trouble;
          const timeoutMs = method.timeoutMs ? method.timeoutMs : Infinity;
          // Again and again: after the first failure less is known.
          for (let i = 0; i < 3; i++) {
            const tookMs = await measure(bench, method, mode, call);
            const most = trouble === "failing" ? 0 : Math.min(timeoutMs, BACKEND_TIMEOUT_MS);
            assertLessOrEqual(tookMs, most + MARGIN_MS, `${method.name} the ${i + 1}. time`);
          }
        }
      });

      test(`with a ${trouble} store ${before} and an open circuit breaker every method answers at once, on_failure ${mode} [FAIL-1, FAIL-2]`, async () => {
        for (const method of METHODS) {
          const bench = setUp(mode, 5);
          const { clock, rateSync } = bench;
          if (known) { for (const id of ["a", "b", "c", "permits"]) await clock.runUntil(rateSync.acquire(id)); }
          await clock.advance(1_000);
          const call = await method.prepare(bench);
          bench.trouble = trouble;
          while (rateSync.listStores()["s"]?.circuitBreaker !== "open") {
            await clock.runUntil(rateSync.tryAcquire("tripwire"));
          }
          await clock.advance(MARGIN_MS);
          const { calls } = bench;
          const { timers } = bench;
          assertEquals(await measure(bench, method, mode, call), 0, method.name);
          assertEquals([bench.calls, rateSync.listStores()["s"]?.circuitBreaker], [calls, "open"], method.name);
          // The local limiter that answers in its place has deadlines and leases of its own.
          if (!method.leases && mode !== "local") {
            assertEquals(bench.timers, timers, `${method.name} started a timer`);
          }
        }
      });
    }
  }
}
