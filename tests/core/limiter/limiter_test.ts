import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertInstanceOf,
  assertLess,
  assertLessOrEqual,
  assertMatch,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { test } from "node:test";
import type { FailureOptions, LimiterOptions } from "../../../src/config/options.ts";
import {
  ImpossibleCostError,
  InvalidArgumentError,
  RateLimiterAcquisitionError,
  RateLimiterError,
} from "../../../src/core/errors.ts";
import { memoryKv } from "../../../src/adapters/memory.ts";
import { GLANCE_MS } from "../../../src/core/alarm.ts";
import { type CallOptions, TOGETHER, together } from "../../../src/core/limiter/together.ts";
import type { Kv } from "../../../src/core/store/kv.ts";
import { createRateSync } from "../../../src/registry/registry.ts";
import { createVirtualClock } from "../../../src/testing/virtual_clock.ts";
import { keepCalling } from "../../support/keep_calling.ts";
import { rateExcess, type Start } from "../../support/oracles.ts";
import type { AcquireOptions } from "../../../src/core/limiter/result.ts";
import { createSimulation, LIMITER_ID } from "../../support/simulated_process.ts";

/** Timers of something that was short are gone after this long. */
const MOMENT_MS = GLANCE_MS;

// Waiting and refusing

test("acquire() starts the first request at once and the next an interval later [TB-1]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 5 });
  const begun = clock.now();
  const waits: number[] = [];
  for (let i = 0; i < 4; i++) {
    const { waitedMs, degraded } = await run(limiter.acquire());
    waits.push(waitedMs);
    assertEquals(degraded, false);
  }
  assertEquals(waits, [0, 200, 200, 200]);
  assertEquals(clock.now() - begun, 600);
});

test("tryAcquire() is true and then false at 1/s, and says when to try again [TB-2]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 1 });
  assertEquals((await run(limiter.tryAcquire())).allowed, true);
  await clock.advance(400);
  const refused = await run(limiter.tryAcquire());
  assertEquals([refused.allowed, refused.retryAfterMs], [false, 600]);
  await clock.advance(599);
  assertEquals((await run(limiter.tryAcquire())).allowed, false);
  await clock.advance(1);
  assertEquals((await run(limiter.tryAcquire())).allowed, true);
});

test("tryAcquire() with a timeout waits for a slot within it [TB-3]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 10 });
  await run(limiter.acquire());
  const begun = clock.now();
  const result = await run(limiter.tryAcquire({ timeoutMs: 500 }));
  assertEquals([result.allowed, clock.now() - begun], [true, 100]);
});

test("tryAcquire() with an infinite timeout waits as long as it takes, and ignores the limiter's own [TMO-4]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 0.001, timeoutMs: 5 });
  await run(limiter.acquire());
  const begun = clock.now();
  const results = await run(Promise.all([1, 2, 3].map(() => limiter.tryAcquire({ timeoutMs: Infinity }))), 1e8);
  assertEquals(results.map(({ allowed }) => allowed), [true, true, true]);
  assertAlmostEquals(clock.now() - begun, 3_000_000, 1);
});

for (const [ratePerSecond, acquisitions, refusedFor] of [[1_000, 10, 0.9], [50, 10, 19], [0.5, 2, 1_900]] as const) {
  test(`a rate of ${ratePerSecond} a second is what it says [TB-4]`, async () => {
    const { clock, start, run } = createSimulation();
    const { limiter } = start({ ratePerSecond });
    const begun = clock.now();
    for (let i = 0; i < acquisitions; i++) await run(limiter.acquire());
    assertAlmostEquals(clock.now() - begun, (acquisitions - 1) * 1_000 / ratePerSecond, 1e-3);
    assertEquals((await run(limiter.tryAcquire({ timeoutMs: refusedFor }))).allowed, false);
  });
}

for (const ratePerSecond of [50, 100, 200]) {
  test(`no margin is taken off the interval of ${ratePerSecond} a second, however late the starts [TB-14]`, async () => {
    const { clock, start, run } = createSimulation();
    const { limiter } = start({ ratePerSecond }, { latencyMs: 4 });
    const starts: number[] = [];
    const end = clock.now() + 10_000;
    await run(Promise.all(Array.from({ length: 4 }, async () => {
      while (clock.now() < end) {
        await limiter.acquire();
        starts.push(clock.now());
      }
    })));
    const within = starts.filter((at) => at < end).length;
    assertLessOrEqual(within, ratePerSecond * 10 + 1);
    assertGreater(within, ratePerSecond * 10 * 0.98);
  });
}

test("acquire() with timeout 0 makes one attempt and no waiting [TMO-1, LIM-13]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 1 }, { latencyMs: 4 });
  await run(limiter.acquire({ timeoutMs: 0 }));
  const begun = clock.now();
  const error = await assertRejects(() => run(limiter.acquire({ timeoutMs: 0 })), RateLimiterAcquisitionError);
  assertEquals([error.reason, error.limiterId, error.rule], ["timeout", LIMITER_ID, "1/s, burst 1"]);
  assertMatch(error.message, /limiter 'api' at once/);
  assertLessOrEqual(clock.now() - begun, 4);
  assertLessOrEqual(link.sent.total, 2);
});

test("acquire() whose wait cannot succeed in time is told at once [TMO-6]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 1 });
  await run(limiter.acquire());
  const begun = clock.now();
  const error = await assertRejects(() => run(limiter.acquire({ timeoutMs: 999 })), RateLimiterAcquisitionError);
  assertEquals([clock.now() - begun, error.retryAfterMs], [0, 1_000]);
  assertStringIncludes(error.message, "within 0.999 s");
  await run(limiter.acquire({ timeoutMs: 1_000 }));
  assertEquals(clock.now() - begun, 1_000);
});

test("acquire() for which a rate has too little in time is told at once, although permits are taken too [TMO-6]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 10, burst: 3, maxConcurrent: 1 });
  const permit = await run(limiter.acquire());
  const begun = clock.now();
  const hopeless = limiter.tryAcquire({ cost: 3, timeoutMs: 50 });
  const behind = limiter.acquire({ timeoutMs: 100 });
  assertEquals([(await run(hopeless)).allowed, clock.now() - begun], [false, 0]);
  await permit.release();
  // It does not have to wait behind a caller that cannot be served.
  assertEquals((await run(behind)).waitedMs, 0);
});

test("acquire() behind others whose turn takes longer than its timeout is told at once [TMO-6]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 1 });
  const ahead = Array.from({ length: 11 }, () => limiter.acquire());
  const begun = clock.now();
  await clock.advance(1);
  await assertRejects(() => run(limiter.acquire({ timeoutMs: 10_900 })), RateLimiterAcquisitionError);
  assertLessOrEqual(clock.now() - begun, 1);
  await run(limiter.acquire({ timeoutMs: 11_000 }));
  assertEquals(clock.now() - begun, 11_000);
  await Promise.all(ahead);
});

test("acquire() without a timeout waits as long as it takes [TB-10]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 0.001 }, { maxRetries: 2 });
  const begun = clock.now();
  await run(Promise.all(Array.from({ length: 6 }, () => limiter.acquire())), 1e9);
  assertAlmostEquals(clock.now() - begun, 5_000_000, 1);
});

test("acquire() uses the limiter's own timeout if it gets none, and tryAcquire() does not [LIM-13, LIM-14]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 1, timeoutMs: 300 });
  await run(limiter.acquire());
  const error = await assertRejects(() => run(limiter.acquire()), RateLimiterAcquisitionError);
  assertStringIncludes(error.message, "within 0.3 s");
  assertEquals((await run(limiter.tryAcquire())).allowed, false);
  await run(limiter.acquire({ timeoutMs: Infinity }));
  assertEquals(clock.sleepers, 0);
});

for (const timeoutMs of [-1, -0.001, NaN, -Infinity]) {
  test(`acquire() and tryAcquire() refuse a timeout of ${timeoutMs}, and use nothing up [TMO-3]`, async () => {
    const { start, run } = createSimulation();
    const { limiter, link } = start({ ratePerSecond: 1 });
    for (const ask of [() => limiter.acquire({ timeoutMs }), () => limiter.tryAcquire({ timeoutMs })]) {
      const error = await assertRejects(() => run<unknown>(ask()), InvalidArgumentError);
      assertEquals([error.field, error instanceof RateLimiterError], ["timeoutMs", true]);
    }
    assertEquals(link.sent.total, 0);
    assertEquals(limiter.getMetrics().timeouts, 0);
  });
}

for (const cost of [0, -1, NaN, Infinity]) {
  test(`acquire() refuses a cost of ${cost}`, async () => {
    const { start, run } = createSimulation();
    const { limiter } = start({ ratePerSecond: 1 });
    assertEquals((await assertRejects(() => run(limiter.acquire({ cost })), InvalidArgumentError)).field, "cost");
  });
}

test("acquire() of more than the limit ever allows says so instead of waiting for ever", async () => {
  const { start, run } = createSimulation();
  const { limiter } = start({
    ratePerSecond: 1,
    burst: 3,
    rates: [{ limit: 2, windowMs: 500, algorithm: "sliding_window" }],
  });
  const error = await assertRejects(() => run(limiter.acquire({ cost: 3 })), ImpossibleCostError);
  assertEquals([error.cost, error.maximum, error.rule], [3, 2, "2 in any 0.5 s"]);
  await assertRejects(() => run(limiter.tryAcquire({ cost: 3 })), ImpossibleCostError);
  await assertRejects(() => run(limiter.check({ cost: 3, consume: false })), ImpossibleCostError);
});

