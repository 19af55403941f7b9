import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { test } from "node:test";
import {
  createRateSync,
  type Kv,
  type LimiterOptions,
  type Permit,
  RateLimiterAcquisitionError,
  type RateSync,
  type StoreOptions,
} from "../../mod.ts";
import { resetAllLimiters, resetBackendStore, resetLimiter } from "../../src/testing/mod.ts";
import { type LogBook, logBook } from "../support/log_book.ts";

/** A store that is empty and nobody else's. */
export interface Place extends AsyncDisposable {
  /** What every process configures to be there. */
  readonly options: StoreOptions;
  /** The same store without a limiter in between. */
  readonly kv: Kv;
}

interface World {
  readonly kv: Kv;
  readonly log: LogBook;
  /** One more process. */
  process(limiters: Readonly<Record<string, LimiterOptions>>): RateSync;
}

/** Nothing that was used up comes back in this time. */
const SOON_MS = 1_000;
/** Rates that give nothing back during a test. */
const SLOW = { ratePerSecond: 0.001, burst: 3, onFailure: "closed" } as const;
const WINDOW = { algorithm: "sliding_window", limit: 3, windowMs: 600_000, onFailure: "closed" } as const;
const PERMITS = { maxConcurrent: 2, leaseMs: 600_000, onFailure: "closed" } as const;
const KINDS = {
  rate: SLOW,
  window: WINDOW,
  concurrency: PERMITS,
  all: { ...SLOW, ...PERMITS, rates: [{ algorithm: "sliding_window", limit: 3, windowMs: 600_000 }] },
} as const;

async function keysIn(kv: Kv): Promise<string[]> {
  const keys: string[] = [];
  for await (const key of kv.keys()) keys.push(key);
  return keys.sort();
}

async function takeAll(rateSync: RateSync, id: string, key?: string): Promise<Permit[]> {
  const permits: Permit[] = [];
  for (;;) {
    const result = await rateSync.tryAcquire(id, { key });
    if (result.allowed) permits.push(result.permit);
    else if (result.retryAfterMs >= SOON_MS) return permits;
    // Where the store was slow the one before counts for when its answer is here, and nothing starts before that.
    else await new Promise((resolve) => setTimeout(resolve, result.retryAfterMs));
  }
}

