import {
  assert,
  assertEquals,
  assertGreater,
  assertLessOrEqual,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { memoryStore } from "../../../src/adapters/memory.ts";
import { ConfigValidationError, InvalidArgumentError, StoreUnavailableError } from "../../../src/core/errors.ts";
import {
  type BreakerEvent,
  type BreakerSettings,
  type BreakerState,
  CLOSED,
  createBreaker,
  letsThrough,
  nextBreakerState,
} from "../../../src/core/store/breaker.ts";
import type { Store } from "../../../src/core/store/store.ts";
import { createVirtualClock } from "../../../src/testing/virtual_clock.ts";

const SETTINGS: BreakerSettings = { failures: 3, coolDownMs: 1_000, maxCoolDownMs: 5_000 };
const NOT_A_MISTAKE = { field: "f", expected: "e", received: "r" };

function setUp(settings: Partial<BreakerSettings> = {}, random: () => number = () => 0) {
  const clock = createVirtualClock();
  const lines: string[] = [];
  const log = (level: string) => (message: string) => void lines.push(`${level}: ${message}`);
  const breaker = createBreaker({
    storeId: "s",
    settings: { ...SETTINGS, ...settings },
    clock,
    random,
    logger: { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") },
  });
  const down = new StoreUnavailableError("the disk is on fire.", { store: "s" });
  const fail = (times = 1) => {
    for (let i = 0; i < times; i++) breaker.failed(breaker.enter(), down);
  };
  return { clock, lines, breaker, down, fail };
}

test("a circuit breaker opens after so many failures in a row, and not before [FAIL-2]", () => {
  const { breaker, fail } = setUp();
  fail(2);
  assertEquals(breaker.state, "closed");
  breaker.succeeded();
  fail(2);
  assertEquals(breaker.state, "closed");
  fail();
  assertEquals(breaker.state, "open");
});

test("an open circuit breaker lets nobody through, and says why and what comes next [FAIL-2]", () => {
  const { breaker, fail, down } = setUp();
  fail(3);
  const refusal = breaker.refusal();
  assert(refusal);
  assertThrows(() => breaker.enter(), StoreUnavailableError);
  assertEquals([refusal.store, refusal.outcome, refusal.cause], ["s", "not_applied", down]);
  assertEquals(
    refusal.message,
    "Store 's': it was not asked, as its circuit breaker is open after 3 failures in a row. It is tried again by itself. " +
      "The last failure: the disk is on fire.",
  );
});

test("after the cool-down a single call goes through, and the others are still refused [FAIL-3]", async () => {
  const { clock, breaker, fail } = setUp();
  fail(3);
  await clock.advance(999);
  assert(breaker.refusal());
  await clock.advance(1);
  assertEquals(breaker.refusal(), undefined);
  assert(breaker.refusal(true), "somebody who came before will ask");
  breaker.enter();
  assertEquals(breaker.state, "half_open");
  assert(breaker.refusal());
  assertThrows(() => breaker.enter(), StoreUnavailableError);
});

test("the probing call closes it, or opens it again for longer, up to a bound [FAIL-3]", async () => {
  const { clock, breaker, fail, down } = setUp();
  fail(3);
  const coolDowns: number[] = [];
  for (let i = 0; i < 5; i++) {
    const since = clock.now();
    while (breaker.refusal()) await clock.advance(1);
    coolDowns.push(clock.now() - since);
    breaker.failed(breaker.enter(), down);
    assertEquals(breaker.state, "open");
  }
  assertEquals(coolDowns, [1_000, 2_000, 4_000, 5_000, 5_000]);
  await clock.advance(5_000);
  breaker.enter();
  breaker.succeeded();
  assertEquals(breaker.state, "closed");
  fail(3);
  await clock.advance(1_000);
  assertEquals(breaker.refusal(), undefined, "it starts with the first cool-down again");
});

test("a refusal names the last failure, although another one opened it [FAIL-2]", async () => {
  const { clock, breaker, fail } = setUp();
  fail(3);
  assert(breaker.refusal());
  await clock.advance(1_000);
  const probe = breaker.enter();
  assertStringIncludes(breaker.refusal()?.message ?? "", "The last failure: the disk is on fire.");
  const other = new StoreUnavailableError("the disk is ashes.", { store: "s" });
  breaker.failed(probe, other);
  assertStringIncludes(breaker.refusal()?.message ?? "", "The last failure: the disk is ashes.");
  assertStrictEquals(breaker.refusal()?.cause, other);
});

test("cool-downs are up to a quarter shorter by chance, so that processes do not probe together", async () => {
  for (const [random, expected] of [[0, 1_000], [0.5, 875], [1, 750]] as const) {
    const { clock, breaker, fail } = setUp({}, () => random);
    fail(3);
    await clock.advance(expected - 1);
    assert(breaker.refusal());
    await clock.advance(1);
    assertEquals(breaker.refusal(), undefined);
  }
});

test("an urgent call does not wait for the cool-down, but for another one that probes", () => {
  const { breaker, fail, down } = setUp();
  fail(3);
  const call = breaker.enter(true);
  assertThrows(() => breaker.enter(true), StoreUnavailableError);
  breaker.failed(call, down);
  assertEquals(breaker.state, "open");
  breaker.enter(true);
  breaker.succeeded();
  assertEquals(breaker.state, "closed");
});

test("urgent calls that fail during a cool-down leave it as long as it is, and so the next ones [FAIL-3]", async () => {
  const { clock, breaker, fail, down } = setUp();
  fail(3);
  const coolDowns: number[] = [];
  for (let i = 0; i < 5; i++) {
    const since = clock.now();
    while (breaker.refusal() && clock.now() - since < 2 * SETTINGS.maxCoolDownMs) {
      breaker.failed(breaker.enter(true), down);
      await clock.advance(100);
    }
    coolDowns.push(clock.now() - since);
    if (!breaker.refusal()) breaker.failed(breaker.enter(), down);
  }
  assertEquals(coolDowns, [1_000, 2_000, 4_000, 5_000, 5_000]);
});

test("an urgent call after the cool-down is the one that probes, so its failure lengthens the next one [FAIL-3]", async () => {
  const { clock, breaker, fail, down } = setUp();
  fail(3);
  await clock.advance(1_000);
  breaker.failed(breaker.enter(true), down);
  await clock.advance(1_999);
  assert(breaker.refusal());
  await clock.advance(1);
  assertEquals(breaker.refusal(), undefined);
});

test("an urgent call that outlasts the cool-down and fails makes nobody wait for another one [FAIL-3]", async () => {
  const { clock, breaker, fail, down } = setUp();
  fail(3);
  const call = breaker.enter(true);
  await clock.advance(1_500);
  assert(breaker.refusal());
  breaker.failed(call, down);
  assertEquals(breaker.refusal(), undefined);
});

test("an urgent call that says nothing about the store does not end the cool-down", async () => {
  const { clock, breaker, fail } = setUp();
  fail(3);
  breaker.failed(breaker.enter(true), new InvalidArgumentError("no", NOT_A_MISTAKE));
  await clock.advance(999);
  assert(breaker.refusal());
  await clock.advance(1);
  assertEquals(breaker.refusal(), undefined);
});

test("calls that began before the store was found to be down, or to be back, say nothing about it now", async () => {
  const { clock, breaker, fail, down } = setUp();
  const old = Array.from({ length: 10 }, () => breaker.enter());
  fail(3);
  await clock.advance(1_000);
  const probe = breaker.enter();
  for (const call of old.slice(0, 5)) breaker.failed(call, down);
  assertEquals(breaker.state, "half_open");
  breaker.succeeded();
  for (const call of [...old.slice(5), probe]) breaker.failed(call, down);
  assertEquals(breaker.state, "closed");
  fail(2);
  assertEquals(breaker.state, "closed");
});

test("what is wrong with the configuration or with an argument is no failure of the store, any other error is", () => {
  const { breaker } = setUp({ failures: 1 });
  for (const Mistake of [ConfigValidationError, InvalidArgumentError]) {
    breaker.failed(breaker.enter(), new Mistake("no", NOT_A_MISTAKE));
    assertEquals(breaker.state, "closed");
  }
  breaker.failed(breaker.enter(), "anything that a Kv may throw");
  assertEquals(breaker.state, "open");
});

test("to open a store that is open already leaves the probing to the next call [FAIL-3]", async () => {
  const { clock, breaker, fail } = setUp();
  const store: Store = { ...memoryStore(clock) };
  await breaker.open(store);
  fail(3);
  await assertRejects(() => breaker.open(store), StoreUnavailableError, "circuit breaker is open");
  await clock.advance(1_000);
  await breaker.open(store);
  assertEquals([breaker.state, breaker.refusal()], ["open", undefined]);
  breaker.enter();
  assertEquals(breaker.state, "half_open");
});

test("a store that cannot be opened fails once, however many wait for it [FAIL-2]", async () => {
  const { clock, breaker, down } = setUp({ failures: 2 });
  let tried = 0;
  const store: Store = { ...memoryStore(clock), open: () => ++tried > 2 ? Promise.resolve() : Promise.reject(down) };
  for (const state of ["closed", "open"]) {
    const all = await Promise.allSettled(Array.from({ length: 100 }, () => breaker.open(store)));
    assertEquals([all.every(({ status }) => status === "rejected"), breaker.state], [true, state]);
  }
  assertEquals(tried, 2);
  await clock.advance(1_000);
  await breaker.open(store);
  assertEquals(tried, 3);
});

test("with 0 failures a circuit breaker never opens", () => {
  const { breaker, fail } = setUp({ failures: 0 });
  fail(1_000);
  assertEquals([breaker.state, breaker.refusal()], ["closed", undefined]);
});

test("that the store is down is logged once, and once that it is back [LOG-1]", async () => {
  const { clock, breaker, fail, down, lines } = setUp();
  fail(3);
  for (let i = 0; i < 4; i++) {
    await clock.advance(5_000);
    breaker.failed(breaker.enter(), down);
  }
  await clock.advance(5_000);
  breaker.enter();
  breaker.succeeded();
  const heard = lines.filter((line) => !line.startsWith("debug"));
  assertEquals(heard.length, 2);
  assertStringIncludes(heard[0]!, "warn: The circuit breaker of store 's' is open after 3 failures in a row.");
  assertStringIncludes(heard[0]!, "it is tried after 1 s");
  assertStringIncludes(heard[0]!, "the disk is on fire");
  assertEquals(heard[1], "warn: Store 's' answers again: its circuit breaker is closed.");
});

test("a clock that goes back an hour does not keep the store away for an hour [TB-12]", () => {
  const state: BreakerState = { kind: "open", epoch: 1, openings: 1, since: 10_000_000, until: 10_001_000 };
  assertEquals(letsThrough(state, 10_000_500), false);
  assertEquals(letsThrough(state, 10_000_000 - 3_600_000), true);
});

// Whatever happens in whatever order

const settingsOf = fc.record({
  failures: fc.integer({ min: 0, max: 6 }),
  coolDownMs: fc.integer({ min: 1, max: 2_000 }),
  more: fc.integer({ min: 0, max: 10_000 }),
}).map(({ failures, coolDownMs, more }): BreakerSettings => ({
  failures,
  coolDownMs,
  maxCoolDownMs: coolDownMs + more,
}));

/** A step of somebody who calls the store: it begins a call, or one of those that are on their way ends. */
type Step =
  | { readonly kind: "call"; readonly urgent: boolean }
  | { readonly kind: "end"; readonly which: number; readonly how: "success" | "failure" | "undecided" }
  | { readonly kind: "wait"; readonly ms: number };

const stepsOf = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant("call" as const), urgent: fc.boolean() }) },
    {
      weight: 5,
      arbitrary: fc.record({
        kind: fc.constant("end" as const),
        which: fc.nat(20),
        how: fc.constantFrom("success" as const, "failure" as const, "failure" as const, "undecided" as const),
      }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("wait" as const), ms: fc.nat(3_000) }) },
  ),
  { maxLength: 120, size: "max" },
);

