import {
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertLess,
  assertLessOrEqual,
  assertStrictEquals,
} from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import {
  concurrencyRule,
  leftToOthers,
  markWaiting,
  othersTook,
  releasePermit,
  renewPermits,
} from "../../../src/core/rules/concurrency.ts";
import type { Permits } from "../../../src/core/rules/states.ts";

const LEASE_MS = 1_000;
/** As many permits as no process here has. */
const MOST = 1_000;
const ruleOf = (maxConcurrent: number) => concurrencyRule({ maxConcurrent, leaseMs: LEASE_MS });
const demand = (owner: string, permit: number, cost = 1) => ({ cost, owner, permit });

test("concurrencyRule() grants up to its maximum and then nothing that time alone would bring [CON-1]", () => {
  const rule = ruleOf(3);
  let holders = rule.initial;
  for (let i = 0; i < 3; i++) {
    assertEquals(rule.earliest(holders, 5, demand("a", i)), 5);
    holders = rule.take(holders, 5, 5, demand("a", i));
  }
  assertEquals(rule.earliest(holders, 5, demand("b", 0)), Infinity);
  assertEquals(rule.usage(holders, 5).remaining, 0);
});

test("concurrencyRule() takes one permit whatever the cost", () => {
  const rule = ruleOf(2);
  const holders = rule.take(rule.initial, 0, 0, demand("a", 1, 100));
  assertEquals(rule.usage(holders, 0), { limit: 2, remaining: 1, resetAt: LEASE_MS });
});

test("releasePermit() frees only the owner's own permit, and once [CON-5]", () => {
  const rule = ruleOf(3);
  let holders = rule.initial;
  for (const owner of ["a", "b"]) holders = rule.take(holders, 0, 0, demand(owner, 7));
  const released = releasePermit(holders, "a", 7);
  assertEquals(rule.usage(released, 0).remaining, 2);
  assertStrictEquals(releasePermit(released, "a", 7), released);
  assertStrictEquals(releasePermit(released, "b", 8), released);
  assertStrictEquals(releasePermit(released, "nobody", 7), released);
  assertEquals(rule.usage(releasePermit(released, "b", 7), 0).remaining, 3);
});

test("concurrencyRule() gets the permits of a crashed holder back when its lease has run out [CON-6]", () => {
  const rule = ruleOf(1);
  const holders = rule.take(rule.initial, 100, 100, demand("crashed", 1));
  assertEquals(rule.earliest(holders, 100 + LEASE_MS - 0.001, demand("next", 1)), Infinity);
  assertEquals(rule.retryAt(holders, 500, demand("next", 1)), 100 + LEASE_MS);
  assertEquals(rule.earliest(holders, 100 + LEASE_MS, demand("next", 1)), 100 + LEASE_MS);
  const next = rule.take(holders, 100 + LEASE_MS, 100 + LEASE_MS, demand("next", 1));
  assertEquals(next.holders.map(({ owner }) => owner), ["next"]);
});

test("concurrencyRule() keeps a permit for a slot that is still to come until its lease after that", () => {
  const rule = ruleOf(1);
  const holders = rule.take(rule.initial, 700, 100, demand("a", 1));
  assertEquals(rule.earliest(holders, 100, demand("b", 1)), Infinity);
  assertEquals(rule.earliest(holders, 1_600, demand("b", 1)), Infinity);
  assertEquals(rule.earliest(holders, 1_700, demand("b", 1)), 1_700);
});

test("renewPermits() says exactly what its owner holds, and touches nobody else", () => {
  const rule = ruleOf(9);
  let holders = rule.initial;
  for (const permit of [1, 2, 3]) holders = rule.take(holders, 0, 0, demand("a", permit));
  holders = rule.take(holders, 0, 0, demand("b", 1));
  const renewed = renewPermits(holders, "a", [2], 5_000);
  assertEquals(renewed.holders.find(({ owner }) => owner === "a"), { owner: "a", until: 5_000, permits: [2] });
  assertEquals(renewed.holders.find(({ owner }) => owner === "b"), holders.holders.find(({ owner }) => owner === "b"));
  assertEquals(renewPermits(holders, "a", [], 5_000).holders.map(({ owner }) => owner), ["b"]);
  assertStrictEquals(renewPermits(rule.initial, "a", [], 5_000), rule.initial);
});

