import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertGreaterOrEqual,
  assertLessOrEqual,
  assertRejects,
} from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import {
  combineOffsets,
  createServerClock,
  offsetOf,
  parseTimestamp,
  type TimeSample,
  timeSource,
} from "../../../src/adapters/nats/clock.ts";
import { createLink } from "../../../src/adapters/nats/link.ts";
import type { Clock } from "../../../src/core/clock.ts";
import { systemClock } from "../../../src/adapters/system_clock.ts";
import { forEachServer } from "../../support/nats_server.ts";
import { logBook } from "../../support/log_book.ts";
import { connectionOf, freshBucket, testStore } from "../../support/nats_store.ts";

const CIRCUMSTANCES = { store: "nats", server: "localhost", bucket: "b", doing: "read", timeoutMs: 2_000 } as const;

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
  const best = offsetOf(samples, 22);
  assertEquals(best?.ms, 100);
  // Half of the round trip, and what two clocks may have drifted apart on the way.
  assertAlmostEquals(best?.errorMs ?? 0, 1 + 2 * 1e-3, 1e-9);
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
  const time = {
    wall: 5_000,
    monotonic: 0,
    serverAhead: 1_000,
    roundTrip: 2,
    /** Those of the next questions, before they are as usual again. */
    slowRoundTrips: [] as number[],
    asked: 0,
    down: false,
    stoppedFor: 0,
  };
  const local: Clock = { now: () => time.wall, sleep: () => Promise.resolve() };
  const clock = createServerClock(
    () => {
      if (time.down) return Promise.reject(new Error("down"));
      time.asked++;
      const before = time.monotonic;
      const roundTrip = time.slowRoundTrips.shift() ?? time.roundTrip;
      time.monotonic += roundTrip / 2 + time.stoppedFor;
      time.stoppedFor = 0;
      const server = time.monotonic + time.serverAhead;
      time.monotonic += roundTrip / 2;
      return Promise.resolve({ before, after: time.monotonic, server });
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
  assertLessOrEqual(clock.errorMs, 1.1);
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
  // Where one sample says all there is to know, no more are taken.
  assertEquals(time.asked, asked + 1);
  assertEquals(clock.now(), time.monotonic + 1_040);
});

test("ServerClock soon repeats a measurement over a slow line, and ever more rarely if it stays slow [TB-12]", async () => {
  const { time, clock } = world();
  time.roundTrip = 80;
  await clock.measure();
  const { asked } = time;
  time.roundTrip = 1;
  time.monotonic += 51;
  clock.now();
  await clock.measure();
  assertEquals(time.asked, asked + 1);
  assertLessOrEqual(clock.errorMs, 1);
  time.monotonic += 1_000;
  clock.now();
  assertEquals(time.asked, asked + 1);

  const slow = world();
  slow.time.roundTrip = 80;
  await slow.clock.measure();
  const begun = slow.time.asked;
  for (let ms = 0; ms < 20_000; ms += 10) {
    slow.time.monotonic += 10;
    slow.clock.now();
    for (let turn = 0; turn < 20; turn++) await undefined;
  }
  assertLessOrEqual(slow.time.asked - begun, 18);
});

test("ServerClock says when it was measured, and that it was too long ago [TB-12]", async () => {
  const { time, clock } = world();
  assertEquals([clock.measuredAt, clock.isStale], [null, true]);
  await clock.measure();
  assertEquals([clock.measuredAt, clock.isStale], [clock.now(), false]);
  const { measuredAt } = clock;
  time.monotonic += 4_000;
  clock.now();
  assertEquals([clock.measuredAt, clock.isStale], [measuredAt, false]);
  time.monotonic += 2_000;
  clock.now();
  assertEquals([clock.measuredAt, clock.isStale], [measuredAt, true]);
  await clock.measure();
  assertEquals(clock.isStale, false);
});

test("ServerClock does not believe a sample that met a server which stood still [TB-12]", async () => {
  for (const isFirst of [true, false]) {
    const { time, clock } = world();
    if (!isFirst) await clock.measure();
    // The request waits for the server for 3 s, and the answer comes at once.
    time.stoppedFor = 3_000;
    await clock.measure();
    assertAlmostEquals(clock.now(), time.monotonic + 1_000, 2);
    assertLessOrEqual(clock.errorMs, 6);
  }
});

