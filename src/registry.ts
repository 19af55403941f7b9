import { consoleLogger } from "./adapters/console_logger.ts";
import { createIdentities, sha256 } from "./adapters/host.ts";
import { memoryStore } from "./adapters/memory.ts";
import { NATS_DEFAULTS } from "./adapters/nats/defaults.ts";
import { createNatsStore } from "./adapters/nats/store.ts";
import { systemClock } from "./adapters/system_clock.ts";
import { findConfigurationFile, readConfiguration } from "./config/files.ts";
import { checkLimiterOptions } from "./config/limiters.ts";
import type { LimiterOptions, StoreOptions } from "./config/options.ts";
import { maskStoreOptions } from "./config/secrets.ts";
import { connectionPlan } from "./config/nats_plan.ts";
import { sectionInCode } from "./config/section.ts";
import { checkStoreOptions } from "./config/stores.ts";
import { checkIdentifier, checkMethods, checkOptions } from "./core/arguments.ts";
import { type CircuitBreaker, type CircuitBreakerState, createBreaker } from "./core/breaker.ts";
import type { Clock } from "./core/clock.ts";
import { createLimiter } from "./core/create_limiter.ts";
import { DEFAULTS, resolveBreaker, resolveLimiter } from "./core/defaults.ts";
import {
  ConfigValidationError,
  LimiterNotFoundError,
  RateLimiterAlreadyConfiguredError,
  StoreNotFoundError,
} from "./core/errors.ts";
import { throwFailures } from "./core/failures.ts";
import type { CheckOptions, ClosableLimiter, Limiter, LimiterContext } from "./core/limiter.ts";
import type { Algorithm, LimiterConfig, OnFailure, RateSpec } from "./core/limiter_config.ts";
import { type Logger, silentLogger } from "./core/logger.ts";
import type { RateLimiterMetrics } from "./core/metrics.ts";
import type { AcquireOptions, Permit, RateLimitResult } from "./core/result.ts";
import { opensNothing, type Store } from "./core/store.ts";
import { Strays } from "./core/strays.ts";
import {
  checkRequests,
  isMissingAllowed,
  type LimiterRequest,
  type MultiCheckOptions,
  type MultiLimiterResult,
  takeAllOrNone,
} from "./multi.ts";
import { leaveAccess, type World } from "./registry_access.ts";

/**
 * How `createRateSync` makes a registry: what is in it from the beginning, and what it works with.
 *
 * @typeParam LimiterId The ids of the limiters.
 * @typeParam StoreId The ids of the stores.
 *
 * @example
 * ```ts
 * import { createRateSync, type RateSyncOptions } from "@ratesync/core";
 *
 * const quiet = () => {};
 * const options: RateSyncOptions = { logger: { debug: quiet, info: quiet, warn: quiet, error: quiet } };
 * const rateSync = createRateSync(options);
 * console.log(rateSync.listLimiters()); // {}
 * ```
 */
export interface RateSyncOptions<LimiterId extends string = string, StoreId extends string = string> {
  /** Stores by id, as `configureStore` takes them. */
  readonly stores?: Readonly<Record<StoreId, StoreOptions>> | undefined;
  /** Limiters by id, as `configureLimiter` takes them. They may only name stores that are in `stores`. */
  readonly limiters?: Readonly<Record<LimiterId, LimiterOptions<NoInfer<StoreId>>>> | undefined;
  /** Where to report. The default writes warnings and errors to the console. */
  readonly logger?: Logger | undefined;
  /**
   * Whether the first use, with nothing configured until then, looks for a `rate-sync.toml`.
   *
   * @default {false}
   */
  readonly autoLoad?: boolean | undefined;
  /** The clock of this process: a virtual one in tests. The default is the host's. */
  readonly clock?: Clock | undefined;
}

/**
 * What `listStores` says about a store: its options without secrets, and whether it is open.
 *
 * @example
 * ```ts
 * import { createRateSync, type StoreListing } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureStore("nats", { engine: "nats", url: "nats://localhost:4222", token: "secret" });
 * const listing: StoreListing | undefined = rateSync.listStores()["nats"];
 * console.log(listing?.token); // "***"
 * ```
 */
