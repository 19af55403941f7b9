import { assert, assertAlmostEquals, assertEquals, assertLessOrEqual } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { freshState, stateCodec } from "../../../src/core/decision/state.ts";
import type { Rule } from "../../../src/core/rules/rule.ts";
import { ruleOf, rulesOf } from "../../../src/core/rules/rules.ts";
import { resolveLimiter } from "../../../src/core/limiter/defaults.ts";
import { type PureLimiter, pureLimiter, type PureLimiterOptions } from "../../../src/standalone/pure_limiter.ts";
import { TERMS } from "../../support/rule_terms.ts";

const NOW = Date.UTC(2030, 0, 1);
const HOUR_MS = 3_600_000;
const WINDOW_MS = 10_000;

type Json = { readonly [field: string]: unknown; readonly others?: Readonly<Record<string, readonly unknown[]>> };

/** A value that processes with these options change in turn. */
function shared() {
  let value: Uint8Array | undefined;
  const limiterOf = (options: PureLimiterOptions) => {
    const limiter = pureLimiter("api", options);
    return {
      /** Whether it fits within `waitMs`, and if not, for how long. */
      ask(now: number, cost = 1, holder?: string, waitMs = 0) {
        const request = { cost, startBy: now + waitMs };
        const decision = limiter.decide(value, now, holder === undefined ? request : { ...request, holder });
        if (decision.value) value = decision.value;
        return { allowed: decision.allowed, retryAfterMs: decision.allowed ? 0 : decision.retryAt - now };
      },
      left: (now: number) => limiter.usage(value, now).remaining,
    };
  };
  const json = (): Json => JSON.parse(new TextDecoder().decode(value));
  const put = (json: object) => value = new TextEncoder().encode(JSON.stringify(json));
  return { limiterOf, json, put };
}

test("whoever raises a rate waits no longer than by the new rate [TB-13]", () => {
  const cases: readonly (readonly [PureLimiterOptions, PureLimiterOptions, mostMs: number])[] = [
    [{ ratePerSecond: 1, burst: 100 }, { ratePerSecond: 10, burst: 100 }, 100],
    [{ ratePerSecond: 0.01 }, { ratePerSecond: 1_000 }, 1],
    [{ ratePerSecond: 0.01, burst: 5 }, { ratePerSecond: 0.01, burst: 10 }, 0],
    // And whoever lowers it no longer than after a burst of its own.
    [{ ratePerSecond: 100, burst: 1_000 }, { ratePerSecond: 1 }, 1_000],
    [{ ratePerSecond: 100, burst: 1_000 }, { ratePerSecond: 1, burst: 5 }, 1_000],
  ];
  for (const [before, after, mostMs] of cases) {
    const { limiterOf } = shared();
    const [old, young] = [limiterOf(before), limiterOf(after)];
    assert(old.ask(NOW, before.burst ?? 1).allowed);
    const { retryAfterMs } = young.ask(NOW);
    for (let ms = 1; ms < retryAfterMs; ms += retryAfterMs / 7) young.ask(NOW + ms); // which changes nothing
    assert(retryAfterMs <= mostMs, `${retryAfterMs} ms from ${JSON.stringify(before)} to ${JSON.stringify(after)}`);
    assert(young.ask(NOW + retryAfterMs).allowed);
  }
});

test("as much of a new rate is used as was of the one in whose place it stands [TB-13]", () => {
  const { limiterOf } = shared();
  assert(limiterOf({ ratePerSecond: 0.01, burst: 100 }).ask(NOW, 60).allowed);
  assertEquals(limiterOf({ ratePerSecond: 0.02, burst: 100 }).left(NOW), 40);
  assertEquals(limiterOf({ ratePerSecond: 0.005, burst: 100 }).left(NOW), 40);
  assertEquals(limiterOf({ ratePerSecond: 0.01, burst: 80 }).left(NOW), 20);
  assertEquals(limiterOf({ ratePerSecond: 0.01, burst: 50 }).left(NOW), 0);
});