test("a request that is refused uses nothing up, weighted or not [CMB-2]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 1, burst: 5 });
  await run(limiter.acquire({ cost: 3 }));
  for (let i = 0; i < 20; i++) assertEquals((await run(limiter.tryAcquire({ cost: 4 }))).allowed, false);
  assertEquals((await run(limiter.tryAcquire({ cost: 2 }))).allowed, true);
  await clock.advance(4_000);
  assertEquals((await run(limiter.tryAcquire({ cost: 4 }))).allowed, true);
});

test("a request that a permit refuses uses up neither rate nor window [CMB-2]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({
    ratePerSecond: 1,
    burst: 2,
    maxConcurrent: 1,
    rates: [{ limit: 2, windowMs: 60_000, algorithm: "sliding_window" }],
  });
  const permit = await run(limiter.acquire());
  for (let i = 0; i < 10; i++) assertEquals((await run(limiter.tryAcquire())).allowed, false);
  await run(permit.release());
  assertEquals((await run(limiter.tryAcquire())).allowed, true);
  assertGreater(clock.now(), 0);
});

test("a timeout while waiting for a permit gives the rate's slot back [CMB-3]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 0.1, burst: 2, maxConcurrent: 1 });
  const permit = await run(limiter.acquire());
  await assertRejects(() => run(limiter.acquire({ timeoutMs: 500 })), RateLimiterAcquisitionError);
  await run(permit.release());
  const begun = clock.now();
  await run(limiter.acquire({ timeoutMs: 0 }));
  assertEquals(clock.now(), begun);
});

// Ends by a signal

test("acquire() with a signal that was aborted before asks nobody [TMO-7]", async () => {
  const { start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 1 });
  const reason = new RangeError("enough");
  await assertRejects(() => run(limiter.acquire({ signal: AbortSignal.abort(reason) })), RangeError, "enough");
  assertEquals(link.sent.total, 0);
  assertEquals([limiter.getMetrics().aborted, limiter.getMetrics().timeouts], [1, 0]);
});

for (
  const [when, afterMs] of [["in flight", 1], ["scheduled", 40], ["in the queue of its process", 40]] as const
) {
  test(`acquire() that is aborted while it is ${when} leaves no slot, timer or listener behind [TMO-7]`, async () => {
    const { clock, start, run } = createSimulation();
    const { limiter } = start({ ratePerSecond: 2, reserveAheadMs: when === "scheduled" ? 5_000 : 100 }, {
      latencyMs: 8,
    });
    await run(limiter.acquire());
    const begun = clock.now();
    const controller = new AbortController();
    const counted = countListeners(controller.signal);
    const asked = limiter.acquire({ signal: controller.signal });
    void clock.sleep(afterMs).then(() => controller.abort(new RangeError("enough")));
    await assertRejects(() => run(asked), RangeError, "enough");
    assertAlmostEquals(clock.now() - begun, afterMs, 1e-6);
    assertEquals(counted(), 0);
    // The slot is free: the next one gets it, and not the one after it.
    await run(limiter.acquire());
    assertLessOrEqual(clock.now() - begun, 500 + 8);
    await clock.advance(MOMENT_MS);
    assertEquals(clock.sleepers, 0);
  });
}

test("acquire() that succeeds does not listen to its signal any more [TMO-7]", async () => {
  const { start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 10 }, { latencyMs: 2 });
  const controller = new AbortController();
  const counted = countListeners(controller.signal);
  for (let i = 0; i < 3; i++) await run(limiter.acquire({ signal: controller.signal }));
  await run(limiter.tryAcquire({ signal: controller.signal }));
  assertEquals(counted(), 0);
});

/** How many listeners were added and not removed. */
function countListeners(signal: AbortSignal): () => number {
  const listeners = new Set<unknown>();
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (type: string, listener: EventListener, options?: AddEventListenerOptions) => {
    if (!options?.signal) listeners.add(listener);
    add(type, listener, options);
  };
  signal.removeEventListener = (type: string, listener: EventListener) => {
    listeners.delete(listener);
    remove(type, listener);
  };
  return () => listeners.size;
}

test("the slot of somebody who leaves goes to those behind, in order [TMO-7, TB-9]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 10, reserveAheadMs: 10_000 });
  await run(limiter.acquire());
  const begun = clock.now();
  const served: [number, number][] = [];
  const controllers = Array.from({ length: 6 }, () => new AbortController());
  const waiting = controllers.map(({ signal }, i) =>
    limiter.acquire({ signal }).then(() => served.push([i, clock.now() - begun]), () => {})
  );
  await clock.advance(50);
  controllers[1]?.abort();
  controllers[3]?.abort();
  await run(Promise.all(waiting));
  assertEquals(served, [[0, 100], [2, 200], [4, 300], [5, 400]]);
  await run(limiter.acquire());
  assertEquals(clock.now() - begun, 500);
});

test("the slot of a large request that leaves is there again, although a small one has got a place behind it [TMO-7, CHK-6]", async () => {
  for (const latencyMs of [0, 2]) {
    const { clock, start, run } = createSimulation();
    const { limiter } = start({ ratePerSecond: 10, burst: 100 }, { latencyMs });
    await run(limiter.acquire({ cost: 5 }));
    const controller = new AbortController();
    const large = limiter.acquire({ cost: 100, signal: controller.signal });
    const small = limiter.acquire();
    await clock.advance(10);
    controller.abort(new RangeError("enough"));
    await assertRejects(() => large, RangeError, "enough");
    const { waitedMs } = await run(small);
    assertLess(waitedMs, 650);
    assertEquals((await run(limiter.getState())).remaining, 99);
    assertEquals((await run(limiter.tryAcquire({ cost: 98 }))).allowed, true);
  }
});

test("what is taken back when others have taken since, here or elsewhere, never comes back twice [CHK-6, TB-4]", async () => {
  const { start, run } = createSimulation();
  const options = { ratePerSecond: 0.001, burst: 10 };
  const [one, other] = [start(options, { latencyMs: 1 }), start(options, { latencyMs: 1 })];
  const left = async () => (await run(other.limiter.getState())).remaining;
  const [first, second, third] = await run(Promise.all([0, 1, 2].map(() => one.limiter.tryTake())));
  assertEquals(await left(), 7);
  await run(second!.cancel());
  assertEquals(await left(), 8);
  await run(other.limiter.acquire());
  // Now nobody knows any more what stands behind them.
  await run(first!.cancel());
  await run(third!.cancel());
  assertEquals(await left(), 7);
});

test("who stood behind one that has left is decided anew, and does not wait for when that could have started [TMO-7, TB-10]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 1, burst: 10 }, { latencyMs: 2 });
  await run(limiter.acquire({ cost: 10 }));
  const controller = new AbortController();
  const large = limiter.acquire({ cost: 10, signal: controller.signal });
  await clock.advance(100);
  const begun = clock.now();
  const behind = limiter.acquire();
  await clock.advance(100);
  controller.abort(new RangeError("enough"));
  await assertRejects(() => large, RangeError, "enough");
  await run(behind);
  assertLess(clock.now() - begun, 1_000);
});

test("who does not want to wait is answered, although the one before it leaves while the store is being asked [TMO-7, TMO-1]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 1, burst: 10 }, { latencyMs: 20 });
  await run(limiter.acquire({ cost: 8 }));
  const controller = new AbortController();
  const first = limiter.acquire();
  const large = limiter.acquire({ cost: 10, signal: controller.signal });
  await clock.advance(5);
  controller.abort(new RangeError("enough"));
  await assertRejects(() => large, RangeError, "enough");
  const begun = clock.now();
  const { allowed } = await run(limiter.tryAcquire());
  assertEquals(allowed, true);
  assertLess(clock.now() - begun, 100);
  await run(first);
});

test("an abort in the turn in which the store has been opened counts [TMO-7]", async () => {
  for (let turns = 0; turns < 12; turns++) {
    const { clock, start, run } = createSimulation();
    const controller = new AbortController();
    const { limiter } = start({ ratePerSecond: 1 }, {
      store: {
        async open() {
          await clock.sleep(10);
          void (async () => {
            for (let turn = 0; turn < turns; turn++) await undefined;
            controller.abort(new RangeError("enough"));
          })();
        },
      },
    });
    const asked = limiter.acquire({ signal: controller.signal });
    const outcome = await run(asked.then(() => "granted", (error) => String(error)), 10_000);
    if (outcome !== "granted") assertEquals(outcome, "RangeError: enough");
    // Who was granted in that turn is served; nobody waits for ever.
    const next = limiter.acquire({ timeoutMs: 2_000 });
    await run(next);
  }
});

test("an abort in the turn of a call counts, also of the first call after a reset [TMO-7]", async () => {
  const { start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 1e-3 }, { latencyMs: 2 });
  await run(limiter.acquire());
  await run(limiter.reset());
  const controller = new AbortController();
  const asked = limiter.acquire({ signal: controller.signal });
  controller.abort(new RangeError("enough"));
  await assertRejects(() => run(asked, 10_000), RangeError, "enough");
  assertEquals((await run(limiter.tryAcquire())).allowed, true);
});

test("what the opening of the store took is not there any more for what comes after it [FAIL-2]", async () => {
  const slowly = async (openMs: number, options: FailureOptions & { backendTimeoutMs: number }, latencyMs: number) => {
    const { clock, start, run } = createSimulation();
    const { limiter } = start({ ratePerSecond: 5, ...options }, {
      latencyMs,
      store: { open: () => clock.sleep(openMs) },
    });
    const asked = clock.now();
    const callers = Array.from({ length: 3 }, () => limiter.acquire({ timeoutMs: 300 }).then(() => {}, () => {}));
    await run(Promise.all(callers));
    return clock.now() - asked;
  };
  // The local limiter, which takes over after 200 ms, has a slot 200 ms after the first one, and that is too late.
  assertEquals(await slowly(Infinity, { onFailure: "local", backendTimeoutMs: 200 }, 0), 200);
  // Whoever has no time left for the question itself is not one who does not want to wait, and so waits for the answer.
  assertEquals(await slowly(300, { onFailure: "closed", backendTimeoutMs: 5_000 }, 2_000), 300);
});