export interface StoreListing {
  /** The adapter: `memory`, `nats`, or `custom`. */
  readonly engine: string;
  /** Whether a limiter has opened it. */
  readonly initialized: boolean;
  /** The state of its circuit breaker in this process. */
  readonly circuitBreaker: CircuitBreakerState;
  /** Every option that counts, given or by default; secrets are masked. */
  readonly [option: string]: string | number | boolean;
}

/**
 * What `listLimiters` says about a limiter.
 *
 * @example
 * ```ts
 * import { createRateSync, type LimiterListing } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("api", { ratePerSecond: 10 });
 * const listing: LimiterListing | undefined = rateSync.listLimiters()["api"];
 * console.log(listing?.ratePerSecond, listing?.initialized); // 10 false
 * ```
 */
export interface LimiterListing extends Omit<LimiterConfig, "id"> {
  /** Whether it has opened its store. */
  readonly initialized: boolean;
  /**
   * What it has done in this process since it was configured, with all its keys together; `null` before somebody asked for
   * it, and after `close()`.
   */
  readonly metrics: RateLimiterMetrics | null;
}

/**
 * Stores and limiters by name. The functions of this module are the methods of one of these; `createRateSync` makes
 * another, which shares nothing with it.
 *
 * Its methods throw what the functions of the same names throw.
 *
 * A registry that was made with its `limiters` knows their ids, and its methods take no others: a misspelt id does not
 * compile. Ids that are only known at run time, because they are in a file or the target of `cloneLimiter`, are for the
 * open type: `const open: RateSync = rateSync` is the same registry and takes any text.
 *
 * @typeParam LimiterId The ids of the limiters. The default: any text.
 * @typeParam StoreId The ids of the stores. The default: any text.
 *
 * @example
 * ```ts
 * import { createRateSync, type RateSync } from "@ratesync/core";
 *
 * const rateSync: RateSync = createRateSync();
 * rateSync.configureLimiter("api", { ratePerSecond: 100 });
 * await rateSync.acquire("api");
 * await rateSync.close();
 * ```
 */
export interface RateSync<LimiterId extends string = string, StoreId extends string = string> extends AsyncDisposable {
  /** Waits for a slot of the limiter. See {@link Limiter.acquire}. */
  acquire(id: LimiterId, options?: AcquireOptions): Promise<Permit>;
  /** Takes a slot of the limiter if there is one. See {@link Limiter.tryAcquire}. */
  tryAcquire(id: LimiterId, options?: AcquireOptions): Promise<RateLimitResult>;
  /** Takes a slot if there is one, or with `consume: false` only looks. See {@link Limiter.check}. */
  checkLimiter(id: LimiterId, options?: CheckOptions): Promise<RateLimitResult>;
  /**
   * Takes a slot of each of the limiters, in order and once each, or if one of them refuses of none: what was taken until
   * then is given back, the capacity of rates and windows included.
   */
  checkMultiLimiters(
    limiters: readonly (LimiterId | LimiterRequest<LimiterId>)[],
    options?: MultiCheckOptions,
  ): Promise<MultiLimiterResult>;
  /** Names a store. Nothing is opened. The same options again change nothing; others need `replace: true`. */
  configureStore(id: StoreId, options: StoreOptions): void;
  /** Names a limiter. Nothing is opened. The same options again change nothing; others need `replace: true`. */
  configureLimiter(id: LimiterId, options: LimiterOptions<StoreId>): void;
  /**
   * Configures the limiter `target` as `source` is, but for the `overrides`. The two share nothing but their store. `target`
   * must be free.
   */
  cloneLimiter(source: LimiterId, target: string, overrides?: LimiterOverrides<StoreId>): void;
  /**
   * The limiter that counts for `key` alone as the limiter `base` says, opened: `getLimiter(base).key(key)`. Its id is
   * `base:key`, and its limit is not that of any other base and key, nor of a limiter that was configured with this id.
   */
  getOrCloneLimiter(base: LimiterId, key: string): Promise<Limiter>;
  /** Reads a `rate-sync.toml` and adds everything in it, or if anything in it is wrong nothing. */
  loadConfig(path?: string): Promise<void>;
  /** The limiter with this id, always the same one. */
  getLimiter(id: LimiterId): Limiter;
  /** All stores by id. */
  listStores(): Readonly<Record<string, StoreListing>>;
  /** All limiters by id. */
  listLimiters(): Readonly<Record<string, LimiterListing>>;
  /** Opens the limiter's store now, so that what is wrong with it shows at start-up. */
  initializeLimiter(id: LimiterId): Promise<void>;
  /** Opens the stores of all limiters now. */
  initializeAllLimiters(): Promise<void>;
  /** Closes everything that was opened. The configuration stays, and the next use opens it again. Idempotent. */
  close(): Promise<void>;
}