test("a new rate starts nothing before what was reserved ahead by the one in whose place it stands [TB-13]", () => {
  const { limiterOf } = shared();
  const old = limiterOf({ ratePerSecond: 10, reserveAheadMs: 1_000 });
  for (let i = 0; i < 11; i++) assert(old.ask(NOW, 1, undefined, 1_000).allowed);
  // The last slot of the old rate is at 1,000 ms, and the one after it of the new rate 200 ms later.
  assertEquals(limiterOf({ ratePerSecond: 5 }).ask(NOW).retryAfterMs, 1_200);
});

test("of several rates, a new one stands in the place of the one that makes it wait longest [TB-13]", () => {
  const entries = [["1/s, burst 1", 500], ["0.1/s, burst 1", 9_000]] as const;
  for (const [last, other] of [entries, entries.toReversed()]) {
    const { limiterOf, put } = shared();
    const [[rules, rate], [label, part]] = [last!, other!];
    put({ v: 1, rules, epoch: NOW, rate, others: { [label]: [HOUR_MS, part] }, writers: [] });
    // Half of an interval is left of one of them, and nine tenths of the other.
    assertEquals(limiterOf({ ratePerSecond: 2 }).ask(NOW).retryAfterMs, 450);
  }
});

test("a limit takes the place of none of another kind [TB-13]", () => {
  const kinds: readonly PureLimiterOptions[] = [
    { ratePerSecond: 0.01, burst: 5 },
    { algorithm: "sliding_window", limit: 5, windowMs: HOUR_MS },
    { maxConcurrent: 5 },
  ];
  for (const [i, before] of kinds.entries()) {
    for (const after of kinds.toSpliced(i, 1)) {
      const { limiterOf } = shared();
      assert(limiterOf(before).ask(NOW, 1, before.maxConcurrent ? "somebody" : undefined).allowed);
      assertEquals(limiterOf(after).left(NOW), 5, `${JSON.stringify(before)}, then ${JSON.stringify(after)}`);
    }
  }
});

test("a limit that is added before others takes nothing of theirs, and loses nothing to them [TB-13]", () => {
  const { limiterOf } = shared();
  const quota = { limit: 100, windowMs: HOUR_MS };
  const old = limiterOf({ rates: [quota] });
  const young = limiterOf({ rates: [{ limit: 50, windowMs: 1_000 }, quota] });
  assert(old.ask(NOW, 60).allowed);
  assert(young.ask(NOW + 2_000, 30).allowed, "the sixty were long ago");
  assertEquals(young.ask(NOW + 2_100, 30).allowed, false);
  assertEquals([old.left(NOW + 2_100), young.left(NOW + 2_100)], [10, 10]);
  assert(old.ask(NOW + 2_200, 5).allowed);
  assertEquals(young.ask(NOW + 2_300, 20).allowed, false, "what the others start counts for the limit that they lack");
  assert(young.ask(NOW + 4_000, 5).allowed);
});

test("what one process grants counts for the rules of the other, however often they take turns [TB-13]", () => {
  const { limiterOf, json } = shared();
  const strict = limiterOf({ algorithm: "sliding_window", limit: 3, windowMs: HOUR_MS });
  const loose = limiterOf({ algorithm: "sliding_window", limit: 10, windowMs: HOUR_MS });
  const taken = [strict, loose, strict, loose, strict].filter((limiter, i) => limiter.ask(NOW + i).allowed);
  assertEquals(taken.length, 4, "three for the strict one, which counts those of the loose one");
  let more = 0;
  while (loose.ask(NOW + 10 + more).allowed) more++;
  assertEquals(more, 6);
  assertEquals(json()["rules"], "10 in any 3600 s");
  assertEquals(Object.keys(json().others ?? {}), ["3 in any 3600 s"]);
});