/** What concurrency with leases is, as plainly as can be said: a set of permits, and until when each owner's count. */
class Model {
  readonly permits = new Map<string, Set<number>>();
  readonly until = new Map<string, number>();

  constructor(readonly max: number) {}

  expire(now: number): void {
    for (const [owner, until] of this.until) if (until <= now) this.drop(owner);
  }

  drop(owner: string): void {
    this.permits.delete(owner);
    this.until.delete(owner);
  }

  get held(): number {
    return [...this.permits.values()].reduce((sum, { size }) => sum + size, 0);
  }
}

test("concurrencyRule() does what a set of permits with leases does, whatever happens [CON-1, CON-5, CON-6, CON-7]", () => {
  const owners = fc.constantFrom("a", "b", "c");
  const steps = fc.array(
    fc.oneof(
      {
        weight: 4,
        arbitrary: fc.record({ kind: fc.constant("take"), owner: owners, ahead: fc.constantFrom(0, 0, 300) }),
      },
      { weight: 3, arbitrary: fc.record({ kind: fc.constant("release"), owner: owners, which: fc.nat({ max: 5 }) }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant("renew"), owner: owners }) },
      { weight: 3, arbitrary: fc.record({ kind: fc.constant("wait"), ms: fc.constantFrom(1, 100, 400, 999, 1_000) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant("shift"), ms: fc.constantFrom(1, 500, 4_000_000) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant("store") }) },
    ),
    { maxLength: 100, size: "max" },
  );
  fc.assert(
    fc.property(fc.constantFrom(1, 2, 4), steps, (max, steps) => {
      const rule = ruleOf(max);
      const model = new Model(max);
      let holders: Permits = rule.initial;
      let now = 1e9;
      let epoch = 0;
      let next = 0;
      for (const step of steps) {
        model.expire(now);
        const time = now - epoch;
        if (step.kind === "wait") now += step.ms;
        else if (step.kind === "take") {
          const asked = demand(step.owner, ++next);
          const fits = rule.earliest(holders, time, asked);
          assertEquals(fits, model.held < max ? time : Infinity);
          if (fits === Infinity) continue;
          holders = rule.take(holders, time + step.ahead, time, asked);
          const own = model.permits.get(step.owner) ?? new Set();
          model.permits.set(step.owner, own.add(next));
          const until = now + step.ahead + LEASE_MS;
          model.until.set(step.owner, Math.max(model.until.get(step.owner) ?? 0, until));
        } else if (step.kind === "release") {
          const own = [...model.permits.get(step.owner) ?? []];
          const permit = own[step.which] ?? 1_000;
          holders = releasePermit(holders, step.owner, permit);
          model.permits.get(step.owner)?.delete(permit);
          if (model.permits.get(step.owner)?.size === 0) model.drop(step.owner);
        } else if (step.kind === "renew") {
          const own = [...model.permits.get(step.owner) ?? []];
          holders = renewPermits(holders, step.owner, own, time + LEASE_MS);
          if (own.length > 0) model.until.set(step.owner, now + LEASE_MS);
        } else if (step.kind === "shift") {
          holders = rule.shift(holders, step.ms);
          epoch += step.ms;
        } else {
          const decoded = rule.decode(JSON.parse(JSON.stringify(holders)));
          assertEquals(decoded, holders);
        }
        model.expire(now);
        assertEquals(rule.usage(holders, now - epoch).remaining, max - model.held);
        assertLessOrEqual(model.held, max);
        const soonest = Math.min(...model.until.values());
        const retryAt = rule.retryAt(holders, now - epoch, demand("x", 0));
        assertEquals(retryAt + epoch, model.held < max ? now : Math.min(soonest, now + LEASE_MS));
        // Until then the store has to remember the state.
        const latest = Math.max(now, ...model.until.values());
        assertEquals(Math.max(now, rule.idleFrom(holders) + epoch), latest);
      }
    }),
    { numRuns: 500 },
  );
});

