import { assertEquals, assertThrows } from "@std/assert";
import { test } from "node:test";
import { checkId, describe, describePlain, isRecord, sectionInCode } from "../../src/config/section.ts";
import { ConfigValidationError } from "../../src/core/errors.ts";

test("describePlain() says what a value is, without secrets that can be recognised", () => {
  const cases: [value: unknown, words: string][] = [
    [undefined, "nothing"],
    [null, "null"],
    ["nats://u:p@h", '"nats://***@h"'],
    [5, "5"],
    [NaN, "NaN"],
    [[], "a list"],
    [{}, "an object"],
    [new Map(), "an object"],
    [() => {}, "a function"],
    [Symbol("s"), "a symbol"],
    [1n, "a bigint"],
  ];
  for (const [value, words] of cases) assertEquals(describePlain(value), words);
});

test("isRecord() tells tables from everything else", () => {
  assertEquals([{}, Object.create(null)].every(isRecord), true);
  assertEquals([null, [], new Map(), new Date(), () => {}, "x", 5].some(isRecord), false);
});

test("checkId() returns ids of any characters, and names the place of a wrong one", () => {
  for (const id of ["a", "a.b", "user@example.com", "toString", "*", "日本"]) assertEquals(checkId(id, "stores"), id);
  const error = assertThrows(() => checkId("constructor", "limiters", "x.toml"), ConfigValidationError);
  assertEquals([error.field, error.file], ["limiters.constructor", "x.toml"]);
});

test("describe() names the variables that a value came from, and hides secret options", () => {
  const section = sectionInCode({ path: "stores.a", title: "Store 'a'", example: "{}" }, { token: "s3cr3t", url: "x" });
  assertEquals(describe("s3cr3t", "token", section), "a string that is not shown");
  assertEquals(describe(undefined, "token", section), "nothing");
  assertEquals([describe({}, "url", section), describe([], "url", section)], ["an object", "a list"]);
  const inFile = { ...section, dialect: "toml" } as const;
  assertEquals([describe({}, "url", inFile), describe(new Map(), "url", inFile)], ["a table", "an object"]);
  const expanded = { ...section, variablesIn: () => ["A", "B"] };
  assertEquals(describe("x", "url", expanded), "the value of ${A} and ${B}, which is not shown");
});

test("sectionInCode() refuses what is no object, with an example", () => {
  const error = assertThrows(
    () => sectionInCode({ path: "stores.a", title: "Store 'a'", example: "{ x: 1 }" }, "x"),
    ConfigValidationError,
    "{ x: 1 }",
  );
  assertEquals([error.field, error.received], ["stores.a", '"x"']);
});
