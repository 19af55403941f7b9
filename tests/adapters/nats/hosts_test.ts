import { assert, assertEquals, assertGreaterOrEqual } from "@std/assert";
import { test } from "node:test";
import { createServerClock, type ServerClock } from "../../../src/adapters/nats/clock.ts";
import type { LimiterOptions } from "../../../src/config/options.ts";
import type { Clock } from "../../../src/core/clock.ts";
import type { Kv } from "../../../src/core/store/kv.ts";
import type { Store } from "../../../src/core/store/store.ts";
import { concurrencyExcess, rateExcess, type Start, windowExcess } from "../../support/oracles.ts";
import { createRandom, type Random } from "../../support/random.ts";
import { createSimulation, type SimulatedProcess, type Simulation } from "../../support/simulated_process.ts";

const HOUR = 3_600_000;
const SERVER_AHEAD_MS = 12_345_678;

/** A host with a clock of its own: how far it is off, and by how much it runs too fast. */
interface Host extends Clock {
  monotonic(): number;
  step(ms: number): void;
}

function createHost(clock: Clock, drift: number, offMs: number): Host {
  const start = clock.now();
  const elapsed = () => (clock.now() - start) * (1 + drift);
  let off = offMs;
  return {
    now: () => start + elapsed() + off,
    monotonic: () => 1_000 + elapsed(),
    sleep: (ms, signal) => clock.sleep(ms / (1 + drift), signal),
    step: (ms) => void (off += ms),
  };
}

/** A store as the NATS adapter makes one: with the server's clock, which is measured over the network. */
function storeOf({ clock }: Simulation, link: Kv, host: Host, random: Random): { store: Store; measured: ServerClock } {
  const latency = () => random.between(0.05, random.chance(0.02) ? 60 : 0.6);
  const measured = createServerClock(
    async () => {
      const before = host.monotonic();
      await clock.sleep(latency());
      const server = clock.now() + SERVER_AHEAD_MS;
      await clock.sleep(latency());
      return { before, after: host.monotonic(), server };
    },
    host,
    host.monotonic,
  );
  const store: Store = {
    kv: {
      ...link,
      async get(key) {
        const [entry] = await Promise.all([link.get(key), measured.isStale ? measured.measure() : undefined]);
        return entry;
      },
    },
    clock: measured,
    readClock: () => ({
      source: "server",
      now: measured.now(),
      offsetMs: 0,
      errorMs: measured.errorMs,
      measuredAt: null,
    }),
    get isClockStale() {
      return measured.isStale;
    },
    open: () => measured.isStale ? measured.measure() : Promise.resolve(),
    close: () => Promise.resolve(),
  };
  return { store, measured };
}

const OPTIONS: LimiterOptions = {
  ratePerSecond: 50,
  burst: 2,
  rates: [{ limit: 40, windowMs: 1_000, algorithm: "sliding_window" }],
  maxConcurrent: 6,
  leaseMs: 2_000,
};
/** What the rate leaves to a start that is late, and what clocks that drift by 500 ppm for 5 s do to each other. */
const LATE_MS = 16 + 2 * 2.5;

