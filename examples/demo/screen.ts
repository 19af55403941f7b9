import process from "node:process";
import { chart } from "./chart.ts";
import { allAdmissions } from "./records.ts";
import { COLOURED, PLAIN, type Style } from "./style.ts";
import { COLUMNS, headerLines, progressLine, progressLines, summaryLines, verdictLines, type View } from "./words.ts";

/** Shows a run while it goes on, and then what came of it. */
export interface Screen {
  update(view: View): void;
  finish(view: View): void;
  /** Leaves the terminal as it was, whatever has happened. */
  restore(): void;
}

/** What decides how the screen looks. */
export interface Terminal {
  readonly isTTY: boolean;
  readonly columns: number;
  readonly rows: number;
  readonly colour: boolean;
  write(text: string): void;
}

const HIDE_CURSOR = "\x1b[?25l";
const SHOW_CURSOR = "\x1b[?25h";
const CLEAR_LINE_REST = "\x1b[K";
const CLEAR_BELOW = "\x1b[J";
const PLAIN_EVERY_MS = 1_000;
const LEAST_ROWS = 16;

/** Standard output, as it is now. */
export function thisTerminal(): Terminal {
  const { stdout, env } = process;
  const isTTY = stdout.isTTY === true && env.TERM !== "dumb";
  return {
    isTTY,
    columns: stdout.columns ?? COLUMNS,
    rows: stdout.rows ?? 24,
    colour: isTTY && (env.NO_COLOR ?? "") === "",
    write: (text) => void stdout.write(text),
  };
}

/** A chart that fills, on a terminal with room for it, and otherwise plain lines. */
export function createScreen(terminal: Terminal): Screen {
  const style = terminal.colour ? COLOURED : PLAIN;
  const hasRoom = terminal.columns >= COLUMNS && terminal.rows >= LEAST_ROWS;
  return terminal.isTTY && hasRoom ? liveScreen(terminal, style) : plainScreen(terminal, style);
}

function liveScreen({ write }: Terminal, style: Style): Screen {
  let drawn = 0;
  let hidden = false;

  function draw(lines: readonly string[]): void {
    // The lines are written over the old ones, because clearing those first would flicker.
    const up = drawn > 0 ? `\x1b[${drawn}A` : "";
    write(
      `${hidden ? "" : HIDE_CURSOR}${up}${lines.map((line) => `${line}${CLEAR_LINE_REST}\n`).join("")}${CLEAR_BELOW}`,
    );
    hidden = true;
    drawn = lines.length;
  }

  function restore(): void {
    if (hidden) write(SHOW_CURSOR);
    hidden = false;
  }

  return {
    restore,
    update: (view) => draw([...picture(view, style), "", ...progressLines(view, style)]),
    finish(view) {
      draw([...picture(view, style), "", ...ending(view, style)]);
      restore();
    },
  };
}

function plainScreen({ write }: Terminal, style: Style): Screen {
  let next = 0;
  const print = (lines: readonly string[]) => write(lines.map((line) => `${line}\n`).join(""));
  return {
    restore() {},
    update(view) {
      if (next === 0) print([...headerLines(view, style), ""]);
      if (view.elapsedMs >= next && next > 0) print([progressLine(view)]);
      if (view.elapsedMs >= next) next = (Math.floor(view.elapsedMs / PLAIN_EVERY_MS) + 1) * PLAIN_EVERY_MS;
    },
    finish: (view) => print(["", ...chartLines(view, style), "", ...ending(view, style)]),
  };
}

function picture(view: View, style: Style): string[] {
  return [...headerLines(view, style), "", ...chartLines(view, style)];
}

function chartLines({ records, options, promised, startAt }: View, style: Style): string[] {
  const moments = allAdmissions(records).map(({ at }) => at);
  return chart({ ...promised, moments, start: startAt, durationMs: options.seconds * 1_000, style });
}

function ending(view: View, style: Style): string[] {
  return [...summaryLines(view, style), "", ...verdictLines(view, style)];
}
