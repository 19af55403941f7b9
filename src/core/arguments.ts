import { InvalidArgumentError } from "./errors.ts";

/** A value from the caller as an error message shows it. Nothing in an object is called or shown. */
export function shown(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.slice(0, 100));
  if (value === null || typeof value !== "object" && typeof value !== "function") return String(value);
  return Array.isArray(value) ? "a list" : typeof value === "function" ? "a function" : "an object";
}

/** What kind of value it is, in an error message about one that should not be shown. */
export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  return Array.isArray(value) ? "a list" : `a value of type ${typeof value}`;
}

/** Names, in an error message. */
export function quoted(names: Iterable<string>): string {
  return Array.from(names, (name) => `'${name}'`).join(", ");
}

/** The error for an argument that cannot be right. `given` is shown as far as an error message may show it. */
export function wrongArgument(
  problem: string,
  field: string,
  expected: string,
  given: unknown,
): InvalidArgumentError {
  return new InvalidArgumentError(problem, { field, expected, received: shown(given) });
}

/** The names of options. The compiler checks that none is missing. */
export function namesOf<Options>(names: Readonly<Record<keyof Options & string, true>>): ReadonlySet<string> {
  return new Set(Object.keys(names));
}

/**
 * The options of a call, if they are an object and have no names other than `names`. Untyped code may pass anything.
 * `expected` says what is accepted; without it, they may be left out.
 */
export function checkOptions<Options extends object>(
  options: Options,
  names?: ReadonlySet<string>,
  expected = "an object, or nothing",
): Options {
  if (typeof options === "object" && options !== null) {
    if (names) { for (const name in options) if (!names.has(name)) throw unknownOption(name, names); }
    return options;
  }
  throw wrongArgument("The options must be an object", "options", expected, options);
}

function unknownOption(name: string, names: ReadonlySet<string>): InvalidArgumentError {
  return wrongArgument(`There is no option ${shown(name)} here`, "options", `only ${[...names].join(", ")}`, name);
}

/** Whether it has these methods. That tells what it is, whichever copy of a class or realm it comes from. */
export function hasMethods(value: unknown, ...names: readonly string[]): value is object {
  return missingMethods(value, names)?.length === 0;
}

/** Those of the methods that it does not have; `undefined` if it is nothing that could have any. */
export function missingMethods(value: unknown, names: readonly string[]): readonly string[] | undefined {
  if ((typeof value !== "object" || value === null) && typeof value !== "function") return undefined;
  return names.filter((name) => typeof Reflect.get(value, name) !== "function");
}

/** Methods, in an error message. */
export function methodsNamed(names: readonly string[]): string {
  return names.map((name) => `${name}()`).join(", ");
}

/** A value that lacks some of these methods, as an error message shows it. */
export function shownWithout(value: unknown, names: readonly string[]): string {
  const missing = missingMethods(value, names);
  return missing === undefined ? shown(value) : `${shown(value)} without ${methodsNamed(missing)}`;
}

/** What was passed as `field`, if it has these methods. Untyped code may pass anything. */
export function checkMethods<Value>(value: Value, field: string, what: string, ...methods: readonly string[]): Value {
  if (hasMethods(value, ...methods)) return value;
  throw new InvalidArgumentError(`This is no ${what}`, {
    field,
    expected: `an object with ${methodsNamed(methods)}`,
    received: shownWithout(value, methods),
  });
}

/** The signal, if it is one. It may come from any runtime and realm. */
export function checkSignal(signal: AbortSignal): AbortSignal {
  const given: unknown = signal;
  if (typeof given === "object" && given !== null && "aborted" in given && "throwIfAborted" in given) return signal;
  throw wrongArgument("A signal must be an AbortSignal", "signal", "an AbortSignal", given);
}

/** Whether a check consumes anything, if the option is valid. */
export function checkConsume(consume: unknown): boolean {
  if (consume === undefined || typeof consume === "boolean") return consume ?? true;
  throw wrongArgument("A check either consumes or does not", "consume", "true or false", consume);
}

/** Refuses upstream's `timeout`, in seconds, in a call without `timeoutMs`: the call would wait for much longer. */
export function checkUntimed(options: object): void {
  if ("timeout" in options) throw unknownOption("timeout", TIMED);
}

const TIMED: ReadonlySet<string> = new Set(["key", "cost", "timeoutMs (milliseconds)", "signal"]);

/** The timeout in milliseconds, if it is valid; `Infinity` waits as long as it takes. */
export function checkTimeout(timeoutMs: unknown): number {
  if (typeof timeoutMs === "number" && timeoutMs >= 0) return timeoutMs;
  throw wrongArgument(
    "A timeout cannot be negative or not a number. Use 0 for one attempt without waiting, or leave it out",
    "timeoutMs",
    "a number of milliseconds >= 0",
    timeoutMs,
  );
}

/** The cost, if it is valid. */
export function checkCost(cost: unknown): number {
  if (typeof cost === "number" && Number.isFinite(cost) && cost > 0) return cost;
  throw wrongArgument("A cost must be a finite number above 0", "cost", "a finite number > 0", cost);
}

/** The id of a limiter, if it is valid. */
export function checkIdentifier(id: unknown): string {
  return checkString(id, "id", "The id of a limiter must be text");
}

/** The identifier of a keyed limiter, if it is valid. */
export function checkKey(key: unknown): string {
  return checkString(key, "key", "A key must be text; use String(key) for a number");
}

/** The text of a configuration, if it is text. */
export function checkText(text: unknown): string {
  return checkString(text, "text", "A configuration is text, in TOML");
}

function checkString(value: unknown, field: string, problem: string): string {
  if (typeof value === "string") return value;
  throw wrongArgument(problem, field, "a string", value);
}
