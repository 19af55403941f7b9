import { assert, assertEquals, assertGreater, assertLess, assertStringIncludes } from "@std/assert";
import { test } from "node:test";
import { memoryKv } from "../../../src/adapters/memory.ts";
import type { LimiterOptions } from "../../../src/config/options.ts";
import { resolveLimiter } from "../../../src/core/limiter/defaults.ts";
import { KeyLimiter } from "../../../src/core/limiter/key_limiter.ts";
import { Keys } from "../../../src/core/limiter/keys.ts";
import { createShared, type Shared } from "../../../src/core/limiter/shared.ts";
import type { Peers } from "../../../src/core/peers.ts";
import { limiterContext } from "../../support/limiter_context.ts";
import { createSimulation, type Simulation } from "../../support/simulated_process.ts";

/** More than stay as they are when nobody uses them. */
const MANY = 400;
const names = Array.from({ length: MANY }, (_, i) => `user ${i}`);

const LIMITS: readonly (readonly [what: string, options: LimiterOptions])[] = [
  ["a rate", { ratePerSecond: 1e-3, burst: 5 }],
  ["a window", { algorithm: "sliding_window", limit: 5, windowMs: 3_600_000 }],
  ["several limits", { ratePerSecond: 1e-3, burst: 5, rates: [{ limit: 9, windowMs: 3_600_000, burst: 7 }] }],
];

for (const [what, options] of LIMITS) {
  test(`the keys of ${what} that nobody uses go on where they were, and are read again only to be refused [LIM-17]`, async () => {
    const { start, run } = createSimulation();
    const { limiter, link } = start(options, { latencyMs: 1 });
    const admitted = async () => {
      const results = await run(Promise.all(names.map((key) => limiter.tryAcquire({ key }))));
      return results.filter(({ allowed }) => allowed).length;
    };
    for (let use = 0; use < 5; use++) assertEquals(await admitted(), MANY);
    assertEquals([link.sent.get, link.sent.compareAndSet], [0, 5 * MANY]);
    assertEquals(await admitted(), 0);
    assertEquals(link.sent.compareAndSet, 5 * MANY);
    assert(link.sent.get <= MANY);
  });
}

test("the keys of permits that nobody uses go on where they were [LIM-17, CON-1]", async () => {
  const { start, run } = createSimulation();
  const { limiter } = start({ maxConcurrent: 2 }, { latencyMs: 1 });
  const held = await run(Promise.all(names.map((key) => limiter.acquire({ key }))));
  const others = await run(Promise.all(names.map((key) => limiter.acquire({ key }))));
  const third = await run(Promise.all(names.map((key) => limiter.tryAcquire({ key }))));
  assertEquals(third.filter(({ allowed }) => allowed).length, 0);
  await run(Promise.all([...held, ...others].map((permit) => permit.release())));
  const state = await run(limiter.key(names[7]!).getState());
  assertEquals([state.remaining, state.currentUsage], [2, 0]);
  assertEquals(limiter.getMetrics().currentConcurrent, 0);
});

test("a key that another process wrote while nobody used it here is as exact as any [SW-1, LIM-16]", async () => {
  const { start, run } = createSimulation();
  const options: LimiterOptions = { algorithm: "sliding_window", limit: 3, windowMs: 3_600_000 };
  const [one, other] = [start(options, { latencyMs: 1 }), start(options, { latencyMs: 1 })];
  let admitted = 0;
  for (const { limiter } of [one, other, one, other, one, other]) {
    const results = await run(Promise.all(names.map((key) => limiter.tryAcquire({ key }))));
    admitted += results.filter(({ allowed }) => allowed).length;
  }
  assertEquals(admitted, 3 * MANY);
});

test("what a key did is counted, however long nobody used it [MET-5]", async () => {
  const { start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 1e-3, burst: 2 }, { latencyMs: 1 });
  for (let use = 0; use < 3; use++) await run(Promise.all(names.map((key) => limiter.tryAcquire({ key }))));
  for (const name of names) {
    const { lastAcquisitionAt, ...counts } = limiter.key(name).getMetrics();
    assert(lastAcquisitionAt !== null);
    assertEquals([counts.totalAcquisitions, counts.timeouts, counts.casFailures], [2, 1, 0]);
  }
  assertEquals(limiter.getMetrics().totalAcquisitions, 2 * MANY);
  assertEquals(limiter.getMetrics().timeouts, MANY);
});