test("limiters that share their time say so when it is over, and blame no timeout that nobody gave [FAIL-2, ERR-1]", async () => {
  const { start, run } = createSimulation();
  const hangs = { open: () => new Promise<never>(() => {}) };
  const { limiter } = start({ ratePerSecond: 5, onFailure: "closed", backendTimeoutMs: 200 }, { store: hangs });
  const calls: CallOptions = { [TOGETHER]: together(0) };
  const messageOf = (call: Promise<unknown>) => run(call.then(() => "granted", (error) => String(error.cause)));
  assertStringIncludes(await messageOf(limiter.tryAcquire(calls)), "it could not be opened within 200 ms.");
  const shared = "it could not be opened before the time that the limiters of one call share was over.";
  assertStringIncludes(await messageOf(limiter.tryAcquire(calls)), shared);
  assertStringIncludes(await messageOf(limiter.check({ ...calls, consume: false })), shared);
});

test("answers that take ever longer do not make a caller miss one slot after the other [TB-7]", async () => {
  const { start, run } = createSimulation();
  const { limiter, link } = start({ algorithm: "sliding_window", limit: 10, windowMs: 1_000 });
  let byMs = 0;
  link.setFaults(() => ({ kind: "answer_late", byMs: byMs += 20 }));
  await run(limiter.acquire());
  await run(limiter.acquire());
  assertLess(link.sent.compareAndSet, 8);
});

// Order, fairness and rate

test("waiting callers of one process are served in order of arrival [TB-9, CON-11]", async () => {
  for (const options of [{ ratePerSecond: 50 }, { maxConcurrent: 2 }, { ratePerSecond: 50, maxConcurrent: 3 }]) {
    const { clock, start, run } = createSimulation();
    const { limiter } = start(options, { latencyMs: 3 });
    const served: number[] = [];
    const callers = Array.from({ length: 60 }, async (_, i) => {
      await clock.sleep(i % 7 === 0 ? 0 : i / 100);
      const number = i % 7 === 0 ? -1 : i;
      const permit = await limiter.acquire();
      if (number > 0) served.push(number);
      await clock.sleep(5);
      await permit.release();
    });
    await run(Promise.all(callers));
    assertEquals(served, served.toSorted((a, b) => a - b));
    assertGreater(served.length, 40);
  }
});

test("10,000 waiting callers reserve at most reserveAheadMs ahead, and leave the rest to others [TB-9]", async () => {
  const { clock, start, run } = createSimulation();
  const crowd = start({ ratePerSecond: 100, reserveAheadMs: 500 }, { latencyMs: 2 });
  const other = start({ ratePerSecond: 100, reserveAheadMs: 500 }, { latencyMs: 2 });
  const controller = new AbortController();
  const waiting = Array.from(
    { length: 10_000 },
    () => crowd.limiter.acquire({ signal: controller.signal }).catch(() => {}),
  );
  await clock.advance(1_000);
  const { resetAt } = await run(other.limiter.getState());
  assertLessOrEqual(resetAt - clock.now(), 500 + 20);
  const { waitedMs } = await run(other.limiter.acquire());
  assertLessOrEqual(waitedMs, 600);
  assertLess(crowd.link.sent.total, 100);
  controller.abort();
  await run(Promise.all(waiting));
  await clock.advance(1_000);
  assertEquals(clock.sleepers, 0);
});

for (
  const { processes, callers, latencyMs, burst } of [
    { processes: 1, callers: 1, latencyMs: 0, burst: 1 },
    { processes: 1, callers: 1, latencyMs: 3, burst: 1 },
    { processes: 1, callers: 50, latencyMs: 3, burst: 1 },
    { processes: 4, callers: 1, latencyMs: 2, burst: 1 },
    { processes: 3, callers: 20, latencyMs: 2, burst: 10 },
  ]
) {
  const what = `${processes} processes with ${callers} callers, burst ${burst} and ${latencyMs} ms to the store`;
  test(`the rate is reached and never exceeded by ${what} [TB-5, TB-6, TB-7]`, async () => {
    const { clock, start, run } = createSimulation();
    const rate = { ratePerSecond: 100, burst };
    const begun = clock.now();
    const starts: Start[] = [];
    const all = Array.from({ length: processes }, () => start(rate, { latencyMs }).limiter);
    await run(Promise.all(all.flatMap((limiter) =>
      Array.from({ length: callers }, async () => {
        while (clock.now() - begun < 20_000) {
          await limiter.acquire();
          starts.push({ at: clock.now() - begun, cost: 1, until: Infinity });
        }
      })
    )));
    const inTime = starts.filter(({ at }) => at < 20_000).length;
    assertGreaterOrEqual(inTime, 0.98 * 2_000);
    assertLessOrEqual(inTime, 2_000 + burst);
    assertEquals(rateExcess(starts.slice(0, 600), rate, 3 * latencyMs), undefined);
  });
}

test("work between two acquisitions does not make the next slot later [TB-6]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 2 });
  await run(limiter.acquire());
  const begun = clock.now();
  for (let i = 1; i <= 10; i++) {
    await clock.advance(300);
    await run(limiter.acquire());
    assertAlmostEquals(clock.now() - begun, i * 500, 1e-6);
  }
});

// What the store hears

test("everything that waits goes into one compare-and-set [TB-11]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 1_000_000, burst: 5_000 }, { latencyMs: 5 });
  await run(limiter.acquire());
  const before = link.sent;
  const all = Array.from({ length: 1_000 }, () => limiter.acquire());
  await clock.advance(1);
  all.push(...Array.from({ length: 1_000 }, () => limiter.acquire()));
  await run(Promise.all(all));
  assertEquals(link.sent, { ...before, compareAndSet: before.compareAndSet + 2, total: before.total + 2 });
});

test("one tryAcquire() after another costs one message each, and no read [TB-11]", async () => {
  const { start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 1_000, burst: 1_000 }, { latencyMs: 1 });
  for (let i = 1; i <= 50; i++) {
    assertEquals((await run(limiter.tryAcquire())).allowed, true);
    assertEquals([link.sent.compareAndSet, link.sent.total], [i, i]);
  }
});

for (
  const limit of [
    { algorithm: "sliding_window", limit: 3, windowMs: 60_000 },
    { ratePerSecond: 0.01, burst: 3 },
    { maxConcurrent: 3 },
  ] as const
) {
  test(`a slow store grants all that is there to those who come at once: ${JSON.stringify(limit)} [SW-1, TMO-1]`, async () => {
    const { clock, start, run } = createSimulation();
    const { limiter } = start(limit, { latencyMs: 40 });
    // How slow it is, is known after the first answer.
    await run((await run(limiter.acquire())).release());
    await clock.advance(1_000_000);
    const begun = clock.now();
    const results = await run(Promise.all(Array.from({ length: 5 }, () => limiter.tryAcquire())));
    assertEquals(results.map(({ allowed }) => allowed), [true, true, true, false, false]);
    assertLessOrEqual(clock.now() - begun, 200);
    assertEquals((await run(limiter.getState())).remaining, 0);
  });
}

for (const [reserveAheadMs, latencyMs] of [[1_000, 900], [100, 60], [0, 60]] as const) {
  test(`a rate is used up although answers take ${2 * latencyMs} ms, and ${reserveAheadMs} ms may be reserved [TB-1, TB-5]`, async () => {
    const simulation = createSimulation();
    const limit = { ratePerSecond: 100, burst: 1 } as const;
    const { limiter } = simulation.start({ ...limit, reserveAheadMs, failClosed: true, backendTimeoutMs: 20_000 }, {
      latencyMs,
    });
    const starts: Start[] = [];
    const call = async (signal: AbortSignal) => {
      await limiter.acquire({ signal });
      starts.push({ at: simulation.clock.now(), cost: 1, until: Infinity });
    };
    await keepCalling(simulation, 60_000, Array<typeof call>(1_000).fill(call));
    assertEquals(rateExcess(starts, limit, 8), undefined);
    assertGreaterOrEqual(starts.length, 0.8 * 6_000);
  });
}

test("nobody of those who come at once is granted after its timeout, though the store was slow [TMO-1, TMO-6]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ algorithm: "sliding_window", limit: 10, windowMs: 60_000 }, { latencyMs: 300 });
  for (let i = 0; i < 2; i++) await run(limiter.acquire());
  link.latencyMs = 10;
  const begun = clock.now();
  const waits = Array.from({ length: 5 }, async () => {
    await limiter.acquire({ timeoutMs: 100 }).catch(() => {});
    return clock.now() - begun;
  });
  assertLessOrEqual(Math.max(...await run(Promise.all(waits))), 100);
});

test("who waits behind one that has gone is not forgotten when an earlier write turns out to stand there [TB-10]", async () => {
  const { clock, server, start, run } = createSimulation();
  const link = server.connect({ latencyMs: 2 });
  let late: Parameters<Kv["compareAndSet"]> | undefined;
  let writes = 0;
  const kv: Kv = {
    get: (key) => link.get(key),
    async compareAndSet(...write) {
      writes++;
      if (writes === 1) {
        late = write;
        await clock.sleep(2);
        return { ok: false };
      }
      if (writes === 2 && late) await link.compareAndSet(...late);
      return await link.compareAndSet(...write);
    },
    delete: (key) => link.delete(key),
    keys: (prefix) => link.keys(prefix),
  };
  const { limiter } = start({ ratePerSecond: 20, reserveAheadMs: 0 }, { store: { kv, peers: undefined } });
  const controller = new AbortController();
  const gone = limiter.acquire({ signal: controller.signal }).catch(() => "gone");
  const behind = limiter.acquire();
  await clock.advance(1);
  controller.abort();
  assertEquals(await run(gone), "gone");
  await run(behind, 10_000);
  assertEquals(limiter.getMetrics().totalAcquisitions, 1);
});

