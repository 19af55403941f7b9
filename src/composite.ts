import {
  checkMethods,
  checkOptions,
  checkTimeout,
  kindOf,
  namesOf,
  quoted,
  shown,
  wrongArgument,
} from "./core/arguments.ts";
import { InvalidArgumentError } from "./core/errors.ts";
import type { RateLimitResult } from "./core/limiter/result.ts";
import { TOGETHER, type Together, together } from "./core/limiter/together.ts";
import { defaultRegistry } from "./registry/default_registry.ts";
import { scarcestOf } from "./registry/multi.ts";
import type { RateSync } from "./registry/registry.ts";

/**
 * When a {@link CompositeRateLimiter} allows a request: `most_restrictive` and `all_must_pass` if every limiter does,
 * `any_must_pass` if one does. After a refusal, `all_must_pass` looks no further, while `most_restrictive` reports what
 * is left of every limiter.
 *
 * @example
 * ```ts
 * import type { CompositeStrategy } from "@ratesync/core";
 *
 * const strategy: CompositeStrategy = "any_must_pass";
 * console.log(strategy);
 * ```
 */
export type CompositeStrategy = "most_restrictive" | "all_must_pass" | "any_must_pass";

/**
 * The options of a {@link CompositeRateLimiter}.
 *
 * @typeParam Name The names that it has for its limiters.
 * @typeParam LimiterId The ids of the limiters.
 *
 * @example
 * ```ts
 * import { CompositeRateLimiter, type CompositeRateLimiterOptions } from "@ratesync/core";
 *
 * const options: CompositeRateLimiterOptions<"ip" | "user"> = {
 *   limiters: { ip: "auth_ip", user: "auth_user" },
 *   strategy: "all_must_pass",
 * };
 * console.log(new CompositeRateLimiter(options).strategy); // "all_must_pass"
 * ```
 */
export interface CompositeRateLimiterOptions<Name extends string, LimiterId extends string = string> {
  /**
   * The ids of the limiters, by the names under which {@link CompositeRateLimiter.check} takes identifiers; at least
   * one.
   */
  readonly limiters: Readonly<Record<Name, NoInfer<LimiterId>>>;
  /**
   * When a request is allowed.
   *
   * @default {"most_restrictive"}
   */
  readonly strategy?: CompositeStrategy | undefined;
  /** The registry that has the limiters. The default is the module's. */
  readonly rateSync?: RateSync<LimiterId> | undefined;
}

/**
 * The options of {@link CompositeRateLimiter.check}.
 *
 * @example
 * ```ts
 * import { type CompositeCheckOptions, CompositeRateLimiter, createRateSync } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("ip", { ratePerSecond: 100 });
 * const composite = new CompositeRateLimiter({ limiters: { ip: "ip" }, rateSync });
 * const options: CompositeCheckOptions = { timeoutMs: 500, signal: AbortSignal.timeout(1_000) };
 * console.log((await composite.check({ ip: "10.0.0.1" }, options)).allowed); // true
 * ```
 */
