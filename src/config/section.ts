import { ConfigValidationError, type Mismatch } from "../core/errors.ts";
import { expectId } from "./ids.ts";
import { isSecretKey, maskText } from "./secrets.ts";

/**
 * Where options come from. In TOML, keys are in snake_case, durations in seconds, and a number or boolean may be
 * written as text, because environment variables are text. In code, keys are in camelCase, durations in milliseconds,
 * and types exact.
 */
export type Dialect = "toml" | "code";

/** A table of options that is being read: where it is, and what is in it. */
export interface Section {
  /** The path of the table, e.g. `limiters.api`. */
  readonly path: string;
  /** What messages call it, e.g. `Limiter 'api'`. */
  readonly title: string;
  /** How its options are written. */
  readonly dialect: Dialect;
  /** The configuration file, if there is one. */
  readonly file: string | undefined;
  /** The options as they were given. */
  readonly values: object;
  /** The environment variables that a value in a table or list was made from, if any. */
  variablesIn(container: object, key: string): readonly string[];
  /** The name of an option as it was written, if variables changed it. */
  writtenName?(container: object, key: string): string;
}

/** An option that is being read. */
export interface Place {
  readonly section: Section;
  /** Its name, as written there. */
  readonly key: string;
}

/** The error for a wrong option. Shows no secret. */
export function refuse(
  section: Section,
  message: string,
  mismatch: Mismatch,
): ConfigValidationError {
  return new ConfigValidationError(`${section.title}: ${message}`, { ...mismatch, file: section.file });
}

/** The error for a wrong value: `rate_per_second must be > 0, got -1`. */
export function refuseValue(
  { section, key }: Place,
  value: unknown,
  demand: string,
  expected: string,
  advice = "",
): ConfigValidationError {
  const received = describe(value, key, section);
  return refuse(section, `${key} must be ${demand}, got ${received}.${advice && ` ${advice}`}`, {
    field: `${section.path}.${key}`,
    expected,
    received,
  });
}

/** The error for a table that lacks a required option. */
export function refuseMissing(section: Section, key: string, message: string, expected: string): ConfigValidationError {
  return refuse(section, message, { field: `${section.path}.${key}`, expected, received: "missing" });
}

/** The error for two options that exclude each other; `key` is the one that should go. */
export function refuseConflict(section: Section, key: string, message: string): ConfigValidationError {
  return refuse(section, message, {
    field: `${section.path}.${key}`,
    expected: `no '${key}' here`,
    received: `'${key}'`,
  });
}

/** The name of an unknown option in a form that may be shown: a variable in it may hold a secret. */
export function shownName(section: Section, key: string): string {
  return maskText(section.writtenName?.(section.values, key) ?? key);
}

/** A value in words that may be shown. */
export function describe(value: unknown, key: string, section: Section): string {
  const variables = section.variablesIn(section.values, key);
  if (variables.length > 0) {
    return `the value of ${variables.map((name) => `\${${name}}`).join(" and ")}, which is not shown`;
  }
  if (isSecretKey(key) && (typeof value === "string" || typeof value === "number" || typeof value === "bigint")) {
    return `a ${typeof value} that is not shown`;
  }
  return section.dialect === "toml" && isRecord(value) ? "a table" : describePlain(value);
}

/** A value in words. Only for values that cannot be secret as a whole. */
export function describePlain(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value === null) return "null";
  if (typeof value === "string") return JSON.stringify(maskText(value));
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (Array.isArray(value)) return "a list";
  if (typeof value === "function") return "a function";
  if (typeof value === "object") return "an object";
  return `a ${typeof value}`;
}

/** Whether a value is a table of options: an object that is not an array, date, map or the like. */
export function isRecord(value: unknown): value is object {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  return Object.prototype.toString.call(value) === "[object Object]";
}

/**
 * Options given in code, as a section.
 *
 * @param example What the options could look like, for the message if they are not an object.
 * @throws {ConfigValidationError} If they are not an object.
 */
export function sectionInCode(
  { path, title, example }: { readonly path: string; readonly title: string; readonly example: string },
  options: unknown,
): Section {
  const place = { path, title, dialect: "code", file: undefined, variablesIn: () => [] } as const;
  if (isRecord(options)) return { ...place, values: options };
  const received = describePlain(options);
  throw refuse({ ...place, values: {} }, `The options must be an object such as ${example}, got ${received}.`, {
    field: path,
    expected: `an object such as ${example}`,
    received,
  });
}

/**
 * Checks the id of a store or limiter: any text that is not empty, has no space at its ends and is well-formed.
 *
 * @param path Where it is used: `stores` or `limiters`.
 */
export function checkId(id: unknown, path: "stores" | "limiters", file?: string): string {
  return expectId(id, path, describePlain(id), file);
}
