import { assertEquals, assertGreater } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import type { Clock } from "../../src/core/clock.ts";
import type { LimiterOptions } from "../../src/config/options.ts";
import { RateLimiterAcquisitionError } from "../../src/core/errors.ts";
import { concurrencyExcess, rateExcess, type Start, windowExcess } from "../support/oracles.ts";
import type { Fault } from "../../src/testing/faulty_kv.ts";
import { createSimulation, type SimulatedProcess } from "../support/simulated_process.ts";

/** What a limiter promises while everything around it goes wrong: random callers, delays, losses and outages. */

const BACKEND_TIMEOUT_MS = 400;
const LEASE_MS = 20_000;
/** Longer than the store may be silent with a caller whose time is up. */
const GRACE_MS = 41;

interface Limits {
  readonly rate?: { readonly ratePerSecond: number; readonly burst: number };
  readonly window?: { readonly limit: number; readonly windowMs: number };
  readonly maxConcurrent?: number;
}

interface Request {
  readonly kind: "request";
  readonly process: number;
  readonly cost: number;
  readonly timeoutMs: number;
  readonly abortAfterMs: number;
  readonly holdMs: number;
  /** How many ask the same at the same time. */
  readonly callers: number;
}

type Step =
  | Request
  | { readonly kind: "wait"; readonly ms: number }
  | { readonly kind: "faults"; readonly process: number; readonly faults: readonly Fault[] }
  | { readonly kind: "latency"; readonly process: number; readonly ms: number }
  | { readonly kind: "outage"; readonly process: number; readonly ms: number }
  | { readonly kind: "stall"; readonly process: number; readonly ms: number }
  | { readonly kind: "look"; readonly process: number };

const limits: fc.Arbitrary<Limits> = fc.record({
  rate: fc.record({ ratePerSecond: fc.constantFrom(1, 7, 20, 100, 1_000), burst: fc.constantFrom(1, 2, 5) }),
  window: fc.record({ limit: fc.constantFrom(1, 3, 10, 150), windowMs: fc.constantFrom(200, 1_000, 5_000) }),
  maxConcurrent: fc.constantFrom(1, 2, 5),
}, { requiredKeys: [] }).filter((limits) => Object.keys(limits).length > 0);

const process = fc.nat({ max: 2 });

const request: fc.Arbitrary<Request> = fc.record({
  kind: fc.constant("request"),
  process,
  cost: fc.constantFrom(1, 1, 1, 1, 2, 0.5),
  timeoutMs: fc.constantFrom(0, 0, 30, 300, 2_000, Infinity, Infinity),
  abortAfterMs: fc.oneof(
    { weight: 3, arbitrary: fc.constant(Infinity) },
    fc.constantFrom(0, 1, 5, 12, 40, 150, 700),
  ),
  holdMs: fc.constantFrom(0, 0, 3, 20, 100, 900),
  callers: fc.constantFrom(1, 1, 1, 2, 8),
});

const fault: fc.Arbitrary<Fault> = fc.oneof(
  fc.constant<Fault>({ kind: "request_lost" }),
  fc.constant<Fault>({ kind: "answer_lost" }),
  fc.constantFrom(5, 90, 350, 900).map((byMs): Fault => ({ kind: "request_late", byMs })),
  fc.constantFrom(5, 90, 350, 900).map((byMs): Fault => ({ kind: "answer_late", byMs })),
  fc.boolean().map((applied): Fault => ({ kind: "error", applied })),
  fc.constant<Fault>({ kind: "refused" }),
  fc.constant<Fault>({ kind: "conflict" }),
);

const wait = fc.constantFrom(0, 1, 2, 7, 20, 60, 250, 1_100).map((ms): Step => ({ kind: "wait", ms }));

const calm: fc.Arbitrary<Step> = fc.oneof({ weight: 3, arbitrary: request }, { weight: 2, arbitrary: wait });

const stormy: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: request },
  { weight: 4, arbitrary: wait },
  fc.record({ kind: fc.constant("faults"), process, faults: fc.array(fault, { minLength: 1, maxLength: 4 }) }),
  fc.record({ kind: fc.constant("latency"), process, ms: fc.constantFrom(0, 1, 4, 30) }),
  fc.record({ kind: fc.constant("outage"), process, ms: fc.constantFrom(50, 500, 1_500) }),
  fc.record({ kind: fc.constant("stall"), process, ms: fc.constantFrom(15, 300, 1_200) }),
  fc.record({ kind: fc.constant("look"), process }),
);

