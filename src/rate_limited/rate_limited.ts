import { checkMethods, checkOptions, checkTimeout, namesOf, shown, wrongArgument } from "../core/arguments.ts";
import { InvalidArgumentError, LimiterNotFoundError } from "../core/errors.ts";
import type { Limiter } from "../core/limiter/limiter.ts";
import { defaultRegistry } from "../registry/default_registry.ts";
import { isMissingAllowed } from "../registry/multi.ts";
import type { RateSync } from "../registry/registry.ts";
import { type Selector, selectorOf } from "./selector.ts";
import type {
  FittingLimiter,
  KeyFor,
  KnownLimiter,
  LimiterChoice,
  ObjectForTemplate,
  PlaceholderOf,
} from "./template_types.ts";

/**
 * How a {@link rateLimited} function waits. See also {@link KeyOption}.
 *
 * @typeParam LimiterId The ids of the limiters.
 *
 * @example
 * ```ts
 * import { rateLimited, type RateLimitedOptions } from "@ratesync/core";
 *
 * const options: RateLimitedOptions = { timeoutMs: 5_000, onMissing: "run" };
 * const send = rateLimited("mail", (to: string) => Promise.resolve(`sent to ${to}`), { ...options, mode: "wait" });
 * console.log(typeof send); // "function"
 * ```
 */
export interface RateLimitedOptions<LimiterId extends string = string> {
  /**
   * How long a call waits for its slot at most, in milliseconds; 0 means one attempt and no waiting. The default is the
   * limiter's `timeoutMs`, or else as long as it takes.
   */
  readonly timeoutMs?: number | undefined;
  /**
   * What happens to a call that gets no slot in time: it rejects (`wait`), or it resolves to `null` without having run
   * (`try`, which needs a `timeoutMs`).
   *
   * @default {"wait"}
   */
  readonly mode?: "wait" | "try" | undefined;
  /**
   * What happens if the limiter is not configured: the call rejects, or it runs without a limit.
   *
   * @default {"throw"}
   */
  readonly onMissing?: "throw" | "run" | undefined;
  /** The registry that has the limiter. The default is the module's. */
  readonly rateSync?: RateSync<LimiterId> | undefined;
}

/**
 * {@link RateLimitedOptions} for mode `wait`, the default: a call that gets no slot in time rejects.
 *
 * @typeParam LimiterId The ids of the limiters.
 *
 * @example
 * ```ts
 * import type { RateLimitedWaitOptions } from "@ratesync/core";
 *
 * const options: RateLimitedWaitOptions = { timeoutMs: 5_000 };
 * console.log(options.mode); // undefined
 * ```
 */
export interface RateLimitedWaitOptions<LimiterId extends string = string> extends RateLimitedOptions<LimiterId> {
  /**
   * A call that gets no slot in time rejects.
   *
   * @default {"wait"}
   */
  readonly mode?: "wait" | undefined;
}

/**
 * {@link RateLimitedOptions} for mode `try`: a call that gets no slot in time resolves to `null`.
 *
 * @typeParam LimiterId The ids of the limiters.
 *
 * @example
 * ```ts
 * import type { RateLimitedTryOptions } from "@ratesync/core";
 *
 * const options: RateLimitedTryOptions = { mode: "try", timeoutMs: 0 };
 * console.log(options.timeoutMs); // 0
 * ```
 */
export interface RateLimitedTryOptions<LimiterId extends string = string> extends RateLimitedOptions<LimiterId> {
  /** A call that gets no slot in time resolves to `null`, without having run. */
  readonly mode: "try";
  /** How long a call waits for its slot at most, in milliseconds; 0 means one attempt and no waiting. */
  readonly timeoutMs: number;
}

/**
 * {@link RateLimitedOptions} of one mode.
 *
 * @typeParam Mode The mode.
 * @typeParam LimiterId The ids of the limiters.
 *
 * @example
 * ```ts
 * import type { RateLimitedModeOptions } from "@ratesync/core";
 *
 * const options: RateLimitedModeOptions<"try"> = { mode: "try", timeoutMs: 0 };
 * console.log(options.mode); // "try"
 * ```
 */
export type RateLimitedModeOptions<Mode extends "wait" | "try", LimiterId extends string = string> =
  & { readonly mode?: Mode | undefined }
  & (RateLimitedWaitOptions<LimiterId> | RateLimitedTryOptions<LimiterId>);

