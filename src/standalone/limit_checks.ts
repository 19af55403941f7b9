import { expectId } from "../config/ids.ts";
import { shown } from "../core/arguments.ts";
import { ConfigValidationError } from "../core/errors.ts";
import { algorithmOf, BOUNDS, type LimiterSettings } from "../core/limiter/defaults.ts";

/** A condition that a value must meet. */
export interface Requirement {
  readonly expected: string;
  readonly fits: (value: unknown) => boolean;
}

/** The condition for each option. No other options exist. */
export type Requirements = Readonly<Record<string, Requirement>>;

/** A number that `fits`. */
export const numberThat = (expected: string, fits: (value: number) => boolean): Requirement => ({
  expected,
  fits: (value) => typeof value === "number" && value <= Number.MAX_SAFE_INTEGER && fits(value),
});

/** One of these words. */
export const oneOf = (...words: readonly string[]): Requirement => ({
  expected: words.map((word) => `"${word}"`).join(" or "),
  fits: (value) => words.some((word) => word === value),
});

export const COUNT = numberThat("an integer >= 1", (value) => Number.isInteger(value) && value >= 1);
export const DURATION = numberThat("a number of milliseconds > 0", (value) => value > 0);
export const WAIT = numberThat("a number of milliseconds >= 0", (value) => value >= 0);

const RATE: Requirements = {
  limit: COUNT,
  windowMs: DURATION,
  burst: numberThat("a number >= 1", (value) => value >= 1),
  algorithm: oneOf("token_bucket", "sliding_window"),
};

const { slowestRate, fastestRate } = BOUNDS;
const FROM_SLOWEST_TO_FASTEST = `from ${slowestRate} to ${fastestRate}`;
const RATE_PER_SECOND = numberThat(
  `a number ${FROM_SLOWEST_TO_FASTEST}`,
  (value) => value >= slowestRate && value <= fastestRate,
);

/** The conditions for the options that define the limits. */
export const LIMITS: Requirements = {
  ...RATE,
  ratePerSecond: RATE_PER_SECOND,
  maxConcurrent: COUNT,
  leaseMs: numberThat("a number of milliseconds >= 1", (value) => value >= 1),
  reserveAheadMs: WAIT,
  timingMarginMs: WAIT,
  rates: { expected: "a list of { limit, windowMs }", fits: Array.isArray },
};

/** The error for a wrong option. */
export function refused(id: string, name: string, expected: string, received: string): ConfigValidationError {
  return new ConfigValidationError(`Limiter '${id}': ${name} must be ${expected}, got ${received}.`, {
    field: `limiters.${id}.${name}`,
    expected,
    received,
  });
}

/** Refuses an option that is missing but required, or given but not allowed; `when` says in which case. */
export function expectGiven(id: string, name: string, value: unknown, isGiven: boolean, when: string): void {
  if ((value !== undefined) === isGiven) return;
  throw refused(id, name, `${isGiven ? "given" : "left out"} ${when}`, value === undefined ? "nothing" : shown(value));
}

/** What may have been meant by an unknown name, as a sentence to append, or nothing. */
type Suggest = (given: string, names: readonly string[]) => string;

/**
 * Checks that each option is what `demands` require, and that together they define a limit. Returns those that are not
 * `undefined`.
 *
 * @throws {ConfigValidationError} if they do not.
 */
export function checkLimits<Options extends Omit<LimiterSettings, "store">>(
  id: string,
  demands: Requirements,
  options: Options,
  suggest: Suggest = () => "",
): Options {
  expectId(id, "limiters", shown(id));
  const checked = checkFields(id, "", demands, options, suggest);
  const { algorithm, ratePerSecond, burst, limit, windowMs, maxConcurrent, rates = [] } = checked;
  const slides = algorithm === "sliding_window";
  const how = `${slides ? "with" : "without"} algorithm "sliding_window"`;
  expectGiven(id, "limit", limit, slides, how);
  expectGiven(id, "windowMs", windowMs, slides, how);
  if (slides) expectGiven(id, "ratePerSecond", ratePerSecond, false, how);
  if (ratePerSecond === undefined) expectGiven(id, "burst", burst, false, "without ratePerSecond");
  for (const [i, rate] of rates.entries()) {
    const path = `rates[${i}].`;
    checkFields(id, path, RATE, rate, suggest);
    expectGiven(id, `${path}limit`, rate.limit, true, "in each rate");
    expectGiven(id, `${path}windowMs`, rate.windowMs, true, "in each rate");
    if (algorithmOf(rate) === "sliding_window") {
      expectGiven(id, `${path}burst`, rate.burst, false, 'with algorithm "sliding_window"');
    } else if (!RATE_PER_SECOND.fits(rate.limit * 1_000 / rate.windowMs)) {
      const ratio = String(rate.limit * 1_000 / rate.windowMs);
      throw refused(id, `rates[${i}]`, `a rate ${FROM_SLOWEST_TO_FASTEST} per second`, `${ratio} per second`);
    }
  }
  if (!slides && maxConcurrent === undefined && rates.length === 0) {
    expectGiven(id, "ratePerSecond", ratePerSecond, true, "where neither maxConcurrent nor rates is");
  }
  return checked;
}

function checkFields<T extends object>(
  id: string,
  path: string,
  demands: Requirements,
  given: T,
  suggest: Suggest,
): T {
  if (typeof given !== "object" || given === null) {
    throw refused(id, path.slice(0, -1) || "options", "an object", shown(given));
  }
  const present = Object.entries(given).filter(([, value]) => value !== undefined);
  for (const [name, value] of present) {
    const demand = Object.hasOwn(demands, name) ? demands[name] : undefined;
    if (!demand) {
      const names = Object.keys(demands);
      throw new ConfigValidationError(`Limiter '${id}': unknown option '${path}${name}'.${suggest(name, names)}`, {
        field: `limiters.${id}.${path}${name}`,
        expected: `one of ${names.join(", ")}`,
        received: "an unknown option",
      });
    }
    if (!demand.fits(value)) throw refused(id, path + name, demand.expected, shown(value));
  }
  return Object.fromEntries(present) as T; // the same entries, all of them checked
}
