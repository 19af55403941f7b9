import { assertEquals, assertGreater, assertGreaterOrEqual, assertLess, assertStrictEquals } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { reachOf, type Request } from "../../../src/core/decision/batch.ts";
import { permitsOf, takeAll } from "../../../src/core/decision/decide.ts";
import { freshState, type State } from "../../../src/core/decision/state.ts";
import { decideWork, type Terms, type Work } from "../../../src/core/decision/work.ts";
import { concurrencyRule, markWaiting } from "../../../src/core/rules/concurrency.ts";
import { rateRule } from "../../../src/core/rules/rate.ts";
import type { Rule } from "../../../src/core/rules/rule.ts";
import { windowRule } from "../../../src/core/rules/window.ts";

const EPOCH = 1_000_000;
const NOW = EPOCH + 10_000;
/** Nothing is reserved. */
const TERMS: Terms = { now: NOW, horizon: NOW, isFresh: true };

const rate = (ratePerSecond: number, burst = 1) => rateRule({ ratePerSecond, burst, timingMarginMs: 10 }) as Rule;
const window = (limit: number, windowMs: number) =>
  windowRule({ limit, windowMs, reserveAheadMs: 1_000, timingMarginMs: 10 }) as Rule;
const permits = (maxConcurrent: number) => concurrencyRule({ maxConcurrent, leaseMs: 60_000 }) as Rule;

const requestOf = (more: Partial<Request> & { readonly cost?: number } = {}): Request => ({
  demand: { cost: more.cost ?? 1, owner: "me", permit: 0 },
  deadline: NOW + 60_000,
  patient: true,
  ...more,
});
const times = (count: number, request = requestOf()): Request[] => Array.from({ length: count }, () => request);

function workOf(requests: readonly Request[], more: Partial<Work> = {}): Work {
  return {
    ...{ owner: "me", leaseMs: 60_000, undos: [], held: undefined, requests, firstPermit: 1, since: NOW - 500 },
    ...{ marks: false, isMarked: false, isOverdue: false, lead: 0, slack: 0, restraint: 0 },
    ...more,
  };
}

/** After `owner` has taken so many times at `at`. */
function taken(rules: readonly Rule[], state: State, owner: string, count: number, at = NOW): State {
  let { parts } = state;
  for (let i = 0; i < count; i++) {
    parts = takeAll(rules, parts, at - EPOCH, at - EPOCH, { cost: 1, owner, permit: 100 + i });
  }
  return { ...state, parts };
}

/** Who is said to wait after the work, and since when. */
function waitingAfter(rules: readonly Rule[], state: State, work: Work, terms = TERMS): (readonly [string, number])[] {
  const { parts } = decideWork(rules, state, work, terms);
  return (permitsOf(rules, parts)?.waiting ?? []).map(({ owner, since }) => [owner, since + EPOCH] as const);
}

test("who has to wait for a permit says so if it may, and keeps its place until all that it wants is decided [CON-2]", () => {
  const rules = [permits(2)];
  const full = taken(rules, freshState(rules, EPOCH), "other", 2);
  const quiet = workOf(times(1));
  assertStrictEquals(decideWork(rules, full, quiet, TERMS).parts, full.parts);
  const first = workOf(times(3), { marks: true });
  assertEquals(waitingAfter(rules, full, first), [["me", NOW - 500]]);
  // It is not certain that there is no permit.
  assertEquals(waitingAfter(rules, full, first, { ...TERMS, isFresh: false }), []);

  const { parts } = decideWork(rules, full, first, TERMS);
  const marked = { ...first, isMarked: true, marks: false };
  assertEquals(waitingAfter(rules, { ...full, parts }, marked, { ...TERMS, isFresh: false }), [["me", NOW - 500]]);
  assertEquals(waitingAfter(rules, { ...full, parts }, workOf([], { isMarked: true })), []);

  const half = taken(rules, freshState(rules, EPOCH), "other", 1);
  const waits = (all: State) => ({
    ...all,
    parts: [markWaiting(permitsOf(rules, all.parts)!, "me", 1, NOW - 500 - EPOCH, NOW - EPOCH, 3_000)],
  });
  // It gets one, and comes after those who began to wait before now.
  assertEquals(waitingAfter(rules, waits(half), marked), [["me", NOW]]);
  assertEquals(waitingAfter(rules, waits(half), { ...marked, requests: times(1) }), []);
  assertEquals(waitingAfter(rules, half, first), []);
});