/**
 * The option that derives the key of a call's limit from its arguments.
 *
 * @typeParam Args The arguments of the function.
 * @typeParam Text The limiter: its id, or a template.
 *
 * @example
 * ```ts
 * import { type KeyOption, rateLimited } from "@ratesync/core";
 *
 * const byTenant: KeyOption<[tenant: string, user: number], "api:{tenant}"> = { key: (tenant) => ({ tenant }) };
 * const call = rateLimited("api:{tenant}", (tenant: string, user: number) => `${tenant} ${user}`, byTenant);
 * console.log(call.length); // 2
 * ```
 */
export interface KeyOption<Args extends readonly unknown[], Text extends string> {
  /**
   * Returns the values of a template's placeholders by name, or a text: the value of a template's only placeholder or,
   * for a plain id, the key. Without it, a template takes its placeholders from the call's only argument, an object.
   */
  readonly key: (...args: Args) => KeyFor<Text>;
}

/**
 * No {@link KeyOption}.
 *
 * @example
 * ```ts
 * import type { NoKeyOption } from "@ratesync/core";
 *
 * const none: NoKeyOption = {};
 * console.log(none.key); // undefined
 * ```
 */
export interface NoKeyOption {
  /** A template takes its placeholders from the call's only argument, an object. */
  readonly key?: undefined;
}

/**
 * A limited function: it takes the same arguments as the function that it was made from.
 *
 * @example
 * ```ts
 * import { rateLimited, type RateLimitedFunction } from "@ratesync/core";
 *
 * const twice = (n: number) => 2 * n;
 * const limited: RateLimitedFunction<unknown, [n: number], number> = rateLimited("math", twice);
 * console.log(limited.name); // "twice"
 * ```
 */
export type RateLimitedFunction<This, Args extends readonly unknown[], Result> = (
  this: This,
  ...args: Args
) => Promise<Result>;

/**
 * A standard (TC39) decorator for methods that return a promise.
 *
 * @typeParam Allowed What the arguments of the method must be.
 * @typeParam Refusal What the method must be allowed to resolve to: `null` in mode `try`.
 *
 * @example
 * ```ts
 * import { rateLimited, type RateLimitedDecorator } from "@ratesync/core";
 *
 * const limited: RateLimitedDecorator<unknown[], never> = rateLimited("partner-api");
 * class Client {
 *   @limited
 *   fetch(path: string): Promise<string> {
 *     return Promise.resolve(path);
 *   }
 * }
 * console.log(typeof new Client().fetch); // "function"
 * ```
 */
export type RateLimitedDecorator<Allowed extends readonly unknown[], Refusal> = <
  This,
  Args extends Readonly<Allowed>,
  Result,
>(
  method: RateLimitedFunction<This, Args, Result | Refusal>,
  context: ClassMethodDecoratorContext<This, RateLimitedFunction<This, Args, Result | Refusal>>,
) => RateLimitedFunction<This, Args, Result | Refusal>;