test("a write whose copy is refused before it is acknowledged is not done again, and gives back once [CHK-6]", async () => {
  const { server, start, run } = createSimulation();
  const link = server.connect({ latencyMs: 2 });
  let copies = 0;
  const kv: Kv = {
    get: (key) => link.get(key),
    async compareAndSet(...write) {
      const first = await link.compareAndSet(...write);
      return copies-- > 0 ? await link.compareAndSet(...write) : first;
    },
    delete: (key) => link.delete(key),
    keys: (prefix) => link.keys(prefix),
  };
  const { limiter } = start({ algorithm: "sliding_window", limit: 3, windowMs: 60_000 }, { store: { kv } });
  const taken = await run(Promise.all([limiter.tryTake(), limiter.tryTake(), limiter.tryTake()]));
  copies = 1;
  await run(taken[0].cancel());
  assertEquals((await run(limiter.getState())).remaining, 1);
  copies = 1;
  await run(limiter.acquire());
  assertEquals((await run(limiter.getState())).remaining, 0);
});

test("a refusal that is certain costs no message [TB-11]", async () => {
  const { start, run } = createSimulation();
  for (const options of [{ ratePerSecond: 1 }, { algorithm: "sliding_window", limit: 1, windowMs: 1_000 } as const]) {
    const { limiter, link } = start(options, { latencyMs: 1 });
    await run(limiter.tryAcquire({ key: options.ratePerSecond ? "rate" : "window" }));
    const { total } = link.sent;
    for (let i = 0; i < 100; i++) {
      const result = await run(limiter.tryAcquire({ key: options.ratePerSecond ? "rate" : "window" }));
      assertEquals(result.allowed, false);
    }
    assertEquals(link.sent.total, total);
  }
});

test("a refusal that a release may have turned is checked first [CON-2]", async () => {
  const { start, run } = createSimulation();
  const first = start({ maxConcurrent: 1 }, { latencyMs: 2 });
  const second = start({ maxConcurrent: 1 }, { latencyMs: 2 });
  const permit = await run(first.limiter.acquire());
  assertEquals((await run(second.limiter.tryAcquire())).allowed, false);
  await run(permit.release());
  assertEquals((await run(second.limiter.tryAcquire())).allowed, true);
});

test("lost races are tried again and counted [MET-1]", async () => {
  const { start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 100, burst: 10 }, { latencyMs: 1 });
  await run(limiter.acquire());
  let conflicts = 3;
  link.setFaults(({ operation }) =>
    operation === "compareAndSet" && conflicts-- > 0 ? { kind: "conflict" } : undefined
  );
  await run(limiter.acquire());
  const { casFailures, totalAcquisitions, timeouts } = limiter.getMetrics();
  assertEquals([casFailures, totalAcquisitions, timeouts], [3, 2, 0]);
});

test("more lost races than are allowed end a request with a timeout, and not one without [TB-10]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 100, onFailure: "closed" }, { maxRetries: 5, latencyMs: 1 });
  await run(limiter.acquire());
  await clock.advance(100);
  link.setFaults(({ operation }) => operation === "compareAndSet" ? { kind: "conflict" } : undefined);
  const patient = limiter.acquire();
  const error = await assertRejects(() => run(limiter.acquire({ timeoutMs: 60_000 })), RateLimiterAcquisitionError);
  assertEquals(error.reason, "backend");
  assertStringIncludes(error.message, "races in a row");
  link.setFaults({});
  await run(patient);
  assertGreaterOrEqual(limiter.getMetrics().casFailures, 6);
});

test("who comes after others have lost all their races may lose as many itself [TB-10]", async () => {
  const { start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 100, onFailure: "closed" }, { maxRetries: 5, latencyMs: 1 });
  await run(limiter.acquire());
  link.setFaults(({ operation }) => operation === "compareAndSet" ? { kind: "conflict" } : undefined);
  const patient = limiter.acquire();
  for (let caller = 1; caller <= 4; caller++) {
    await assertRejects(() => run(limiter.acquire({ timeoutMs: 60_000 })), RateLimiterAcquisitionError, "6 ");
    assertGreaterOrEqual(limiter.getMetrics().casFailures, 6 * caller);
  }
  link.setFaults({});
  await run(patient);
});

test("a damaged value is replaced by whoever meets it, so that it recovers for all who ask now and then [CMB-2]", async () => {
  for (const damage of ["garbage", JSON.stringify({ v: 1, rules: "", epoch: 8e15, writers: [] })]) {
    const { clock, server, start, run } = createSimulation();
    const options = { algorithm: "sliding_window", limit: 5, windowMs: 60_000 } as const;
    const processes = [start(options, { latencyMs: 1 }), start(options, { latencyMs: 1 })];
    server.put(LIMITER_ID, damage);
    const begun = clock.now();
    for (let turn = 0; !(await run(processes[turn % 2]!.limiter.tryAcquire())).allowed; turn++) {
      await clock.advance(5_000);
      assertLessOrEqual(clock.now() - begun, 70_000);
    }
    assertGreaterOrEqual(clock.now() - begun, 60_000);
  }
});

// Permits of a concurrency limit

test("at most maxConcurrent hold a permit, over all processes, at any moment [CON-1]", async () => {
  const { clock, start, run } = createSimulation();
  const limiters = [1, 2, 3].map((latencyMs) => start({ maxConcurrent: 5 }, { latencyMs }).limiter);
  let holding = 0;
  let most = 0;
  const begun = clock.now();
  await run(Promise.all(limiters.flatMap((limiter) =>
    Array.from({ length: 50 }, async () => {
      const permit = await limiter.acquire();
      most = Math.max(most, ++holding);
      await clock.sleep(20);
      holding--;
      await permit.release();
    })
  )));
  assertEquals(most, 5);
  // 150 callers of 20 ms on 5 permits need 600 ms, and some messages.
  assertLess(clock.now() - begun, 2_000);
});

test("tryAcquire() of 10 at the same time on 3 permits gives exactly 3 [CON-1, CON-10]", async () => {
  const { start, run } = createSimulation();
  const { limiter } = start({ maxConcurrent: 3 }, { latencyMs: 2 });
  const results = await run(Promise.all(Array.from({ length: 10 }, () => limiter.tryAcquire())));
  assertEquals(results.filter(({ allowed }) => allowed).length, 3);
});

test("release() wakes who waits for the permit, here and in another process [CON-2]", async () => {
  const { clock, start, run } = createSimulation();
  const first = start({ maxConcurrent: 1 }, { latencyMs: 2 });
  const second = start({ maxConcurrent: 1 }, { latencyMs: 2 });
  for (const waiter of [first, second]) {
    const permit = await run(first.limiter.acquire());
    const waiting = waiter.limiter.acquire();
    await clock.advance(100);
    const released = clock.now();
    void permit.release();
    const next = await run(waiting);
    assertLessOrEqual(clock.now() - released, 10);
    await run(next.release());
  }
});

test("a waiter looks by itself when the hint of a release is lost [CON-2]", async () => {
  const { clock, start, run } = createSimulation();
  const first = start({ maxConcurrent: 1 }, { latencyMs: 2 });
  const second = start({ maxConcurrent: 1 }, { latencyMs: 2 });
  first.link.announce = () => {};
  const permit = await run(first.limiter.acquire());
  const waiting = second.limiter.acquire();
  await clock.advance(100);
  await run(permit.release());
  const released = clock.now();
  await run(waiting);
  assertLessOrEqual(clock.now() - released, 1_100);
});

test("release() again, or of nothing, is harmless and adds no capacity [CON-3, CON-5]", async () => {
  const { start, run } = createSimulation();
  const { limiter } = start({ maxConcurrent: 2 }, { latencyMs: 1 });
  const [first, second] = [await run(limiter.acquire()), await run(limiter.acquire())];
  await run(Promise.all([first.release(), first.release(), first[Symbol.asyncDispose]()]));
  await run(first.release());
  assertEquals((await run(limiter.getState())).currentUsage, 1);
  assertEquals(limiter.getMetrics().totalReleases, 1);
  const third = await run(limiter.tryAcquire());
  assertEquals(third.allowed, true);
  await run(first.release());
  assertEquals((await run(limiter.tryAcquire())).allowed, false);
  await run(Promise.all([second.release(), third.release()]));
  assertEquals((await run(limiter.getState())).remaining, 2);
});

test("release() without a limit of concurrency does nothing, any number of times [CON-3]", async () => {
  const { start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 10 });
  const permit = await run(limiter.acquire());
  const { total } = link.sent;
  for (let i = 0; i < 5; i++) await run(permit.release());
  assertEquals([link.sent.total, limiter.getMetrics().totalReleases], [total, 0]);
});

test("a scope releases its permit on return and on an exception [CON-4, LIM-12]", async () => {
  const { start, run } = createSimulation();
  const { limiter } = start({ maxConcurrent: 1 });
  const work = async (fails: boolean) => {
    await using _permit = await limiter.acquire();
    if (fails) throw new RangeError("the work failed");
  };
  await run(work(false));
  await assertRejects(() => run(work(true)), RangeError, "the work failed");
  assertEquals((await run(limiter.getState())).remaining, 1);
});

