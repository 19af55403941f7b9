import type { Obstacle } from "../decision/decide.ts";
import type { Left } from "../decision/state.ts";
import { RateLimiterAcquisitionError } from "../errors.ts";
import type { Rule } from "../rules/rule.ts";
import { type Lease, LeasedPermit } from "./lease.ts";
import type { Permit, RateLimitResult } from "./result.ts";

/** The answer to a request that was refused. */
export type RefusedResult = Extract<RateLimitResult, { readonly allowed: false }>;

const releaseNothing = () => Promise.resolve();

/** The permit of the limiter `id`. */
export function permitOf(id: string, lease: Lease, waitedMs: number, degraded: boolean): Permit {
  return new LeasedPermit(id, waitedMs, degraded, lease);
}

/** The answer to a request that was granted. `left` is what is left after it. */
export function grantedResult({ limit, remaining, resetInMs }: Left, permit: Permit): RateLimitResult {
  const { limiterId, waitedMs, degraded, release } = permit;
  return Object.freeze({
    limiterId,
    limit,
    remaining,
    resetInMs,
    degraded,
    release,
    [Symbol.asyncDispose]: release,
    allowed: true,
    waitedMs,
    retryAfterMs: 0,
    permit,
  });
}

/** The answer of the limiter `limiterId` to a request that was refused. */
export function refusedResult(
  limiterId: string,
  { limit, remaining, resetInMs }: Left,
  now: number,
  { retryAt, rule }: Obstacle,
  degraded = false,
): RefusedResult {
  return Object.freeze({
    limiterId,
    limit,
    remaining,
    resetInMs,
    degraded,
    release: releaseNothing,
    [Symbol.asyncDispose]: releaseNothing,
    allowed: false,
    retryAfterMs: Math.max(0, retryAt - now),
    rule: rule.label,
  });
}

/**
 * The answer of a limiter that was asked in place of the limiter `limiterId`, whose store failed. `lease` makes the
 * lease of what was granted.
 */
export function inPlace(
  limiterId: string,
  result: RateLimitResult,
  waitedMs: number,
  lease: (permit: Permit) => Lease = (permit) => permit,
): RateLimitResult {
  if (!result.allowed) return Object.freeze({ ...result, limiterId, degraded: true });
  const permit = permitOf(limiterId, lease(result.permit), waitedMs + result.waitedMs, true);
  const { release } = permit;
  return Object.freeze({
    ...result,
    limiterId,
    degraded: true,
    waitedMs: permit.waitedMs,
    release,
    [Symbol.asyncDispose]: release,
    permit,
  });
}

/** Whether the request was refused because all permits are held. */
export function lacksPermit(result: RateLimitResult, rules: readonly Rule[]): boolean {
  return !result.allowed && rules.some(({ kind, label }) => kind === "concurrency" && label === result.rule);
}

/** The error to throw where a refusal is not an acceptable answer. */
export function timedOut(
  refused: RefusedResult,
  { attempts, timeoutMs, waitedMs, lacksPermit }: {
    readonly attempts: number;
    readonly timeoutMs: number;
    readonly waitedMs: number;
    /** Whether a permit is missing: nobody knows when one comes back. */
    readonly lacksPermit: boolean;
  },
): RateLimiterAcquisitionError {
  const { limiterId, rule, retryAfterMs, remaining } = refused;
  const when = timeoutMs === 0 ? "at once" : `within ${timeoutMs / 1_000} s`;
  const later = inSeconds(retryAfterMs);
  const taken = remaining > 0
    ? `what is left of its rule "${rule}" goes to a process that has waited longer`
    : `all permits of its rule "${rule}" are held`;
  const why = lacksPermit
    ? `${taken}. One comes back when it is released, or in ${later} if the holder does ` +
      `not renew it`
    : `its rule "${rule}" has none before ${later} from now`;
  return new RateLimiterAcquisitionError(
    `Unable to acquire slot for limiter '${limiterId}' ${when}: ${why}. It was waited for ${
      inSeconds(waitedMs)
    }. Retry ` +
      `then, or allow a longer timeout.`,
    { ...refused, attempts, reason: "timeout", timeoutMs, waitedMs },
  );
}

/** Rounded up, so that it never names a time that is too early. */
export function inSeconds(ms: number): string {
  return `${(Math.ceil(ms) / 1_000).toFixed(3)} s`;
}
