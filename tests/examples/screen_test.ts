import { assert, assertEquals, assertMatch, assertNotMatch } from "@std/assert";
import { test } from "node:test";
import { createScreen, type Terminal } from "../../examples/demo/screen.ts";
import { NO_COUNTS } from "../../examples/demo/records.ts";
import type { View } from "../../examples/demo/words.ts";

// deno-lint-ignore no-control-regex -- escape codes are what it looks for
const ESCAPE = /\x1b/;
// deno-lint-ignore no-control-regex -- the same
const COLOUR = /\x1b\[\d*m/;

function terminal(changes: Partial<Terminal>): { readonly terminal: Terminal; text(): string } {
  let text = "";
  return {
    text: () => text,
    terminal: { isTTY: true, columns: 80, rows: 24, colour: true, write: (part) => void (text += part), ...changes },
  };
}

function view(elapsedMs: number): View {
  return {
    options: { url: undefined, processes: 1, callers: 1, seconds: 2, rate: undefined, burst: undefined, timeout: 0.25 },
    promised: { ratePerSecond: 100, burst: 20 },
    limiter: "demo",
    store: "memory",
    records: { processes: [{ admissions: [{ at: 100, waitedMs: 0 }], counts: NO_COUNTS }] },
    elapsedMs,
    startAt: 0,
    interrupted: false,
    warnings: [],
  };
}

function show(changes: Partial<Terminal>): string {
  const { terminal: where, text } = terminal(changes);
  const screen = createScreen(where);
  for (const elapsedMs of [0, 500, 1_000, 1_100, 2_000]) screen.update(view(elapsedMs));
  screen.finish(view(2_000));
  screen.restore();
  return text();
}

test("createScreen() prints plain lines without a terminal: the head once, and a line each second", () => {
  const text = show({ isTTY: false, colour: false });
  assertNotMatch(text, ESCAPE);
  assertEquals(text.match(/one limit/g)?.length, 1);
  assertEquals(text.match(/waiting/g)?.length, 2);
  assertMatch(text, /✔ The limit was never exceeded/);
});

test("createScreen() prints plain lines on a terminal that is too small to draw on", () => {
  // deno-lint-ignore no-control-regex -- the escape code that goes up
  assertNotMatch(show({ columns: 60 }), /\x1b\[\d+A/);
  // deno-lint-ignore no-control-regex -- the same
  assertNotMatch(show({ rows: 10 }), /\x1b\[\d+A/);
});

test("createScreen() draws over itself on a terminal, and leaves the cursor as it was", () => {
  const text = show({});
  assertMatch(text, COLOUR);
  assert(text.startsWith("\x1b[?25l"));
  assert(text.endsWith("\x1b[?25h"));
  assertEquals(text.split("\x1b[?25l").length, 2);
});

test("createScreen() draws without colours when there shall be none", () => {
  assertNotMatch(show({ colour: false }), COLOUR);
});
