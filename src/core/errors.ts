/**
 * The base of every error that this package throws on purpose: one `catch` for all of them.
 *
 * @example
 * ```ts
 * import { acquire, RateLimiterError } from "@ratesync/core";
 *
 * try {
 *   await acquire("nobody-configured-this");
 * } catch (error) {
 *   console.log(error instanceof RateLimiterError); // true
 * }
 * ```
 */
export class RateLimiterError extends Error {
  /** The name of this class, even if several copies of this package are loaded. */
  override name = "RateLimiterError";
}

/**
 * What a value was, and what it should have been: the facts in every {@link ConfigValidationError} and
 * {@link InvalidArgumentError}.
 *
 * @example
 * ```ts
 * import type { Mismatch } from "@ratesync/core";
 *
 * const mismatch: Mismatch = { field: "limiters.api.burst", expected: "a number >= 1", received: "0" };
 * console.log(mismatch.field); // "limiters.api.burst"
 * ```
 */
export interface Mismatch {
  /** The path of the value, e.g. `limiters.api.rate_per_second`. */
  readonly field: string;
  /** What would have been right, in words. */
  readonly expected: string;
  /** What was there, as far as it may be shown: never a secret. */
  readonly received: string;
}

function withMismatch(message: string, { field, expected, received }: Mismatch): string {
  return `${message} (field='${field}', expected=${expected}, received=${received})`;
}

/**
 * A configuration, from TOML or from code, that cannot be used. None of it has been applied.
 *
 * @example
 * ```ts
 * import { ConfigValidationError, configureLimiter } from "@ratesync/core";
 *
 * try {
 *   configureLimiter("slow", { ratePerSecond: -1 });
 * } catch (error) {
 *   if (error instanceof ConfigValidationError) console.log(error.field); // "limiters.slow.ratePerSecond"
 * }
 * ```
 */
export class ConfigValidationError extends RateLimiterError implements Mismatch {
  /** The name of this class, even if several copies of this package are loaded. */
  override name = "ConfigValidationError";
  /** The path of the wrong value. */
  readonly field: string;
  /** What would have been right. */
  readonly expected: string;
  /** What was there instead; secrets are masked. */
  readonly received: string;
  /** The configuration file, if the value came from one. */
  readonly file: string | undefined;
  /** What is wrong, in a sentence: the message without the file and the facts. */
  readonly problem: string;

  /** The message is completed with the file, if there is one, and with the facts of `mismatch`. */
  constructor(message: string, mismatch: Mismatch & { readonly file?: string | undefined }, options?: ErrorOptions) {
    super((mismatch.file ? `${mismatch.file}: ` : "") + withMismatch(message, mismatch), options);
    this.field = mismatch.field;
    this.expected = mismatch.expected;
    this.received = mismatch.received;
    this.file = mismatch.file;
    this.problem = message;
  }
}

/**
 * A call with an argument that cannot be right, such as a negative timeout.
 *
 * @example
 * ```ts
 * import { createRateSync, InvalidArgumentError } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("api", { ratePerSecond: 10 });
 * try {
 *   await rateSync.acquire("api", { timeoutMs: -1 });
 * } catch (error) {
 *   if (error instanceof InvalidArgumentError) console.log(error.field); // "timeoutMs"
 * }
 * ```
 */
export class InvalidArgumentError extends RateLimiterError implements Mismatch {
  /** The name of this class, even if several copies of this package are loaded. */
  override name = "InvalidArgumentError";
  /** The name of the argument. */
  readonly field: string;
  /** What would have been right. */
  readonly expected: string;
  /** What was given instead. */
  readonly received: string;

  /** The message is completed with the facts of `mismatch`. */
  constructor(message: string, mismatch: Mismatch) {
    super(withMismatch(message, mismatch));
    this.field = mismatch.field;
    this.expected = mismatch.expected;
    this.received = mismatch.received;
  }
}

/**
 * A request that no amount of waiting can satisfy, because it asks for more than the limit ever allows at once.
 *
 * @example
 * ```ts
 * import { createRateSync, ImpossibleCostError } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("api", { ratePerSecond: 10, burst: 5 });
 * try {
 *   await rateSync.acquire("api", { cost: 6 });
 * } catch (error) {
 *   if (error instanceof ImpossibleCostError) console.log(error.maximum); // 5
 * }
 * ```
 */
export class ImpossibleCostError extends RateLimiterError {
  /** The name of this class, even if several copies of this package are loaded. */
  override name = "ImpossibleCostError";

