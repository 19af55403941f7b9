import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { memoryKv, memoryStore } from "../../src/adapters/memory.ts";
import { RateLimiterAcquisitionError } from "../../src/core/errors.ts";
import { createLimiter } from "../../src/core/limiter/create_limiter.ts";
import { resolveLimiter } from "../../src/core/limiter/defaults.ts";
import type { ClosableLimiter } from "../../src/core/limiter/limiter.ts";
import { type Kv, loansOf } from "../../src/core/store/kv.ts";
import { createVirtualClock, type VirtualClock } from "../../src/testing/virtual_clock.ts";
import { limiterContext } from "../support/limiter_context.ts";
import { createRandom } from "../support/random.ts";
import { fuzz } from "./fuzz.ts";

// A store in the memory of this process lends its keys, and limiters decide on them without a compare-and-set. Here the
// same limiters do the same on a store that lends and on one that does not.

interface Rate {
  readonly ratePerSecond: number;
  readonly burst: number;
}

/** The limits of one of the limiters on the key. */
interface Rules {
  readonly rates: readonly [Rate, ...Rate[]];
  readonly window: { readonly limit: number; readonly windowMs: number } | undefined;
}

type Ask = "acquire" | "tryAcquire" | "tryAcquireSync" | "check" | "look";

/** Something that happens on both sides. Amounts are parts of what a limiter admits at once, times of its interval. */
type Step =
  | { readonly kind: "time"; readonly ms?: number; readonly intervals?: number }
  | {
    readonly kind: "ask";
    readonly limiter: number;
    readonly how: Ask;
    readonly cost?: number;
    readonly part?: number;
  }
  | { readonly kind: "state" | "reset"; readonly limiter: number }
  | { readonly kind: "read" | "delete" | "list" }
  | { readonly kind: "write"; readonly what: "foreign" | "later" | "damaged" | "same"; readonly intervals: number };

const rate = fc.record({
  ratePerSecond: fc.constantFrom(0.001, 0.5, 1, 3, 7, 10, 100, 1_000, 12_345.678, 50_000),
  burst: fc.constantFrom(1, 1, 2, 5, 20, 1.5, 1_000),
});
const window = fc.record({
  limit: fc.constantFrom(1, 3, 10),
  windowMs: fc.constantFrom(100, 1_000, 60_000),
});
const rates = fc.oneof<fc.Arbitrary<[Rate, ...Rate[]]>[]>(fc.tuple(rate), fc.tuple(rate), fc.tuple(rate, rate));
/** Both limiters have the same rules: what other rules make of a value depends on when they read it. */
const bothRules = fc.tuple(fc.option(window, { nil: undefined, freq: 5 }), rates).map(
  ([window, rates]): readonly [Rules, Rules] => [{ rates, window }, { rates, window }],
);
const limiter = fc.nat(1);
const time: fc.Arbitrary<Step> = fc.oneof(
  // The time counts from an epoch, which moves on when it is more than an hour old.
  fc.constantFrom(0, 1e-3, 0.5, 1, 1_000, 59_999, 3_999_999.5, 4_000_000, 4_000_001.5, 86_400_000).map((ms) => ({
    ms,
  })),
  fc.constantFrom(0.5, 1, 1.0000001, 3, 20).map((intervals) => ({ intervals })),
).map((amount) => ({ kind: "time", ...amount }));
const ask: fc.Arbitrary<Step> = fc.record({
  kind: fc.constant("ask"),
  limiter,
  how: fc.constantFrom<Ask[]>("tryAcquire", "tryAcquire", "tryAcquireSync", "acquire", "check", "look"),
  amount: fc.oneof(
    { weight: 3, arbitrary: fc.constant({}) },
    fc.constantFrom(0.5, 0.1, 2, 3, 1e-9).map((cost) => ({ cost })),
    fc.constantFrom(1, 0.999).map((part) => ({ part })),
  ),
}).map(({ amount, ...rest }) => ({ ...rest, ...amount }));
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: time },
  { weight: 12, arbitrary: ask },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constantFrom("state" as const, "state" as const, "reset" as const), limiter }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom("read" as const, "delete" as const, "list" as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("write" as const),
      what: fc.constantFrom("foreign" as const, "later" as const, "damaged" as const, "same" as const),
      intervals: fc.constantFrom(0.2, 1, 3),
    }),
  },
);