test("the permits of a crashed process come back within the lease [CON-6]", async () => {
  const { clock, start, run } = createSimulation();
  const crashed = start({ maxConcurrent: 3, leaseMs: 5_000 }, { latencyMs: 2 });
  const other = start({ maxConcurrent: 3, leaseMs: 5_000 }, { latencyMs: 2 });
  await run(Promise.all([1, 2, 3].map(() => crashed.limiter.acquire())));
  crashed.link.isDown = true;
  const begun = clock.now();
  await run(Promise.all([1, 2, 3].map(() => other.limiter.acquire())));
  assertLessOrEqual(clock.now() - begun, 5_000 + 1_100);
  assertGreater(clock.now() - begun, 1_000);
});

test("living holders keep their permits for any length of time [CON-6, CON-7]", async () => {
  const { clock, start, run } = createSimulation();
  const holder = start({ maxConcurrent: 2, leaseMs: 3_000, ratePerSecond: 100 }, { latencyMs: 2 });
  const other = start({ maxConcurrent: 2, leaseMs: 3_000, ratePerSecond: 100 }, { latencyMs: 2 });
  const permits = await run(Promise.all([holder.limiter.acquire(), holder.limiter.acquire()]));
  for (let hour = 0; hour < 3; hour++) {
    for (let i = 0; i < 60; i++) {
      await clock.advance(60_000);
      assertEquals((await run(other.limiter.tryAcquire())).allowed, false);
    }
  }
  assertEquals((await run(other.limiter.getState())).currentUsage, 2);
  await run(Promise.all(permits.map((permit) => permit.release())));
  assertEquals((await run(other.limiter.tryAcquire())).allowed, true);
  assertLess(holder.link.sent.total, 3 * 3_600 * 1.1 + 20);
});

test("300 acquires that are cancelled at any moment leak nothing [CON-8]", async () => {
  const { clock, start, run } = createSimulation();
  const first = start({ maxConcurrent: 4, ratePerSecond: 1_000, burst: 5 }, { latencyMs: 3 });
  const second = start({ maxConcurrent: 4, ratePerSecond: 1_000, burst: 5 }, { latencyMs: 5 });
  let granted = 0;
  const callers = Array.from({ length: 300 }, async (_, i) => {
    await clock.sleep((i * 37) % 200);
    const controller = new AbortController();
    const limiter = i % 2 === 0 ? first.limiter : second.limiter;
    void clock.sleep((i * 13) % 40).then(() => controller.abort());
    try {
      const permit = await limiter.acquire({
        signal: controller.signal,
        ...(i % 3 === 0 ? { timeoutMs: i % 11 } : {}),
      });
      granted++;
      await clock.sleep(i % 9);
      await permit.release();
    } catch (error) {
      assert(controller.signal.aborted || error instanceof RateLimiterAcquisitionError);
    }
  });
  await run(Promise.all(callers));
  await clock.advance(100);
  assertGreater(granted, 10);
  for (const { limiter } of [first, second]) {
    assertEquals((await run(limiter.getState())).currentUsage, 0);
    assertEquals(limiter.getMetrics().currentConcurrent, 0);
  }
});

test("10 callers at 100/s and 3 at the same time: both limits hold at every start [CMB-4]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 100, maxConcurrent: 3 }, { latencyMs: 1 });
  let active = 0;
  let most = 0;
  const starts: Start[] = [];
  await run(Promise.all(Array.from({ length: 10 }, async () => {
    const permit = await limiter.acquire();
    starts.push({ at: clock.now(), cost: 1, until: Infinity });
    most = Math.max(most, ++active);
    await clock.sleep(50);
    active--;
    await permit.release();
  })));
  assertEquals(most, 3);
  assertEquals(rateExcess(starts, { ratePerSecond: 100, burst: 1 }, 1), undefined);
});

// State and metrics

test("getState() and check() that does not consume use nothing up [STA-4, CHK-3]", async () => {
  const { start, run } = createSimulation();
  const { limiter } = start({ algorithm: "sliding_window", limit: 4, windowMs: 1_000, maxConcurrent: 9 });
  for (let i = 0; i < 10; i++) {
    await run(limiter.getState());
    const peek = await run(limiter.check({ consume: false }));
    assertEquals([peek.allowed, peek.remaining, peek.limit], [true, 4, 4]);
    await run(peek.release());
  }
  assertEquals(limiter.getMetrics().totalAcquisitions, 0);
  for (let left = 3; left >= 0; left--) assertEquals((await run(limiter.check())).remaining, left);
  const full = await run(limiter.check({ consume: false }));
  assertEquals([full.allowed, full.remaining], [false, 0]);
  assertGreater(full.retryAfterMs, 999);
});

test("who only looks writes nothing, whatever others do [STA-4, CHK-3]", async () => {
  const limits: readonly LimiterOptions[] = [
    { ratePerSecond: 1, burst: 3 },
    { algorithm: "sliding_window", limit: 3, windowMs: 1_000 },
    { maxConcurrent: 3, leaseMs: 1_000 },
  ];
  for (const options of limits) {
    const { clock, start, run } = createSimulation();
    const other = start(options, { latencyMs: 1 });
    const { limiter, link } = start(options, { latencyMs: 1 });
    for (let taken = 0; taken < 4; taken++) {
      assertEquals((await run(limiter.getState())).remaining, 3 - taken);
      assertEquals((await run(limiter.check({ consume: false }))).allowed, taken < 3);
      await run(other.limiter.tryAcquire());
    }
    await clock.advance(5_000);
    assertEquals(link.sent.compareAndSet, 0);
  }
});

test("a check that does not consume can be aborted, before and while the store is silent, and checks its options [TMO-7, CHK-3]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 1, backendTimeoutMs: 2_000 }, { latencyMs: 2 });
  const check = (options: AcquireOptions) => run(limiter.check({ ...options, consume: false }));
  const gone = new RangeError("gone");
  await assertRejects(() => check({ signal: AbortSignal.abort(gone) }), RangeError, "gone");
  assertEquals(link.sent.get, 0);
  assertEquals((await check({ signal: new AbortController().signal })).allowed, true);
  link.setFaults(() => ({ kind: "request_lost" }));
  const controller = new AbortController();
  const begun = clock.now();
  const asked = check({ signal: controller.signal });
  clock.sleep(100).then(() => controller.abort(gone));
  await assertRejects(() => asked, RangeError, "gone");
  assertEquals(clock.now() - begun, 100);
  assertEquals([limiter.getMetrics().aborted, limiter.getMetrics().backendFailures], [2, 0]);
  await assertRejects(() => check({ timeoutMs: -1 }), InvalidArgumentError, "timeoutMs");
});

test("getState() of a sliding window counts what was used, in any process [STA-5, STA-9]", async () => {
  const { clock, start, run } = createSimulation();
  const options = { algorithm: "sliding_window", limit: 3, windowMs: 1_000 } as const;
  const [one, two] = [start(options), start(options)];
  const fresh = await run(two.limiter.getState());
  assertEquals([fresh.allowed, fresh.remaining, fresh.currentUsage], [true, 3, 0]);
  assertGreater(fresh.resetAt, clock.now());
  for (let used = 1; used <= 3; used++) {
    await run(one.limiter.acquire());
    const state = await run(two.limiter.getState());
    assertEquals([state.allowed, state.remaining, state.currentUsage], [used < 3, 3 - used, used]);
  }
});

test("getState() of permits counts those who hold one, and of several rules the worst [STA-6]", async () => {
  const { start, run } = createSimulation();
  const { limiter } = start({ maxConcurrent: 3, ratePerSecond: 1, burst: 10 });
  const permits = await run(Promise.all([limiter.acquire(), limiter.acquire()]));
  const state = await run(limiter.getState());
  assertEquals([state.allowed, state.remaining, state.currentUsage], [true, 1, 2]);
  await run(Promise.all(permits.map((permit) => permit.release())));
  const after = await run(limiter.getState());
  assertEquals([after.remaining, after.currentUsage], [3, 2]);
});

test("getState() says allowed exactly if a tryAcquire() now succeeds, and resets in the future [STA-7, STA-8]", async () => {
  for (
    const options of [{ ratePerSecond: 10 }, { ratePerSecond: 0.5 }, { ratePerSecond: 7, burst: 3, maxConcurrent: 2 }]
  ) {
    const { clock, start, run } = createSimulation();
    const { limiter } = start(options);
    for (let i = 0; i < 60; i++) {
      const { allowed, resetAt, remaining } = await run(limiter.getState());
      assertGreaterOrEqual(resetAt, clock.now());
      assertEquals(remaining >= 1, allowed);
      const result = await run(limiter.tryAcquire());
      assertEquals(result.allowed, allowed, `after ${i}`);
      await clock.advance((i * 41) % 160);
      await run(result.release());
    }
  }
});

test("who asks behind callers that wait is told when that would be, and nobody says that there is a slot now [STA-7, TB-7]", async () => {
  for (const latencyMs of [0, 2]) {
    const { clock, start, run } = createSimulation();
    const { limiter } = start({ ratePerSecond: 5, burst: 20, reserveAheadMs: 100 }, { latencyMs });
    await run(limiter.acquire({ cost: 10 }));
    const large = limiter.acquire({ cost: 20 });
    await clock.advance(10);
    const { allowed, remaining } = await run(limiter.getState());
    assertEquals([allowed, remaining], [false, 10]);
    const refused = [
      await run(limiter.check({ consume: false })),
      await run(limiter.tryAcquire()),
      await assertRejects(
        () => run(limiter.acquire({ timeoutMs: 500 })),
        RateLimiterAcquisitionError,
        "has none before",
      ),
    ];
    for (const refusal of refused) {
      assertEquals("allowed" in refusal && refusal.allowed, false);
      // All 20 and the one behind them, of which 10 are there.
      assertAlmostEquals(refusal.retryAfterMs ?? 0, 2_200, 50);
    }
    await run(large);
    assertEquals((await run(limiter.tryAcquire({ timeoutMs: 300 }))).allowed, true);
  }
});

