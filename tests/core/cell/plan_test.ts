import { assert, assertEquals } from "@std/assert";
import { test } from "node:test";
import { planFor, planOf } from "../../../src/core/cell/plan.ts";
import { freshState } from "../../../src/core/decision/state.ts";
import type { Terms, Work } from "../../../src/core/decision/work.ts";
import type { Guest } from "../../../src/core/hand_over/guests.ts";
import { concurrencyRule } from "../../../src/core/rules/concurrency.ts";
import { rateRule } from "../../../src/core/rules/rate.ts";
import type { Rule } from "../../../src/core/rules/rule.ts";
import { windowRule } from "../../../src/core/rules/window.ts";
import type { Permits } from "../../../src/core/rules/states.ts";
import type { Caller } from "../../../src/core/waiting/outcome.ts";
import { Waiter } from "../../../src/core/waiting/waiter.ts";

const NOW = 1_000_000;
const TERMS: Terms = { now: NOW, horizon: NOW + 1_000, isFresh: true };
/** Nothing is reserved ahead. */
const SOON: Terms = { ...TERMS, horizon: NOW };
const NO_GUESTS = { all: [], next: undefined };

/** What `owner` wants: so many permits or slots, since so many milliseconds. */
function workOf(owner: string, count: number, since = NOW, more: Partial<Work<Caller>> = {}): Work<Caller> {
  const requests = Array.from(
    { length: count },
    (_, i): Caller => new Waiter({ cost: 1, owner, permit: i + 1 }, since, NOW + 5_000, Infinity, () => {}),
  );
  return {
    ...{ owner, leaseMs: 1_000, undos: [], held: undefined, requests, firstPermit: 1, since, marks: false },
    ...{ isMarked: false, isOverdue: false, lead: 0, slack: 0, restraint: 0 },
    ...more,
  };
}

const guestOf = (work: Work, number = 1): Guest => ({
  ...{ key: "api", work, number, until: NOW + 100, isYourTurn: false },
  respond: () => {},
});

const two: readonly Rule[] = [rateRule({ ratePerSecond: 1, burst: 2, timingMarginMs: 10 }) as Rule];
const permits: readonly Rule[] = [concurrencyRule({ maxConcurrent: 1, leaseMs: 1_000 }) as Rule];
const shiftedBy = (ms: number, state: Permits) => permits[0]!.shift(state, ms);

test("a plan serves who has waited for longest first, here or elsewhere", () => {
  const base = freshState(two, NOW);
  const early = guestOf(workOf("early", 2, NOW - 50));
  const late = guestOf(workOf("late", 1, NOW - 5));
  const plan = planFor(
    two,
    base,
    workOf("me", 1, NOW - 20),
    { all: [late, early], next: late },
    { ...TERMS, horizon: NOW + 2_000 },
    undefined,
  );
  assertEquals(plan.verdicts.map(({ guest: { work } }) => work.owner), ["early", "late"]);
  assertEquals(plan.verdicts.map(({ verdict }) => verdict.next), ["late", "late"]);
  const [first, third] = plan.verdicts.map(({ verdict }) => verdict.lastAt);
  assertEquals([first, plan.batch.granted[0]?.grant.at, third], [NOW, NOW + 1_000, NOW + 2_000]);
  assert(plan.changed);
});

test("a plan that changes nothing is not written, unless somebody says in it which permits it holds", () => {
  const base = freshState(permits, NOW);
  const changed = (work: Work<Caller>, all: readonly Guest[] = []) =>
    planFor(permits, base, work, { ...NO_GUESTS, all }, TERMS, undefined).changed;
  assertEquals(changed(workOf("me", 0)), false);
  // A grant that it has not heard of may be on its way to the store.
  assertEquals(changed(workOf("me", 0, NOW, { held: [] })), true);
  assertEquals(changed(workOf("me", 0), [guestOf(workOf("other", 0, NOW, { held: [] }))]), true);
});

test("others are told of a permit that somebody no longer declares, or no longer waits for, here or elsewhere [CON-2]", () => {
  const until = NOW + 900;
  const fresh = freshState(permits, NOW);
  const base = (waiting: readonly string[]) => ({
    ...fresh,
    parts: [shiftedBy(fresh.epoch, {
      holders: [{ owner: "it", until, permits: [1, 2] }, { owner: "other", until, permits: [1] }],
      waiting: waiting.map((owner) => ({ owner, since: NOW - 60, until, most: 9 })),
    })],
  });
  const tells = (work: Work<Caller>, waiting: readonly string[] = []) =>
    [
      planFor(permits, base(waiting), work, NO_GUESTS, TERMS, undefined),
      planFor(permits, base(waiting), workOf("me", 0), { ...NO_GUESTS, all: [guestOf(work)] }, TERMS, undefined),
    ].map(({ givesBack }) => givesBack);
  assertEquals(tells(workOf("it", 0, NOW, { held: [2] })), [true, true]);
  assertEquals(tells(workOf("it", 0, NOW, { held: [1, 2] })), [false, false]);
  assertEquals(tells(workOf("it", 0, NOW, { isMarked: true }), ["it"]), [true, true]);
  assertEquals(tells(workOf("it", 1, NOW, { isMarked: true }), ["it"]), [false, false]);
  assertEquals(tells(workOf("it", 0), ["other"]), [false, false]);
});