test("concurrencyRule() leaves nothing in the exhausted state, and everything a lease later", () => {
  const rule = ruleOf(5);
  const holders = rule.exhausted(100);
  assertEquals(rule.usage(holders, 100).remaining, 0);
  assertEquals(rule.earliest(holders, 100, demand("a", 1)), Infinity);
  assertEquals(rule.usage(holders, 100 + LEASE_MS).remaining, 5);
  assertEquals(rule.idleFrom(holders), 100 + LEASE_MS);
  assertEquals(rule.idleFrom(rule.initial), -Infinity);
});

test("concurrencyRule() counts more than its maximum as none left, when another process allows more [TB-13]", () => {
  const wide = ruleOf(5);
  let holders = wide.initial;
  for (let i = 0; i < 5; i++) holders = wide.take(holders, 0, 0, demand("a", i));
  assertEquals(ruleOf(2).usage(holders, 0).remaining, 0);
  assertEquals(ruleOf(2).earliest(holders, 0, demand("b", 1)), Infinity);
});

test("a process that has waited for a while is left the next free permit [CON-2]", () => {
  const rule = ruleOf(1);
  let state = rule.take(rule.initial, 0, 0, demand("holder", 1));
  state = markWaiting(state, "waiter", MOST, 10, 10, 5_000);
  state = releasePermit(state, "holder", 1);
  // For a moment whoever is first takes it, and then nobody but who waits.
  assertEquals(rule.earliest(state, 20, demand("holder", 2)), 20);
  assertEquals(rule.earliest(state, 500, demand("holder", 2)), Infinity);
  assertEquals(rule.earliest(state, 500, demand("waiter", 1)), 500);
  const taken = rule.take(state, 500, 500, demand("waiter", 1));
  assertEquals(taken.waiting, []);
});

const claims: { title: string; a: Claim; b: Claim; comesFirst: "a" | "b" | "both" }[] = [
  { title: "that holds fewer", a: { held: 3, waitedMs: 40 }, b: { held: 1, waitedMs: 1 }, comesFirst: "b" },
  { title: "that has waited longer", a: { held: 2, waitedMs: 60 }, b: { held: 2, waitedMs: 1 }, comesFirst: "a" },
  {
    title: "that is first, for a moment",
    a: { held: 2, waitedMs: 40 },
    b: { held: 2, waitedMs: 1 },
    comesFirst: "both",
  },
  {
    title: "that holds fewer, when all wait",
    a: { held: 3, waitedMs: 3_000 },
    b: { held: 0, waitedMs: 2_000 },
    comesFirst: "b",
  },
  { title: "that waits for seconds", a: { held: 3, waitedMs: 3_100 }, b: { held: 0, waitedMs: 50 }, comesFirst: "a" },
];

/** What speaks for a process that waits. */
interface Claim {
  readonly held: number;
  readonly waitedMs: number;
}

for (const { title, a, b, comesFirst } of claims) {
  test(`a free permit is left to the process ${title} [CON-2, TB-9]`, () => {
    const NOW = 10_000;
    const until = NOW + LEASE_MS;
    const owners = Object.entries({ a, b });
    const holders = owners.map(([owner, { held }]) => ({
      owner,
      until,
      permits: Array.from({ length: held }, (_, permit) => permit),
    }));
    const waiting = owners.map(([owner, { waitedMs }]) => ({ owner, since: NOW - waitedMs, until, most: MOST }));
    const rule = ruleOf(a.held + b.held + 1);
    const may = (owner: string) => rule.earliest({ holders, waiting }, NOW, demand(owner, 99)) === NOW;
    assertEquals([may("a"), may("b")], [comesFirst !== "b", comesFirst !== "a"]);
  });
}