/** A store with the limiters on it, and its time. */
interface Side {
  readonly kv: Kv;
  readonly clock: VirtualClock;
  readonly limiters: readonly [ClosableLimiter, ClosableLimiter];
}

const KEY = "api";

function sideOf(all: readonly [Rules, Rules], lends: boolean): Side {
  const clock = createVirtualClock();
  const { loans, ...rest } = memoryKv(clock);
  assert(loans);
  const kv = lends ? loans.of : rest;
  assertEquals(loansOf(kv) !== undefined, lends);
  const store = { ...memoryStore(clock), kv };
  function limiterOf({ rates: [first, ...others], window }: Rules, place: number): ClosableLimiter {
    const config = resolveLimiter(KEY, {
      ...first,
      rates: [
        ...others.map(({ ratePerSecond, burst }) => ({ limit: 1, windowMs: 1_000 / ratePerSecond, burst })),
        ...window ? [{ ...window, algorithm: "sliding_window" as const }] : [],
      ],
      onFailure: "closed",
    });
    const random = createRandom(place).next;
    return createLimiter(config, limiterContext(config, { name: `p${place}`, store, localClock: clock, random }));
  }
  return { kv, clock, limiters: [limiterOf(all[0], 0), limiterOf(all[1], 1)] };
}

const mostOf = ({ rates, window }: Rules) =>
  Math.min(...rates.map(({ burst }) => burst), ...window ? [window.limit] : []);
const intervalOf = ({ rates: [{ ratePerSecond }] }: Rules) => 1_000 / ratePerSecond;

/** What a caller is told, as far as it can be compared. */
interface Told {
  readonly allowed: boolean;
  readonly words?: Readonly<Record<string, unknown>>;
  readonly numbers: Readonly<Record<string, number | undefined>>;
}

async function told({ limiters, kv }: Side, place: 0 | 1, how: Ask, cost: number): Promise<Told> {
  const limiter = limiters[place];
  if (how === "acquire") {
    try {
      const { waitedMs, degraded } = await limiter.acquire({ cost, timeoutMs: 0 });
      return { allowed: true, words: { degraded }, numbers: { waitedMs } };
    } catch (error) {
      if (!(error instanceof RateLimiterAcquisitionError)) throw error;
      const { reason, retryAfterMs } = error;
      return { allowed: false, words: { reason }, numbers: { retryAfterMs } };
    }
  }
  // Where there is no lending, nobody can decide at once.
  const isSync = how === "tryAcquireSync" && loansOf(kv) !== undefined;
  const result = isSync
    ? limiter.tryAcquireSync({ cost })
    : await (how === "check" || how === "look"
      ? limiter.check({ cost, consume: how === "check" })
      : limiter.tryAcquire({ cost }));
  const { allowed, degraded, limit, remaining, resetInMs, retryAfterMs } = result;
  return { allowed, words: { degraded }, numbers: { limit, remaining, resetInMs, retryAfterMs } };
}

/** A refusal answers other requests too for this long, and the other side may have refused anew. */
const STANDS_MS = 1;
/** What stands in a store is rounded to thousandths, and what is lent is not; times since 1970 are as coarse. */
const ROUNDING_MS = 0.002;

function assertSameAnswer(ours: Told, other: Told, { rates, window }: Rules): void {
  assertEquals([ours.allowed, ours.words], [other.allowed, other.words]);
  // Of several limits, another one may have been the one to wait for when the refusal was made.
  if (!ours.allowed && rates.length + (window ? 1 : 0) > 1) return;
  for (const [name, number] of Object.entries(ours.numbers)) {
    const against = other.numbers[name];
    const most = ours.allowed ? ROUNDING_MS : STANDS_MS;
    assert(
      number === against || (number !== undefined && against !== undefined && Math.abs(number - against) <= most),
      `${name} is ${number} where the key is lent, and ${against} where it is not`,
    );
  }
}

const textOf = (value: Uint8Array) => new TextDecoder().decode(value);

/**
 * What stands there and matters still, without what differs for other reasons: epochs and tags of writers. What was lent
 * is written, and its time to live begins, when it is given back.
 */