/**
 * What {@link RateSync.cloneLimiter} changes: the options of `configureLimiter`, where `null` takes a value away and what is
 * left out stays as it is.
 *
 * @typeParam StoreId The ids of the stores that there are.
 *
 * @example
 * ```ts
 * import { createRateSync, type LimiterOverrides } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("api", { ratePerSecond: 10, maxConcurrent: 2 });
 * const overrides: LimiterOverrides = { ratePerSecond: 500, maxConcurrent: null };
 * rateSync.cloneLimiter("api", "api:premium", overrides);
 * console.log(rateSync.getLimiter("api:premium").getConfig().maxConcurrent); // null
 * ```
 */
export interface LimiterOverrides<StoreId extends string = string> {
  /** The id of another store; `null`: the in-memory store of this process. */
  readonly store?: StoreId | null | undefined;
  /** How it counts; what belongs to the source's algorithm alone needs a `null` then. */
  readonly algorithm?: Algorithm | null | undefined;
  /** Requests (or cost) per second; > 0. */
  readonly ratePerSecond?: number | null | undefined;
  /** How much of the rate may come at once after a pause; >= 1. */
  readonly burst?: number | null | undefined;
  /** How many may run at the same time; an integer >= 1. */
  readonly maxConcurrent?: number | null | undefined;
  /** After how many milliseconds the permits of a crashed holder come back. */
  readonly leaseMs?: number | null | undefined;
  /** Requests (or cost) in any window; an integer >= 1. */
  readonly limit?: number | null | undefined;
  /** The window's length in milliseconds; > 0. */
  readonly windowMs?: number | null | undefined;
  /** Further limits that hold at the same time: all of them, in place of the source's. */
  readonly rates?: readonly RateSpec[] | null | undefined;
  /** How long an `acquire` without a timeout of its own waits, in milliseconds; `null`: as long as it takes. */
  readonly timeoutMs?: number | null | undefined;
  /** Whether a request is refused while the store is down. Takes the place of the source's `onFailure`. */
  readonly failClosed?: boolean | null | undefined;
  /** What happens while the store is down. Takes the place of the source's `failClosed`. */
  readonly onFailure?: OnFailure | null | undefined;
  /** How long the store may take to answer, in milliseconds, before that counts as a failure. */
  readonly backendTimeoutMs?: number | null | undefined;
  /** How far into the future the waiting callers of one process reserve slots, in milliseconds. */
  readonly reserveAheadMs?: number | null | undefined;
  /** How many slots of a rate each process may take before anybody asks for them. */
  readonly prefetch?: number | null | undefined;
}

interface StoreEntry {
  readonly options: StoreOptions;
  backend: Backend | undefined;
}

/** A store that is in use, and the circuit breaker of all its limiters. */
interface Backend {
  readonly store: Store;
  readonly breaker: CircuitBreaker;
}

interface LimiterEntry {
  readonly options: LimiterOptions;
  readonly config: LimiterConfig;
  limiter: ClosableLimiter | undefined;
}

/** The store that a limiter without one uses. */
const DEFAULT_STORE = "memory";

