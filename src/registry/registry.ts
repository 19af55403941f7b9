import { consoleLogger } from "../adapters/console_logger.ts";
import { createIdentities } from "../adapters/host.ts";
import { systemClock } from "../adapters/system_clock.ts";
import {
  CONFIGURATION_PATHS,
  CONFIGURATION_VARIABLE,
  findConfigurationFile,
  readConfiguration,
} from "../config/files.ts";
import { checkLimiterOptions } from "../config/limiters.ts";
import type { LimiterOptions, StoreOptions } from "../config/options.ts";
import { maskStoreOptions } from "../config/secrets.ts";
import { sectionInCode } from "../config/section.ts";
import { checkStoreOptions } from "../config/stores.ts";
import { checkIdentifier, checkMethods, checkOptions, namesOf } from "../core/arguments.ts";
import type { RateLimiterMetrics } from "../core/cell/metrics.ts";
import type { Clock } from "../core/clock.ts";
import type { CheckOptions, ClosableLimiter, Limiter } from "../core/limiter/limiter.ts";
import type { AcquireOptions, Permit, RateLimitResult } from "../core/limiter/result.ts";
import type { LimiterConfig } from "../core/limiter_config.ts";
import { createReplaceableLogger, type Logger } from "../core/logger.ts";
import type { CircuitBreakerState } from "../core/store/breaker.ts";
import { leaveAccess } from "./access.ts";
import { backendTimeoutOf } from "./backend.ts";
import { alreadyThere, type LimiterOverrides, withOverrides, withWayOut } from "./clone.ts";
import { throwFailures } from "./failures.ts";
import { createInventory } from "./inventory.ts";
import {
  checkRequests,
  isMissingAllowed,
  type LimiterRequest,
  type MultiCheckOptions,
  type MultiLimiterResult,
  takeAllOrNone,
} from "./multi.ts";

/**
 * How `createRateSync` makes a registry: what it contains from the beginning, and what it works with.
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
   * Whether the first use looks for a `rate-sync.toml` if nothing has been configured until then.
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
  /** Every option in effect, given or by default; secrets are masked. */
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
   * What it has done in this process since it was configured, all its keys together; `null` until somebody asks for the
   * limiter, and after `close()`.
   */
  readonly metrics: RateLimiterMetrics | null;
}

/**
 * Stores and limiters by name. The functions of this module are the methods of one registry; `createRateSync` makes
 * another, which shares nothing with it.
 *
 * Its methods throw what the functions of the same names throw.
 *
 * A registry that was made with its `limiters` knows their ids, and its methods take no others: a misspelt id does not
 * compile. For ids that are known only at run time, because they are in a file or the target of `cloneLimiter`, use the
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
   * Takes a slot of each of the limiters, in order or, if one of them refuses, of none: what was taken
   * until then is given back, including the capacity of rates and windows.
   */
  checkMultiLimiters(
    limiters: readonly (LimiterId | LimiterRequest<LimiterId>)[],
    options?: MultiCheckOptions,
  ): Promise<MultiLimiterResult>;
  /** Names a store. Nothing is opened. Repeating the same options changes nothing; others need `replace: true`. */
  configureStore(id: StoreId, options: StoreOptions): void;
  /** Names a limiter. Nothing is opened. Repeating the same options changes nothing; others need `replace: true`. */
  configureLimiter(id: LimiterId, options: LimiterOptions<StoreId>): void;
  /**
   * Configures the limiter `target` like `source`, except for the `overrides`. The two share nothing but their store.
   * No limiter may have the id `target` yet.
   */
  cloneLimiter(source: LimiterId, target: string, overrides?: LimiterOverrides<StoreId>): void;
  /**
   * The limiter that counts for `key` alone, configured like `base` and already opened: `getLimiter(base).key(key)`.
   * Its id is `base:key`, and it shares its limit with no other base and key, nor with a limiter configured under this
   * id.
   */
  getOrCloneLimiter(base: LimiterId, key: string): Promise<Limiter>;
  /** Reads a `rate-sync.toml` and adds everything in it or, if anything in it is wrong, nothing. */
  loadConfig(path?: string): Promise<void>;
  /**
   * The limiter with this id. It is the same object until the limiter or its store is configured anew, or
   * {@link RateSync.close} is called.
   */
  getLimiter(id: LimiterId): Limiter;
  /** All stores by id. */
  listStores(): Readonly<Record<string, StoreListing>>;
  /** All limiters by id. */
  listLimiters(): Readonly<Record<string, LimiterListing>>;
  /**
   * Opens the limiter's store now, and asks for a write and a read that change nothing, so that what is wrong with it
   * shows at start-up.
   */
  initializeLimiter(id: LimiterId): Promise<void>;
  /** {@link RateSync.initializeLimiter} for every limiter. */
  initializeAllLimiters(): Promise<void>;
  /** Reports to `logger` from now on. */
  setLogger(logger: Logger): void;
  /**
   * Answers waiting callers with an error, gives reserved slots and held permits back, tells the holders through
   * `permit.lost` and `permit.signal`, and closes everything that was opened. The configuration stays, and the next use
   * opens it again. Idempotent.
   */
  close(): Promise<void>;
}

/**
 * An isolated registry of stores and limiters: for tests, for libraries whose names must not meet the application's,
 * and for ids that the compiler checks.
 *
 * `stores` and `limiters` are configured at once: all of them or, if one is wrong, none. Nothing is opened. The
 * registry then knows their ids, and a misspelt one does not compile, neither in a call nor as the store of a limiter.
 * Without them it takes any id. If all ids are in a `rate-sync.toml`, name them in the type:
 * `createRateSync<"api" | "login">()`.
 *
 * @throws {ConfigValidationError} if a store or limiter has an option that is missing, wrong or unknown.
 * @throws {StoreNotFoundError} if a limiter names a store that does not exist.
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
  // Inside, it takes any id: whether such a store or limiter exists is found out at run time.
  const rateSync = createOpenRateSync(settings);
  configureAll(rateSync, settings);
  return rateSync;
}

/** Options from untyped code are checked too. If one of them is refused, nobody gets the registry. */
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

