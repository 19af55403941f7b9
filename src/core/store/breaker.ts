import { sentenceOf } from "../cause.ts";
import type { Clock } from "../clock.ts";
import { RateLimiterError, StoreUnavailableError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type { Store } from "./store.ts";

/**
 * The state of a store's circuit breaker: `closed` while the store answers, `open` while nobody asks it because it
 * failed too often, and `half_open` while a single call finds out whether it is back.
 *
 * @example
 * ```ts
 * import { type CircuitBreakerState, createRateSync } from "@ratesync/core";
 *
 * const rateSync = createRateSync();
 * rateSync.configureLimiter("api", { ratePerSecond: 100 });
 * const state: CircuitBreakerState = rateSync.getLimiter("api").getMetrics().circuitBreaker;
 * console.log(state); // "closed"
 * ```
 */
export type CircuitBreakerState = "closed" | "open" | "half_open";

/** When a circuit breaker opens, and for how long. */
export interface BreakerSettings {
  /** How many failures in a row open it; with 0 it never opens. */
  readonly failures: number;
  /** How long it stays open at first, in milliseconds. */
  readonly coolDownMs: number;
  /** How long it stays open at most, in milliseconds. */
  readonly maxCoolDownMs: number;
}

/** What is known about a store. The epoch changes with every change of the kind, and tells old calls from new ones. */
export type BreakerState =
  | { readonly kind: "closed"; readonly epoch: number; readonly failures: number }
  | OpenBreaker
  | {
    readonly kind: "half_open";
    readonly epoch: number;
    /** What it was before the call. */
    readonly before: OpenBreaker;
    /** Whether the cool-down was over: only then the next one is longer if the call fails. */
    readonly isDue: boolean;
  };

interface OpenBreaker {
  readonly kind: "open";
  readonly epoch: number;
  /** How many cool-downs there were since the store last answered. */
  readonly openings: number;
  readonly since: number;
  readonly until: number;
}

/** What happened to a call. */
export type BreakerEvent =
  /** The call was let through to find out whether the store is back. */
  | { readonly kind: "probe" }
  | { readonly kind: "success" }
  /** `epoch` is that of the state in which the call began, and `random` a number from 0 to 1. */
  | { readonly kind: "failure"; readonly epoch: number; readonly random: number }
  /** The call ended without saying anything about the store. */
  | { readonly kind: "undecided"; readonly epoch: number };

/** Nothing has failed yet. */
export const CLOSED: BreakerState = { kind: "closed", epoch: 0, failures: 0 };

/** The factor by which a cool-down is longer than the one before it. */
const GROWTH = 2;
/** The part of a cool-down that is left to chance, so that the processes of a fleet do not ask at the same moment. */
const JITTER = 0.25;

/**
 * Whether a call may be made now. One that is `urgent` need not wait for the cool-down, nor does it lengthen the next one,
 * but it does wait for a call that probes.
 */
export function letsThrough(state: BreakerState, now: number, urgent = false): boolean {
  if (state.kind === "closed") return true;
  if (state.kind === "half_open") return false;
  // A clock that went back must not keep the store away for that long.
  return urgent || now >= state.until || now < state.since;
}

/** The state after the event. */
export function nextBreakerState(
  settings: BreakerSettings,
  state: BreakerState,
  event: BreakerEvent,
  now: number,
): BreakerState {
  const epoch = state.epoch + 1;
  switch (event.kind) {
    case "probe":
      return state.kind === "open"
        ? { kind: "half_open", epoch, before: state, isDue: letsThrough(state, now) }
        : state;
    case "success":
      if (state.kind !== "closed") return { kind: "closed", epoch, failures: 0 };
      return state.failures === 0 ? state : { ...state, failures: 0 };
    case "undecided":
      if (state.kind !== "half_open" || event.epoch !== state.epoch) return state;
      return { ...state.before, epoch };
    case "failure": {
      // A call that began before the last change says nothing about the time after it.
      if (event.epoch !== state.epoch || state.kind === "open") return state;
      if (state.kind === "half_open") {
        const { before, isDue } = state;
        return isDue ? opened(settings, epoch, before.openings + 1, event.random, now) : { ...before, epoch };
      }
      const failures = state.failures + 1;
      if (settings.failures === 0 || failures < settings.failures) return { ...state, failures };
      return opened(settings, epoch, 1, event.random, now);
    }
  }
}

function opened(
  { coolDownMs, maxCoolDownMs }: BreakerSettings,
  epoch: number,
  openings: number,
  random: number,
  now: number,
): BreakerState {
  const longest = Math.min(maxCoolDownMs, coolDownMs * GROWTH ** (openings - 1));
  return { kind: "open", epoch, openings, since: now, until: now + longest * (1 - JITTER * random) };
}

/** What a {@link CircuitBreaker} needs. */
export interface BreakerOptions {
  readonly storeId: string;
  readonly settings: BreakerSettings;
  readonly clock: Clock;
  /** A number from 0 to 1. */
  readonly random: () => number;
  /** Is told once that the store is down and once that it is back, and at `debug` what is tried in between. */
  readonly logger: Logger;
}

/** The circuit breaker of a store, for all its callers in this process. Without callers it does nothing. */
export interface CircuitBreaker {
  readonly state: CircuitBreakerState;
  /**
   * The error for a caller that may not ask the store now; `undefined` if it may. `isTaken` says that an earlier caller
   * will ask.
   */
  refusal(isTaken?: boolean): StoreUnavailableError | undefined;
  /**
   * Begins a call. What it returns is passed to {@link CircuitBreaker.failed} if the call fails.
   *
   * @throws {StoreUnavailableError} if it may not be made now.
   */
  enter(urgent?: boolean): number;
  /** The store answered. */
  succeeded(): void;
  /** The call failed. A wrong configuration or argument is not a failure of the store. */
  failed(call: number, error: unknown): void;
  /**
   * Opens the store. Callers that want it at the same time wait for the same attempt, so its failure counts once.
   *
   * @throws {StoreUnavailableError} if it may not be asked now.
   */
  open(store: Store): Promise<void>;
}

/** A {@link CircuitBreaker} that is closed. */
export function createBreaker({ storeId, settings, clock, random, logger }: BreakerOptions): CircuitBreaker {
  let state = CLOSED;
  let cause: unknown;
  let refused: StoreUnavailableError | undefined;
  let opening: Promise<void> | undefined;

  function happens(event: BreakerEvent): void {
    const before = state;
    state = nextBreakerState(settings, state, event, clock.now());
    if (state.kind === before.kind) return;
    refused = undefined;
    if (state.kind === "closed") logger.warn(`Store '${storeId}' answers again: its circuit breaker is closed.`);
    else if (before.kind === "closed") logger.warn(warning());
    else logger.debug?.(`The circuit breaker of store '${storeId}' is ${state.kind}, after it was ${before.kind}.`);
  }

  function warning(): string {
    const { failures, coolDownMs } = settings;
    return `The circuit breaker of store '${storeId}' is open after ${failures} failures in a row. Until the store answers ` +
      `again, requests are answered at once as on_failure says, and it is tried after ${
        coolDownMs / 1_000
      } s and then ` +
      `more rarely. The last failure: ${problemOf(cause, storeId)}`;
  }

  /** One error for all callers: a stack for each would cost more than everything else that is done for it. */
  function refuse(): StoreUnavailableError {
    return refused ??= new StoreUnavailableError(
      `it was not asked, as its circuit breaker is open after ${settings.failures} failures in a row. It is tried again by ` +
        `itself. The last failure: ${problemOf(cause, storeId)}`,
      { store: storeId, outcome: "not_applied", cause },
    );
  }

  async function openNow(store: Store): Promise<void> {
    const epoch = breaker.enter();
    try {
      await store.open();
    } catch (error) {
      breaker.failed(epoch, error);
      throw error;
    }
    // A store that was already open has not asked anybody. The next call will.
    happens({ kind: "undecided", epoch });
  }

  const breaker: CircuitBreaker = {
    get state() {
      return state.kind;
    },
    refusal(isTaken = false) {
      if (state.kind === "closed") return undefined;
      return isTaken || !letsThrough(state, clock.now()) ? refuse() : undefined;
    },
    enter(urgent) {
      if (state.kind !== "closed") {
        if (!letsThrough(state, clock.now(), urgent)) throw refuse();
        happens({ kind: "probe" });
      }
      return state.epoch;
    },
    succeeded() {
      if (state.kind !== "closed" || state.failures > 0) happens({ kind: "success" });
    },
    failed(epoch, error) {
      if (!isFailureOfStore(error)) return happens({ kind: "undecided", epoch });
      cause = error;
      happens({ kind: "failure", epoch, random: random() });
    },
    open: (store) => opening ??= openNow(store).finally(() => opening = undefined),
  };
  return breaker;
}

function isFailureOfStore(error: unknown): boolean {
  return error instanceof StoreUnavailableError || !(error instanceof RateLimiterError);
}

function problemOf(cause: unknown, storeId: string): string {
  const message = sentenceOf(cause);
  const prefix = `Store '${storeId}': `;
  return message.startsWith(prefix) ? message.slice(prefix.length) : message;
}
