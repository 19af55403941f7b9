import type { Cell } from "../cell/cell.ts";
import { ConfigValidationError, RateLimiterAcquisitionError } from "../errors.ts";
import type { Decided, Failed, Outcome } from "../waiting/outcome.ts";
import { type Life, type LifeOwner, shorterOf } from "./life.ts";
import { noteAnswer } from "./outage.ts";
import { closedError, mustBeOpen } from "./shared.ts";
import type { CallOptions } from "./together.ts";
import type { Wish } from "./wish.ts";

/** How a request ended, in which life of its limiter, and after how long. */
export interface Ending<Ended = Decided | Failed> {
  readonly life: Life;
  readonly outcome: Ended;
  readonly waitedMs: number;
  readonly timeoutMs: number;
}

/**
 * Asks until somebody has decided, and first opens the store if need be. The limiter may begin another life in the
 * meantime.
 */
export async function ask(
  limiter: Pick<LifeOwner, "life">,
  options: CallOptions,
  { cost, timeoutMs, signal }: Wish,
  waited = 0,
): Promise<Ending> {
  let waitedMs = waited;
  for (let life = limiter.life;; life = limiter.life) {
    const { clock, shared, owner, context: { localClock } } = life;
    const { backendTimeoutMs } = shared.config;
    const begun = localClock.now();
    try {
      const answerBy = life.answerBy(options);
      signal?.throwIfAborted();
      mustBeOpen(shared, owner.id);
      clock.now(); // says whether it is stale
      let cell = life.cellNow();
      if (!cell) {
        const since = localClock.now();
        const ownMs = timeoutMs > 0 ? Math.max(0, Math.min(timeoutMs - waitedMs, backendTimeoutMs)) : backendTimeoutMs;
        try {
          cell = await life.open(shorterOf(ownMs, answerBy - since), signal);
        } finally {
          // The time that the opening took is gone, for whatever decides in place of the store too.
          waitedMs += localClock.now() - since;
        }
        signal?.throwIfAborted();
        // The timeout went into the opening. With 0 left, the call would pass for one that does not want to wait.
        if (timeoutMs > 0 && waitedMs >= timeoutMs) {
          throw life.tooLate("it could not be opened", { ms: ownMs });
        }
      }
      const since = clock.now();
      const deadline = since + Math.max(0, timeoutMs - waitedMs);
      const silentUntil = answerBy === Infinity ? Infinity : since + answerBy - localClock.now();
      const outcome = await decision(cell, cost, since, deadline, signal, silentUntil);
      if (outcome.kind === "closed") throw closedError(owner.id);
      if (outcome.kind === "granted" && outcome.attempts > 0) noteAnswer(shared);
      waitedMs += Math.max(0, (outcome.kind === "granted" ? outcome.servedAt : clock.now()) - since);
      if (outcome.kind === "abandoned") continue;
      if (outcome.kind === "failed") life.wasSilent(options, outcome.silentMs);
      return { life, outcome, waitedMs: timeoutMs === 0 ? 0 : waitedMs, timeoutMs };
    } catch (error) {
      if (signal?.aborted) life.meter.count("aborted");
      else if (shared.isClosed) throw closedError(owner.id);
      else if (!(error instanceof ConfigValidationError || error instanceof RateLimiterAcquisitionError)) {
        const silentMs = localClock.now() - begun;
        const outcome = { kind: "failed", cause: error, silentMs, attempts: 0 } as const;
        life.wasSilent(options, silentMs);
        return { life, outcome, waitedMs: timeoutMs === 0 ? 0 : waitedMs, timeoutMs };
      }
      throw error;
    }
  }
}

function decision(
  cell: Cell,
  cost: number,
  now: number,
  deadline: number,
  signal: AbortSignal | undefined,
  answerBy: number,
): Promise<Outcome> {
  const outcome = cell.requestNow(cost, now, deadline);
  if (outcome) return Promise.resolve(outcome);
  return new Promise((resolve, reject) => {
    cell.request(cost, now, deadline, resolve, signal, () => reject(signal?.reason), answerBy);
  });
}
