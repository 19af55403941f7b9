import { assertEquals, assertLessOrEqual } from "@std/assert";
import { test } from "node:test";
import { NO_COUNTS, type ProcessRecord } from "../../examples/demo/records.ts";
import { PLAIN } from "../../examples/demo/style.ts";
import { headerLines, progressLine, summaryLines, verdictLines, type View } from "../../examples/demo/words.ts";

const START = 1_700_000_000_000;

function record(moments: readonly number[], counts: Partial<ProcessRecord["counts"]> = {}): ProcessRecord {
  return {
    admissions: moments.map((moment) => ({ at: START + moment, waitedMs: 400 })),
    counts: { ...NO_COUNTS, ...counts },
  };
}

const every = (ms: number, count: number) => Array.from({ length: count }, (_, i) => i * ms);

function view(changes: Partial<View> = {}): View {
  return {
    options: {
      url: undefined,
      processes: 1,
      callers: 50,
      seconds: 2,
      rate: undefined,
      burst: undefined,
      timeout: 0.25,
    },
    promised: { ratePerSecond: 100, burst: 20 },
    limiter: "demo",
    store: "memory",
    records: { processes: [record(every(10, 200), { waiting: 40, refusedAtOnce: 3, refusedInTime: 4 })] },
    elapsedMs: 2_000,
    startAt: START,
    interrupted: false,
    warnings: [],
    ...changes,
  };
}

test("headerLines() says what is limited and where", () => {
  assertEquals(headerLines(view(), PLAIN), [
    "  50 callers, one limit: 100 per second, burst 20",
    "  limiter 'demo' of examples/rate-sync.toml, in memory",
  ]);
});

test("progressLine() is one line", () => {
  assertEquals(progressLine(view()), "   2.0 s · 200 admitted · 100/s now · 40 waiting · 7 refused");
});

test("summaryLines() lists what happened", () => {
  assertEquals(summaryLines(view(), PLAIN), [
    "  admitted  200 of the 220 that are possible (91 %)",
    "  busiest   100 in one second, of 120 allowed (rate 100 + burst 20)",
    "  waited    p50 400 ms, p99 400 ms",
    "  refused   7: 3 would not wait, 4 had no slot within 250 ms",
    "  CAS       0 failures: compare-and-sets that another process beat",
  ]);
});

test("summaryLines() shows the part of every process, failures of the store, and each warning once", () => {
  const processes = [record([0, 10], { casFailures: 3, failed: 1 }), record([5], { casFailures: 4 })];
  const warnings = ["no answer for 250 ms.", "no answer for 251 ms."];
  assertEquals(summaryLines(view({ records: { processes }, warnings }), PLAIN).slice(-4), [
    "  processes 2 + 1",
    "  CAS       7 failures: compare-and-sets that another process beat",
    "  store     1 request failed by the store; none was admitted",
    "  note      no answer for 250 ms.",
  ]);
});

test("summaryLines() fits 80 columns", () => {
  const processes = Array.from({ length: 64 }, () => record(every(0.01, 500), { refusedAtOnce: 1_234_567 }));
  const promised = { ratePerSecond: 99_999, burst: 1.5 };
  const lines = summaryLines(view({ records: { processes }, promised, warnings: ["many words ".repeat(30)] }), PLAIN);
  for (const line of lines) assertLessOrEqual(line.length, 80, line);
});

const VERDICTS: [why: string, changes: Partial<View>, verdict: string][] = [
  ["held", {}, "  ✔ The limit was never exceeded, and 91 % of it was used."],
  [
    "stopped early",
    { interrupted: true, elapsedMs: 1_990 },
    "  ✔ Stopped at 1.99 s. The limit was never exceeded, and 91 % of it was used.",
  ],
  [
    "exceeded",
    { records: { processes: [record(every(5, 200))] } },
    "  ✘ The limit was exceeded: 200 in one second, where 120 are allowed.",
  ],
  [
    "nothing to judge",
    { records: { processes: [record([])] } },
    "  ✘ Nothing was admitted, so nothing can be said about the limit.",
  ],
];

for (const [why, changes, verdict] of VERDICTS) {
  test(`verdictLines() is one sentence: ${why}`, () => {
    assertEquals(verdictLines(view(changes), PLAIN), [verdict]);
  });
}

test("verdictLines() does not hide what late timers have added", () => {
  const promised = { ratePerSecond: 1_000, burst: 1 };
  const processes = [record(every(0.99, 1_010))];
  assertEquals(
    verdictLines(view({ promised, records: { processes }, elapsedMs: 1_000 }), PLAIN).join("\n"),
    [
      "  ✔ The limit held as well as timers are precise (1,010 in one second, where",
      "  1,001 are allowed), and 100 % of it was used.",
    ].join("\n"),
  );
});
