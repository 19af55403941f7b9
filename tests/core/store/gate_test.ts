import { assertEquals, assertGreater, assertLess, assertLessOrEqual, assertRejects } from "@std/assert";
import { test } from "node:test";
import { RateLimiterAcquisitionError } from "../../../src/core/errors.ts";
import { Gate, type Visitor } from "../../../src/core/store/gate.ts";
import type { Kv } from "../../../src/core/store/kv.ts";
import { createRandom } from "../../support/random.ts";
import { createSimulation, type Simulation } from "../../support/simulated_process.ts";

/** A gate with room for two, and the names of those who were let in. */
function gateForTwo(): { gate: Gate; inside: string[]; enter(name: string, isUrgent?: boolean): void } {
  const gate = new Gate(2);
  const inside: string[] = [];
  const visitor = (name: string): Visitor => ({ admitted: (isEarly) => inside.push(isEarly ? `${name} early` : name) });
  return { gate, inside, enter: (name, isUrgent = false) => gate.enter(visitor(name), isUrgent) };
}

test("a gate lets in as many as there is room for, and the others in order as those leave", () => {
  const { gate, inside, enter } = gateForTwo();
  for (const name of ["a", "b", "c", "d"]) enter(name);
  assertEquals([inside, gate.isCrowded], [["a", "b"], true]);
  gate.leave();
  assertEquals([inside, gate.isCrowded], [["a", "b", "c"], true]);
  gate.leave();
  assertEquals([inside, gate.isCrowded], [["a", "b", "c", "d"], false]);
  for (let left = 0; left < 2; left++) gate.leave();
  for (const name of ["e", "f", "g"]) enter(name);
  assertEquals(inside.at(-1), "f");
});

test("who is urgent does not wait at a gate, and takes the place of one who does", () => {
  const { gate, inside, enter } = gateForTwo();
  for (const name of ["a", "b", "c"]) enter(name);
  enter("urgent", true);
  assertEquals(inside, ["a", "b", "urgent"]);
  gate.leave();
  assertEquals(inside, ["a", "b", "urgent"]);
  gate.leave();
  assertEquals(inside, ["a", "b", "urgent", "c"]);
});

test("a gate that is opened lets in everybody who waits, once", () => {
  const { gate, inside, enter } = gateForTwo();
  for (const name of ["a", "b", "c", "d", "e", "f"]) enter(name);
  gate.leave();
  gate.open();
  assertEquals([inside, gate.isCrowded], [["a", "b", "c", "d early", "e early", "f early"], false]);
  for (let left = 0; left < 3; left++) gate.leave();
  enter("g");
  assertEquals(inside.length, 6);
  gate.leave();
  assertEquals(inside.at(-1), "g");
});

test("a visitor that leaves at once lets the next one in", () => {
  const gate = new Gate(1);
  const inside: number[] = [];
  gate.enter({ admitted: () => {} }, false);
  for (let i = 0; i < 100_000; i++) {
    gate.enter({
      admitted() {
        inside.push(i);
        if (i % 50_000 !== 49_999) gate.leave();
      },
    }, false);
  }
  for (let i = 0; i < 2; i++) gate.leave();
  assertEquals(inside, Array.from({ length: 100_000 }, (_, i) => i));
});

const KEYS = Array.from({ length: 3_000 }, (_, i) => `user ${i}`);

/** A connection to a server that takes longer the more is asked at once, and how much that was at the most. */
function busyLink({ server, clock }: Simulation): { readonly kv: Kv; most: number } {
  const link = server.connect();
  let now = 0;
  const busy = {
    most: 0,
    kv: {
      ...link,
      async compareAndSet(key: string, value: Uint8Array, expected: number, ttlMs?: number) {
        busy.most = Math.max(busy.most, ++now);
        await clock.sleep(now / 20);
        now--;
        return await link.compareAndSet(key, value, expected, ttlMs);
      },
    },
  };
  return busy;
}

test("what thousands of keys want is asked for in turn, where a store takes longer the more it is asked [LIM-17]", async () => {
  const simulation = createSimulation();
  const busy = busyLink(simulation);
  const { limiter } = simulation.start({ ratePerSecond: 10, burst: 10 }, { store: { kv: busy.kv } });
  const permits = await simulation.run(Promise.all(KEYS.map((key) => limiter.acquire({ key }))));
  assertEquals(new Set(permits.map(({ limiterId }) => limiterId)).size, KEYS.length);
  assertLess(busy.most, KEYS.length / 2);
  assertEquals(limiter.getMetrics().totalAcquisitions, KEYS.length);
});

for (const failures of [0, 5]) {
  const breaker = failures === 0 ? "without a circuit breaker" : "with one";
  test(`thousands that a silent store keeps waiting hear so together, ${breaker} [FAIL-1, FAIL-3]`, async () => {
    const { clock, start, run } = createSimulation();
    const { limiter, link } = start({ ratePerSecond: 1, onFailure: "closed" }, { latencyMs: 1, breaker: { failures } });
    await run(limiter.acquire());
    link.isDown = true;
    const begunAt = clock.now();
    const calls = KEYS.map((key) => assertRejects(() => limiter.tryAcquire({ key }), RateLimiterAcquisitionError));
    await run(Promise.all(calls));
    assertLessOrEqual(clock.now() - begunAt, 2_050);
  });
}

test("few of thousands of keys miss the slot that they wrote, where answers come at once after 10 to 90 ms [TB-7, TB-11]", async () => {
  const { clock, server, start, run } = createSimulation();
  const link = server.connect();
  const random = createRandom(3);
  let writes = 0;
  let answers: Promise<void> | undefined;
  const kv: Kv = {
    ...link,
    async compareAndSet(...write) {
      writes++;
      answers ??= clock.sleep(random.between(10, 90)).finally(() => answers = undefined);
      await answers;
      return await link.compareAndSet(...write);
    },
  };
  const keys = Array.from({ length: 20_000 }, (_, i) => `user ${i}`);
  const { limiter } = start({ ratePerSecond: 1_000_000, burst: 10 }, { store: { kv } });
  const served: number[] = [];
  await run(Promise.all(keys.map((key, i) => limiter.acquire({ key }).then(() => served.push(i)))));
  assertLess(writes, 1.25 * keys.length);
  // Who missed its slot does not wait for its turn again.
  assertLess(Math.max(...served.map((key, place) => place - key)), 2_000);
});

test("a limiter that is closed while thousands of its keys wait for their turn answers all of them", async () => {
  const simulation = createSimulation();
  const { kv } = busyLink(simulation);
  const { limiter } = simulation.start({ ratePerSecond: 10, burst: 10 }, { store: { kv } });
  const keys = Array.from({ length: 12_000 }, (_, i) => `user ${i}`);
  const calls = keys.map((key) => limiter.acquire({ key }).then(() => "granted", ({ reason }) => reason));
  await simulation.clock.advance(1);
  await simulation.run(limiter.close());
  const ends = await simulation.run(Promise.all(calls));
  assertEquals(ends.filter((end) => end !== "closed" && end !== "granted"), []);
  assertGreater(ends.filter((end) => end === "closed").length, keys.length / 2);
});
