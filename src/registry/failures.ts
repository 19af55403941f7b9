import { messageOf } from "../core/cause.ts";
import { RateLimiterError } from "../core/errors.ts";

/**
 * Throws if any of several attempts failed: the failure itself if there is only one, otherwise an error with all their
 * messages and an `AggregateError` as its cause. `summary` says how many of what have failed.
 */
export function throwFailures(
  results: readonly PromiseSettledResult<unknown>[],
  summary: (count: number) => string,
): void {
  const failures = results.flatMap((result) => result.status === "rejected" ? [result.reason] : []);
  if (failures.length === 1) throw failures[0];
  if (failures.length === 0) return;
  const messages = failures.map(messageOf);
  throw new RateLimiterError(`${summary(failures.length)}:\n${messages.join("\n")}`, {
    cause: new AggregateError(failures),
  });
}
