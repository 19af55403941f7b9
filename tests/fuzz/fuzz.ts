import fc from "fast-check";
import { test } from "node:test";
import process from "node:process";
import { inspect } from "node:util";
import { RateLimiterError } from "../../src/core/errors.ts";
import { sightsOf } from "../support/sights.ts";
import { wantedCases } from "./wanted_cases.ts";

const wanted = wantedCases(process.env);

/**
 * A test that tries a property on many random cases: `runs` of them, or as many as `FUZZ_RUNS` says. What fails is printed
 * with its seed and path, and `FUZZ_SEED` and `FUZZ_PATH` try exactly that case again.
 */
export function fuzz<Case>(name: string, runs: number, property: fc.IRawProperty<Case>): void {
  test(name, async () => {
    const details = await fc.check(property, { numRuns: runs, ...wanted });
    if (!details.failed) return;
    const again = `FUZZ_SEED=${details.seed} FUZZ_PATH=${details.counterexamplePath} deno test -A tests/fuzz --filter ${
      JSON.stringify(name)
    }`;
    throw new Error(`${await fc.asyncDefaultReportMessage(details)}\nTry it again: ${again}`, {
      cause: details.errorInstance,
    });
  });
}

/** What a call with hostile input came to: a result, or an error that this package throws on purpose. */
export type Attempt<T> = { readonly ok: true; readonly value: T } | {
  readonly ok: false;
  readonly error: RateLimiterError;
};

/** Calls, and throws what no caller should ever see: anything but a `RateLimiterError`, and a changed prototype. */
export function attempt<T>(call: () => T): Attempt<T> {
  try {
    return { ok: true, value: call() };
  } catch (error) {
    return { ok: false, error: typed(error) };
  } finally {
    assertUnpolluted();
  }
}

/** As {@link attempt}, for what returns a promise. */
export async function attemptAsync<T>(call: () => Promise<T>): Promise<Attempt<T>> {
  let promise;
  try {
    promise = call();
  } catch (error) {
    throw new Error(`thrown at once, where a promise should have been rejected: ${inspect(error)}`);
  }
  try {
    return { ok: true, value: await promise };
  } catch (error) {
    return { ok: false, error: typed(error) };
  } finally {
    assertUnpolluted();
  }
}

function typed(error: unknown): RateLimiterError {
  if (!(error instanceof RateLimiterError)) throw new Error(`not an error of this package: ${inspect(error)}`);
  if (error.name !== error.constructor.name) throw new Error(`'${error.name}' is called ${error.constructor.name}`);
  return error;
}

function assertUnpolluted(): void {
  // deno-lint-ignore guard-for-in -- whatever is found here was put on the prototype of all objects
  for (const name in {}) throw new Error(`Object.prototype has '${name}' now`);
  for (const name in []) throw new Error(`Array.prototype has '${name}' now`);
}

/** What tests plant as token and password. No generator below makes it by itself, nor a part of it. */
export const SECRET = "Zs3cr3tZ";

/** Throws if a value shows the secret anywhere. */
export function assertDiscreet(value: unknown, secret: string = SECRET): void {
  const sights = sightsOf(value);
  if (sights.includes(secret)) throw new Error(`it shows the secret: ${sights}`);
}

/** A change of a text. The places are parts of its length. */
interface Edit {
  readonly from: number;
  readonly length: number;
  readonly to: number;
  readonly kind: "cut" | "copy" | "insert" | "replace";
  readonly text: string;
}

/** Texts as `valid` makes them, damaged in a few places. `snippets` are what damage is made of, besides single characters. */
export function damaged(valid: fc.Arbitrary<string>, snippets: readonly string[]): fc.Arbitrary<string> {
  const edit: fc.Arbitrary<Edit> = fc.record({
    from: fc.double({ min: 0, max: 1, noNaN: true }),
    to: fc.double({ min: 0, max: 1, noNaN: true }),
    length: fc.integer({ min: 0, max: 20 }),
    kind: fc.constantFrom("cut", "copy", "insert", "replace"),
    text: fc.oneof(fc.constantFrom(...snippets), fc.string({ unit: "binary", maxLength: 2 })),
  });
  return fc.tuple(valid, fc.array(edit, { maxLength: 4 })).map(([text, edits]) => edits.reduce(apply, text));
}

function apply(text: string, { from, length, to, kind, text: inserted }: Edit): string {
  const start = Math.floor(from * text.length);
  const piece = text.slice(start, start + length);
  const place = Math.floor(to * text.length);
  if (kind === "cut") return text.slice(0, start) + text.slice(start + length);
  if (kind === "copy") return text.slice(0, place) + piece + text.slice(place);
  if (kind === "insert") return text.slice(0, place) + inserted + text.slice(place);
  return text.slice(0, start) + inserted + text.slice(start + length);
}

/** Texts of pieces that mean something to a grammar, in any order. */
export function soup(pieces: readonly string[], maxLength = 30): fc.Arbitrary<string> {
  return fc.array(fc.constantFrom(...pieces), { maxLength }).map((list) => list.join(""));
}

/** Anything that untyped code can hand in: all types of JavaScript, and what their conversion to text trips over. */
export const anything: fc.Arbitrary<unknown> = fc.oneof(
  fc.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true, withObjectString: true }),
  fc.constantFrom<unknown>(
    Symbol("s"),
    Object.create(null),
    { toString: null },
    { toString: () => ({}), valueOf: () => ({}) },
    () => {},
    class {},
    new Proxy({}, {}),
    -0,
    NaN,
    Infinity,
    2 ** 53,
    5e-324,
    1.7e308,
    "",
    "__proto__",
    "constructor",
    "\ud800",
    "x".repeat(10_000),
  ),
);