function optionsOf({ rate, window, maxConcurrent }: Limits, leaseMs: number): LimiterOptions {
  return {
    ...rate,
    ...(maxConcurrent === undefined ? {} : { maxConcurrent }),
    rates: window === undefined ? [] : [{ ...window, algorithm: "sliding_window" }],
    leaseMs,
    backendTimeoutMs: BACKEND_TIMEOUT_MS,
    onFailure: "closed",
  };
}

/** Lets the steps happen, and returns what went wrong. */
async function happen(
  limits: Limits,
  steps: readonly Step[],
  latencyMs: number,
  lateMs: number,
  leaseMs = LEASE_MS,
): Promise<string[]> {
  const { clock, start, run } = createSimulation();
  const stalledUntil = [-Infinity, -Infinity, -Infinity];
  const processes = [0, 1, 2].map((index) => {
    // The timers of a process that was stopped, or is overloaded, end late.
    const stalling: Clock = {
      now: () => clock.now(),
      async sleep(ms, signal) {
        await clock.sleep(ms, signal);
        const left = (stalledUntil[index] ?? 0) - clock.now();
        if (left > 0) await clock.sleep(left, signal);
      },
    };
    return start(optionsOf(limits, leaseMs), { latencyMs, retryIntervalMs: 10, store: { clock: stalling } });
  });
  const at = (index: number): SimulatedProcess => processes[index]!; // there are three
  const begun = clock.now();
  const starts: Start[] = [];
  const callers: Promise<void>[] = [];
  const wrong: string[] = [];
  let unanswered = 0;

  async function call({ process, cost, timeoutMs, abortAfterMs, holdMs }: Request): Promise<void> {
    const controller = new AbortController();
    const asked = clock.now();
    unanswered++;
    if (abortAfterMs === 0) controller.abort();
    else if (abortAfterMs < Infinity) void clock.sleep(abortAfterMs).then(() => controller.abort());
    const most = Math.min(limits.rate?.burst ?? Infinity, limits.window?.limit ?? Infinity);
    try {
      const permit = await at(process).limiter.acquire({
        cost: Math.min(cost, most),
        timeoutMs,
        signal: controller.signal,
      });
      const started: Start = { at: clock.now() - begun, cost: Math.min(cost, most), until: Infinity };
      starts.push(started);
      if (controller.signal.aborted) wrong.push(`granted at ${started.at} after it was aborted`);
      // Who loses a permit stops at once, and until then counts.
      const stop = () => started.until = Math.min(started.until, clock.now() - begun);
      permit.signal.addEventListener("abort", stop);
      if (holdMs > 0) await clock.sleep(holdMs);
      stop();
      void permit.release();
    } catch (error) {
      const expected = error instanceof RateLimiterAcquisitionError ||
        (controller.signal.aborted && error === controller.signal.reason);
      if (!expected) wrong.push(`an error of another kind: ${error}`);
    } finally {
      unanswered--;
    }
    const took = clock.now() - asked - holdMs;
    const stalled = Math.max(0, (stalledUntil[process] ?? 0) - asked);
    const patience = stalled + Math.min(abortAfterMs, timeoutMs === 0 ? 6 * BACKEND_TIMEOUT_MS : timeoutMs + GRACE_MS);
    if (took > patience) {
      wrong.push(`asked at ${asked - begun} with timeout ${timeoutMs}, abort ${abortAfterMs}, took ${took}`);
    }
  }

  for (const step of steps) {
    if (step.kind === "wait") await clock.advance(step.ms);
    else if (step.kind === "request") callers.push(...Array.from({ length: step.callers }, () => call(step)));
    else if (step.kind === "stall") {
      stalledUntil[step.process] = Math.max(stalledUntil[step.process] ?? 0, clock.now() + step.ms);
    } else if (step.kind === "look") {
      callers.push(
        at(step.process).limiter.getState().then(({ resetAt }) => {
          if (resetAt < clock.now() - 1) wrong.push(`resets in the past, at ${resetAt - begun}`);
        }, (error) => {
          if (!(error instanceof RateLimiterAcquisitionError)) wrong.push(`an error of another kind: ${error}`);
        }),
      );
    } else {
      const { link } = at(step.process);
      if (step.kind === "latency") link.latencyMs = step.ms;
      else if (step.kind === "faults") {
        const left = [...step.faults];
        link.setFaults(({ operation }) => operation === "announce" ? undefined : left.shift());
      } else {
        link.isDown = true;
        void clock.sleep(step.ms).then(() => link.isDown = false);
      }
    }
  }
  for (const { link } of processes) link.setFaults({});
  await run(Promise.all(callers).then(() => undefined), 3_600_000).catch((error) => wrong.push(`${error}`));
  if (unanswered > 0) wrong.push(`${unanswered} callers were never answered`);
  // What is given back, renewed or tried again comes to its end.
  await clock.advance(2 * LEASE_MS);
  if (clock.sleepers > 0) wrong.push(`${clock.sleepers} timers are left behind`);
  const state = await run(at(0).limiter.getState());
  const free = Math.min(
    limits.rate?.burst ?? Infinity,
    limits.window?.limit ?? Infinity,
    limits.maxConcurrent ?? Infinity,
  );
  if (state.remaining !== free) wrong.push(`${state.remaining} of ${free} is left at the end`);
  if (limits.rate) wrong.push(rateExcess(starts, limits.rate, lateMs) ?? "");
  if (limits.window) wrong.push(windowExcess(starts, limits.window) ?? "");
  if (limits.maxConcurrent) wrong.push(concurrencyExcess(starts, limits.maxConcurrent) ?? "");
  for (const { limiter } of processes) {
    const { currentConcurrent } = limiter.getMetrics();
    if (currentConcurrent !== 0) wrong.push(`${currentConcurrent} permits are still counted`);
  }
  return wrong.filter((problem) => problem !== "");
}