test("a rule that grants less never gets into debt by what another one grants [TB-13]", () => {
  const { limiterOf } = shared();
  const strict = limiterOf({ ratePerSecond: 1, burst: 2 });
  const loose = limiterOf({ ratePerSecond: 100 });
  assert(strict.ask(NOW).allowed);
  let now = NOW;
  assertEquals(loose.ask(now).retryAfterMs, 10);
  for (let i = 0; i < 1_000; i++) assert(loose.ask(now += 10).allowed);
  assertEquals(strict.ask(now).retryAfterMs, 1_000);
});

test("what is reserved ahead counts for the rules of others when it starts, and not sooner [TB-13]", () => {
  const { limiterOf } = shared();
  const window = limiterOf({ algorithm: "sliding_window", limit: 5, windowMs: 1_000 });
  const rate = limiterOf({ ratePerSecond: 1 });
  assert(window.ask(NOW).allowed);
  assert(rate.ask(NOW).allowed);
  assert(rate.ask(NOW, 1, undefined, 1_000).allowed, "for a second later");
  assertEquals(window.left(NOW + 1_600), 4);

  const { limiterOf: limiterWith } = shared();
  const strict = limiterWith({ ratePerSecond: 1 });
  assert(strict.ask(NOW - 400).allowed);
  assert(limiterWith({ ratePerSecond: 2 }).ask(NOW, 1, undefined, 500).allowed, "for 300 ms later");
  assertEquals(strict.ask(NOW).retryAfterMs, 1_300);
});

test("what others grant frees nothing of what a process has reserved ahead [TB-13]", () => {
  const { limiterOf } = shared();
  const rate = limiterOf({ ratePerSecond: 1, reserveAheadMs: 5_000 });
  for (let i = 0; i < 4; i++) assert(rate.ask(NOW, 1, undefined, 5_000).allowed);
  assertEquals(rate.ask(NOW).retryAfterMs, 4_000);
  assert(limiterOf({ algorithm: "sliding_window", limit: 10, windowMs: 10_000 }).ask(NOW).allowed);
  assertEquals(rate.ask(NOW).retryAfterMs, 4_000);
});

test("the permits are the same for all, however many each process allows [TB-13]", () => {
  const { limiterOf, json } = shared();
  const two = limiterOf({ maxConcurrent: 2 });
  const three = limiterOf({ maxConcurrent: 3 });
  const none = limiterOf({ ratePerSecond: 1_000 });
  for (const [i, limiter] of [two, three, two, three].entries()) limiter.ask(NOW, 1, `holder ${i}`);
  assertEquals(two.ask(NOW, 1, "one more").allowed, false);
  assertEquals([two.left(NOW), three.left(NOW)], [0, 0]);
  assert(none.ask(NOW).allowed);
  assertEquals([two.left(NOW), three.left(NOW)], [0, 0], "a process that limits no concurrency keeps them");
  assertEquals(Object.keys(json().others ?? {}), ["3 at the same time"]);
});

test("who limits no concurrency takes no permit from those that do [TB-13]", () => {
  const { limiterOf } = shared();
  const two = limiterOf({ maxConcurrent: 2 });
  const none = limiterOf({ ratePerSecond: 1_000 });
  assert(two.ask(NOW, 1, "somebody").allowed);
  for (let i = 1; i < 5; i++) assert(none.ask(NOW + i).allowed);
  assertEquals(two.left(NOW + 5), 1);
});

test("the rules of others leave the value when all of it is available again, or after an hour without them", () => {
  const { limiterOf, json } = shared();
  const old = limiterOf({ ratePerSecond: 1, burst: 10 });
  const young = limiterOf({ ratePerSecond: 2, burst: 10 });
  assert(old.ask(NOW, 3).allowed);
  assert(young.ask(NOW).allowed);
  assertEquals(json().others, { "1/s, burst 10": [HOUR_MS, 4_000] });
  assert(young.ask(NOW + 4_100).allowed);
  assertEquals(json().others, undefined);

  assert(old.ask(NOW + 5_000, 3).allowed);
  const last = NOW + 5_000 + HOUR_MS;
  let now = NOW + 5_000;
  for (; now < last; now += 700) {
    assert(young.ask(now).allowed);
    assertEquals(Object.keys(json().others ?? {}), ["1/s, burst 10"]);
  }
  assert(young.ask(now).allowed);
  assertEquals(json().others, undefined);
});

