import { assertEquals } from "@std/assert";
import { test } from "node:test";
import type { LimiterOptions } from "../../../src/config/options.ts";
import type { Clock } from "../../../src/core/clock.ts";
import type { CellContext } from "../../../src/core/cell/cell_context.ts";
import { createLimiter } from "../../../src/core/limiter/create_limiter.ts";
import { resolveLimiter } from "../../../src/core/limiter/defaults.ts";
import type { ClosableLimiter } from "../../../src/core/limiter/limiter.ts";
import { createShared } from "../../../src/core/limiter/shared.ts";
import type { Kv } from "../../../src/core/store/kv.ts";
import { type Change, Ledger } from "../../../src/core/store/ledger.ts";
import type { Store } from "../../../src/core/store/store.ts";
import type { Trips } from "../../../src/core/store/trips.ts";
import type { FaultyKv } from "../../../src/testing/faulty_kv.ts";
import { limiterContext } from "../../support/limiter_context.ts";
import { createSimulation, LIMITER_ID, type Simulation } from "../../support/simulated_process.ts";

const BURST = 5;
const OPTIONS: LimiterOptions = { ratePerSecond: 0.001, burst: BURST, failClosed: true };

/** A store that can be connected anew, in which case it may have lost everything. */
interface Reconnecting extends Store {
  session: number;
}

function reconnecting(simulation: Simulation): { readonly store: Reconnecting; readonly link: FaultyKv } {
  const link = simulation.server.connect({ latencyMs: 1 });
  const nothing = () => Promise.resolve();
  return { link, store: { kv: link, clock: simulation.clock, open: nothing, close: nothing, session: 1 } };
}

const contextOf = ({ clock }: Simulation, store: Store) =>
  limiterContext(resolveLimiter(LIMITER_ID, OPTIONS), { name: "process", store, localClock: clock, random: () => 0 });
const limiterOf = (simulation: Simulation, store: Store): ClosableLimiter =>
  createLimiter(resolveLimiter(LIMITER_ID, OPTIONS), contextOf(simulation, store));
const cellsOf = (simulation: Simulation, store: Store): CellContext =>
  createShared(resolveLimiter(LIMITER_ID, OPTIONS), contextOf(simulation, store)).cells;

/** A ledger, how long its writes take, and a change for it that is like no other. */
function ledgerOf(
  simulation: Simulation,
  store: Store = reconnecting(simulation).store,
): { readonly ledger: Ledger; readonly trips: Trips; change(): Change } {
  const cells = cellsOf(simulation, store);
  const ledger = new Ledger(cells, cells.identity, LIMITER_ID);
  const change = () => ({ state: { ...ledger.base(simulation.clock.now()) }, latest: -Infinity, mixes: false });
  return { ledger, trips: cells.trips, change };
}

test("a write that was refused may stand later, until something else stands there", async () => {
  const simulation = createSimulation();
  const { server, run } = simulation;
  const link = server.connect();
  let refuses = false;
  const kv: Kv = {
    ...link,
    compareAndSet: (...write) => refuses ? Promise.resolve({ ok: false }) : link.compareAndSet(...write),
  };
  const { ledger, change } = ledgerOf(simulation, { ...reconnecting(simulation).store, kv });
  assertEquals(await run(ledger.write(change(), false)), true);
  refuses = true;
  const refused = change();
  assertEquals(await run(ledger.write(refused, false)), false);
  await run(ledger.read(false));
  assertEquals([ledger.mayStand(refused.state), ledger.mayStand(change().state)], [true, false]);
  const other = ledgerOf(simulation);
  await run(other.ledger.read(false));
  assertEquals(await run(other.ledger.write(other.change(), false)), true);
  await run(ledger.read(false));
  assertEquals(ledger.mayStand(refused.state), false);
});

test("a write that is carried out after it was refused, and the next one too, counts once", async () => {
  const simulation = createSimulation();
  const { server, start, run } = simulation;
  const link = server.connect({ latencyMs: 1 });
  let late: Parameters<Kv["compareAndSet"]> | undefined;
  let writes = 0;
  const kv: Kv = {
    ...link,
    async compareAndSet(...write) {
      writes++;
      if (writes === 1) {
        late = write;
        return { ok: false };
      }
      if (late) await link.compareAndSet(...late);
      late = undefined;
      return await link.compareAndSet(...write);
    },
  };
  const { limiter } = start(OPTIONS, { store: { kv } });
  assertEquals((await run(limiter.tryAcquire())).allowed, true);
  assertEquals([(await run(limiter.getState())).remaining, writes], [BURST - 1, 2]);
});