  /** Says which limiter cannot serve `cost`, and the `maximum` that its `rule` can. */
  constructor(
    /** The limiter that was asked. */
    readonly limiterId: string,
    /** What was asked for. */
    readonly cost: number,
    /** The most that one request may ask for. */
    readonly maximum: number,
    /** The rule with that maximum, e.g. `100/s, burst 5`. */
    readonly rule: string,
  ) {
    super(
      `Limiter '${limiterId}' can never grant a cost of ${cost}: its rule "${rule}" allows at most ${maximum} at once. ` +
        `Ask for at most ${maximum}, or raise the limit (a rate rule allows its 'burst', a sliding window its 'limit').`,
    );
  }
}

/**
 * Why an acquisition failed: its `timeout` passed or could not be kept, the `backend` failed and the limiter fails
 * closed, or the limiter was `closed`.
 *
 * @example
 * ```ts
 * import type { AcquisitionFailure } from "@ratesync/core";
 *
 * const shouldRetryLater = (reason: AcquisitionFailure) => reason === "timeout";
 * console.log(shouldRetryLater("backend")); // false
 * ```
 */
export type AcquisitionFailure = "timeout" | "backend" | "closed";

/**
 * No slot could be acquired. {@link RateLimiterAcquisitionError.reason} tells a full limit from a store that is down.
 *
 * @example
 * ```ts
 * import { createRateSync, RateLimiterAcquisitionError } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("api", { ratePerSecond: 0.1 });
 * await rateSync.acquire("api");
 * try {
 *   await rateSync.acquire("api", { timeoutMs: 50 });
 * } catch (error) {
 *   if (error instanceof RateLimiterAcquisitionError) console.log(error.reason); // "timeout"
 * }
 * ```
 */
export class RateLimiterAcquisitionError extends RateLimiterError {
  /** The name of this class, even if several copies of this package are loaded. */
  override name = "RateLimiterAcquisitionError";
  /** The limiter that was asked. */
  readonly limiterId: string;
  /** How often the request was decided before it was abandoned. */
  readonly attempts: number;
  /** What stood in the way. */
  readonly reason: AcquisitionFailure;
  /** How long the request was willing to wait, in milliseconds, if that was not enough. */
  readonly timeoutMs: number | undefined;
  /** How long it did wait, in milliseconds, if that was not enough: 0 if waiting could not have helped. */
  readonly waitedMs: number | undefined;
  /** After how many milliseconds the same request could succeed, if the limiter can tell. */
  readonly retryAfterMs: number | undefined;
  /** The rule that refused, e.g. `100/s, burst 1`, if one did. */
  readonly rule: string | undefined;
  /** How much the limiter allows at once, if it refused. */
  readonly limit: number | undefined;
  /** How much of that is left, if it refused: less than was asked for. */
  readonly remaining: number | undefined;
  /** After how many milliseconds all of it is available again, if it refused. */
  readonly resetInMs: number | undefined;

  /** Takes the message and the facts behind it. `cause` is the failure of the store, if that was the reason. */
  constructor(
    message: string,
    facts: {
      readonly limiterId: string;
      readonly attempts: number;
      readonly reason: AcquisitionFailure;
      readonly timeoutMs?: number | undefined;
      readonly waitedMs?: number | undefined;
      readonly retryAfterMs?: number | undefined;
      readonly rule?: string | undefined;
      readonly limit?: number | undefined;
      readonly remaining?: number | undefined;
      readonly resetInMs?: number | undefined;
      readonly cause?: unknown;
    },
  ) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.limiterId = facts.limiterId;
    this.attempts = facts.attempts;
    this.reason = facts.reason;
    this.timeoutMs = facts.timeoutMs;
    this.waitedMs = facts.waitedMs;
    this.retryAfterMs = facts.retryAfterMs;
    this.rule = facts.rule;
    this.limit = facts.limit;
    this.remaining = facts.remaining;
    this.resetInMs = facts.resetInMs;
  }
}

/**
 * The store failed, cannot be reached, or cannot be used as it is. The message says what to do about it.
 *
 * @example
 * ```ts
 * import { StoreUnavailableError } from "@ratesync/core";
 *
 * const error = new StoreUnavailableError("The disk is full. Free some space.", { store: "mine", outcome: "not_applied" });
 * console.log(error.store, error.outcome); // "mine" "not_applied"
 * ```
 */
export class StoreUnavailableError extends RateLimiterError {
  /** The name of this class, even if several copies of this package are loaded. */
  override name = "StoreUnavailableError";
  /** The id of the store. */
  readonly store: string;
  /** Whether a write that failed with this error may have been applied, or may be applied later. */
  readonly outcome: "unknown" | "not_applied";

