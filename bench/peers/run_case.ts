import { type Fleet, startFleet } from "./fleet.ts";
import type { Case, Goal, Measure } from "./groups.ts";
import type { Order, Outcome } from "./job.ts";
import { type Spread, spreadOf } from "./spread.ts";

/** One line of the table. */
export interface Row {
  readonly title: string;
  readonly measure: Measure;
  readonly ours: string;
  readonly theirs: string | undefined;
  readonly ourValue: Spread;
  readonly theirValue: Spread | undefined;
  /** The ratio of ours to theirs in each run. */
  readonly ratio: Spread | undefined;
  readonly goal: Goal | undefined;
  /** Whether the median meets the goal; undefined without a goal. */
  readonly isMet: boolean | undefined;
}

/** How long runs are, and how many there are. */
export interface Runs {
  readonly runs: number;
  readonly seconds: number;
  /** At most how many seconds come before the first run: it begins once everybody is as fast as they become. */
  readonly warmUp: number;
}

/** Garbage has to be gone before the heap is measured. In Bun that needs no option. */
const CAN_COLLECT = ["--v8-flags=--expose-gc"];
/**
 * What is left over from a run, such as garbage and data that waits to be written to a disk, must not burden the next
 * one.
 */
const PAUSE_MS = 30;

/**
 * Runtimes compile hot code while it runs, and eight processes on two cores take long for that: speed is compared over
 * this much time.
 */
const LOOK_S = 1;
/** A fleet that was not this much faster than before, this often in a row, does not become any faster. */
const FASTER = 1.05;
const LOOKS_AT_REST = 3;

/** Starts all processes of a case, lets its contestants run in turn, and compares them. */
export async function runCase(planned: Case, { runs, seconds, warmUp }: Runs): Promise<Row[]> {
  const fleets = [];
  try {
    for (const { processes, job } of planned.fleets) {
      fleets.push(await startFleet(planned.runtime, processes, job, planned.order === "heap" ? CAN_COLLECT : []));
    }
    const orderOf = (run: number): Order =>
      planned.order === "time" ? { kind: "time", seconds } : { kind: planned.order, run };
    const all: Record<Measure, number>[][] = [];
    // Only what was called is compiled, and a run with other keys calls the same.
    const warming = planned.order === "heap" ? [] : fleets;
    for (const fleet of warming) await warmUpFully(fleet, orderOf, runs, warmUp);
    for (let run = 0; run < runs; run++) {
      const outcomes: Outcome[][][] = fleets.map(() => []);
      // the first one changes, so that nobody always runs on what the other left behind
      const order = run % 2 === 0 ? [...fleets.keys()] : [...fleets.keys()].reverse();
      for (const i of order) {
        outcomes[i] = await fleets[i]!.run(orderOf(run));
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
      all.push(outcomes.flat().map((processes, i) => together(`${planned.labels[i]} (${planned.title})`, processes)));
    }
    return rowsOf(planned, all);
  } finally {
    await Promise.all(fleets.map((fleet) => fleet.close()));
  }
}

/** Runs, starting with the run `first`, until that makes nobody faster, but for at most `most` seconds. */
async function warmUpFully(fleet: Fleet, orderOf: (run: number) => Order, first: number, most: number): Promise<void> {
  const until = performance.now() + 1_000 * most;
  let best = 0;
  for (let run = first, atRest = 0; performance.now() < until && atRest < LOOKS_AT_REST; run++) {
    const order = orderOf(run);
    const outcomes = await fleet.run(order.kind === "time" ? { ...order, seconds: LOOK_S } : order);
    const perSecond = outcomes.flat().reduce((sum, of) => sum + of.perSecond, 0);
    atRest = perSecond > FASTER * best ? 0 : atRest + 1;
    best = Math.max(best, perSecond);
  }
}

/** What all processes did in one run. */
function together(name: string, processes: readonly Outcome[]): Record<Measure, number> {
  const errors = processes.reduce((sum, outcome) => sum + outcome.errors, 0);
  if (errors > 0) throw new Error(`${errors} calls failed: ${name}. Numbers of calls that fail mean nothing.`);
  const perSecond = processes.map((outcome) => outcome.perSecond);
  return {
    perSecond: perSecond.reduce((sum, of) => sum + of, 0),
    p50: Math.max(...processes.map(({ p50 }) => p50)),
    p99: Math.max(...processes.map(({ p99 }) => p99)),
    heapBytes: Math.max(...processes.map(({ heapBytes }) => heapBytes)),
    unevenness: Math.max(...perSecond) / Math.min(...perSecond),
  };
}

function rowsOf({ title, labels, comparisons }: Case, all: readonly Record<Measure, number>[][]): Row[] {
  return comparisons.map(({ measure, ours, theirs, goal }) => {
    const valuesOf = (i: number) => all.map((run) => run[i]![measure]);
    const ourValues = valuesOf(ours);
    const theirValues = theirs === undefined ? undefined : valuesOf(theirs);
    const ratio = theirValues && spreadOf(ourValues.map((value, i) => value / theirValues[i]!));
    const ourValue = spreadOf(ourValues);
    return {
      title,
      measure,
      ours: labels[ours] ?? "",
      theirs: theirs === undefined ? undefined : labels[theirs],
      ourValue,
      theirValue: theirValues && spreadOf(theirValues),
      ratio,
      goal,
      isMet: goal && isMet(goal, (ratio ?? ourValue).median),
    };
  });
}

function isMet({ atLeast = -Infinity, atMost = Infinity }: Goal, value: number): boolean {
  return value >= atLeast && value <= atMost;
}
