/** A request that really started, as its caller saw it. */
export interface Start {
  /** When it started, in milliseconds. */
  readonly at: number;
  readonly cost: number;
  /** When it was released; `Infinity` if it was not. */
  until: number;
}

/** What rounding may change in a comparison of times, in milliseconds. */
const ROUNDING_MS = 1e-3;

/**
 * The first pair of starts between which a rate was exceeded, if there is one: of all that started from one of them to
 * the other, the cost may be `burst`, and what the rate allows for the time between them. `lateMs` is by how much a
 * start may be later than the moment it was granted for.
 */
export function rateExcess(
  starts: readonly Start[],
  { ratePerSecond, burst }: { readonly ratePerSecond: number; readonly burst: number },
  lateMs = 0,
): string | undefined {
  const sorted = [...starts].sort((a, b) => a.at - b.at);
  for (const [i, first] of sorted.entries()) {
    let sum = 0;
    for (const last of sorted.slice(i)) {
      sum += last.cost;
      const allowed = burst + (last.at - first.at + lateMs + ROUNDING_MS) * ratePerSecond / 1_000;
      if (sum > allowed * (1 + 1e-9)) {
        return `cost ${sum} from ${first.at} to ${last.at}, where ${allowed} is allowed`;
      }
    }
  }
  return undefined;
}

/** The first window in which more than `limit` started, if there is one. */
export function windowExcess(
  starts: readonly Start[],
  { limit, windowMs }: { readonly limit: number; readonly windowMs: number },
): string | undefined {
  const sorted = [...starts].sort((a, b) => a.at - b.at);
  for (const [i, first] of sorted.entries()) {
    const inside = sorted.slice(i).filter(({ at }) => at < first.at + windowMs - ROUNDING_MS);
    const sum = inside.reduce((total, { cost }) => total + cost, 0);
    if (sum > limit + 1e-9) return `cost ${sum} in the window from ${first.at}, where ${limit} is allowed`;
  }
  return undefined;
}

/** The first moment at which more than `maxConcurrent` ran, if there is one. */
export function concurrencyExcess(starts: readonly Start[], maxConcurrent: number): string | undefined {
  for (const { at } of starts) {
    const running = starts.filter((start) => start.at <= at && at < start.until).length;
    if (running > maxConcurrent) return `${running} ran at ${at}, where ${maxConcurrent} may`;
  }
  return undefined;
}
