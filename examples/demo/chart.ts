import { duration, number } from "./format.ts";
import type { Promised } from "./judge.ts";
import { countPerSlice } from "./statistics.ts";
import type { Style } from "./style.ts";

/** What a chart shows. */
export interface ChartOptions extends Promised {
  /** The moments at which something was admitted, in milliseconds. */
  readonly moments: readonly number[];
  readonly start: number;
  readonly durationMs: number;
  readonly style: Style;
}

/** How the chart is divided. */
export interface Grid {
  readonly sliceMs: number;
  readonly slices: number;
  /** How many columns a slice has, with the gap after it. */
  readonly columns: number;
  readonly rows: number;
  /** How many admissions a row stands for. */
  readonly perRow: number;
  /** The row, from 1 at the bottom, whose upper edge is what the rate admits in a slice. */
  readonly rateRow: number;
}

const SLICES_MS = [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000];
/** How wide all bars may be together. */
const PLOT_COLUMNS = 60;
const MOST_SLICES = 30;
const LEAST_SLICES = 10;
/** With fewer in a slice, one more or one less looks like a lot. */
const LEAST_PER_SLICE = 20;
const ROWS = 6;
const MOST_ROWS = 7;
/** How wide the labels of the axis are. */
export const LABEL_COLUMNS = 7;
const LEAST_TICK_COLUMNS = 10;
const EIGHTHS = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

export function gridOf({ ratePerSecond, burst, durationMs }: Promised & { readonly durationMs: number }): Grid {
  const slicesOf = (sliceMs: number) => Math.ceil(durationMs / sliceMs);
  const fitting = SLICES_MS.filter((sliceMs) => slicesOf(sliceMs) <= MOST_SLICES);
  const telling = fitting.find((sliceMs) => sliceMs * ratePerSecond / 1_000 >= LEAST_PER_SLICE);
  const finest = fitting[0] ?? durationMs / MOST_SLICES;
  const coarsest = fitting.findLast((sliceMs) => slicesOf(sliceMs) >= LEAST_SLICES) ?? finest;
  const sliceMs = Math.min(telling ?? coarsest, coarsest);
  const steady = ratePerSecond * sliceMs / 1_000;
  const most = steady + burst;
  const steadyRows = Math.min(ROWS - 1, Math.max(1, Math.round(ROWS * steady / most)));
  const perRow = Math.max(steady / steadyRows, most / MOST_ROWS);
  return {
    sliceMs,
    slices: slicesOf(sliceMs),
    columns: Math.floor(PLOT_COLUMNS / slicesOf(sliceMs)),
    rows: Math.ceil(most / perRow - 1e-9),
    perRow,
    rateRow: Math.ceil(steady / perRow - 1e-9),
  };
}

/** Bars of what was admitted in each slice of time, against what the rate admits in it. */
export function chart(options: ChartOptions): string[] {
  const { moments, start, durationMs, ratePerSecond, burst, style } = options;
  const grid = gridOf(options);
  const { sliceMs, slices, columns, rows, perRow, rateRow } = grid;
  const counts = countPerSlice(moments, { start, sliceMs, slices });
  const steady = ratePerSecond * sliceMs / 1_000;
  const lines = [style.faint(`${label("")} admitted in ${duration(sliceMs)}, where the rate is ${number(steady)} ▔`)];
  for (let row = rows; row >= 1; row--) {
    const paint = row > rateRow ? style.burst : style.steady;
    const atRate = row === rateRow;
    const cells = counts.map((count) => cell(count / perRow - (row - 1), { atRate, columns, paint, style })).join("");
    const mark = atRate ? short(steady) : row === rows ? short(steady + burst) : "";
    const axis = style.faint(label(mark) + (mark === "" ? "│" : "┤"));
    lines.push(axis + (atRate ? cells + style.faint(` ${short(ratePerSecond)}/s`) : cells.trimEnd()));
  }
  lines.push(style.faint(`${label("0")}└${"─".repeat(columns * slices)}`));
  lines.push(style.faint(`${label("")} ${timeAxis(durationMs, grid)}`));
  return lines;
}

function label(text: string): string {
  return `${text.padStart(LABEL_COLUMNS - 1)} `;
}

interface CellOptions {
  /** Whether the upper edge of the row is the rate. */
  readonly atRate: boolean;
  readonly columns: number;
  readonly paint: (text: string) => string;
  readonly style: Style;
}

/** One slice in one row; `height` is how many rows the bar reaches above the lower edge of this one. */
function cell(height: number, { atRate, columns, paint, style }: CellOptions): string {
  const gap = columns > 1 ? 1 : 0;
  const eighths = Math.max(0, Math.min(8, Math.round(height * 8)));
  const ground = (count: number) => atRate ? style.faint("▔".repeat(count)) : " ".repeat(count);
  return eighths === 0 ? ground(columns) : paint(EIGHTHS[eighths]!.repeat(columns - gap)) + ground(gap);
}

function timeAxis(durationMs: number, { sliceMs, slices, columns }: Grid): string {
  const step = [1, 2, 4, 5, 10, 20].find((step) => step * columns >= LEAST_TICK_COLUMNS) ?? slices;
  const end = seconds(durationMs);
  const room = slices * columns - end.length;
  let line = "";
  for (let slice = 0; slice < slices; slice += step) {
    const tick = seconds(slice * sliceMs);
    if (slice * columns + tick.length < room) line = line.padEnd(slice * columns) + tick;
  }
  return line.padEnd(room) + end;
}

/** A number that fits a label: `12,345`, `1.2M`. */
function short(value: number): string {
  const text = number(value);
  if (text.length < LABEL_COLUMNS) return text;
  return value.toLocaleString("en-US", { notation: "compact", maximumFractionDigits: 1 });
}

function seconds(ms: number): string {
  return `${number(ms / 1_000)} s`;
}