test("who has the limiter of a key keeps it, and it stays the same one while others come and go [CLN-4]", async () => {
  const { start, run } = createSimulation();
  const { limiter } = start({ ratePerSecond: 1e-3, burst: 2 }, { latencyMs: 1 });
  const mine = limiter.key("mine");
  await run(mine.acquire());
  await run(Promise.all(names.map((key) => limiter.tryAcquire({ key }))));
  await run(limiter.acquire({ key: "mine" }));
  assert(limiter.key("mine") === mine);
  assertEquals(mine.getMetrics().totalAcquisitions, 2);
  assertEquals((await run(mine.tryAcquire())).allowed, false);
});

test("two limiters of one key in a process hold permits of their own, and renew no others [CON-5, CON-6]", async () => {
  const { clock, start, run } = createSimulation();
  const { limiter } = start({ maxConcurrent: 2, leaseMs: 1_000 }, { latencyMs: 1, mostKeys: 1 });
  const forgotten = limiter.key("a");
  await run(forgotten.initialize());
  for (const key of ["b", "c", "d"]) await run((await run(limiter.acquire({ key }))).release());
  const again = limiter.key("a");
  assert(again !== forgotten);
  const permits = [await run(forgotten.acquire()), await run(again.acquire())];
  await clock.advance(5_000);
  assertEquals(permits.map(({ lost }) => lost), [false, false]);
  for (const { allowed } of [await run(forgotten.tryAcquire()), await run(again.tryAcquire())]) assert(!allowed);
  await run(Promise.all(permits.map((permit) => permit.release())));
  assertEquals((await run(again.getState())).remaining, 2);
});

test("a key where somebody waits, for a slot of its own or behind others, is not forgotten [LIM-17]", async () => {
  for (const callers of [1, 5]) {
    const { clock, start, run } = createSimulation();
    const { limiter } = start({ ratePerSecond: 1 }, { latencyMs: 1, mostKeys: 1 });
    const busy = limiter.key("busy");
    await run(busy.acquire());
    const waiting = Promise.all(Array.from({ length: callers }, () => busy.acquire()));
    // By then the first of them has been granted its slot, which is still to come.
    await clock.advance(600);
    for (const key of ["b", "c", "d", "e"]) await run(limiter.acquire({ key }));
    assert(limiter.key("busy") === busy);
    await run(waiting);
    for (const key of ["f", "g", "h", "i"]) await run(limiter.acquire({ key }));
    assert(limiter.key("busy") !== busy);
  }
});

test("what was taken ahead for a key does not keep it from being forgotten [LIM-17]", async () => {
  const { clock, start, run } = createSimulation();
  const options: LimiterOptions = { ratePerSecond: 2_000, burst: 2_000, prefetch: 100 };
  const { limiter } = start(options, { latencyMs: 1, mostKeys: 5 });
  const first = limiter.key("first");
  const rush = Array.from({ length: 10 }, async () => {
    for (let i = 0; i < 40; i++) {
      await first.acquire();
      await clock.sleep(1);
    }
  });
  await run(Promise.all(rush));
  await clock.advance(10_000);
  for (let i = 0; i < 20; i++) await run(limiter.acquire({ key: `user ${i}` }));
  assert(limiter.key("first") !== first);
});

for (const end of ["close", "reset"] as const) {
  test(`others can hand over work for keys that are in use or lately were, and for none after ${end}() [LIM-17, LIM-18]`, async () => {
    const { start, run } = createSimulation();
    const served = new Set<string>();
    const peers: Peers = {
      serve(address) {
        served.add(address);
        return () => served.delete(address);
      },
      ask: () => Promise.reject(new Error("nobody is asked here")),
    };
    // Keys with permits have an address each.
    const { limiter } = start({ maxConcurrent: 1 }, { latencyMs: 1, store: { peers } });
    for (const key of names) await run((await run(limiter.acquire({ key }))).release());
    assertGreater(served.size, 0);
    assertLess(served.size, MANY / 2);
    await run(limiter[end]());
    assertEquals(served.size, 0);
  });
}

