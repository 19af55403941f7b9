import { assert, assertAlmostEquals, assertEquals, assertGreaterOrEqual, assertLessOrEqual } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import {
  combineOffsets,
  createServerClock,
  offsetOf,
  parseTimestamp,
  type TimeSample,
} from "../../../src/adapters/nats/clock.ts";
import type { Clock } from "../../../src/core/clock.ts";
import { systemClock } from "../../../src/adapters/system_clock.ts";
import { forEachServer } from "../../support/nats_server.ts";
import { testStore } from "../../support/nats_store.ts";

test("parseTimestamp() keeps the fraction of a millisecond [TB-12]", () => {
  assertEquals(parseTimestamp("2026-01-02T03:04:05Z"), Date.UTC(2026, 0, 2, 3, 4, 5));
  assertAlmostEquals(
    parseTimestamp("2026-01-02T03:04:05.123456789Z") ?? 0,
    Date.UTC(2026, 0, 2, 3, 4, 5, 123) + 0.456789,
    1e-3,
  );
  assertEquals(parseTimestamp("2026-01-02T05:04:05.5+02:00"), Date.UTC(2026, 0, 2, 3, 4, 5, 500));
  for (const text of ["", "yesterday", "2026-01-02", undefined, 7]) assertEquals(parseTimestamp(text), undefined);
});

test("offsetOf() trusts the shortest round trip, and half of it bounds the error [TB-12]", () => {
  const anyTime = fc.double({ min: 0, max: 1e4, noNaN: true });
  const sample = fc.record({ before: anyTime, there: anyTime, back: anyTime });
  fc.assert(fc.property(anyTime, fc.array(sample, { minLength: 1 }), (truth, list) => {
    const samples = list.map(({ before, there, back }): TimeSample => ({
      before,
      server: before + there + truth,
      after: before + there + back,
    }));
    const offset = offsetOf(samples, Math.max(...samples.map(({ after }) => after)));
    if (offset === undefined) throw new Error("no offset");
    assertLessOrEqual(Math.abs(offset.ms - truth), offset.errorMs + 1e-6);
  }));
  const samples = [{ before: 10, after: 14, server: 112 }, { before: 20, after: 22, server: 121 }];
  assertEquals(offsetOf(samples, 22), { ms: 100, errorMs: 1 });
  assertEquals(offsetOf([], 22), undefined);
});

test("offsetOf() knows that the clocks may have drifted since the best sample [TB-12]", () => {
  const quickThenStopped = [{ before: 0, after: 1, server: 100 }, { before: 2, after: 60_000, server: 30_000 }];
  const offset = offsetOf(quickThenStopped, 60_000);
  assertEquals(offset?.ms, 99.5);
  assertGreaterOrEqual(offset?.errorMs ?? 0, 0.5 + 59_999 * 1e-4);
});

test("combineOffsets() is never less exact than the fresh measurement, and the truth stays within [TB-12]", () => {
  const error = fc.double({ min: 0.001, max: 100, noNaN: true });
  const share = fc.double({ min: -1, max: 1, noNaN: true });
  fc.assert(fc.property(error, error, share, share, fc.nat(1e6), (e1, e2, s1, s2, age) => {
    const truth = 1_000;
    const combined = combineOffsets({ ms: truth + s1 * e1, errorMs: e1 }, { ms: truth + s2 * e2, errorMs: e2 }, age);
    assertLessOrEqual(combined.errorMs, e2 + 1e-9);
    assertLessOrEqual(Math.abs(combined.ms - truth), combined.errorMs + 1e-9);
  }));
});

test("combineOffsets() follows a server whose clock was set [TB-12]", () => {
  assertEquals(combineOffsets({ ms: 0, errorMs: 1 }, { ms: 3_600_000, errorMs: 2 }, 10), { ms: 3_600_000, errorMs: 2 });
});

