import { memoryStore } from "../../src/adapters/memory.ts";
import type { Clock } from "../../src/core/clock.ts";
import { type ClosableLimiter, createLimiter, type LimiterContext } from "../../src/core/limiter.ts";
import type { LimiterConfig } from "../../src/core/limiter_config.ts";
import { silentLogger } from "../../src/core/logger.ts";
import type { Store } from "../../src/core/store.ts";

/** What a limiter gets from outside in a simulation; everything else has a default. */
export interface ContextOptions {
  /** The name of the process: writers are called after it. */
  readonly name: string;
  readonly store: Store;
  readonly localClock: Clock;
  readonly random: () => number;
  readonly retryIntervalMs?: number;
  readonly maxRetries?: number;
  readonly timingMarginMs?: number;
  readonly mostKeys?: number;
  readonly onDebug?: (message: string) => void;
  readonly onInfo?: (message: string) => void;
  readonly onWarning?: (message: string) => void;
}

/** A {@link LimiterContext} in which nothing is random but what `random` says. */
export function limiterContext(config: LimiterConfig, options: ContextOptions): LimiterContext {
  const { name, store, localClock, random, onDebug, onInfo = () => {}, onWarning = () => {} } = options;
  let cells = 0;
  let local: ClosableLimiter | undefined;
  const context: LimiterContext = {
    store,
    localClock,
    retryIntervalMs: options.retryIntervalMs ?? 50,
    maxRetries: options.maxRetries ?? 100,
    timingMarginMs: options.timingMarginMs ?? 10,
    mostKeys: options.mostKeys ?? 10_000,
    logger: { ...onDebug && { debug: onDebug }, info: onInfo, warn: onWarning, error: onWarning },
    identity() {
      let last = 0;
      return { id: `${name}-${cells++}`, next: () => ++last };
    },
    random,
    digest: async (text) => {
      const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
      return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
    },
    localLimiter: () =>
      local ??= createLimiter({ ...config, onFailure: "closed" }, {
        ...context,
        store: memoryStore(localClock),
        logger: silentLogger,
      }),
  };
  return context;
}
