import { memoryStore } from "../../src/adapters/memory.ts";
import type { LimiterOptions } from "../../src/config/options.ts";
import { resolveLimiter } from "../../src/core/defaults.ts";
import { type ClosableLimiter, createLimiter, type LimiterContext } from "../../src/core/limiter.ts";
import type { Store } from "../../src/core/store.ts";
import { createVirtualClock, type VirtualClock } from "../../src/testing/virtual_clock.ts";
import { createSimulatedServer, type SimulatedLink, type SimulatedServer } from "./simulated_kv.ts";

/** A limiter in a process of its own, with its connection and what it logged. */
export interface SimulatedProcess {
  readonly limiter: ClosableLimiter;
  readonly link: SimulatedLink;
  readonly warnings: string[];
  readonly infos: string[];
}

/** What is different from the defaults in a process. */
export interface ProcessOptions {
  readonly latencyMs?: number;
  readonly seed?: number;
  readonly mostKeys?: number;
  readonly maxRetries?: number;
  readonly retryIntervalMs?: number;
  readonly timingMarginMs?: number;
  readonly store?: Partial<Store>;
}

/** Time, a server, and processes that share it. */
export interface Simulation {
  readonly clock: VirtualClock;
  readonly server: SimulatedServer;
  /** One more process with the same limiter, or with another one on the same server. */
  start(options: LimiterOptions, process?: ProcessOptions): SimulatedProcess;
  /** Runs the clock until the promise is settled, and fails if it is not within `limitMs` of the clock. */
  run<T>(promise: Promise<T>, limitMs?: number): Promise<T>;
}

/** Numbers from 0 to 1 that are the same for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The id of every limiter in a simulation, and so its key. */
export const LIMITER_ID = "api";

/** A {@link Simulation} in which nothing happens yet. */
export function createSimulation(): Simulation {
  const clock = createVirtualClock();
  const server = createSimulatedServer(clock);
  let processes = 0;

  function start(options: LimiterOptions, settings: ProcessOptions = {}): SimulatedProcess {
    const number = ++processes;
    const { latencyMs = 0, seed = number } = settings;
    const link = server.connect({ latencyMs });
    const warnings: string[] = [];
    const infos: string[] = [];
    const nothing = () => Promise.resolve();
    const config = resolveLimiter(LIMITER_ID, { store: "simulated", ...options }, { backendTimeoutMs: 2_000 });
    let cells = 0;
    let local: ClosableLimiter | undefined;
    const context: LimiterContext = {
      store: { kv: link, clock, open: nothing, close: nothing, ...settings.store },
      localClock: clock,
      retryIntervalMs: settings.retryIntervalMs ?? 50,
      maxRetries: settings.maxRetries ?? 100,
      timingMarginMs: settings.timingMarginMs ?? 10,
      mostKeys: settings.mostKeys ?? 10_000,
      logger: {
        debug() {},
        info: (message) => infos.push(message),
        warn: (message) => warnings.push(message),
        error: (message) => warnings.push(message),
      },
      identity() {
        let last = 0;
        return { id: `process${number}-${cells++}`, next: () => ++last };
      },
      random: seededRandom(seed),
      digest: async (text) => {
        const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
        return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
      },
      localLimiter: () =>
        local ??= createLimiter({ ...config, onFailure: "closed" }, { ...context, store: memoryStore(clock) }),
    };
    return { limiter: createLimiter(config, context), link, warnings, infos };
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