test("who has to wait for its time leaves its place among those who wait for a permit to others [CMB-1, CON-2]", () => {
  const rules = [rate(1), permits(2)];
  const used = taken(rules, freshState(rules, EPOCH), "other", 1);
  const mark = markWaiting(permitsOf(rules, used.parts)!, "me", 1, NOW - 500 - EPOCH, NOW - EPOCH, 3_000);
  const state = { ...used, parts: [used.parts[0]!, mark] };
  const work = workOf(times(1), { isMarked: true, marks: true });
  assertEquals(decideWork(rules, state, work, TERMS).waitsFor, "time");
  assertEquals(waitingAfter(rules, state, work), []);
});

test("a request is granted if it can start by its deadline, and refused if it cannot, and so are those behind it [TMO-6]", () => {
  const rules = [rate(10)];
  const state = taken(rules, freshState(rules, EPOCH), "other", 1); // the next slot is 100 ms away
  const terms = { ...TERMS, horizon: NOW + 1_000 };
  fc.assert(
    fc.property(fc.array(fc.constantFrom(0, 50, 99, 100, 150, 200, 300, 301), { maxLength: 12 }), (timeouts) => {
      const requests = timeouts.map((ms) => requestOf({ deadline: NOW + ms, patient: ms > 0 }));
      const { granted, refused, dealtWith } = decideWork(rules, state, workOf(requests), terms);
      let next = NOW + 100;
      const [served, sentAway] = [new Map<Request, number>(), new Set<Request>()];
      for (const request of requests) {
        if (next > request.deadline) sentAway.add(request);
        else served.set(request, next), next += 100;
      }
      assertEquals(dealtWith, requests.length);
      assertEquals(granted.map(({ request, grant }) => [request, grant.from]), [...served]);
      assertEquals(refused.map(({ request }) => request), [...sentAway]);
      for (const { refusal } of refused) assertGreater(refusal.retryAt, NOW);
    }),
  );
});

test("a request whose time comes too late is refused although a permit may come at any moment [TMO-6]", () => {
  const rules = [rate(1), permits(1)];
  const state = taken(rules, freshState(rules, EPOCH), "other", 1);
  for (const [ms, isRefused] of [[999, true], [1_000, false]] as const) {
    const { refused, waitsFor } = decideWork(rules, state, workOf([requestOf({ deadline: NOW + ms })]), TERMS);
    assertEquals(refused.length, isRefused ? 1 : 0);
    assertEquals(waitsFor, isRefused ? undefined : "permit");
  }
});

test("who was passed over reserves as far ahead as its cost takes, and nobody behind it does [TB-9]", () => {
  const rules = [rate(1, 10)];
  const requests = times(3, requestOf({ cost: 10 }));
  const full = freshState(rules, EPOCH);
  const empty = taken(rules, full, "other", 10);
  for (
    const [state, isOverdue, count] of [[full, false, 1], [full, true, 1], [empty, false, 0], [empty, true, 1]] as const
  ) {
    const { granted, waitsFor } = decideWork(rules, state, workOf(requests, { isOverdue }), TERMS);
    assertEquals(granted.length, count);
    assertEquals(waitsFor, "time");
  }
});

test("a grant counts for when its answer is here, or as long as it is kept, and one for later as late as it may start", () => {
  const rules = [window(1, 1_000)];
  fc.assert(
    fc.property(
      fc.constantFrom(0, 20, 300),
      fc.constantFrom(undefined, 0, 5, 100),
      fc.constantFrom(0, 3),
      fc.boolean(),
      (lead, keepMs, slack, isUsed) => {
        const fresh = freshState(rules, EPOCH);
        const state = isUsed ? taken(rules, fresh, "other", 1, NOW - 900) : fresh;
        const requests = [requestOf(keepMs === undefined ? {} : { keepMs })];
        const { granted } = decideWork(rules, state, workOf(requests, { lead, slack }), {
          ...TERMS,
          horizon: NOW + 1_000,
        });
        const { from, at } = granted[0]!.grant;
        assertEquals(from > NOW, isUsed);
        assertEquals(at, Math.max(NOW + lead, NOW + (keepMs ?? 0), isUsed ? from + slack : from));
      },
    ),
  );
});

test("a rate is granted ahead until the answer after the next is here, and a window until this one is [TB-5]", () => {
  for (const lead of [1, 100]) {
    assertGreater(reachOf([rate(10)], 0, lead), 2 * lead);
    for (const rules of [[window(5, 1_000)], [rate(10), window(5, 1_000)], [window(5, 1_000), permits(1)]]) {
      assertGreaterOrEqual(reachOf(rules, 0, lead), lead);
      assertLess(reachOf(rules, 0, lead), 2 * lead);
    }
    for (const rules of [[rate(10)], [window(5, 1_000)]]) assertEquals(reachOf(rules, 1_000, lead), 1_000);
  }
});
