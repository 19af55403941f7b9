import type { CellContext } from "../cell/cell_context.ts";
import { Meter } from "../cell/metrics.ts";
import type { ClockReading } from "../clock.ts";
import { limitsConcurrency, maximumCost } from "../decision/decide.ts";
import { type Codec, stateCodec } from "../decision/state.ts";
import { describe, type Finding } from "../decision/stored.ts";
import { RateLimiterAcquisitionError } from "../errors.ts";
import { createDesk } from "../hand_over/desk.ts";
import { createHandOver } from "../hand_over/hand_over.ts";
import type { LimiterConfig } from "../limiter_config.ts";
import type { Rule } from "../rules/rule.ts";
import { rulesOf } from "../rules/rules.ts";
import { Gate } from "../store/gate.ts";
import { createTimeLimit } from "../store/time_limit.ts";
import { Trips } from "../store/trips.ts";
import { Lateness } from "../waiting/lateness.ts";
import { describeWait, REPORT_AGAIN_MS } from "../waiting/long_wait.ts";
import { spareOf } from "../waiting/pacing.ts";
import { describeLease } from "../waiting/short_lease.ts";
import type { ClosableLimiter, LimiterContext } from "./limiter.ts";
import { createRecovery, type Recovery } from "./recovery.ts";
import type { Askable } from "./wish.ts";

/** What all keys of a limiter have in common. */
export interface Shared extends Askable {
  readonly config: LimiterConfig;
  /** Changes when the limiter moves. */
  context: LimiterContext;
  /** What the cells on the context's store have in common. */
  cells: CellContext;
  readonly rules: readonly Rule[];
  readonly codec: Codec;
  /** Counts for all keys together, including those that were forgotten. Changes when the limiter begins anew. */
  meter: Meter;
  /** Whether the store has been opened, for any key. */
  isOpened: boolean;
  /** The attempt to write and to read, if one is under way or has succeeded. */
  probe: Promise<void> | undefined;
  /**
   * Whether the store has failed a request for any of the keys and nothing was granted since; and whether the log says
   * so.
   */
  failing: "no" | "reported" | "unreported";
  /** For callers that wait without the store in the meantime. */
  readonly recovery: Recovery;
  /** The last failure that was reported, and when. */
  report: { readonly text: string; readonly at: number } | undefined;
  /** Whether nobody can use it any more. */
  isClosed: boolean;
}

/** How far two hosts may disagree that drift by 500 ppm in opposite directions and measure every two seconds. */
const MEASURED_CLOCKS_ERROR_MS = 2;
/** No timer of a busy runtime keeps to less: with a smaller allowance, callers would miss every moment they are granted. */
const LEAST_LATENESS_MS = 2;

/** The {@link Shared} of a limiter that has not been used. */
export function createShared(config: LimiterConfig, context: LimiterContext): Shared {
  const { source, errorMs } = readClock(context);
  // Clocks that are not measured are trusted to agree as far as they are configured to.
  const clockErrorMs = source === "server" ? MEASURED_CLOCKS_ERROR_MS : errorMs;
  const terms = { ...config, timingMarginMs: Math.max(LEAST_LATENESS_MS, context.timingMarginMs), clockErrorMs };
  const rules = rulesOf(config, terms);
  const codec = stateCodec(rules, terms);
  return {
    config,
    context,
    cells: createCellContext(config, context, rules, codec, clockErrorMs),
    rules,
    codec,
    most: maximumCost(rules),
    plainWish: { cost: 1, timeoutMs: config.timeoutMs ?? Infinity, signal: undefined },
    meter: new Meter(),
    isOpened: false,
    probe: undefined,
    failing: "no",
    recovery: createRecovery(),
    report: undefined,
    isClosed: false,
  };
}

/** Moves the limiter to another store or clock. */
export function move(shared: Shared, context: LimiterContext): void {
  const { config, rules, codec, cells: { clockErrorMs } } = shared;
  shared.context = context;
  shared.cells = createCellContext(config, context, rules, codec, clockErrorMs);
  shared.isOpened = false;
  shared.probe = undefined;
  shared.failing = "no";
}

function createCellContext(
  config: LimiterConfig,
  context: LimiterContext,
  rules: readonly Rule[],
  codec: Codec,
  clockErrorMs: number,
): CellContext {
  const { store, logger } = context;
  const handOver = createHandOver(rules, codec);
  const found = new Set<Finding["kind"]>();
  let waitReportedAt = -Infinity;
  let leaseReportedAt = -Infinity;
  const permitRule = rules.findIndex(limitsConcurrency);
  return {
    ...context,
    ...config,
    rules,
    codec,
    clockErrorMs,
    identity: context.identity(),
    nextIdentity: context.identity,
    handOver,
    desk: store.peers && createDesk(store.peers, handOver),
    limit: createTimeLimit(store.clock),
    trips: new Trips(),
    lateness: new Lateness(),
    soleRate: soleRateOf(rules),
    limitsRate: rules.some((rule) => rule.kind === "rate"),
    gate: new Gate(context.mostAtOnce),
    permitRule: permitRule < 0 ? undefined : permitRule,
    toleranceMs: Math.min(...rules.map((rule) => rule.toleranceMs)),
    spareMs: spareOf(rules),
    onFinding(finding) {
      if (found.has(finding.kind)) return;
      found.add(finding.kind);
      logger.warn(`Limiter '${config.id}': ${describe(finding)}`);
    },
    onLongWait(wait) {
      const now = store.clock.now();
      if (config.maxConcurrent === null || now - waitReportedAt < REPORT_AGAIN_MS) return;
      waitReportedAt = now;
      logger.warn(`Limiter '${config.id}': ${describeWait(wait, config.maxConcurrent)}`);
    },
    onShortLease(lease) {
      const now = store.clock.now();
      if (now - leaseReportedAt < REPORT_AGAIN_MS) return;
      leaseReportedAt = now;
      logger.warn(`Limiter '${config.id}': ${describeLease(lease)}`);
    },
  };
}

function soleRateOf([only, ...others]: readonly Rule[]): Rule<number> | undefined {
  // A rate keeps a number.
  return only?.kind === "rate" && others.length === 0 ? only as Rule<number> : undefined;
}

/** The time that the store uses. */
export function readClock({ store, localClock, timingMarginMs }: LimiterContext): ClockReading {
  if (store.readClock) return Object.freeze(store.readClock());
  const { clock } = store;
  const now = clock.now();
  const isHost = clock === localClock;
  return Object.freeze({
    source: isHost ? "host" : "custom",
    now,
    offsetMs: isHost ? 0 : now - localClock.now(),
    errorMs: isHost ? timingMarginMs : 0,
    measuredAt: null,
  });
}

/** The error to throw once the limiter `id` is closed. */
export function closedError(id: string): RateLimiterAcquisitionError {
  return new RateLimiterAcquisitionError(
    `Limiter '${id}' was closed. Get it anew from its registry with getLimiter(), or make another one with createLimiter().`,
    { limiterId: id, attempts: 0, reason: "closed" },
  );
}

/** @throws {RateLimiterAcquisitionError} if the limiter `id` was closed. */
export function mustBeOpen({ isClosed }: Shared, id: string): void {
  if (isClosed) throw closedError(id);
}

/** The limiter that takes the place of a store that failed, with `onFailure: "local"`. */
export function localLimiter({ localLimiter }: LimiterContext, key: string | undefined): ClosableLimiter {
  return key === undefined ? localLimiter() : localLimiter().key(key);
}
