import { assertEquals, assertGreater, assertGreaterOrEqual, assertLess, assertLessOrEqual } from "@std/assert";
import { test } from "node:test";
import { RateLimiterAcquisitionError } from "../../src/core/errors.ts";
import { keepCalling } from "../support/keep_calling.ts";
import { rateExcess, type Start } from "../support/oracles.ts";
import { createSimulation, type SimulatedProcess } from "../support/simulated_process.ts";

test("two processes with 100 waiting callers each get about the same, and neither starves [TB-9]", async () => {
  const { clock, start, run } = createSimulation();
  const processes = [start({ ratePerSecond: 100 }, { latencyMs: 2 }), start({ ratePerSecond: 100 }, { latencyMs: 2 })];
  const served = [0, 0];
  const longest = [0, 0];
  const begun = clock.now();
  const until = begun + 20_000;
  const callers = processes.flatMap(({ limiter }, process) =>
    Array.from({ length: 100 }, async () => {
      while (clock.now() < until) {
        const { waitedMs } = await limiter.acquire();
        served[process] = (served[process] ?? 0) + 1;
        longest[process] = Math.max(longest[process] ?? 0, waitedMs);
      }
    })
  );
  await run(Promise.all(callers));
  const [first = 0, second = 0] = served;
  assertGreater(Math.min(first, second) / Math.max(first, second), 0.7, `${served}`);
  // With 200 callers at 100/s everybody's turn comes every two seconds.
  assertLess(Math.max(...longest), 5_000, `${longest}`);
});

test("a process with one caller gets its turn beside one with 100 that never stop asking [TB-9]", async () => {
  const { clock, start, run } = createSimulation();
  const crowd = start({ ratePerSecond: 100 }, { latencyMs: 1 });
  const single = start({ ratePerSecond: 100 }, { latencyMs: 6 });
  const until = clock.now() + 20_000;
  const waits: number[] = [];
  const ask = async (limiter: typeof crowd.limiter, note: (ms: number) => void) => {
    while (clock.now() < until) note((await limiter.acquire()).waitedMs);
  };
  const callers = Array.from({ length: 100 }, () => ask(crowd.limiter, () => {}));
  await run(Promise.all([...callers, ask(single.limiter, (ms) => waits.push(ms))]));
  // 101 callers at 100/s: everybody's turn comes about every second.
  assertLess(Math.max(...waits), 4_000, `${waits}`);
  assertGreater(waits.length, 5, `${waits}`);
});

for (const handsOver of [true, false]) {
  const way = handsOver ? "handed over" : "each writes for itself";
  for (const { burst, cost } of [{ burst: 10, cost: 10 }, { burst: 40, cost: 20 }]) {
    test(`a large cost comes to its turn beside 20 callers who take whatever there is (${cost} of ${burst}; ${way}) [TB-9]`, async () => {
      const { clock, start, run } = createSimulation();
      const process = { latencyMs: 2, ...(handsOver ? {} : { store: { peers: undefined } }) };
      const options = { ratePerSecond: 10, burst };
      const [crowd, single] = [start(options, process), start(options, process)];
      const begun = clock.now();
      const until = begun + 120_000;
      let taken = 0;
      const waits: number[] = [];
      const small = Array.from({ length: 20 }, async () => {
        for (; clock.now() < until; taken++) await crowd.limiter.acquire();
      });
      const large = async () => {
        for (; clock.now() < until; taken += cost) waits.push((await single.limiter.acquire({ cost })).waitedMs);
      };
      await run(Promise.all([...small, large()]), 240_000);
      // What it wants takes a second or two to come, and it is passed over four times.
      assertLess(Math.max(...waits), 12_000, `${waits}`);
      // Nothing is wasted for it.
      assertGreater(taken, 0.97 * (burst + 10 * (clock.now() - begun) / 1_000 - cost));
    });
  }
}

