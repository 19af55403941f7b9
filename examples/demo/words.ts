import { LABEL_COLUMNS, PLOT_COLUMNS } from "./chart.ts";
import { counted, duration, fit, number, percent, wrap } from "./format.ts";
import { judge, type Judgement, type Promised } from "./judge.ts";
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
const MOST_SHARES = 8;
/** By how much the newest reports may be behind. */
const REPORTS_LAG_MS = 150;

/** What it is about. */
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

/** How far it is, on a terminal: below the chart, and as wide. */
export function progressLines(view: View, style: Style): string[] {
  const filled = Math.round(Math.min(1, view.elapsedMs / (view.options.seconds * 1_000)) * PLOT_COLUMNS);
  const bar = style.steady("━".repeat(filled)) + style.faint("─".repeat(PLOT_COLUMNS - filled));
  const margin = LABEL_COLUMNS + 1;
  return [time(view).padStart(margin - 2) + INDENT + bar, fit(" ".repeat(margin) + progress(view), COLUMNS)];
}

/** How far it is, as one plain line. */
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
  const { admitted, allowedInAll, mostInASecond, allowedInASecond, usedShare } = judgementOf(view);
  const { refusedAtOnce, refusedInTime, failed, casFailures } = sumOfCounts(records);
  const waits = allAdmissions(records).map(({ waitedMs }) => waitedMs);
  const shares = records.processes.map(({ admissions }) => admissions.length);
  const line = (name: string, text: string) => `${INDENT}${style.faint(name.padEnd(10))}${text}`;
  const lines = [
    line("admitted", `${number(admitted)} of the ${number(allowedInAll)} that are possible (${percent(usedShare)})`),
    line(
      "busiest",
      `${number(mostInASecond)} in one second, of ${number(allowedInASecond)} allowed (${
        allowance(promised, allowedInASecond)
      })`,
    ),
    line("waited", `p50 ${wait(percentile(waits, 0.5))}, p99 ${wait(percentile(waits, 0.99))}`),
    line(
      "refused",
      `${number(refusedAtOnce + refusedInTime)}: ${number(refusedAtOnce)} would not wait, ${
        number(refusedInTime)
      } had no slot within ${duration(options.timeout * 1_000)}`,
    ),
  ];
  if (shares.length > 1) lines.push(line("processes", sharesText(shares)));
  lines.push(line("CAS", `${counted(casFailures, "failure", "failures")}: compare-and-sets that another process beat`));
  if (failed > 0) {
    lines.push(line("store", `${counted(failed, "request", "requests")} without an answer; none was admitted`));
  }
  for (const warning of new Set(view.warnings)) {
    lines.push(...wrap(warning, COLUMNS - 12).map((text, i) => line(i === 0 ? "note" : "", text)));
  }
  return lines;
}

function allowance({ ratePerSecond, burst }: Promised, allowedInASecond: number): string {
  const timers = allowedInASecond - Math.floor(ratePerSecond + burst);
  return `rate ${number(ratePerSecond)} + burst ${number(burst)}${
    timers > 0 ? ` + ${number(timers)} for late timers` : ""
  }`;
}

function wait(ms: number | undefined): string {
  return ms === undefined ? "–" : duration(ms);
}

function sharesText(shares: readonly number[]): string {
  if (shares.length <= MOST_SHARES) return shares.map(number).join(" + ");
  return `${number(Math.min(...shares))} to ${number(Math.max(...shares))} each, p50 ${
    number(percentile(shares, 0.5)!)
  }`;
}

/** What follows from it, in one sentence. */
export function verdictLine(view: View, style: Style): string {
  const { held, admitted, mostInASecond, allowedInASecond, usedShare } = judgementOf(view);
  if (admitted === 0) return style.bad(`${INDENT}✘ Nothing was admitted, so nothing can be said about the limit.`);
  const part = view.interrupted ? `Stopped after ${duration(view.elapsedMs)}: the` : "The";
  if (!held) {
    return style.bad(
      `${INDENT}✘ ${part} limit was exceeded: ${number(mostInASecond)} in one second, ${
        number(allowedInASecond)
      } allowed.`,
    );
  }
  return style.good(`${INDENT}✔ ${part} limit was never exceeded, and ${percent(usedShare)} of it was used.`);
}

export function judgementOf({ records, promised, elapsedMs }: View): Judgement {
  return judge(allAdmissions(records).map(({ at }) => at), promised, elapsedMs);
}
