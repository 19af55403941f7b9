import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { test } from "node:test";
import {
  createRateSync,
  InvalidArgumentError,
  type Kv,
  memoryKv,
  RateLimiterAcquisitionError,
  StoreUnavailableError,
} from "../../mod.ts";
import {
  createFaultyKv,
  createVirtualClock,
  type FaultName,
  type FaultRates,
  type KvMessage,
  resetAllLimiters,
  useVirtualTime,
} from "../../src/testing/mod.ts";
import { parseToml } from "../../src/config/toml.ts";
import { kvSuite } from "../support/kv_suite.ts";
import { logBook } from "../support/log_book.ts";

kvSuite("createFaultyKv()", () =>
  Promise.resolve({
    kv: createFaultyKv({ clock: createVirtualClock() }),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }));

const bytes = (text: string) => new TextEncoder().encode(text);

/** A faulty store with a value in it, the store behind it, and what became of a promise when it was given time. */
async function world(latencyMs = 0) {
  const clock = createVirtualClock(0);
  const behind = memoryKv(clock);
  await behind.compareAndSet("a", bytes("one"), 0);
  const kv = createFaultyKv({ clock, kv: behind, latencyMs });
  async function within<T>(ms: number, promise: Promise<T>): Promise<T | "no answer"> {
    let answer: T | "no answer" = "no answer";
    let failure: { readonly error: unknown } | undefined;
    promise.then((value) => answer = value, (error) => failure = { error });
    await clock.advance(ms);
    if (failure) throw failure.error;
    return answer;
  }
  const text = async (key = "a") => new TextDecoder().decode((await behind.get(key))?.value);
  return { clock, behind, kv, within, text };
}

test("createFaultyKv() takes its latency, half of it before the store hears and half after", async () => {
  const { clock, kv, text } = await world(10);
  const writing = kv.compareAndSet("a", bytes("two"), 1);
  await clock.advance(4.9);
  assertEquals(await text(), "one");
  await clock.advance(0.1);
  assertEquals(await text(), "two");
  assertEquals(await clock.runUntil(writing), { ok: true, revision: 2 });
  assertEquals(clock.now(), 10);
  kv.latencyMs = 0;
  assertEquals((await kv.get("a"))?.revision, 2);
});

test("createFaultyKv() writes the value as it was when it was handed in", async () => {
  const { clock, kv, text } = await world(10);
  const value = bytes("two");
  const writing = kv.compareAndSet("a", value, 1);
  value.fill(0);
  await clock.runUntil(writing);
  assertEquals(await text(), "two");
});

test("request_lost: the store does not hear of it, and no answer comes", async () => {
  const { kv, within, text } = await world();
  kv.failNext("request_lost");
  assertEquals(await within(1e6, kv.compareAndSet("a", bytes("two"), 1)), "no answer");
  assertEquals(await text(), "one");
});

test("answer_lost: the store has written it, and no answer comes", async () => {
  const { kv, within, text } = await world();
  kv.failNext("answer_lost");
  assertEquals(await within(1e6, kv.compareAndSet("a", bytes("two"), 1)), "no answer");
  assertEquals(await text(), "two");
});

test("request_late: the store hears of it so much later", async () => {
  const { kv, within, text } = await world(2);
  kv.failNext({ kind: "request_late", byMs: 50 });
  const writing = kv.compareAndSet("a", bytes("two"), 1);
  assertEquals([await within(50.9, writing), await text()], ["no answer", "one"]);
  assertEquals([await within(0.1, writing), await text()], ["no answer", "two"]);
  assertEquals(await within(1, writing), { ok: true, revision: 2 });
});

test("answer_late: the store has written it, and the answer takes so much longer", async () => {
  const { kv, within, text } = await world(2);
  kv.failNext({ kind: "answer_late", byMs: 50 });
  const writing = kv.compareAndSet("a", bytes("two"), 1);
  assertEquals([await within(51.9, writing), await text()], ["no answer", "two"]);
  assertEquals(await within(0.1, writing), { ok: true, revision: 2 });
});

test("error: nobody knows from it whether it was written", async () => {
  const { kv, text } = await world();
  kv.failNext("error");
  await assertRejects(() => kv.compareAndSet("a", bytes("two"), 1), Error, "as the test told it to");
  assertEquals(await text(), "one");
  kv.failNext({ kind: "error", applied: true });
  await assertRejects(() => kv.compareAndSet("a", bytes("two"), 1), Error);
  assertEquals(await text(), "two");
});

test("refused: the error says that nothing was written", async () => {
  const { kv, text } = await world();
  kv.failNext("refused");
  const error = await assertRejects(() => kv.compareAndSet("a", bytes("two"), 1), StoreUnavailableError);
  assertEquals([error.outcome, await text()], ["not_applied", "one"]);
});

