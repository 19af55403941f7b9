import { NATS_DEFAULTS } from "../adapters/nats/defaults.ts";
import type { LimiterOptions, StoreOptions } from "../config/options.ts";
import { checkIdentifier } from "../core/arguments.ts";
import type { Clock } from "../core/clock.ts";
import { LimiterNotFoundError, RateLimiterAlreadyConfiguredError, StoreNotFoundError } from "../core/errors.ts";
import { createLimiter } from "../core/limiter/create_limiter.ts";
import { resolveBreaker, resolveLimiter } from "../core/limiter/defaults.ts";
import type { ClosableLimiter, LimiterContext } from "../core/limiter/limiter.ts";
import { Strays } from "../core/limiter/strays.ts";
import type { LimiterConfig } from "../core/limiter_config.ts";
import type { Store } from "../core/store/store.ts";
import type { World } from "./access.ts";
import { type Backend, backendTimeoutOf, createBackend, limiterContext, type Surroundings } from "./backend.ts";

/** A configured store. */
export interface StoreEntry {
  readonly options: StoreOptions;
  /** Its options, completed with the defaults. */
  readonly settings: StoreOptions;
  /** Present once a limiter has asked for it. */
  backend: Backend | undefined;
}

/** A configured limiter. */
export interface LimiterEntry {
  readonly options: LimiterOptions;
  readonly config: LimiterConfig;
  /** Present once somebody has asked for it. */
  limiter: ClosableLimiter | undefined;
}

/**
 * The stores and limiters of a registry: which are configured under which names, and which of them are in use. Options
 * that come here have been checked.
 */
export interface Inventory {
  /** The clock in use. Another world has another one. */
  readonly clock: Clock;
  readonly stores: ReadonlyMap<string, Readonly<StoreEntry>>;
  readonly limiters: ReadonlyMap<string, Readonly<LimiterEntry>>;
  /** @throws {RateLimiterAlreadyConfiguredError} if another store has this id, and it is not to be replaced. */
  configureStore(id: string, options: StoreOptions, replace: boolean): void;
  /**
   * @throws {RateLimiterAlreadyConfiguredError} if another limiter has this id, and it is not to be replaced.
   * @throws {StoreNotFoundError} if its store does not exist.
   */
  configureLimiter(id: string, options: LimiterOptions, replace: boolean): void;
  /** @throws {LimiterNotFoundError} if no limiter has this id. */
  limiterEntry(id: string): Readonly<LimiterEntry>;
  /**
   * The limiter with this id. It is the same object until it or its store is configured anew, or closed.
   *
   * @throws {LimiterNotFoundError} if there is none.
   */
  limiter(id: string): ClosableLimiter;
  /** @throws {StoreNotFoundError} if no store has this id. */
  storeEntry(id: string): Readonly<StoreEntry>;
  /** All limiters that were made on a store, including those that were replaced. */
  limitersOn(storeId: string): readonly ClosableLimiter[];
  /** Closes everything that was made: limiters, and then their stores. The next use makes new ones. */
  closeAll(): Promise<void>;
  /** Closes the stores of the present world, and goes on in `world` or, without one, in the real one. */
  moveTo(world: World | undefined): Promise<void>;
}

/** The store that a limiter without one uses. */
const DEFAULT_STORE = "memory";