test("limits that change all the time leave the rules of those that wrote last, and no more than 16", () => {
  const { limiterOf, json } = shared();
  const windowOf = (limit: number) => limiterOf({ algorithm: "sliding_window", limit, windowMs: HOUR_MS });
  const steady = windowOf(7);
  for (let i = 0; i < 50; i++) {
    assert(windowOf(100 + i).ask(NOW + i).allowed);
    // Forgotten or not, it counts what all others start.
    assertEquals(steady.left(NOW + i), Math.max(0, 6 - i));
  }
  const others = Object.keys(json().others ?? {});
  assertEquals(others, Array.from({ length: 16 }, (_, i) => `${148 - i} in any 3600 s`));
});

test("limits that change all the time do not displace one of which something is used for longer [TB-13]", () => {
  const { limiterOf } = shared();
  const quota = limiterOf({ algorithm: "sliding_window", limit: 100, windowMs: 24 * HOUR_MS });
  assert(quota.ask(NOW, 70).allowed);
  for (let i = 0; i < 20; i++) assert(limiterOf({ ratePerSecond: 0.01, burst: 50 + i }).ask(NOW + i).allowed);
  assertEquals(quota.left(NOW + 20), 10);
});

test("what is granted for longer than an hour counts for its process, however long that one is silent [TB-13]", () => {
  const DAY_MS = 24 * HOUR_MS;
  for (const windowMs of [DAY_MS, 30 * DAY_MS]) {
    const { limiterOf } = shared();
    const quota = limiterOf({ algorithm: "sliding_window", limit: 10, windowMs });
    const other = limiterOf({ ratePerSecond: 1 });
    assert(quota.ask(NOW, 7).allowed);
    for (const hours of [2, 4]) assert(other.ask(NOW + hours * HOUR_MS).allowed);
    assertEquals(quota.left(NOW + 5 * HOUR_MS), 1);
    assertEquals(quota.left(NOW + windowMs + 5 * HOUR_MS), 10);
  }
});

test("the epoch moves on with what is kept for others", () => {
  const { limiterOf, json } = shared();
  const day = { limit: 10, windowMs: 24 * HOUR_MS };
  assert(limiterOf({ rates: [day, { limit: 5, windowMs: 1_000 }] }).ask(NOW, 3).allowed);
  const second = limiterOf({ rates: [day, { limit: 5, windowMs: 20 * HOUR_MS }] });
  assert(second.ask(NOW + 1_000).allowed);
  assert(limiterOf({ rates: [day] }).ask(NOW + 1_900_000).allowed);
  const before = json();
  assert(limiterOf({ rates: [day] }).ask(NOW + 4_100_000).allowed);
  const after = json();
  assertEquals([before["epoch"], after["epoch"]], [NOW, NOW + 4_100_000]);
  const [untilBefore, logBefore] = before.others?.["5 in any 72000 s"] ?? [];
  const [untilAfter, logAfter] = after.others?.["5 in any 72000 s"] ?? [];
  assertEquals(Number(untilAfter) - Number(untilBefore), -4_100_000);
  assertAlmostEquals((logAfter as number[])[0]!, (logBefore as number[])[0]! - 4_100_000, 1e-6); // it is a log
});