/**
 * An isolated registry of stores and limiters, for tests, for libraries that shall not meet the application's names, and
 * for ids that the compiler checks.
 *
 * With `stores` and `limiters` they are configured at once, all of them or, if one is wrong, none; nothing is opened. The
 * registry then knows their ids, and a misspelt one does not compile, neither in a call nor as the store of a limiter.
 * Without them it takes any id. For ids that are all in a `rate-sync.toml`, say them: `createRateSync<"api" | "login">()`.
 *
 * @throws {ConfigValidationError} if a store or limiter has an option that is missing, wrong or unknown.
 * @throws {StoreNotFoundError} if a limiter names a store that is not there.
 *
 * @example Ids that the compiler knows
 * ```ts
 * import { createRateSync } from "@ratesync/core";
 *
 * const rateSync = createRateSync({
 *   stores: { shared: { engine: "nats", url: "nats://localhost:4222" } },
 *   limiters: {
 *     api: { store: "shared", ratePerSecond: 100, burst: 20 },
 *     login: { algorithm: "sliding_window", limit: 5, windowMs: 300_000 },
 *   },
 * });
 * const { allowed } = await rateSync.tryAcquire("login"); // "log-in" would not compile
 * console.log(allowed); // true
 * ```
 *
 * @example Any id
 * ```ts
 * import { createRateSync } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("mail", { ratePerSecond: 5, burst: 10 });
 * const permit = await rateSync.acquire("mail");
 * console.log(permit.waitedMs < 1_000); // true
 * ```
 */
export function createRateSync<
  LimiterId extends string = string,
  StoreId extends string = string extends LimiterId ? string : never,
>(settings: RateSyncOptions<LimiterId, StoreId> = {}): RateSync<LimiterId, StoreId> {
  // Inside it takes any id: whether there is such a store or limiter is found out at run time.
  const rateSync = createOpenRateSync(settings);
  configureAll(rateSync, settings);
  return rateSync;
}

/** What untyped code gives is checked too; and if one of them is refused, nobody gets the registry. */
function configureAll(rateSync: RateSync, { stores = {}, limiters = {} }: RateSyncOptions): void {
  const entriesOf = (name: string, example: string, given: object) =>
    Object.entries(sectionInCode({ path: name, title: `The ${name} of createRateSync()`, example }, given).values);
  for (const [id, options] of entriesOf("stores", '{ shared: { engine: "memory" } }', stores)) {
    rateSync.configureStore(id, options);
  }
  for (const [id, options] of entriesOf("limiters", "{ api: { ratePerSecond: 100 } }", limiters)) {
    rateSync.configureLimiter(id, options);
  }
}

