import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { test } from "node:test";
import { type Call, check, type Promised, type Run, unserved } from "../support/checker.ts";

/** Calls that were granted at these moments, each for 10 ms. */
function granted(moments: readonly number[], change: Partial<Call> = {}): Call[] {
  return moments.map((at) => ({
    process: "a",
    limiter: "api",
    caller: 0,
    cost: 1,
    askedAt: at - 1,
    answer: { at, kind: "granted" },
    endedAt: at + 10,
    lost: false,
    ...change,
  }));
}

function run(promised: Promised, calls: readonly Call[], change: Partial<Run> = {}): Run {
  return { limiters: { api: promised }, calls, crashes: new Map(), pauses: [], losses: [], ...change };
}

const rate: Promised = { rates: [{ ratePerSecond: 10, burst: 2 }] };
const window: Promised = { windows: [{ limit: 2, windowMs: 1_000 }] };
const permits: Promised = { maxConcurrent: 2 };

/** The only problem that the checker sees. */
function problemOf(run: Run, lateMs = 0): string {
  const { problems } = check(run, lateMs);
  assertEquals(problems.length, 1, problems.join("; "));
  return problems[0] ?? "";
}

test("the checker has nothing to say about a run in which every limit was used up exactly", () => {
  assertEquals(check(run(rate, granted([0, 0, 100, 200])), 0), {
    problems: [],
    acquires: 4,
    peaks: [{ what: "api in 1 s", most: 4, allowed: 12 }],
    longestGapMs: 100,
    otherAnswers: {},
  });
  assertEquals(check(run(window, granted([0, 500, 1_000, 1_500])), 0).problems, []);
  assertEquals(check(run(permits, granted([0, 5, 10, 15])), 0).problems, []);
});

test("the checker sees one start too many, of every limit", () => {
  assertStringIncludes(problemOf(run(rate, granted([0, 0, 99]))), "api: cost 3");
  assertStringIncludes(problemOf(run(window, granted([0, 500, 999]))), "cost 3 in the window from 0");
  assertStringIncludes(problemOf(run(permits, granted([0, 5, 9]))), "3 ran at 9");
  assertStringIncludes(problemOf(run(rate, granted([0, 50], { cost: 2 }))), "cost 4");
});

test("the checker allows a start to be late by as much as it is told, and by no more", () => {
  assertEquals(check(run(rate, granted([10, 10, 100])), 10).problems, []);
  assertStringIncludes(problemOf(run(rate, granted([10, 10, 99])), 10), "cost 3");
  assertEquals(check(run(window, granted([10, 500, 1_000])), 10).problems, []);
  assertStringIncludes(problemOf(run(window, granted([11, 500, 1_000])), 10), "cost 3");
});

test("with every loss of the store the checker allows what a limit admits at once, once more, and nothing after that", () => {
  const losses = [{ from: 40, until: 60 }];
  assertEquals(check(run(rate, granted([0, 0, 70, 70]), { losses }), 0).problems, []);
  assertStringIncludes(problemOf(run(rate, granted([0, 0, 70, 70, 70]), { losses })), "cost 5");
  assertEquals(check(run(window, granted([0, 0, 70, 70]), { losses }), 0).problems, []);
  assertStringIncludes(problemOf(run(window, granted([0, 0, 70, 70, 70]), { losses })), "cost 5");
  assertEquals(check(run(permits, granted([0, 0, 70, 70], { endedAt: 100 }), { losses }), 0).problems, []);
  assertStringIncludes(problemOf(run(permits, granted([0, 0, 70, 70, 70], { endedAt: 100 }), { losses })), "5 ran");
  // Long after it nothing of it is left.
  assertStringIncludes(problemOf(run(rate, granted([500, 500, 599]), { losses })), "cost 3");
  assertStringIncludes(problemOf(run(permits, granted([500, 500, 501]), { losses })), "3 ran");
  // What was reserved before it is used after it.
  const reserving = { ...rate, reserveAheadMs: 200 };
  assertEquals(check(run(reserving, granted([0, 0, 70, 70, 100, 200]), { losses }), 0).problems, []);
});

test("the checker counts a permit until it is released or lost, or its process is gone or stands still", () => {
  const held = { endedAt: undefined };
  assertStringIncludes(problemOf(run(permits, granted([0, 1, 5_000], held))), "3 ran at 5000");
  const crashed = granted([0, 1], { ...held, process: "b", caller: 1 });
  assertEquals(
    check(run(permits, [...crashed, ...granted([101, 101])], { crashes: new Map([["b", 100]]) }), 0).problems,
    [],
  );
  assertStringIncludes(
    problemOf(run(permits, [...crashed, ...granted([99])], { crashes: new Map([["b", 100]]) })),
    "3 ran at 99",
  );
  const lost = granted([0, 1], { endedAt: 900, lost: true, process: "b", caller: 1 });
  const pauses = [{ process: "b", from: 50, until: 890 }];
  assertEquals(check(run(permits, [...lost, ...granted([500, 500])], { pauses }), 0).problems, []);
  assertStringIncludes(problemOf(run(permits, [...lost, ...granted([500])])), "3 ran at 500");
  const kept = lost.map((call) => ({ ...call, lost: false }));
  assertStringIncludes(problemOf(run(permits, [...kept, ...granted([500])], { pauses })), "3 ran at 500");
  // Its lease had run out before it could hear of it.
  assertEquals(check(run({ ...permits, leaseMs: 840 }, [...kept, ...granted([500])], { pauses }), 0).problems, []);
  assertEquals(
    check(run({ ...permits, leaseMs: 841 }, [...kept, ...granted([500])], { pauses }), 0).problems.length,
    1,
  );
});

test("the checker sees who was not answered, who was answered wrongly, and who got nothing", () => {
  const silent = granted([0], { answer: undefined, endedAt: undefined });
  const [one] = granted([0]);
  assert(one);
  assertStringIncludes(problemOf(run(permits, [one, ...silent])), "was never answered");
  assertEquals(check(run(permits, [one, ...silent], { crashes: new Map([["a", 20]]) }), 0).problems, []);
  const strange = { ...one, answer: { at: 3, kind: "TypeError: x" } };
  assertStringIncludes(problemOf(run(permits, [one, strange])), "answered with TypeError: x");
  const refused = { ...one, caller: 7, answer: { at: 3, kind: "refused" } };
  const { problems, otherAnswers } = check(run(permits, [one, refused]), 0);
  assertEquals(problems, ["caller 7 of 'api' in process a never got anything"]);
  assertEquals(otherAnswers, { refused: 1 });
  assertEquals(unserved(run(permits, [one]), 0), ["caller 0 of 'api' in process a"]);
  assertEquals(unserved(run(permits, [one]), -1), []);
});
