import { grantedResult, inPlace, lacksPermit, permitOf } from "./answers.ts";
import type { CallOptions, Ending } from "./asking.ts";
import { NO_LEASE } from "./lease.ts";
import { type Tentative, TOGETHER } from "./limiter.ts";
import { failure, noteFailure } from "./outage.ts";
import type { Failed } from "./outcome.ts";
import { localLimiter } from "./shared.ts";
import { freshState } from "./state.ts";
import { noteResult } from "./tally.ts";

/**
 * What is granted or refused in place of a store that failed.
 *
 * @throws {RateLimiterAcquisitionError} if the limiter fails closed.
 */
export async function standIn(
  { life, outcome, waitedMs, timeoutMs }: Ending<Failed>,
  options: CallOptions,
): Promise<Tentative> {
  const { shared, owner: { id, name } } = life;
  const { config, rules } = shared;
  const { cause, attempts } = outcome;
  noteFailure(shared, life.meter, cause);
  if (config.onFailure === "closed") throw failure(id, cause, attempts);
  if (config.onFailure === "open") {
    const result = grantedResult(rules, freshState(rules, 0), 0, permitOf(id, NO_LEASE, waitedMs, true));
    return { result, keep: () => noteResult(life, result), cancel: () => Promise.resolve(result) };
  }
  const left = timeoutMs === 0 ? 0 : Math.max(0, timeoutMs - waitedMs);
  // It has time of its own: what the stores of several may take together is over.
  const local = await localLimiter(life.context, name).tryTake({
    ...options,
    key: undefined,
    timeoutMs: left,
    [TOGETHER]: undefined,
  });
  const result = inPlace(id, local.result, waitedMs, (permit) => life.leaseInPlace(permit));
  if (lacksPermit(result, rules)) life.meter.count("maxConcurrentReached");
  return {
    result,
    keep: () => {
      local.keep();
      noteResult(life, result);
    },
    async cancel() {
      if (config.maxConcurrent !== null && result.allowed) life.meter.permit(-1);
      return inPlace(id, await local.cancel(), waitedMs);
    },
  };
}
