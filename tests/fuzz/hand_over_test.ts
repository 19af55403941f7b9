import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { freshState, plausible, stateCodec } from "../../src/core/decision/state.ts";
import { decideWork } from "../../src/core/decision/work.ts";
import { createHandOver, type ForeignWork, type HandOver } from "../../src/core/hand_over/hand_over.ts";
import { concurrencyRule } from "../../src/core/rules/concurrency.ts";
import { rateRule } from "../../src/core/rules/rate.ts";
import type { Rule } from "../../src/core/rules/rule.ts";
import { windowRule } from "../../src/core/rules/window.ts";
import { attempt, damaged, fuzz, soup } from "./fuzz.ts";
import { TERMS } from "../support/rule_terms.ts";

const NOW = Date.UTC(2030, 0, 1);
const RULES: readonly Rule[] = [
  rateRule({ ratePerSecond: 10, burst: 3, timingMarginMs: 10 }),
  windowRule({ limit: 5, windowMs: 1_000, reserveAheadMs: 1_000, timingMarginMs: 10 }),
  concurrencyRule({ maxConcurrent: 4, leaseMs: 5_000 }),
];
const codec = stateCodec(RULES, TERMS);
const handOver: HandOver = createHandOver(RULES, codec);
const encode = (text: string) => new TextEncoder().encode(text);
const textOf = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

const moments = fc.double({ min: NOW - 1e5, max: NOW + 1e5, noNaN: true });
const small = fc.double({ min: 0, max: 100, noNaN: true });
/** More than 3 is never granted at once. */
const costs = fc.double({ min: 0.01, max: 3, noNaN: true });
const owners = fc.stringMatching(/^[a-z0-9]{1,8}-[a-z0-9]{1,3}$/);
/** Of the states before and after a grant only those of rates are told. */
const partsOf = (tat: number) => [tat, RULES[1]!.initial, RULES[2]!.initial];
const grants = fc.record({ at: moments, cost: costs, permit: fc.nat(), before: small, more: small });

const works: fc.Arbitrary<ForeignWork> = owners.chain((owner) =>
  fc.record({
    key: fc.string(),
    number: fc.nat(),
    until: moments,
    isYourTurn: fc.boolean(),
    work: fc.record({
      owner: fc.constant(owner),
      leaseMs: fc.double({ min: 1, max: 1e6, noNaN: true }),
      held: fc.option(fc.array(fc.nat(), { maxLength: 4 }), { nil: undefined }),
      undos: fc.array(
        fc.record({
          grant: grants.map(({ at, cost, permit, before, more }) => ({
            ...{ from: at, at, epoch: NOW, before: partsOf(before), after: partsOf(before + more) },
            demand: { cost, owner, permit },
          })),
          unused: fc.boolean(),
        }),
        { maxLength: 3 },
      ),
      requests: fc.array(fc.tuple(costs, fc.option(moments, { nil: Infinity }), fc.boolean()), { maxLength: 5 })
        .map((list) =>
          list.map(([cost, deadline, patient]) => ({
            demand: { cost, owner, permit: 0 },
            deadline: patient ? deadline : 0,
            patient,
          }))
        ),
      firstPermit: fc.nat(),
      since: moments,
      marks: fc.boolean(),
      isMarked: fc.boolean(),
      isOverdue: fc.boolean(),
      lead: small,
      slack: small,
      restraint: small,
    }),
  })
);

fuzz(
  "fuzz: what is handed over arrives as it was",
  500,
  fc.property(works, (work) => {
    assertEquals(handOver.decodeWork(handOver.encodeWork(work)), work);
  }),
);

const HOSTILE = [
  "null",
  "true",
  "0",
  "-1",
  "1e308",
  "-1e308",
  "1e999",
  "1e300",
  "9007199254740993",
  "0.5",
  "5e-324",
  '""',
  '"a-0"',
  "[]",
  "{}",
  "[[]]",
  "[[1,1,null,0]]",
  "[[5001,1,null,0]]",
  "[[-5,1,null,0]]",
  "[[1,1e308,null,0]]",
  "[[9007199254740991,1,0,0]]",
  "[1e300]",
  "[0.5]",
  '"__proto__"',
]; // deno-fmt-ignore

