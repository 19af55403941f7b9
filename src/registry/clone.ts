import type { LimiterOptions } from "../config/options.ts";
import { sectionInCode } from "../config/section.ts";
import { namesOf } from "../core/arguments.ts";
import { ConfigValidationError } from "../core/errors.ts";
import type { Algorithm, OnFailure, RateSpec } from "../core/limiter_config.ts";

/**
 * What `cloneLimiter` changes: the options of `configureLimiter`, where `null` removes a value and an option that is
 * left out stays as it is.
 *
 * @typeParam StoreId The ids of the stores.
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
  /** How it counts. If it changes, options that belong only to the source's algorithm need a `null`. */
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
  /** Further limits that hold at the same time. They replace all of the source's. */
  readonly rates?: readonly RateSpec[] | null | undefined;
  /** How long an `acquire` without a timeout of its own waits, in milliseconds; with `null`, as long as it takes. */
  readonly timeoutMs?: number | null | undefined;
  /** Whether a request is refused while the store is down. Replaces the source's `onFailure`. */
  readonly failClosed?: boolean | null | undefined;
  /** What happens while the store is down. Replaces the source's `failClosed`. */
  readonly onFailure?: OnFailure | null | undefined;
  /** How long the store may take to answer, in milliseconds, before that counts as a failure. */
  readonly backendTimeoutMs?: number | null | undefined;
  /** How far into the future the waiting callers of one process reserve slots, in milliseconds. */
  readonly reserveAheadMs?: number | null | undefined;
  /** How many slots of a rate each process may take before anybody asks for them. */
  readonly prefetch?: number | null | undefined;
}

/** The error for a clone whose id a limiter already has. */
export function alreadyThere(source: string, target: string): ConfigValidationError {
  return new ConfigValidationError(
    `Limiter '${target}' already exists, so limiter '${source}' cannot be cloned to it. Clone to another id, or change ` +
      `'${target}' with configureLimiter() and replace: true`,
    { field: `limiters.${target}`, expected: "an id that no limiter has", received: `'${target}'` },
  );
}

/** The options of a clone. They are not checked here, and may contradict each other. */
export function withOverrides(source: LimiterOptions, overrides: LimiterOverrides, target: string): LimiterOptions {
  const title = `The overrides of limiter '${target}'`;
  const { values } = sectionInCode({ path: `limiters.${target}`, title, example: "{ ratePerSecond: 50 }" }, overrides);
  const given = Object.entries(values).filter(([, value]) => value !== undefined);
  const merged = new Map<string, unknown>(Object.entries(source));
  // These are two names for one setting, so whichever is given replaces both.
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

/** Which options belong to one algorithm alone. */
const OPTIONS_OF = {
  token_bucket: ["ratePerSecond", "burst", "prefetch"],
  sliding_window: ["limit", "windowMs"],
} as const;

/**
 * The error for overrides that were refused. If they change the algorithm, and the clone has kept options of the
 * source's, it says how to be rid of them.
 */
export function withWayOut(
  error: unknown,
  source: string,
  options: LimiterOptions,
  { algorithm, ratePerSecond, limit, windowMs, ...others }: LimiterOverrides,
): unknown {
  const givesWindow = typeof (limit ?? windowMs) === "number";
  const givesRate = typeof ratePerSecond === "number";
  if (!(error instanceof ConfigValidationError) || (givesWindow && givesRate)) return error;
  const now = options.algorithm ?? "token_bucket";
  const wanted = algorithm ?? (givesWindow ? "sliding_window" : givesRate ? "token_bucket" : now);
  if (wanted === now || !Object.hasOwn(OPTIONS_OF, wanted)) return error;
  const given: LimiterOverrides = { ratePerSecond, limit, windowMs, ...others };
  const kept = OPTIONS_OF[now].filter((name) => options[name] !== undefined && given[name] === undefined);
  const missing = [
    ...(algorithm === wanted ? [] : [`algorithm: "${wanted}"`]),
    ...kept.map((name) => `${name}: null`),
  ];
  if (missing.length === 0) return error;
  const { problem, field, expected, received, file } = error;
  const advice = `A clone keeps what is not overridden. To make a ${wanted} of '${source}', pass ${missing.join(", ")}`;
  return new ConfigValidationError(`${problem} ${advice}, too`, { field, expected, received, file }, { cause: error });
}

/** What a `null` can clear. A `null` under any other name is a mistake, and has to show. */
const OVERRIDES = namesOf<LimiterOverrides>({
  store: true,
  algorithm: true,
  ratePerSecond: true,
  burst: true,
  maxConcurrent: true,
  leaseMs: true,
  limit: true,
  windowMs: true,
  rates: true,
  timeoutMs: true,
  failClosed: true,
  onFailure: true,
  backendTimeoutMs: true,
  reserveAheadMs: true,
  prefetch: true,
});