for (
  const { latencyMs, cost } of [{ latencyMs: 250, cost: 1 }, { latencyMs: 250, cost: 20 }, { latencyMs: 300, cost: 20 }]
) {
  test(`a rate is used up although the store takes ${latencyMs} ms, and who writes is asked as long (cost ${cost}) [TB-5]`, async () => {
    const { clock, start, run } = createSimulation();
    const options = { ratePerSecond: 10, burst: 20, onFailure: "closed" } as const;
    const begun = clock.now();
    const until = begun + 120_000;
    let taken = 0;
    const call = async ({ limiter }: SimulatedProcess, cost: number) => {
      for (; clock.now() < until; taken += cost) await limiter.acquire({ cost });
    };
    const [first, second, third] = [0, 1, 2].map(() => start(options, { latencyMs }));
    const five = (process: SimulatedProcess) => Array.from({ length: 5 }, () => call(process, 1));
    await run(Promise.all([...five(first!), ...five(second!), call(third!, cost)]), 240_000);
    assertGreater(taken, 0.97 * (10 * (clock.now() - begun) / 1_000 - cost), `${taken}`);
  });
}

test("what is granted far ahead counts until then, also where it takes a month to come [TB-9]", async () => {
  const DAY = 86_400_000;
  const { clock, start, run } = createSimulation();
  const limit = { ratePerSecond: 60_000 / (30 * DAY), burst: 60 };
  const [crowd, single] = [start(limit, { latencyMs: 2 }), start(limit, { latencyMs: 2 })];
  const starts: Start[] = [];
  const note = (cost: number) => starts.push({ at: clock.now(), cost, until: clock.now() });
  const end = new AbortController();
  const small = async () => {
    for (;;) {
      await crowd.limiter.acquire({ signal: end.signal });
      note(1);
    }
  };
  const crowded = Promise.allSettled(Array.from({ length: 6 }, small));
  await run(single.limiter.acquire({ cost: 60 }), 40 * DAY);
  note(60);
  await run(clock.sleep(2 * DAY), 3 * DAY);
  end.abort("done");
  await run(crowded);
  assertEquals([...crowd.warnings, ...single.warnings], []);
  assertEquals(rateExcess(starts, limit, DAY / 2), undefined);
});

test("who waits for a permit first and for its time then is served, whoever waits beside it [CMB-1]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { ratePerSecond: 1, maxConcurrent: 1, leaseMs: 20_000 };
  const [crowd, pair] = [start(options, { latencyMs: 1 }), start(options, { latencyMs: 1 })];
  const holder = await run(crowd.limiter.acquire());
  const served = Array.from({ length: 8 }, async () => {
    const permit = await crowd.limiter.acquire();
    void permit.release();
  });
  const impatient = Array.from(
    { length: 2 },
    () => pair.limiter.acquire({ cost: 0.5, timeoutMs: 2_000 }).then((permit) => permit.release(), () => {}),
  );
  await clock.advance(100);
  void holder.release();
  await run(Promise.all([...served, ...impatient]), 60_000);
});

test("who waits for its time keeps no free permit from others, although it had waited for one before [CMB-1, CON-2]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { algorithm: "sliding_window", limit: 100, windowMs: 60_000, maxConcurrent: 2 } as const;
  const [waiting, other, holder] = [1, 1, 1].map((latencyMs) => start(options, { latencyMs }));
  const [released] = await run(Promise.all([holder!.limiter.acquire(), holder!.limiter.acquire()]));
  const all = waiting!.limiter.acquire({ cost: 100 });
  await clock.advance(1_200); // so that it says that it waits for a permit
  await run(released.release());
  await clock.advance(100); // so that it hears of that, and sees that only time helps
  for (let i = 0; i < 20; i++) {
    const result = await run(other!.limiter.tryAcquire());
    assertEquals(result.allowed, true, `try ${i}`);
    await run(result.release());
    await clock.advance(1_000);
  }
  const { waitedMs } = await run(all);
  // When the window of the last of them is over.
  assertGreater(waitedMs, 60_000);
  assertLess(waitedMs, 60_000 + 25_000);
});

test("a permit is handed to another process in three round trips of the store [CON-2]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { maxConcurrent: 1 };
  const [from, to] = [start(options, { latencyMs: 10 }), start(options, { latencyMs: 10 })];
  const held = await run(from.limiter.acquire());
  const next = to.limiter.acquire();
  await clock.advance(75);
  const releasedAt = clock.now();
  void held.release();
  await run(next);
  // The hint is there when the write is, and then come a read and a write.
  assertLess(clock.now() - releasedAt, 31);
});

