import type { LimiterOptions } from "../../src/config/options.ts";
import type { BreakerSettings, CircuitBreaker } from "../../src/core/store/breaker.ts";
import { resolveLimiter } from "../../src/core/limiter/defaults.ts";
import { createLimiter } from "../../src/core/limiter/create_limiter.ts";
import type { ClosableLimiter } from "../../src/core/limiter/limiter.ts";
import type { Store } from "../../src/core/store/store.ts";
import type { FaultyKv } from "../../src/testing/faulty_kv.ts";
import { seededRandom } from "../../src/testing/random.ts";
import { createVirtualClock, type VirtualClock } from "../../src/testing/virtual_clock.ts";
import { limiterContext } from "./limiter_context.ts";
import { createSimulatedPeers, type SimulatedPeers } from "./simulated_peers.ts";
import { createSimulatedServer, type SimulatedServer } from "./simulated_kv.ts";

/** A limiter in its own process, with its connection and what it logged. */
export interface SimulatedProcess {
  readonly limiter: ClosableLimiter;
  readonly link: FaultyKv;
  readonly breaker: CircuitBreaker;
  /** How it talks to the others. */
  readonly peers: SimulatedPeers;
  readonly warnings: string[];
  readonly infos: string[];
  readonly debugs: string[];
}

/** What is different from the defaults in a process. */
export interface ProcessOptions {
  readonly latencyMs?: number;
  readonly seed?: number;
  readonly mostKeys?: number;
  readonly mostAtOnce?: number;
  readonly maxRetries?: number;
  readonly retryIntervalMs?: number;
  readonly timingMarginMs?: number;
  readonly breaker?: Partial<BreakerSettings>;
  readonly store?: Partial<Store>;
}

/** Time, a server, and processes that share it. */
export interface Simulation {
  readonly clock: VirtualClock;
  readonly server: SimulatedServer;
  /** One more process with the same limiter, or with another one on the same server. */
  start(options: LimiterOptions, process?: ProcessOptions): SimulatedProcess;
  /** Runs the clock until the promise has settled, and fails if that takes more than `limitMs` of the clock. */
  run<T>(promise: Promise<T>, limitMs?: number): Promise<T>;
}

/** The id of every limiter in a simulation, and so its key. */
export const LIMITER_ID = "api";

/** A {@link Simulation} in which nothing happens yet. */
export function createSimulation(): Simulation {
  const clock = createVirtualClock();
  const server = createSimulatedServer(clock);
  const network = createSimulatedPeers(clock);
  let processes = 0;

  function start(options: LimiterOptions, settings: ProcessOptions = {}): SimulatedProcess {
    const number = ++processes;
    const { latencyMs = 0, seed = number } = settings;
    const link = server.connect({ latencyMs });
    const peers = network(link);
    const warnings: string[] = [];
    const infos: string[] = [];
    const debugs: string[] = [];
    const nothing = () => Promise.resolve();
    const config = resolveLimiter(LIMITER_ID, { store: "simulated", ...options }, { backendTimeoutMs: 2_000 });
    const context = limiterContext(config, {
      ...settings,
      name: `process${number}`,
      store: { kv: link, peers, clock, open: nothing, close: nothing, ...settings.store },
      localClock: clock,
      random: seededRandom(seed),
      onDebug: (message) => debugs.push(message),
      onInfo: (message) => infos.push(message),
      onWarning: (message) => warnings.push(message),
    });
    return { limiter: createLimiter(config, context), link, peers, breaker: context.breaker, warnings, infos, debugs };
  }

  async function run<T>(promise: Promise<T>, limitMs = 3_600_000): Promise<T> {
    const over = new AbortController();
    const tooLong = clock.sleep(limitMs, over.signal).then(() => {
      throw new Error(`nothing came of it within ${limitMs} ms of the clock`);
    });
    try {
      return await clock.runUntil(Promise.race([promise, tooLong]));
    } finally {
      over.abort();
      tooLong.catch(() => {}); // Nobody waits for it any more.
    }
  }

  return { clock, server, start, run };
}
