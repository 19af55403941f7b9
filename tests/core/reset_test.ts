import { assertEquals, assertLessOrEqual, assertRejects } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import type { LimiterOptions } from "../../src/config/options.ts";
import { RateLimiterError, StoreUnavailableError } from "../../src/core/errors.ts";
import type { ClosableLimiter } from "../../src/core/limiter/limiter.ts";
import type { Permit } from "../../src/core/limiter/result.ts";
import type { Fault } from "../../src/testing/faulty_kv.ts";
import { createSimulation, LIMITER_ID } from "../support/simulated_process.ts";

test("a reset while a write is on its way begins when that has ended [TST-4]", async () => {
  const { clock, server, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 0.001 }, { latencyMs: 10 });
  const first = limiter.acquire();
  await clock.advance(2);
  await run(Promise.all([limiter.reset(), first]));
  assertEquals(limiter.getMetrics().totalAcquisitions, 1);
  assertEquals((await run(limiter.tryAcquire())).allowed, false);
  await run(limiter.reset());
  assertEquals(server.text(LIMITER_ID), undefined);
});

test("who asks for the state while a write is on its way is answered although the limiter is reset [TST-4, STA-4]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 1, burst: 5 }, { latencyMs: 10 });
  const first = limiter.acquire();
  await clock.advance(5);
  const state = limiter.getState();
  await run(Promise.all([limiter.reset(), first]));
  assertEquals((await run(state, 1_000)).remaining, 5);
});

test("a request that comes during a reset is decided after it [TST-4]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 0.001 }, { latencyMs: 10 });
  await run(limiter.acquire());
  const resetting = limiter.reset();
  await clock.advance(1);
  const results = Promise.all([limiter.tryAcquire(), limiter.tryAcquire({ timeoutMs: 50 })]);
  assertEquals((await run(results)).map(({ allowed }) => allowed), [true, false]);
  await run(resetting);
});

test("a reset of a limiter whose store is just being opened waits for that [TST-4]", async () => {
  const { clock, start, run } = createSimulation();
  const open = () => clock.sleep(100);
  const { limiter } = start({ ratePerSecond: 0.001 }, { store: { open } });
  const first = limiter.acquire();
  await clock.advance(1);
  await run(Promise.all([limiter.reset(), first]));
  assertEquals((await run(limiter.getState())).remaining, 0);
});

test("a reset that fails has begun anew here, and nobody waits for it longer than for the store [TST-4]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ maxConcurrent: 1, leaseMs: 1_000, backendTimeoutMs: 300 }, { latencyMs: 2 });
  const held = await run(limiter.acquire());
  const waiting = limiter.acquire();
  await clock.advance(10);
  link.failNext("refused", { operation: "keys" });
  await assertRejects(() => run(limiter.reset()), StoreUnavailableError, "refused");
  assertEquals([held.lost, limiter.getMetrics().currentConcurrent], [true, 0]);
  // The value is still there: the lease of the one that was lost has to run out.
  const begun = clock.now();
  await run(waiting);
  assertEquals(clock.now() - begun < 2_000, true);
});

test("who is decided anew after a reset has the time that is left, and not all of it again [TST-4, TMO-1]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { ratePerSecond: 0.1, backendTimeoutMs: 5_000, onFailure: "closed" } as const;
  const { limiter, link } = start(options, { latencyMs: 2 });
  await run(limiter.acquire());
  const begun = clock.now();
  const waiting = assertRejects(() => limiter.acquire({ timeoutMs: 11_000 }), RateLimiterError);
  await clock.advance(9_000);
  link.isDown = true;
  const resetting = assertRejects(() => limiter.reset(), StoreUnavailableError);
  await run(waiting);
  assertLessOrEqual(clock.now() - begun, 11_001);
  await run(resetting);
});