/** An {@link Inventory} with nothing in it. */
export function createInventory({ logger, clock: ownClock, identity }: Surroundings): Inventory {
  const stores = new Map<string, StoreEntry>();
  const limiters = new Map<string, LimiterEntry>();
  /** Limiters that were replaced by others with the same id: somebody may still hold their permits, or wait in them. */
  const replaced = new Strays<ClosableLimiter>();
  let closing: Promise<unknown> = Promise.resolve();
  let world: World | undefined;
  const surroundings = (): Surroundings => ({ logger, identity, clock: world?.clock ?? ownClock });

  function storeEntry(id: string): StoreEntry {
    const entry = stores.get(id);
    if (!entry) throw new StoreNotFoundError(id, [...stores.keys()]);
    return entry;
  }

  function limiterEntry(id: string): LimiterEntry {
    const entry = limiters.get(checkIdentifier(id));
    if (!entry) throw new LimiterNotFoundError(id, [...limiters.keys()]);
    return entry;
  }

  function putStore(id: string, options: StoreOptions): void {
    const old = stores.get(id);
    stores.set(id, { options, settings: completed(options), backend: undefined });
    logger.info(`Store '${id}': configured, with engine ${options.engine ?? "custom"}.`);
    // Limiters that were made on the old store are made anew on this one, with its settings.
    const onOldStore = takeLimiters((config) => config.storeId === id);
    for (const { options: limiterOptions, config } of [...limiters.values()]) {
      if (config.storeId === id) limiters.set(config.id, entryOf(config.id, limiterOptions));
    }
    close(onOldStore, old?.backend ? [old.backend.store] : [])
      .catch((error) => logger.warn(`Store '${id}' did not close cleanly: ${error}`));
  }

  function entryOf(id: string, options: LimiterOptions): LimiterEntry {
    const backendTimeoutMs = backendTimeoutOf(storeEntry(options.store ?? DEFAULT_STORE).options);
    return { options, config: resolveLimiter(id, options, { backendTimeoutMs }), limiter: undefined };
  }

  function contextOf(config: LimiterConfig): LimiterContext {
    const entry = storeEntry(config.storeId);
    entry.backend ??= createBackend(config.storeId, entry.options, surroundings(), world?.store(config.storeId));
    return limiterContext(config, entry.options, entry.backend, surroundings());
  }

  /** All stores that were made, to be closed. The next use makes new ones. */
  function takeStores(): Store[] {
    const made = [...stores.values()].flatMap(({ backend }) => backend ? [backend.store] : []);
    for (const entry of stores.values()) entry.backend = undefined;
    return made;
  }

  /** All limiters that were made and are `meant`, including those that were replaced. */
  function limitersInUse(meant: (config: LimiterConfig) => boolean): ClosableLimiter[] {
    const current = [...limiters.values()].flatMap(({ limiter }) => limiter ? [limiter] : []);
    return [...current, ...replaced.all].filter((limiter) => meant(limiter.getConfig()));
  }

  /** Like {@link limitersInUse}, to be closed. The next use makes new ones. */
  function takeLimiters(meant: (config: LimiterConfig) => boolean): ClosableLimiter[] {
    const used = limitersInUse(meant);
    replaced.drop((limiter) => meant(limiter.getConfig()));
    for (const entry of limiters.values()) if (meant(entry.config)) entry.limiter = undefined;
    return used;
  }

  /** Closes limiters, and then their stores. Resolves when these, and everything closed before, are closed. */
  async function close(limiters: readonly ClosableLimiter[], stores: readonly Store[]): Promise<void> {
    const before = closing;
    const closed = (async () => {
      await Promise.all(limiters.map((limiter) => limiter.close()));
      await Promise.all(stores.map((store) => store.close()));
    })();
    closing = Promise.allSettled([before, closed]);
    await closed;
    await before;
  }

  return {
    get clock() {
      return surroundings().clock;
    },
    stores,
    limiters,
    storeEntry,
    limiterEntry,
    configureStore(id, options, replace) {
      const old = stores.get(id);
      const differing = old && differences(old.settings, completed(options));
      if (differing?.length === 0) return;
      if (differing && !replace) throw new RateLimiterAlreadyConfiguredError("store", id, differing);
      putStore(id, options);
    },
    configureLimiter(id, options, replace) {
      const { store: storeId = DEFAULT_STORE } = options;
      if (storeId === DEFAULT_STORE && !stores.has(storeId)) putStore(storeId, { engine: "memory" });
      const entry = entryOf(id, options);
      const old = limiters.get(id);
      const differing = old && differences(old.config, entry.config);
      if (differing?.length === 0) return;
      if (differing && !replace) throw new RateLimiterAlreadyConfiguredError("limiter", id, differing);
      limiters.set(id, entry);
      if (old?.limiter) replaced.add(old.limiter);
      logger.info(`Limiter '${id}': configured, on store '${entry.config.storeId}'.`);
    },
    limiter(id) {
      const entry = limiterEntry(id);
      return entry.limiter ??= createLimiter(entry.config, contextOf(entry.config));
    },
    limitersOn: (storeId) => limitersInUse((config) => config.storeId === storeId),
    closeAll: () => close(takeLimiters(() => true), takeStores()),
    async moveTo(next) {
      const made = takeStores();
      world = next;
      const used = limitersInUse(() => true);
      await Promise.all(used.map((limiter) => limiter.move(contextOf(limiter.getConfig()))));
      await Promise.all(made.map((store) => store.close()));
    },
  };
}

/** The options, completed with the defaults. */
function completed(options: StoreOptions): StoreOptions {
  if (options.engine === "memory") return options;
  const { failures, coolDownMs, maxCoolDownMs } = resolveBreaker(options);
  const breaker = { breakerFailures: failures, breakerCoolDownMs: coolDownMs, breakerMaxCoolDownMs: maxCoolDownMs };
  return options.engine === "nats" ? { ...NATS_DEFAULTS, ...options, ...breaker } : { ...options, ...breaker };
}

/** The names of the options that differ. */
function differences(before: object, after: object): string[] {
  const left = new Map<string, unknown>(Object.entries(before));
  const right = new Map<string, unknown>(Object.entries(after));
  const names = new Set([...left.keys(), ...right.keys()]);
  return [...names].filter((name) => !same(left.get(name), right.get(name)));
}

function same(before: unknown, after: unknown): boolean {
  if (Object.is(before, after)) return true;
  if (!Array.isArray(before) || !Array.isArray(after)) return false;
  return JSON.stringify(before) === JSON.stringify(after);
}
