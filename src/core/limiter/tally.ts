import { inSeconds } from "./answers.ts";
import type { Life } from "./life.ts";
import type { RateLimitResult } from "./result.ts";

/** Counts what a caller was told, and logs it. */
export function noteResult(life: Life, result: RateLimitResult): void {
  if (result.allowed) return noteGrant(life, life.clock.now(), result.waitedMs, result.degraded);
  const { rule, retryAfterMs } = result;
  life.meter.count("timeouts");
  life.context.logger.debug?.(
    `Limiter '${life.owner.id}': refused by "${rule}", which has more in ${inSeconds(retryAfterMs)}.`,
  );
}

/** Counts a grant, and logs it. */
export function noteGrant(
  { meter, owner, context: { logger } }: Life,
  now: number,
  waitedMs: number,
  degraded: boolean,
): void {
  meter.granted(now, waitedMs);
  if (degraded) meter.degraded();
  logger.debug?.(
    `Limiter '${owner.id}': granted after ${inSeconds(waitedMs)}${degraded ? ", without its store" : ""}.`,
  );
}
