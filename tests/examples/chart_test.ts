import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import { test } from "node:test";
import { chart, gridOf } from "../../examples/demo/chart.ts";
import { PLAIN } from "../../examples/demo/style.ts";

test("chart() draws the burst above the line of the rate, and the rest up to it", () => {
  const burst = new Array<number>(20).fill(1_000);
  const steady = Array.from({ length: 50 }, (_, i) => 1_000 + i * 10);
  const lines = chart({
    moments: [...burst, ...steady],
    start: 1_000,
    durationMs: 1_000,
    ratePerSecond: 100,
    burst: 20,
    style: PLAIN,
  });
  assertEquals(lines, [
    "        admitted in 100 ms, where the rate is 10 ▔",
    "    30 ┤█████",
    "       │█████",
    "       │█████",
    "       │█████",
    "    10 ┤█████▔█████▔█████▔█████▔█████▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔ 100/s",
    "       │█████ █████ █████ █████ █████",
    "     0 └────────────────────────────────────────────────────────────",
    "        0 s         0.2 s       0.4 s       0.6 s       0.8 s    1 s",
  ]);
});

const CASES = [0.1, 1, 7, 100, 3_333, 100_000].flatMap((ratePerSecond) =>
  [1, 20, 100_000].flatMap((burst) =>
    [500, 1_300, 5_000, 61_000, 3_600_000].map((durationMs) => ({ ratePerSecond, burst, durationMs }))
  )
);

test("chart() always fits a terminal of 80 columns and 24 rows", () => {
  for (const options of CASES) {
    const lines = chart({ ...options, moments: [0, 1, 2], start: 0, style: PLAIN });
    assertLessOrEqual(lines.length, 10);
    for (const line of lines) assertLessOrEqual(line.length, 80, `${JSON.stringify(options)}: ${line}`);
  }
});

test("gridOf() has a row for the rate, room for the burst, and slices for the whole time", () => {
  for (const options of CASES) {
    const { sliceMs, slices, columns, rows, perRow, rateRow } = gridOf(options);
    const most = options.burst + options.ratePerSecond * sliceMs / 1_000;
    assert(slices * sliceMs >= options.durationMs, JSON.stringify(options));
    assert(columns >= 2 && rateRow >= 1 && rateRow <= rows, JSON.stringify(options));
    assert(rows * perRow >= most * 0.999, JSON.stringify(options));
  }
});