test("ServerClock stays within its error of the truth, and never goes back, whatever drifts, steps, waits and stops [TB-12]", async () => {
  const latency = fc.oneof(fc.double({ min: 0.05, max: 2, noNaN: true }), fc.double({ min: 0, max: 800, noNaN: true }));
  const events = fc.array(
    fc.record({
      pause: fc.oneof(fc.nat(3_000), fc.nat(7_200_000)),
      there: latency,
      back: latency,
      step: fc.constantFrom(0, 0, 3_600_000, -3_600_000),
      drift: fc.double({ min: -5e-4, max: 5e-4, noNaN: true }),
      measured: fc.boolean(),
    }),
    { maxLength: 40 },
  );
  await fc.assert(
    fc.asyncProperty(events, async (list) => {
      // The server's time is the true one; this host's runs differently all the time.
      let truth = 0;
      let monotonic = 500;
      let wall = 7_000;
      let now = { there: 1, back: 1, drift: 0 };
      const pass = (ms: number) => {
        truth += ms;
        monotonic += ms * (1 + now.drift);
        wall += ms * (1 + now.drift);
      };
      const clock = createServerClock(
        () => {
          const before = monotonic;
          pass(now.there);
          const server = truth;
          pass(now.back);
          return Promise.resolve({ before, after: monotonic, server });
        },
        { now: () => wall, sleep: () => Promise.resolve() },
        () => monotonic,
      );
      await clock.measure();
      let latest = -Infinity;
      for (const event of list) {
        now = event;
        wall += event.step;
        pass(event.pause);
        // To ask for the time may take the server, which takes time here.
        const { errorMs } = clock;
        const asked = truth;
        const shown = clock.now();
        assertGreaterOrEqual(shown, latest);
        // Where it has been ahead it waits: it may not be further ahead than it could be then.
        assertLessOrEqual(shown - asked, Math.max(errorMs, latest - asked) + 1e-6);
        assertGreaterOrEqual(shown - asked, -errorMs - 1e-6);
        latest = shown;
        if (event.measured) await clock.measure();
      }
    }),
    { numRuns: 300 },
  );
});

test("ServerClock goes on with what it knows when the server does not answer [TB-12]", async () => {
  const { time, clock } = world();
  await clock.measure();
  time.down = true;
  time.monotonic += 60_000;
  const before = clock.now();
  // It does not know how far the two have drifted apart, so it is rather behind.
  assertAlmostEquals(before, time.monotonic + 1_000 - 60, 1);
  await clock.measure().then(() => assert(false), () => {});
  time.monotonic += 1;
  assertAlmostEquals(clock.now(), before + 1, 0.01);
});

test("ServerClock refuses to be decided by when it is stale and cannot be measured [TB-12, FAIL-3]", async () => {
  const { time, clock } = world();
  await clock.measure();
  time.down = true;
  time.monotonic += 4_000;
  await clock.refresh(); // it is known well enough
  time.monotonic += 2_000;
  await assertRejects(() => clock.refresh(), Error, "down");
  time.down = false;
  await clock.refresh();
  assertEquals(clock.isStale, false);
});

test("ServerClock asks several times, and trusts the answer that was quick [TB-12]", async () => {
  const { time, clock } = world();
  time.slowRoundTrips = [12, 12, 12, 12];
  await clock.measure();
  assertLessOrEqual(clock.errorMs, 1.1);
});

test("ServerClock stops asking when a measurement takes long [TB-12]", async () => {
  const { time, clock } = world();
  time.roundTrip = 400;
  await clock.measure();
  // One alone could have met a server that stood still.
  assertEquals(time.asked, 2);
});

await forEachServer((server) => {
  server.test("whichever server leads the bucket says the time, also if it is older than the one that is asked [TB-12]", async () => {
    const { url } = await server.shared();
    const bucketName = freshBucket();
    await using store = testStore({ url, bucketName });
    const link = createLink(await connectionOf(store), { ...CIRCUMSTANCES, bucket: bucketName }, logBook(), false);
    const monotonic = () => performance.timeOrigin + performance.now();
    for (const serverVersion of ["2.9.0", "2.15.0"]) {
      const sample = await timeSource(link, { serverVersion }, [bucketName], monotonic)();
      assertAlmostEquals(sample?.server ?? 0, monotonic(), 10_000, serverVersion);
    }
    link.release();
  });

  server.test("the store's clock shows the server's time, whatever this host's says [TB-12]", async () => {
    const { url } = await server.shared();
    const host: Clock = { now: () => systemClock.now() - 3_600_000, sleep: systemClock.sleep };
    await using store = testStore({ url }, logBook(), host);
    const { source, errorMs, measuredAt } = store.readClock();
    assertEquals({ source, errorMs, measuredAt }, { source: "server", errorMs: Infinity, measuredAt: null });
    await store.open();
    assert(Math.abs((store.readClock().measuredAt ?? 0) - Date.now()) < 60_000);
    // Between two looks at clocks the machine may stop this process, but not each time.
    const least = (differenceOf: () => number) => Math.min(...Array.from({ length: 20 }, differenceOf).map(Math.abs));
    // the server is on this host, so both clocks are one
    assertLessOrEqual(least(() => store.clock.now() - Date.now()), store.readClock().errorMs + 2);
    assertLessOrEqual(
      least(() => store.readClock().offsetMs - (Date.now() - host.now())),
      store.readClock().errorMs + 2,
    );
  });

  server.test("with clock: local the store's clock is this host's, and nothing is measured [TB-12]", async () => {
    const { url } = await server.shared();
    await using store = testStore({ url, clock: "local" });
    await store.open();
    const before = systemClock.now();
    const now = store.clock.now();
    assert(before <= now && now <= systemClock.now());
    const { source, offsetMs, errorMs, measuredAt } = store.readClock();
    assertEquals({ source, offsetMs, errorMs, measuredAt }, {
      source: "host",
      offsetMs: 0,
      errorMs: 10,
      measuredAt: null,
    });
  });

  server.test("measuring leaves no key behind that keys() shows [NATS-4]", async () => {
    const { url } = await server.shared();
    await using store = testStore({ url });
    await store.open();
    assertEquals(await Array.fromAsync(store.kv.keys()), []);
  });
});
