import type { ConfigValidationError } from "../core/errors.ts";
import { suggestion } from "./names.ts";
import { holdsKeyMaterial } from "./secrets.ts";
import { isRecord, type Place, refuse, refuseValue, type Section, shownName } from "./section.ts";

/** An option: its two names, and how its value is read. */
export interface Field<T> {
  /** The name in TOML; `undefined` if it can only be given in code. */
  readonly toml: string | undefined;
  /** Whether an empty text in TOML means that the option is not given, as with `token = "${NATS_TOKEN:-}"`. */
  readonly emptyIsAbsent?: boolean;
  /** Checks a value and turns it into what the options in code hold. */
  readonly read: (value: unknown, place: Place) => T;
}

/** The options of a table, by their names in code. */
export type Fields = Readonly<Record<string, Field<unknown>>>;

/** The result of reading a table of options: those that were there. */
export type Values<F extends Fields> = { readonly [K in keyof F]?: F[K] extends Field<infer T> ? T : never };

/** The name of an option as the section writes it. */
export function nameIn(section: Section, fields: Fields, codeName: string): string {
  return section.dialect === "code" ? codeName : fields[codeName]?.toml ?? codeName;
}

/**
 * Reads a whole table of options. `foreign` says of options that belong elsewhere, in a sentence, where they belong.
 *
 * @throws {ConfigValidationError} If an option is not known or has a wrong value.
 */
export function readFields<F extends Fields>(
  fields: F,
  section: Section,
  foreign: (key: string, value: unknown) => string | "ignore" | undefined = () => undefined,
): Values<F> {
  const codeNames = new Map<string, string>();
  for (const [codeName, { toml }] of Object.entries(fields)) {
    const name = section.dialect === "code" ? codeName : toml;
    if (name !== undefined) codeNames.set(name, codeName);
  }
  const values: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(section.values)) {
    const codeName = codeNames.get(key);
    const field = codeName === undefined ? undefined : fields[codeName];
    if (codeName === undefined || field === undefined) {
      const reason = foreign(key, value);
      if (reason === "ignore") continue;
      throw refuseUnknown(section, fields, key, [...codeNames.keys()], reason);
    }
    const isAbsent = section.dialect === "code" ? value === undefined : field.emptyIsAbsent === true && value === "";
    if (!isAbsent) values[codeName] = field.read(value, { section, key });
  }
  // Each property was written by the reader of the field with that name.
  return values as Values<F>;
}

function refuseUnknown(
  section: Section,
  fields: Fields,
  key: string,
  known: readonly string[],
  reason: string | undefined,
): ConfigValidationError {
  const aliases: [string, string][] = [];
  for (const [codeName, { toml }] of Object.entries(fields)) {
    const [other, own] = section.dialect === "code" ? [toml, codeName] : [codeName, toml];
    if (other !== undefined && own !== undefined) aliases.push([other, own]);
  }
  const isForCode = Object.hasOwn(fields, key) && fields[key]?.toml === undefined;
  const isTable = section.dialect === "toml" && isRecord(Reflect.get(section.values, key));
  const where = isForCode && section.dialect === "toml"
    ? "It can only be given in code."
    : isTable
    ? `An id with a dot is written in quotes: [${section.path.replace(".", '."')}.${shownName(section, key)}"].`
    : reason;
  const hint = where === undefined ? suggestion(key, known, aliases) : ` ${where}`;
  const name = shownName(section, key);
  return refuse(section, `Unknown option '${name}'.${hint}`, {
    field: `${section.path}.${name}`,
    expected: known.length === 0 ? "no options" : `one of ${known.join(", ")}`,
    received: `unknown option '${name}'`,
  });
}

/** What a number must be, besides finite. */
export interface NumberDemand {
  /** It must be larger than this; either this or `from` is given. */
  readonly above?: number;
  /** It must be this or larger. */
  readonly from?: number;
  /** It must be this or smaller. */
  readonly to?: number;
  /** Whether it must be an integer. */
  readonly integer?: boolean;
  /** Advice for who gives `Infinity`. */
  readonly ifInfinite?: string;
}

