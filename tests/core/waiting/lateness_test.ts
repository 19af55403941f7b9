import { assert, assertEquals, assertGreaterOrEqual, assertLessOrEqual } from "@std/assert";
import { test } from "node:test";
import type { LimiterOptions } from "../../../src/config/options.ts";
import { Lateness } from "../../../src/core/waiting/lateness.ts";
import { keepCalling } from "../../support/keep_calling.ts";
import { rateExcess, type Start, windowExcess } from "../../support/oracles.ts";
import { createRandom } from "../../support/random.ts";
import { createSimulation, type ProcessOptions } from "../../support/simulated_process.ts";

const SECONDS = 60;
const LATE_MS = [3, 8, 20] as const;

test("Lateness knows how late the latest of the last timers was", () => {
  const lateness = new Lateness();
  assertEquals(lateness.mostMs, 0);
  for (const ms of [900, 3, 5, ...Array<number>(13).fill(4)]) lateness.took(ms);
  assertEquals(lateness.mostMs, 900);
  lateness.took(4);
  assertEquals(lateness.mostMs, 5);
});

/** What starts in two processes with 20 callers each, in a minute, where timers are late. */
async function startsOf(
  options: LimiterOptions,
  lateBy: () => number,
  settings: ProcessOptions = {},
): Promise<Start[]> {
  const simulation = createSimulation();
  const { clock, start } = simulation;
  const late = {
    ...clock,
    now: () => clock.now(),
    // What is over already takes no timer.
    sleep: (ms: number, signal?: AbortSignal) => clock.sleep(ms > 0 ? ms + lateBy() : 0, signal),
  };
  const starts: Start[] = [];
  const callers = Array.from({ length: 2 }, () => start(options, { latencyMs: 1, ...settings, store: { clock: late } }))
    .flatMap(({ limiter }) =>
      Array.from({ length: 20 }, () => async (signal: AbortSignal) => {
        await limiter.acquire({ signal });
        starts.push({ at: clock.now(), cost: 1, until: Infinity });
      })
    );
  await keepCalling(simulation, SECONDS * 1_000, callers);
  return starts;
}

for (const lateMs of LATE_MS) {
  for (const [limit, windowMs] of [[10, 500], [50, 1_000]] as const) {
    const options = { algorithm: "sliding_window", limit, windowMs, failClosed: true } as const;
    const most = limit * (SECONDS * 1_000 / windowMs + 1);

    test(`${limit} in ${windowMs} ms are used by who is always woken ${lateMs} ms late [SW-1, SW-2]`, async () => {
      const starts = await startsOf(options, () => lateMs);
      assertEquals(windowExcess(starts, options), undefined);
      assertGreaterOrEqual(starts.length, 0.95 * most);
      assertLessOrEqual(starts.length, most);
    });

    test(`${limit} in ${windowMs} ms are used by who is woken up to ${2 * lateMs} ms late [SW-1, SW-2]`, async () => {
      const random = createRandom(7);
      const starts = await startsOf(options, () => random.between(0, 2 * lateMs));
      assertEquals(windowExcess(starts, options), undefined);
      assertGreaterOrEqual(starts.length, 0.85 * most);
    });
  }
}

test("a timing margin of 0 keeps nobody out whose timers are as late as those of a busy runtime are", async () => {
  const window = { limit: 10, windowMs: 500 };
  const rates = [{ ...window, algorithm: "sliding_window" }] as const;
  const random = createRandom(7);
  const late = () => random.between(0.2, 2);
  const starts = await startsOf({ ratePerSecond: 100, burst: 5, rates, failClosed: true }, late, { timingMarginMs: 0 });
  assertEquals(windowExcess(starts, window), undefined);
  assertGreaterOrEqual(starts.length, 0.8 * window.limit * SECONDS * 2);
});

test("a rate is used by who is always woken later than its slots are long [TB-5]", async () => {
  const limit = { ratePerSecond: 100, burst: 1 };
  const starts = await startsOf({ ...limit, failClosed: true }, () => 12);
  assertEquals(rateExcess(starts, limit, 8), undefined);
  assertGreaterOrEqual(starts.length, 0.8 * SECONDS * limit.ratePerSecond);
});

test("a process that stood still goes on as before", async () => {
  const options = { algorithm: "sliding_window", limit: 10, windowMs: 500, failClosed: true } as const;
  let timers = 0;
  const starts = await startsOf(options, () => ++timers % 200 === 0 ? 700 : 0.5);
  assertEquals(windowExcess(starts, options), undefined);
  assert(timers >= 200, "it never stood still");
  assertGreaterOrEqual(starts.length, 0.8 * 10 * SECONDS * 2);
});