test("who handed its work over decides it again, and believes no verdict that differs", () => {
  const base = freshState(two, NOW);
  const work = workOf("me", 3);
  const own = workOf("writer", 0);
  const plan = planFor(two, base, own, { ...NO_GUESTS, all: [guestOf(work)] }, TERMS, undefined);
  const verdict = plan.verdicts[0]!.verdict;
  const again = planOf(two, work, verdict, NOW - 3);
  assertEquals(again?.state.parts, plan.state.parts);
  assertEquals([again?.batch.granted.length, again?.dealtWith, again?.decidedAt], [3, 3, NOW - 3]);
  for (const lie of [{ granted: 2 }, { dealtWith: 1 }, { lastAt: verdict.lastAt - 1 }]) {
    assertEquals(planOf(two, work, { ...verdict, ...lie }, NOW - 3), undefined);
  }
});

test("each of several guests decides its work again in the state that those before it left", () => {
  const base = freshState(two, NOW);
  const works = [workOf("first", 2, NOW - 9), workOf("second", 1, NOW - 5), workOf("third", 1, NOW + 1)];
  const all = works.map((work) => guestOf(work));
  const terms = { ...TERMS, horizon: NOW + 9_000 };
  const plan = planFor(two, base, workOf("writer", 1), { ...NO_GUESTS, all }, terms, undefined);
  const again = plan.verdicts.map(({ verdict }, i) => planOf(two, works[i]!, verdict, NOW));
  assertEquals(
    again.map((own) => own?.batch.granted.map(({ grant: { at } }) => at - NOW)),
    [[0, 0], [1_000], [3_000]],
  );
  assertEquals(again.at(-1)?.state.parts, plan.state.parts);
});

test("everything that a plan grants, here and elsewhere, counts for the rules of others [TB-13]", () => {
  const day = windowRule({ limit: 9, windowMs: 86_400_000, reserveAheadMs: 1_000, timingMarginMs: 10 }) as Rule;
  const other = { rule: day, part: day.initial, until: 3_600_000 };
  const base = { ...freshState(two, NOW), others: [other] };
  const all = [guestOf(workOf("early", 1, NOW - 9)), guestOf(workOf("late", 1, NOW + 1))];
  const terms = { ...TERMS, horizon: NOW + 9_000 };
  const { state } = planFor(two, base, workOf("me", 2), { ...NO_GUESTS, all }, terms, undefined);
  const left = state.others.map(({ rule, part }) => rule.usage(part, 9_000).remaining);
  assertEquals(left, [9 - 4]);
});

test("the last moment of a plan is that of any grant, here or elsewhere, in whatever order they are made", () => {
  const five: readonly Rule[] = [rateRule({ ratePerSecond: 1, burst: 5, timingMarginMs: 10 }) as Rule];
  const base = freshState(five, NOW);
  const latest = (leadHere: number, leadThere: number) => {
    const all = [guestOf(workOf("early", 1, NOW - 9, { lead: leadThere }))];
    const own = workOf("me", 1, NOW, { lead: leadHere });
    return planFor(five, base, own, { ...NO_GUESTS, all }, TERMS, undefined).latest - NOW;
  };
  assertEquals([latest(0, 0), latest(50, 10), latest(10, 50)], [0, 50, 50]);
  assertEquals(planFor(five, base, workOf("me", 0), NO_GUESTS, TERMS, undefined).latest, -Infinity);
});

test("slots that nobody waits for do not count among those who are dealt with, but all of them among those wanted", () => {
  const ahead: Caller = new Waiter({ cost: 1, owner: "me", permit: 0 }, NOW, NOW + 1_500, Infinity, undefined, 5);
  const work = workOf("me", 1);
  for (const [wanted, granted] of [[1, 1], [5, 1]] as const) {
    const requests = [...work.requests, ...Array.from({ length: wanted }, () => ahead)];
    const plan = planFor(two, freshState(two, NOW), { ...work, requests }, NO_GUESTS, SOON, undefined);
    assertEquals([plan.dealtWith, plan.ahead, plan.batch.granted.length], [1, wanted, 1 + granted]);
  }
});
