import process from "node:process";
import type { Contestant } from "./contestants.ts";
import type { Job, Order, Outcome } from "./job.ts";
import { createLatencies, type Latencies } from "./latencies.ts";

/** How often contestants of one process take turns in one run. */
const TURNS = 10;
/** How many calls that are not timed come between two looks at the clock. */
const CALLS_PER_LOOK = 500;

interface Tally {
  calls: number;
  errors: number;
  elapsedMs: number;
  heapBytes: number;
  readonly latencies: Latencies;
}

/** One run of all contestants of a process. */
export async function runCalls(contestants: readonly Contestant[], job: Job, order: Order): Promise<Outcome[]> {
  const tallies = contestants.map((): Tally => ({
    calls: 0,
    errors: 0,
    elapsedMs: 0,
    heapBytes: 0,
    latencies: createLatencies(),
  }));
  if (order.kind === "time") {
    const turns = contestants.length > 1 ? TURNS : 1;
    const keys = keysOf(job);
    const load = job.timed ? callFor : countFor;
    for (let turn = 0; turn < turns; turn++) {
      for (const [i, contestant] of contestants.entries()) {
        const until = performance.now() + order.seconds * 1_000 / turns;
        await measured(tallies[i]!, () => load(contestant, job.callers, keys, until, tallies[i]!));
      }
    }
  } else {
    for (const [i, contestant] of contestants.entries()) {
      await contestant.reset?.();
      const before = order.kind === "heap" ? heapUsed() : 0;
      await measured(tallies[i]!, () => callEveryKey(contestant, job, order.run, tallies[i]!));
      if (order.kind === "heap") tallies[i]!.heapBytes = (heapUsed() - before) / job.keys;
    }
  }
  return tallies.map(({ calls, errors, elapsedMs, heapBytes, latencies }) => ({
    perSecond: calls / elapsedMs * 1_000,
    p50: latencies.quantile(0.5),
    p99: latencies.quantile(0.99),
    heapBytes,
    errors,
  }));
}

/** The keys that a job uses again and again. */
export function keysOf({ keys }: Job): readonly (string | undefined)[] {
  return keys === 1 ? [undefined] : Array.from({ length: keys }, (_, i) => `user-${i}`);
}

async function measured(tally: Tally, body: () => Promise<void>): Promise<void> {
  const from = performance.now();
  await body();
  tally.elapsedMs += performance.now() - from;
}

function heapUsed(): number {
  const collect = "Bun" in globalThis ? () => Bun.gc(true) : Reflect.get(globalThis, "gc");
  for (let i = 0; i < 3; i++) collect();
  return process.memoryUsage().heapUsed;
}

/** Has callers call again as soon as they are answered, until the time is over. */
async function callFor(
  { call }: Contestant,
  callers: number,
  keys: readonly (string | undefined)[],
  until: number,
  tally: Tally,
): Promise<void> {
  await Promise.all(Array.from({ length: callers }, async (_, caller) => {
    let now = performance.now();
    for (let turn = caller; now < until; turn += callers) {
      now = await callOnce(() => call(keys[turn % keys.length]), now, tally);
    }
  }));
}

/** Calls with every key once, by callers that take the next key as soon as they are answered. */
async function callEveryKey({ call }: Contestant, job: Job, run: number, tally: Tally): Promise<void> {
  let next = 0;
  await Promise.all(Array.from({ length: job.callers }, async () => {
    let now = performance.now();
    while (next < job.keys) {
      const key = `user-${run}-${next++}`;
      now = await callOnce(() => call(key), now, tally);
    }
  }));
}

/** Returns when the call was answered. */
async function callOnce(call: () => unknown, from: number, tally: Tally): Promise<number> {
  try {
    await call();
    tally.calls++;
  } catch {
    tally.errors++;
  }
  const answered = performance.now();
  tally.latencies.add(answered - from);
  return answered;
}

/** Makes one call after another without looking at the clock in between: a call may take less time than that. */
async function countFor(
  contestant: Contestant,
  _callers: number,
  keys: readonly (string | undefined)[],
  until: number,
  tally: Tally,
): Promise<void> {
  const { length } = keys;
  let turn = 0;
  do {
    if (contestant.kind === "sync") {
      const { call } = contestant;
      for (let i = 0; i < CALLS_PER_LOOK; i++) call(keys[turn++ % length]);
    } else if (contestant.isBatched) {
      const { call } = contestant;
      await Promise.all(Array.from({ length: CALLS_PER_LOOK }, () => call(keys[turn++ % length])));
    } else {
      const { call } = contestant;
      for (let i = 0; i < CALLS_PER_LOOK; i++) await call(keys[turn++ % length]);
    }
    tally.calls += CALLS_PER_LOOK;
  } while (performance.now() < until);
}