test("who is connected anew reads before it writes, and loses no race", async () => {
  const simulation = createSimulation();
  const { run } = simulation;
  const { store, link } = reconnecting(simulation);
  const limiter = limiterOf(simulation, store);
  await run(limiter.acquire());
  store.session++;
  await run(limiter.acquire());
  assertEquals([link.sent.get, link.sent.compareAndSet, limiter.getMetrics().casFailures], [1, 2, 0]);
});

test("what is asked over one connection and answered over the next has to be read again", async () => {
  for (const operation of ["write", "read"] as const) {
    const simulation = createSimulation();
    const { clock, run } = simulation;
    const { store } = reconnecting(simulation);
    const { ledger, change } = ledgerOf(simulation, store);
    await run(ledger.write(change(), false));
    const asked = operation === "write" ? ledger.write(change(), false) : ledger.read(false);
    await clock.advance(0.5);
    store.session++;
    await run<unknown>(asked);
    assertEquals(ledger.needsRead, true);
    await run(ledger.read(false));
    assertEquals(ledger.needsRead, false);
  }
});

test("nothing is written after what was read over an earlier connection, and nothing repeated", async () => {
  for (const isSent of [false, true]) {
    const simulation = createSimulation();
    const { clock, run } = simulation;
    const { store, link } = reconnecting(simulation);
    const { ledger, change } = ledgerOf(simulation, store);
    await run(ledger.write(change(), false));
    if (!isSent) store.session++;
    link.setFaults(({ operation }) => operation === "compareAndSet" ? { kind: "request_lost" } : undefined);
    const writing = ledger.write(change(), false);
    await clock.advance(0.5);
    if (isSent) store.session++;
    assertEquals(await run(writing), false);
    assertEquals(link.sent.compareAndSet, isSent ? 2 : 1);
  }
});

test("what is known of a key that nobody uses need not be read again, unless the store was connected anew", async () => {
  for (const isNew of [false, true]) {
    const simulation = createSimulation();
    const { run } = simulation;
    const { store, link } = reconnecting(simulation);
    const cells = cellsOf(simulation, store);
    const before = new Ledger(cells, cells.identity, LIMITER_ID);
    await run(before.write({ state: before.base(0), latest: -Infinity, mixes: false }, false));
    const after = new Ledger(cells, cells.identity, LIMITER_ID, before.knowledge);
    if (isNew) store.session++;
    assertEquals([after.needsRead, link.sent.total], [isNew, 1]);
  }
});

test("nothing is handed on of a key of which nobody knows what stands there", async () => {
  const simulation = createSimulation();
  const { run } = simulation;
  const { ledger, change } = ledgerOf(simulation);
  await run(ledger.write(change(), false));
  ledger.suspect();
  assertEquals([ledger.knowledge, ledger.needsRead], [undefined, true]);
});

test("a write that has to be repeated is as slow as all of it together, unless only this process stood still", async () => {
  for (const [stoodStillMs, isSlow] of [[0, true], [2_000, true], [5_000, false]] as const) {
    const simulation = createSimulation();
    const { clock, run } = simulation;
    const { store, link } = reconnecting(simulation);
    const late: Clock = { now: () => clock.now(), sleep: (ms, signal) => clock.sleep(ms + stoodStillMs, signal) };
    const { ledger, trips, change } = ledgerOf(simulation, { ...store, clock: late });
    link.failNext("request_lost");
    const begun = clock.now();
    assertEquals(await run(ledger.write(change(), false)), true);
    assertEquals([trips.ms, trips.mostMs(clock.now())], [1, isSlow ? clock.now() - begun : 1]);
  }
});

test("a value is kept for as long as it matters and a second longer, and then forgotten", async () => {
  const { clock, server, start, run } = createSimulation();
  const { limiter } = start({ algorithm: "sliding_window", limit: 2, windowMs: 60_000 });
  await run(limiter.acquire());
  await clock.advance(60_900);
  assertEquals(server.text(LIMITER_ID) === undefined, false);
  await clock.advance(1_000);
  assertEquals(server.text(LIMITER_ID), undefined);
});