  /** Takes a whole sentence that says what happened and what to do, without any secret in it. */
  constructor(
    message: string,
    facts: { readonly store: string; readonly outcome?: "unknown" | "not_applied"; readonly cause?: unknown },
  ) {
    super(`Store '${facts.store}': ${message}`, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.store = facts.store;
    this.outcome = facts.outcome ?? "unknown";
  }
}

/**
 * `tryAcquireSync()` cannot answer without asking a store that is not in the memory of this process, or that is still
 * being opened. Nothing was used up: `tryAcquire()` asks the store.
 *
 * @example
 * ```ts
 * import { configureLimiter, configureStore, getLimiter, NotSynchronousError } from "@ratesync/core";
 *
 * configureStore("far", { engine: "nats", url: "nats://localhost:4222" });
 * configureLimiter("elsewhere", { store: "far", ratePerSecond: 1 });
 * try {
 *   getLimiter("elsewhere").tryAcquireSync();
 * } catch (error) {
 *   console.log(error instanceof NotSynchronousError && error.limiterId); // "elsewhere"
 * }
 * ```
 */
export class NotSynchronousError extends RateLimiterError {
  /** The name of this class, even if several copies of this package are loaded. */
  override name = "NotSynchronousError";

  /** Takes the id of the limiter that could not answer. */
  constructor(
    /** The limiter that was asked; for a keyed limiter `id:key`. */
    readonly limiterId: string,
  ) {
    super(
      `Limiter '${limiterId}' cannot answer at once: its store has to be asked, which takes no time only for one in the ` +
        `memory of this process that is not just being opened or reset. Nothing was used up. Use tryAcquire() instead.`,
    );
  }
}

/**
 * No store has this id.
 *
 * @example
 * ```ts
 * import { createRateSync, StoreNotFoundError } from "@ratesync/core";
 *
 * try {
 *   createRateSync().configureLimiter("api", { store: "nats", ratePerSecond: 10 });
 * } catch (error) {
 *   if (error instanceof StoreNotFoundError) console.log(error.storeId); // "nats"
 * }
 * ```
 */
export class StoreNotFoundError extends RateLimiterError {
  /** The name of this class, even if several copies of this package are loaded. */
  override name = "StoreNotFoundError";

  /** `known` are the ids that exist. */
  constructor(
    /** The id that was looked up. */
    readonly storeId: string,
    known: readonly string[],
  ) {
    super(
      `Store '${storeId}' not found. Configure it first with configureStore() or in rate-sync.toml; ${
        knownIds("stores", known)
      }. ${WHEN_THE_FILE_IS_READ}`,
    );
  }
}

/**
 * No limiter has this id.
 *
 * @example
 * ```ts
 * import { createRateSync, LimiterNotFoundError } from "@ratesync/core";
 *
 * try {
 *   createRateSync().getLimiter("api");
 * } catch (error) {
 *   if (error instanceof LimiterNotFoundError) console.log(error.limiterId); // "api"
 * }
 * ```
 */
export class LimiterNotFoundError extends RateLimiterError {
  /** The name of this class, even if several copies of this package are loaded. */
  override name = "LimiterNotFoundError";

  /** `known` are the ids that exist. */
  constructor(
    /** The id that was looked up. */
    readonly limiterId: string,
    known: readonly string[],
  ) {
    super(
      `Limiter '${limiterId}' not found. Configure it first with configureLimiter() or in rate-sync.toml; ${
        knownIds("limiters", known)
      }. ${WHEN_THE_FILE_IS_READ}`,
    );
  }
}

const WHEN_THE_FILE_IS_READ =
  "The file is read by loadConfig(), and by itself only where the module's functions are used and nothing was " +
  "configured in code before.";

function knownIds(what: string, known: readonly string[]): string {
  if (known.length === 0) return `there are no ${what} yet`;
  const shown = known.slice(0, 10).map((id) => `'${id}'`).join(", ");
  return `the ${what} are ${shown}${known.length > 10 ? ` and ${known.length - 10} more` : ""}`;
}

/**
 * An id was configured before with other values. Configuring it again with the same values changes nothing and is not
 * an error; `replace: true` makes the new values count.
 *
 * @example
 * ```ts
 * import { createRateSync, RateLimiterAlreadyConfiguredError } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("api", { ratePerSecond: 10 });
 * try {
 *   rateSync.configureLimiter("api", { ratePerSecond: 20 });
 * } catch (error) {
 *   if (error instanceof RateLimiterAlreadyConfiguredError) console.log(error.id); // "api"
 * }
 * ```
 */
export class RateLimiterAlreadyConfiguredError extends RateLimiterError {
  /** The name of this class, even if several copies of this package are loaded. */
  override name = "RateLimiterAlreadyConfiguredError";

  /** Says which `kind` of thing exists already, and which options differ. */
  constructor(
    kind: "store" | "limiter",
    /** The id that is taken. */
    readonly id: string,
    differing: readonly string[],
  ) {
    super(
      `${kind === "store" ? "Store" : "Limiter"} '${id}' is already configured with other values (${
        differing.join(", ")
      }). Pass replace: true to change it, or use another id.`,
    );
  }
}