test("limiters keep every promise in any order of calls and cancellations", async () => {
  await fc.assert(
    fc.asyncProperty(limits, fc.array(calm, { maxLength: 60, size: "max" }), async (limits, steps) => {
      assertEquals(await happen(limits, steps, 0, 0), []);
    }),
    { numRuns: 300 },
  );
});

test("limiters keep every promise when every message takes its time", async () => {
  await fc.assert(
    fc.asyncProperty(
      limits,
      fc.array(calm, { maxLength: 60, size: "max" }),
      fc.constantFrom(1, 4, 9),
      async (limits, steps, latency) => {
        // A start is late by the answer to its message, or by those that were lost to others before.
        assertEquals(await happen(limits, steps, latency, lateness(limits)), []);
      },
    ),
    { numRuns: 300 },
  );
});

test("limiters keep every promise while messages are lost, late, doubled and refused", async () => {
  await fc.assert(
    fc.asyncProperty(limits, fc.array(stormy, { maxLength: 60, size: "max" }), async (limits, steps) => {
      assertEquals(await happen(limits, steps, 2, lateness(limits)), []);
    }),
    { numRuns: 300 },
  );
});

test("never more run than may, while leases run out in outages and permits are lost [CON-6, CON-7]", async () => {
  let lost = 0;
  const leaseMs = 600;
  const holding = fc.oneof(
    {
      weight: 6,
      arbitrary: request.map((asked): Step => ({ ...asked, holdMs: asked.holdMs * 3 })),
    },
    { weight: 4, arbitrary: wait },
    fc.record({ kind: fc.constant("outage"), process, ms: fc.constantFrom(50, 700, 2_500) }),
    fc.record({ kind: fc.constant("faults"), process, faults: fc.array(fault, { minLength: 1, maxLength: 4 }) }),
  );
  const concurrency = fc.constantFrom(1, 2, 5).map((maxConcurrent): Limits => ({ maxConcurrent }));
  await fc.assert(
    fc.asyncProperty(concurrency, fc.array(holding, { maxLength: 60, size: "max" }), async (limits, steps) => {
      assertEquals(await happen(limits, steps, 2, 0, leaseMs), []);
      if (steps.some((step) => step.kind === "outage" && step.ms > leaseMs)) lost++;
    }),
    { numRuns: 300 },
  );
  assertGreater(lost, 0);
});

/** By how much a start may be later than the moment it was granted for. */
function lateness({ rate }: Limits): number {
  return rate ? Math.max(10, 900 * rate.burst / rate.ratePerSecond) : 0;
}
