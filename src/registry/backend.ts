import { sha256 } from "../adapters/host.ts";
import { memoryStore } from "../adapters/memory.ts";
import { createNatsStore } from "../adapters/nats/store.ts";
import { connectionPlan } from "../config/nats_plan.ts";
import type { StoreOptions } from "../config/options.ts";
import type { Clock } from "../core/clock.ts";
import { createLimiter } from "../core/limiter/create_limiter.ts";
import { DEFAULTS, resolveBreaker, resolveTuning } from "../core/limiter/defaults.ts";
import type { ClosableLimiter, LimiterContext } from "../core/limiter/limiter.ts";
import type { LimiterConfig } from "../core/limiter_config.ts";
import { type Logger, silentLogger } from "../core/logger.ts";
import { type CircuitBreaker, createBreaker } from "../core/store/breaker.ts";
import type { Identity } from "../core/store/ledger.ts";
import { opensNothing, type Store } from "../core/store/store.ts";

/** What a registry, and everything in it, works with. */
export interface Surroundings {
  readonly logger: Logger;
  readonly clock: Clock;
  /** A new writer's name, for every limiter. */
  readonly identity: () => Identity;
}

/** A store in use, and the circuit breaker that all its limiters share. */
export interface Backend {
  readonly store: Store;
  readonly breaker: CircuitBreaker;
}

/** The store with this id, not opened yet. `store`: one that takes its place. */
export function createBackend(
  id: string,
  options: StoreOptions,
  surroundings: Surroundings,
  store: Store = createStore(id, options, surroundings),
): Backend {
  return { store, breaker: breakerOf(id, options, surroundings) };
}

function createStore(id: string, options: StoreOptions, { logger, clock }: Surroundings): Store {
  if (options.engine === "memory") return memoryStore(clock);
  if (options.engine === "nats") return createNatsStore(options, connectionPlan(options), { id, logger, clock });
  const nothing = () => Promise.resolve();
  return { kv: options.kv, peers: options.peers, clock: options.clock ?? clock, open: opensNothing, close: nothing };
}

function breakerOf(storeId: string, options: StoreOptions, { logger, clock }: Surroundings): CircuitBreaker {
  // Memory cannot fail.
  const settings = resolveBreaker(options.engine === "memory" ? { breakerFailures: 0 } : options);
  return createBreaker({ storeId, settings, clock, random: Math.random, logger });
}

/** What a limiter on that store needs. `options`: those of the store. */
export function limiterContext(
  config: LimiterConfig,
  options: StoreOptions,
  backend: Backend,
  surroundings: Surroundings,
): LimiterContext {
  const { logger, clock, identity } = surroundings;
  let local: ClosableLimiter | undefined;
  const context: LimiterContext = {
    ...backend,
    localClock: clock,
    ...resolveTuning(natsOptions(options)),
    logger,
    identity,
    random: Math.random,
    digest: sha256,
    localLimiter: () =>
      local ??= createLimiter({ ...config, onFailure: "closed" }, {
        ...context,
        store: memoryStore(clock),
        // The limiter for which it stands in reports what it grants.
        logger: silentLogger,
        breaker: breakerOf(config.storeId, { engine: "memory" }, surroundings),
      }),
  };
  return context;
}

/** How long a store with these options may take to answer, in milliseconds, unless a limiter says otherwise. */
export function backendTimeoutOf(options: StoreOptions): number {
  return natsOptions(options).backendTimeoutMs ?? DEFAULTS.backendTimeoutMs;
}

/** The options that only a NATS store has. */
function natsOptions(options: StoreOptions): Partial<Extract<StoreOptions, { engine: "nats" }>> {
  return options.engine === "nats" ? options : {};
}
