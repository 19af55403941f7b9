import { setTimeout as sleep } from "node:timers/promises";
import { type Limiter, RateLimiterAcquisitionError } from "../../mod.ts";
import { now } from "./clock.ts";
import type { Admission, Report } from "./records.ts";

/** How the callers of a process call. */
export interface CallersOptions {
  readonly limiter: Limiter;
  readonly callers: number;
  /** How long a caller that has a timeout waits for a slot, in milliseconds. */
  readonly timeoutMs: number;
  /** When to begin, in milliseconds since the Unix epoch. */
  readonly startAt: number;
  readonly durationMs: number;
  /** Ends the calls early. */
  readonly signal: AbortSignal;
  /** Is told what happened every {@link REPORT_EVERY_MS}, and at the end. */
  readonly onReport: (report: Report) => void;
}

const REPORT_EVERY_MS = 100;
/** How long a caller that was refused does something else before it asks again. */
const PAUSE_MS = 100;

/** Lets callers ask again and again for `durationMs`. */
export async function runCallers(options: CallersOptions): Promise<void> {
  const { limiter, callers, timeoutMs, startAt, durationMs, signal, onReport } = options;
  const over = new AbortController();
  const stop = () => over.abort();
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();

  let admissions: Admission[] = [];
  const counts = { waiting: 0, refusedAtOnce: 0, refusedInTime: 0, failed: 0 };
  const report = () => {
    onReport({ admissions, counts: { ...counts, casFailures: limiter.getMetrics().casFailures } });
    admissions = [];
  };

  /** Asks once. Resolves to whether it got a slot. */
  async function ask(patience: Patience): Promise<boolean> {
    counts.waiting++;
    try {
      if (patience === "none") {
        const result = await limiter.tryAcquire({ signal: over.signal });
        if (result.allowed) admissions.push({ at: now(), waitedMs: result.waitedMs });
        else counts.refusedAtOnce++;
        return result.allowed;
      }
      const permit = await limiter.acquire({
        signal: over.signal,
        timeoutMs: patience === "some" ? timeoutMs : undefined,
      });
      admissions.push({ at: now(), waitedMs: permit.waitedMs });
      return true;
    } catch (error) {
      if (over.signal.aborted) return false;
      if (!(error instanceof RateLimiterAcquisitionError)) throw error;
      if (error.reason === "timeout") counts.refusedInTime++;
      else counts.failed++;
      return false;
    } finally {
      counts.waiting--;
    }
  }

  async function call(patience: Patience): Promise<void> {
    while (!over.signal.aborted) {
      const admitted = await ask(patience);
      if (!admitted) await pause(PAUSE_MS, over.signal);
    }
  }

  await pause(startAt - now(), over.signal);
  const end = setTimeout(stop, startAt + durationMs - now());
  const reporting = setInterval(report, REPORT_EVERY_MS);
  try {
    const calls: Promise<void>[] = [];
    for (let index = 0; index < callers; index++) {
      calls.push(call(patienceOf(index)));
      // A caller that is served goes on before the next one comes: in a process that has just started, a call may take
      // long.
      await undefined;
    }
    await Promise.all(calls);
  } finally {
    clearTimeout(end);
    clearInterval(reporting);
    signal.removeEventListener("abort", stop);
    report();
  }
}

type Patience = "endless" | "some" | "none";

/** Of ten callers, one has a timeout, and one does not wait. */
function patienceOf(index: number): Patience {
  if (index % 10 === 4) return "some";
  return index % 10 === 9 ? "none" : "endless";
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted || ms <= 0) return;
  await sleep(ms, undefined, { signal }).catch(() => {}); // it rejects when the signal ends it, as intended
}