test("two processes that wait never leave each other the same permit, however long they take to look [CON-2]", () => {
  const START = 10_000;
  const claim = fc.record({ held: fc.nat({ max: 4 }), waitedMs: fc.nat({ max: 4_000 }) });
  fc.assert(fc.property(claim, claim, fc.nat({ max: 3_000 }), (a, b, laterMs) => {
    const owners = Object.entries({ a, b });
    const state = {
      holders: owners.map(([owner, { held }]) => ({
        owner,
        until: 99_999,
        permits: Array.from({ length: held }, (_, permit) => permit),
      })),
      waiting: owners.map(([owner, { waitedMs }]) => ({ owner, since: START - waitedMs, until: 99_999, most: MOST })),
    };
    const rule = ruleOf(a.held + b.held + 1);
    const may = (owner: string, now: number) => rule.earliest(state, now, demand(owner, 99)) === now;
    for (const [first, then] of [["a", "b"], ["b", "a"]] as const) {
      assertEquals(may(first, START) || may(then, START + laterMs), true);
    }
  }));
});

test("what is left to a process that allows fewer permits is free by its limit, unless that takes long [CON-2, TB-13]", () => {
  const loose = ruleOf(9);
  const strict = ruleOf(2);
  const until = 99_999;
  const waiting = [{ owner: "strict", since: 0, until, most: 2 }];
  const holding = (...permits: number[]) => ({ holders: [{ owner: "loose", until, permits }], waiting });
  const may = (now: number, ...permits: number[]) => [
    loose.earliest(holding(...permits), now, demand("loose", 99)) === now,
    strict.earliest(holding(...permits), now, demand("strict", 99)) === now,
  ];
  assertEquals(may(1_000, 1, 2, 3), [false, false]);
  assertEquals(may(1_000, 1, 2), [false, false]);
  assertEquals(may(1_000, 1), [false, true]);
  assertEquals(may(5_000, 1, 2, 3), [true, false]);
});

test("what is left to several processes is free by the strictest of their limits [CON-2, TB-13]", () => {
  const loose = ruleOf(9);
  const until = 99_999;
  const strict = [{ owner: "strict", since: 0, until, most: 4 }, { owner: "stricter", since: 10, until, most: 3 }];
  for (const waiting of [strict, strict.toReversed()]) {
    const holding = (...permits: number[]) => ({ holders: [{ owner: "loose", until, permits }], waiting });
    const may = (...permits: number[]) => loose.earliest(holding(...permits), 1_000, demand("loose", 99)) === 1_000;
    assertEquals([may(), may(1)], [true, false]);
  }
});

test("permits whose lease has run out speak no longer against the process that held them [CON-2, TB-9]", () => {
  const rule = ruleOf(2);
  const waiting = [
    { owner: "late", since: 900, until: 9_000, most: MOST },
    { owner: "other", since: 980, until: 9_000, most: MOST },
  ];
  const holders = [
    { owner: "late", until: 1_000, permits: [1, 2] },
    { owner: "other", until: 9_000, permits: [1] },
  ];
  const may = (owner: string) => rule.earliest({ holders, waiting }, 1_100, demand(owner, 99)) === 1_100;
  assertEquals([may("late"), may("other")], [true, false]);
});

test("leftToOthers() tells what a process gave up from what it took itself", () => {
  const rule = ruleOf(2);
  const waits = markWaiting(rule.take(rule.initial, 0, 0, demand("other", 1)), "me", MOST, 10, 10, 2_000);
  assertEquals(leftToOthers(waits, rule.take(waits, 20, 20, demand("me", 1)), "me"), false);
  assertEquals(leftToOthers(waits, markWaiting(waits, "me", MOST, undefined, 20, 2_000), "me"), true);
});

test("whose turn it is among many processes takes a few looks at each", () => {
  const PROCESSES = 200;
  let looks = 0;
  const seen = (owner: string, more: { permits: number[] } | { since: number; most: number }) => ({
    ...{ until: 20_000, ...more },
    get owner() {
      looks++;
      return owner;
    },
  });
  const owners = Array.from({ length: PROCESSES }, (_, i) => `process${i}`);
  const holders = owners.map((owner) => seen(owner, { permits: [1] })) as Permits["holders"];
  const waiting = owners.map((owner) => seen(owner, { since: 9_900, most: MOST })) as Permits["waiting"];
  assertEquals(ruleOf(PROCESSES + 1).earliest({ holders, waiting }, 10_000, demand("process7", 2)), 10_000);
  assertLess(looks, 10 * PROCESSES);
});

