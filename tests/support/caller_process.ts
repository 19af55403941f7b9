// A process of its own for tests: callers that share one limit with those of other processes. Prints one line of JSON.
import process from "node:process";
import { type ClockReading, createRateSync, RateLimiterAcquisitionError } from "../../mod.ts";
import { breakHostClock, type HostFault } from "./host_clock.ts";

/** What a {@link CallerProcess} is to do. */
export interface CallerOrder {
  readonly url: string;
  readonly ratePerSecond: number;
  readonly burst: number;
  readonly callers: number;
  /** When to start and to end, in milliseconds since the Unix epoch on this host. */
  readonly from: number;
  readonly until: number;
  /** How long each acquisition may take; without it, as long as it takes. */
  readonly timeoutMs?: number;
  /** What is wrong with this host's clock. */
  readonly hostFault?: HostFault;
}

/** What it saw. */
export interface CallerReport {
  /** When each acquisition was granted, in milliseconds since the Unix epoch on this host. */
  readonly starts: readonly number[];
  /** How many each caller got. */
  readonly grants: readonly number[];
  readonly errors: readonly string[];
  readonly casFailures: number;
  /** The clock that the limiter went by in the end. */
  readonly clock: ClockReading;
}

// The true time, whatever is done to the clocks of this process.
const elapsed = performance.now.bind(performance);
const now = () => performance.timeOrigin + elapsed();

async function call(order: CallerOrder): Promise<CallerReport> {
  await using rateSync = createRateSync({ clock: order.hostFault && breakHostClock(order.hostFault) });
  rateSync.configureStore("nats", { engine: "nats", url: order.url, autoCreate: true });
  const { ratePerSecond, burst } = order;
  rateSync.configureLimiter("shared", { store: "nats", ratePerSecond, burst, onFailure: "closed" });
  await rateSync.initializeLimiter("shared");
  const limiter = rateSync.getLimiter("shared");
  const starts: number[] = [];
  const errors: string[] = [];
  const grants = new Array<number>(order.callers).fill(0);
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, order.from - now())));
  const over = AbortSignal.timeout(Math.max(0, order.until - now()));
  await Promise.all(grants.map(async (_, caller) => {
    while (now() < order.until) {
      try {
        await limiter.acquire({ signal: over, timeoutMs: order.timeoutMs });
      } catch (error) {
        if (over.aborted && !(error instanceof RateLimiterAcquisitionError)) return;
        errors.push(String(error));
        return;
      }
      const start = now();
      if (start >= order.until) return;
      starts.push(start);
      grants[caller]!++;
    }
  }));
  return { starts, grants, errors, casFailures: limiter.getMetrics().casFailures, clock: limiter.getClock() };
}

const [order] = process.argv.slice(2);
if (order !== undefined) {
  const report = await call(JSON.parse(order));
  process.stdout.write(JSON.stringify(report) + "\n");
}
