import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { memoryKv } from "../../src/adapters/memory.ts";
import type { LimiterOptions } from "../../src/config/options.ts";
import { stateCodec } from "../../src/core/decision/state.ts";
import { concurrencyRule } from "../../src/core/rules/concurrency.ts";
import { rateRule } from "../../src/core/rules/rate.ts";
import type { Rule } from "../../src/core/rules/rule.ts";
import { windowRule } from "../../src/core/rules/window.ts";
import { createRateSync, type RateSync } from "../../src/registry/registry.ts";
import { createVirtualClock, type VirtualClock } from "../../src/testing/virtual_clock.ts";
import { logBook } from "../support/log_book.ts";
import { attempt, attemptAsync, damaged, fuzz, soup } from "./fuzz.ts";
import { TERMS } from "../support/rule_terms.ts";

const NOW = Date.UTC(2030, 0, 1);
const RULES: readonly Rule[] = [
  rateRule({ ratePerSecond: 10, burst: 3, timingMarginMs: 10 }),
  windowRule({ limit: 5, windowMs: 1_000, reserveAheadMs: 1_000, timingMarginMs: 10 }),
  concurrencyRule({ maxConcurrent: 4, leaseMs: 5_000 }),
];
/** The same rules as a limiter has them. All of it is available again after this long. */
const OPTIONS: LimiterOptions = {
  ratePerSecond: 10,
  burst: 3,
  rates: [{ limit: 5, windowMs: 1_000, algorithm: "sliding_window" }],
  maxConcurrent: 4,
  leaseMs: 5_000,
  onFailure: "closed",
};
const RECOVERED_AFTER_MS = 10_000;
const WORDS = "10/s, burst 3; 5 in any 1 s; 4 at the same time";
const encode = (text: string) => new TextEncoder().encode(text);

const numbers = fc.oneof(
  fc.double(),
  fc.double({ min: -1e5, max: 1e5, noNaN: true }),
  fc.constantFrom(
    0,
    1,
    -1,
    0.5,
    1e15,
    2 ** 53,
    -(2 ** 53),
    1e300,
    -1e300,
    1.79e308,
    5e-324,
    NOW,
    9_007_199_254_740_991,
  ),
);
const owners = fc.oneof(fc.constantFrom("a", "b", "unknown", "__proto__", ""), fc.string());
const holder = fc.record<Record<string, unknown>>({
  owner: fc.oneof(owners, fc.jsonValue()),
  until: fc.oneof(numbers, fc.jsonValue()),
  permits: fc.oneof(fc.array(fc.oneof(fc.maxSafeInteger(), numbers), { maxLength: 6 }), fc.jsonValue()),
}, { requiredKeys: [] });
const mark = fc.record<Record<string, unknown>>({ owner: owners, since: numbers, until: numbers, most: numbers });
const hostile = fc.record<Record<string, unknown>>({
  v: fc.oneof({ weight: 9, arbitrary: fc.constant<unknown>(1) }, numbers, fc.jsonValue()),
  rules: fc.oneof(fc.constant<unknown>(WORDS), fc.jsonValue(), fc.constant("x".repeat(5_000))),
  epoch: fc.oneof({ weight: 9, arbitrary: fc.constant<unknown>(NOW) }, numbers, fc.maxSafeInteger()),
  rate: fc.oneof<fc.Arbitrary<unknown>[]>(numbers, numbers, fc.jsonValue()),
  window: fc.oneof<fc.Arbitrary<unknown>[]>(
    fc.array(fc.tuple(numbers, numbers), { maxLength: 8 })
      .map((log) => log.map(([at, cost]) => [at, Math.abs(cost)] as const).sort(([a], [b]) => a - b).flat()),
    fc.array(numbers, { maxLength: 8 }),
    fc.jsonValue(),
  ),
  concurrency: fc.oneof<fc.Arbitrary<unknown>[]>(
    fc.record({ holders: fc.array(holder, { maxLength: 4 }), waiting: fc.array(mark, { maxLength: 4 }) }),
    fc.jsonValue(),
  ),
  writers: fc.oneof<fc.Arbitrary<unknown>[]>(
    fc.array(fc.tuple(owners, fc.maxSafeInteger()), { maxLength: 12 }),
    fc.constant([]),
    fc.jsonValue(),
  ),
  __proto__: fc.jsonValue(),
  toString: fc.jsonValue(),
  window2: fc.jsonValue(),
}, { requiredKeys: ["v", "epoch", "writers"] }).map((value) => JSON.stringify(value));

const valid = hostile.map((text) => text.replace(/"v":[^,]*/, '"v":1'));
const JSON_PIECES = [
  "{",
  "}",
  "[",
  "]",
  ",",
  ":",
  '"',
  "null",
  "true",
  "1e999",
  "-1e999",
  "1e-999",
  "0",
  "-0",
  "01",
  "NaN",
  "\\u0000",
  "\\ud800",
  "\0",
  '"v":1',
  '"v":2',
  '"v":1.5',
  '"v":1e999',
  '"epoch":0',
  '"writers":[]',
  '"rate":0',
  '"rate":1e308',
  '"window":[]',
  '"__proto__":{"v":1}',
  '{"v":1,"epoch":0,"writers":[]',
  "[[[[",
  "]]]]",
  " ",
  "\n",
]; // deno-fmt-ignore
const anyBytes = fc.oneof(
  hostile.map(encode),
  damaged(valid, JSON_PIECES).map(encode),
  soup(JSON_PIECES).map(encode),
  fc.jsonValue().map((value) => encode(JSON.stringify(value))),
  fc.uint8Array({ maxLength: 100 }),
  fc.tuple(valid, fc.nat(), fc.nat(255)).map(([text, place, byte]) => {
    const bytes = encode(text);
    bytes[place % bytes.length] = byte;
    return bytes;
  }),
);