export interface CompositeCheckOptions {
  /**
   * How long to wait at most, for all limiters together, in milliseconds; 0 means one attempt and no waiting. The
   * default is each limiter's own `timeoutMs`, and no waiting for a limiter without one.
   */
  readonly timeoutMs?: number | undefined;
  /** Ends the wait with the signal's reason; what was taken is given back. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * What a {@link CompositeRateLimiter} says, allowed or not.
 *
 * @typeParam Name The names that it has for its limiters.
 *
 * @example
 * ```ts
 * import { type CompositeFacts, CompositeRateLimiter, createRateSync } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("auth_ip", { ratePerSecond: 1, burst: 9 });
 * rateSync.configureLimiter("auth_user", { ratePerSecond: 1, burst: 3 });
 * const auth = new CompositeRateLimiter({ limiters: { ip: "auth_ip", user: "auth_user" }, rateSync });
 * const facts: CompositeFacts<"ip" | "user"> = await auth.check({ ip: "10.0.0.1", user: "alice" });
 * console.log(facts.results.ip?.remaining, facts.mostRestrictive.remaining); // 8 2
 * ```
 */
export interface CompositeFacts<Name extends string> extends AsyncDisposable {
  /**
   * What each limiter said. For a limiter from which nothing was taken in the end, the result says what it has left.
   * With `all_must_pass`, limiters after the first refusal are absent; otherwise, limiters after the one that decided
   * are absent if their store cannot say.
   */
  readonly results: Readonly<Partial<Record<Name, RateLimitResult>>>;
  /** The result with the least left; after a refusal by `all_must_pass`, that of the limiter that refused. */
  readonly mostRestrictive: RateLimitResult;
  /** Gives the permits of concurrency limits back. Repeated calls do nothing. Never throws. */
  release(): Promise<void>;
}

/**
 * The answer of a {@link CompositeRateLimiter}. Narrow it on `allowed`.
 *
 * @typeParam Name The names that it has for its limiters.
 *
 * @example
 * ```ts
 * import { CompositeRateLimiter, type CompositeResult, createRateSync } from "@ratesync/core";
 *
 * const rateSync = createRateSync({ limiters: { auth_ip: { ratePerSecond: 1 } } });
 * const auth = new CompositeRateLimiter({ limiters: { ip: "auth_ip" }, rateSync });
 * await auth.check({ ip: "10.0.0.1" });
 * const verdict: CompositeResult<"ip"> = await auth.check({ ip: "10.0.0.1" });
 * if (!verdict.allowed) console.log(verdict.triggeredBy); // "ip"
 * ```
 */
export type CompositeResult<Name extends string> =
  & CompositeFacts<Name>
  & (
    | {
      /** The request is allowed. */
      readonly allowed: true;
      /** Nothing refused it. */
      readonly triggeredBy: null;
    }
    | {
      /** The request is refused; nothing was used up. */
      readonly allowed: false;
      /** The name of the first limiter that refused, or `"all"` if every one did under `any_must_pass`. */
      readonly triggeredBy: Name | "all";
    }
  );

interface Part<Name extends string> {
  readonly name: Name;
  readonly id: string;
  readonly key: string;
  /** How long to wait for this one, in milliseconds. */
  readonly timeoutMs: number;
  /** Whether somebody else can give back what is missing. */
  readonly canBeReleased: boolean;
}

const NAMES = namesOf<CompositeRateLimiterOptions<string>>({ limiters: true, strategy: true, rateSync: true });
const CHECK_NAMES = namesOf<CompositeCheckOptions>({ timeoutMs: true, signal: true });
const STRATEGIES: ReadonlySet<unknown> = new Set<CompositeStrategy>([
  "most_restrictive",
  "all_must_pass",
  "any_must_pass",
]);

/**
 * Several limiters that decide together, each with an identifier of its own: for example so many attempts per address,
 * and so many per user. A request that is refused uses up nothing of any of them, so a client that one limiter blocks
 * cannot drain the others.
 *
 * @typeParam Name The names that it has for its limiters.
 * @typeParam LimiterId The ids of the limiters.
 *
 * @example
 * ```ts
 * import { CompositeRateLimiter, configureLimiter } from "@ratesync/core";
 *
 * configureLimiter("auth_ip", { algorithm: "sliding_window", limit: 20, windowMs: 60_000 });
 * configureLimiter("auth_user", { algorithm: "sliding_window", limit: 1, windowMs: 60_000 });
 * const auth = new CompositeRateLimiter({ limiters: { ip: "auth_ip", user: "auth_user" } });
 *
 * await auth.check({ ip: "10.0.0.1", user: "alice" });
 * const { allowed, triggeredBy, results } = await auth.check({ ip: "10.0.0.1", user: "alice" });
 * console.log(allowed, triggeredBy, results.ip?.remaining); // false "user" 19
 * ```
 */
export class CompositeRateLimiter<Name extends string, LimiterId extends string = string> {
  /** When a request is allowed. */
  readonly strategy: CompositeStrategy;
  readonly #limiters: ReadonlyMap<string, string>;
  readonly #rateSync: Pick<RateSync, "checkLimiter" | "checkMultiLimiters" | "getLimiter" | "tryAcquire">;

