import { assert, assertAlmostEquals, assertEquals, assertLessOrEqual, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import {
  type Decoded,
  exhaustedState,
  freshState,
  idleFrom,
  lostWrite,
  plausible,
  type State,
  STATE_VERSION,
  stateCodec,
  wasWritten,
  withRecentEpoch,
  withWriter,
  type Writer,
} from "../../../src/core/decision/state.ts";
import { concurrencyRule } from "../../../src/core/rules/concurrency.ts";
import { rateRule } from "../../../src/core/rules/rate.ts";
import type { Rule } from "../../../src/core/rules/rule.ts";
import { windowRule } from "../../../src/core/rules/window.ts";
import { TERMS } from "../../support/rule_terms.ts";

const rate = rateRule({ ratePerSecond: 10, burst: 3, timingMarginMs: 10 });
const slow = rateRule({ ratePerSecond: 0.1, burst: 1, timingMarginMs: 10 });
const window = windowRule({ limit: 5, windowMs: 1_000, reserveAheadMs: 1_000, timingMarginMs: 10 });
const permits = concurrencyRule({ maxConcurrent: 2, leaseMs: 5_000 });
const rules: readonly Rule[] = [rate, slow, window, permits];
const codec = stateCodec(rules, TERMS);

const NOW = Date.UTC(2030, 0, 1);
const encode = (json: unknown) => new TextEncoder().encode(typeof json === "string" ? json : JSON.stringify(json));
const textOf = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

function stateIn(decoded: Decoded): State {
  if (decoded.kind !== "state") throw new Error(`it is ${JSON.stringify(decoded)}`);
  return decoded.state;
}

const times = fc.double({ min: -1e7, max: 1e7, noNaN: true }).map((time) => time + 0); // JSON has no -0
const logs = fc.array(fc.tuple(times, fc.double({ min: 0.01, max: 1e6, noNaN: true })), { maxLength: 10 })
  .map((entries) => entries.sort(([a], [b]) => a - b).flat());
const waiting = fc.array(fc.record({ owner: fc.string(), since: times, until: times, most: fc.nat() }), {
  maxLength: 4,
});
const holders = fc.array(fc.record({ owner: fc.string(), until: times, permits: fc.array(fc.maxSafeNat()) }), {
  maxLength: 4,
});
const held = fc.record({ holders, waiting });
const writers = fc.array(fc.tuple(fc.string(), fc.maxSafeNat()), { maxLength: 8 });
const states: fc.Arbitrary<State> = fc.record({
  epoch: fc.integer({ min: 0, max: 2 ** 43 }),
  parts: fc.tuple(times, times, logs, held),
  writers,
  others: fc.constant([]),
});

test("stateCodec() decodes what it encodes", () => {
  fc.assert(
    fc.property(states, (state) => {
      const decoded = codec.decode(codec.encode(state), NOW);
      assertEquals(decoded, { kind: "state", state, fingerprint: codec.fingerprint, isNew: false });
    }),
    { numRuns: 300 },
  );
});

test("stateCodec() writes JSON that a person can read", () => {
  let state = freshState(rules, NOW);
  state = { ...state, parts: rules.map((rule) => rule.take(rule.initial, 7, 7, { cost: 1, owner: "p", permit: 4 })) };
  const json: unknown = JSON.parse(textOf(codec.encode({ ...state, writers: [["p", 9]] })));
  assertEquals(json, {
    v: STATE_VERSION,
    rules: "10/s, burst 3; 0.1/s, burst 1; 5 in any 1 s; 2 at the same time",
    epoch: NOW,
    rate: 107,
    rate2: 10_007,
    window: [9.5, 1],
    concurrency: { holders: [{ owner: "p", until: 5_007, permits: [4] }], waiting: [] },
    writers: [["p", 9]],
  });
});

test("stateCodec().decode() takes nothing and never throws, whatever the bytes are", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200, size: "max" }), (bytes) => {
      assertEquals(codec.decode(bytes, NOW).kind, "damaged");
    }),
    { numRuns: 500 },
  );
});