for (const seed of [1, 2, 3]) {
  test(`hosts that drift by 500 ppm and step by an hour admit nothing extra, for hours, and all are served (seed ${seed}) [TB-12]`, async () => {
    const random = createRandom(seed);
    const simulation = createSimulation();
    const { clock } = simulation;
    const drifts = [5e-4, -5e-4, 0];
    const hosts = drifts.map((drift) => createHost(clock, drift, random.between(-HOUR, HOUR)));
    const processes = hosts.map((host, i): SimulatedProcess => {
      const link = simulation.server.connect({ latencyMs: 0.4 });
      const { store } = storeOf(simulation, link, host, random.fork());
      return simulation.start(OPTIONS, { seed: seed * 10 + i, store });
    });

    async function use({ limiter }: SimulatedProcess, until: number, starts: Start[], own: Random): Promise<number> {
      let served = 0;
      while (clock.now() < until) {
        const permit = await limiter.acquire({ timeoutMs: 5_000 });
        const start: Start = { at: clock.now(), cost: 1, until: Infinity };
        if (start.at < until) starts.push(start);
        served++;
        await clock.sleep(own.between(1, 30));
        start.until = clock.now();
        await permit.release();
      }
      return served;
    }

    await simulation.run(
      (async () => {
        for (let phase = 0; phase < 12; phase++) {
          // Whoever is busy all the time measures all the time; the others have to notice that they did not.
          await clock.sleep(random.pick([0, 100, 4_000, 6_000, 600_000, HOUR]));
          for (const host of hosts) if (random.chance(0.5)) host.step(random.pick([HOUR, -HOUR]));
          const starts: Start[] = [];
          const until = clock.now() + 4_000;
          const users = processes.flatMap((process) => [0, 1, 2].map(() => use(process, until, starts, random.fork())));
          if (random.chance(0.5)) {
            await clock.sleep(1_500);
            for (const host of hosts) host.step(random.pick([HOUR, -HOUR]));
          }
          const served = await Promise.all(users);
          assert(Math.min(...served) > 0, `phase ${phase}: somebody was left with nothing: ${served}`);
          assertEquals(rateExcess(starts, { ratePerSecond: 50, burst: 2 }, LATE_MS), undefined);
          assertEquals(windowExcess(starts, { limit: 40, windowMs: 1_000 }), undefined);
          assertEquals(concurrencyExcess(starts, 6), undefined);
          assertGreaterOrEqual(starts.length, 4 * 40 * 0.9, `phase ${phase}: the limit was not used`);
        }
      })(),
      24 * HOUR,
    );
    for (const { limiter, warnings } of processes) {
      assertEquals(limiter.getMetrics().timeouts, 0);
      assertEquals(warnings, []);
      await simulation.run(limiter.close());
    }
  });
}

test('with clock = "local" hosts may disagree by the timing margin, and windows and permits hold all the same [TB-12]', async () => {
  const MARGIN_MS = 40;
  const options: LimiterOptions = {
    algorithm: "sliding_window",
    limit: 5,
    windowMs: 400,
    maxConcurrent: 2,
    leaseMs: 300,
  };
  for (const allowed of [true, false]) {
    const simulation = createSimulation();
    const { clock } = simulation;
    const starts: Start[] = [];
    const processes = [-MARGIN_MS / 2, MARGIN_MS / 2].map((off) => {
      const host = createHost(clock, 0, off);
      const link = simulation.server.connect({ latencyMs: 1 });
      const store: Partial<Store> = {
        kv: link,
        clock: host,
        readClock: () => ({
          source: "host",
          now: host.now(),
          offsetMs: 0,
          errorMs: allowed ? MARGIN_MS : 0,
          measuredAt: null,
        }),
      };
      return { ...simulation.start(options, { store }), link };
    });
    const until = clock.now() + 20_000;
    const users = processes.flatMap(({ limiter }, i) =>
      [0, 1, 2].map(async () => {
        const own = createRandom(i);
        while (clock.now() < until) {
          const permit = await limiter.acquire();
          const start: Start = { at: clock.now(), cost: 1, until: Infinity };
          starts.push(start);
          await Promise.race([clock.sleep(own.between(1, 50)), new Promise((lost) => permit.signal.onabort = lost)]);
          start.until = clock.now();
          await permit.release();
        }
      })
    );
    await simulation.run(Promise.all(users));
    const excess = windowExcess(starts, { limit: 5, windowMs: 400 });
    if (allowed) {
      assertEquals(excess, undefined);
      assertEquals(concurrencyExcess(starts, 2), undefined);
      assertGreaterOrEqual(starts.length, 20 * 5 / 0.4 * 0.8);
    } else assert(excess, "the allowance makes no difference: this test sees nothing");
  }
});