  /**
   * Opens nothing, and does not look for the limiters yet.
   *
   * @throws {InvalidArgumentError} if no limiter is given, or the strategy is not known.
   */
  constructor(options: CompositeRateLimiterOptions<Name, LimiterId>) {
    const { limiters, strategy = "most_restrictive", rateSync = defaultRegistry } = checkOptions(
      options,
      NAMES,
      "an object with limiters",
    );
    this.#limiters = checkLimiters(limiters);
    if (!STRATEGIES.has(strategy)) {
      const names = [...STRATEGIES].join(", ");
      throw wrongArgument(`This strategy is not known. Use one of ${names}`, "strategy", `one of ${names}`, strategy);
    }
    this.strategy = strategy;
    const methods = ["checkLimiter", "checkMultiLimiters", "getLimiter", "tryAcquire"] as const;
    this.#rateSync = checkMethods(rateSync, "rateSync", "registry", ...methods);
  }

  /**
   * Takes a slot of the limiters for these identifiers, as the strategy says, or of none of them. The limiters are
   * asked in the order in which they were given. With `any_must_pass`, one slot is taken, from the first limiter that
   * has one; if none has, the call waits for the limiter that should have one first, and then asks the others once
   * more.
   *
   * Permits of a concurrency limit must be released: `await using` does it.
   *
   * @param identifiers An identifier for every limiter, under the same names.
   * @throws {LimiterNotFoundError} if a limiter is not configured, before anything is taken.
   * @throws {InvalidArgumentError} if the names of the identifiers are not those of the limiters, an identifier is not
   * text, or the timeout is wrong.
   * @throws {RateLimiterAcquisitionError} only if a store failed and its limiter fails closed, or if it was closed
   * meanwhile; nothing is kept then.
   */
  async check(
    identifiers: Readonly<Record<Name, string>>,
    options: CompositeCheckOptions = {},
  ): Promise<CompositeResult<Name>> {
    const { timeoutMs: given } = checkOptions(options, CHECK_NAMES);
    const timeoutMs = given === undefined ? undefined : checkTimeout(given);
    const parts = this.#parts(identifiers, timeoutMs);
    return await (this.strategy === "any_must_pass"
      ? this.#any(parts, options.signal)
      : this.#all(parts, timeoutMs ?? Infinity, options.signal));
  }

  async #all(
    parts: readonly Part<Name>[],
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): Promise<CompositeResult<Name>> {
    const calls = together(timeoutMs);
    const options = { timeoutMs, signal, [TOGETHER]: calls };
    const requests = parts.map(({ id, key, timeoutMs }) => ({ id, key, timeoutMs }));
    const verdict = await this.#rateSync.checkMultiLimiters(requests, options);
    const { allowed, results, release } = verdict;
    const asked = results.map((result, i) => [parts[i]!.name, result] as const);
    if (allowed) return composed(asked, null, release);
    const [triggeredBy, refused] = asked.at(-1)!; // the last one asked is the one that refused
    if (this.strategy === "all_must_pass") return composed(asked, triggeredBy, release, refused);
    const others = await this.#peeks(parts.slice(asked.length), calls);
    return composed([...asked, ...others], triggeredBy, release);
  }

  async #any(parts: readonly Part<Name>[], signal: AbortSignal | undefined): Promise<CompositeResult<Name>> {
    const refusals: (readonly [Part<Name>, RateLimitResult])[] = [];
    const calls = together(Math.max(...parts.map(({ timeoutMs }) => timeoutMs)));
    const asked = () => refusals.map(([{ name }, result]) => [name, result] as const);
    for (const [i, part] of parts.entries()) {
      const options = { key: part.key, timeoutMs: 0, signal, [TOGETHER]: calls };
      const result = await this.#rateSync.tryAcquire(part.id, options);
      if (result.allowed) {
        const others = await this.#peeks(parts.slice(i + 1), calls);
        return composed([...asked(), [part.name, result], ...others], null, result.release);
      }
      refusals.push([part, result]);
    }
    // None has a slot now. Where only time helps, it is known whether the wait would be too long.
    const hopeful = refusals.filter(([{ timeoutMs, canBeReleased }, { retryAfterMs }]) =>
      timeoutMs > 0 && (canBeReleased || retryAfterMs <= timeoutMs)
    );
    const [first] = hopeful.sort(([, a], [, b]) => a.retryAfterMs - b.retryAfterMs);
    if (!first) return composed(asked(), "all", () => Promise.resolve());
    const [{ id, key, name, timeoutMs }] = first;
    const options = { key, timeoutMs, signal, [TOGETHER]: calls };
    const results = new Map(asked());
    let result = await this.#rateSync.tryAcquire(id, options);
    results.set(name, result);
    // While the call waited for that one, another one may have got something: nobody knows when a permit comes back.
    for (const [other] of refusals) {
      if (result.allowed) break;
      if (other.name === name) continue;
      result = await this.#rateSync.tryAcquire(other.id, { ...options, key: other.key, timeoutMs: 0 });
      results.set(other.name, result);
    }
    return composed([...results], result.allowed ? null : "all", result.release);
  }

