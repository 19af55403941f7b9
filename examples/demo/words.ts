import { gridOf, LABEL_COLUMNS } from "./chart.ts";
import { counted, duration, fit, number, percent, wrap } from "./format.ts";
import { judge, type Judgement, type Promised, TIMING_MARGIN_MS } from "./judge.ts";
import type { DemoOptions } from "./options.ts";
import { allAdmissions, type Records, sumOfCounts } from "./records.ts";
import { percentile } from "./statistics.ts";
import type { Style } from "./style.ts";

/** What is shown of a run, at any time of it. */
export interface View {
  readonly options: DemoOptions;
  readonly promised: Promised;
  /** The limiter's id. */
  readonly limiter: string;
  /** Where the limit is kept: a URL without secrets, or `memory`. */
  readonly store: string;
  readonly records: Records;
  /** How much of the run is over, in milliseconds. */
  readonly elapsedMs: number;
  /** When it began, in milliseconds since the Unix epoch. */
  readonly startAt: number;
  /** Whether it was stopped before its time. */
  readonly interrupted: boolean;
  readonly warnings: readonly string[];
}

export const COLUMNS = 80;
const INDENT = "  ";
const NAME_COLUMNS = 10;
const MOST_SHARES = 8;
/** How far the newest reports may lag behind. */
const REPORTS_LAG_MS = 150;

/** What the run is about. */
export function headerLines({ options, promised, limiter, store }: View, style: Style): string[] {
  const { processes, callers } = options;
  const rate = `${number(promised.ratePerSecond)} per second`;
  const who = processes === 1
    ? `${counted(callers, "caller", "callers")}`
    : `${processes} processes with ${counted(callers, "caller", "callers")} each`;
  return [
    style.strong(`${INDENT}${who}, one limit: ${rate}, burst ${number(promised.burst)}`),
    style.faint(
      fit(
        `${INDENT}limiter '${limiter}' of examples/rate-sync.toml, in ${store}`,
        COLUMNS,
      ),
    ),
  ];
}

/** The progress on a terminal: below the chart, and as wide. */
export function progressLines(view: View, style: Style): string[] {
  const durationMs = view.options.seconds * 1_000;
  const { slices, columns } = gridOf({ ...view.promised, durationMs });
  const filled = Math.round(Math.min(1, view.elapsedMs / durationMs) * slices * columns);
  const bar = style.steady("━".repeat(filled)) + style.faint("─".repeat(slices * columns - filled));
  const margin = LABEL_COLUMNS + 1;
  return [time(view).padStart(margin - 2) + INDENT + bar, fit(" ".repeat(margin) + progress(view), COLUMNS)];
}

/** The progress as one plain line. */
export function progressLine(view: View): string {
  return `${INDENT}${time(view).padStart(6)} · ${progress(view)}`;
}

function time({ elapsedMs, options }: View): string {
  return `${Math.min(elapsedMs / 1_000, options.seconds).toFixed(1)} s`;
}

function progress({ records, elapsedMs, startAt }: View): string {
  const admissions = allAdmissions(records);
  const { waiting, refusedAtOnce, refusedInTime, failed } = sumOfCounts(records);
  const until = startAt + elapsedMs - REPORTS_LAG_MS;
  const lately = admissions.filter(({ at }) => at >= until - 1_000 && at < until).length;
  return [
    `${number(admissions.length)} admitted`,
    `${number(lately)}/s now`,
    `${number(waiting)} waiting`,
    `${number(refusedAtOnce + refusedInTime)} refused`,
    ...(failed > 0 ? [`${number(failed)} failed`] : []),
  ].join(" · ");
}