test("one caller gets its share of a permit that 20 in another process pass on among themselves [CON-2, TB-9]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { maxConcurrent: 1 };
  const [crowd, single] = [start(options, { latencyMs: 1 }), start(options, { latencyMs: 1 })];
  const until = clock.now() + 10_000;
  const loop = async (limiter: typeof crowd.limiter) => {
    const waits: number[] = [];
    while (clock.now() < until) {
      await using permit = await limiter.acquire();
      waits.push(permit.waitedMs);
      await clock.sleep(5);
    }
    return waits;
  };
  const all = Promise.all([loop(single.limiter), ...Array.from({ length: 20 }, () => loop(crowd.limiter))]);
  const [own = [], ...others] = await run(all);
  const total = others.reduce((sum, waits) => sum + waits.length, own.length);
  assertGreater(own.length, total / 21, `${own.length} of ${total}`);
  // It sees that others take permits at its first look, and is next then.
  assertLess(Math.max(...own), 150, `${own}`);
});

for (
  const { processes, maxConcurrent, leastShare } of [
    { processes: 4, maxConcurrent: 10, leastShare: 0.15 },
    { processes: 4, maxConcurrent: 40, leastShare: 0.22 },
    { processes: 2, maxConcurrent: 3, leastShare: 0.3 },
  ]
) {
  test(`${processes} processes with many callers share ${maxConcurrent} permits evenly, and use all of them [CON-2, TB-9]`, async () => {
    const HOLD_MS = 5;
    const { clock, start, run } = createSimulation();
    const until = clock.now() + 3_000;
    const served = Array.from({ length: processes }, async () => {
      const { limiter } = start({ maxConcurrent }, { latencyMs: 1 });
      let count = 0;
      await Promise.all(Array.from({ length: maxConcurrent + 10 }, async () => {
        for (; clock.now() < until; count++) {
          await using _permit = await limiter.acquire();
          await clock.sleep(HOLD_MS);
        }
      }));
      return count;
    });
    const counts = await run(Promise.all(served), 20_000);
    const total = counts.reduce((sum, count) => sum + count, 0);
    assertGreater(Math.min(...counts), leastShare * total, `${counts}`);
    // To release one and take the next is one conversation, or two of a process that has it done by the writer.
    assertGreater(total, 3_000 / (HOLD_MS + 8) * maxConcurrent, `${counts}`);
  });
}

test("two processes do not leave a free permit to each other when one of them has just waited for long [CON-2]", async () => {
  const { clock, start, run } = createSimulation();
  const process = (latencyMs: number) => start({ maxConcurrent: 5 }, { latencyMs, store: { peers: undefined } });
  const [one, holder, far] = [process(1), process(1), process(10)];
  const hold = async ({ limiter }: SimulatedProcess, count: number) =>
    await run(Promise.all(Array.from({ length: count }, () => limiter.acquire())));
  await hold(one, 3);
  const [released] = await hold(holder, 2);
  const first = one.limiter.acquire();
  await clock.advance(100);
  const second = far.limiter.acquire();
  // The first has waited for less than a second when it hears of the permit, and for more when the second does.
  await clock.advance(890);
  const releasedAt = clock.now();
  void released!.release();
  await run(Promise.race([first, second]));
  assertLess(clock.now() - releasedAt, 60);
});

test("a free permit that was left to one that stops waiting is taken at once by the next one [CON-2, CON-8]", async () => {
  for (let afterMs = 800; afterMs < 1_200; afterMs += 50) {
    const { clock, start, run } = createSimulation();
    const process = (latencyMs: number) => start({ maxConcurrent: 1 }, { latencyMs });
    const [one, holder, far] = [process(1), process(1), process(30)];
    const released = await run(holder.limiter.acquire());
    const stop = new AbortController();
    const stopped = far.limiter.acquire({ signal: stop.signal }).catch(() => {});
    await clock.advance(100);
    const waiting = one.limiter.acquire();
    await clock.advance(afterMs);
    const releasedAt = clock.now();
    void released.release();
    await clock.advance(3);
    stop.abort("done"); // before it can look
    await run(Promise.all([waiting, stopped]));
    assertLess(clock.now() - releasedAt, 200, `after ${afterMs} ms`);
  }
});