test("getState() at the same time as others is answered by one read [STA-11]", async () => {
  const { start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 10 }, { latencyMs: 2 });
  const states = await run(Promise.all(Array.from({ length: 50 }, () => limiter.getState())));
  assertEquals(states.length, 50);
  assertEquals(link.sent.total, 1);
});

test("metrics count grants, waits, refusals and permits of this process [MET-2, MET-3, MET-5]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 10, maxConcurrent: 2 });
  const first = await run(limiter.acquire());
  const second = await run(limiter.acquire());
  await clock.advance(100);
  await run(limiter.tryAcquire());
  const busy = limiter.getMetrics();
  assertEquals([busy.totalAcquisitions, busy.currentConcurrent, busy.timeouts, busy.totalReleases], [2, 2, 1, 0]);
  assertAlmostEquals(busy.totalWaitTimeMs, 100, 1e-6);
  assertAlmostEquals(busy.avgWaitTimeMs, 50, 0.01);
  assertAlmostEquals(busy.maxWaitTimeMs, 100, 1e-6);
  assertEquals(busy.lastAcquisitionAt, (clock.now() - 100) / 1_000);
  assertGreaterOrEqual(busy.maxConcurrentReached, 1);
  await run(Promise.all([first.release(), second.release()]));
  const idle = limiter.getMetrics();
  assertEquals([idle.currentConcurrent, idle.totalReleases, idle.totalAcquisitions], [0, 2, 2]);
});

test("an acquire that waits for a permit counts once that it met a full limiter [MET-4]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ maxConcurrent: 1 }, { latencyMs: 2 });
  const permit = await run(limiter.acquire());
  const waiting = limiter.acquire();
  await clock.advance(30_000);
  await run(permit.release());
  await run(waiting);
  assertEquals(limiter.getMetrics().maxConcurrentReached, 1);
});

test("a permit that was released elsewhere is not counted as one that was missing [MET-5]", async () => {
  const { start, run } = createSimulation();
  const [one, other] = [start({ maxConcurrent: 1 }), start({ maxConcurrent: 1 })];
  const held = await run(one!.limiter.acquire());
  assertEquals((await run(other!.limiter.tryAcquire())).allowed, false);
  await run(held.release());
  await run(other!.limiter.acquire());
  assertEquals(other!.limiter.getMetrics().maxConcurrentReached, 1);
});

test("tryAcquire() without a timeout records no waiting [MET-8]", async () => {
  const { start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 10 }, { latencyMs: 20 });
  await run(limiter.tryAcquire());
  assertEquals(limiter.getMetrics().totalWaitTimeMs, 0);
});

for (
  const [what, options, full] of [
    ["a rate", { ratePerSecond: 1 }, 0],
    ["a window", { algorithm: "sliding_window", limit: 1, windowMs: 10_000 }, 0],
    ["a permit", { maxConcurrent: 1 }, 1],
  ] as const
) {
  test(`a failure by timeout for want of ${what} counts as one timeout, and changes no other sum [TMO-5, MET-5]`, async () => {
    const { start, run } = createSimulation();
    const { limiter } = start(options, { latencyMs: 1 });
    await run(limiter.acquire());
    for (const timeoutMs of [0, 50]) {
      for (
        const fail of [
          () => assertRejects(() => run(limiter.acquire({ timeoutMs })), RateLimiterAcquisitionError),
          () => run(limiter.tryAcquire({ timeoutMs })),
        ]
      ) {
        const { timeouts, maxConcurrentReached, ...others } = limiter.getMetrics();
        await fail();
        assertEquals(limiter.getMetrics(), {
          ...others,
          timeouts: timeouts + 1,
          maxConcurrentReached: maxConcurrentReached + full,
        });
      }
    }
  });
}

test("permits that are granted in place of a store that is down are counted as any [MET-3, MET-4, FAIL-4]", async () => {
  const { start, run } = createSimulation();
  const { limiter, link } = start({ maxConcurrent: 2, onFailure: "local", leaseMs: 10_000 }, { latencyMs: 1 });
  link.setFaults(() => ({ kind: "refused" }));
  const counts = () => {
    const { currentConcurrent, totalReleases, maxConcurrentReached, totalAcquisitions } = limiter.getMetrics();
    return [currentConcurrent, totalReleases, maxConcurrentReached, totalAcquisitions];
  };
  const permits = [await run(limiter.acquire()), await run(limiter.acquire())];
  assertEquals((await run(limiter.tryAcquire())).allowed, false);
  assertEquals(counts(), [2, 0, 1, 2]);
  await run(Promise.all([permits[0]!.release(), permits[0]!.release()]));
  assertEquals(counts(), [1, 1, 1, 2]);
  await run((await run(limiter.tryTake())).cancel());
  assertEquals(counts(), [1, 1, 1, 2]);
  await using last = await run(limiter.tryAcquire());
  assertEquals([last.allowed, counts()[0]], [true, 2]);
  await run(last.release());
  await run(limiter.reset().catch(() => {}));
  assertEquals([permits[1]!.lost, counts()], [true, [0, 0, 0, 0]]);
});

test("who is refused in place of a store that is down hears whether it is for want of a permit or of the rate [MET-4, ERR-2]", async () => {
  for (const ratePerSecond of [100, 0.001]) {
    const { clock, start, run } = createSimulation();
    const { limiter, link } = start({ ratePerSecond, maxConcurrent: 1, onFailure: "local" }, { latencyMs: 1 });
    link.setFaults(() => ({ kind: "refused" }));
    await run(limiter.acquire());
    await clock.advance(1_000);
    const { message } = await assertRejects(() => run(limiter.acquire({ timeoutMs: 0 })), RateLimiterAcquisitionError);
    const lacksPermit = ratePerSecond === 100;
    assertEquals([message.includes("permits"), limiter.getMetrics().maxConcurrentReached], [
      lacksPermit,
      lacksPermit ? 1 : 0,
    ]);
  }
});

test("metrics are there before the limiter is opened, and after it they are its own [MET-1, MET-5]", async () => {
  const { start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 1 });
  const other = start({ ratePerSecond: 1 });
  const before = limiter.getMetrics();
  assertEquals([limiter.initialized, before.lastAcquisitionAt], [false, null]);
  assertEquals(new Set(Object.values(before)), new Set([0, null, "closed"]));
  await run(limiter.acquire());
  assertEquals(before.totalAcquisitions, 0);
  assertEquals(other.limiter.getMetrics(), before);
});

test("a limiter's metrics are those of all its keys, and a key's are its own [MET-5]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 1, maxConcurrent: 2 }, { mostKeys: 10 });
  const [one, two] = [limiter.key("one"), limiter.key("two")];
  await run(limiter.acquire());
  const permit = await run(one.acquire());
  await run(two.tryAcquire());
  await run(two.tryAcquire());
  await clock.advance(1_000);
  await run(two.acquire({ timeoutMs: 500 }));
  const count = (of: typeof limiter) => {
    const { totalAcquisitions, timeouts, currentConcurrent, totalReleases } = of.getMetrics();
    return [totalAcquisitions, timeouts, currentConcurrent, totalReleases];
  };
  assertEquals([count(one), count(two), count(limiter)], [[1, 0, 1, 0], [2, 1, 2, 0], [4, 1, 4, 0]]);
  assertEquals(limiter.getMetrics().lastAcquisitionAt, two.getMetrics().lastAcquisitionAt);
  await run(permit.release());
  assertEquals([count(one), count(limiter)], [[1, 0, 0, 1], [4, 1, 3, 1]]);
  for (let i = 0; i < 100; i++) await run((await run(limiter.acquire({ key: `k${i}` }))).release());
  assert(limiter.key("one") !== one, "it was forgotten");
  assertEquals(count(limiter), [104, 1, 3, 101]);
});

// Results

test("a result says everything, whether it was granted or refused, and cannot be changed [CHK-1]", async () => {
  const { start, run } = createSimulation();
  const open = start({ ratePerSecond: 1, burst: 2, maxConcurrent: 5 });
  const down = start({ ratePerSecond: 1, onFailure: "local", backendTimeoutMs: 100 });
  const free = start({ ratePerSecond: 1, backendTimeoutMs: 100 });
  down.link.isDown = free.link.isDown = true;
  const { result: tentative, cancel } = await run(open.limiter.tryTake());
  const results = [
    tentative,
    await run(cancel()),
    await run(open.limiter.check({ consume: false })),
    await run(open.limiter.tryAcquire()),
    await run(open.limiter.check()),
    await run(open.limiter.tryAcquire()),
    await run(open.limiter.check({ consume: false })),
    await run(down.limiter.tryAcquire()),
    await run(down.limiter.tryAcquire()),
    await run(down.limiter.check({ consume: false })),
    await run(free.limiter.tryAcquire()),
    await run(free.limiter.check({ consume: false })),
  ];
  assertEquals(
    results.map(({ allowed, remaining, degraded }) => [allowed, remaining, degraded]),
    [
      [true, 1, false],
      [true, 2, false],
      [true, 2, false],
      [true, 1, false],
      [true, 0, false],
      [false, 0, false],
      [false, 0, false],
      [true, 0, true],
      [false, 0, true],
      [false, 0, true],
      [true, 1, true],
      [true, 1, true],
    ],
  );
  for (const result of results) {
    assertEquals(result.limiterId, LIMITER_ID);
    assertEquals([result.limit >= 1, result.resetInMs >= 0], [true, true]);
    assertEquals(result.allowed, result.retryAfterMs === 0);
    if (!result.allowed) assertEquals(result.rule, "1/s, burst " + result.limit);
    assert(Object.isFrozen(result));
    assertThrows(() => Object.assign(result, { allowed: !result.allowed }), TypeError);
    assertThrows(() => Object.assign(result, { more: 1 }), TypeError);
  }
});

