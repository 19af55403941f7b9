import { kindOf, quoted, wrongArgument } from "../core/arguments.ts";
import { InvalidArgumentError } from "../core/errors.ts";
import type { LimiterRequest } from "../registry/multi.ts";
import type { CallKey } from "./template_types.ts";

/** Says which limiter a call with these arguments needs. */
export type Selector = (args: unknown[]) => LimiterRequest | Promise<LimiterRequest>;

/** The option `key`, which says what counts for a call. */
type KeyOf = ((...args: unknown[]) => CallKey) | undefined;

/**
 * The selector for what `rateLimited()` was given: an id, a template, or a function of the arguments. Untyped code may
 * pass anything.
 *
 * @throws {InvalidArgumentError} if no limiter can be named that way.
 */
export function selectorOf(limiter: unknown, key: KeyOf): Selector {
  if (typeof limiter === "string") {
    return /[{}]/.test(limiter) ? selectByTemplate(parseTemplate(limiter), key) : selectById(limiter, key);
  }
  if (typeof limiter !== "function") {
    throw wrongArgument(
      "rateLimited() needs to know the limiter",
      "limiter",
      "an id, a template or a function",
      limiter,
    );
  }
  if (key !== undefined) {
    throw wrongArgument(
      "A function that names the limiter also names the key: { id, key }",
      "key",
      "no key beside it",
      key,
    );
  }
  return async (args) => {
    const request: unknown = await limiter(...args);
    if (typeof request === "string") return { id: request };
    if (typeof request === "object" && request !== null && "id" in request && typeof request.id === "string") {
      return request as LimiterRequest; // the limiter checks the rest of it
    }
    throw wrongArgument("The function that names the limiter named none", "limiter", "an id, or { id, key }", request);
  };
}

function selectById(id: string, key: KeyOf): Selector {
  if (key === undefined) return () => ({ id });
  return (args) => {
    const value: unknown = key(...args);
    if (typeof value === "string") return { id, key: value };
    throw wrongArgument(
      `The key of a call of limiter '${id}' must be text; use String(…) for a number`,
      "key",
      "text",
      value,
    );
  };
}

/** `api:{tenant}:{user}` */
interface Template {
  readonly text: string;
  /** `api` */
  readonly base: string;
  /** `tenant` and `user`. */
  readonly placeholders: readonly string[];
  /** The text before, between and after them: the empty text, `:` and the empty text. */
  readonly literals: readonly string[];
}

function parseTemplate(text: string): Template {
  const colon = text.indexOf(":");
  const base = text.slice(0, Math.max(0, colon));
  if (base === "" || /[{}]/.test(base)) {
    throw wrongTemplate(text, "the id of a limiter, a ':' and then the placeholders, such as 'api:{userId}'");
  }
  // With a group in the pattern, split() returns literals and placeholders alternately.
  const pieces = text.slice(colon + 1).split(/\{([^{}]*)\}/);
  const literals = pieces.filter((_, i) => i % 2 === 0);
  const placeholders = pieces.filter((_, i) => i % 2 === 1);
  if (literals.some((literal) => /[{}]/.test(literal))) throw wrongTemplate(text, "a '}' for every '{'");
  if (!placeholders.every((placeholder) => /^[^\s.]+(\.[^\s.]+)*$/.test(placeholder))) {
    throw wrongTemplate(text, "placeholders that are names or paths, such as '{userId}' or '{user.id}'");
  }
  // Otherwise 'x' and 'yz' would share a limit with 'xy' and 'z'.
  if (!literals.slice(1, -1).every((literal) => literal.includes(":"))) {
    throw wrongTemplate(text, "a ':' between two placeholders");
  }
  return { text, base, placeholders, literals };
}

function wrongTemplate(text: string, expected: string): InvalidArgumentError {
  return wrongArgument("The template of a limiter cannot be read", "limiter", expected, text);
}

function selectByTemplate(template: Template, key: KeyOf): Selector {
  const { base, placeholders, literals } = template;
  return (args) => {
    const source = sourceOf(template, args, key);
    const values = placeholders.map((placeholder) => {
      const value = typeof source === "string" ? source : valueAt(template, source, placeholder);
      return placeholders.length === 1 ? value : value.replaceAll("%", "%25").replaceAll(":", "%3A");
    });
    return { id: base, key: literals.map((literal, i) => literal + (values[i] ?? "")).join("") };
  };
}

/** The source of a call's placeholders. A text is the value of the only one. */
function sourceOf({ text, placeholders }: Template, args: unknown[], key: KeyOf): string | object {
  if (key === undefined) {
    const [only] = args;
    if (args.length === 1 && typeof only === "object" && only !== null) return only;
    throw new InvalidArgumentError(`Template '${text}' takes its placeholders from a call's only argument, an object`, {
      field: "args",
      expected: `an object with ${quoted(placeholders)}, or the option key: (…args) => ({ … })`,
      received: args.length === 1 ? only === null ? "null" : `a ${typeof only}` : `${args.length} arguments`,
    });
  }
  const source: unknown = key(...args);
  if (typeof source === "object" && source !== null) return source;
  if (typeof source === "string" && placeholders.length === 1) return source;
  throw new InvalidArgumentError(`The key function of template '${text}' gave no values for its placeholders`, {
    field: "key",
    expected: placeholders.length === 1 ? "text, or an object" : `an object with ${quoted(placeholders)}`,
    received: kindOf(source),
  });
}

function valueAt({ text }: Template, source: object, placeholder: string): string {
  let value: unknown = source;
  for (const name of placeholder.split(".")) {
    value = typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;
  }
  if (typeof value === "string") return value;
  // NaN is what is left of a number that was missing, and all callers without one would share a limit.
  const isNaN = Number.isNaN(value);
  const isPlain = typeof value === "number" || typeof value === "bigint" || typeof value === "boolean";
  if (isPlain && !isNaN) return String(value);
  const available = Object.keys(source);
  throw new InvalidArgumentError(
    `Template '${text}' has no value for '{${placeholder}}'. Available: ${quoted(available) || "nothing"}`,
    {
      field: placeholder,
      expected: "a string, number, bigint or boolean",
      received: isNaN ? "NaN" : kindOf(value),
    },
  );
}