test("a permit is taken at once although the writer was too far to release it in time [CON-2]", async () => {
  const { clock, start, run } = createSimulation();
  const process = (latencyMs: number) => start({ maxConcurrent: 2 }, { latencyMs });
  const [one, holder, far] = [process(1), process(1), process(30)];
  const [released] = await run(Promise.all([holder.limiter.acquire(), holder.limiter.acquire()]));
  const waiting = one.limiter.acquire();
  await clock.advance(100);
  const stop = new AbortController();
  const stopped = far.limiter.acquire({ signal: stop.signal }).catch(() => {});
  await clock.advance(800); // it says that it waits, and has written last
  const releasedAt = clock.now();
  void released.release();
  await run(waiting);
  assertLess(clock.now() - releasedAt, 200);
  stop.abort("done");
  await run(stopped);
});

test("short jobs keep a share of the permits beside long ones of another process, and the other way round [CON-2, TB-9]", async () => {
  const simulation = createSimulation();
  const held = [0, 0];
  const calls = [10_000, 20].flatMap((holdMs, i) => {
    const { limiter } = simulation.start({ maxConcurrent: 10, failClosed: true }, { latencyMs: 1 });
    return Array.from({ length: 20 }, () => async (signal: AbortSignal) => {
      await using _permit = await limiter.acquire({ signal });
      await simulation.clock.sleep(holdMs);
      held[i]! += holdMs;
    });
  });
  await keepCalling(simulation, 120_000, calls);
  for (const ms of held) assertGreater(ms, 2 * 120_000, `${held}`);
});

test("nobody wins one turn after the other where everybody waits for the next window [TB-9]", async () => {
  const { start, run } = createSimulation();
  const window = { algorithm: "sliding_window", limit: 1, windowMs: 1_000, reserveAheadMs: 200 } as const;
  const turns: number[] = [];
  const callers = Array.from({ length: 4 }, (_, process) => {
    // Each writes for itself: where requests are handed over, their writer shares.
    const { limiter } = start(window, { latencyMs: 2, store: { peers: undefined } });
    return Array.from({ length: 50 }, async () => {
      await limiter.acquire();
      turns.push(process);
    });
  });
  await run(Promise.all(callers.flat()));
  const again = turns.slice(0, 100).filter((process, i) => process === turns[i - 1]).length;
  assertLess(again, 10, `${turns.slice(0, 100)}`);
});

for (
  const { latencies, limit, leastShare } of [
    { latencies: [5, 5], limit: { limit: 10, windowMs: 300, reserveAheadMs: 200 }, leastShare: 0.4 },
    { latencies: [100, 100], limit: { limit: 10, windowMs: 1_000 }, leastShare: 0.4 },
    { latencies: [30, 30, 30, 30], limit: { limit: 10, windowMs: 1_000 }, leastShare: 0.18 },
    // Who is far from the store comes late to every window, and needs a start of the others to come to one at all.
    { latencies: [1, 60], limit: { limit: 10, windowMs: 1_000 }, leastShare: 0.25 },
    { latencies: [1, 1, 1, 60], limit: { limit: 10, windowMs: 500 }, leastShare: 0.15 },
    // Nothing is reserved, so all write at the very moment.
    { latencies: [1, 1.1, 1.2], limit: { limit: 1, windowMs: 3_000, reserveAheadMs: 0 }, leastShare: 0.2 },
  ] as const
) {
  test(`everybody comes to windows of ${limit.windowMs} ms although the store is ${latencies} ms away [TB-9, SW-2]`, async () => {
    const simulation = createSimulation();
    const served = latencies.map(() => 0);
    const callers = latencies.flatMap((latencyMs, i) => {
      const { limiter } = simulation.start({ algorithm: "sliding_window", ...limit, failClosed: true }, { latencyMs });
      return Array.from({ length: 20 }, () => async (signal: AbortSignal) => {
        await limiter.acquire({ signal });
        served[i]!++;
      });
    });
    await keepCalling(simulation, 120_000, callers);
    const total = served.reduce((sum, of) => sum + of);
    assertGreaterOrEqual(Math.min(...served), leastShare * total, `${served}`);
    assertGreaterOrEqual(total, 0.95 * limit.limit * 120_000 / limit.windowMs);
  });
}