test("while the store is down, getState() and a peek say what the local limiter has left [FAIL-4, STA-4, STA-7, CHK-3]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({
    algorithm: "sliding_window",
    limit: 3,
    windowMs: 60_000,
    onFailure: "local",
    backendTimeoutMs: 100,
  });
  await run(limiter.key("known").acquire({ cost: 3 }));
  link.isDown = true;
  // What is certain without the store is told without it.
  const { allowed, remaining } = await run(limiter.key("known").getState());
  assertEquals([allowed, remaining], [false, 0]);
  assertEquals((await run(limiter.check({ key: "known", consume: false }))).allowed, false);
  assertEquals((await run(limiter.tryAcquire({ key: "known" }))).allowed, false);
  for (const asked of [limiter, limiter.key("somebody")]) {
    for (let used = 0; used <= 3; used++) {
      for (let i = 0; i < 3; i++) {
        const state = await run(asked.getState());
        assertEquals([state.allowed, state.remaining, state.currentUsage], [used < 3, 3 - used, used]);
        assertGreaterOrEqual(state.resetAt, clock.now());
        const peek = await run(asked.check({ consume: false }));
        assertEquals([peek.allowed, peek.remaining, peek.degraded, peek.limiterId], [
          used < 3,
          3 - used,
          true,
          asked.id,
        ]);
        assertEquals((await run(asked.check({ consume: false, cost: 3 }))).allowed, used === 0);
      }
      assertEquals((await run(asked.tryAcquire({ timeoutMs: 1_000 }))).allowed, used < 3);
    }
  }
  link.isDown = false;
  assertEquals((await run(limiter.getState())).remaining, 3);
});

// Logging

test("grants and refusals are reported at debug, opening once at info [LOG-1]", async () => {
  const { start, run } = createSimulation();
  const { limiter, debugs, infos, warnings } = start({ ratePerSecond: 10 });
  await run(limiter.tryAcquire());
  await run(limiter.acquire());
  await run(limiter.tryAcquire());
  await run(limiter.tryAcquire({ key: "a" }));
  await assertRejects(() => run(limiter.acquire({ timeoutMs: 0 })), RateLimiterAcquisitionError);
  assertEquals(debugs, [
    "Limiter 'api': granted after 0.000 s.",
    "Limiter 'api': granted after 0.100 s.",
    `Limiter 'api': refused by "10/s, burst 1", which has more in 0.100 s.`,
    "Limiter 'api:a': granted after 0.000 s.",
    `Limiter 'api': refused by "10/s, burst 1", which has more in 0.100 s.`,
  ]);
  assertEquals(infos, ["Limiter 'api': open on store 'simulated' (10/s, burst 1)."]);
  assertEquals(warnings, []);
});

for (
  const [onFailure, level, then] of [
    ["open", "warn", "requests are admitted without a limit"],
    ["local", "warn", "the limit holds within this process only"],
    ["closed", "error", "requests are refused"],
  ] as const
) {
  test(`a store that fails is reported once for all keys, and with on_failure ${onFailure} as ${level} [LOG-1, FAIL-1]`, async () => {
    const clock = createVirtualClock();
    const lines: string[] = [];
    const log = (level: string) => (message: string) => void lines.push(`${level}: ${message}`);
    let down = true;
    const kv = memoryKv(clock);
    const broken: Kv = {
      ...kv,
      compareAndSet: (...args) => down ? Promise.reject(new Error("the disk is on fire")) : kv.compareAndSet(...args),
    };
    const rateSync = createRateSync({ clock, logger: { info: log("info"), warn: log("warn"), error: log("error") } });
    rateSync.configureStore("s", { kv: broken, clock, breakerFailures: 0 });
    rateSync.configureLimiter("api", { store: "s", ratePerSecond: 100, onFailure });
    const seen = lines.length;
    for (let i = 0; i < 20; i++) await rateSync.tryAcquire("api", { key: `user${i}` }).catch(() => {});
    down = false;
    await rateSync.tryAcquire("api", { key: "another" });
    assertEquals(lines.slice(seen), [
      "info: Limiter 'api': open on store 's' (100/s, burst 1).",
      `${level}: Limiter 'api': the disk is on fire. Until the store is back, ${then} (on_failure = "${onFailure}").`,
      "warn: Limiter 'api': its store answers again.",
    ]);
  });
}

test("one key whose value cannot be used is reported once in ten seconds, however many others are answered meanwhile [LOG-1]", async () => {
  const { clock, server, start, run } = createSimulation();
  const { limiter, warnings } = start({ ratePerSecond: 1_000, burst: 1_000 }, { latencyMs: 1 });
  await run(limiter.acquire({ key: "alice" }));
  server.put(`${LIMITER_ID}.alice`, '{"v":99}');
  const both = async () => {
    for (const key of ["alice", "bob"]) {
      assertEquals((await run(limiter.tryAcquire({ key }))).degraded, key === "alice");
    }
  };
  const kinds = () => warnings.map((line) => line.includes("answers again") ? "answers again" : "failed");
  for (let i = 0; i < 20; i++) await both();
  assertEquals(kinds(), ["failed", "answers again"]);
  await clock.advance(11_000);
  await both();
  assertEquals(kinds().slice(2), ["failed", "answers again"]);
});

test("a second outage is reported too, though not at once if it is like the first [LOG-1]", async () => {
  const clock = createVirtualClock();
  const lines: string[] = [];
  const log = (message: string) => void lines.push(message);
  const kv = memoryKv(clock);
  let down = false;
  const failing: Kv = {
    ...kv,
    compareAndSet: (...args) => down ? Promise.reject(new Error("the disk is full")) : kv.compareAndSet(...args),
  };
  const rateSync = createRateSync({ clock, logger: { info: () => {}, warn: log, error: log } });
  rateSync.configureStore("s", { kv: failing, clock, breakerFailures: 0 });
  rateSync.configureLimiter("api", { store: "s", ratePerSecond: 100 });
  const reportedAt: number[] = [];
  const begin = clock.now();
  for (let second = 0; second < 40; second++) {
    // Up for two seconds after the fifth, and for ten after the twentieth.
    down = second < 5 || (second >= 7 && second < 20) || second >= 30;
    assertEquals((await rateSync.tryAcquire("api")).degraded, down);
    if (lines.splice(0).some((line) => line.includes("the disk is full"))) {
      reportedAt.push((clock.now() - begin) / 1_000);
    }
    await clock.advance(1_000);
  }
  assertEquals(reportedAt, [0, 10, 30]);
});

test("whatever happens to a key, it is not reported at info or above [LOG-2]", async () => {
  const { clock, server, start, run } = createSimulation();
  const key = "joe@example.com";
  const place = `${LIMITER_ID}.joe=40example=2Ecom`;
  const settings = { latencyMs: 1, maxRetries: 2 };
  const one = start({ ratePerSecond: 10, maxConcurrent: 2, leaseMs: 1_000, backendTimeoutMs: 200 }, settings);
  const two = start({ ratePerSecond: 20, backendTimeoutMs: 200, onFailure: "closed" }, settings);
  const tryBoth = async () => {
    for (const { limiter } of [one, two]) await run(limiter.tryAcquire({ key, timeoutMs: 100 })).catch(() => {});
    await clock.advance(500);
  };
  await tryBoth();
  await tryBoth();
  assert(server.text(place), "the test knows the place in the store");
  one.link.isDown = two.link.isDown = true;
  await tryBoth();
  one.link.isDown = two.link.isDown = false;
  await tryBoth();
  server.put(place, "garbage");
  await tryBoth();
  server.put(place, '{"v":7}');
  await clock.advance(10_000);
  await tryBoth();
  await run(one.link.delete(place));
  await tryBoth();
  for (const { link } of [one, two]) {
    link.setFaults(({ operation }) => operation === "compareAndSet" ? { kind: "conflict" } : undefined);
  }
  await tryBoth();
  const told = [one, two].flatMap(({ infos, warnings }) => [...infos, ...warnings]).join("\n");
  for (const sign of ["other rules", "no answer", "answers again", "damaged", "version 7", "races in a row"]) {
    assertStringIncludes(told, sign);
  }
  assertEquals(told.match(/joe|example/g), null);
});

// Keyed limiters

test("keys count for themselves, and have a key of their own in the store [LIM-16]", async () => {
  const { server, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 1 });
  for (const key of ["a", "b", "", "a.b", "*"]) {
    assertEquals((await run(limiter.tryAcquire({ key }))).allowed, true);
    const refused = await run(limiter.key(key).tryAcquire());
    assertEquals([refused.allowed, refused.limiterId], [false, `${LIMITER_ID}:${key}`]);
  }
  assertEquals((await run(limiter.tryAcquire())).allowed, true);
  for (const place of ["api.a", "api.b", "api.==", "api.a=2Eb", "api.=2A", "api"]) assert(server.text(place), place);
});

test("key() of a limiter for one key is refused, and a key that is no text too", async () => {
  const { start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 1 });
  await assertRejects(async () => await run(limiter.key("a").acquire({ key: "b" })), InvalidArgumentError);
  const untyped: { acquire(options: { key: unknown }): Promise<unknown> } = limiter as never; // as JavaScript sees it
  await assertRejects(() => run(untyped.acquire({ key: 42 })), InvalidArgumentError);
});