/**
 * Limits a function: every call first waits for a slot of its limiter, and gives the permit of a concurrency limit back
 * when the function has settled. What the function returns or throws passes through. The limited function has the same
 * name and takes the same arguments; it returns a promise even if the function does not.
 *
 * The limiter is looked up at every call. It is named by its id; by a template such as `"api:{userId}"`, with one limit
 * for each user; or by a function of the arguments. In a template, the text before the first `:` is the limiter's id,
 * and the rest is its key. The placeholders come from the call's only argument, an object, or from the option `key`,
 * and may be paths (`{user.id}`). Default values of parameters are not seen. Different values never share a limit: with
 * several placeholders, every two need a `:` between them, and a `:` or `%` within their values is written as `%3A` or
 * `%25`.
 *
 * Without a function, it is a decorator for a method: `@rateLimited("api:{userId}")`.
 *
 * The compiler checks the placeholders of a template against the function's argument or what `key` returns and, with a
 * `rateSync` that knows its ids, it checks the limiter.
 *
 * A call rejects
 * - with a {@link LimiterNotFoundError} if the limiter is not configured, unless `onMissing` is `"run"`;
 * - with a {@link RateLimiterAcquisitionError} if there is no slot in time (in mode `try` it resolves to `null`
 *   instead), or if the store failed and the limiter fails closed;
 * - with an {@link InvalidArgumentError} if a placeholder has no value, or `NaN`.
 *
 * @throws {InvalidArgumentError} at once, if the template or an option is wrong, `mode: "try"` has no timeout, or the
 * function is a generator, whose body would run after the permit was given back.
 *
 * @example One limit for each endpoint
 * ```ts
 * import { configureLimiter, rateLimited } from "@ratesync/core";
 *
 * configureLimiter("webhook", { ratePerSecond: 10, maxConcurrent: 2, timeoutMs: 5_000 });
 * const send = rateLimited("webhook:{endpoint}", async ({ endpoint, body }: { endpoint: string; body: string }) => {
 *   return await Promise.resolve(`${body} to ${endpoint}`);
 * });
 * console.log(await send({ endpoint: "example.com", body: "hello" })); // "hello to example.com"
 * ```
 *
 * @example Null in place of an error
 * ```ts
 * import { configureLimiter, rateLimited } from "@ratesync/core";
 *
 * configureLimiter("search", { ratePerSecond: 1 });
 * const search = rateLimited("search", (_user: string, text: string) => `found ${text}`, {
 *   key: (user) => user,
 *   mode: "try",
 *   timeoutMs: 0,
 * });
 * console.log(await search("alice", "this"), await search("alice", "that")); // "found this" null
 * ```
 *
 * @example A method
 * ```ts
 * import { configureLimiter, rateLimited } from "@ratesync/core";
 *
 * configureLimiter("orders", { ratePerSecond: 100 });
 * class Shop {
 *   @rateLimited("orders:{customer.id}")
 *   async order({ item }: { customer: { id: number }; item: string }): Promise<string> {
 *     return await Promise.resolve(`one ${item}`);
 *   }
 * }
 * console.log(await new Shop().order({ customer: { id: 7 }, item: "lamp" })); // "one lamp"
 * ```
 */
export function rateLimited<
  Fn extends (...args: never[]) => unknown,
  Text extends string = string,
  Mode extends "wait" | "try" = "wait",
  LimiterId extends string = string,
>(
  limiter: FittingLimiter<Text, NoInfer<LimiterId>, Parameters<Fn>> | LimiterChoice<Parameters<Fn>, NoInfer<LimiterId>>,
  fn: Fn,
  options?: RateLimitedModeOptions<Mode, LimiterId> & NoKeyOption,
): RateLimitedFunction<
  ThisParameterType<Fn>,
  Parameters<Fn>,
  Awaited<ReturnType<Fn>> | ("try" extends Mode ? null : never)
>;
/** With the option `key`, which returns a template's placeholders, or the key for a plain id. */
export function rateLimited<
  Fn extends (...args: never[]) => unknown,
  Text extends string,
  Mode extends "wait" | "try" = "wait",
  LimiterId extends string = string,
>(
  limiter: KnownLimiter<Text, NoInfer<LimiterId>>,
  fn: Fn,
  options: RateLimitedModeOptions<Mode, LimiterId> & KeyOption<Parameters<Fn>, NoInfer<Text>>,
): RateLimitedFunction<
  ThisParameterType<Fn>,
  Parameters<Fn>,
  Awaited<ReturnType<Fn>> | ("try" extends Mode ? null : never)
>;
/** A decorator for a method. In mode `try`, the method's type must say that it may resolve to `null`. */
export function rateLimited<
  Args extends unknown[] = [],
  Text extends string = string,
  Mode extends "wait" | "try" = "wait",
  LimiterId extends string = string,
>(
  limiter: KnownLimiter<Text, NoInfer<LimiterId>> | LimiterChoice<Args, NoInfer<LimiterId>>,
  options?: RateLimitedModeOptions<Mode, LimiterId> & NoKeyOption,
): RateLimitedDecorator<
  [PlaceholderOf<Text>] extends [never] ? [...Args, ...unknown[]] : [ObjectForTemplate<Text>],
  "try" extends Mode ? null : never
>;
/** A decorator with the option `key`. */
export function rateLimited<
  Args extends unknown[],
  Text extends string,
  Mode extends "wait" | "try" = "wait",
  LimiterId extends string = string,
