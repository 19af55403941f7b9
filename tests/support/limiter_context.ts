import { memoryStore } from "../../src/adapters/memory.ts";
import type { Clock } from "../../src/core/clock.ts";
import { createLimiter } from "../../src/core/limiter/create_limiter.ts";
import { resolveTuning, STORE_DEFAULTS } from "../../src/core/limiter/defaults.ts";
import type { ClosableLimiter, LimiterContext } from "../../src/core/limiter/limiter.ts";
import type { LimiterConfig } from "../../src/core/limiter_config.ts";
import { silentLogger } from "../../src/core/logger.ts";
import { type BreakerSettings, type CircuitBreaker, createBreaker } from "../../src/core/store/breaker.ts";
import type { Store } from "../../src/core/store/store.ts";

/** What a limiter gets from outside in a simulation; everything else has a default. */
export interface ContextOptions {
  /** The name of the process, after which its writers are named. */
  readonly name: string;
  readonly store: Store;
  readonly localClock: Clock;
  readonly random: () => number;
  readonly retryIntervalMs?: number;
  readonly maxRetries?: number;
  readonly timingMarginMs?: number;
  readonly mostKeys?: number;
  readonly mostAtOnce?: number;
  readonly onDebug?: (message: string) => void;
  /**
   * The settings of the store's circuit breaker. By default it never opens, so that every request is a conversation
   * with the store.
   */
  readonly breaker?: Partial<BreakerSettings>;
  readonly onInfo?: (message: string) => void;
  readonly onWarning?: (message: string) => void;
}

/** A {@link LimiterContext} in which nothing is random except what `random` returns. */
export function limiterContext(config: LimiterConfig, options: ContextOptions): LimiterContext {
  const { name, store, localClock, random, onDebug, onInfo = () => {}, onWarning = () => {} } = options;
  const logger = { ...onDebug && { debug: onDebug }, info: onInfo, warn: onWarning, error: onWarning };
  const breakerOf = (settings: Partial<BreakerSettings>): CircuitBreaker =>
    createBreaker({
      storeId: config.storeId,
      settings: { ...STORE_DEFAULTS.breaker, failures: 0, ...settings },
      clock: localClock,
      random,
      logger,
    });
  const tuning = resolveTuning(options);
  let cells = 0;
  let local: ClosableLimiter | undefined;
  const context: LimiterContext = {
    store,
    breaker: breakerOf(options.breaker ?? {}),
    localClock,
    ...tuning,
    mostKeys: options.mostKeys ?? tuning.mostKeys,
    mostAtOnce: options.mostAtOnce ?? tuning.mostAtOnce,
    logger,
    identity() {
      let last = 0;
      return { id: `${name}-${cells++}`, next: (count = 1) => (last += count) - count + 1 };
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
        breaker: breakerOf({}),
      }),
  };
  return context;
}