test("what stands among the rules of others and cannot be one is left out", () => {
  const { limiterOf, json, put } = shared();
  const good = [60_000, 50_000];
  const log = [50_000, 1];
  const permits = { holders: [{ owner: "a", until: 50_000, permits: [1] }], waiting: [] };
  const rest = { v: 1, rules: "10/s, burst 1", epoch: NOW, rate: 0, writers: [] };
  const limiter = limiterOf({ ratePerSecond: 10 });
  for (
    const others of [
      null,
      7,
      "text",
      [good],
      { "0.1/s, burst 9": null },
      { "0.1/s, burst 9": 5 },
      { "0.1/s, burst 9": [60_000] },
      { "0.1/s, burst 9": ["60000", 50_000] },
      { "0.1/s, burst 9": [60_000, [1, 2]] },
      { "0.1/s, burst 9": [9e15, 50_000] },
      { "0.1/s, burst 9": [-1, 50_000] },
      { "0.1/s, burst 9, or so": good },
      { "-1/s, burst -9": good },
      { "Infinity/s, burst 9": good },
      { "0/s, burst 1": good },
      { "9 of everything": good },
      { "0.1/s burst 9": good },
      { "5 in any 0 s": [60_000, log] },
      { "5 in any Infinity s": [60_000, log] },
      { "0 in any 10 s": [60_000, log] },
      { "5 in any 10 s": [60_000, "all"] },
      { "5 at the same time": [60_000, null] },
      { "0 at the same time": [60_000, permits] },
      { "5 of everything": [60_000, permits] },
    ]
  ) {
    put({ ...rest, others });
    assert(limiter.ask(NOW).allowed);
    assertEquals(json(), { ...rest, rate: 100 }, JSON.stringify(others));
  }
  put({ ...rest, others: { "0.1/s, burst 9": good } });
  assert(limiter.ask(NOW).allowed);
  assertEquals(json().others, { "0.1/s, burst 9": [60_000, 60_000] });
});

test("a rule that takes the place of another one is new until it is written, and then no more", () => {
  const day = { limit: 100, windowMs: 24 * HOUR_MS };
  const rulesWith = (limit: number) =>
    rulesOf(resolveLimiter("api", { rates: [{ limit, windowMs: 1_000 }, day] }), TERMS);
  const old = rulesWith(5);
  const young = rulesWith(9);
  const [oldCodec, youngCodec] = [stateCodec(old, TERMS), stateCodec(young, TERMS)];
  const demand = { cost: 1, owner: "p", permit: 1 };
  const fresh = freshState(old, NOW);
  const used = { ...fresh, parts: old.map((rule) => rule.take(rule.initial, 0, 0, demand)) };
  const decoded = youngCodec.decode(oldCodec.encode(used), NOW);
  assert(decoded.kind === "state");
  assertEquals(decoded.isNew, true, "although the day is as it was");
  const again = youngCodec.decode(youngCodec.encode(decoded.state), NOW);
  assert(again.kind === "state");
  assertEquals([again.isNew, again.state.others.length], [false, 1], "although a rule of its kind is still there");
});

test("a value whose rules nobody understands is read by the places of the limits", () => {
  const { limiterOf, put } = shared();
  put({ v: 1, rules: "as many as you like", epoch: NOW, rate: 0, window: [0, 4], writers: [] });
  assertEquals(limiterOf({ algorithm: "sliding_window", limit: 5, windowMs: HOUR_MS }).left(NOW), 1);
});

test("ruleOf() makes each rule from its own label", () => {
  const config = resolveLimiter("api", {
    ratePerSecond: 12_345.678,
    burst: 1.5,
    maxConcurrent: 3,
    rates: [{ limit: 7, windowMs: 60_000, burst: 2 }, { limit: 9, windowMs: 1_005 }, { limit: 1e6, windowMs: 0.1 }],
  });
  const rules = rulesOf(config, TERMS);
  const shapeOf = ({ earliest: _, ...rest }: Rule) =>
    Object.entries(rest).filter(([, value]) => typeof value !== "function");
  for (const rule of rules) assertEquals(shapeOf(ruleOf(rule.label, TERMS)!), shapeOf(rule));
  assertEquals(stateCodec(rules, TERMS).fingerprint.split("; ").length, 5);
});

interface Start {
  readonly at: number;
  readonly cost: number;
  /** Whether it was granted for a later moment than the one of the request. */
  readonly isReserved: boolean;
}

