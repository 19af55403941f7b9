import type { Goal, Measure } from "./groups.ts";
import type { Row } from "./run_case.ts";
import type { Spread } from "./spread.ts";

const MEASURES: Readonly<Record<Measure, string>> = {
  perSecond: "calls/s",
  p50: "p50, ms",
  p99: "p99, ms",
  heapBytes: "bytes/key",
  unevenness: "most/least",
};

const COLUMNS = ["", "what", "ours", "", "against", "", "ratio", "min to max", "goal", ""];

const INTRODUCTION = `# Beside its peers

What \`deno task bench:peers\` printed; it writes this file. The contestants of a line run in turn, so a machine that is
busy with something else disturbs both; only the ratios mean something elsewhere. A ratio is ours to theirs in the same
run, and what is shown is the median of the runs, with the least and the most. Processes and servers share one machine.
nats-server keeps its buckets in files; redis-server runs without persistence. The goals are our own, and a goal counts
as met by the median.`;

/** The rows as a table in Markdown. Each value is the median of the runs. */
export function tableOf(rows: readonly Row[]): string {
  const lines = rows.map((row) => [
    row.title,
    MEASURES[row.measure],
    row.ours,
    amount(row.measure, row.ourValue.median),
    row.theirs ?? "",
    row.theirValue ? amount(row.measure, row.theirValue.median) : "",
    row.ratio ? ratioText(row.ratio.median) : "",
    row.ratio ? range(row.ratio, ratioText) : range(row.ourValue, (v) => amount(row.measure, v)),
    row.goal ? goalOf(row) : "",
    row.isMet === undefined ? "" : row.isMet ? "met" : "**missed**",
  ]);
  const widths = COLUMNS.map((name, i) =>
    Math.max(3, ...[name, ...lines.map((line) => line[i]!)].map((s) => s.length))
  );
  const lineOf = (cells: readonly string[]) => `| ${cells.map((cell, i) => cell.padEnd(widths[i]!)).join(" | ")} |`;
  return [lineOf(COLUMNS), lineOf(widths.map((width) => "-".repeat(width))), ...lines.map(lineOf)].join("\n");
}

function goalOf({ goal: { atLeast, atMost } = {} as Goal, ratio, measure }: Row): string {
  const text = (value: number) => ratio ? String(value) : amount(measure, value);
  return atLeast !== undefined ? `>= ${text(atLeast)}` : `<= ${text(atMost ?? Infinity)}`;
}

function range({ min, max }: Spread, text: (value: number) => string): string {
  return `${text(min)} to ${text(max)}`;
}

function ratioText(ratio: number): string {
  return ratio.toFixed(ratio < 0.1 ? 3 : 2);
}

function amount(measure: Measure, value: number): string {
  if (measure === "perSecond" || measure === "heapBytes") return Math.round(value).toLocaleString("en");
  return value.toFixed(value < 1 ? 3 : 2);
}

/**
 * The report, with these sections in place of those of the same name and all others as they were, so that a group can
 * be measured again alone.
 */
export function updateReport(
  report: string,
  sections: ReadonlyMap<string, string>,
  order: readonly string[],
): string {
  const all = new Map<string, string>();
  for (const part of report.split(/^## /m).slice(1)) {
    const [name = "", ...text] = part.split("\n");
    all.set(name, text.join("\n").trim());
  }
  for (const [name, text] of sections) all.set(name, text);
  const parts = order.filter((name) => all.has(name)).map((name) => `## ${name}\n\n${all.get(name)}`);
  return `${[INTRODUCTION, ...parts].join("\n\n")}\n`;
}