/** Messages of which some values are what nobody should send. */
const spoilt = fc.tuple(works, fc.array(fc.tuple(fc.nat(), fc.constantFrom(...HOSTILE)), { maxLength: 3 })).map(
  ([work, changes]) => {
    const values = (JSON.parse(textOf(handOver.encodeWork(work))) as unknown[]).map((value) => JSON.stringify(value));
    // The first two say which messages these are.
    for (const [place, value] of changes) values[2 + place % (values.length - 2)] = value;
    return encode(`[${values}]`);
  },
);
const anyMessage = fc.oneof(
  { weight: 3, arbitrary: spoilt },
  damaged(spoilt.map(textOf), HOSTILE).map(encode),
  soup([...HOSTILE, "{", "}", "[", "]", ",", ":", "[1,", '[1,"declined",', '[1,"decided",', "\n"]).map(encode),
  fc.uint8Array({ maxLength: 60 }),
);

fuzz(
  "fuzz: whatever another process hands over can be decided, and leaves a value that all can go on with",
  1_000,
  fc.property(anyMessage, (bytes) => {
    const result = attempt(() => handOver.decodeWork(bytes));
    assert(result.ok);
    const foreign = result.value;
    if (foreign === undefined || foreign.work === undefined) return;
    const state = freshState(RULES, NOW);
    const terms = { now: NOW + 5, horizon: NOW + 1_000, isFresh: true };
    const batch = attempt(() => decideWork(RULES, state, foreign.work, terms));
    assert(batch.ok);
    const { granted, dealtWith } = batch.value;
    assert(granted.length <= 5 && dealtWith <= foreign.work.requests.length);
    const left = codec.decode(codec.encode({ ...state, parts: batch.value.parts }), NOW + 5);
    assertEquals(plausible(RULES, left, NOW + 5, 1_000).kind, "state", JSON.stringify(batch.value.parts));
  }),
);

const answers = fc.record({
  now: moments,
  horizon: moments,
  granted: fc.nat(9),
  dealtWith: fc.nat(9),
  lastAt: moments,
  isFresh: fc.boolean(),
  next: fc.option(fc.string(), { nil: undefined }),
});

fuzz(
  "fuzz: whatever comes back as an answer is understood or nothing",
  1_000,
  fc.property(
    fc.oneof(
      anyMessage,
      damaged(
        answers.map(({ now, horizon, isFresh, ...counts }) =>
          textOf(handOver.encodeVerdict({ state: freshState(RULES, NOW), terms: { now, horizon, isFresh }, ...counts }))
        ),
        HOSTILE,
      ).map(encode),
    ),
    works,
    (bytes, { work }) => {
      const result = attempt(() => handOver.decodeAnswer(bytes));
      assert(result.ok);
      if (result.value?.kind !== "decided") return;
      const { state, terms } = result.value.verdict;
      assert(attempt(() => decideWork(RULES, state, work, terms)).ok);
    },
  ),
);

test("fuzz: a message that is nested deep, long, or full of work costs no more than its length", () => {
  const work = JSON.parse(textOf(handOver.encodeWork(fc.sample(works, { seed: 1, numRuns: 1 })[0]!)));
  const message = (fields: { held?: unknown; undos?: unknown; requests?: unknown }) => {
    const { held = null, undos = [], requests = [] } = fields;
    return encode(JSON.stringify([...work.slice(0, -3), held, undos, requests]));
  };
  const nested = "[".repeat(200_000) + "]".repeat(200_000);
  const undo = [NOW, NOW, 1, 1, 0, [1, null, null], [1, null, null]];
  const messages: readonly (readonly [bytes: Uint8Array, isUnderstood: boolean])[] = [
    [encode(nested), false],
    [encode(JSON.stringify([...work.slice(0, -1), "requests"]).replace('"requests"', nested)), false],
    [message({ requests: new Array(5_000).fill([1, 1, null, 0]) }), true],
    [message({ requests: new Array(5_001).fill([1, 1, null, 0]) }), false],
    [message({ requests: new Array(50_000).fill([0, 1, null, 0]) }), true],
    [message({ requests: [[5_000, 1e-9, null, 0]] }), true],
    [message({ requests: [[5_001, 1e-9, null, 0]] }), false],
    [message({ undos: new Array(5_000).fill(undo) }), true],
    [message({ held: Array.from({ length: 50_000 }, (_, i) => i) }), true],
  ];
  for (const [i, [bytes, isUnderstood]] of messages.entries()) {
    const foreign = handOver.decodeWork(bytes);
    assertEquals(foreign?.work !== undefined, isUnderstood, `message ${i}`);
    if (foreign?.work === undefined) continue;
    decideWork(RULES, freshState(RULES, NOW), foreign.work, { now: NOW, horizon: NOW + 1_000, isFresh: true });
  }
});

test("the messages that these tests make are understood often enough to say something", () => {
  const understood = fc.sample(anyMessage, { seed: 1, numRuns: 500 })
    .filter((bytes) => handOver.decodeWork(bytes)?.work !== undefined);
  assert(understood.length > 100, `${understood.length} of 500`);
});
