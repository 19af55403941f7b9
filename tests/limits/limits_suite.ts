import {
  assert,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertInstanceOf,
  assertLess,
  assertLessOrEqual,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { test } from "node:test";
import {
  createRateSync,
  ImpossibleCostError,
  type Kv,
  type Limiter,
  type LimiterOptions,
  type OnFailure,
  type Permit,
  RateLimiterAcquisitionError,
  type RateLimitResult,
  type RateSync,
  type StoreOptions,
} from "../../mod.ts";
import { concurrencyExcess, rateExcess, type Start, windowExcess } from "../support/oracles.ts";
import { type LogBook, logBook } from "../support/log_book.ts";

/** A store that is empty and nobody else's. */
export interface Place extends AsyncDisposable {
  /** What every process configures to be there. */
  readonly options: StoreOptions;
  /** The same store without a limiter in between. */
  readonly kv: Kv;
}

/** By how much starts and the clocks that they were taken with may be off on a busy machine. */
const LATE_MS = 25;
/**
 * A grant counts from when its answer is here, and longer where timers are late: by no more than what has been measured.
 * Those are the decision itself, the slowest answer and the latest timer before it, each within the time of the test.
 */
const COUNTED_LATE = 3;
/** A start that is later than this after the limiter let it go was held up by the machine. */
const HELD_UP_MS = 5;
/** So long that nothing that was counted comes back during a test. */
const LONG_MS = 60_000;
/** Nothing that was used up comes back in this time. */
const SOON_MS = 1_000;
/** So long that it is not renewed, which changes what is stored, during a test. */
const leaseMs = 600_000;
/** A rate that gives nothing back during a test. */
const SLOW = { ratePerSecond: 0.01 } as const;
const ID = "limit";

const now = () => performance.timeOrigin + performance.now();
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const decoder = new TextDecoder();

/** What a test is given: one limit, in as many processes as it likes. */
class World implements AsyncDisposable {
  readonly kv: Kv;
  readonly log: LogBook = logBook();
  readonly #place: Place;
  readonly #processes: RateSync[] = [];

  constructor(place: Place) {
    this.#place = place;
    this.kv = place.kv;
  }

  /** The limit as one more process has it: a registry of its own, with connections of its own. */
  process(options: LimiterOptions): Limiter {
    const rateSync = createRateSync({ logger: this.log });
    this.#processes.push(rateSync);
    rateSync.configureStore("store", this.#place.options);
    const asGiven = { ...options, store: "store" };
    // So that a store that fails shows.
    rateSync.configureLimiter(
      ID,
      asGiven.onFailure === undefined ? { ...asGiven, failClosed: true, onFailure: undefined } : asGiven,
    );
    return rateSync.getLimiter(ID);
  }

  /** What stands in the store. */
  async stored(): Promise<Record<string, unknown>> {
    const entry = await this.kv.get(ID);
    assert(entry, "nothing is stored");
    return JSON.parse(decoder.decode(entry.value));
  }

  /** What stands in the store without who wrote it, and without the ends of leases, which move with time. */
  async counted(): Promise<Record<string, unknown>> {
    const entry = await this.kv.get(ID);
    assert(entry, "nothing is stored");
    const { writers: _, ...counted } = JSON.parse(
      decoder.decode(entry.value),
      (name, value) => name === "until" ? undefined : value,
    );
    return counted;
  }

  /** Puts something into the store that no limiter wrote. */
  async put(value: string | Uint8Array): Promise<void> {
    const bytes = typeof value === "string" ? new TextEncoder().encode(value) : value;
    const { ok } = await this.kv.compareAndSet(ID, bytes, (await this.kv.get(ID))?.revision ?? 0);
    assert(ok, "somebody else wrote");
  }

  async [Symbol.asyncDispose]() {
    await Promise.all(this.#processes.map((rateSync) => rateSync.close()));
    await this.#place[Symbol.asyncDispose]();
  }
}

/** By how much what was granted after `since` may count for later than at the moment of a refusal. */
function lateSince(since: number): number {
  return LATE_MS + COUNTED_LATE * (now() - since);
}

type Refusal = Extract<RateLimitResult, { readonly allowed: false }>;

function granted(result: RateLimitResult): Permit {
  assert(result.allowed, result.allowed ? undefined : `it was refused by "${result.rule}"`);
  return result.permit;
}

function refused(result: RateLimitResult): Refusal {
  assert(!result.allowed, "it was granted");
  return result;
}

/**
 * Waits until what was granted last has begun: where the store was slow it counts for when its answer is here, and nothing
 * starts in a window before that. What was used up comes back much later.
 */
async function begun(limiter: Limiter): Promise<void> {
  for (;;) {
    const { allowed, retryAfterMs } = await limiter.check({ consume: false });
    if (allowed || retryAfterMs >= SOON_MS) return;
    await sleep(retryAfterMs);
  }
}

/** So many tries in one turn. */
function tries(count: number, ...limiters: Limiter[]): Promise<RateLimitResult[]> {
  return Promise.all(
    Array.from({ length: count }, async (_, i) => await limiters[i % limiters.length]!.tryAcquire()),
  );
}

/** When somebody started who asked at `asked`: where the machine held it up after that, when the limiter let it go. */
function startedAt(asked: number, { waitedMs }: Permit): number {
  const [servedAt, at] = [asked + waitedMs, now()];
  return at - servedAt > HELD_UP_MS ? servedAt : at;
}

async function startOf(limiter: Limiter): Promise<Start> {
  const asked = now();
  const permit = await limiter.acquire();
  return { at: startedAt(asked, permit), cost: 1, until: Infinity };
}

/** What limiters promise on every store. Registers the tests; `name` goes before each test's name. */
export function limitsSuite(name: string, open: () => Promise<Place>): void {
  const check = (what: string, body: (world: World) => Promise<void>) =>
    void test(`${name}: ${what}`, { timeout: 120_000 }, async () => {
      await using world = new World(await open());
      await body(world);
    });

  slidingWindow(check);
  concurrency(check);
  combined(check);
  introspection(check);
  storedValue(check);
}

type Check = (what: string, body: (world: World) => Promise<void>) => void;

function slidingWindow(check: Check): void {
  check(
    "exactly `limit` of 10 simultaneous tries in a window, then refused with the facts [SW-1, SW-5]",
    async (world) => {
      const window = { algorithm: "sliding_window", limit: 3, windowMs: LONG_MS } as const;
      const since = now();
      const limiter = world.process(window);
      const results = await tries(10, limiter, world.process(window));
      assertEquals(results.filter(({ allowed }) => allowed).map(({ remaining }) => remaining).sort(), [0, 1, 2]);
      for (const result of [...results.filter(({ allowed }) => !allowed), await limiter.tryAcquire()]) {
        const { limiterId, limit, remaining, retryAfterMs, resetInMs, rule } = refused(result);
        assertEquals({ limiterId, limit, remaining, rule }, {
          limiterId: ID,
          limit: 3,
          remaining: 0,
          rule: "3 in any 60 s",
        });
        for (const ms of [retryAfterMs, resetInMs]) {
          assertGreater(ms, LONG_MS / 2);
          assertLessOrEqual(ms, LONG_MS + lateSince(since));
        }
      }
    },
  );

  check("entries age out one by one, and acquire() waits for the oldest [SW-1, SW-2]", async (world) => {
    const windowMs = 900;
    const window = { algorithm: "sliding_window", limit: 3, windowMs } as const;
    const takeThree = async (limiter: Limiter): Promise<Start[]> => {
      const starts: Start[] = [];
      for (let i = 0; i < 3; i++) {
        starts.push(await startOf(limiter));
        await sleep(200);
      }
      return starts;
    };
    let limiter = world.process(window);
    let starts = await takeThree(limiter);
    let fourth = await limiter.tryAcquire();
    for (let time = 1; fourth.allowed; time++) {
      // So late that the first has aged out: from the beginning, with another key, in a process that knows no slow answers.
      assertGreaterOrEqual(now() - starts[0]!.at, windowMs - LATE_MS);
      limiter = world.process(window).key(`${time}`);
      starts = await takeThree(limiter);
      fourth = await limiter.tryAcquire();
    }
    // The first leaves in a third of the window, and the second in more than half of it. Delays make it less.
    assertLess(fourth.retryAfterMs, windowMs / 2, "the fourth would wait for more than the first to age out");
    for (let i = 0; i < 3; i++) starts.push(await startOf(limiter));
    for (let i = 0; i < 3; i++) {
      const between = starts[i + 3]!.at - starts[i]!.at;
      assertGreaterOrEqual(between, windowMs - LATE_MS, `entry ${i + 3} took the place of entry ${i}`);
    }
    assertEquals(windowExcess(starts, { limit: 3, windowMs: windowMs - LATE_MS }), undefined);
  });

  check("acquire() of many in several processes never exceeds a window [SW-1, SW-2]", async (world) => {
    const window = { algorithm: "sliding_window", limit: 4, windowMs: 250 } as const;
    const limiters = [world.process(window), world.process(window)];
    const starts = await Promise.all(Array.from({ length: 14 }, (_, i) => startOf(limiters[i % 2]!)));
    assertEquals(windowExcess(starts, { limit: 4, windowMs: 250 - LATE_MS }), undefined);
  });

  check("a timeout that is too short is refused, and one that is long enough waits [SW-2, TMO-6]", async (world) => {
    const windowMs = 1_000;
    const limiter = world.process({ algorithm: "sliding_window", limit: 1, windowMs });
    const first = await startOf(limiter);
    const before = await world.stored();
    refused(await limiter.tryAcquire({ timeoutMs: 20 }));
    assertEquals(await world.stored(), before);
    const result = await limiter.tryAcquire({ timeoutMs: 10_000 });
    granted(result);
    assertGreaterOrEqual(now() - first.at, windowMs - LATE_MS);
    assertGreater(result.allowed ? result.waitedMs : 0, 0);
  });

  check("a cost counts as so many requests, and one that is refused counts as none [SW-1, CMB-2]", async (world) => {
    const limiter = world.process({ algorithm: "sliding_window", limit: 10, windowMs: LONG_MS });
    assertEquals((await limiter.tryAcquire({ cost: 6 })).remaining, 4);
    assertEquals(refused(await limiter.tryAcquire({ cost: 5 })).remaining, 4);
    assertEquals((await limiter.check({ cost: 4, consume: false })).allowed, true);
    assertEquals((await limiter.check({ cost: 5, consume: false })).allowed, false);
    assertEquals((await limiter.tryAcquire({ cost: 4 })).allowed, true);
    assertEquals(refused(await limiter.tryAcquire()).remaining, 0);
  });

  check("several windows hold at once, and the one that refuses is named [SW-1]", async (world) => {
    const limiter = world.process({
      algorithm: "sliding_window",
      limit: 3,
      windowMs: 400,
      rates: [{ limit: 5, windowMs: LONG_MS }],
    });
    assertEquals((await tries(4, limiter)).filter(({ allowed }) => allowed).length, 3);
    assertEquals(refused(await limiter.tryAcquire({ cost: 3 })).rule, "5 in any 60 s");
    await limiter.acquire({ cost: 2 });
    const { rule, retryAfterMs } = refused(await limiter.tryAcquire({ timeoutMs: 2_000 }));
    assertEquals(rule, "5 in any 60 s");
    assertGreater(retryAfterMs, LONG_MS / 2);
    assertEquals(Object.keys(await world.counted()), ["v", "rules", "epoch", "window", "window2"]);
  });

  check("rates and windows of one limiter hold at once [SW-1, TB-8]", async (world) => {
    const windowMs = 300;
    const limiter = world.process({
      ratePerSecond: 40,
      burst: 2,
      rates: [{ limit: 6, windowMs, algorithm: "sliding_window" }, { limit: 30, windowMs: 1_000, burst: 4 }],
    });
    const starts = await Promise.all(Array.from({ length: 16 }, () => startOf(limiter)));
    assertEquals(windowExcess(starts, { limit: 6, windowMs: windowMs - LATE_MS }), undefined);
    assertEquals(rateExcess(starts, { ratePerSecond: 40, burst: 2 }, LATE_MS), undefined);
    assertEquals(rateExcess(starts, { ratePerSecond: 30, burst: 4 }, LATE_MS), undefined);
  });

  check("a cost that no wait makes possible is an error with the maximum [SW-1]", async (world) => {
    const cases: [LimiterOptions, maximum: number, rule: string][] = [
      [{ ratePerSecond: 10, burst: 5 }, 5, "10/s, burst 5"],
      [{ algorithm: "sliding_window", limit: 3, windowMs: 1_000 }, 3, "3 in any 1 s"],
      [{ ...SLOW, burst: 7, rates: [{ limit: 4, windowMs: 1_000, algorithm: "sliding_window" }] }, 4, "4 in any 1 s"],
      [{ ratePerSecond: 10, burst: 2, maxConcurrent: 1 }, 2, "10/s, burst 2"],
    ];
    for (const [options, maximum, rule] of cases) {
      const limiter = world.process(options);
      const cost = maximum + 1;
      const asks = [
        () => limiter.acquire({ cost }),
        () => limiter.tryAcquire({ cost }),
        () => limiter.check({ cost, consume: false }),
      ];
      for (const ask of asks) {
        const error = await assertRejects(ask, ImpossibleCostError, `at most ${maximum}`);
        assertInstanceOf(error, ImpossibleCostError);
        assertEquals([error.limiterId, error.cost, error.maximum, error.rule], [ID, cost, maximum, rule]);
      }
    }
    assertEquals(await world.kv.get(ID), null);
  });
}

function concurrency(check: Check): void {
  check("10 simultaneous tries on 3 permits give exactly 3, over all processes [CON-1]", async (world) => {
    const options = { maxConcurrent: 3, leaseMs: 20_000 };
    const since = now();
    const limiters = [world.process(options), world.process(options)];
    const results = await tries(10, ...limiters);
    assertEquals(results.filter(({ allowed }) => allowed).length, 3);
    for (const result of results.filter(({ allowed }) => !allowed)) {
      const { limit, remaining, retryAfterMs, resetInMs, rule } = refused(result);
      assertEquals({ limit, remaining, rule }, { limit: 3, remaining: 0, rule: "3 at the same time" });
      assertGreater(retryAfterMs, 0);
      assertLessOrEqual(retryAfterMs, 20_000 + lateSince(since));
      assertGreater(resetInMs, 0);
      assertLessOrEqual(resetInMs, 20_000 + lateSince(since));
    }
  });

  check("50 tasks on 5 permits: never 6 at the same time [CON-1]", async (world) => {
    const limiters = [world.process({ maxConcurrent: 5 }), world.process({ maxConcurrent: 5 })];
    const starts: Start[] = [];
    let running = 0;
    let most = 0;
    await Promise.all(Array.from({ length: 50 }, async (_, i) => {
      await using _permit = await limiters[i % 2]!.acquire();
      const start: Start = { at: now(), cost: 1, until: Infinity };
      starts.push(start);
      most = Math.max(most, ++running);
      await sleep(5);
      running--;
      start.until = now();
    }));
    assertEquals(most, 5);
    assertEquals(concurrencyExcess(starts, 5), undefined);
    assertEquals((await limiters[0]!.getState()).currentUsage, 0);
  });

  check("release() frees one, and who waits for it here or elsewhere proceeds [CON-2]", async (world) => {
    const [here, elsewhere] = [world.process({ maxConcurrent: 2 }), world.process({ maxConcurrent: 2 })];
    const held = (await tries(2, here)).map(granted);
    await held[0]?.release();
    assertEquals((await tries(5, here, elsewhere)).filter(({ allowed }) => allowed).length, 1);
    let proceeded = 0;
    const waiting = [here, elsewhere].map((limiter) => limiter.acquire().then(() => proceeded++));
    await sleep(50);
    assertEquals(proceeded, 0);
    await held[1]?.release();
    await Promise.race(waiting);
    assertEquals((await here.getState()).currentUsage, 2);
    assertEquals(proceeded, 1);
  });

  check("a scope gives its permit back on its normal end and on an exception [CON-4, LIM-12]", async (world) => {
    const limiter = world.process({ maxConcurrent: 2 });
    const used = async () => (await limiter.getState()).currentUsage;
    {
      await using _outer = await limiter.acquire();
      {
        await using _inner = await limiter.acquire();
        assertEquals(await used(), 2);
      }
      assertEquals(await used(), 1);
    }
    assertEquals(await used(), 0);
    const fail = async () => {
      await using _permit = await limiter.acquire();
      await using _result = await limiter.tryAcquire();
      assertEquals(await used(), 2);
      throw new RangeError("what is limited failed");
    };
    await assertRejects(fail, RangeError, "what is limited failed");
    assertEquals(await used(), 0);
  });

  check("a release that is stray, late or doubled changes nothing [CON-5]", async (world) => {
    const [here, elsewhere] = [world.process({ maxConcurrent: 1 }), world.process({ maxConcurrent: 1 })];
    const first = granted(await here.tryAcquire());
    const refusal = refused(await here.tryAcquire());
    await refusal.release();
    refused(await elsewhere.tryAcquire());
    await Promise.all([first.release(), first.release()]);
    assertEquals([here.getMetrics().currentConcurrent, here.getMetrics().totalReleases], [0, 1]);
    const second = granted(await elsewhere.tryAcquire());
    for (const release of [() => first.release(), () => first[Symbol.asyncDispose](), () => refusal.release()]) {
      await release();
      assertEquals((await tries(4, here, elsewhere)).map(({ allowed }) => allowed), [false, false, false, false]);
    }
    await second.release();
    assertEquals((await tries(4, here, elsewhere)).filter(({ allowed }) => allowed).length, 1);
  });

  check("release() without a limit of concurrency does nothing, any number of times [CON-3]", async (world) => {
    const limiter = world.process({ ...SLOW, burst: 2 });
    const permit = await limiter.acquire();
    const before = await world.stored();
    for (let i = 0; i < 3; i++) await permit.release();
    assertEquals(await world.stored(), before);
    assertEquals((await limiter.getState()).remaining, 1);
  });

  check("maxConcurrent = 1 with a timeout of 0 is an exclusive task [CON-10, TMO-1]", async (world) => {
    const [here, elsewhere] = [world.process({ maxConcurrent: 1 }), world.process({ maxConcurrent: 1 })];
    let runs = 0;
    const task = async (limiter: Limiter) => {
      await using _permit = await limiter.acquire({ timeoutMs: 0 });
      runs++;
      for (const other of [here, elsewhere]) {
        const error = await assertRejects(() => other.acquire({ timeoutMs: 0 }), RateLimiterAcquisitionError);
        assertInstanceOf(error, RateLimiterAcquisitionError);
        assertEquals([error.reason, error.rule, error.limiterId], ["timeout", "1 at the same time", ID]);
        assertGreater(error.retryAfterMs ?? 0, 0);
      }
    };
    await task(here);
    await task(elsewhere);
    assertEquals(runs, 2);
  });

  check("who waits for a permit gets it in the order of arrival [CON-11, CON-2]", async (world) => {
    const limiter = world.process({ maxConcurrent: 1 });
    const held = await limiter.acquire();
    const order: number[] = [];
    const all = Promise.all(Array.from({ length: 12 }, async (_, i) => {
      await using _permit = await limiter.acquire();
      order.push(i);
      await sleep(i % 3);
    }));
    await sleep(20);
    assertEquals(order, []);
    await held.release();
    await all;
    assertEquals(order, Array.from({ length: 12 }, (_, i) => i));
  });

  check("who gives up waiting for a permit leaves nothing behind [CON-8, TMO-7]", async (world) => {
    const limiter = world.process({ maxConcurrent: 1 });
    const held = await limiter.acquire();
    const gone = new AbortController();
    const aborted = Promise.allSettled(Array.from({ length: 5 }, () => limiter.acquire({ signal: gone.signal })));
    const late = Promise.allSettled(Array.from({ length: 5 }, (_, i) => limiter.acquire({ timeoutMs: 10 + 5 * i })));
    await sleep(20);
    gone.abort(new RangeError("not needed any more"));
    for (const result of await aborted) {
      assertInstanceOf(result.status === "rejected" ? result.reason : undefined, RangeError);
    }
    for (const result of await late) {
      assertInstanceOf(result.status === "rejected" ? result.reason : undefined, RateLimiterAcquisitionError);
    }
    assertEquals((await limiter.getState()).currentUsage, 1);
    await held.release();
    assertEquals((await limiter.getState()).currentUsage, 0);
    assertEquals((await tries(3, limiter)).filter(({ allowed }) => allowed).length, 1);
  });
}

function combined(check: Check): void {
  const rate = { limit: 1, windowMs: 100_000, algorithm: "token_bucket" } as const;
  const window = { limit: 4, windowMs: LONG_MS, algorithm: "sliding_window" } as const;

  check("what a permit refuses uses up neither rate nor window [CMB-1, CMB-2]", async (world) => {
    const limiter = world.process({ rates: [{ ...rate, burst: 5 }, window], ...SLOW, burst: 9, maxConcurrent: 1 });
    const held = await limiter.acquire();
    const before = await world.counted();
    for (const { allowed } of await tries(5, limiter)) assertEquals(allowed, false);
    assertEquals(refused(await limiter.tryAcquire()).rule, "1 at the same time");
    assertEquals(await world.counted(), before);
    await held.release();
    // What is left of the window can all be had.
    for (let i = 0; i < 3; i++) {
      await begun(limiter);
      await granted(await limiter.tryAcquire()).release();
    }
    assertEquals(refused(await limiter.tryAcquire()).rule, "4 in any 60 s");
  });

  check("what the window refuses uses up neither rate nor permit [CMB-1, CMB-2, SW-6]", async (world) => {
    const limiter = world.process({ ...window, rates: [{ ...rate, burst: 5 }], maxConcurrent: 6 });
    (await tries(4, limiter)).forEach(granted);
    const before = await world.counted();
    for (const result of await tries(3, limiter)) {
      // The rate would wait longer if it had been used up.
      assertEquals(refused(result).rule, "4 in any 60 s");
    }
    assertEquals(refused(await limiter.tryAcquire({ timeoutMs: 50 })).rule, "4 in any 60 s");
    assertEquals(await world.counted(), before);
  });

  check("what the rate refuses uses up neither window nor permit [CMB-1, CMB-2]", async (world) => {
    const limiter = world.process({ ...SLOW, burst: 3, rates: [window], maxConcurrent: 6 });
    const permits = (await tries(3, limiter)).map(granted);
    const before = await world.counted();
    for (const result of await tries(3, limiter)) assertEquals(refused(result).rule, "0.01/s, burst 3");
    assertEquals(await world.counted(), before);
    await Promise.all(permits.map((permit) => permit.release()));
    assertEquals(refused(await limiter.tryAcquire()).rule, "0.01/s, burst 3");
    assertEquals((await world.counted())["concurrency"], { holders: [], waiting: [] });
  });

  check("a timeout or an abort while waiting for a permit gives the rest back [CMB-3, TMO-7]", async (world) => {
    const limiter = world.process({ ...SLOW, burst: 5, rates: [window], maxConcurrent: 1 });
    const held = await limiter.acquire();
    const before = await world.counted();
    const leave = new AbortController();
    const gone = assertRejects(() => limiter.acquire({ signal: leave.signal }), Error, "enough");
    const error = await assertRejects(() => limiter.acquire({ timeoutMs: 1_000 }), RateLimiterAcquisitionError);
    assertInstanceOf(error, RateLimiterAcquisitionError);
    assertEquals([error.reason, error.rule], ["timeout", "1 at the same time"]);
    leave.abort(new Error("enough"));
    await gone;
    assertEquals(await world.counted(), before);
    await held.release();
    for (let i = 0; i < 3; i++) {
      await begun(limiter);
      await granted(await limiter.tryAcquire()).release();
    }
    refused(await limiter.tryAcquire());
  });

  check("who leaves before a reserved moment has come gives everything back [TMO-7, CMB-3]", async (world) => {
    const limiter = world.process({
      ratePerSecond: 0.1,
      rates: [{ limit: 1, windowMs: 10_000, algorithm: "sliding_window" }],
      maxConcurrent: 3,
      leaseMs,
      reserveAheadMs: 20_000,
    });
    await limiter.acquire();
    const before = await world.counted();
    const leave = new AbortController();
    const gone = assertRejects(() => limiter.acquire({ signal: leave.signal }), Error, "enough");
    const equal = async () => JSON.stringify(await world.counted()) === JSON.stringify(before);
    for (let i = 0; i < 400 && await equal(); i++) await sleep(5);
    assertEquals(await equal(), false, "nothing was reserved");
    leave.abort(new Error("enough"));
    await gone;
    // Nobody waits for the write that gives it back.
    for (let i = 0; i < 1_000 && !(await equal()); i++) await sleep(5);
    assertEquals(await world.counted(), before);
  });

  check("10 tasks with a rate, a window and 3 permits: all hold at every start [CMB-1, CMB-4]", async (world) => {
    const options = {
      ratePerSecond: 100,
      burst: 2,
      maxConcurrent: 3,
      rates: [{ limit: 8, windowMs: 200, algorithm: "sliding_window" }],
    } as const;
    const limiters = [world.process(options), world.process(options)];
    const starts: Start[] = [];
    const runs: Start[] = [];
    await Promise.all(Array.from({ length: 10 }, async (_, i) => {
      for (let turn = 0; turn < 2; turn++) {
        const asked = now();
        await using permit = await limiters[i % 2]!.acquire();
        starts.push({ at: startedAt(asked, permit), cost: 1, until: Infinity });
        const run: Start = { at: now(), cost: 1, until: Infinity };
        runs.push(run);
        await sleep(15);
        run.until = now();
      }
    }));
    assertEquals(starts.length, 20);
    assertEquals(concurrencyExcess(runs, 3), undefined);
    assertEquals(rateExcess(starts, { ratePerSecond: 100, burst: 2 }, LATE_MS), undefined);
    assertEquals(windowExcess(starts, { limit: 8, windowMs: 200 - LATE_MS }), undefined);
  });
}

/** Limiters of which 3 can be had at once, by the rule that is told. */
const OF_THREE: readonly (readonly [what: string, LimiterOptions, rule: string])[] = [
  ["a rate", { ...SLOW, burst: 3 }, "0.01/s, burst 3"],
  ["a window", { algorithm: "sliding_window", limit: 3, windowMs: LONG_MS }, "3 in any 60 s"],
  ["permits", { maxConcurrent: 3, leaseMs }, "3 at the same time"],
  [
    "a rate and a window",
    { ...SLOW, burst: 5, rates: [{ limit: 3, windowMs: LONG_MS, algorithm: "sliding_window" }] },
    "3 in any 60 s",
  ],
  ["a rate and permits", { ...SLOW, burst: 5, maxConcurrent: 3, leaseMs }, "3 at the same time"],
  [
    "a window and permits",
    { algorithm: "sliding_window", limit: 3, windowMs: LONG_MS, maxConcurrent: 5, leaseMs },
    "3 in any 60 s",
  ],
  [
    "a rate, a window and permits",
    {
      ...SLOW,
      burst: 3,
      maxConcurrent: 5,
      leaseMs,
      rates: [{ limit: 4, windowMs: LONG_MS, algorithm: "sliding_window" }],
    },
    "0.01/s, burst 3",
  ],
];

function introspection(check: Check): void {
  for (const [what, options, ruleThatRefuses] of OF_THREE) {
    check(
      `getState() and check() tell the truth about ${what} and use nothing up [STA-4..9, CHK-3, CHK-4]`,
      async (world) => {
        const [here, elsewhere] = [world.process(options), world.process(options)];
        const permits: Permit[] = [];
        for (let used = 0; used <= 3; used++) {
          await begun(here);
          const before = used === 0 ? null : await world.stored();
          for (const limiter of [here, elsewhere]) {
            for (let i = 0; i < 5; i++) {
              const since = Date.now();
              const { resetAt, ...state } = await limiter.getState();
              assertEquals(state, { allowed: used < 3, remaining: 3 - used, currentUsage: used });
              assertGreater(resetAt, since);
              const peek = await limiter.check({ consume: false });
              assertEquals([peek.allowed, peek.limit, peek.remaining], [used < 3, 3, 3 - used]);
              assertGreater(peek.resetInMs, 0);
              if (peek.allowed) assertEquals(peek.retryAfterMs, 0);
              else {
                assertEquals(peek.rule, ruleThatRefuses);
                assertGreater(peek.retryAfterMs, 0);
              }
            }
          }
          if (before === null) assertEquals(await world.kv.get(ID), null);
          else assertEquals(await world.stored(), before);
          const result = await here.tryAcquire();
          assertEquals(result.allowed, used < 3);
          if (result.allowed) permits.push(result.permit);
          else assertEquals(result.rule, ruleThatRefuses);
        }
        await Promise.all(permits.map((permit) => permit.release()));
        const { allowed } = await elsewhere.getState();
        assertEquals((await elsewhere.tryAcquire()).allowed, allowed);
      },
    );
  }

  check("getState() of permits falls back when they are released [STA-6]", async (world) => {
    const [here, elsewhere] = [world.process({ maxConcurrent: 3 }), world.process({ maxConcurrent: 3 })];
    const permits = [await here.acquire(), await here.acquire(), await elsewhere.acquire()];
    for (const [i, permit] of permits.entries()) {
      await permit.release();
      const { allowed, remaining, currentUsage } = await here.getState();
      assertEquals({ allowed, remaining, currentUsage }, { allowed: true, remaining: i + 1, currentUsage: 2 - i });
    }
  });

  check("remaining is the least and usage the most of several rules [STA-6]", async (world) => {
    const limiter = world.process({ algorithm: "sliding_window", limit: 8, windowMs: LONG_MS, maxConcurrent: 4 });
    for (let i = 0; i < 3; i++) await (await limiter.acquire()).release();
    await limiter.acquire({ cost: 2 });
    await begun(limiter);
    const { allowed, remaining, currentUsage } = await limiter.getState();
    assertEquals({ allowed, remaining, currentUsage }, { allowed: true, remaining: 3, currentUsage: 5 });
  });

  check("allowed means that a request now would be granted, whatever the rate [STA-7]", async (world) => {
    const since = now();
    const slow = world.process({ ratePerSecond: 0.05 });
    const fresh = await slow.getState();
    assertEquals([fresh.allowed, fresh.remaining], [true, 1]);
    granted(await slow.tryAcquire());
    const used = await slow.getState();
    assertEquals([used.allowed, used.remaining, used.currentUsage], [false, 0, 1]);
    const { retryAfterMs } = refused(await slow.tryAcquire());
    assertGreater(retryAfterMs, 10_000);
    assertLessOrEqual(retryAfterMs, 20_000 + lateSince(since));
  });

  check("retryAfterMs is when the same request is granted [CHK-4, STA-7]", async (world) => {
    const limiter = world.process({ algorithm: "sliding_window", limit: 2, windowMs: 1_000 });
    await limiter.acquire({ cost: 2 });
    const { retryAfterMs } = refused(await limiter.tryAcquire({ cost: 2 }));
    const peek = refused(await limiter.check({ cost: 2, consume: false }));
    assertLessOrEqual(peek.retryAfterMs, retryAfterMs);
    await sleep(retryAfterMs + LATE_MS);
    assertEquals((await limiter.check({ cost: 2, consume: false })).allowed, true);
    granted(await limiter.tryAcquire({ cost: 2 }));
  });

  check("the first question opens the store, and many at the same time agree [STA-10, STA-11]", async (world) => {
    const options = { algorithm: "sliding_window", limit: 5, windowMs: LONG_MS } as const;
    await world.process(options).acquire({ cost: 2 });
    const limiter = world.process(options);
    assertEquals(limiter.initialized, false);
    const states = await Promise.all(Array.from({ length: 20 }, () => limiter.getState()));
    assertEquals(limiter.initialized, true);
    for (const { allowed, remaining, currentUsage } of states) {
      assertEquals({ allowed, remaining, currentUsage }, { allowed: true, remaining: 3, currentUsage: 2 });
    }
  });
}

function storedValue(check: Check): void {
  check("the stored value is JSON that can be read [STA-9]", async (world) => {
    const limiter = world.process({
      ...SLOW,
      burst: 4,
      rates: [{ limit: 5, windowMs: LONG_MS, algorithm: "sliding_window" }],
      maxConcurrent: 2,
      leaseMs: 20_000,
    });
    const since = Date.now();
    const permit = await limiter.acquire({ cost: 3 });
    const { v, rules, epoch, rate, window, concurrency, writers, ...others } = await world.stored();
    assertEquals(others, {});
    assertEquals(v, 1);
    assertEquals(rules, "0.01/s, burst 4; 5 in any 60 s; 2 at the same time");
    assert(typeof epoch === "number" && Number.isInteger(epoch));
    assert(Math.abs(epoch - since) < 30_000, `epoch ${epoch} is not near ${since}`);
    assert(typeof rate === "number" && rate > 299_000, `rate ${rate} is not 3 intervals away`);
    assert(Array.isArray(window));
    assertEquals([window.length, window[1]], [2, 3]);
    assert(Array.isArray(writers) && Array.isArray(writers[0]));
    const [writer, operation] = writers[0];
    assert(typeof writer === "string" && Number.isInteger(operation));
    const { holders } = concurrency as { holders: { owner: string; until: number; permits: number[] }[] }; // as asserted next
    assertEquals(holders.map(({ owner, permits }) => [owner, permits.length]), [[writer, 1]]);
    assertGreater(holders[0]!.until, 15_000);
    await permit.release();
    assertEquals((await world.stored())["concurrency"], { holders: [], waiting: [] });
  });

  for (
    const [what, options, fields] of [
      ["a rate", { ...SLOW }, ["rate"]],
      ["a window", { algorithm: "sliding_window", limit: 3, windowMs: LONG_MS }, ["window"]],
      ["permits", { maxConcurrent: 3 }, ["concurrency"]],
    ] as const satisfies readonly (readonly [string, LimiterOptions, readonly string[]])[]
  ) {
    check(`the stored value of ${what} has nothing of other rules [STA-9]`, async (world) => {
      await world.process(options).acquire();
      assertEquals(Object.keys(await world.stored()), ["v", "rules", "epoch", ...fields, "writers"]);
    });
  }

  check(
    "a limit that is raised while it is used up helps at once, and the others go on counting [TB-13]",
    async (world) => {
      const before = world.process({ ratePerSecond: 0.001, burst: 5 });
      for (let i = 0; i < 5; i++) granted(await before.tryAcquire());
      const after = world.process({ ratePerSecond: 20, burst: 5 });
      const since = now();
      await (await after.acquire({ timeoutMs: 30_000 })).release();
      assertLessOrEqual(now() - since, 50 + lateSince(since));
      const { retryAfterMs } = refused(await before.tryAcquire());
      assertGreater(retryAfterMs, 900_000);
      assertEquals(Object.keys(await world.stored()), ["v", "rules", "epoch", "rate", "others", "writers"]);
    },
  );

  const garbage: readonly (readonly [what: string, value: string | Uint8Array])[] = [
    ["no JSON", "garbage"],
    ["no text", new Uint8Array([0xff, 0xfe, 0, 0x80])],
    ["no bytes", ""],
    ["another object", "{}"],
    ["a version alone", '{"v":1}'],
    ["parts of another shape", '{"v":1,"rules":"","epoch":0,"rate":"x","window":{},"concurrency":[],"writers":[]}'],
  ];
  const recovering: readonly (readonly [what: string, LimiterOptions])[] = [
    ["rate", { ratePerSecond: 4, burst: 2 }],
    ["window", { algorithm: "sliding_window", limit: 2, windowMs: 500 }],
    ["concurrency", { maxConcurrent: 2, leaseMs: 500 }],
  ];
  for (const [what, options] of recovering) {
    check(`a damaged value counts as used up, and recovers: ${what} [CMB-2, STA-7]`, async (world) => {
      for (const [damage, value] of garbage) {
        const before = world.log.lines.length;
        const since = now();
        await world.put(value);
        const limiter = world.process(options);
        const { allowed, remaining } = await limiter.getState();
        assertEquals([allowed, remaining], [false, 0], damage);
        refused(await limiter.tryAcquire());
        const { retryAfterMs } = refused(await limiter.check({ consume: false }));
        assertGreater(retryAfterMs, 0);
        assertLessOrEqual(retryAfterMs, 500 + lateSince(since));
        await (await limiter.acquire({ timeoutMs: 30_000 })).release();
        assertEquals(Object.keys(await world.stored()), ["v", "rules", "epoch", what, "writers"]);
        const warnings = world.log.lines.slice(before).filter((line) => line.startsWith("warn:"));
        assertEquals(warnings.length, 1, warnings.join("\n"));
        assertStringIncludes(warnings[0]!, "damaged");
      }
    });
  }

  check("a value that is damaged while it is in use counts as used up, and recovers [CMB-2]", async (world) => {
    const limiter = world.process({ algorithm: "sliding_window", limit: 5, windowMs: 500 });
    granted(await limiter.tryAcquire());
    await world.put("garbage");
    refused(await limiter.tryAcquire());
    await limiter.acquire({ cost: 5, timeoutMs: 30_000 });
    const { window } = await world.stored();
    assert(Array.isArray(window));
    assertEquals(window[1], 5);
  });

  const newer = JSON.stringify({ v: 99, rules: "what nobody knows yet" });
  for (const onFailure of ["closed", "open", "local"] as const satisfies readonly OnFailure[]) {
    check(
      `a value of a newer version is left alone, and on_failure = "${onFailure}" counts [FAIL-4]`,
      async (world) => {
        await world.put(newer);
        const written = await world.kv.get(ID);
        const limiter = world.process({ algorithm: "sliding_window", limit: 2, windowMs: LONG_MS, onFailure });
        for (let i = 0; i < 4; i++) {
          if (onFailure === "closed") {
            const error = await assertRejects(() => limiter.tryAcquire(), RateLimiterAcquisitionError, "version 99");
            assertInstanceOf(error, RateLimiterAcquisitionError);
            assertEquals(error.reason, "backend");
            await assertRejects(() => limiter.acquire(), RateLimiterAcquisitionError, "version 99");
            await assertRejects(() => limiter.getState(), RateLimiterAcquisitionError, "version 99");
          } else {
            const { allowed, degraded } = await limiter.tryAcquire();
            assertEquals({ allowed, degraded }, { allowed: onFailure === "open" || i < 2, degraded: true });
          }
        }
        const left = await world.kv.get(ID);
        assertEquals(left?.revision, written?.revision);
        assertEquals(decoder.decode(left?.value), newer);
        await world.kv.delete(ID);
        const { allowed, degraded, remaining } = await limiter.tryAcquire();
        assertEquals({ allowed, degraded, remaining }, { allowed: true, degraded: false, remaining: 1 });
      },
    );
  }
}
