import type { Clock } from "../core/clock.ts";
import type { ClosableLimiter } from "../core/limiter/limiter.ts";
import type { Logger } from "../core/logger.ts";
import type { CircuitBreaker } from "../core/store/breaker.ts";
import type { Store } from "../core/store/store.ts";

/** Different stores and a different time for the limiters of a registry. */
export interface World {
  readonly clock: Clock;
  /** The replacement for the store with this id: always the same one. */
  store(id: string): Store;
}

/** A store of a registry, and the limiters that use it. */
export interface StoreInUse {
  /** `undefined` if no limiter has asked for it yet. */
  readonly store?: Store;
  readonly breaker?: CircuitBreaker;
  /** The limiters on it that were asked for. */
  readonly limiters: readonly ClosableLimiter[];
  /** How long it may take to answer, in milliseconds. */
  readonly backendTimeoutMs: number;
}

/** What only tests may do with a registry. It is not part of `RateSync`. */
export interface RegistryAccess {
  readonly logger: Logger;
  readonly clock: Clock;
  /** The ids of all limiters. */
  limiterIds(): string[];
  /** @throws {LimiterNotFoundError} if no limiter has this id. */
  limiter(id: string): ClosableLimiter;
  /** @throws {StoreNotFoundError} if no store has this id. */
  storeInUse(id: string): StoreInUse;
  /** Closes the stores of the present world, and goes on in `world` or, without one, in the real one. */
  moveTo(world: World | undefined): Promise<void>;
}

const accesses = new WeakMap<object, RegistryAccess>();

/** Deposits the access to `registry` here. */
export function leaveAccess(registry: object, access: RegistryAccess): void {
  accesses.set(registry, access);
}

/** The access to `registry`, if that is a registry. */
export function accessTo(registry: object): RegistryAccess | undefined {
  return accesses.get(registry);
}