test("conflict: somebody else was faster, and the key's revision shows it", async () => {
  const { kv, behind, text } = await world();
  kv.failNext("conflict", { times: 2, operation: "compareAndSet" });
  assertEquals(await kv.compareAndSet("a", bytes("two"), 1), { ok: false });
  assertEquals([await text(), (await behind.get("a"))?.revision], ["one", 2]);
  // Nobody can be faster with a key that is not there.
  assertEquals(await kv.compareAndSet("b", bytes("two"), 0), { ok: true, revision: 3 });
  assertEquals((await kv.get("a"))?.revision, 2);
});

test("failNext() meets the messages that it names, in order, and those after them not at all", async () => {
  const { kv } = await world();
  kv.failNext("refused", { times: 2, operation: "get", key: "a" });
  kv.failNext("error", { operation: "get" });
  assertEquals((await kv.compareAndSet("b", bytes("x"), 0)).ok, true);
  await assertRejects(() => kv.get("b"), Error, "as the test told it to");
  await assertRejects(() => kv.get("a"), StoreUnavailableError);
  await assertRejects(() => kv.get("a"), StoreUnavailableError);
  assertEquals((await kv.get("a"))?.revision, 1);
});

test("delete() and keys() go wrong like the others", async () => {
  const { kv, behind } = await world();
  const list = async (from: Kv) => {
    const keys: string[] = [];
    for await (const key of from.keys()) keys.push(key);
    return keys;
  };
  kv.failNext("refused", { times: 2 });
  await assertRejects(() => kv.delete("a"), StoreUnavailableError);
  await assertRejects(() => list(kv), StoreUnavailableError);
  assertEquals(await list(kv), ["a"]);
  await kv.delete("a");
  assertEquals(await list(behind), []);
});

test("setFaults() with a function asks it about every message", async () => {
  const { kv } = await world();
  const seen: KvMessage[] = [];
  kv.setFaults((message) => {
    seen.push(message);
    return message.operation === "get" ? "refused" : undefined;
  });
  await assertRejects(() => kv.get("a"), StoreUnavailableError);
  await kv.compareAndSet("a", bytes("two"), 1);
  kv.announce("a");
  assertEquals(seen.map(({ operation, key }) => `${operation} ${key}`), ["get a", "compareAndSet a", "announce a"]);
  kv.setFaults({});
  await kv.get("a");
  assertEquals(seen.length, 3);
});

test("setFaults() with rates lets so many go wrong, and the same ones for the same seed", async () => {
  async function outcomes(seed: number): Promise<string[]> {
    const kv = createFaultyKv({ clock: createVirtualClock(), seed });
    kv.setFaults({ refused: 0.2, error: 0.1 });
    return await Promise.all(
      Array.from({ length: 2_000 }, () => kv.get("a").then(() => "fine", (error: Error) => error.name)),
    );
  }
  const first = await outcomes(7);
  const count = (name: string) => first.filter((outcome) => outcome === name).length;
  assert(Math.abs(count("StoreUnavailableError") - 400) < 80, `${count("StoreUnavailableError")} refused`);
  assert(Math.abs(count("Error") - 200) < 60, `${count("Error")} errors`);
  assertEquals(await outcomes(7), first);
  assert((await outcomes(8)).join() !== first.join());
});

test("setFaults() with a rate of 1 lets everything go wrong, and lateByMs says how late", async () => {
  for (const late of ["request_late", "answer_late"] as const) {
    const { clock, kv } = await world();
    kv.setFaults({ [late]: 1, lateByMs: 30 });
    await clock.runUntil(Promise.all([kv.get("a"), kv.get("b")]));
    assertEquals(clock.now(), 30);
  }
});

test("isDown loses everything in both directions, and clearFaults() brings it back", async () => {
  const { kv, behind, within } = await world();
  let hints = 0;
  await using _hints = await kv.wake("a", () => hints++);
  kv.isDown = true;
  assertEquals(await within(1e6, kv.get("a")), "no answer");
  behind.announce?.("a");
  kv.announce("a");
  await within(1, Promise.resolve());
  assertEquals(hints, 0);
  kv.setFaults({ refused: 1 });
  kv.failNext("error");
  kv.clearFaults();
  assertEquals([kv.isDown, (await kv.get("a"))?.revision], [false, 1]);
});

test("hints pass from one connection to the other, late by the latency, and none after the end", async () => {
  const { clock, behind, kv } = await world(10);
  const other = createFaultyKv({ clock, kv: behind, latencyMs: 4 });
  let hints = 0;
  const listening = await kv.wake("a", () => hints++);
  other.announce("a");
  other.announce("b");
  await clock.advance(6.9);
  assertEquals(hints, 0);
  await clock.advance(0.1);
  assertEquals(hints, 1);
  other.announce("a");
  await clock.advance(3);
  await listening[Symbol.asyncDispose]();
  await clock.advance(100);
  assertEquals(hints, 1);
});

