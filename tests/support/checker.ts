import { concurrencyExcess, type Loss, rateExcess, type Start, windowExcess } from "./oracles.ts";

/** A rate, and how many milliseconds later than its slot a start may be, as the README says. */
export interface PromisedRate {
  readonly ratePerSecond: number;
  readonly burst: number;
  readonly slackMs?: number;
}

/** What a limiter promises. */
export interface Promised {
  readonly rates?: readonly PromisedRate[];
  readonly windows?: readonly { readonly limit: number; readonly windowMs: number }[];
  readonly maxConcurrent?: number;
  readonly leaseMs?: number;
  readonly reserveAheadMs?: number;
}

/** How a call was answered. */
export interface Answer {
  readonly at: number;
  /** When the limiter let it start, if the machine kept it from starting then: it counts for that moment. */
  readonly servedAt?: number;
  /** `granted`; `aborted` by its caller; any other word names a kind of error. */
  readonly kind: string;
}

/** One request of a recorded run. All moments are milliseconds of one clock that is true for all processes. */
export interface Call {
  readonly process: string;
  readonly limiter: string;
  /** Who called: a caller asks again when it has been answered. */
  readonly caller: number;
  readonly cost: number;
  readonly askedAt: number;
  /** `undefined` if it was not answered. */
  readonly answer: Answer | undefined;
  /** When what was granted stopped running: it was about to be released, or its holder heard that it was lost. */
  readonly endedAt: number | undefined;
  /** Whether its permit was lost. */
  readonly lost: boolean;
}

/** A time in which a process stood still. */
export interface Pause {
  readonly process: string;
  readonly from: number;
  readonly until: number;
}

/** Everything that an observer of all processes saw. */
export interface Run {
  readonly limiters: Readonly<Record<string, Promised>>;
  readonly calls: readonly Call[];
  /** When processes that did not end by themselves were certainly gone. */
  readonly crashes: ReadonlyMap<string, number>;
  readonly pauses: readonly Pause[];
  /** When the store lost everything. */
  readonly losses: readonly Loss[];
}

/** How busy a limit was at its busiest. */
export interface Peak {
  readonly what: string;
  readonly most: number;
  readonly allowed: number;
}

/** What the checker found. */
export interface Verdict {
  /** The problems in words; empty if every promise was kept. */
  readonly problems: readonly string[];
  readonly acquires: number;
  readonly peaks: readonly Peak[];
  /** The longest time without a start. */
  readonly longestGapMs: number;
  /** How often each kind of answer but a grant was given. */
  readonly otherAnswers: Readonly<Record<string, number>>;
}

/** The answers that a caller has to expect when things go wrong. */
const EXPECTED = new Set(["granted", "refused", "unavailable", "aborted"]);
const SECOND_MS = 1_000;

/**
 * Judges a run: no limit was exceeded at any time, everybody was answered, and nobody got an answer of a kind that such
 * calls do not have. `lateMs` is how late starts may be, and how wrong clocks, beyond what is promised.
 */
