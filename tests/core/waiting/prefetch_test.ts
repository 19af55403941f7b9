import {
  assert,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertLessOrEqual,
  assertRejects,
  assertThrows,
} from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { memoryKv } from "../../../src/adapters/memory.ts";
import type { LimiterOptions } from "../../../src/config/options.ts";
import type { Grant } from "../../../src/core/decision/batch.ts";
import { NotSynchronousError, RateLimiterAcquisitionError } from "../../../src/core/errors.ts";
import { rateRule } from "../../../src/core/rules/rate.ts";
import { windowRule } from "../../../src/core/rules/window.ts";
import { createPrefetch } from "../../../src/core/waiting/prefetch.ts";
import { rateExcess, type Start } from "../../support/oracles.ts";
import { createSimulation, type SimulatedProcess, type Simulation } from "../../support/simulated_process.ts";

const WIDE: LimiterOptions = { ratePerSecond: 2_000, burst: 2_000, failClosed: true, prefetch: 100 };

/** How often the process has asked the store anything. */
function counted({ link }: SimulatedProcess): { readonly messages: number } {
  const tally = { messages: 0 };
  const { get, compareAndSet } = link;
  Object.assign(link, {
    get(...call: Parameters<typeof get>) {
      tally.messages++;
      return get(...call);
    },
    compareAndSet(...call: Parameters<typeof compareAndSet>) {
      tally.messages++;
      return compareAndSet(...call);
    },
  });
  return tally;
}

/** Asks `count` times, every `everyMs`, without waiting for the answers; when each was served, and how long it took. */
async function ask(
  { clock }: Simulation,
  { limiter }: SimulatedProcess,
  count: number,
  everyMs: number,
): Promise<{ readonly starts: Start[]; readonly waits: number[] }> {
  const starts: Start[] = [];
  const waits: number[] = [];
  const calls: Promise<void>[] = [];
  for (let i = 0; i < count; i++) {
    const since = clock.now();
    calls.push(
      limiter.acquire().then(() => {
        starts.push({ at: clock.now(), cost: 1, until: Infinity });
        waits.push(clock.now() - since);
      }),
    );
    await clock.sleep(everyMs);
  }
  await Promise.all(calls);
  return { starts, waits };
}

