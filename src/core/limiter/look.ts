import { refusalOf } from "../decision/batch.ts";
import { earliestStart, earliestStartBehind } from "../decision/decide.ts";
import { freshState, leftIn, type State } from "../decision/state.ts";
import { ConfigValidationError } from "../errors.ts";
import type { Demand, Rule } from "../rules/rule.ts";
import { grantedResult, inPlace, permitOf, refusedResult } from "./answers.ts";
import { NO_LEASE } from "./lease.ts";
import { type Life, shorterOf } from "./life.ts";
import type { ClosableLimiter } from "./limiter.ts";
import { failure, noteFailure } from "./outage.ts";
import type { LimiterState, RateLimitResult } from "./result.ts";
import { localLimiter, mustBeOpen } from "./shared.ts";
import type { SharedPatience } from "./together.ts";

/** A state that an answer is based on. */
interface View {
  readonly kind: "state";
  readonly state: State;
  readonly now: number;
  /** Until when a start counts as possible now. */
  readonly soon: number;
  /** The total cost of the callers that wait here and come first. */
  readonly ahead: number;
  readonly degraded: boolean;
}

/** The limiter that counts in place of a store that failed, and has to answer. */
interface StandIn {
  readonly kind: "stand-in";
  readonly limiter: ClosableLimiter;
}

const demandOf = (cost: number): Demand => ({ cost, owner: "", permit: 0 });

/**
 * Finds the basis for answering a request of this cost: the state in the store, or what takes its place if the store
 * failed.
 */
async function look(
  life: Life,
  cost: number,
  options: SharedPatience = {},
  signal?: AbortSignal,
): Promise<View | StandIn> {
  const { shared, owner, clock, context: { localClock } } = life;
  const { config, rules } = shared;
  mustBeOpen(shared, owner.id);
  const begun = localClock.now();
  const answerBy = life.answerBy(options);
  const left = () => shorterOf(config.backendTimeoutMs, answerBy - localClock.now());
  try {
    signal?.throwIfAborted();
    const cell = life.cell ?? await life.open(left(), signal);
    const reading = cell.read();
    // The cell knows how long the store may take, but not that a caller cannot wait that long.
    const patience = answerBy === Infinity ? { ms: Infinity } : left();
    const state = signal || patience.ms < Infinity
      ? await life.inTime(reading, "it did not answer", patience, signal)
      : await reading;
    mustBeOpen(shared, owner.id);
    const now = clock.now();
    return { kind: "state", state, now, soon: now + cell.leadAt(now), ahead: cell.waitingCost, degraded: false };
  } catch (error) {
    mustBeOpen(shared, owner.id);
    if (signal?.aborted) life.meter.count("aborted");
    if (signal?.aborted || error instanceof ConfigValidationError) throw error;
    noteFailure(shared, life.meter, error);
    life.wasSilent(options, localClock.now() - begun);
    const now = clock.now();
    const known = life.cell?.known;
    // What only time can change is just as certain without the store.
    if (known && earliestStartBehind(rules, known.parts, now - known.epoch, 0, demandOf(cost)) + known.epoch > now) {
      return { kind: "state", state: known, now, soon: now, ahead: 0, degraded: true };
    }
    if (config.onFailure === "closed") throw failure(owner.id, error, 0);
    if (config.onFailure === "local") return { kind: "stand-in", limiter: localLimiter(life.context, owner.name) };
    return { kind: "state", state: freshState(rules, now), now, soon: now, ahead: 0, degraded: true };
  }
}

/** When a request made now could start behind others whose total cost is `ahead`. */
function startBehind(
  rules: readonly Rule[],
  { epoch, parts }: State,
  now: number,
  ahead: number,
  demand: Demand,
): number {
  const time = now - epoch;
  return earliestStart(rules, parts, time, demand, earliestStartBehind(rules, parts, time, ahead, demand)) + epoch;
}

/** What is left now, as all processes see it. */
export async function stateNow(life: Life): Promise<LimiterState> {
  const { rules } = life.shared;
  const view = await look(life, 1);
  if (view.kind === "stand-in") return await view.limiter.getState();
  const { state, now, soon, ahead } = view;
  const { epoch, parts } = state;
  const usages = rules.map((rule, i) => rule.usage(parts[i]!, now - epoch));
  const start = startBehind(rules, state, now, ahead, demandOf(1));
  return Object.freeze({
    allowed: start <= soon,
    remaining: Math.min(...usages.map(({ remaining }) => remaining)),
    resetAt: Math.ceil(Math.max(...usages.map(({ resetAt }) => resetAt)) + epoch),
    currentUsage: Math.max(...usages.map(({ limit, remaining }) => limit - remaining)),
  });
}

/** Whether a request of this cost would be granted now. Uses nothing up. */
export async function peek(
  life: Life,
  cost: number,
  options: SharedPatience,
  signal: AbortSignal | undefined,
): Promise<RateLimitResult> {
  const { shared: { rules }, owner: { id } } = life;
  const view = await look(life, cost, options, signal);
  if (view.kind === "stand-in") return inPlace(id, await view.limiter.check({ consume: false, cost }), 0);
  const { state, now, soon, ahead, degraded } = view;
  const left = leftIn(rules, state, now);
  if (startBehind(rules, state, now, ahead, demandOf(cost)) <= soon) {
    return grantedResult(left, permitOf(id, NO_LEASE, 0, degraded));
  }
  return refusedResult(id, left, now, refusalOf(rules, state, now, demandOf(cost), ahead), degraded);
}