  /** What the limiters have left, for those whose stores can say. The verdict no longer depends on it. */
  async #peeks(parts: readonly Part<Name>[], calls: Together): Promise<(readonly [Name, RateLimitResult])[]> {
    const peeks = await Promise.allSettled(parts.map(async ({ name, id, key }) => {
      const options = { key, consume: false, [TOGETHER]: calls };
      return [name, await this.#rateSync.checkLimiter(id, options)] as const;
    }));
    return peeks.flatMap((peek) => peek.status === "fulfilled" ? [peek.value] : []);
  }

  /** The limiters with their identifiers. Checks that both have the same names and that all limiters are known. */
  #parts(identifiers: Readonly<Record<Name, string>>, timeoutMs: number | undefined): Part<Name>[] {
    const given = identifiers as unknown; // untyped code may give anything
    const keys = new Map<string, unknown>(Object.entries(typeof given === "object" && given !== null ? given : {}));
    const isEach = keys.size === this.#limiters.size && [...this.#limiters.keys()].every((name) => keys.has(name));
    if (!isEach) {
      throw new InvalidArgumentError("A composite limiter needs exactly one identifier for each of its limiters", {
        field: "identifiers",
        expected: `the names ${quoted(this.#limiters.keys())}`,
        received: keys.size === 0 ? "none" : `the names ${quoted(keys.keys())}`,
      });
    }
    return [...this.#limiters].map(([name, id]) => {
      const key = keys.get(name);
      if (typeof key !== "string") {
        throw new InvalidArgumentError("An identifier must be text; use String(…) for a number", {
          field: `identifiers.${name}`,
          expected: "a string",
          received: kindOf(key),
        });
      }
      const config = this.#rateSync.getLimiter(id).getConfig();
      return {
        name: name as Name, // the map was made of a record with these names
        id,
        key,
        timeoutMs: timeoutMs ?? config.timeoutMs ?? 0,
        canBeReleased: config.maxConcurrent !== null,
      };
    });
  }
}

function composed<Name extends string>(
  entries: readonly (readonly [Name, RateLimitResult])[],
  triggeredBy: Name | "all" | null,
  release: () => Promise<void>,
  mostRestrictive: RateLimitResult = scarcestOf(entries.map(([, result]) => result))!, // there is at least one limiter
): CompositeResult<Name> {
  // Object.fromEntries() does not know the names.
  const results = Object.freeze(Object.fromEntries(entries)) as Readonly<Partial<Record<Name, RateLimitResult>>>;
  const facts: CompositeFacts<Name> = { results, mostRestrictive, release, [Symbol.asyncDispose]: release };
  return triggeredBy === null
    ? Object.freeze({ allowed: true, triggeredBy, ...facts })
    : Object.freeze({ allowed: false, triggeredBy, ...facts });
}

/** The limiters by name, checked, because untyped code may pass anything. */
function checkLimiters(limiters: unknown): ReadonlyMap<string, string> {
  const entries = typeof limiters === "object" && limiters !== null && !Array.isArray(limiters)
    ? Object.entries(limiters)
    : [];
  const checked = new Map<string, string>();
  for (const [name, id] of entries) {
    if (typeof id !== "string") throw wrongLimiters(`limiters.${name}`, "the id of a limiter", shown(id));
    checked.set(name, id);
  }
  if (checked.size > 0) return checked;
  throw wrongLimiters("limiters", "an object such as { ip: 'auth_ip' }", "no limiter");
}

function wrongLimiters(field: string, expected: string, received: string): InvalidArgumentError {
  return new InvalidArgumentError("A composite limiter needs at least one limiter, by a name of its own", {
    field,
    expected,
    received,
  });
}