test("a free permit is never left to nobody: one of the processes that wait may take it [CON-2]", () => {
  const names = ["a", "b", "c", "d"];
  const marks = fc.uniqueArray(
    fc.record({
      owner: fc.constantFrom(...names),
      since: fc.integer({ min: -2_000, max: 0 }),
      until: fc.constant(9),
      most: fc.constant(MOST),
    }),
    { selector: ({ owner }) => owner, minLength: 1 },
  );
  const counts = fc.array(fc.nat({ max: 3 }), { minLength: 4, maxLength: 4 });
  fc.assert(fc.property(marks, counts, fc.integer({ min: 1, max: 3 }), (waiting, held, free) => {
    const holders = held.map((count, i) => ({
      owner: names[i]!,
      until: 9,
      permits: Array.from({ length: count }, (_, permit) => permit),
    })).filter(({ permits }) => permits.length > 0);
    const rule = ruleOf(held.reduce((sum, count) => sum + count, free));
    const state = { holders, waiting };
    const may = waiting.filter(({ owner }) => rule.earliest(state, 0, demand(owner, 99)) === 0);
    assertGreaterOrEqual(may.length, Math.min(free, waiting.length));
  }));
});

test("of the processes that wait, those that have waited longest are left the permits that are free [CON-2, TB-9]", () => {
  const start = 5_000_000;
  fc.assert(
    fc.property(
      fc.constantFrom(1, 2, 4),
      fc.array(fc.constantFrom(0, 1, 100, 900), { minLength: 1, maxLength: 7 }),
      fc.boolean(),
      fc.constantFrom(0, 1, 4_000_000),
      (max, sinces, isReleased, shiftMs) => {
        const rule = ruleOf(max);
        let state: Permits = rule.initial;
        for (let i = 0; i < max; i++) state = rule.take(state, start, start, demand("holder", i));
        for (const [i, since] of sinces.entries()) {
          state = markWaiting(state, `waiter${i}`, MOST, start + since, start + since, 5_000);
        }
        // Otherwise the lease runs out just now.
        for (let i = 0; i < max && isReleased; i++) state = releasePermit(state, "holder", i);
        state = rule.shift(state, shiftMs);
        const now = start + LEASE_MS - shiftMs;
        // Who has waited equally long does not wait for each other.
        const before = (since: number) => sinces.filter((other) => other < since).length;
        for (const [i, since] of sinces.entries()) {
          const fits = before(since) < max;
          assertEquals(rule.earliest(state, now, demand(`waiter${i}`, 1)), fits ? now : Infinity);
          assertEquals(rule.retryAt(state, now, demand(`waiter${i}`, 1)), fits ? now : now + LEASE_MS);
        }
        assertEquals(rule.earliest(state, now, demand("newcomer", 1)), sinces.length < max ? now : Infinity);
      },
    ),
  );
});

test("who goes on waiting says so again before others cease to believe it, not each time, and keeps its place [CON-2]", () => {
  const start = 5_000_000;
  const rule = ruleOf(2);
  // It has one permit and wants another.
  let state = rule.take(rule.initial, start, start, demand("waiter", 1));
  state = rule.take(state, start, start, demand("holder", 1));
  let told = 0;
  for (let now = start; now < start + 10_000; now += 100) {
    const before = state;
    state = markWaiting(state, "waiter", MOST, now, now, 1_000);
    if (state !== before) told++;
    const [mark] = state.waiting;
    assertEquals([state.waiting.length, mark?.owner, mark?.since], [1, "waiter", start]);
    assertGreater(mark?.until ?? 0, now + 100);
  }
  assertLessOrEqual(told, 20);
});

