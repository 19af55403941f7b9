/** A request that really started, as its caller saw it. */
export interface Start {
  /** When it started, in milliseconds. */
  readonly at: number;
  readonly cost: number;
  /** When it was released; `Infinity` if it was not. */
  until: number;
}

/** How much rounding may change in a comparison of times, in milliseconds. */
const ROUNDING_MS = 1e-3;

/** A time in which the store lost everything that it had. */
export interface Loss {
  readonly from: number;
  readonly until: number;
}

/** What may exceed a limit, and why. */
export interface Allowance {
  /** How much later than the moment it was granted for a start may be, in milliseconds. */
  readonly lateMs?: number;
  /** When the store lost everything. */
  readonly losses?: readonly Loss[];
  /** How far ahead moments are reserved, in milliseconds. These moments are used even after a loss. */
  readonly reserveAheadMs?: number;
}

/** How many losses can matter in a period: what was reserved before a loss is used up to `reserveAheadMs` after it. */
function lossesBetween({ losses = [], reserveAheadMs = 0 }: Allowance, from: number, until: number): number {
  return losses.filter((loss) => loss.from <= until && loss.until + reserveAheadMs >= from).length;
}

/**
 * The first pair of starts between which a rate was exceeded, if there is one: the total cost of everything that
 * started from one of them to the other may be `burst`, plus what the rate allows for the time between them. Each loss
 * adds the burst once more, and what was reserved before it.
 */
export function rateExcess(
  starts: readonly Start[],
  { ratePerSecond, burst }: { readonly ratePerSecond: number; readonly burst: number },
  allowance: Allowance | number = {},
): string | undefined {
  const given = typeof allowance === "number" ? { lateMs: allowance } : allowance;
  const { lateMs = 0, reserveAheadMs = 0 } = given;
  const perLoss = burst + ratePerSecond * reserveAheadMs / 1_000;
  const sorted = [...starts].sort((a, b) => a.at - b.at);
  for (const [i, first] of sorted.entries()) {
    let sum = 0;
    for (const last of sorted.slice(i)) {
      sum += last.cost;
      const extra = perLoss * lossesBetween(given, first.at, last.at);
      const allowed = burst + (last.at - first.at + lateMs + ROUNDING_MS) * ratePerSecond / 1_000 + extra;
      if (sum > allowed * (1 + 1e-9)) {
        return `cost ${sum} from ${first.at} to ${last.at}, where ${allowed} is allowed`;
      }
    }
  }
  return undefined;
}

/** The first window in which more than `limit` started, if there is one. Each loss adds the limit once more. */
export function windowExcess(
  starts: readonly Start[],
  { limit, windowMs }: { readonly limit: number; readonly windowMs: number },
  allowance: Allowance = {},
): string | undefined {
  const { lateMs = 0 } = allowance;
  const sorted = [...starts].sort((a, b) => a.at - b.at);
  for (const [i, first] of sorted.entries()) {
    const end = first.at + windowMs - lateMs - ROUNDING_MS;
    let sum = 0;
    for (let next = i; next < sorted.length && sorted[next]!.at < end; next++) sum += sorted[next]!.cost;
    const allowed = limit * (1 + lossesBetween(allowance, first.at, end));
    if (sum > allowed + 1e-9) return `cost ${sum} in the window from ${first.at}, where ${allowed} is allowed`;
  }
  return undefined;
}

/**
 * The first moment at which more than `maxConcurrent` ran, if there is one. Holders of a permit that the store forgot,
 * held or reserved, may go on or start beside as many others.
 */
export function concurrencyExcess(
  starts: readonly Start[],
  maxConcurrent: number,
  { losses = [], reserveAheadMs = 0 }: Allowance = {},
): string | undefined {
  for (const { at } of starts) {
    const running = starts.filter((start) => start.at <= at && at < start.until);
    const forgotten = losses.filter(({ from, until }) =>
      from <= at && running.some((start) => start.at <= until + reserveAheadMs)
    );
    const allowed = maxConcurrent * (1 + forgotten.length);
    if (running.length > allowed) return `${running.length} ran at ${at}, where ${allowed} may`;
  }
  return undefined;
}
