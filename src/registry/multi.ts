import { checkOptions, checkTimeout, namesOf, wrongArgument } from "../core/arguments.ts";
import type { Clock } from "../core/clock.ts";
import type { InvalidArgumentError } from "../core/errors.ts";
import type { ClosableLimiter, Tentative } from "../core/limiter/limiter.ts";
import type { RateLimitResult } from "../core/limiter/result.ts";
import { type SharedPatience, TOGETHER, together } from "../core/limiter/together.ts";

/**
 * A request to one of several limiters.
 *
 * @typeParam LimiterId The ids of the limiters.
 *
 * @example
 * ```ts
 * import { createRateSync, type LimiterRequest } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("user", { ratePerSecond: 10, burst: 5 });
 * const request: LimiterRequest = { id: "user", key: "alice", cost: 2 };
 * console.log((await rateSync.checkMultiLimiters([request])).remaining); // 3
 * ```
 */
export interface LimiterRequest<LimiterId extends string = string> {
  /** The limiter. */
  readonly id: LimiterId;
  /** Selects a separate limit for every key, as in `acquire`. */
  readonly key?: string | undefined;
  /**
   * How much of a rate or a window the request uses.
   *
   * @default {1}
   */
  readonly cost?: number | undefined;
  /** How long to wait for this limiter at most, in milliseconds. The default is what is left of the whole timeout. */
  readonly timeoutMs?: number | undefined;
}

/**
 * The options of `checkMultiLimiters`.
 *
 * @example
 * ```ts
 * import { createRateSync, type MultiCheckOptions } from "@ratesync/core";
 *
 * const options: MultiCheckOptions = { timeoutMs: 100, onMissing: "allow" };
 * console.log((await createRateSync().checkMultiLimiters(["not-configured"], options)).allowed); // true
 * ```
 */
export interface MultiCheckOptions {
  /**
   * How long to wait at most, for all limiters together, in milliseconds; 0 means one attempt and no waiting.
   *
   * @default {0}
   */
  readonly timeoutMs?: number | undefined;
  /** Ends the wait with the signal's reason; what was taken is given back. */
  readonly signal?: AbortSignal | undefined;
  /**
   * What happens if a limiter is not configured: the call fails before anything is taken, or the others decide without
   * it.
   *
   * @default {"throw"}
   */
  readonly onMissing?: "throw" | "allow" | undefined;
}

/**
 * What several limiters said together, allowed or not.
 *
 * @example
 * ```ts
 * import { createRateSync, type MultiLimiterFacts } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("ip", { ratePerSecond: 10, burst: 5 });
 * rateSync.configureLimiter("user", { ratePerSecond: 10, burst: 2 });
 * const { limit, remaining }: MultiLimiterFacts = await rateSync.checkMultiLimiters(["ip", "user"]);
 * console.log(limit, remaining); // 2 1
 * ```
 */
export interface MultiLimiterFacts extends AsyncDisposable {
  /**
   * What each of them said, in order, up to the first that refused. For a limiter whose slot was given back, the result
   * says what was left before.
   */
  readonly results: readonly RateLimitResult[];
  /** The limit of the limiter with the least left. */
  readonly limit: number;
  /** The least that any of them has left. */
  readonly remaining: number;
  /** After how many milliseconds all of them have everything available again. */
  readonly resetInMs: number;
  /** Gives the permits of concurrency limits back. Repeated calls do nothing. Never throws. */
  release(): Promise<void>;
}

/**
 * The answer of `checkMultiLimiters`. Narrow it on `allowed`.
 *
 * @example
 * ```ts
 * import { createRateSync, type MultiLimiterResult } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("ip", { ratePerSecond: 10, burst: 5 });
 * rateSync.configureLimiter("uploads", { maxConcurrent: 1 });
 * await using first: MultiLimiterResult = await rateSync.checkMultiLimiters(["ip", "uploads"]);
 * const second = await rateSync.checkMultiLimiters(["ip", "uploads"]);
 * console.log(first.allowed, second.allowed, second.blockingLimiterId); // true false "uploads"
 * ```
 */
export type MultiLimiterResult =
  & MultiLimiterFacts
  & (
    | {
      /** All of them allowed it. */
      readonly allowed: true;
      /** None refused. */
      readonly blockingLimiterId: null;
      /** Always 0: there is nothing to retry. */
      readonly retryAfterMs: 0;
    }
    | {
      /** One of them refused; nothing was used up. */
      readonly allowed: false;
      /** The first that refused. For a keyed limiter `id:key`. */
      readonly blockingLimiterId: string;
      /** After how many milliseconds the limiter that refused could grant the request. */
      readonly retryAfterMs: number;
    }
  );

/** A limiter, and what is wanted of it. */
export interface Wanted {
  readonly limiter: ClosableLimiter;
  readonly request: LimiterRequest;
}

const REQUEST_NAMES = namesOf<LimiterRequest>({ id: true, key: true, cost: true, timeoutMs: true });

