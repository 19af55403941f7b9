import { freshState, leftIn } from "../decision/state.ts";
import type { Failed } from "../waiting/outcome.ts";
import { grantedResult, inPlace, lacksPermit, permitOf } from "./answers.ts";
import type { Ending } from "./asking.ts";
import { type LosableLease, NO_LEASE } from "./lease.ts";
import type { Life } from "./life.ts";
import type { Tentative } from "./limiter.ts";
import { failure, noteAnswer, noteFailure } from "./outage.ts";
import { localLimiter } from "./shared.ts";
import { noteResult } from "./tally.ts";
import { type CallOptions, TOGETHER } from "./together.ts";

/**
 * The store answered again before anything was decided in its place, and is to be asked. Until then the caller has
 * waited for `backAfterMs` milliseconds in all.
 */
export interface BackAgain {
  readonly backAfterMs: number;
}

/**
 * Grants or refuses in place of a store that failed.
 *
 * @throws {RateLimiterAcquisitionError} if the limiter fails closed.
 */
export async function standIn(
  { life, outcome, waitedMs, timeoutMs }: Ending<Failed>,
  options: CallOptions,
): Promise<Tentative | BackAgain> {
  const { shared, owner: { id } } = life;
  const { config, rules } = shared;
  const { cause, attempts } = outcome;
  noteFailure(shared, life.meter, cause);
  if (config.onFailure === "closed") throw failure(id, cause, attempts);
  if (config.onFailure === "open") {
    const result = grantedResult(leftIn(rules, freshState(rules, 0), 0), permitOf(id, NO_LEASE, waitedMs, true));
    return { result, keep: () => noteResult(life, result), cancel: () => Promise.resolve(result) };
  }
  const { localClock } = life.context;
  const begun = localClock.now();
  const local = await takeLocally(life, timeoutMs === 0 ? 0 : Math.max(0, timeoutMs - waitedMs), options);
  if (!local) return { backAfterMs: waitedMs + localClock.now() - begun };
  let lease: LosableLease | undefined;
  const result = inPlace(id, local.result, waitedMs, (permit) => (lease = life.leaseInPlace(permit)) ?? permit);
  if (lacksPermit(result, rules)) life.meter.count("maxConcurrentReached");
  return {
    result,
    keep: () => {
      local.keep();
      noteResult(life, result);
    },
    async cancel() {
      lease?.lose();
      return inPlace(id, await local.cancel(), waitedMs);
    },
  };
}

/** What this process grants or refuses by itself; `undefined` if its store answers again first. */
async function takeLocally(
  life: Life,
  timeoutMs: number,
  { signal, ...options }: CallOptions,
): Promise<Tentative | undefined> {
  const { shared, owner, context } = life;
  // The local limiter is no store that may be silent: it does not share the time that the stores of several limiters
  // have together.
  const alone = { ...options, key: undefined, timeoutMs, [TOGETHER]: undefined };
  const limiter = localLimiter(context, owner.name);
  if (timeoutMs === 0) return await limiter.tryTake({ ...alone, signal });
  const askStore = async () => {
    // Not the life in which the call began: one that is over answers without asking the store.
    const { life } = owner;
    const cell = life.cell ?? await life.open({ ms: shared.config.backendTimeoutMs }, undefined);
    await cell.read();
    if (life === owner.life) noteAnswer(shared);
  };
  return await shared.recovery.during(context.localClock, askStore, async (isBack) => {
    try {
      return await limiter.tryTake({ ...alone, signal: signal ? AbortSignal.any([signal, isBack]) : isBack });
    } catch (error) {
      if (signal?.aborted) life.meter.count("aborted");
      else if (isBack.aborted) return undefined;
      throw error;
    }
  });
}