test("the states hold what they promise for any calls in any order", () => {
  fc.assert(
    fc.property(
      settingsOf,
      stepsOf,
      fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true })),
      (s, steps, dice) => {
        let state = CLOSED;
        let now = 0;
        let inARow = 0;
        let probe: number | undefined;
        const calls: { readonly epoch: number; readonly id: number }[] = [];
        let ids = 0;
        const happens = (event: BreakerEvent) => {
          const before = state;
          state = nextBreakerState(s, state, event, now);
          if (state.kind === before.kind && state.kind !== "open") assertEquals(state.epoch, before.epoch);
          else assertStrictEquals(state === before || state.epoch === before.epoch + 1, true);
          if (state.kind === "open" && before.kind !== "open" && event.kind === "failure") {
            const coolDown = state.until - state.since;
            assertGreater(coolDown, 0);
            assertLessOrEqual(coolDown, s.maxCoolDownMs);
          }
        };
        for (const step of steps) {
          if (step.kind === "wait") now += step.ms;
          else if (step.kind === "call") {
            if (!letsThrough(state, now, step.urgent)) {
              assert(state.kind !== "closed", "who may not call although nothing is wrong?");
              continue;
            }
            const id = ids++;
            if (state.kind !== "closed") {
              assertEquals(state.kind, "open");
              assertEquals(probe, undefined, "two calls probe at a time");
              happens({ kind: "probe" });
              probe = id;
            }
            calls.push({ epoch: state.epoch, id });
          } else {
            const [call] = calls.splice(step.which % Math.max(1, calls.length), 1);
            if (!call) continue;
            const before = state;
            if (step.how === "success") happens({ kind: "success" });
            else if (step.how === "failure") happens({ kind: "failure", epoch: call.epoch, random: dice.next().value });
            else happens({ kind: "undecided", epoch: call.epoch });
            if (step.how === "success") {
              assertEquals(state.kind, "closed");
              inARow = 0;
            } else if (before.kind === "closed" && step.how === "failure" && call.epoch === before.epoch) inARow++;
            if (before.kind === "closed" && state.kind === "open") {
              assertEquals(inARow, s.failures);
              assertGreater(s.failures, 0);
              inARow = 0;
            }
            if (call.id === probe) {
              if (before.kind === "half_open") assert(state.kind !== "half_open", "the probe is over");
              probe = undefined;
            } else if (before.kind === "half_open" && step.how !== "success") {
              assertStrictEquals(state, before, "an old call decided what the probe is for");
            }
            if (state.kind === "closed") probe = undefined;
          }
          if (s.failures === 0) assertEquals(state.kind, "closed");
          if (state.kind === "half_open") assert(probe !== undefined, "half open, and nobody finds out");
          // Whatever happened: it is never longer than the longest cool-down until somebody may ask.
          if (state.kind === "open") assert(letsThrough(state, now + s.maxCoolDownMs));
        }
      },
    ),
    { numRuns: 2_000 },
  );
});