test("stateCodec().decode() never throws, and what it takes can be used, whatever the JSON is", () => {
  const almost = fc.record({
    v: fc.oneof({ weight: 5, arbitrary: fc.constant<unknown>(STATE_VERSION) }, fc.jsonValue()),
    rules: fc.oneof(fc.constant<unknown>(codec.fingerprint), fc.jsonValue()),
    epoch: fc.oneof({ weight: 5, arbitrary: fc.constant<unknown>(NOW) }, fc.jsonValue()),
    rate: fc.oneof<fc.Arbitrary<unknown>[]>(times, fc.jsonValue()),
    rate2: fc.oneof<fc.Arbitrary<unknown>[]>(times, fc.jsonValue()),
    window: fc.oneof<fc.Arbitrary<unknown>[]>(logs, fc.jsonValue()),
    concurrency: fc.oneof<fc.Arbitrary<unknown>[]>(held, fc.jsonValue()),
    writers: fc.oneof<fc.Arbitrary<unknown>[]>(writers, writers, writers, fc.jsonValue()),
    more: fc.jsonValue(),
  }, { requiredKeys: [] });
  let taken = 0;
  fc.assert(
    fc.property(fc.oneof<fc.Arbitrary<unknown>[]>(almost, almost, almost, almost, fc.jsonValue()), (json) => {
      const decoded = codec.decode(encode(json === undefined ? "" : json), NOW);
      if (decoded.kind !== "state") return;
      taken++;
      const { parts, epoch } = decoded.state;
      rules.forEach((rule, i) => {
        const part = parts[i];
        assert(part !== undefined);
        const demand = { cost: 1, owner: "p", permit: 1 };
        const usage = rule.usage(part, NOW - epoch);
        assertEquals([usage.limit, usage.remaining].every((n) => n >= 0), true);
        assertEquals(Number.isNaN(rule.earliest(part, NOW - epoch, demand)), false);
        rule.take(part, NOW - epoch, NOW - epoch, demand);
      });
      codec.encode(decoded.state);
    }),
    { numRuns: 2_000 },
  );
  assert(taken > 10, `only ${taken} were taken`);
});

const good = {
  v: STATE_VERSION,
  rules: "",
  epoch: NOW,
  rate: 0,
  rate2: 0,
  window: [],
  concurrency: { holders: [], waiting: [] },
  writers: [],
};

for (
  const [what, json, problem] of [
    ["no JSON", "{", "not a JSON object"],
    ["nothing", "", "not a JSON object"],
    ["a list", [], "not a JSON object"],
    ["null", null, "not a JSON object"],
    ["a number", 1, "not a JSON object"],
    ["no version", { ...good, v: undefined }, "'v'"],
    ["half a version", { ...good, v: 1.5 }, "'v'"],
    ["a version beyond all numbers", JSON.stringify(good).replace('"v":1', '"v":1e999'), "'v'"],
    ["an old version", { ...good, v: 0 }, "'v'"],
    ["a version that is text", { ...good, v: "1" }, "'v'"],
    ["no epoch", { ...good, epoch: undefined }, "'epoch'"],
    ["half an epoch", { ...good, epoch: 0.5 }, "'epoch'"],
    ["an epoch beyond everything", { ...good, epoch: 1e300 }, "'epoch'"],
    ["no writers", { ...good, writers: undefined }, "'writers'"],
    ["writers that are none", { ...good, writers: [["a"]] }, "'writers'"],
    ["a writer's operation that is no number", { ...good, writers: [["a", "1"]] }, "'writers'"],
    ["a writer's operation that is half", { ...good, writers: [["a", 0.5]] }, "'writers'"],
    ["a writer that is a number", { ...good, writers: [[1, 1]] }, "'writers'"],
    ["more than a limiter writes", { ...good, more: "x".repeat(2 ** 23) }, "JSON object"],
    ["a rate that is text", { ...good, rate: "0" }, "'rate'"],
    ["a rate beyond all numbers", JSON.stringify(good).replace('"rate":0', '"rate":1e999'), "'rate'"],
    ["a second rate that is null", { ...good, rate2: null }, "'rate2'"],
    ["half a window entry", { ...good, window: [1] }, "'window'"],
    ["permits that are a number", { ...good, concurrency: 3 }, "'concurrency'"],
  ] as const
) {
  test(`stateCodec().decode() reports a value with ${what} as damaged`, () => {
    const decoded = codec.decode(encode(json), NOW);
    assertEquals(decoded.kind, "damaged");
    if (decoded.kind === "damaged") assertStringIncludes(decoded.problem, problem);
  });
}

test("stateCodec().decode() reports bytes that are no UTF-8 as damaged", () => {
  const bytes = encode(good);
  bytes[bytes.length - 3] = 0xff;
  assertEquals(codec.decode(bytes, NOW).kind, "damaged");
});

test("stateCodec().decode() says so when a newer version wrote the value, whatever else is in it", () => {
  assertEquals(codec.decode(encode({ v: 2, something: "else" }), NOW), { kind: "newer", version: 2 });
});