function createOpenRateSync(settings: RateSyncOptions): RateSync {
  const { logger = consoleLogger, autoLoad = false, clock: ownClock = systemClock } = checkOptions(settings);
  checkMethods(logger, "logger", "logger", "info", "warn", "error");
  let clock = checkMethods(ownClock, "clock", "clock", "now", "sleep");
  let world: World | undefined;
  const stores = new Map<string, StoreEntry>();
  const limiters = new Map<string, LimiterEntry>();
  /** Those that others with the same id took the place of: somebody may hold their permits, or wait there. */
  const replaced = new Strays<ClosableLimiter>();
  let closing: Promise<unknown> = Promise.resolve();
  const identity = createIdentities();

  function loadIfNothingIsConfigured(): void {
    if (!autoLoad || stores.size > 0 || limiters.size > 0) return;
    const path = findConfigurationFile({ logger });
    if (path !== undefined) load(path);
  }

  function load(path: string): void {
    const { stores: newStores, limiters: newLimiters } = readConfiguration(path, { knownStores: stores.keys() });
    // What comes later wins, so nothing from here on can be refused.
    for (const [id, options] of newStores) putStore(id, options);
    for (const [id, options] of newLimiters) putLimiter(id, options);
    logger.info(`Loaded ${newStores.size} stores and ${newLimiters.size} limiters from ${path}.`);
  }

  function putStore(id: string, options: StoreOptions): void {
    const old = stores.get(id);
    if (old && differences(completed(old.options), completed(options)).length === 0) return;
    stores.set(id, { options, backend: undefined });
    logger.info(`Store '${id}': configured, with engine ${options.engine ?? "custom"}.`);
    // Limiters that were made on the old store are made anew on this one, and go by its settings.
    const onOldStore = takeLimiters((config) => config.storeId === id);
    for (const { options: limiterOptions, config } of [...limiters.values()]) {
      if (config.storeId === id) limiters.set(config.id, entryOf(config.id, limiterOptions));
    }
    closeAll(onOldStore, old?.backend ? [old.backend.store] : [])
      .catch((error) => logger.warn(`Store '${id}' did not close cleanly: ${error}`));
  }

  function putLimiter(id: string, options: LimiterOptions): void {
    const entry = entryOf(id, options);
    const old = limiters.get(id);
    if (old && differences(old.config, entry.config).length === 0) return;
    limiters.set(id, entry);
    if (old?.limiter) replaced.add(old.limiter);
    logger.info(`Limiter '${id}': configured, on store '${entry.config.storeId}'.`);
  }

  function entryOf(id: string, options: LimiterOptions): LimiterEntry {
    const { backendTimeoutMs = DEFAULTS.backendTimeoutMs } = natsOptions(stores.get(options.store ?? DEFAULT_STORE));
    return { options, config: resolveLimiter(id, options, { backendTimeoutMs }), limiter: undefined };
  }

  function backendOf(id: string): Backend {
    const entry = stores.get(id);
    if (!entry) throw new StoreNotFoundError(id, [...stores.keys()]);
    return entry.backend ??= createBackend(id, entry.options);
  }

  function createBackend(id: string, options: StoreOptions): Backend {
    return { store: world?.store(id) ?? createStore(id, options), breaker: breakerOf(id, options) };
  }

  function breakerOf(storeId: string, options: StoreOptions): CircuitBreaker {
    // Memory cannot fail.
    const settings = resolveBreaker(options.engine === "memory" ? { breakerFailures: 0 } : options);
    return createBreaker({ storeId, settings, clock, random: Math.random, logger });
  }

  /** All stores that were opened, to be closed: whoever needs one again makes another. */
  function takeStores(): Store[] {
    const opened = [...stores.values()].flatMap(({ backend }) => backend ? [backend.store] : []);
    for (const entry of stores.values()) entry.backend = undefined;
    return opened;
  }

  /** All limiters that were made and are `meant`, those that were replaced included. */
  function limitersInUse(meant: (config: LimiterConfig) => boolean): ClosableLimiter[] {
    const current = [...limiters.values()].flatMap(({ limiter }) => limiter ? [limiter] : []);
    return [...current, ...replaced.all].filter((limiter) => meant(limiter.getConfig()));
  }

  /** As {@link limitersInUse}, to be closed: whoever needs one again makes another. */
  function takeLimiters(meant: (config: LimiterConfig) => boolean): ClosableLimiter[] {
    const used = limitersInUse(meant);
    replaced.drop((limiter) => meant(limiter.getConfig()));
    for (const entry of limiters.values()) if (meant(entry.config)) entry.limiter = undefined;
    return used;
  }

  /** Closes limiters, and then their stores. Resolves when everything is closed that ever was to be. */
  async function closeAll(limiters: readonly ClosableLimiter[], stores: readonly Store[]): Promise<void> {
    const before = closing;
    const closed = (async () => {
      await Promise.all(limiters.map((limiter) => limiter.close()));
      await Promise.all(stores.map((store) => store.close()));
    })();
    closing = Promise.allSettled([before, closed]);
    await closed;
    await before;
  }

  /** Opens nothing. */
  function createStore(id: string, options: StoreOptions): Store {
    if (options.engine === "memory") return memoryStore(clock);
    if (options.engine === "nats") return createNatsStore(options, connectionPlan(options), { id, logger, clock });
    const nothing = () => Promise.resolve();
    return { kv: options.kv, peers: options.peers, clock: options.clock ?? clock, open: opensNothing, close: nothing };
  }

  function limiterOf(entry: LimiterEntry): ClosableLimiter {
    return entry.limiter ??= createLimiter(entry.config, contextOf(entry.config));
  }

  function contextOf(config: LimiterConfig): LimiterContext {
    const options = natsOptions(stores.get(config.storeId));
    let local: ClosableLimiter | undefined;
    const context: LimiterContext = {
      ...backendOf(config.storeId),
      localClock: clock,
      retryIntervalMs: options.retryIntervalMs ?? DEFAULTS.retryIntervalMs,
      maxRetries: options.maxRetries ?? DEFAULTS.maxRetries,
      timingMarginMs: options.timingMarginMs ?? DEFAULTS.timingMarginMs,
      mostKeys: DEFAULTS.mostKeys,
      mostAtOnce: DEFAULTS.mostAtOnce,
      logger,
      identity,
      random: Math.random,
      digest: sha256,
      localLimiter: () =>
        local ??= createLimiter({ ...config, onFailure: "closed" }, {
          ...context,
          store: memoryStore(clock),
          // What it grants in the other one's place, the other one reports.
          logger: silentLogger,
          breaker: breakerOf(config.storeId, { engine: "memory" }),
        }),
    };
    return context;
  }

  function find(id: string): LimiterEntry {
    loadIfNothingIsConfigured();
    const entry = limiters.get(checkIdentifier(id));
    if (!entry) throw new LimiterNotFoundError(id, [...limiters.keys()]);
    return entry;
  }

  const rateSync: RateSync = {
    acquire: (id, options) => promised(() => limiterOf(find(id)).acquire(options)),
    tryAcquire: (id, options) => promised(() => limiterOf(find(id)).tryAcquire(options)),
    checkLimiter: async (id, options) => await rateSync.getLimiter(id).check(options),
    async checkMultiLimiters(given, options = {}) {
      const skipsMissing = isMissingAllowed(options, "allow");
      const requests = checkRequests(given);
      loadIfNothingIsConfigured();
      const wanted = requests
        .filter(({ id }) => !skipsMissing || limiters.has(id))
        .map((request) => ({ limiter: limiterOf(find(request.id)), request }));
      return await takeAllOrNone(wanted, options, clock);
    },
    configureStore(id, given) {
      const { replace = false, ...options } = checkStoreOptions(id, given);
      const old = stores.get(id);
      const differing = old ? differences(completed(old.options), completed(options)) : [];
      if (differing.length > 0 && !replace) throw new RateLimiterAlreadyConfiguredError("store", id, differing);
      putStore(id, options);
    },
    configureLimiter(id, given) {
      const { replace = false, ...options } = checkLimiterOptions(id, given);
      const storeId = options.store ?? DEFAULT_STORE;
      if (storeId === DEFAULT_STORE && !stores.has(storeId)) putStore(storeId, { engine: "memory" });
      if (!stores.has(storeId)) throw new StoreNotFoundError(storeId, [...stores.keys()]);
      const old = limiters.get(id);
      const differing = old ? differences(old.config, entryOf(id, options).config) : [];
      if (differing.length > 0 && !replace) throw new RateLimiterAlreadyConfiguredError("limiter", id, differing);
      putLimiter(id, options);
    },
    cloneLimiter(source, target, overrides = {}) {
      const { options } = find(source);
      if (limiters.has(checkIdentifier(target))) throw alreadyThere(source, target);
      rateSync.configureLimiter(target, withOverrides(options, overrides, target));
    },
    async getOrCloneLimiter(base, key) {
      const limiter = rateSync.getLimiter(base).key(key);
      await limiter.initialize();
      return limiter;
    },
    // deno-lint-ignore require-await -- what is wrong with the file rejects, and is not thrown
    async loadConfig(path) {
      const found = path ?? findConfigurationFile({ logger, mustLook: true });
      if (found !== undefined) load(found);
    },
    getLimiter: (id) => limiterOf(find(id)),
    listStores() {
      loadIfNothingIsConfigured();
      return Object.fromEntries([...stores].map(([id, { options, backend }]) => {
        const initialized = limitersInUse((config) => config.storeId === id).some((limiter) => limiter.initialized);
        return [id, {
          ...maskStoreOptions(completed(options)),
          engine: options.engine ?? "custom",
          initialized: backend !== undefined && initialized,
          circuitBreaker: backend?.breaker.state ?? "closed",
        }];
      }));
    },
    listLimiters() {
      loadIfNothingIsConfigured();
      return Object.fromEntries([...limiters].map(([id, { config: { id: _, ...config }, limiter }]) => {
        return [id, { ...config, initialized: limiter?.initialized ?? false, metrics: limiter?.getMetrics() ?? null }];
      }));
    },
    initializeLimiter: async (id) => await rateSync.getLimiter(id).initialize(),
    async initializeAllLimiters() {
      loadIfNothingIsConfigured();
      const results = await Promise.allSettled([...limiters.values()].map((entry) => limiterOf(entry).initialize()));
      throwFailures(results, (count) => `${count} limiters could not be initialized`);
    },
    async close() {
      await closeAll(takeLimiters(() => true), takeStores());
    },
    [Symbol.asyncDispose]: () => rateSync.close(),
  };
  leaveAccess(rateSync, {
    logger,
    get clock() {
      return clock;
    },
    limiterIds() {
      loadIfNothingIsConfigured();
      return [...limiters.keys()];
    },
    limiter: (id) => limiterOf(find(id)),
    storeInUse(id) {
      loadIfNothingIsConfigured();
      const entry = stores.get(id);
      if (!entry) throw new StoreNotFoundError(id, [...stores.keys()]);
      const { backendTimeoutMs = DEFAULTS.backendTimeoutMs } = natsOptions(entry);
      const used = limitersInUse((config) => config.storeId === id);
      return { ...entry.backend, limiters: used, backendTimeoutMs };
    },
    async moveTo(next) {
      const opened = takeStores();
      world = next;
      clock = next?.clock ?? ownClock;
      const used = limitersInUse(() => true);
      await Promise.all(used.map((limiter) => limiter.move(contextOf(limiter.getConfig()))));
      await Promise.all(opened.map((store) => store.close()));
    },
  });
  return rateSync;
}