test("a reset during an outage is no answer of the store for who waits in its place [TST-4, FAIL-3]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { maxConcurrent: 1, backendTimeoutMs: 300, onFailure: "local" } as const;
  const { limiter, link, warnings } = start(options, { latencyMs: 2 });
  link.isDown = true;
  const lost = await run(limiter.acquire());
  const [first, next] = [limiter.acquire(), limiter.acquire()];
  await clock.advance(1_500);
  await assertRejects(() => run(limiter.reset()), StoreUnavailableError);
  const held = await run(first);
  assertEquals([lost.lost, held.degraded], [true, true]);
  await clock.advance(20_000);
  assertEquals(warnings.filter((message) => message.includes("answers again")), []);
  // The store is asked on behalf of whoever waits, before the reset and after it.
  link.isDown = false;
  await clock.advance(3_000);
  assertEquals((await run(next)).degraded, false);
  await run(held.release());
});

test("of two who ask while the limiter is reset, at whatever moment, one holds the permit [TST-4]", async () => {
  const { clock, start, run } = createSimulation();
  for (let turns = 0; turns < 60; turns++) {
    const { limiter } = start({ maxConcurrent: 1, leaseMs: 600_000 });
    await run(limiter.reset());
    const permits: Permit[] = [];
    for (let i = 0; i < 2; i++) void limiter.acquire().then((permit) => permits.push(permit));
    for (let turn = 0; turn < turns; turn++) await undefined;
    await run(limiter.reset());
    await clock.advance(100);
    // Who was granted it before has lost it, and then the other has it.
    assertEquals(permits.filter(({ lost }) => !lost).length, 1, `after ${turns} turns`);
    assertEquals(limiter.getMetrics().currentConcurrent, 1);
    assertEquals((await run(limiter.tryAcquire())).allowed, false);
    for (const permit of permits) await run(permit.release());
    await clock.advance(100);
    assertEquals(permits.length, 2);
    for (const permit of permits) await run(permit.release());
    assertEquals((await run(limiter.getState())).remaining, 1);
    await limiter.close();
  }
  await clock.advance(1_000);
  assertEquals(clock.sleepers, 0);
});

test("a reset that comes while another one deletes ends after it: what is counted then stays counted [TST-4]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 0.001 }, { latencyMs: 4 });
  await run(limiter.acquire());
  link.failNext({ kind: "request_late", byMs: 500 }, { operation: "delete" });
  const slow = limiter.reset();
  await clock.advance(50);
  const fast = limiter.reset();
  await run(fast);
  await run(limiter.acquire());
  await run(slow);
  const other = start({ ratePerSecond: 0.001 });
  assertEquals((await run(other.limiter.tryAcquire())).allowed, false);
});

test("what was taken back from before a reset gives nothing back after it [TST-4, CHK-6]", async () => {
  for (
    const options of [{ ratePerSecond: 0.001, burst: 2 }, { limit: 2, windowMs: 1e6, algorithm: "sliding_window" }]
  ) {
    const { start, run } = createSimulation();
    const { limiter } = start(options as LimiterOptions); // one of two literals above
    const taken = await run(limiter.tryTake());
    await run(limiter.reset());
    await run(limiter.acquire());
    await run(taken.cancel());
    assertEquals((await run(limiter.getState())).remaining, 1);
  }
});

// Any order of everything

type Step =
  | { readonly kind: "call"; readonly process: number; readonly timeoutMs: number; readonly holdMs: number }
  | { readonly kind: "reset"; readonly process: number }
  | { readonly kind: "wait"; readonly ms: number }
  | { readonly kind: "faults"; readonly process: number; readonly faults: readonly Fault[] };

