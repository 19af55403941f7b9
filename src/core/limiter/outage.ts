import { sentenceOf } from "../cause.ts";
import type { Meter } from "../cell/metrics.ts";
import { RateLimiterAcquisitionError } from "../errors.ts";
import type { Shared } from "./shared.ts";

/**
 * The same failure is reported again only after this long, whether it has come back or never went away: one key may
 * fail again and again.
 */
const REPORT_AGAIN_MS = 10_000;

const UNTIL_BACK = {
  open: 'requests are admitted without a limit (on_failure = "open")',
  closed: 'requests are refused (on_failure = "closed")',
  local: 'the limit holds within this process only (on_failure = "local")',
};

/**
 * Counts a request that the store failed, and says what happens to requests until it is back: once, and not too often.
 */
export function noteFailure(shared: Shared, meter: Meter, cause: unknown): void {
  const { config, context: { logger, localClock } } = shared;
  meter.count("backendFailures");
  if (shared.failing === "reported") return;
  shared.failing = "unreported";
  const text = `Limiter '${config.id}': ${sentenceOf(cause)} Until the store is back, ${UNTIL_BACK[config.onFailure]}.`;
  const at = localClock.now();
  if (text === shared.report?.text && at - shared.report.at < REPORT_AGAIN_MS) return;
  shared.report = { text, at };
  shared.failing = "reported";
  if (config.onFailure === "closed") logger.error(text);
  else logger.warn(text);
}

/** The store has answered. */
export function noteAnswer(shared: Shared): void {
  if (shared.failing === "no") return;
  const wasReported = shared.failing === "reported";
  shared.failing = "no";
  shared.recovery.happened();
  if (wasReported) shared.context.logger.warn(`Limiter '${shared.config.id}': its store answers again.`);
}

/** The error to throw if the store failed and the limiter `id` fails closed. */
export function failure(id: string, cause: unknown, attempts: number): RateLimiterAcquisitionError {
  return new RateLimiterAcquisitionError(
    `Limiter '${id}' could not ask its store, and it fails closed (fail_closed, on_failure = "closed"): ${
      sentenceOf(cause)
    }`,
    { limiterId: id, attempts, reason: "backend", cause },
  );
}
