import { assertEquals, assertNotEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { InvalidArgumentError } from "../src/core/errors.ts";
import { combineIdentifiers, hashIdentifier, type HashIdentifierOptions } from "../src/identifiers.ts";

/** What untyped code may pass. */
const untypedHash = hashIdentifier as (text: unknown, options?: unknown) => Promise<string>; // on purpose
const untypedCombine = combineIdentifiers as (...parts: unknown[]) => string; // on purpose

const ALGORITHMS = [["sha256", 64], ["sha384", 96], ["sha512", 128]] as const;

test("hashIdentifier() gives what rate-sync gives [IDN-1]", async () => {
  const vectors: [string, HashIdentifierOptions, string][] = [
    ["user@example.com", {}, "b4c9a289323b21a0"],
    ["user@example.com", { salt: "login" }, "68ed95b501f7598f"],
    ["x", { algorithm: "sha384", length: 8 }, "d752c2c5"],
  ];
  for (const [text, options, hash] of vectors) assertEquals(await hashIdentifier(text, options), hash);
});

test("hashIdentifier() ignores case and the space around the text, and an empty salt [IDN-1]", async () => {
  for (const text of ["User@Example.com ", "\tUSER@EXAMPLE.COM\n", "user@example.com"]) {
    assertEquals(await hashIdentifier(text), "b4c9a289323b21a0");
    assertEquals(await hashIdentifier(text, { salt: "" }), "b4c9a289323b21a0");
  }
  assertNotEquals(await hashIdentifier("a"), await hashIdentifier("a", { salt: "s" }));
});

test("hashIdentifier() is deterministic, and a shorter hash is the start of a longer one [IDN-2]", async () => {
  await fc.assert(fc.asyncProperty(
    fc.string({ unit: "binary" }),
    fc.constantFrom(...ALGORITHMS),
    fc.integer({ min: 1, max: 140 }),
    async (text, [algorithm, digits], length) => {
      const hash = await hashIdentifier(text, { algorithm, length });
      const whole = await hashIdentifier(text, { algorithm, length: 1_000 });
      assertEquals(whole.length, digits);
      assertEquals(hash, whole.slice(0, length));
    },
  ));
});

test("hashIdentifier() takes unicode, nothing, and 10,000 characters [IDN-2]", async () => {
  const texts = ["ünïcödé 🦊", "", "x".repeat(10_000), "x".repeat(10_001)];
  const hashes = await Promise.all(texts.map((text) => hashIdentifier(text)));
  assertEquals(new Set(hashes).size, texts.length);
  for (const hash of hashes) assertEquals(/^[0-9a-f]{16}$/.test(hash), true);
});

test("hashIdentifier() refuses an algorithm that it does not know, md5 included [IDN-3]", async () => {
  for (const algorithm of ["md5", "SHA256", "toString", "__proto__", 256, null]) {
    const error = await assertRejects(() => untypedHash("x", { algorithm }), InvalidArgumentError);
    assertEquals(error.field, "algorithm");
    assertStringIncludes(error.message, "sha256, sha384, sha512");
  }
});

test("hashIdentifier() refuses a length that is no integer above 0 [IDN-3]", async () => {
  for (const length of [0, -1, 1.5, NaN, Infinity, "16", null]) {
    const error = await assertRejects(() => untypedHash("x", { length }), InvalidArgumentError);
    assertEquals(error.field, "length");
  }
});

test("hashIdentifier() refuses what is no text, and does not show it [IDN-3, LOG-2]", async () => {
  for (const value of [42_042, null, undefined, { id: 42_042 }]) {
    const error = await assertRejects(() => untypedHash(value), InvalidArgumentError);
    assertEquals([error.field, error.message.includes("42042")], ["text", false]);
  }
  await assertRejects(() => untypedHash("x", { salt: 1 }), InvalidArgumentError);
});

test("combineIdentifiers() joins what there is and leaves out null, undefined and the empty text [IDN-4]", () => {
  assertEquals(combineIdentifiers("a", null, "b", undefined, "", "c"), "a:b:c");
  assertEquals(combineIdentifiers(), "");
  assertEquals(combineIdentifiers(null, undefined, ""), "");
  assertEquals(combineIdentifiers("a"), "a");
});

test("combineIdentifiers() keeps 0 and false [IDN-4]", () => {
  assertEquals(combineIdentifiers("u", 0, false, 12n, true), "u:0:false:12:true");
});

test("combineIdentifiers() takes the separator as a last argument, which no part can be [IDN-4]", () => {
  assertEquals(combineIdentifiers("a", "b", { separator: "/" }), "a/b");
  assertEquals(combineIdentifiers("a", "b", { separator: "" }), "ab");
  assertEquals(combineIdentifiers("a", "b", {}), "a:b");
  assertEquals(combineIdentifiers("a", null, { separator: "-" }), "a");
});

test("combineIdentifiers() refuses objects as parts, and a separator that is no text [IDN-4]", () => {
  const wrong = [[{ separator: "/" }, "a"], [["a"], "b"], [() => 1, "a"], ["a", Symbol("s")]];
  for (const parts of [...wrong, ["a", new Date(0)], ["a", ["b"]], ["a", { id: 1 }]]) {
    assertThrows(() => untypedCombine(...parts), InvalidArgumentError);
  }
  assertEquals(assertThrows(() => untypedCombine("a", { separator: 1 }), InvalidArgumentError).field, "separator");
});

test("combineIdentifiers() does not escape the separator [IDN-5]", () => {
  assertEquals(combineIdentifiers("a:b", "c"), combineIdentifiers("a", "b:c"));
  assertNotEquals(
    combineIdentifiers("a:b", "c", { separator: "|" }),
    combineIdentifiers("a", "b:c", { separator: "|" }),
  );
});