const process = fc.nat({ max: 1 });
const call = fc.record({
  kind: fc.constant("call"),
  process,
  timeoutMs: fc.constantFrom(0, 40, 500, Infinity, Infinity),
  holdMs: fc.constantFrom(0, 5, 60, 400),
});
const fault = fc.constantFrom<Fault>(
  { kind: "request_lost" },
  { kind: "answer_lost" },
  { kind: "refused" },
  { kind: "error", applied: true },
  { kind: "conflict" },
  { kind: "answer_late", byMs: 250 },
);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: call },
  { weight: 3, arbitrary: fc.constantFrom(0, 1, 5, 30, 300).map((ms): Step => ({ kind: "wait", ms })) },
  { weight: 2, arbitrary: process.map((process): Step => ({ kind: "reset", process })) },
  fc.record({ kind: fc.constant("faults"), process, faults: fc.array(fault, { minLength: 1, maxLength: 3 }) }),
);

test("resets among calls, in two processes and with faults: nobody hangs, and too many never run [TST-4]", async () => {
  const rest = { leaseMs: 20_000, backendTimeoutMs: 400, onFailure: "closed" } as const;
  const limits = fc.constantFrom<LimiterOptions>(
    { ...rest, maxConcurrent: 1 },
    { ...rest, maxConcurrent: 3 },
    { ...rest, maxConcurrent: 2, ratePerSecond: 50, burst: 2 },
    { ...rest, algorithm: "sliding_window", limit: 3, windowMs: 300 },
    { ...rest, ratePerSecond: 20, burst: 2 },
  );
  await fc.assert(
    fc.asyncProperty(limits, fc.array(step, { maxLength: 50, size: "max" }), async (options, steps) => {
      const { clock, start, run } = createSimulation();
      const processes = [0, 1].map(() => start(options, { latencyMs: 4 }));
      const at = (index: number) => processes[index]!; // there are two
      const wrong: string[] = [];
      const pending: Promise<unknown>[] = [];
      // Of each process, as a reset does not take the permits of others away.
      const running = [new Set<symbol>(), new Set<symbol>()];
      const most = options.maxConcurrent ?? Infinity;

      async function use(limiter: ClosableLimiter, step: Extract<Step, { kind: "call" }>): Promise<void> {
        const permit = await limiter.acquire({ timeoutMs: step.timeoutMs });
        const own = running[step.process]!;
        const id = Symbol();
        if (!permit.lost) own.add(id);
        permit.signal.addEventListener("abort", () => own.delete(id));
        if (own.size > most) wrong.push(`${own.size} run in one process`);
        if (step.holdMs > 0) await clock.sleep(step.holdMs);
        own.delete(id);
        await permit.release();
      }

      for (const step of steps) {
        if (step.kind === "wait") await clock.advance(step.ms);
        else if (step.kind === "faults") { for (const fault of step.faults) at(step.process).link.failNext(fault); }
        else {
          const { limiter } = at(step.process);
          const task = step.kind === "reset" ? limiter.reset() : use(limiter, step);
          pending.push(task.catch((error) => {
            if (!(error instanceof RateLimiterError)) wrong.push(`an error of another kind: ${error}`);
          }));
        }
      }
      await run(Promise.all(pending), 600_000).catch((error) => wrong.push(`${error}`));
      for (const { link } of processes) link.clearFaults();
      // Leases of those that nobody knows of run out.
      await clock.advance(60_000);
      if (clock.sleepers > 0) wrong.push(`${clock.sleepers} timers are left behind`);
      for (const { limiter } of processes) {
        const state = await run(limiter.getState());
        if (!state.allowed || state.currentUsage !== 0) wrong.push(`at the end it is ${JSON.stringify(state)}`);
        if (limiter.getMetrics().currentConcurrent !== 0) wrong.push("permits are still counted");
      }
      await run(at(0).limiter.reset());
      const whole = options.maxConcurrent ?? options.limit ?? options.burst ?? 1;
      const state = await run(at(0).limiter.getState());
      if (state.remaining !== whole) wrong.push(`${state.remaining} of ${whole} after the last reset`);
      assertEquals(wrong, []);
    }),
    { numRuns: 300 },
  );
});