export function check(run: Run, lateMs: number): Verdict {
  const problems: string[] = [];
  const peaks: Peak[] = [];
  for (const [limiter, promised] of Object.entries(run.limiters)) {
    const runs = runsOf(run, limiter);
    const starts = startsOf(run, limiter);
    const allowance = { lateMs, losses: run.losses, reserveAheadMs: promised.reserveAheadMs ?? 0 };
    const add = (excess: string | undefined) => excess && problems.push(`${limiter}: ${excess}`);
    for (const rate of promised.rates ?? []) {
      add(rateExcess(starts, rate, { ...allowance, lateMs: lateMs + (rate.slackMs ?? 0) }));
      const allowed = rate.burst + rate.ratePerSecond;
      peaks.push({ what: `${limiter} in 1 s`, most: mostInAny(starts, SECOND_MS), allowed });
    }
    for (const window of promised.windows ?? []) {
      add(windowExcess(starts, window, allowance));
      const what = `${limiter} in ${window.windowMs / SECOND_MS} s`;
      peaks.push({ what, most: mostInAny(starts, window.windowMs - lateMs), allowed: window.limit });
    }
    if (promised.maxConcurrent !== undefined) {
      add(concurrencyExcess(runs, promised.maxConcurrent, allowance));
      peaks.push({ what: `${limiter} at once`, most: mostAtOnce(runs), allowed: promised.maxConcurrent });
    }
  }
  const otherAnswers: Record<string, number> = {};
  for (const { process, limiter, caller, askedAt, answer } of run.calls) {
    const who = `caller ${caller} of '${limiter}' in process ${process}, who asked at ${askedAt},`;
    if (answer === undefined) {
      if (!run.crashes.has(process)) problems.push(`${who} was never answered`);
    } else if (answer.kind !== "granted") {
      otherAnswers[answer.kind] = (otherAnswers[answer.kind] ?? 0) + 1;
      if (!EXPECTED.has(answer.kind)) problems.push(`${who} was answered with ${answer.kind}`);
    }
  }
  const granted = run.calls.filter(({ answer }) => answer?.kind === "granted");
  for (const who of unserved(run, -Infinity)) problems.push(`${who} never got anything`);
  return { problems, acquires: granted.length, peaks, longestGapMs: longestGap(granted), otherAnswers };
}

/** The callers in processes that did not crash that got nothing of what they have asked for since `since`. */
export function unserved(run: Run, since: number): string[] {
  const name = ({ process, limiter, caller }: Call) => `caller ${caller} of '${limiter}' in process ${process}`;
  const served = new Set(
    run.calls.filter(({ askedAt, answer }) => answer?.kind === "granted" && askedAt >= since).map(name),
  );
  const callers = new Set(run.calls.filter(({ process }) => !run.crashes.has(process)).map(name));
  return [...callers].filter((caller) => !served.has(caller));
}

/** What started, and the moment that each start counts for. */
function startsOf({ calls }: Run, limiter: string): Start[] {
  return calls.flatMap(({ limiter: other, cost, answer }) =>
    other === limiter && answer?.kind === "granted" ? [{ at: answer.servedAt ?? answer.at, cost, until: Infinity }] : []
  );
}

/**
 * What ran, and from when to when. A process that stands still runs nothing: a permit that is lost then, or has to be
 * because its lease has run out, ends where the standstill began, and not where its holder could hear of it.
 */
function runsOf({ calls, crashes, pauses, limiters }: Run, limiter: string): Start[] {
  const leaseMs = limiters[limiter]?.leaseMs ?? Infinity;
  return calls.flatMap((call): Start[] => {
    const { process, cost, answer, lost, endedAt } = call;
    if (call.limiter !== limiter || answer?.kind !== "granted") return [];
    const until = endedAt ?? crashes.get(process) ?? Infinity;
    const fatal = pauses.find((pause) =>
      pause.process === process && stoodStill(pause, answer.at, until) &&
      (lost || pause.until - pause.from >= leaseMs)
    );
    return [{ at: answer.at, cost, until: fatal?.from ?? until }];
  });
}

function stoodStill(pause: Pause, from: number, until: number): boolean {
  return pause.from >= from && pause.from < until;
}

function mostInAny(starts: readonly Start[], windowMs: number): number {
  const sorted = [...starts].sort((a, b) => a.at - b.at);
  let most = 0;
  let sum = 0;
  let oldest = 0;
  for (const { at, cost } of sorted) {
    sum += cost;
    while (sorted[oldest]!.at <= at - windowMs) sum -= sorted[oldest++]!.cost;
    most = Math.max(most, sum);
  }
  return most;
}

function mostAtOnce(starts: readonly Start[]): number {
  const running = starts.map(({ at }) => starts.filter((start) => start.at <= at && at < start.until).length);
  return Math.max(0, ...running);
}

function longestGap(granted: readonly Call[]): number {
  const at = granted.flatMap(({ answer }) => answer ? [answer.at] : []).sort((a, b) => a - b);
  return at.reduce((longest, moment, i) => i === 0 ? 0 : Math.max(longest, moment - at[i - 1]!), 0);
}
