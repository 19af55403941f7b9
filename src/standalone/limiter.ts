import { consoleLogger } from "../adapters/console_logger.ts";
import { createIdentities, sha256 } from "../adapters/host.ts";
import type {
  CircuitBreakerOptions,
  ConcurrencyOptions,
  RateOptions,
  SeveralRatesOptions,
  WindowOptions,
} from "../config/options.ts";
import { suggestion } from "../config/names.ts";
import { hasMethods, shown, shownWithout } from "../core/arguments.ts";
import { createLimiter as createCoreLimiter } from "../core/limiter/create_limiter.ts";
import {
  algorithmOf,
  BOUNDS,
  type LimiterSettings,
  resolveBreaker,
  resolveLimiter,
  resolveTuning,
} from "../core/limiter/defaults.ts";
import type { Limiter } from "../core/limiter/limiter.ts";
import { type Logger, neverThrowing } from "../core/logger.ts";
import { createBreaker } from "../core/store/breaker.ts";
import { opensNothing, type Store } from "../core/store/store.ts";
import {
  checkLimits,
  COUNT,
  DURATION,
  expectGiven,
  LIMITS,
  numberThat,
  oneOf,
  refused,
  type Requirements,
  WAIT,
} from "./limit_checks.ts";

/**
 * Where a limiter of {@link createLimiter} keeps its limit: a `Kv`, and the clock that all processes on it share. A
 * whole `Store` will do as well: the first use opens it, and closing the limiter leaves it open.
 *
 * @example
 * ```ts
 * import { createLimiter, type LimiterStore } from "@ratesync/core/limiter";
 * import { memoryKv, systemClock } from "@ratesync/core/memory";
 *
 * const store: LimiterStore = { kv: memoryKv(), clock: systemClock };
 * const api = createLimiter("api", store, { ratePerSecond: 100 });
 * console.log((await api.tryAcquire()).allowed); // true
 * ```
 */
export type LimiterStore = Pick<Store, "kv" | "clock"> & Partial<Omit<Store, "kv" | "clock" | "close">>;

/**
 * The options that every limiter of {@link createLimiter} can have, whatever it limits. Each limiter has its own
 * circuit breaker.
 *
 * @example
 * ```ts
 * import type { StandaloneOptions } from "@ratesync/core/limiter";
 *
 * const options: StandaloneOptions = { onFailure: "closed", timingMarginMs: 5 };
 * console.log(options.onFailure); // "closed"
 * ```
 */
export interface StandaloneOptions extends CircuitBreakerOptions {
  /**
   * What happens while the store is down: requests are admitted without a limit and marked `degraded`, or refused with
   * an error.
   *
   * @default {"open"}
   */
  readonly onFailure?: "open" | "closed" | undefined;
  /**
   * How many milliseconds late a start may be before its slot counts as missed; less than 2 counts as 2, because no
   * timer keeps to less. Also the allowance for hosts whose clocks disagree.
   *
   * @default {10}
   */
  readonly timingMarginMs?: number | undefined;
  /**
   * The longest pause between two tries of a compare-and-set that lost its race, in milliseconds.
   *
   * @default {50}
   */
  readonly retryIntervalMs?: number | undefined;
  /**
   * After how many lost races in a row a request with a timeout is treated as a failure of the store: see
   * {@link StandaloneOptions.onFailure}.
   *
   * @default {100}
   */
  readonly maxRetries?: number | undefined;
  /** Where to report. The default writes warnings and errors to the console. */
  readonly logger?: Logger | undefined;
  /** Only for registries. */
  readonly replace?: undefined;
}

/**
 * The options of {@link createLimiter}: those of `configureLimiter`, except those that only a registry needs.
 *
 * @example
 * ```ts
 * import type { StandaloneLimiterOptions } from "@ratesync/core/limiter";
 *
 * const api: StandaloneLimiterOptions = { ratePerSecond: 100, burst: 20, maxConcurrent: 8 };
 * const login: StandaloneLimiterOptions = { algorithm: "sliding_window", limit: 5, windowMs: 300_000 };
 * console.log(api, login);
 * ```
 */
export type StandaloneLimiterOptions =
  & StandaloneOptions
  & (RateOptions<never> | ConcurrencyOptions<never> | SeveralRatesOptions<never> | WindowOptions<never>);

/**
 * A limiter that belongs to no registry.
 *
 * @example
 * ```ts
 * import { createLimiter, memoryStore, type StandaloneLimiter } from "@ratesync/core/memory";
 *
 * const upload: StandaloneLimiter = createLimiter("upload", memoryStore(), { maxConcurrent: 2 });
 * const permit = await upload.acquire();
 * await upload.close();
 * console.log(permit.lost); // true: close() has given it back
 * ```
 */
export interface StandaloneLimiter extends Limiter, AsyncDisposable {
  /** Answers all waiting callers, and gives back what is held or reserved. The store stays as it is. Idempotent. */
  close(): Promise<void>;
}