async function storedOf({ kv, clock }: Side, windowMs: number): Promise<unknown> {
  const entry = await kv.get(KEY);
  if (!entry) return null;
  const text = textOf(entry.value);
  let stored: Record<string, unknown>;
  try {
    stored = JSON.parse(text);
  } catch {
    return text;
  }
  const { epoch, writers: _writers, rules: _rules, v: _v, ...rest } = stored;
  const moment = (time: unknown) => Math.round((Number(time) + Number(epoch)) * 100) / 100;
  const kept = Object.entries(rest).flatMap(([name, value]): [string, unknown][] => {
    if (name.startsWith("rate")) return moment(value) <= clock.now() ? [] : [[name, moment(value)]];
    if (!Array.isArray(value)) return [[name, value]];
    const log = value.flatMap((time, i) => i % 2 === 0 ? [[moment(time), value[i + 1]]] : []);
    const counted = log.filter(([at]) => at + windowMs > clock.now());
    return counted.length === 0 ? [] : [[name, counted]];
  });
  return kept.length > 0 ? kept : null;
}

const METRICS = [
  "totalAcquisitions",
  "timeouts",
  "lastAcquisitionAt",
  "totalWaitTimeMs",
  "degradedAcquisitions",
  "backendFailures",
  "casFailures",
] as const;

async function perform(step: Step, sides: readonly [Side, Side], all: readonly [Rules, Rules]): Promise<void> {
  const [lends, keeps] = sides;
  const both = <T>(what: (side: Side) => Promise<T>) => Promise.all([what(lends), what(keeps)]);
  switch (step.kind) {
    case "time": {
      const ms = step.ms ?? (step.intervals ?? 0) * intervalOf(all[0]);
      await both(({ clock }) => clock.advance(ms));
      return;
    }
    case "ask": {
      const place = step.limiter === 0 ? 0 : 1;
      const cost = step.part === undefined ? step.cost ?? 1 : step.part * mostOf(all[place]);
      if (cost > mostOf(all[place])) return;
      const [ours, other] = await both((side) => told(side, place, step.how, cost));
      return assertSameAnswer(ours, other, all[place]);
    }
    case "state": {
      const [ours, other] = await both(({ limiters }) => limiters[step.limiter]!.getState());
      return assertEquals(ours, other);
    }
    case "reset":
      await both(({ limiters }) => limiters[step.limiter]!.reset());
      return;
    case "read": {
      const [ours, other] = await both((side) => storedOf(side, all[0].window?.windowMs ?? 0));
      return assertEquals(ours, other);
    }
    case "delete":
      await both(({ kv }) => kv.delete(KEY));
      return;
    case "list":
      await both(({ kv }) => Array.fromAsync(kv.keys("a")));
      return;
    case "write": {
      const found = await both(({ kv }) => kv.get(KEY));
      // What was lent is written when it is given back, so that it expires later.
      if (!found[0] || !found[1]) return;
      for (const [i, { revision, value }] of [found[0], found[1]].entries()) {
        const { kv, clock } = sides[i]!;
        const text = changed(textOf(value), step.what, clock.now() + step.intervals * intervalOf(all[0]));
        await kv.compareAndSet(KEY, new TextEncoder().encode(text), revision);
        // A damaged value counts as used up by the rules of whoever replaces it: the same one on both sides.
        await sides[i]!.limiters[0].getState();
        await sides[i]!.limiters[0].tryAcquire();
      }
    }
  }
}

function changed(text: string, what: (Step & { kind: "write" })["what"], until: number): string {
  if (what === "same") return text;
  if (what === "damaged") return "{nonsense";
  try {
    const stored = JSON.parse(text);
    return JSON.stringify({ ...stored, ...what === "foreign" ? { other: { a: 1 } } : { rate: until - stored.epoch } });
  } catch {
    return text;
  }
}

fuzz(
  "fuzz: limiters in memory, where keys are lent, decide and count as they do with compare-and-set",
  500,
  fc.asyncProperty(bothRules, fc.array(step, { minLength: 4, maxLength: 26 }), async (all, steps) => {
    const sides = [sideOf(all, true), sideOf(all, false)] as const;
    for (const step of steps) {
      // Without lending, a limiter decides by what it last read, and is put right by the store; here it has just read.
      if (step.kind === "ask") await sides[1].limiters[step.limiter]!.getState();
      await perform(step, sides, all);
      for (const place of [0, 1] as const) {
        const [ours, other] = sides.map(({ limiters }) => {
          const metrics = limiters[place].getMetrics();
          return METRICS.map((name) => [name, metrics[name]]);
        });
        assertEquals(ours, other);
      }
    }
    for (const { limiters } of sides) for (const limiter of limiters) await limiter.close();
  }),
);