test("who no longer wants hints does not listen to the store behind either", async () => {
  let listening = 0;
  const behind: Kv = {
    ...memoryKv(),
    wake() {
      listening++;
      return Promise.resolve({ [Symbol.asyncDispose]: () => Promise.resolve(void listening--) });
    },
  };
  const hints = await createFaultyKv({ kv: behind }).wake("a", () => {});
  assertEquals(listening, 1);
  await hints[Symbol.asyncDispose]();
  assertEquals(listening, 0);
});

test("hints can be lost or late, one by one and at random", async () => {
  const { clock, kv } = await world();
  let hints = 0;
  await using _hints = await kv.wake("a", () => hints++);
  const announced = async (): Promise<number> => {
    hints = 0;
    kv.announce("a");
    await clock.advance(0);
    return hints;
  };
  for (const fault of ["request_lost", "answer_lost", "error", "refused"] satisfies FaultName[]) {
    kv.failNext(fault, { operation: "announce" });
    assertEquals([await announced(), await announced()], [0, 1], fault);
  }
  kv.failNext({ kind: "request_late", byMs: 5 }, { operation: "announce" });
  assertEquals(await announced(), 0);
  await clock.advance(5);
  assertEquals(hints, 1);
  kv.failNext({ kind: "answer_late", byMs: 0 }, { operation: "announce" });
  assertEquals(await announced(), 1, "late by nothing is not lost");
  // What is said of answers says nothing of hints.
  kv.failNext("refused");
  assertEquals(await announced(), 1);
  kv.clearFaults();
  kv.setFaults({ request_lost: 1 });
  assertEquals(await announced(), 0);
});

test("sent counts every message, and in total those that are answered", async () => {
  const { kv } = await world();
  kv.failNext("refused");
  await kv.get("a").catch(() => {});
  await kv.compareAndSet("a", bytes("two"), 1);
  await kv.delete("a");
  for await (const _ of kv.keys());
  kv.announce("a");
  assertEquals(kv.sent, { get: 1, compareAndSet: 1, delete: 1, keys: 1, announce: 1, total: 4 });
});

test("createFaultyKv() refuses what cannot be", () => {
  const kv = createFaultyKv();
  const wrong: (() => unknown)[] = [
    () => createFaultyKv({ latencyMs: -1 }),
    () => createFaultyKv({ latencyMs: NaN }),
    () => kv.latencyMs = Infinity,
    () => kv.failNext("request_lsot" as FaultName), // a typo in untyped code
    () => kv.failNext("error", { times: 0 }),
    () => kv.failNext({ kind: "answer_late", byMs: -5 }),
    () => kv.setFaults({ refused: 1.1 }),
    () => kv.setFaults({ refused: NaN }),
    () => kv.setFaults({ refused: 0.6, conflict: 0.6 }),
    () => kv.setFaults({ lateByMs: -1 }),
    () => kv.setFaults(Object.fromEntries([["refusde", 1]])),
  ];
  for (const call of wrong) assertThrows(call, InvalidArgumentError, "field=");
});

test("a limiter on a faulty store keeps its limit, and nobody waits for ever [TST-5]", async () => {
  const clock = createVirtualClock();
  const behind = memoryKv(clock);
  const processes = [1, 2, 3].map((seed) => {
    const kv = createFaultyKv({ clock, kv: behind, latencyMs: 4, seed });
    kv.setFaults({
      request_lost: 0.05,
      answer_lost: 0.05,
      answer_late: 0.1,
      error: 0.05,
      refused: 0.05,
      conflict: 0.2,
    });
    const rateSync = createRateSync({ clock, logger: logBook() });
    rateSync.configureStore("store", { kv, clock });
    rateSync.configureLimiter("api", {
      store: "store",
      algorithm: "sliding_window",
      limit: 10,
      windowMs: 1_000,
      backendTimeoutMs: 500,
      onFailure: "closed",
    });
    return rateSync;
  });
  const starts: number[] = [];
  const calls = Array.from({ length: 90 }, async (_, i) => {
    try {
      await processes[i % 3]!.acquire("api", { timeoutMs: 30_000 });
      starts.push(clock.now());
    } catch (error) {
      assert(error instanceof RateLimiterAcquisitionError, String(error));
    }
  });
  await clock.runUntil(Promise.all(calls));
  assert(starts.length >= 20, `${starts.length} of 90 were served`);
  starts.forEach((start, i) => {
    const before = starts[i - 10];
    assert(before === undefined || start - before >= 1_000 - 10, `11 within ${start - before!} ms`);
  });
});

test("what untyped code gives in place of options is refused, and named", async () => {
  const nothing = null as unknown as undefined;
  assertThrows(() => createFaultyKv(nothing), InvalidArgumentError, "options");
  assertThrows(() => createFaultyKv().setFaults(nothing as unknown as FaultRates), InvalidArgumentError, "options");
  await assertRejects(() => useVirtualTime(nothing), InvalidArgumentError, "options");
  await assertRejects(() => resetAllLimiters(nothing), InvalidArgumentError, "options");
  assertThrows(() => parseToml(5 as unknown as string), InvalidArgumentError, "text");
});