/**
 * A limiter over a `Kv` and a `Clock`, without a registry. It has the same limits, algorithm and stored value as a
 * limiter with the same id in a registry. Creating one opens nothing.
 *
 * `onFailure: "local"` is only for registries, which have a memory store to fall back on.
 *
 * @param id Its name. All processes that use this name on the same store share the limit.
 * @param store Where the limit is kept: `{ kv, clock }`, or a store.
 * @param options What is limited.
 * @throws {ConfigValidationError} if an option is missing, wrong or unknown.
 *
 * @example
 * ```ts
 * import { createLimiter } from "@ratesync/core/limiter";
 * import { memoryKv, systemClock } from "@ratesync/core/memory";
 *
 * const store = { kv: memoryKv(), clock: systemClock }; // or your own two
 * await using api = createLimiter("api", store, { ratePerSecond: 100, burst: 20, timeoutMs: 5_000 });
 * await api.acquire();
 * const result = await api.tryAcquire({ key: "alice", cost: 2 });
 * console.log(result.allowed, result.remaining); // true 18
 * ```
 */
export function createLimiter(id: string, store: LimiterStore, options: StandaloneLimiterOptions): StandaloneLimiter {
  const checked = checkSettings(id, options);
  if (!store?.kv || !store.clock) throw refused(id, "store", "an object with kv and clock", shown(store));
  expectMethods(id, "store.kv", "a Kv", store.kv, "get", "compareAndSet", "delete", "keys");
  expectMethods(id, "store.clock", "a Clock", store.clock, "now", "sleep");
  const localClock = store.localClock ?? store.clock;
  const logger = neverThrowing(checked.logger ?? consoleLogger);
  const { random } = Math;
  const limiter = createCoreLimiter(resolveLimiter(id, { ...checked, store: "kv" }), {
    ...resolveTuning(checked),
    store: {
      kv: store.kv,
      peers: store.peers,
      clock: store.clock,
      open: !store.open || store.open === opensNothing ? opensNothing : async () => await store.open?.(),
      close: () => Promise.resolve(),
      get retentionMs() {
        return store.retentionMs;
      },
      ...(store.readClock && { readClock: () => store.readClock!() }),
      get isOpen() {
        return store.isOpen;
      },
      get session() {
        return store.session;
      },
      get isClockStale() {
        return store.isClockStale;
      },
      get problem() {
        return store.problem;
      },
    },
    breaker: createBreaker({ storeId: "kv", settings: resolveBreaker(checked), clock: localClock, random, logger }),
    localClock,
    logger,
    identity: createIdentities(),
    random,
    digest: sha256,
    localLimiter: () => {
      throw refused(id, "onFailure", '"open" or "closed"', '"local"');
    },
  });
  return Object.assign(limiter, { [Symbol.asyncDispose]: () => limiter.close() });
}

function expectMethods(id: string, name: string, what: string, value: unknown, ...methods: readonly string[]): void {
  if (hasMethods(value, ...methods)) return;
  throw refused(id, name, `${what}: { ${methods.join(", ")} }`, shownWithout(value, methods));
}

const { longestTimeoutMs, mostPrefetched } = BOUNDS;

const OPTIONS: Requirements = {
  ...LIMITS,
  timeoutMs: WAIT,
  onFailure: oneOf("open", "closed"),
  backendTimeoutMs: numberThat(
    `a number of milliseconds > 0 and <= ${longestTimeoutMs}`,
    (value) => value > 0 && value <= longestTimeoutMs,
  ),
  prefetch: numberThat(
    `an integer from 0 to ${mostPrefetched}`,
    (value) => Number.isInteger(value) && value >= 0 && value <= mostPrefetched,
  ),
  breakerFailures: numberThat("an integer >= 0", (value) => Number.isInteger(value) && value >= 0),
  breakerCoolDownMs: DURATION,
  breakerMaxCoolDownMs: DURATION,
  retryIntervalMs: DURATION,
  maxRetries: COUNT,
  logger: { expected: "a Logger: { info, warn, error }", fits: (value) => hasMethods(value, "info", "warn", "error") },
};

type CheckedOptions = Omit<LimiterSettings, "store"> & StandaloneOptions;

/** The options without those that are `undefined`. */
function checkSettings(id: string, options: StandaloneLimiterOptions): CheckedOptions {
  const checked = checkLimits<CheckedOptions>(id, OPTIONS, options, suggestion);
  const { breakerCoolDownMs: first = 0, breakerMaxCoolDownMs: longest = first, prefetch, maxConcurrent } = checked;
  if (first > longest) {
    throw refused(id, "breakerMaxCoolDownMs", "not less than breakerCoolDownMs", shown(longest));
  }
  const slides = checked.algorithm === "sliding_window" ||
    checked.rates?.some((rate) => algorithmOf(rate) === "sliding_window");
  if (prefetch && (slides || maxConcurrent !== undefined)) {
    expectGiven(id, "prefetch", prefetch, false, "where there is more than rates");
  }
  return checked;
}