interface Ask {
  /** Which of the processes asks. */
  readonly process: number;
  /** How long after the one before, in milliseconds. */
  readonly afterMs: number;
  /** The part of what its process allows at once. */
  readonly part: number;
  readonly waitMs: number;
}

const ask: fc.Arbitrary<Ask> = fc.record({
  process: fc.nat(2),
  afterMs: fc.oneof(
    fc.constantFrom(0, 0, 1, 10, 100, 999, 5_000, 3_600_000),
    fc.double({ min: 0, max: 500, noNaN: true }),
  ),
  part: fc.constantFrom(0, 0, 0, 0.3, 0.5, 1),
  waitMs: fc.constantFrom(0, 0, 500),
});
const asks = fc.array(ask, { minLength: 5, maxLength: 120, size: "max" });
/** Whether anybody waits. */
const patience = fc.boolean();

/** What processes with these options start, one after the other, with one value for all of them. */
function startsOf(
  all: readonly PureLimiterOptions[],
  asks: readonly Ask[],
  waits: boolean,
  mostOf: (place: number) => number,
): Start[] {
  const limiters: readonly PureLimiter[] = all.map((options) => pureLimiter("api", options));
  const starts: Start[] = [];
  let value: Uint8Array | undefined;
  let now = NOW;
  for (const { process, afterMs, part, waitMs } of asks) {
    now += afterMs;
    const place = process % all.length;
    const cost = Math.max(1, Math.floor(part * mostOf(place)));
    const decision = limiters[place]!.decide(value, now, { cost, startBy: waits ? now + waitMs : now });
    if (decision.value) value = decision.value;
    if (decision.allowed) starts.push({ at: decision.startAt, cost, isReserved: decision.startAt > now });
  }
  return starts.sort((a, b) => a.at - b.at);
}

/** Checks that between any two starts, both counted, no more was started than `most` says for the time between them. */
function assertWithin(starts: readonly Start[], most: (ms: number) => number): void {
  for (let first = 0; first < starts.length; first++) {
    let sum = 0;
    for (let last = first; last < starts.length; last++) {
      sum += starts[last]!.cost;
      const ms = starts[last]!.at - starts[first]!.at;
      assertLessOrEqual(sum, most(ms) + 1e-3, `within ${ms} ms, from start ${first} to ${last}`);
    }
  }
}

const rates = fc.array(
  fc.record({
    ratePerSecond: fc.constantFrom(0.1, 1, 2, 10, 100, 1_000),
    burst: fc.constantFrom(1, 2, 5, 20, 100),
  }),
  { minLength: 2, maxLength: 3 },
);

test("processes with different rates start no more together than the highest rate and the largest burst allow [TB-13]", () => {
  fc.assert(
    fc.property(rates, asks, patience, (all, asks, waits) => {
      const starts = startsOf(all, asks, waits, (place) => all[place]!.burst);
      assert(starts.length > 0);
      const ratePerSecond = Math.max(...all.map((options) => options.ratePerSecond));
      const burst = Math.max(...all.map((options) => options.burst));
      // When a process first meets others, it does not know exactly for when they have reserved what it counts.
      const reserved = starts.reduce((sum, { isReserved, cost }) => sum + (isReserved ? cost : 0), 0);
      assertWithin(starts, (ms) => burst + ratePerSecond * ms / 1_000 + reserved);
    }),
    { numRuns: 1_000 },
  );
});

test("processes with different windows of one length start no more together than the largest allows [TB-13]", () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(1, 2, 5, 20, 100, 1_000), { minLength: 2, maxLength: 3 }),
      asks,
      patience,
      (all, asks, waits) => {
        const options = all.map((limit) => ({ algorithm: "sliding_window" as const, limit, windowMs: WINDOW_MS }));
        const starts = startsOf(options, asks, waits, (place) => all[place]!);
        assert(starts.length > 0);
        assertWithin(starts, (ms) => ms < WINDOW_MS ? Math.max(...all) : Infinity);
      },
    ),
    { numRuns: 500 },
  );
});