/** What `resetLimiter()` and its like promise on every store. Registers the tests. */
export function resetSuite(name: string, open: () => Promise<Place>): void {
  const check = (what: string, body: (world: World) => Promise<void>) =>
    void test(`${name}: ${what}`, { timeout: 120_000 }, async () => {
      await using place = await open();
      const log = logBook();
      const processes: RateSync[] = [];
      await body({
        kv: place.kv,
        log,
        process(limiters) {
          const rateSync = createRateSync({ logger: log });
          processes.push(rateSync);
          rateSync.configureStore("store", place.options);
          for (const [id, options] of Object.entries(limiters)) {
            rateSync.configureLimiter(id, { ...options, store: "store" });
          }
          return rateSync;
        },
      });
      await Promise.all(processes.map((rateSync) => rateSync.close()));
    });

  for (const [kind, options] of Object.entries(KINDS)) {
    check(`resetLimiter() takes state and metrics back to the start, of a limit by ${kind} [TST-1]`, async (world) => {
      const rateSync = world.process({ api: options, other: options });
      const limiter = rateSync.getLimiter("api");
      const unused = limiter.getMetrics();
      const config = limiter.getConfig();
      await rateSync.tryAcquire("other");
      const other = [
        rateSync.getLimiter("other").getMetrics(),
        (await rateSync.getLimiter("other").getState()).remaining,
      ];
      for (let turn = 0; turn < 3; turn++) {
        const whole = (await limiter.getState()).remaining;
        assertEquals((await takeAll(rateSync, "api")).length, whole);
        assertEquals((await limiter.getState()).allowed, false);
        await resetLimiter(turn === 0 ? "api" : limiter, { rateSync });
        await resetLimiter("api", { rateSync });
        assertEquals(limiter.getMetrics(), unused);
        const { allowed, remaining, currentUsage } = await limiter.getState();
        assertEquals({ allowed, remaining, currentUsage }, { allowed: true, remaining: whole, currentUsage: 0 });
        assertEquals([limiter.getConfig(), rateSync.getLimiter("api"), limiter.initialized], [config, limiter, true]);
      }
      await limiter.acquire();
      assertEquals(limiter.getMetrics().totalAcquisitions, 1);
      assertEquals(
        [rateSync.getLimiter("other").getMetrics(), (await rateSync.getLimiter("other").getState()).remaining],
        other,
      );
    });
  }

  check(
    "resetLimiter() resets the limiter's keys too, and no limiter whose id only begins alike [TST-1]",
    async (world) => {
      const rateSync = world.process({ api: SLOW, api2: SLOW });
      rateSync.cloneLimiter("api", "api:premium");
      const elsewhere = world.process({ api: SLOW });
      const long = "x".repeat(5_000);
      for (const key of ["alice", "", "a.b", long]) await takeAll(rateSync, "api", key);
      await takeAll(elsewhere, "api", "bob");
      for (const id of ["api", "api2", "api:premium"]) await takeAll(rateSync, id);
      await resetLimiter("api", { rateSync });
      assertEquals(await keysIn(world.kv), ["api2", "api=3Apremium"]);
      for (const key of ["alice", "", "a.b", long, "bob"]) {
        assertEquals((await takeAll(rateSync, "api", key)).length, 3);
      }
      assertEquals((await takeAll(rateSync, "api")).length, 3);
      assertEquals((await takeAll(rateSync, "api2")).length + (await takeAll(rateSync, "api:premium")).length, 0);
    },
  );

  check("resetLimiter() resets one key alone, by a limiter or by its name [TST-1]", async (world) => {
    const rateSync = world.process({ api: SLOW });
    const alice = rateSync.getLimiter("api").key("alice");
    for (const target of ["by name", "by limiter"]) {
      await takeAll(rateSync, "api");
      for (const key of ["alice", "bob"]) await takeAll(rateSync, "api", key);
      if (target === "by name") await resetLimiter("api", { rateSync, key: "alice" });
      else await resetLimiter(alice, { rateSync });
      assertEquals(alice.getMetrics().totalAcquisitions, 0);
      assertEquals((await takeAll(rateSync, "api", "alice")).length, 3);
      assertEquals((await takeAll(rateSync, "api", "bob")).length, 0);
      assertEquals((await takeAll(rateSync, "api")).length, 0);
    }
  });

  check("resetLimiter() deletes what an earlier run left, before the first use [TST-1]", async (world) => {
    const earlier = world.process({ api: SLOW });
    await takeAll(earlier, "api");
    await takeAll(earlier, "api", "alice");
    await earlier.close();
    const rateSync = world.process({ api: SLOW });
    await resetLimiter("api", { rateSync });
    assertEquals(await keysIn(world.kv), []);
    assertEquals((await takeAll(rateSync, "api")).length, 3);
  });

  check("resetAllLimiters() resets all that are configured, clones and keys included [TST-2]", async (world) => {
    const rateSync = world.process({ api: SLOW, mails: PERMITS, unused: SLOW });
    rateSync.cloneLimiter("api", "clone");
    for (const id of ["api", "mails", "clone"]) await takeAll(rateSync, id);
    await takeAll(rateSync, "api", "alice");
    await resetAllLimiters({ rateSync });
    await resetAllLimiters({ rateSync });
    assertEquals(await keysIn(world.kv), []);
    assertEquals(
      Object.values(rateSync.listLimiters()).map(({ metrics }) => metrics?.totalAcquisitions),
      [0, 0, 0, 0],
    );
    for (const [id, whole] of Object.entries({ api: 3, mails: 2, clone: 3, unused: 3 })) {
      assertEquals((await takeAll(rateSync, id)).length, whole, id);
    }
    assertEquals((await takeAll(rateSync, "api", "alice")).length, 3);
  });

  check("resetBackendStore() deletes everything in the store, and resets all limiters on it [TST-3]", async (world) => {
    const rateSync = world.process({ api: SLOW, mails: PERMITS });
    rateSync.configureLimiter("elsewhere", SLOW);
    const stranger = world.process({ stranger: SLOW });
    await takeAll(stranger, "stranger", "key");
    for (const id of ["api", "mails", "elsewhere"]) await takeAll(rateSync, id);
    for (const key of ["alice", "bob"]) await takeAll(rateSync, "api", key);
    await resetBackendStore("store", { rateSync });
    await resetBackendStore("store", { rateSync });
    assertEquals(await keysIn(world.kv), []);
    assertEquals(rateSync.getLimiter("api").getMetrics().totalAcquisitions, 0);
    assertEquals(rateSync.getLimiter("api").key("alice").getMetrics().totalAcquisitions, 0);
    for (const key of [undefined, "alice", "bob"]) assertEquals((await takeAll(rateSync, "api", key)).length, 3);
    assertEquals((await takeAll(rateSync, "mails")).length, 2);
    assertEquals((await takeAll(rateSync, "elsewhere")).length, 0);
    assertEquals(world.log.lines.filter((line) => line.startsWith("warn")), []);
  });

  check("resetBackendStore() only warns while nothing has been used [TST-3]", async (world) => {
    const earlier = world.process({ api: SLOW });
    await takeAll(earlier, "api");
    const rateSync = world.process({ api: SLOW });
    await resetBackendStore("store", { rateSync });
    assertEquals([rateSync.listStores()["store"]?.initialized, (await keysIn(world.kv)).length], [false, 1]);
    const warnings = world.log.lines.filter((line) => line.startsWith("warn"));
    assertEquals(warnings.length, 1);
    assertStringIncludes(warnings[0]!, "Store 'store' was not reset");
    await rateSync.acquire("api", { key: "alice" });
    await resetBackendStore("store", { rateSync });
    assertEquals(await keysIn(world.kv), []);
  });

  check("who waits for a permit while the limiter is reset gets one, in order [TST-4]", async (world) => {
    const rateSync = world.process({ api: PERMITS });
    const held = await takeAll(rateSync, "api");
    const served: number[] = [];
    const waiting = Array.from({ length: 6 }, async (_, i) => {
      const permit = await rateSync.acquire("api");
      served.push(i);
      return permit;
    });
    await waitFor(() => rateSync.getLimiter("api").getMetrics().maxConcurrentReached > 0);
    await resetLimiter("api", { rateSync });
    const first = await Promise.all(waiting.slice(0, 2));
    assertEquals(served, [0, 1]);
    // Of those who held permits before, nobody frees what is somebody else's now.
    for (const permit of held) await permit.release();
    assertEquals(held.map(({ lost, signal }) => [lost, signal.aborted]), [[true, true], [true, true]]);
    assertStringIncludes(String(held[0]?.signal.reason), "was reset");
    assertEquals((await rateSync.tryAcquire("api")).allowed, false);
    assertEquals((await rateSync.getLimiter("api").getState()).remaining, 0);
    const { currentConcurrent, totalReleases, totalAcquisitions } = rateSync.getLimiter("api").getMetrics();
    assertEquals({ currentConcurrent, totalReleases, totalAcquisitions }, {
      currentConcurrent: 2,
      totalReleases: 0,
      totalAcquisitions: 2,
    });
    for (const permit of first) await permit.release();
    for (const permit of await Promise.all(waiting.slice(2, 4))) await permit.release();
    for (const permit of await Promise.all(waiting.slice(4))) await permit.release();
    assertEquals(served, [0, 1, 2, 3, 4, 5]);
    assertEquals((await rateSync.getLimiter("api").getState()).remaining, 2);
  });

  check(
    "who waits for its slot of a rate or a window while the limiter is reset is decided anew [TST-4]",
    async (world) => {
      const rateSync = world.process({ rate: { ...SLOW, reserveAheadMs: 3_600_000 }, window: WINDOW, parked: SLOW });
      for (const id of ["rate", "window", "parked"]) {
        await takeAll(rateSync, id);
        const waiting = [rateSync.acquire(id), rateSync.acquire(id), rateSync.acquire(id)];
        const refused = assertRejects(() => rateSync.acquire(id, { timeoutMs: 1 }), RateLimiterAcquisitionError);
        await refused;
        await resetLimiter(id, { rateSync });
        await Promise.all(waiting);
        assertEquals((await rateSync.getLimiter(id).getState()).remaining, 0, id);
        assertEquals(rateSync.getLimiter(id).getMetrics().totalAcquisitions, 3);
      }
    },
  );

  check("resetBackendStore() and resetAllLimiters() leave nobody waiting either [TST-4]", async (world) => {
    const rateSync = world.process({ api: PERMITS, rate: SLOW });
    for (const reset of [() => resetBackendStore("store", { rateSync }), () => resetAllLimiters({ rateSync })]) {
      const held = [...await takeAll(rateSync, "api"), ...await takeAll(rateSync, "api", "alice")];
      await takeAll(rateSync, "rate");
      const waiting = [
        rateSync.acquire("api"),
        rateSync.acquire("api", { key: "alice" }),
        rateSync.acquire("rate"),
      ];
      await waitFor(() => rateSync.getLimiter("api").key("alice").getMetrics().maxConcurrentReached > 0);
      await reset();
      const permits = await Promise.all(waiting);
      for (const permit of [...held, ...permits]) await permit.release();
    }
  });

  check("who is aborted or out of time during a reset leaves nothing behind [TST-4, TMO-7]", async (world) => {
    const rateSync = world.process({ api: { ...PERMITS, maxConcurrent: 1 } });
    await rateSync.acquire("api");
    const controller = new AbortController();
    const aborted = assertRejects(() => rateSync.acquire("api", { signal: controller.signal }), Error, "enough");
    await waitFor(() => rateSync.getLimiter("api").getMetrics().maxConcurrentReached > 0);
    const resetting = resetLimiter("api", { rateSync });
    controller.abort(new Error("enough"));
    await resetting;
    await aborted;
    const permit = await rateSync.acquire("api");
    await assertRejects(() => rateSync.acquire("api", { timeoutMs: 5 }), RateLimiterAcquisitionError);
    await permit.release();
    assertEquals((await rateSync.getLimiter("api").getState()).remaining, 1);
  });

  check("resets that come together, and with requests, count right in the end [TST-4]", async (world) => {
    const rateSync = world.process({ api: { ...PERMITS, maxConcurrent: 4 } });
    let running = 0;
    let most = 0;
    const work = Array.from({ length: 60 }, async (_, i) => {
      if (i % 12 === 0) return await resetLimiter("api", { rateSync });
      const permit = await rateSync.acquire("api");
      if (permit.lost) return;
      running++;
      permit.signal.addEventListener("abort", () => running--);
      most = Math.max(most, running);
      await new Promise((resolve) => setTimeout(resolve, i % 3));
      if (!permit.lost) running--;
      await permit.release();
    });
    await Promise.all(work);
    assert(most <= 4, `${most} at once`);
    assertEquals((await rateSync.getLimiter("api").getState()).remaining, 4);
    assertEquals(rateSync.getLimiter("api").getMetrics().currentConcurrent, 0);
  });

  check("other processes go on: who waits there is served, and what they hold counts again [TST-4]", async (world) => {
    const options = { ...PERMITS, leaseMs: 1_500 };
    const here = world.process({ api: options });
    const there = world.process({ api: options });
    const kept = await there.acquire("api");
    await here.acquire("api");
    const waiting = there.acquire("api");
    await waitFor(() => there.getLimiter("api").getMetrics().maxConcurrentReached > 0);
    await resetLimiter("api", { rateSync: here });
    const second = await waiting;
    await waitFor(async () => (await here.getLimiter("api").getState()).remaining === 0);
    assertEquals([kept.lost, second.lost], [false, false]);
    await kept.release();
    await second.release();
    assertEquals((await here.getLimiter("api").getState()).remaining, 2);
  });
}

async function waitFor(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!await condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}