for (
  const { near, far, callers, leastShare } of [
    { near: 4, far: 30, callers: 1, leastShare: 0.02 },
    { near: 4, far: 10, callers: 1, leastShare: 0.05 },
    { near: 4, far: 30, callers: 3, leastShare: 0.11 },
    { near: 1, far: 60, callers: 1, leastShare: 0.08 },
  ] as const
) {
  const name = `${near} that are 1 ms away, with ${callers} callers each`;
  test(`who is ${far} ms away from the store comes to permits, and gives them back, beside ${name} [CON-2, CON-9, TB-9]`, async () => {
    const simulation = createSimulation();
    const { clock } = simulation;
    const latencies = [...Array<number>(near).fill(1), far];
    const served = latencies.map(() => 0);
    let slowest = 0;
    const calls = latencies.flatMap((latencyMs, i) => {
      const { limiter } = simulation.start({ maxConcurrent: 3, failClosed: true }, { latencyMs });
      return Array.from({ length: callers }, () => async (signal: AbortSignal) => {
        const permit = await limiter.acquire({ signal });
        served[i]!++;
        await clock.sleep(20);
        const releasedAt = clock.now();
        await permit.release();
        if (latencyMs === far) slowest = Math.max(slowest, clock.now() - releasedAt);
      });
    });
    await keepCalling(simulation, 60_000, calls);
    assertGreaterOrEqual(served.at(-1)!, leastShare * served.reduce((sum, of) => sum + of), `${served}`);
    assertLess(slowest, 15 * far + 100);
  });
}

test("who could start just in time is not refused for coming a little late, so that others have a turn [TB-9]", async () => {
  for (const latencyMs of [1, 20, 60]) {
    for (let spareMs = 1; spareMs < 20; spareMs++) {
      const { start, run } = createSimulation();
      const { limiter } = start({ ratePerSecond: 1 / 3, reserveAheadMs: 0 }, { latencyMs, seed: 2 });
      await run(limiter.acquire());
      const { allowed } = await run(limiter.tryAcquire({ timeoutMs: 3_000 + spareMs }));
      assertEquals(allowed, true, `${latencyMs} ms away, ${spareMs} ms to spare`);
    }
  }
});

test("who asks again and again, and is near the store, is not kept from a rate by one that is far [TB-9]", async () => {
  const simulation = createSimulation();
  const latencies = [1, 40];
  const served = latencies.map(() => 0);
  const calls = latencies.flatMap((latencyMs, i) => {
    const { limiter } = simulation.start({ ratePerSecond: 100, failClosed: true }, { latencyMs });
    return Array.from({ length: 3 }, () => async () => {
      if ((await limiter.tryAcquire()).allowed) served[i]!++;
      await simulation.clock.sleep(7);
    });
  });
  await keepCalling(simulation, 30_000, calls);
  // What the far one is granted counts for when it hears so, and no slot before that is left.
  assertGreater(Math.min(...served), 500, `${served}`);
});

test("a process where nobody waits any more does not keep a permit from the others [TB-9, CON-8]", async () => {
  const { clock, server, start, run } = createSimulation();
  const options = { maxConcurrent: 1, leaseMs: 20_000 };
  const [holding, leaving, waiting] = [start(options), start(options), start(options)];
  const permit = await run(holding.limiter.acquire());
  const controller = new AbortController();
  const left = leaving.limiter.acquire({ signal: controller.signal }).catch(() => {});
  await clock.advance(10);
  const next = waiting.limiter.acquire();
  await clock.advance(2_000);
  const keepsPlace = () => server.text("api")?.includes('{"owner":"process2-1","since"');
  assertEquals(keepsPlace(), true);
  controller.abort();
  await run(left);
  await clock.advance(1);
  assertEquals(keepsPlace(), false);
  await run(permit.release());
  const released = clock.now();
  await run(next);
  assertLess(clock.now() - released, 10);
});