test("a reset forgets what was known of keys that nobody uses [TST-1]", async () => {
  const { start, run, server } = createSimulation();
  const { limiter } = start({ ratePerSecond: 1e-3 }, { latencyMs: 1 });
  await run(Promise.all(names.map((key) => limiter.acquire({ key }))));
  await run(limiter.reset());
  assertEquals(server.text("api.user=200"), undefined);
  const results = await run(Promise.all(names.map((key) => limiter.tryAcquire({ key }))));
  assertEquals(results.filter(({ allowed }) => allowed).length, MANY);
  assertEquals(limiter.getMetrics().totalAcquisitions, MANY);
});

test("the limiter of a key that was forgotten while somebody had it is closed and reset with the others [LIM-18, TST-4]", async () => {
  for (const end of ["close", "reset"] as const) {
    const { clock, start, run } = createSimulation();
    const options: LimiterOptions = { maxConcurrent: 1, leaseMs: 1_000 };
    const { limiter } = start(options, { latencyMs: 1, mostKeys: 1 });
    const other = start(options, { latencyMs: 1 });
    const forgotten = limiter.key("a");
    await run(forgotten.initialize());
    for (const key of ["b", "c", "d"]) await run((await run(limiter.acquire({ key }))).release());
    assert(limiter.key("a") !== forgotten);
    const permit = await run(forgotten.acquire());
    const waiting = forgotten.acquire({ timeoutMs: 60_000 }).then(() => "granted", String);
    await clock.advance(100);
    await run(limiter[end]());
    assertEquals(permit.lost, true);
    if (end === "close") assertStringIncludes(await run(waiting, 10), "was closed");
    else assertEquals(await run(waiting, 10_000), "granted");
    await clock.advance(3_000);
    assertEquals((await run(other.limiter.tryAcquire({ key: "a" }))).allowed, end === "close");
  }
});

/** What the keys of a limiter have in common. */
function sharedIn({ clock, server }: Simulation, options: LimiterOptions): Shared {
  const config = resolveLimiter("api", options);
  const nothing = () => Promise.resolve();
  const store = { kv: server.connect({ latencyMs: 1 }), clock, isOpen: true, open: nothing, close: nothing };
  return createShared(config, limiterContext(config, { name: "process", store, localClock: clock, random: () => 0 }));
}

test("most keys that nobody uses are kept as a line of text, also where all that came after was refused at once [LIM-17]", async () => {
  const simulation = createSimulation();
  const keys = new Keys(sharedIn(simulation, { ratePerSecond: 1e-3 }));
  const limiters: KeyLimiter[] = [];
  for (const name of names) {
    await simulation.run(keys.get(name).acquire());
    const limiter = keys.get(name);
    assertEquals((await limiter.tryAcquire()).allowed, false);
    limiters.push(limiter);
  }
  const asTheyWere = names.filter((name, i) => keys.get(name) === limiters[i]).length;
  assertLess(asTheyWere, MANY / 2);
});

test("a key that nobody uses can be kept as a line of text after a reset, too [LIM-17]", async () => {
  const simulation = createSimulation();
  const { run } = simulation;
  const limiter = new KeyLimiter(sharedIn(simulation, { ratePerSecond: 1e-3, burst: 9 }), undefined, "user");
  await run(limiter.acquire());
  assert(limiter.past?.knowledge);
  await run(limiter.reset());
  assertEquals(limiter.past?.knowledge, undefined);
  await run(limiter.acquire());
  assert(limiter.past?.knowledge);
});

test("what was borrowed for a key in memory is returned when the key is forgotten, so that nothing is left of it [LIM-17]", async () => {
  const { clock, start, run } = createSimulation();
  const kv = memoryKv(clock);
  const { loans } = kv;
  assert(loans);
  const lent = new Set<string>();
  const { borrow, settle } = loans;
  Object.assign(loans, {
    borrow: (...call: Parameters<typeof borrow>) => {
      lent.add(call[0]);
      return borrow(...call);
    },
    settle: (key: string) => {
      lent.delete(key);
      settle(key);
    },
  });
  const { limiter } = start({ ratePerSecond: 1 }, { mostKeys: 20, store: { kv } });
  for (const key of names) assertEquals((await run(limiter.tryAcquire({ key }))).allowed, true);
  assertLess(lent.size, 40);
  await run(limiter.close());
  assertEquals(lent.size, 0);
});