/** What upstream answers when there is nothing to check. */
const UNLIMITED = { limit: 1_000, remaining: 999, resetInMs: 60_000 } as const;

/** How often lost permits are taken again before they are handed out as they are: lost, as they say themselves. */
const MOST_RETAKES = 8;

/** Takes from all of them, in order, or in the end from none of them. */
export async function takeAllOrNone(
  wanted: readonly Wanted[],
  { timeoutMs = 0, signal, [TOGETHER]: calls = together(timeoutMs) }: MultiCheckOptions & SharedPatience,
  clock: Clock,
): Promise<MultiLimiterResult> {
  const deadline = clock.now() + checkTimeout(timeoutMs);
  const taken: Tentative[] = [];
  let retakes = 0;
  for (let next = 0; next < wanted.length; next = nextToTake(taken, wanted.length)) {
    const { limiter, request: { key, cost, timeoutMs = Infinity } } = wanted[next]!;
    // With leases that run out before all are taken, this would never end.
    if (next < taken.length && ++retakes > MOST_RETAKES) break;
    const [lost] = taken.splice(next, 1);
    let answer: Tentative;
    try {
      if (lost) await lost.cancel();
      const patienceMs = Math.min(Math.max(0, deadline - clock.now()), checkTimeout(timeoutMs));
      answer = await limiter.tryTake({ key, cost, signal, timeoutMs: patienceMs, [TOGETHER]: calls });
    } catch (error) {
      await cancelAll(taken);
      throw error;
    }
    if (!answer.result.allowed) {
      answer.keep();
      const others = await cancelAll(taken);
      return summary([...others.slice(0, next), answer.result]);
    }
    taken.splice(next, 0, answer);
  }
  for (const { keep } of taken) keep();
  return summary(taken.map(({ result }) => result));
}

/**
 * The index of the next limiter to take from: each in turn, and then any whose permit was lost during the wait for
 * others.
 */
function nextToTake(taken: readonly Tentative[], count: number): number {
  if (taken.length < count) return taken.length;
  const lost = taken.findIndex(({ result }) => result.allowed && result.permit.lost);
  return lost < 0 ? count : lost;
}

function cancelAll(taken: readonly Tentative[]): Promise<RateLimitResult[]> {
  return Promise.all(taken.map(({ cancel }) => cancel()));
}

function summary(results: readonly RateLimitResult[]): MultiLimiterResult {
  const refused = results.find(({ allowed }) => !allowed);
  const release = async () => {
    await Promise.all(results.map((result) => result.release()));
  };
  const { limit, remaining } = scarcestOf(results) ?? UNLIMITED;
  const facts: MultiLimiterFacts = {
    results: Object.freeze(results),
    limit,
    remaining,
    resetInMs: results.length === 0 ? UNLIMITED.resetInMs : Math.max(...results.map(({ resetInMs }) => resetInMs)),
    release,
    [Symbol.asyncDispose]: release,
  };
  if (!refused) return Object.freeze({ allowed: true, blockingLimiterId: null, retryAfterMs: 0, ...facts });
  const { limiterId: blockingLimiterId, retryAfterMs } = refused;
  return Object.freeze({ allowed: false, blockingLimiterId, retryAfterMs, ...facts });
}

/** The result with the least left, the first of several. */
export function scarcestOf(results: readonly RateLimitResult[]): RateLimitResult | undefined {
  let scarcest: RateLimitResult | undefined;
  for (const result of results) if (!scarcest || result.remaining < scarcest.remaining) scarcest = result;
  return scarcest;
}

/** The requests, checked, because untyped code may pass anything. */
export function checkRequests(limiters: unknown): LimiterRequest[] {
  // Unlike map(), it does not leave out the holes of a list.
  if (Array.isArray(limiters)) return Array.from(limiters, (limiter, i) => checkRequest(limiter, `limiters[${i}]`));
  throw wrongRequest("limiters", "a list of limiters", limiters);
}

function checkRequest(limiter: unknown, field: string): LimiterRequest {
  if (typeof limiter === "string") return { id: limiter };
  if (typeof limiter !== "object" || limiter === null || !("id" in limiter) || typeof limiter.id !== "string") {
    throw wrongRequest(field, "the id of a limiter, or { id, key, cost }", limiter);
  }
  checkOptions(limiter, REQUEST_NAMES);
  // The limiter checks the rest of it.
  return limiter as LimiterRequest;
}

function wrongRequest(field: string, expected: string, value: unknown): InvalidArgumentError {
  return wrongArgument(
    "Several limiters are asked by their ids, such as ['ip', { id: 'user', key }]",
    field,
    expected,
    value,
  );
}

/** Whether a limiter may be missing. `allowing` is the value of the option that allows it. */
export function isMissingAllowed(onMissing: unknown, allowing: string): boolean {
  if (onMissing === allowing) return true;
  if (onMissing === undefined || onMissing === "throw") return false;
  throw wrongArgument(
    "What shall happen without the limiter is not clear",
    "onMissing",
    `"throw" or "${allowing}"`,
    onMissing,
  );
}