test("20,000 keys leave no more limiters than may be kept, and no timers [LIM-17]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 1 }, { mostKeys: 500 });
  const first = limiter.key("user0");
  for (let i = 0; i < 20_000; i += 500) {
    await run(Promise.all(Array.from({ length: 500 }, (_, j) => limiter.tryAcquire({ key: `user${i + j}` }))));
    await clock.advance(1);
  }
  assert(limiter.key("user0") !== first, "the first one was forgotten");
  assert(limiter.key("user19999") === limiter.key("user19999"));
  assertEquals((await run(limiter.tryAcquire({ key: "user0" }))).allowed, false);
  await clock.advance(MOMENT_MS);
  assertEquals(clock.sleepers, 0);
});

test("a key that is busy is never forgotten, however many others come [LIM-17]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ maxConcurrent: 1, leaseMs: 2_000 }, { mostKeys: 20 });
  const held = await run(limiter.acquire({ key: "held" }));
  const holding = limiter.key("held");
  const waiting = limiter.acquire({ key: "held" });
  for (let i = 0; i < 500; i++) {
    const permit = await run(limiter.acquire({ key: `other${i}` }));
    await run(permit.release());
    if (i % 100 === 0) await clock.advance(1_500);
  }
  assertEquals(limiter.key("held"), holding);
  assertEquals((await run(limiter.key("held").getState())).currentUsage, 1);
  await run(held.release());
  await run((await run(waiting)).release());
});

test("a refused acquire() carries the facts that a refused tryAcquire() does [ERR-2]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 10, burst: 3 });
  await run(limiter.acquire({ cost: 2 }));
  const error = await run(limiter.acquire({ cost: 3, timeoutMs: 0 }).catch((error) => error));
  assertInstanceOf(error, RateLimiterAcquisitionError);
  const refused = await run(limiter.tryAcquire({ cost: 3 }));
  assert(!refused.allowed);
  assertEquals(
    [error.limit, error.remaining, error.resetInMs, error.retryAfterMs, error.rule],
    [refused.limit, refused.remaining, refused.resetInMs, refused.retryAfterMs, refused.rule],
  );
  assertEquals([error.limit, error.remaining, error.retryAfterMs], [3, 1, 200]);
  assertEquals([error.timeoutMs, error.waitedMs, error.limiterId], [0, 0, LIMITER_ID]);
  await clock.advance(200);
  assertEquals((await run(limiter.tryAcquire({ cost: 3 }))).allowed, true);
});

test("an acquire() that waited in vain says how long, how often it was decided, and for what [ERR-2]", async () => {
  const { start, run } = createSimulation();
  const { limiter } = start({ maxConcurrent: 1 }, { latencyMs: 1 });
  await run(limiter.acquire({ key: "alice" }));
  const error = await run(limiter.acquire({ key: "alice", timeoutMs: 250 }).catch((error) => error));
  assertInstanceOf(error, RateLimiterAcquisitionError);
  assertEquals(error.limiterId, `${LIMITER_ID}:alice`);
  assertEquals([error.reason, error.timeoutMs, error.rule], ["timeout", 250, "1 at the same time"]);
  assertAlmostEquals(error.waitedMs ?? 0, 250, 1);
  // At the beginning, and each time that somebody looked whether the permit was free.
  assertGreater(error.attempts, 1);
  assertGreater(error.retryAfterMs ?? 0, 0);
  assertMatch(
    error.message,
    /^Unable to acquire slot for limiter 'api:alice' within 0\.25 s: all permits of its rule "1 at the same time" are held\. One comes back when it is released, or in \d+\.\d{3} s if the holder does not renew it\. It was waited for 0\.25\d s\. Retry then, or allow a longer timeout\.$/,
  );
});

// Taking back

test("what was taken and cancelled comes back whole, and counts nowhere [CHK-6]", async () => {
  const { clock, start, run } = createSimulation();
  const rates = [{ limit: 5, windowMs: 60_000, algorithm: "sliding_window" }] as const;
  const { limiter } = start({ ratePerSecond: 1, burst: 3, maxConcurrent: 4, rates });
  await run(limiter.acquire({ cost: 1 }));
  await clock.advance(MOMENT_MS);
  const before = await run(limiter.getState());
  const metrics = limiter.getMetrics();
  const { result, cancel } = await run(limiter.tryTake({ cost: 2 }));
  assertEquals([result.allowed, result.remaining, limiter.getMetrics().currentConcurrent], [true, 0, 2]);
  const after = await run(cancel());
  assertEquals([after.allowed, after.remaining], [true, before.remaining]);
  assertEquals(await run(limiter.getState()), before);
  assertEquals(limiter.getMetrics(), metrics);
});

test("what was taken and cancelled comes back whole, although more was taken since and the store was read [CHK-6]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 0.001, burst: 4 }, { latencyMs: 1 });
  const { cancel } = await run(limiter.tryTake({ cost: 2 }));
  await run(limiter.acquire());
  await clock.advance(5_000);
  assertEquals((await run(limiter.getState())).remaining, 1);
  await run(cancel());
  assertEquals((await run(limiter.getState())).remaining, 3);
});

test("what was taken and cancelled gives nothing back of what others have taken since [CHK-6]", async () => {
  const { clock, start, run } = createSimulation();
  // Each of them writes for itself.
  const alone = { latencyMs: 1, store: { peers: undefined } };
  const [one, other] = [start({ ratePerSecond: 1 }, alone), start({ ratePerSecond: 1 }, alone)];
  const { cancel } = await run(one.limiter.tryTake());
  await clock.advance(1_200);
  assertEquals((await run(other.limiter.tryAcquire())).allowed, true);
  await run(cancel());
  assertEquals((await run(one.limiter.tryAcquire())).allowed, false);
  assertEquals((await run(other.limiter.tryAcquire())).allowed, false);
});

test("what was taken and kept counts as every acquisition does [CHK-6]", async () => {
  const { start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 1, maxConcurrent: 4 });
  const taken = await run(limiter.tryTake());
  assertEquals(limiter.getMetrics().totalAcquisitions, 0);
  taken.keep();
  const refused = await run(limiter.tryTake());
  refused.keep();
  await run(taken.result.release());
  const { totalAcquisitions, totalReleases, timeouts, currentConcurrent } = limiter.getMetrics();
  assertEquals([totalAcquisitions, totalReleases, timeouts, currentConcurrent], [1, 1, 1, 0]);
  assertEquals((await run(refused.cancel())).allowed, false);
});

test("what the local limiter granted in the store's place can be cancelled [CHK-6, FAIL-4]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter, link } = start({ ratePerSecond: 0.001, onFailure: "local" });
  link.isDown = true;
  const taken = await run(limiter.key("k").tryTake());
  assertEquals([taken.result.allowed, taken.result.degraded], [true, true]);
  await run(taken.cancel());
  await clock.advance(1);
  assertEquals((await run(limiter.tryAcquire({ key: "k" }))).allowed, true);
  assertEquals((await run(limiter.tryAcquire({ key: "k" }))).allowed, false);
});

test("acquire() and the others say what is wrong with their arguments, and do not take it for a store that is down", async () => {
  const { start, run } = createSimulation();
  const { limiter, warnings } = start({ ratePerSecond: 10 });
  // Untyped code may give anything.
  const untyped = limiter as unknown as Record<string, (options: unknown) => Promise<unknown>>;
  const wrong: [options: unknown, field: string][] = [
    [null, "options"],
    ["now", "options"],
    [{ signal: {} }, "signal"],
    [{ signal: null }, "signal"],
    [{ timeoutMs: Symbol("soon") }, "timeoutMs"],
    [{ cost: Object.create(null) }, "cost"],
    [{ key: Object.create(null) }, "key"],
  ];
  for (const method of ["acquire", "tryAcquire", "tryTake", "check"]) {
    for (const [options, field] of wrong) {
      const error = await assertRejects(() => run(untyped[method]!(options)), InvalidArgumentError);
      assertEquals(error.field, field, `${method}: ${error.message}`);
    }
  }
  const error = await assertRejects(() => run(untyped["check"]!({ consume: "no" })), InvalidArgumentError);
  assertEquals(error.field, "consume");
  assertEquals(warnings, []);
  assertEquals(limiter.getMetrics().degradedAcquisitions, 0);
});

test("a holder takes its lease for lost as early as a clock of others that disagrees may do so [TB-12, CON-6]", async () => {
  for (const errorMs of [0, 200]) {
    const { clock, start, run } = createSimulation();
    const readClock = () => ({ source: "host", now: clock.now(), offsetMs: 0, errorMs, measuredAt: null }) as const;
    const timingMarginMs = 10;
    const { limiter, link } = start({ maxConcurrent: 1, leaseMs: 1_000 }, { timingMarginMs, store: { readClock } });
    const permit = await run(limiter.acquire());
    link.isDown = true;
    await clock.advance(999 - errorMs - timingMarginMs);
    assertEquals(permit.lost, false);
    await clock.advance(2);
    assertEquals(permit.lost, true);
    await run(limiter.close());
  }
});

test("what a window has to remember stays short although answers take long [SW-1]", async () => {
  const simulation = createSimulation();
  const limit = { algorithm: "sliding_window", limit: 1_000, windowMs: 100 } as const;
  const { limiter, link } = simulation.start({ ...limit, failClosed: true, backendTimeoutMs: 60_000 }, {
    latencyMs: 4_000,
  });
  const { compareAndSet } = link;
  let longest = 0;
  link.compareAndSet = (key, value, ...rest) => {
    longest = Math.max(longest, value.length);
    return compareAndSet(key, value, ...rest);
  };
  const call = async (signal: AbortSignal) => void await limiter.acquire({ signal });
  await keepCalling(simulation, 60_000, Array<typeof call>(5_000).fill(call));
  assertGreater(longest, 100);
  assertLessOrEqual(longest, 4_096);
});