test("stateCodec().decode() takes a rule that is not in the value yet for unused", () => {
  const { rate2: _, concurrency: __, ...older } = good;
  assertEquals(stateIn(codec.decode(encode(older), NOW)).parts, [0, 0, [], { holders: [], waiting: [] }]);
});

test("stateCodec() is not fooled by fields named __proto__ and constructor", () => {
  const text = `{"v":1,"rules":"","epoch":${NOW},"rate":5,"writers":[],"__proto__":{"rate":0},"constructor":1}`;
  const only = stateCodec([rate], TERMS);
  assertEquals(stateIn(only.decode(encode(text), NOW)).parts, [5]);
  const inherited = `{"__proto__":${text}}`;
  assertEquals(only.decode(encode(inherited), NOW).kind, "damaged");
});

test("stateCodec() has the same words for the same rules, and others for others", () => {
  assertEquals(stateCodec([rate, permits], TERMS).fingerprint, "10/s, burst 3; 2 at the same time");
  assertEquals(stateCodec([permits], TERMS).fingerprint === stateCodec([rate], TERMS).fingerprint, false);
});

test("withRecentEpoch() moves the epoch on after an hour or so, and changes no moment", () => {
  let state = freshState(rules, NOW + 0.75);
  assertEquals(state.epoch, NOW);
  const demand = { cost: 1, owner: "p", permit: 1 };
  state = { ...state, parts: rules.map((rule) => rule.take(rule.initial, 10_000_000, 0, demand)) };
  assertEquals(withRecentEpoch(rules, state, NOW + 3_999_999), state);
  const moved = withRecentEpoch(rules, state, NOW + 4_000_000.5);
  assertEquals(moved.epoch, NOW + 4_000_000);
  rules.forEach((rule, i) => {
    const [before, after] = [state.parts[i], moved.parts[i]];
    assert(before !== undefined && after !== undefined);
    const at = 9_999_990;
    assertAlmostEquals(
      rule.retryAt(after, at - 4_000_000, demand) + 4_000_000,
      rule.retryAt(before, at, demand),
      1e-6,
    );
  });
});

test("withRecentEpoch() leaves the epoch where it is in the future", () => {
  const state = freshState(rules, NOW);
  assertEquals(withRecentEpoch(rules, state, NOW - 1e10), state);
});

test("withRecentEpoch() keeps nothing of others that no longer matters, whether the epoch moves on or not", () => {
  const other = (part: number, until: number) => ({
    rule: rateRule({ ratePerSecond: 2, burst: 3, timingMarginMs: 10 }) as Rule,
    part,
    until,
  });
  const state = (...others: State["others"]) => ({ ...freshState(rules, NOW), others });
  for (const later of [5_000, 4_000_000]) {
    const gone = state(other(later + 9, later), other(later, later + 9));
    assertEquals(withRecentEpoch(rules, gone, NOW + later).others, []);
    const stays = other(later + 9, later + 9);
    const { epoch, others } = withRecentEpoch(rules, state(...gone.others, stays), NOW + later);
    const ms = epoch - NOW;
    assertEquals(others.map(({ part, until }) => [Number(part) + ms, until + ms]), [[later + 9, later + 9]]);
  }
});

test("withWriter() remembers the last write of each of the last writers, and no more", () => {
  const ids = Array.from({ length: 12 }, (_, i) => `p${i}`);
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...ids), { maxLength: 60, size: "max" }), (turns) => {
      const writes = turns.map((id, i): Writer => [id, i]);
      const state = { ...freshState(rules, NOW), writers: writes.reduce(withWriter, [] as readonly Writer[]) };
      const newest = new Map(writes);
      assertEquals(state.writers, writes.filter(([id, i]) => newest.get(id) === i).slice(-8));
      for (const write of writes) assertEquals(wasWritten(state, write), state.writers.includes(write));
    }),
  );
});

test("lostWrite() tells a write that the store has lost from one that others have written after", () => {
  const after = (...writers: Writer[]) => ({ ...freshState(rules, NOW), writers });
  const others = Array.from({ length: 8 }, (_, i): Writer => [`p${i}`, 7]);
  assertEquals(lostWrite(after(), ["me", 5]), true);
  assertEquals(lostWrite(after(["me", 4], ["p1", 9]), ["me", 5]), true);
  assertEquals(lostWrite(after(["p1", 9]), ["me", 5]), true);
  assertEquals(lostWrite(after(["me", 5], ["p1", 4]), ["me", 5]), false);
  assertEquals(lostWrite(after(["me", 6]), ["me", 5]), false);
  assertEquals(lostWrite(after(...others), ["me", 5]), false, "it is forgotten after so many others");
});

