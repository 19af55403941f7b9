import { kindOf } from "../core/arguments.ts";
import { algorithmOf, BOUNDS } from "../core/limiter/defaults.ts";
import type { RateSpec } from "../core/limiter_config.ts";
import {
  choice,
  duration,
  type Field,
  type Fields,
  flag,
  nameIn,
  number,
  readFields,
  text,
  type Values,
} from "./fields.ts";
import type { LimiterOptions } from "./options.ts";
import {
  checkId,
  isRecord,
  type Place,
  refuse,
  refuseConflict,
  refuseMissing,
  refuseValue,
  type Section,
  sectionInCode,
} from "./section.ts";

const algorithm = { toml: "algorithm", read: choice("token_bucket", "sliding_window") } satisfies Field<string>;
const limit = { toml: "limit", read: number({ integer: true, from: 1 }) } satisfies Field<number>;
const windowMs = { toml: "window_seconds", read: duration({ above: 0 }) } satisfies Field<number>;
const burst = { toml: "burst", read: number({ from: 1, to: Number.MAX_SAFE_INTEGER }) } satisfies Field<number>;

const RATE_FIELDS = { limit, windowMs, burst, algorithm } satisfies Fields;

const LIMITER_FIELDS = {
  store: { toml: "store", read: text("") },
  algorithm,
  ratePerSecond: { toml: "rate_per_second", read: readRate },
  burst,
  maxConcurrent: { toml: "max_concurrent", read: number({ integer: true, from: 1 }) },
  leaseMs: { toml: "lease", read: duration({ from: 1 }) },
  limit,
  windowMs,
  rates: { toml: "rates", read: readRates },
  timeoutMs: {
    toml: "timeout",
    read: duration({ from: 0, ifInfinite: "Leave it out, and acquire() waits as long as it takes." }),
  },
  failClosed: { toml: "fail_closed", read: flag() },
  onFailure: { toml: "on_failure", read: choice("open", "closed", "local") },
  backendTimeoutMs: { toml: "backend_timeout", read: duration({ above: 0, to: BOUNDS.longestTimeoutMs }) },
  reserveAheadMs: { toml: "reserve_ahead", read: duration({ from: 0 }) },
  prefetch: { toml: "prefetch", read: number({ integer: true, from: 0, to: BOUNDS.mostPrefetched }) },
  replace: { toml: undefined, read: flag() },
} satisfies Fields;

type LimiterValues = Values<typeof LIMITER_FIELDS>;

/**
 * Checks a limiter's options that were given in code.
 *
 * @param id The id of the limiter.
 * @param options What `configureLimiter` was given; untyped code may pass anything.
 * @returns The options, without those that are `undefined`.
 * @throws {ConfigValidationError} If the id or an option is wrong, not known, missing, or contradicts another.
 */
export function checkLimiterOptions(id: string, options: unknown): LimiterOptions {
  checkId(id, "limiters");
  const title = `Limiter '${id}'`;
  return readLimiter(sectionInCode({ path: `limiters.${id}`, title, example: "{ ratePerSecond: 100 }" }, options));
}

/**
 * Reads a `[limiters.<id>]` table, or the same options in code. The caller has to check whether its store exists.
 *
 * @throws {ConfigValidationError} If an option is wrong, not known, missing, or contradicts another.
 */
export function readLimiter(section: Section): LimiterOptions {
  const values = readFields(LIMITER_FIELDS, section);
  if (section.dialect === "toml" && values.store === undefined) {
    throw refuseMissing(section, "store", "Missing required field 'store' in limiter config.", "the id of a store");
  }
  checkFailureMode(section, values);
  checkRates(section, values);
  checkAlgorithm(section, values);
  checkPrefetch(section, values);
  const checked: object = values;
  return checked as LimiterOptions; // the checks above leave only the combinations that the type lists
}

function readRate(value: unknown, place: Place): number {
  const rate = number({ above: 0, to: BOUNDS.fastestRate })(value, place);
  if (rate < BOUNDS.slowestRate) throw refuseValue(place, value, ">= 1e-9", "a number > 0, and >= 1e-9");
  return rate;
}

function readRates(value: unknown, { section, key }: Place): readonly RateSpec[] {
  const name = (codeName: keyof typeof RATE_FIELDS) => nameIn(section, RATE_FIELDS, codeName);
  const entries = section.dialect === "toml" ? "tables" : "objects";
  const expected = `a list of ${entries} with ${name("limit")} and ${name("windowMs")}`;
  if (!Array.isArray(value)) throw refuseValue({ section, key }, value, expected, expected);
  // Unlike map(), it does not leave out the holes of a list.
  return Array.from(value, (entry: unknown, index) => readRateSpec(entry, { section, key: `${key}[${index}]` }));
}

function readRateSpec(entry: unknown, { section, key }: Place): RateSpec {
  const kind = section.dialect === "toml" ? "a table" : "an object";
  const expected = `${kind} with ${nameIn(section, RATE_FIELDS, "limit")} and ${
    nameIn(section, RATE_FIELDS, "windowMs")
  }`;
  if (!isRecord(entry)) {
    throw refuse(section, `${key} must be ${expected}.`, {
      field: `${section.path}.${key}`,
      expected,
      received: kindOf(entry),
    });
  }
  const inner: Section = {
    ...section,
    path: `${section.path}.${key}`,
    title: `${section.title}, ${key}`,
    values: entry,
  };
  const { limit, windowMs, ...rest } = readFields(RATE_FIELDS, inner);
  if (limit === undefined) throw refuseMissingIn(inner, "limit");
  if (windowMs === undefined) throw refuseMissingIn(inner, "windowMs");
  return { limit, windowMs, ...rest } as RateSpec; // checkRates() looks at the burst, once the algorithm is known
}