test("a process that waits no more, or has crashed, keeps nobody from a permit", () => {
  const rule = ruleOf(1);
  const held = rule.take(rule.initial, 0, 0, demand("holder", 1));
  const waiting = releasePermit(markWaiting(held, "waiter", MOST, 10, 10, 2_000), "holder", 1);
  assertEquals(rule.earliest(waiting, 500, demand("holder", 2)), Infinity);
  assertEquals(
    rule.earliest(markWaiting(waiting, "waiter", MOST, undefined, 400, 2_000), 500, demand("holder", 2)),
    500,
  );
  assertEquals(rule.earliest(waiting, 2_010, demand("holder", 2)), 2_010);
  const shifted = rule.shift(waiting, 100);
  assertEquals(rule.earliest(shifted, 1_909, demand("holder", 2)), Infinity);
  assertEquals(rule.earliest(shifted, 1_910, demand("holder", 2)), 1_910);
});

test("othersTook() tells permits that others have taken from those that were there, were released, or are one's own", () => {
  const rule = ruleOf(3);
  const before = rule.take(rule.initial, 0, 0, demand("other", 1));
  assertEquals(othersTook(before, before, "me"), false);
  assertEquals(othersTook(before, rule.take(before, 1, 1, demand("me", 1)), "me"), false);
  assertEquals(othersTook(before, releasePermit(before, "other", 1), "me"), false);
  assertEquals(othersTook(before, renewPermits(before, "other", [1], 5_000), "me"), false);
  const passedOn = rule.take(releasePermit(before, "other", 1), 1, 1, demand("other", 2));
  assertEquals(othersTook(before, passedOn, "me"), true);
  assertEquals(othersTook(before, rule.take(before, 1, 1, demand("third", 1)), "me"), true);
  assertEquals(othersTook(before, rule.take(before, 1, 1, demand("other", 2)), "me"), true);
});

test("markWaiting() writes nothing where nobody else is there to read it", () => {
  const rule = ruleOf(1);
  const alone = rule.take(rule.initial, 0, 0, demand("me", 1));
  assertStrictEquals(markWaiting(alone, "me", MOST, 10, 10, 2_000), alone);
  assertStrictEquals(markWaiting(alone, "me", MOST, undefined, 10, 2_000), alone);
});

const holder = { owner: "a", until: 5, permits: [1] };
const mark = { owner: "a", since: 1, until: 5, most: 3 };
const states: unknown[] = [null, undefined, 1, "{}", [], [holder], {}, { holders: [] }, { waiting: [] }];
for (
  const holders of [
    null,
    1,
    "[]",
    {},
    [null],
    [[]],
    [1],
    [{ ...holder, owner: 1 }],
    [{ ...holder, until: "5" }],
    [{ ...holder, until: Infinity }],
    [{ ...holder, permits: 1 }],
    [{ ...holder, permits: [1.5] }],
    [{ ...holder, permits: ["1"] }],
    [holder, { owner: "b" }],
  ]
) {
  states.push({ holders, waiting: [] });
}
for (
  const waiting of [
    null,
    {},
    [null],
    [1],
    [{ ...mark, owner: 1 }],
    [{ ...mark, since: "1" }],
    [{ ...mark, since: -Infinity }],
    [{ ...mark, most: undefined }],
    [{ ...mark, most: "3" }],
    [{ ...mark, until: -Infinity }],
    [mark, { owner: "b" }],
  ]
) {
  states.push({ holders: [], waiting });
}
for (const json of states) {
  test(`concurrencyRule().decode() does not take ${JSON.stringify(json)} for a state`, () => {
    assertEquals(ruleOf(1).decode(json), undefined);
  });
}

test("concurrencyRule() says that all permits are taken in a few bytes, however many there are", () => {
  for (const maximum of [1, 1_000_000_000, Number.MAX_SAFE_INTEGER]) {
    const rule = ruleOf(maximum);
    const exhausted = rule.exhausted(0);
    assertLessOrEqual(JSON.stringify(exhausted).length, 100);
    assertEquals(rule.usage(exhausted, LEASE_MS - 1).remaining, 0);
    assertEquals(rule.usage(exhausted, LEASE_MS).remaining, maximum);
  }
});