test("callers who wait in vain for a full limit are refused, and not let in as if the store were down [FAIL-1, TMO-2]", async () => {
  const cases = [
    { processes: 3, latencyMs: 40, timeoutMs: 2_000, workMs: 30 },
    { processes: 3, latencyMs: 15, timeoutMs: 1_000, workMs: 100 },
    { processes: 8, latencyMs: 5, timeoutMs: 2_000, workMs: 30 },
  ];
  for (const { processes, latencyMs, timeoutMs, workMs } of cases) {
    const { clock, start, run } = createSimulation();
    const all = Array.from({ length: processes }, () => start({ maxConcurrent: 2, timeoutMs }, { latencyMs }));
    const endAt = clock.now() + 30_000;
    const endings = new Map<string, number>();
    let running = 0;
    const call = async ({ limiter }: SimulatedProcess) => {
      while (clock.now() < endAt) {
        let ending = "granted";
        try {
          await using permit = await limiter.acquire();
          if (permit.degraded) ending = "degraded";
          if (++running > 2) ending = "too many";
          await clock.sleep(workMs);
          running--;
        } catch (error) {
          ending = error instanceof RateLimiterAcquisitionError ? error.reason : String(error);
        }
        endings.set(ending, (endings.get(ending) ?? 0) + 1);
      }
    };
    await run(Promise.all(all.flatMap((process) => Array.from({ length: 20 }, () => call(process)))), 60_000);
    assertEquals([...endings.keys()].sort(), ["granted", "timeout"], `${processes} processes, ${latencyMs} ms`);
  }
});

test("what a process gives back is had by another one that was refused before, and that waits for it [CHK-6, CMB-2]", async () => {
  for (
    const options of [
      { algorithm: "sliding_window", limit: 1, windowMs: 3_600_000 },
      { ratePerSecond: 1 / 3_600 },
    ] as const
  ) {
    const { clock, start, run } = createSimulation();
    const [one, other] = [start(options, { latencyMs: 2 }), start(options, { latencyMs: 2 })];
    // As checkMultiLimiters does, where another limiter refuses then.
    const taken = await run(one.limiter.tryTake());
    assertEquals((await run(other.limiter.tryAcquire())).allowed, false);
    await run(taken.cancel());
    await run(clock.sleep(1_000));
    assertEquals((await run(other.limiter.tryAcquire())).allowed, true);

    await run(other.limiter.reset());
    const again = await run(one.limiter.tryTake());
    const begun = clock.now();
    const waiting = other.limiter.acquire();
    await run(clock.sleep(5));
    await run(again.cancel());
    await run(waiting);
    assertLess(clock.now() - begun, 2_000);
  }
});

test("a refusal that is certain without the store stays one while the store is silent, in every mode [FAIL-1]", async () => {
  for (const onFailure of ["open", "closed", "local"] as const) {
    const { clock, start, run } = createSimulation();
    const options = { algorithm: "sliding_window", limit: 1, windowMs: 3_600_000, onFailure } as const;
    const { limiter, link } = start(options, { latencyMs: 2 });
    await run(limiter.acquire());
    await run(clock.sleep(60_000));
    link.isDown = true;
    const results = await run(Promise.all([limiter.tryAcquire(), limiter.tryAcquire({ timeoutMs: 60_000 })]));
    assertEquals(
      results.map(({ allowed, degraded }) => [allowed, degraded]),
      [[false, false], [false, false]],
      onFailure,
    );
    // Whoever only looks sees what a request meets.
    const looks = [await run(limiter.check({ consume: false })), await run(limiter.getState())];
    assertEquals(looks.map(({ allowed }) => allowed), [false, false], onFailure);
  }
});