/** What is thrown before there is a promise rejects it. */
function promised<T>(call: () => Promise<T>): Promise<T> {
  try {
    return call();
  } catch (error) {
    return Promise.reject(error);
  }
}

/** The options with what counts where they say nothing. */
function completed(options: StoreOptions): StoreOptions {
  if (options.engine === "memory") return options;
  const { failures, coolDownMs, maxCoolDownMs } = resolveBreaker(options);
  const breaker = { breakerFailures: failures, breakerCoolDownMs: coolDownMs, breakerMaxCoolDownMs: maxCoolDownMs };
  return options.engine === "nats" ? { ...NATS_DEFAULTS, ...options, ...breaker } : { ...options, ...breaker };
}

function natsOptions(entry: StoreEntry | undefined): Partial<Extract<StoreOptions, { engine: "nats" }>> {
  return entry?.options.engine === "nats" ? entry.options : {};
}

function alreadyThere(source: string, target: string): ConfigValidationError {
  return new ConfigValidationError(
    `Limiter '${target}' already exists, so limiter '${source}' cannot be cloned to it. Clone to another id, or change ` +
      `'${target}' with configureLimiter() and replace: true`,
    { field: `limiters.${target}`, expected: "an id that no limiter has", received: `'${target}'` },
  );
}

/** The options of a clone. They are not checked here: together they may be wrong. */
function withOverrides(source: LimiterOptions, overrides: LimiterOverrides, target: string): LimiterOptions {
  const title = `The overrides of limiter '${target}'`;
  const { values } = sectionInCode({ path: `limiters.${target}`, title, example: "{ ratePerSecond: 50 }" }, overrides);
  const given = Object.entries(values).filter(([, value]) => value !== undefined);
  const merged = new Map<string, unknown>(Object.entries(source));
  // Two names for one setting: what is given replaces both.
  if (given.some(([name]) => name === "failClosed" || name === "onFailure")) {
    merged.delete("failClosed");
    merged.delete("onFailure");
  }
  for (const [name, value] of given) {
    if (value !== null || !OVERRIDES.has(name)) merged.set(name, value);
    else merged.delete(name);
  }
  // configureLimiter() checks every value of it.
  return Object.fromEntries(merged) as unknown as LimiterOptions;
}

/** What a `null` can clear: with another name it is a mistake that has to show. */
const OVERRIDES: ReadonlySet<string> = new Set(
  [
    "store",
    "algorithm",
    "ratePerSecond",
    "burst",
    "maxConcurrent",
    "leaseMs",
    "limit",
    "windowMs",
    "rates",
    "timeoutMs",
    "failClosed",
    "onFailure",
    "backendTimeoutMs",
    "reserveAheadMs",
    "prefetch",
  ] satisfies (keyof LimiterOverrides)[],
);

/** The names of the options that are not the same. */
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
