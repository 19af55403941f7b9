// A separate process for tests: callers that share one limit with those of other processes. It says when it is ready,
// is told when to start, and prints one line of JSON.
import process from "node:process";
import { createInterface } from "node:readline";
import { type ClockReading, createRateSync, RateLimiterAcquisitionError } from "../../mod.ts";
import { breakHostClock, type HostFault } from "./host_clock.ts";
import { machineNow } from "./machine_clock.ts";

/** What a {@link CallerProcess} is to do. */
export interface CallerOrder {
  readonly url: string;
  readonly ratePerSecond: number;
  readonly burst: number;
  readonly callers: number;
  /** How long each acquisition may take; without it, there is no limit. */
  readonly timeoutMs?: number;
  /** What is wrong with this host's clock. */
  readonly hostFault?: HostFault;
}

/** When to start and to end, as {@link machineNow} says. */
export interface CallerSpan {
  readonly from: number;
  readonly until: number;
}

/** What a {@link CallerProcess} saw. */
export interface CallerReport {
  /** When each acquisition was granted, as {@link machineNow} says. */
  readonly starts: readonly number[];
  /** How many each caller got. */
  readonly grants: readonly number[];
  readonly errors: readonly string[];
  readonly casFailures: number;
  /** The clock that the limiter used at the end. */
  readonly clock: ClockReading;
  /** How long the machine did not let the process run, in milliseconds. */
  readonly stalledMs: number;
}

/**
 * A start more than this long after the limiter let it go was held up by the machine: it counts for the moment when the
 * limiter did.
 */
const HELD_UP_MS = 5;
const LOOK_EVERY_MS = 5;
/** The time between two looks is never exactly what was asked for. */
const STALL_MS = 2 * LOOK_EVERY_MS;

/** Adds up how long this process could do nothing. Returns a function that ends that and returns the sum. */
function watchStalls(from: number): () => number {
  let stalledMs = 0;
  let last = from;
  const look = () => {
    const gap = machineNow() - last;
    if (gap > STALL_MS) stalledMs += gap - LOOK_EVERY_MS;
    last += gap;
  };
  look();
  const timer = setInterval(look, LOOK_EVERY_MS);
  return () => {
    clearInterval(timer);
    return stalledMs;
  };
}

async function told(): Promise<CallerSpan> {
  const lines = createInterface({ input: process.stdin });
  for await (const line of lines) return JSON.parse(line);
  throw new Error("nobody says when to start");
}

async function call(order: CallerOrder): Promise<CallerReport> {
  await using rateSync = createRateSync({ clock: order.hostFault && breakHostClock(order.hostFault) });
  rateSync.configureStore("nats", { engine: "nats", url: order.url, autoCreate: true, backendTimeoutMs: 30_000 });
  const { ratePerSecond, burst } = order;
  rateSync.configureLimiter("shared", { store: "nats", ratePerSecond, burst, onFailure: "closed" });
  await rateSync.initializeLimiter("shared");
  const limiter = rateSync.getLimiter("shared");
  const starts: number[] = [];
  const errors: string[] = [];
  const grants = new Array<number>(order.callers).fill(0);
  process.stdout.write("ready\n");
  const { from, until } = await told();
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, from - machineNow())));
  const over = AbortSignal.timeout(Math.max(0, until - machineNow()));
  const stalls = watchStalls(from);
  await Promise.all(grants.map(async (_, caller) => {
    while (machineNow() < until) {
      const asked = machineNow();
      let servedAt: number;
      try {
        const { waitedMs } = await limiter.acquire({ signal: over, timeoutMs: order.timeoutMs });
        servedAt = asked + waitedMs;
      } catch (error) {
        if (over.aborted && !(error instanceof RateLimiterAcquisitionError)) return;
        errors.push(String(error));
        return;
      }
      const at = machineNow();
      const start = at - servedAt > HELD_UP_MS ? servedAt : at;
      if (start >= until) return;
      starts.push(start);
      grants[caller]!++;
    }
  }));
  const stalledMs = stalls();
  return {
    starts,
    grants,
    errors,
    casFailures: limiter.getMetrics().casFailures,
    clock: limiter.getClock(),
    stalledMs,
  };
}

const [order] = process.argv.slice(2);
if (order !== undefined) {
  const report = await call(JSON.parse(order));
  process.stdout.write(JSON.stringify(report) + "\n");
}