function refuseMissingIn(section: Section, codeName: keyof typeof RATE_FIELDS): Error {
  const name = nameIn(section, RATE_FIELDS, codeName);
  const both = `'${nameIn(section, RATE_FIELDS, "limit")}' and '${nameIn(section, RATE_FIELDS, "windowMs")}'`;
  return refuseMissing(section, name, `Missing required field '${name}': a rate needs ${both}.`, both);
}

function checkFailureMode(section: Section, { failClosed, onFailure }: LimiterValues): void {
  if (failClosed === undefined || onFailure === undefined || failClosed === (onFailure === "closed")) return;
  const name = nameIn(section, LIMITER_FIELDS, "onFailure");
  const other = nameIn(section, LIMITER_FIELDS, "failClosed");
  throw refuseConflict(
    section,
    name,
    `${other} = ${failClosed} contradicts ${name} = "${onFailure}". Keep one of the two.`,
  );
}

function checkRates(section: Section, { rates = [] }: LimiterValues): void {
  for (const [index, rate] of rates.entries()) {
    const { limit, windowMs, burst } = rate;
    if (algorithmOf(rate) === "token_bucket") checkRatio(section, `rates[${index}]`, limit * 1_000 / windowMs);
    else if (burst !== undefined) {
      throw refuseConflict(
        section,
        `rates[${index}].burst`,
        `rates[${index}].burst belongs to token_bucket, and this rate is a sliding_window.`,
      );
    }
  }
}

function checkPrefetch(section: Section, values: LimiterValues): void {
  const { prefetch = 0, algorithm = "token_bucket", maxConcurrent, rates = [] } = values;
  if (prefetch === 0) return;
  const other = maxConcurrent !== undefined
    ? `'${nameIn(section, LIMITER_FIELDS, "maxConcurrent")}'`
    : algorithm === "sliding_window"
    ? "sliding_window"
    : rates.some((rate) => algorithmOf(rate) === "sliding_window")
    ? "'rates' that have no 'burst', and so are windows"
    : undefined;
  if (other === undefined) return;
  const name = nameIn(section, LIMITER_FIELDS, "prefetch");
  throw refuseConflict(
    section,
    name,
    `'${name}' takes slots of a rate ahead, and does not go with ${other}: leave one of the two out.`,
  );
}

function checkRatio(section: Section, key: string, ratePerSecond: number): void {
  if (ratePerSecond >= BOUNDS.slowestRate && ratePerSecond <= BOUNDS.fastestRate) return;
  const [limit, window] = [nameIn(section, RATE_FIELDS, "limit"), nameIn(section, RATE_FIELDS, "windowMs")];
  throw refuse(
    section,
    `${key} stands for ${ratePerSecond} per second, which no clock can keep. Correct ${limit} or ${window}.`,
    {
      field: `${section.path}.${key}`,
      expected: `${limit} and ${window} that make a rate from 1e-9 to 1e9 per second`,
      received: `${ratePerSecond} per second`,
    },
  );
}

function checkAlgorithm(section: Section, values: LimiterValues): void {
  const { algorithm = "token_bucket", ratePerSecond, burst, maxConcurrent, rates, limit, windowMs } = values;
  const name = (codeName: keyof typeof LIMITER_FIELDS) => nameIn(section, LIMITER_FIELDS, codeName);
  const slides = algorithm === "sliding_window";
  const ofWindow = limit !== undefined ? name("limit") : windowMs !== undefined ? name("windowMs") : undefined;
  if (ratePerSecond !== undefined && ofWindow !== undefined) {
    throw refuseConflict(
      section,
      slides ? name("ratePerSecond") : ofWindow,
      `Cannot specify both token_bucket (${name("ratePerSecond")}) and sliding_window (${name("limit")}+${
        name("windowMs")
      }) parameters.`,
    );
  }
  if (slides) {
    if (limit === undefined || windowMs === undefined) {
      const missing = name(limit === undefined ? "limit" : "windowMs");
      throw refuseMissing(
        section,
        missing,
        `sliding_window requires both '${name("limit")}' and '${name("windowMs")}'.` +
          (ratePerSecond === undefined ? "" : ` '${name("ratePerSecond")}' belongs to token_bucket.`),
        `'${missing}' to be given`,
      );
    }
    if (burst !== undefined) {
      throw refuseConflict(
        section,
        name("burst"),
        `'${name("burst")}' belongs to token_bucket, and not to sliding_window.`,
      );
    }
    return;
  }
  if (ofWindow !== undefined) {
    throw refuseConflict(
      section,
      ofWindow,
      `'${ofWindow}' belongs to sliding_window. Say so with ${name("algorithm")} "sliding_window", or limit by '${
        name("ratePerSecond")
      }'.`,
    );
  }
  if (burst !== undefined && ratePerSecond === undefined) {
    throw refuseConflict(
      section,
      name("burst"),
      `'${name("burst")}' is how much of a rate may come at once, and needs '${name("ratePerSecond")}'.`,
    );
  }
  if (ratePerSecond === undefined && maxConcurrent === undefined && (rates === undefined || rates.length === 0)) {
    if (rates !== undefined) {
      const other = `'${name("ratePerSecond")}' or '${name("maxConcurrent")}'`;
      throw refuse(section, `'${name("rates")}' is empty, and nothing else limits. Fill it, or give ${other}.`, {
        field: `${section.path}.${name("rates")}`,
        expected: `a list with at least one entry, or ${other}`,
        received: "an empty list",
      });
    }
    const choices = `'${name("ratePerSecond")}', '${name("maxConcurrent")}' or '${name("rates")}'`;
    throw refuseMissing(
      section,
      name("ratePerSecond"),
      `token_bucket requires at least one of ${choices}.`,
      `at least one of ${choices}`,
    );
  }
}