/** A world in which host, monotonic and server time are set by hand. */
function world() {
  const time = { wall: 5_000, monotonic: 0, serverAhead: 1_000, roundTrip: 2, asked: 0, down: false };
  const local: Clock = { now: () => time.wall, sleep: () => Promise.resolve() };
  const clock = createServerClock(
    () => {
      if (time.down) return Promise.reject(new Error("down"));
      time.asked++;
      const before = time.monotonic;
      time.monotonic += time.roundTrip;
      return Promise.resolve({ before, after: time.monotonic, server: before + time.roundTrip / 2 + time.serverAhead });
    },
    local,
    () => time.monotonic,
  );
  return { time, clock };
}

test("ServerClock is the local clock until it was measured, and the server's afterwards [TB-12]", async () => {
  const { time, clock } = world();
  assertEquals(clock.now(), 5_000);
  assertEquals(clock.errorMs, Infinity);
  await clock.measure();
  assertEquals(clock.now(), time.monotonic + 1_000);
  assertLessOrEqual(clock.errorMs, 1);
});

test("a jump of the host's clock does not change ServerClock [TB-12]", async () => {
  const { time, clock } = world();
  await clock.measure();
  const before = clock.now();
  for (const jump of [86_400_000, -86_400_000]) {
    time.wall += jump;
    assertEquals(clock.now(), before);
  }
});

test("ServerClock never goes back: it waits where the server turns out to be behind [TB-12]", async () => {
  const { time, clock } = world();
  await clock.measure();
  const before = clock.now();
  time.serverAhead -= 500;
  await clock.measure();
  assertGreaterOrEqual(clock.now(), before);
  time.monotonic += 1_000;
  assertEquals(clock.now(), time.monotonic + 500);
});

test("ServerClock measures again on use when its measurement is old, once [TB-12]", async () => {
  const { time, clock } = world();
  await clock.measure();
  const { asked } = time;
  clock.now();
  assertEquals(time.asked, asked);
  time.monotonic += 31_000;
  time.serverAhead += 40;
  for (let i = 0; i < 10; i++) clock.now();
  await clock.measure();
  assertEquals(time.asked, asked * 2);
  assertEquals(clock.now(), time.monotonic + 1_040);
});

test("ServerClock goes on with what it knows when the server does not answer [TB-12]", async () => {
  const { time, clock } = world();
  await clock.measure();
  time.down = true;
  time.monotonic += 60_000;
  const before = clock.now();
  await clock.measure().then(() => assert(false), () => {});
  time.monotonic += 1;
  assertEquals(clock.now(), before + 1);
});

test("ServerClock stops asking when a measurement takes long [TB-12]", async () => {
  const { time, clock } = world();
  time.roundTrip = 400;
  await clock.measure();
  assertEquals(time.asked, 1);
});

await forEachServer((server) => {
  server.test("the store's clock shows the server's time [TB-12]", async () => {
    const { url } = await server.shared();
    await using store = testStore({ url });
    assertEquals(store.clock.errorMs, Infinity);
    await store.open();
    // the server is on this host, so both clocks are one
    assertLessOrEqual(Math.abs(store.clock.now() - Date.now()), store.clock.errorMs + 2);
    assertLessOrEqual(Math.abs(store.clock.offsetMs - (Date.now() - systemClock.now())), store.clock.errorMs + 2);
  });

  server.test("with clock: local the store's clock is this host's, and nothing is measured [TB-12]", async () => {
    const { url } = await server.shared();
    await using store = testStore({ url, clock: "local" });
    await store.open();
    const before = systemClock.now();
    const now = store.clock.now();
    assert(before <= now && now <= systemClock.now());
    assertEquals(store.clock.offsetMs, 0);
  });

  server.test("measuring leaves no key behind that keys() shows [NATS-4]", async () => {
    const { url } = await server.shared();
    await using store = testStore({ url });
    await store.open();
    assertEquals(await Array.fromAsync(store.kv.keys()), []);
  });
});