test("who waits for its time does not notice a store that is away for a while, long before that time [FAIL-1]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { algorithm: "sliding_window", limit: 1, windowMs: 600_000 } as const;
  const { limiter, link } = start(options, { latencyMs: 2 });
  await run(limiter.acquire());
  const begun = clock.now();
  const waiting = limiter.acquire();
  await run(clock.sleep(60_000));
  link.isDown = true;
  await run(clock.sleep(32_000));
  link.isDown = false;
  const permit = await run(waiting, 1_000_000);
  assertEquals(permit.degraded, false);
  assertGreaterOrEqual(clock.now() - begun, 599_000);
});

test("a refusal is told at once behind callers that wait, and costs the store one question in a second [TMO-6]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { algorithm: "sliding_window", limit: 1, windowMs: 3_600_000 } as const;
  const { limiter, link } = start(options, { latencyMs: 2 });
  const keys = Array.from({ length: 200 }, (_, i) => `${i}`);
  await run(Promise.all([limiter.acquire(), ...keys.map((key) => limiter.acquire({ key }))]));
  const abort = new AbortController();
  const waiting = limiter.acquire({ signal: abort.signal }).catch(() => {});
  await run(clock.sleep(20_000));
  for (const timeoutMs of [0, 5_000, 60_000]) {
    const begun = clock.now();
    const { allowed } = await run(limiter.tryAcquire({ timeoutMs }));
    assertEquals(allowed, false);
    assertLess(clock.now() - begun, 100, `${timeoutMs} ms`);
    await run(clock.sleep(3_000));
  }
  // Others come and go meanwhile, so that the limiter of this key is forgotten again and again.
  const before = link.sent.total;
  for (let i = 0; i < 1_000; i++) {
    assertEquals((await run(limiter.tryAcquire({ key: "7" }))).allowed, false);
    await run(clock.sleep(5));
  }
  assertLess(link.sent.total - before, 20);
  abort.abort();
  await run(waiting);
});

test("callers of several costs whose slots were all missed keep their order [TB-9]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 100, burst: 2 }, { latencyMs: 1 });
  await run(limiter.acquire());
  await clock.advance(100);
  link.failNext({ kind: "answer_late", byMs: 300 }, { operation: "compareAndSet" });
  const served: number[] = [];
  const callers = [1, 1, 2, 1, 1, 2, 1].map((cost, i) => limiter.acquire({ cost }).then(() => served.push(i)));
  await run(Promise.all(callers));
  assertEquals(served, [0, 1, 2, 3, 4, 5, 6]);
});

test("late answers now and then have nobody refused who comes at the pace of the rate, but whom they are for", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 100, burst: 1 }, { latencyMs: 1 });
  let refused = 0;
  const LATE = 5;
  for (let i = 0; i < 100 * LATE; i++) {
    if (i % 100 === 0) link.failNext({ kind: "answer_late", byMs: 12 }, { operation: "compareAndSet" });
    const begunAt = clock.now();
    if (!(await run(limiter.tryAcquire())).allowed) refused++;
    await clock.advance(Math.max(0, begunAt + 10 - clock.now()));
  }
  assertLessOrEqual(refused, 2 * LATE);
});

test("who stops waiting while the store fails takes no permit from others, though nobody heard that it waited [TB-9, CON-8]", async () => {
  const { clock, server, start, run } = createSimulation();
  const options = { maxConcurrent: 1, leaseMs: 500, backendTimeoutMs: 200, failClosed: true };
  const store = { peers: undefined };
  const [holder, waiter] = [start(options, { store }), start(options, { store })];
  const permit = await run(holder.limiter.acquire());
  const waiting = waiter.limiter.acquire().catch((error) => error);
  await clock.advance(300);
  // It is about to say that it waits, and nobody tells it that this was written.
  let isSilent = false;
  waiter.link.setFaults(({ operation }) => {
    isSilent ||= operation === "compareAndSet";
    return isSilent ? "answer_lost" : undefined;
  });
  const error = await run(waiting);
  assertEquals(error instanceof RateLimiterAcquisitionError && error.reason, "backend");
  assertEquals(server.text("api")?.includes('"waiting":[{"owner":"process2'), true, server.text("api"));
  waiter.link.setFaults({});
  await permit.release();
  assertLess((await run(holder.limiter.acquire())).waitedMs, 1_500);
});