test("exhaustedState() has nothing left, and recovers as time passes", () => {
  const state = exhaustedState(rules, NOW + 0.5);
  rules.forEach((rule, i) => {
    const part = state.parts[i];
    assert(part !== undefined);
    assertEquals(rule.usage(part, 0.5).remaining, 0);
    assertEquals(rule.usage(part, 20_000).remaining, rule.usage(part, 20_000).limit);
  });
  assertEquals(stateIn(codec.decode(codec.encode(state), NOW)), state);
});

test("idleFrom() is when the last of the rules has nothing more to say", () => {
  const state = freshState(rules, NOW);
  assertLessOrEqual(idleFrom(rules, state), NOW);
  const demand = { cost: 1, owner: "p", permit: 1 };
  const used = { ...state, parts: rules.map((rule) => rule.take(rule.initial, 100, 100, demand)) };
  assertEquals(idleFrom(rules, used), NOW + 10_100);
});

test("idleFrom() is no earlier than when the rules of others have nothing more to say", () => {
  const state = freshState(rules, NOW);
  const others = [5_000, 70_000, 6_000].map((part) => ({ rule: slow as Rule, part, until: 3_600_000 }));
  assertEquals(idleFrom(rules, { ...state, others }), NOW + 70_000);
});

test("plausible() believes what the rules themselves grant for days, or reserve for days ahead", () => {
  const DAY = 86_400_000;
  const month = windowRule({ limit: 5, windowMs: 30 * DAY, reserveAheadMs: 1_000, timingMarginMs: 10 }) as Rule;
  // As much as it allows at once takes it ten days to allow again.
  const tenDays = rateRule({ ratePerSecond: 1 / 86_400, burst: 10, timingMarginMs: 10 }) as Rule;
  const judge = (rule: Rule, at: number, cost: number, reserveAheadMs = 1_000) => {
    const fresh = freshState([rule], NOW);
    const state = { ...fresh, parts: [rule.take(rule.initial, at, 0, { cost, owner: "p", permit: 1 })] };
    return plausible([rule], { kind: "state", state, fingerprint: "", isNew: false }, NOW, reserveAheadMs).kind;
  };
  assertEquals([judge(month, 0, 5), judge(month, 2 * DAY, 5)], ["state", "damaged"]);
  assertEquals([judge(month, 2 * DAY, 5, 3 * DAY), judge(month, 5 * DAY, 5, 3 * DAY)], ["state", "damaged"]);
  // Who was passed over may reserve farther ahead, by the time that the rate takes for what it wants.
  assertEquals([judge(tenDays, 10 * DAY, 10), judge(tenDays, 12 * DAY, 10)], ["state", "damaged"]);
});

test("plausible() takes a value for damaged that would keep everybody waiting for longer than its rules could", () => {
  const judge = (json: object) => plausible(rules, codec.decode(encode({ ...good, ...json }), NOW), NOW, 1_000).kind;
  const DAY = 86_400_000;
  const held = (until: number) => ({ concurrency: { holders: [{ owner: "a", until, permits: [1] }], waiting: [] } });
  const marked = (until: number) => ({
    concurrency: { holders: [], waiting: [{ owner: "a", since: 0, until, most: 2 }] },
  });
  for (const beyond of [2 * DAY, 1e300]) {
    for (const json of [{ rate: beyond }, { window: [beyond, 1] }, held(beyond), marked(beyond)]) {
      assertEquals(judge(json), "damaged", JSON.stringify(json));
    }
  }
  assertEquals(judge({ epoch: Number.MAX_SAFE_INTEGER }), "damaged");
  const nothingUsed = { ...freshState([window], NOW), epoch: NOW + 2 * DAY };
  const decoded: Decoded = { kind: "state", state: nothingUsed, fingerprint: "", isNew: false };
  assertEquals(plausible([window], decoded, NOW, 1_000).kind, "damaged", "although nothing is used");
  for (const json of [{ rate: DAY }, { window: [DAY, 1] }, held(DAY), marked(DAY), { epoch: 0 }]) {
    assertEquals(judge(json), "state", JSON.stringify(json));
  }
  assertEquals(plausible(rules, { kind: "newer", version: 2 }, NOW, 1_000), { kind: "newer", version: 2 });
});
