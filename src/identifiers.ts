import { checkOptions, kindOf, namesOf, wrongArgument } from "./core/arguments.ts";
import { InvalidArgumentError } from "./core/errors.ts";

/**
 * The hash functions that {@link hashIdentifier} offers.
 *
 * @example
 * ```ts
 * import { type HashAlgorithm, hashIdentifier } from "@ratesync/core";
 *
 * const algorithm: HashAlgorithm = "sha384";
 * console.log(await hashIdentifier("x", { algorithm, length: 8 })); // "d752c2c5"
 * ```
 */
export type HashAlgorithm = "sha256" | "sha384" | "sha512";

/**
 * How {@link hashIdentifier} hashes.
 *
 * @example
 * ```ts
 * import { hashIdentifier, type HashIdentifierOptions } from "@ratesync/core";
 *
 * const options: HashIdentifierOptions = { length: 32, salt: "login" };
 * console.log((await hashIdentifier("user@example.com", options)).length); // 32
 * ```
 */
export interface HashIdentifierOptions {
  /**
   * How many hex digits to keep; an integer >= 1. More than the hash has (64, 96 or 128) keeps all of it.
   *
   * @default {16}
   */
  readonly length?: number | undefined;
  /**
   * Is put before the text, so that the same text has a different hash for each purpose.
   *
   * @default {""}
   */
  readonly salt?: string | undefined;
  /**
   * The hash function.
   *
   * @default {"sha256"}
   */
  readonly algorithm?: HashAlgorithm | undefined;
}

/** The names that Web Crypto uses. */
const DIGESTS: ReadonlyMap<string, string> = new Map(
  [["sha256", "SHA-256"], ["sha384", "SHA-384"], ["sha512", "SHA-512"]],
);

/**
 * Turns text that should not be stored as it is, such as an e-mail address, into a short identifier: the start of its
 * hash in hex digits. Letter case and surrounding space make no difference.
 *
 * Whatever can be guessed can also be found from its hash by guessing; a `salt` that stays secret prevents that.
 *
 * @param text What identifies somebody.
 * @param options How to hash it.
 * @returns The identifier: the same one for the same text and options, everywhere.
 * @throws {InvalidArgumentError} if the algorithm is not known, or the length is not an integer >= 1.
 *
 * @example A limit for each e-mail address
 * ```ts
 * import { configureLimiter, hashIdentifier, tryAcquire } from "@ratesync/core";
 *
 * configureLimiter("login-by-address", { algorithm: "sliding_window", limit: 5, windowMs: 300_000 });
 * const key = await hashIdentifier(" User@Example.com ");
 * console.log(key); // "b4c9a289323b21a0"
 * console.log((await tryAcquire("login-by-address", { key })).allowed); // true
 * ```
 */
export async function hashIdentifier(text: string, options: HashIdentifierOptions = {}): Promise<string> {
  const { length = 16, salt = "", algorithm = "sha256" } = checkOptions(options, NAMES);
  checkText("text", text);
  checkText("salt", salt);
  if (!Number.isInteger(length) || length < 1) {
    throw wrongArgument(
      "The length of a hash must be a whole number of hex digits, at least 1",
      "length",
      "an integer >= 1",
      length,
    );
  }
  const digest = DIGESTS.get(algorithm);
  if (digest === undefined) {
    const names = [...DIGESTS.keys()].join(", ");
    throw wrongArgument(
      `This hash algorithm is not known. Use one of ${names}`,
      "algorithm",
      `one of ${names}`,
      algorithm,
    );
  }
  const normal = text.toLowerCase().trim();
  const salted = salt === "" ? normal : `${salt}:${normal}`;
  const bytes = new Uint8Array(await crypto.subtle.digest(digest, new TextEncoder().encode(salted)));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("").slice(0, length);
}

/** The value itself is not shown, because it may be what should be hidden. */
function checkText(field: string, value: unknown): void {
  if (typeof value === "string") return;
  throw new InvalidArgumentError("Only text can be hashed; use String(…) for a number", {
    field,
    expected: "a string",
    received: kindOf(value),
  });
}

/**
 * A part that {@link combineIdentifiers} puts together. `null`, `undefined` and the empty text are left out.
 *
 * @example
 * ```ts
 * import { combineIdentifiers, type IdentifierPart } from "@ratesync/core";
 *
 * const parts: IdentifierPart[] = ["10.0.0.1", undefined, 0];
 * console.log(combineIdentifiers(...parts)); // "10.0.0.1:0"
 * ```
 */
export type IdentifierPart = string | number | bigint | boolean | null | undefined;

/**
 * How {@link combineIdentifiers} puts parts together: its last argument.
 *
 * @example
 * ```ts
 * import { combineIdentifiers, type CombineIdentifiersOptions } from "@ratesync/core";
 *
 * const options: CombineIdentifiersOptions = { separator: "/" };
 * console.log(combineIdentifiers("acme", 7, options)); // "acme/7"
 * ```
 */
export interface CombineIdentifiersOptions {
  /**
   * What stands between two parts.
   *
   * @default {":"}
   */
  readonly separator?: string | undefined;
}

/**
 * Makes one identifier of several parts. Leaves out `null`, `undefined` and the empty text, and keeps `0` and `false`;
 * without any part, the result is empty. A final argument `{ separator }` says what stands between two parts.
 *
 * A separator within a part is not escaped: `"a:b"` and `"c"` give the same as `"a"` and `"b:c"`. If parts come from
 * users, choose a separator that cannot occur in them, or hash the parts first.
 *
 * @throws {InvalidArgumentError} if a part is not an {@link IdentifierPart}, or the separator is not text.
 *
 * @example
 * ```ts
 * import { combineIdentifiers } from "@ratesync/core";
 *
 * console.log(combineIdentifiers("10.0.0.1", undefined, 0)); // "10.0.0.1:0"
 * console.log(combineIdentifiers("acme", "alice", { separator: "/" })); // "acme/alice"
 * ```
 */
export function combineIdentifiers(
  ...parts: readonly IdentifierPart[] | readonly [...parts: IdentifierPart[], options: CombineIdentifiersOptions]
): string {
  let separator: unknown = ":";
  const texts: string[] = [];
  for (const [i, part] of parts.entries()) {
    if (part === null || part === undefined || part === "") continue;
    if (typeof part === "object" && i === parts.length - 1 && isOptions(part)) separator = part.separator ?? separator;
    else if (PART_TYPES.has(typeof part)) texts.push(String(part));
    else throw wrongPart(`parts[${i}]`, "a string, number, bigint, boolean, null or undefined", part);
  }
  if (typeof separator !== "string") throw wrongPart("separator", "a string", separator);
  return texts.join(separator);
}

/** Whether this is an options object and nothing else: a date or a user at the end must not pass for one. */
function isOptions(value: object): boolean {
  return Object.prototype.toString.call(value) === "[object Object]" &&
    Object.keys(value).every((name) => name === "separator");
}

const PART_TYPES: ReadonlySet<string> = new Set(["string", "number", "bigint", "boolean"]);

function wrongPart(field: string, expected: string, value: unknown): InvalidArgumentError {
  return new InvalidArgumentError("Identifiers are made of plain values, with { separator } at the end if need be", {
    field,
    expected,
    received: kindOf(value),
  });
}

const NAMES = namesOf<HashIdentifierOptions>({ length: true, salt: true, algorithm: true });
