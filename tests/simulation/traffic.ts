import type { Call } from "./calls.ts";
import type { Process, Traffic } from "./process.ts";
import type { History } from "./run.ts";

/**
 * Whether anybody sends more than it has to: over the whole run, what all processes send is in proportion to what they
 * do ({@link workOf}). In 2,000 clusters of all kinds, half sent more than 0.4 writes, 0 questions and 0.1 reads for each
 * unit of it, one in a hundred more than 1.0, 0.4 and 1.1, and none more than 1.7, 0.9 and 3.1. Processes that asked
 * each other all the time sent 3 questions and more.
 */
export function storms({ calls, processes, overAt }: History): string[] {
  const work = processes.reduce((sum, process) => {
    return sum + workOf(process, calls.filter((call) => call.process === process), overAt);
  }, 0);
  return (["writes", "questions", "reads"] as const).flatMap((kind) => {
    const sent = processes.reduce((sum, { traffic }) => sum + traffic[kind], 0);
    const most = LEAST_ALLOWED + MOST_FOR_WORK[kind] * work;
    return sent <= most ? [] : [`a storm: ${sent} ${kind} for work that takes ${most} at most`];
  });
}

/** Two to three times the worst that was seen. */
const MOST_FOR_WORK: Traffic = { writes: 5, questions: 2, reads: 9 };
/** So few messages are no storm, whatever they are for: opening, closing, looking. */
const LEAST_ALLOWED = 50;
/** A call is decided, and what it holds is given back. */
const WORK_OF_A_CALL = 2;
/** How often a lease is renewed before it is over. */
const WORK_OF_A_LEASE = 3;
/** Whoever waits or holds looks once in a second, and learns what others have written. */
const WORK_OF_A_SECOND = 2;

/** The work of a process, in units that each take about one message of a kind. */
function workOf({ scenario }: Process, calls: readonly Call[], overAt: number): number {
  const decisions = calls.reduce((sum, { failures }) => sum + 1 + failures, 0);
  const keys = Map.groupBy(calls, ({ plan: { limiter, key } }) => `${limiter} ${key}`);
  return [...keys.values()].reduce((sum, [first, ...rest]) => {
    if (!first) return sum;
    const { leaseMs, maxConcurrent } = scenario.limiters[first.plan.limiter]!; // calls name limiters of their scenario
    const ms = usedMs([first, ...rest], overAt);
    const leases = maxConcurrent === undefined ? 0 : ms / leaseMs;
    return sum + WORK_OF_A_LEASE * leases + WORK_OF_A_SECOND * ms / 1_000;
  }, WORK_OF_A_CALL * decisions);
}

/** For how long somebody waited for the key or held something. */
function usedMs(calls: readonly Call[], overAt: number): number {
  let total = 0;
  let until = -Infinity;
  for (const call of calls.toSorted((a, b) => a.askedAt - b.askedAt)) {
    const to = Math.min(overAt, lastOf(call));
    total += Math.max(0, to - Math.max(until, call.askedAt));
    until = Math.max(until, to);
  }
  return total;
}

/** The moment from which on the call is nobody's business; one that died waiting counts as if it had not waited. */
function lastOf({ askedAt, answeredAt, startedAt, endedAt, ending }: Call): number {
  if (startedAt !== undefined) return endedAt;
  return ending === "died" ? askedAt : answeredAt;
}