const NUMBER_AS_TEXT = /^[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?$/;

/** Reads a number that is the same in TOML and in code. */
export function number(demand: NumberDemand): Field<number>["read"] {
  return (value, place) => readNumber(value, place, demand);
}

/**
 * Reads a duration, in seconds in TOML and in milliseconds in code, and returns milliseconds. Its bounds are in
 * milliseconds. The default upper bound is the largest value up to which each millisecond can still be told from the
 * next.
 */
export function duration(
  { above, from, to = Number.MAX_SAFE_INTEGER, ifInfinite = "" }: NumberDemand,
): Field<number>["read"] {
  const inUnitsOf = (ms: number): NumberDemand => ({
    to: to / ms,
    ifInfinite,
    ...(above === undefined ? {} : { above: above / ms }),
    ...(from === undefined ? {} : { from: from / ms }),
  });
  return (value, place) => {
    if (place.section.dialect === "code") return readNumber(value, place, inUnitsOf(1), " in milliseconds");
    const seconds = readNumber(value, place, inUnitsOf(1_000), " in seconds");
    // 0.07 * 1000 is 70.00000000000001, so the decimal point is moved instead.
    const [digits, exponent = "0"] = String(seconds).split("e");
    return Number(`${digits}e${Number(exponent) + 3}`);
  };
}

function readNumber(value: unknown, place: Place, demand: NumberDemand, unit = ""): number {
  const { above = -Infinity, from = -Infinity, to = Number.MAX_VALUE, integer = false, ifInfinite } = demand;
  const lowerBound = demand.above !== undefined ? `> ${above}` : `>= ${from}`;
  const upperBound = `<= ${to}`;
  const kind = `${integer ? "an integer" : "a number"}${unit}`;
  const expected = `${kind} ${lowerBound}${to < 1e9 ? ` and ${upperBound}` : ""}`;
  const isText = typeof value === "string" && place.section.dialect === "toml" && NUMBER_AS_TEXT.test(value);
  const parsed = isText ? Number(value) : value;
  if (typeof parsed !== "number" || Number.isNaN(parsed)) throw refuseValue(place, value, expected, expected);
  if (parsed <= above || parsed < from) throw refuseValue(place, value, lowerBound, expected);
  if (!Number.isFinite(parsed)) throw refuseValue(place, value, "finite", expected, ifInfinite);
  if (parsed > to) throw refuseValue(place, value, upperBound, `${kind} ${lowerBound} and ${upperBound}`);
  if (integer && !Number.isSafeInteger(parsed)) throw refuseValue(place, value, expected, expected);
  return parsed === 0 ? 0 : parsed;
}

/** Reads a boolean; in TOML also `"true"` and `"false"`. */
export function flag(): Field<boolean>["read"] {
  return (value, place) => {
    if (typeof value === "boolean") return value;
    if (place.section.dialect === "toml" && value === "true") return true;
    if (place.section.dialect === "toml" && value === "false") return false;
    throw refuseValue(place, value, "true or false", "true or false");
  };
}

/** Reads one of several words. */
export function choice<const T extends string>(...words: readonly T[]): Field<T>["read"] {
  return (value, place) => {
    const word = words.find((each) => each === value);
    if (word !== undefined) return word;
    const quoted = words.map((each) => `'${each}'`);
    const hint = typeof value === "string" && place.section.variablesIn(place.section.values, place.key).length === 0
      ? suggestion(value, words).trim()
      : "";
    throw refuseValue(place, value, `one of ${quoted.join(", ")}`, `one of ${words.join(", ")}`, hint);
  };
}

/**
 * Reads a text that is not empty. Numbers are not texts: an id or token of digits needs quotes. `ifEmpty`: advice for
 * an empty text.
 */
export function text(ifEmpty = "Leave it out if there is none."): Field<string>["read"] {
  return (value, place) => {
    if (typeof value !== "string") {
      const advice = typeof value === "number" || typeof value === "boolean" ? "Write it in quotes." : "";
      throw refuseValue(place, value, "a text", "a text that is not empty", advice);
    }
    if (value.trim() === "") {
      throw refuseValue(
        place,
        value,
        "a text that is not empty",
        "a text that is not empty",
        ifEmpty,
      );
    }
    return value;
  };
}

/** Reads a text that matches a pattern, which `expected` puts into words. */
export function textLike(pattern: RegExp, expected: string): Field<string>["read"] {
  const read = text();
  return (value, place) => {
    const given = read(value, place);
    if (!pattern.test(given)) throw refuseValue(place, value, expected, expected);
    return given;
  };
}

// deno-lint-ignore no-control-regex -- no path on any system that this runs on has them
const CONTROL_CHARACTER = /[\u0000-\u001f\u007f]/;

/** Reads the path of a file. If it holds the content of a key or certificate instead, it is refused and not shown. */
export function path(): Field<string>["read"] {
  const read = text();
  return (value, place) => {
    const given = read(value, place);
    if (holdsKeyMaterial(given) || CONTROL_CHARACTER.test(given)) {
      const { section, key } = place;
      throw refuse(section, `${key} must be the path of a file, and not its content.`, {
        field: `${section.path}.${key}`,
        expected: "the path of a file",
        received: "the content of a file or control characters",
      });
    }
    return given;
  };
}