/** What happened. */
export function summaryLines(view: View, style: Style): string[] {
  const { records, promised, options } = view;
  const judgement = judgementOf(view);
  const { refusedAtOnce, refusedInTime, failed, casFailures } = sumOfCounts(records);
  const waits = allAdmissions(records).map(({ waitedMs }) => waitedMs);
  const shares = records.processes.map(({ admissions }) => admissions.length);
  const refusals = `${number(refusedAtOnce)} would not wait, ${number(refusedInTime)} had no slot within`;
  const entries: [name: string, text: string][] = [
    ["admitted", admittedText(judgement)],
    ["busiest", busiestText(judgement, promised)],
    ["waited", `p50 ${wait(percentile(waits, 0.5))}, p99 ${wait(percentile(waits, 0.99))}`],
    ["refused", `${number(refusedAtOnce + refusedInTime)}: ${refusals} ${duration(options.timeout * 1_000)}`],
    ...(shares.length > 1 ? [["processes", sharesText(shares)] satisfies [string, string]] : []),
    ["CAS", `${counted(casFailures, "failure", "failures")}: compare-and-sets that another process beat`],
  ];
  if (failed > 0) {
    entries.push(["store", `${counted(failed, "request", "requests")} failed by the store; none was admitted`]);
  }
  for (const warning of distinct(view.warnings)) entries.push(["note", warning]);
  return entries.flatMap(([name, text]) =>
    wrap(text, COLUMNS - NAME_COLUMNS - INDENT.length).map((part, index) =>
      INDENT + style.faint((index === 0 ? name : "").padEnd(NAME_COLUMNS)) + part
    )
  );
}

/** The warnings without repetitions: every process warns of the same thing, with its own numbers. */
function distinct(warnings: readonly string[]): string[] {
  const byText = new Map(warnings.toReversed().map((warning) => [warning.replace(/ \d[\d.,]* /g, " n "), warning]));
  return [...byText.values()].reverse();
}

function admittedText({ admitted, allowedInAll, usedShare }: Judgement): string {
  return `${number(admitted)} of the ${number(allowedInAll)} that are possible (${percent(usedShare)})`;
}

function busiestText({ mostInASecond, promisedInASecond, allowedInASecond }: Judgement, promised: Promised): string {
  const sum = `rate ${number(promised.ratePerSecond)} + burst ${number(promised.burst)}`;
  const timers = allowedInASecond - promisedInASecond;
  const late = timers > 0 ? `, and ${number(timers)} for timers up to ${TIMING_MARGIN_MS} ms late` : "";
  return `${number(mostInASecond)} in one second, of ${number(promisedInASecond)} allowed (${sum})${late}`;
}

function wait(ms: number | undefined): string {
  return ms === undefined ? "–" : duration(ms);
}

function sharesText(shares: readonly number[]): string {
  if (shares.length <= MOST_SHARES) return shares.map(number).join(" + ");
  return `${number(Math.min(...shares))} to ${number(Math.max(...shares))} each`;
}

/** The conclusion, in one sentence. */
export function verdictLines(view: View, style: Style): string[] {
  const { held, admitted } = judgementOf(view);
  const good = held && admitted > 0;
  const paint = good ? style.good : style.bad;
  return wrap(`${good ? "✔" : "✘"} ${verdict(view)}`, COLUMNS - INDENT.length).map((line) => INDENT + paint(line));
}

function verdict(view: View): string {
  const { held, admitted, mostInASecond, promisedInASecond, usedShare } = judgementOf(view);
  if (admitted === 0) return "Nothing was admitted, so nothing can be said about the limit.";
  const stopped = view.interrupted ? `Stopped at ${duration(view.elapsedMs)}. ` : "";
  const busiest = `${number(mostInASecond)} in one second, where ${number(promisedInASecond)} are allowed`;
  if (!held) return `${stopped}The limit was exceeded: ${busiest}.`;
  const used = `${percent(usedShare)} of it was used`;
  if (mostInASecond <= promisedInASecond) return `${stopped}The limit was never exceeded, and ${used}.`;
  return `${stopped}The limit held as well as timers are precise (${busiest}), and ${used}.`;
}

export function judgementOf({ records, promised, elapsedMs }: View): Judgement {
  return judge(allAdmissions(records).map(({ at }) => at), promised, elapsedMs);
}