fuzz(
  "fuzz: stateCodec() decodes any bytes, and encodes what it decoded so that it decodes to the same",
  1_500,
  fc.property(anyBytes, (bytes) => {
    const codec = stateCodec(RULES, TERMS);
    const result = attempt(() => codec.decode(bytes, NOW));
    assert(result.ok);
    if (result.value.kind !== "state") return;
    const { state } = result.value;
    const again = codec.decode(codec.encode(state), NOW);
    assertEquals(again.kind, "state");
    if (again.kind === "state") assertEquals(JSON.stringify(again.state), JSON.stringify(state));
  }),
);

/** A limiter whose value stands in its store already. */
async function limiterOn(bytes: Uint8Array): Promise<{ rateSync: RateSync; clock: VirtualClock; lines: string[] }> {
  const clock = createVirtualClock(NOW);
  const logger = logBook();
  const { lines } = logger;
  const kv = memoryKv(clock);
  await kv.compareAndSet("api", bytes, 0);
  const rateSync = createRateSync({ clock, logger });
  rateSync.configureStore("mine", { kv, clock });
  rateSync.configureLimiter("api", { store: "mine", ...OPTIONS });
  return { rateSync, clock, lines };
}

fuzz(
  "fuzz: a limiter goes on with any value in its store, admits no more than its limits, and recovers",
  250,
  fc.asyncProperty(anyBytes, async (bytes) => {
    const { rateSync, clock, lines } = await limiterOn(bytes);
    const isNewer = stateCodec(RULES, TERMS).decode(bytes, NOW).kind === "newer";
    const state = await attemptAsync(() => rateSync.getLimiter("api").getState());
    if (state.ok) assertNumbers(Object.values(state.value));
    let admitted = 0;
    for (let i = 0; i < 8; i++) {
      const result = await attemptAsync(() => rateSync.tryAcquire("api"));
      if (!result.ok) {
        assert(isNewer, `refused with an error: ${result.error}`);
        continue;
      }
      const { allowed, limit, remaining, resetInMs, retryAfterMs } = result.value;
      assertNumbers([limit, remaining, resetInMs, retryAfterMs]);
      if (allowed) admitted++;
    }
    assert(admitted <= 3, `${admitted} at once, where 3 are allowed`);
    const waiting = attemptAsync(() => rateSync.acquire("api", { timeoutMs: 2_000 }));
    await clock.runUntil(waiting);
    await rateSync.close();
    for (const line of lines) assert(line.length < 1_000, "a value in the store floods the log");
    if (isNewer || !isOver(bytes)) return;
    await clock.advance(RECOVERED_AFTER_MS);
    const result = await rateSync.tryAcquire("api", { cost: 3 });
    assert(result.allowed, `it has not recovered: ${JSON.stringify(result)}`);
    await rateSync.close();
  }),
);

function assertNumbers(values: readonly unknown[]): void {
  for (const value of values) {
    if (typeof value === "number") assert(Number.isFinite(value) && value >= 0, JSON.stringify(values));
  }
}

/** Whether what a value says is over by now or cannot be true: then everything comes back as after a damaged value. */
function isOver(bytes: Uint8Array): boolean {
  const decoded = stateCodec(RULES, TERMS).decode(bytes, NOW);
  if (decoded.kind !== "state") return true;
  const { epoch, parts } = decoded.state;
  if (epoch < 0) return false;
  const latest = Math.max(...RULES.map((rule, i) => rule.idleFrom(parts[i]!))) + epoch;
  return latest < NOW + 5_000 || (latest > NOW + 366 * 86_400_000 && latest < Infinity);
}

test("fuzz: what is nested deep, long, or there many times does no harm in a stored value", async () => {
  const deep = "[".repeat(200_000) + "]".repeat(200_000);
  const many = (piece: string) => new Array(20_000).fill(piece).join(",");
  const rest = `"v":1,"rules":"","epoch":${NOW},"writers":[]`;
  const values = [
    deep,
    `{${rest},"more":${deep}}`,
    `{${rest},"rate":${deep}}`,
    `{"v":${deep}}`,
    '{"a":'.repeat(200_000) + "1" + "}".repeat(200_000),
    `{${rest},"more":${'{"a":'.repeat(200_000)}1${"}".repeat(200_000)}}`,
    `{${rest},"window":[${many("0,1e-9")}]}`,
    `{${rest},"window":[${many("0,9007199254740991")}]}`,
    `{${rest},"concurrency":{"holders":[${many('{"owner":"a","until":9000,"permits":[1]}')}],"waiting":[]}}`,
    `{${rest},"concurrency":{"holders":[{"owner":"a","until":9000,"permits":[${many("1")}]}],"waiting":[]}}`,
    `{${rest},"concurrency":{"holders":[],"waiting":[${many('{"owner":"a","since":0,"until":9000,"most":3}')}]}}`,
    `{"v":1,"epoch":${NOW},"writers":[${many('["a",1]')}]}`,
    `{${rest},${many('"rate":0')}}`,
    `{${rest},${many('"__proto__":{"rate":1}')}}`,
    `{${Array.from({ length: 5_000 }, (_, i) => `"f${i}":1`)},${rest}}`,
    `{${rest},"rules":"${"x".repeat(1_000_000)}"}`,
    " ".repeat(9_000_000),
  ];
  for (const value of values) {
    const { rateSync, clock } = await limiterOn(encode(value));
    for (let i = 0; i < 3; i++) assert((await attemptAsync(() => rateSync.tryAcquire("api"))).ok);
    await clock.advance(100_000);
    assert((await rateSync.tryAcquire("api")).allowed, value.slice(0, 100));
    await rateSync.close();
  }
});