const median = (values: readonly number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;

test("1,000 acquires at 1,000/s cost few messages, and the limit is exact", async () => {
  const simulation = createSimulation();
  const limit = { ratePerSecond: 1_000, burst: 1 };
  const process = simulation.start({ ...limit, failClosed: true, prefetch: 100 }, { latencyMs: 2 });
  const tally = counted(process);
  const { starts } = await simulation.run(ask(simulation, process, 1_000, 1));
  assertLessOrEqual(tally.messages, 35);
  assertEquals(rateExcess(starts, limit, 5), undefined);
  assertLessOrEqual(starts.at(-1)!.at - starts[0]!.at, 1_100);
});

test("while the stock lasts callers wait for nothing, and for far fewer messages than without it", async () => {
  const simulation = createSimulation();
  for (const prefetch of [0, 100]) {
    const process = simulation.start({ ...WIDE, prefetch }, { latencyMs: 2 });
    const tally = counted(process);
    const { waits } = await simulation.run(ask(simulation, process, 1_000, 1));
    if (prefetch === 0) {
      assertGreaterOrEqual(median(waits), 2);
      assertGreaterOrEqual(tally.messages, 300);
    } else {
      assertEquals(median(waits), 0);
      assertGreater(waits.filter((ms) => ms === 0).length, 950);
      assertLessOrEqual(tally.messages, 40);
    }
  }
});

test("a slot in stock is there without a promise, and nobody is asked for it", async () => {
  const simulation = createSimulation();
  const process = await stocked(simulation, WIDE);
  const tally = counted(process);
  assert(process.limiter.tryAcquireSync().allowed);
  const permit = process.limiter.acquire();
  await Promise.resolve();
  assertEquals(tally.messages, 0);
  assertEquals((await permit).waitedMs, 0);
  // Another cost is not in stock.
  assertThrows(() => process.limiter.tryAcquireSync({ cost: 2 }), NotSynchronousError);
});

for (const place of ["in memory", "on a server"] as const) {
  test(`who does not want to wait hears so at once, behind others and with something in stock, ${place}`, async () => {
    const { clock, start, run } = createSimulation();
    const limit = { ratePerSecond: 10, burst: 5, prefetch: 20, failClosed: true };
    const { limiter } = start(limit, place === "in memory" ? { store: { kv: memoryKv(clock) } } : { latencyMs: 1 });
    const leaves = Array.from({ length: 40 }, () => new AbortController());
    let granted = 0;
    const calls: Promise<unknown>[] = [];
    for (const { signal } of leaves) {
      calls.push(limiter.acquire({ signal }).then(() => granted++, () => {}));
      await clock.advance(20);
    }
    // Those who go leave their slots in the stock, and others wait behind them.
    for (const leave of leaves.slice(granted, granted + 3)) leave.abort();
    const asked = clock.now();
    assertEquals((await run(limiter.tryAcquire())).allowed, false);
    assertLessOrEqual(clock.now() - asked, 2);
    if (place === "in memory") assertEquals(limiter.tryAcquireSync().allowed, false);
    await run(Promise.all(calls));
    // The burst, and then one after the other: no slot went to somebody who was told that there was none.
    assertEquals(granted, 37);
    assertLessOrEqual(clock.now(), asked + (37 - 5) * 100);
  });
}

test("where nobody asks nothing is taken, and where more ask more is", () => {
  const wishes = [5_000, 200, 50, 20, 10, 5, 1].map((everyMs) => {
    const stock = createPrefetch([rateRule({ ratePerSecond: 2_000, burst: 2_000, timingMarginMs: 10 })], 100, 1_000)!;
    for (let i = 0; i < 400; i++) stock.asked(i * everyMs);
    return stock.wish(399 * everyMs).count;
  });
  assertEquals(wishes[0], 0);
  assertEquals(wishes.toSorted((a, b) => a - b), wishes);
  assertGreater(wishes[4]!, 1);
  assertEquals(wishes.at(-1), 100);
});

test("when nobody asks any more nothing is taken, and others have everything again", async () => {
  const simulation = createSimulation();
  const process = await stocked(simulation, WIDE);
  const other = simulation.start(WIDE);
  const taken = 2_000 - (await simulation.run(other.limiter.getState())).remaining;
  // As much again is missing at the most for what is kept.
  assertLessOrEqual(taken, 200);
  const tally = counted(process);
  await simulation.run(simulation.clock.sleep(1_000));
  assertEquals(tally.messages, 0);
  assertEquals((await simulation.run(other.limiter.getState())).remaining, 2_000);
  await simulation.run(process.limiter.acquire());
  assertEquals(tally.messages, 1);
  await simulation.run(simulation.clock.sleep(1));
  assertGreaterOrEqual((await simulation.run(other.limiter.getState())).remaining, 1_999);
});

test("several processes with a stock each keep the limit exactly", async () => {
  for (const burst of [1, 5, 50]) {
    const simulation = createSimulation();
    const limit = { ratePerSecond: 500, burst };
    const options = { ...limit, failClosed: true, prefetch: 40 };
    const starts: Start[] = [];
    const all = [0.8, 3, 7, 11].map(async (everyMs, i) => {
      const process = simulation.start(options, { latencyMs: 1 + i });
      const asked = await ask(simulation, process, 200, everyMs);
      starts.push(...asked.starts);
    });
    await simulation.run(Promise.all(all));
    assertEquals(starts.length, 800);
    assertEquals(rateExcess(starts, limit, 5), undefined);
  }
});

test("callers are served in the order in which they came, whether from the stock or not", async () => {
  const simulation = createSimulation();
  const { limiter } = simulation.start({ ratePerSecond: 200, burst: 3, prefetch: 20, failClosed: true }, {
    latencyMs: 3,
  });
  const served: number[] = [];
  const calls: Promise<unknown>[] = [];
  for (let i = 0; i < 400; i++) {
    const cost = i % 37 === 36 ? 2 : 1;
    calls.push(limiter.acquire({ cost }).then(() => served.push(i)));
    await simulation.run(simulation.clock.sleep(i % 10 === 0 ? 20 : 3));
  }
  await simulation.run(Promise.all(calls));
  assertEquals(served, served.toSorted((a, b) => a - b));
});

/** A process with slots in stock, the next of them now or soon. */
async function stocked(simulation: Simulation, options: LimiterOptions, latencyMs = 1): Promise<SimulatedProcess> {
  const process = simulation.start(options, { latencyMs });
  await simulation.run(ask(simulation, process, 200, 2));
  return process;
}

test("in an outage those are served for whom there is something in stock", async () => {
  const simulation = createSimulation();
  const process = await stocked(simulation, WIDE);
  process.link.failNext("error", { times: 1_000 });
  let served = 0;
  for (;;) {
    try {
      await simulation.run(process.limiter.acquire({ timeoutMs: 50 }));
      served++;
    } catch (error) {
      assert(error instanceof RateLimiterAcquisitionError);
      assertEquals(error.reason, "backend");
      break;
    }
  }
  assertGreater(served, 15);
  assertLessOrEqual(served, 100);
});

test("close() gives back what is in stock, and leaves no timer", async () => {
  const simulation = createSimulation();
  const { limiter } = await stocked(simulation, WIDE);
  const other = simulation.start(WIDE);
  const before = await simulation.run(other.limiter.getState());
  assertLessOrEqual(before.remaining, 2_000 - 40);
  await simulation.run(limiter.close());
  const { remaining } = await simulation.run(other.limiter.getState());
  // To keep what was used before has cost the others no more than that.
  assertGreaterOrEqual(remaining, 2_000 - 100);
  await simulation.run(other.limiter.close());
});

test("what is in stock is not missing for a request of another cost, nor in the state", async () => {
  const simulation = createSimulation();
  const options = { ratePerSecond: 50, burst: 100, prefetch: 50, failClosed: true };
  const process = simulation.start(options, { latencyMs: 1 });
  await simulation.run(ask(simulation, process, 85, 25));
  const other = simulation.start(options);
  const there = await simulation.run(other.limiter.getState());
  const here = await simulation.run(process.limiter.getState());
  assertGreater(here.remaining, there.remaining + 10);
  const { allowed } = await simulation.run(process.limiter.tryAcquire({ cost: here.remaining }));
  assert(allowed);
});

test("a refusal says when the next slot in stock comes, and asks nobody", async () => {
  const simulation = createSimulation();
  const process = simulation.start({ ratePerSecond: 20, burst: 1, prefetch: 10, failClosed: true }, { latencyMs: 1 });
  await simulation.run(ask(simulation, process, 40, 50));
  await simulation.run(process.limiter.acquire());
  const tally = counted(process);
  const refused = await simulation.run(process.limiter.tryAcquire());
  assert(!refused.allowed);
  assertGreater(refused.retryAfterMs, 0);
  assertLessOrEqual(refused.retryAfterMs, 50);
  await assertRejects(() => simulation.run(process.limiter.acquire({ timeoutMs: 1 })), RateLimiterAcquisitionError);
  assertEquals(tally.messages, 0);
  await simulation.run(simulation.clock.sleep(refused.retryAfterMs));
  assert((await simulation.run(process.limiter.tryAcquire())).allowed);
});

test("who leaves gives the slot to those behind it", async () => {
  const simulation = createSimulation();
  const process = await stocked(simulation, { ratePerSecond: 100, burst: 1, prefetch: 50, failClosed: true });
  const leaving = new AbortController();
  const first = process.limiter.acquire({ signal: leaving.signal });
  const since = simulation.clock.now();
  const second = process.limiter.acquire();
  leaving.abort(new Error("gone"));
  await assertRejects(() => first, Error, "gone");
  await simulation.run(second);
  assertLessOrEqual(simulation.clock.now() - since, 10 + 1e-6);
});

test("who leaves while others wait gives its slot to nobody who came after them", async () => {
  const simulation = createSimulation();
  const { clock, run } = simulation;
  const { limiter } = simulation.start({ ratePerSecond: 100, burst: 4, prefetch: 500 }, { latencyMs: 1 });
  const served: string[] = [];
  const calls: Promise<unknown>[] = [];
  const come = async (name: string, cost: number, signal?: AbortSignal) => {
    calls.push(limiter.acquire({ cost, signal }).then(() => served.push(name), () => {}));
    await run(clock.sleep(2));
  };
  const leaving = new AbortController();
  // Many come, so that what is free goes into the stock.
  for (let i = 0; i < 50; i++) await come("one of many", 1);
  await come("who leaves", 1, leaving.signal);
  await come("who waits", 3);
  await come("one behind it", 1);
  leaving.abort();
  await come("who came later", 1);
  await run(Promise.all(calls));
  assertEquals(served.slice(-3), ["who waits", "one behind it", "who came later"]);
});

test("only rates are taken ahead", () => {
  const rate = rateRule({ ratePerSecond: 10, burst: 5, timingMarginMs: 10 });
  const window = windowRule({ limit: 5, windowMs: 1_000, reserveAheadMs: 0, timingMarginMs: 10 });
  assertEquals(createPrefetch([rate], 0, 1_000), undefined);
  assertEquals(createPrefetch([rate, window], 5, 1_000), undefined);
  assert(createPrefetch([rate], 5, 1_000)?.isEmpty);
});

test("whatever is taken and kept for however long, the limit holds", () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({ ratePerSecond: fc.constantFrom(5, 20, 100), burst: fc.constantFrom(1, 2, 10) }),
        { minLength: 1, maxLength: 2 },
      ),
      fc.array(
        fc.record({
          after: fc.integer({ min: 0, max: 300 }),
          count: fc.integer({ min: 1, max: 8 }),
          keep: fc.integer({ min: 0, max: 500 }),
          stock: fc.integer({ min: 0, max: 2 }),
          use: fc.integer({ min: 0, max: 8 }),
        }),
        { maxLength: 40 },
      ),
      (limits, steps) => {
        const rules = limits.map((limit) => rateRule({ ...limit, timingMarginMs: 10 }));
        const lateMs = Math.min(...rules.map((rule) => rule.toleranceMs));
        const stocks = [0, 1, 2].map(() => createPrefetch(rules, 100, 1_000)!);
        const starts: Start[] = [];
        let parts = rules.map((rule) => rule.initial);
        let now = 1_000;
        const demand = { cost: 1, owner: "", permit: 0 };
        for (const { after, count, keep, stock: place, use } of steps) {
          now += after;
          const stock = stocks[place]!;
          for (let i = 0; i < count; i++) {
            const from = Math.max(...rules.map((rule, r) => rule.earliest(parts[r]!, now, demand)));
            const at = Math.max(from, now + keep);
            const next = rules.map((rule, r) => rule.take(parts[r]!, at, now, demand));
            const grant: Grant = { from, at, epoch: 0, before: parts, after: next, demand };
            stock.add(grant, now + 1_000);
            parts = next;
          }
          for (let i = 0; i < use; i++) {
            const slot = stock.next(now);
            if (!slot || slot.from > now) break;
            stock.take();
            starts.push({ at: now, cost: 1, until: Infinity });
          }
        }
        for (const limit of limits) assertEquals(rateExcess(starts, limit, lateMs), undefined);
      },
    ),
    { numRuns: 500 },
  );
});