const NAMES = namesOf<RateSyncOptions>({ stores: true, limiters: true, logger: true, autoLoad: true, clock: true });
const CHECK_NAMES = namesOf<MultiCheckOptions>({ timeoutMs: true, signal: true, onMissing: true });

function createOpenRateSync(settings: RateSyncOptions): RateSync {
  const { logger: given = consoleLogger, autoLoad = false, clock = systemClock } = checkOptions(settings, NAMES);
  const { logger, setLogger } = createReplaceableLogger(given);
  checkMethods(clock, "clock", "clock", "now", "sleep");
  const inventory = createInventory({ logger, clock, identity: createIdentities() });
  const { stores, limiters } = inventory;

  function loadIfNothingIsConfigured(): void {
    if (!autoLoad || stores.size > 0 || limiters.size > 0) return;
    const path = findConfigurationFile({ logger });
    if (path !== undefined) load(path);
  }

  function load(path: string): void {
    const { stores: newStores, limiters: newLimiters, http, warnings } = readConfiguration(path, {
      knownStores: stores.keys(),
    });
    // What comes later wins, so nothing can be refused from here on.
    for (const [id, options] of newStores) inventory.configureStore(id, options, true);
    for (const [id, options] of newLimiters) inventory.configureLimiter(id, options, true);
    logger.info(`Loaded ${newStores.size} stores and ${newLimiters.size} limiters from ${path}.`);
    for (const warning of warnings) logger.warn(warning);
    if (http.trustedProxyNetworks) logger.warn(`trusted_proxy_networks in ${path} has no effect in this version.`);
  }

  function limiter(id: string): ClosableLimiter {
    loadIfNothingIsConfigured();
    return inventory.limiter(id);
  }

  const rateSync: RateSync = {
    acquire: (id, options) => promised(() => limiter(id).acquire(options)),
    tryAcquire: (id, options) => promised(() => limiter(id).tryAcquire(options)),
    checkLimiter: async (id, options) => await limiter(id).check(options),
    async checkMultiLimiters(given, options = {}) {
      const skipsMissing = isMissingAllowed(checkOptions(options, CHECK_NAMES).onMissing, "allow");
      const requests = checkRequests(given);
      loadIfNothingIsConfigured();
      const wanted = requests
        .filter(({ id }) => !skipsMissing || limiters.has(id))
        .map((request) => ({ limiter: limiter(request.id), request }));
      return await takeAllOrNone(wanted, options, inventory.clock);
    },
    configureStore(id, given) {
      const { replace = false, ...options } = checkStoreOptions(id, given);
      inventory.configureStore(id, options, replace);
    },
    configureLimiter(id, given) {
      const { replace = false, ...options } = checkLimiterOptions(id, given);
      inventory.configureLimiter(id, options, replace);
    },
    cloneLimiter(source, target, overrides = {}) {
      loadIfNothingIsConfigured();
      const { options } = inventory.limiterEntry(source);
      if (limiters.has(checkIdentifier(target))) throw alreadyThere(source, target);
      const merged = withOverrides(options, overrides, target);
      try {
        rateSync.configureLimiter(target, merged);
      } catch (error) {
        throw withWayOut(error, source, options, overrides);
      }
    },
    async getOrCloneLimiter(base, key) {
      const keyed = limiter(base).key(key);
      await keyed.initialize();
      return keyed;
    },
    // deno-lint-ignore require-await -- what is wrong with the file rejects, and is not thrown
    async loadConfig(path) {
      const found = path ?? findConfigurationFile({ logger, mustLook: true });
      if (found !== undefined) return load(found);
      logger.warn(
        `loadConfig() found no file, and nothing was loaded. It looked for what ${CONFIGURATION_VARIABLE} names, and then ` +
          `for ${CONFIGURATION_PATHS.join(" and ")}.`,
      );
    },
    getLimiter: limiter,
    listStores() {
      loadIfNothingIsConfigured();
      return Object.fromEntries([...stores].map(([id, { options, settings, backend }]) => {
        return [id, {
          ...maskStoreOptions(settings),
          engine: options.engine ?? "custom",
          initialized: inventory.limitersOn(id).some((limiter) => limiter.initialized),
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
    setLogger,
    initializeLimiter: async (id) => await limiter(id).initialize(),
    async initializeAllLimiters() {
      loadIfNothingIsConfigured();
      const results = await Promise.allSettled([...limiters.keys()].map((id) => limiter(id).initialize()));
      throwFailures(results, (count) => `${count} limiters could not be initialized`);
    },
    close: () => inventory.closeAll(),
    [Symbol.asyncDispose]: () => inventory.closeAll(),
  };
  leaveAccess(rateSync, {
    logger,
    get clock() {
      return inventory.clock;
    },
    limiterIds() {
      loadIfNothingIsConfigured();
      return [...limiters.keys()];
    },
    limiter,
    storeInUse(id) {
      loadIfNothingIsConfigured();
      const { options, backend } = inventory.storeEntry(id);
      return { ...backend, limiters: inventory.limitersOn(id), backendTimeoutMs: backendTimeoutOf(options) };
    },
    moveTo: (world) => inventory.moveTo(world),
  });
  return rateSync;
}

/** Turns an exception thrown before there is a promise into a rejection. */
function promised<T>(call: () => Promise<T>): Promise<T> {
  try {
    return call();
  } catch (error) {
    return Promise.reject(error);
  }
}