>(
  limiter: KnownLimiter<Text, NoInfer<LimiterId>>,
  options: RateLimitedModeOptions<Mode, LimiterId> & KeyOption<Args, NoInfer<Text>>,
): RateLimitedDecorator<[...Args, ...unknown[]], "try" extends Mode ? null : never>;
export function rateLimited(
  limiter: string | LimiterChoice<unknown[]>,
  ...rest: readonly [unknown?, unknown?]
): unknown {
  if (typeof rest[0] === "function") return limited(settingsOf(limiter, rest[1]), rest[0] as Callable);
  const settings = settingsOf(limiter, rest[0]);
  return (method: unknown, context: unknown) => {
    if (typeof method === "function" && isMethodContext(context)) return limited(settings, method as Callable);
    throw new InvalidArgumentError("rateLimited() limits functions, and as a standard decorator methods", {
      field: "fn",
      expected: "a function, or @rateLimited(…) on a method, with TypeScript's experimentalDecorators off",
      received: typeof method === "function" ? "a decorator of another kind" : shown(method),
    });
  };
}

/** Any function; its arguments are a matter between it and its callers. */
type Callable = (this: unknown, ...args: unknown[]) => unknown;

interface Settings {
  readonly select: Selector;
  readonly mode: "wait" | "try";
  readonly timeoutMs: number | undefined;
  readonly runsWithout: boolean;
  readonly rateSync: Pick<RateSync, "getLimiter">;
}

function limited({ select, mode, timeoutMs, runsWithout, rateSync }: Settings, fn: Callable): Callable {
  if (Object.prototype.toString.call(fn).endsWith("GeneratorFunction]")) {
    throw new InvalidArgumentError(
      "A generator runs after its call has returned, and cannot be limited as a function",
      {
        field: "fn",
        expected: "a function that returns its result or a promise of it",
        received: `the generator function '${fn.name}'`,
      },
    );
  }

  function find(id: string): Limiter | undefined {
    try {
      return rateSync.getLimiter(id);
    } catch (error) {
      if (runsWithout && error instanceof LimiterNotFoundError) return undefined;
      throw error;
    }
  }

  async function call(this: unknown, ...args: unknown[]): Promise<unknown> {
    const { id, ...request } = await select(args);
    const options = { ...request, timeoutMs: request.timeoutMs ?? timeoutMs };
    const limiter = find(id);
    if (!limiter) return await Reflect.apply(fn, this, args);
    const held = mode === "try" ? await limiter.tryAcquire(options) : await limiter.acquire(options);
    if ("allowed" in held && !held.allowed) return null;
    try {
      return await Reflect.apply(fn, this, args);
    } finally {
      await held.release();
    }
  }

  return Object.defineProperties(call, {
    name: { value: fn.name },
    length: { value: fn.length },
  });
}

/** Checks everything that can be checked before the first call, because untyped code may pass anything. */
function settingsOf(limiter: unknown, options: unknown = {}): Settings {
  // This checks that it is an object with these names; their values are checked below.
  const { timeoutMs, mode = "wait", key, rateSync, onMissing } = checkOptions(options as AnyOptions, NAMES);
  if (mode !== "wait" && mode !== "try") {
    throw wrongArgument("rateLimited() either waits or tries", "mode", `"wait" or "try"`, mode);
  }
  if (mode === "try" && timeoutMs === undefined) {
    throw wrongArgument(
      'mode: "try" needs a timeoutMs; 0 is one attempt without waiting',
      "timeoutMs",
      "a number of milliseconds >= 0",
      timeoutMs,
    );
  }
  if (key !== undefined && typeof key !== "function") {
    throw wrongArgument("The key of a call is found by a function of its arguments", "key", "a function", key);
  }
  return {
    select: selectorOf(limiter, key),
    mode,
    timeoutMs: timeoutMs === undefined ? undefined : checkTimeout(timeoutMs),
    runsWithout: isMissingAllowed(onMissing, "run"),
    rateSync: rateSync === undefined ? defaultRegistry : checkMethods(rateSync, "rateSync", "registry", "getLimiter"),
  };
}

const NAMES = namesOf<AnyOptions>({ timeoutMs: true, mode: true, onMissing: true, rateSync: true, key: true });

type AnyOptions = RateLimitedOptions & Partial<KeyOption<unknown[], string>>;

function isMethodContext(context: unknown): boolean {
  return typeof context === "object" && context !== null && "kind" in context && context.kind === "method";
}
