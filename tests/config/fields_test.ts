import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { duration, type Fields, flag, number, readFields, text } from "../../src/config/fields.ts";
import type { Dialect, Section } from "../../src/config/section.ts";
import { ConfigValidationError } from "../../src/core/errors.ts";

function sectionOf(values: object, dialect: Dialect): Section {
  return { path: "limiters.a", title: "Limiter 'a'", dialect, file: undefined, values, variablesIn: () => [] };
}

const FIELDS = {
  waitMs: { toml: "wait", read: duration({ from: 0 }) },
  share: { toml: "share", read: number({ above: 0, to: 1 }) },
  on: { toml: "on", read: flag() },
  label: { toml: "label", emptyIsAbsent: true, read: text() },
  handle: { toml: undefined, read: text() },
} satisfies Fields;

test("readFields() reads seconds in TOML and milliseconds in code", () => {
  assertEquals(readFields(FIELDS, sectionOf({ wait: 1.5 }, "toml")), { waitMs: 1_500 });
  assertEquals(readFields(FIELDS, sectionOf({ waitMs: 1.5 }, "code")), { waitMs: 1.5 });
});

test("readFields() reads numbers and booleans from text in TOML alone", () => {
  assertEquals(readFields(FIELDS, sectionOf({ wait: "1e-3", share: "+0.5", on: "true" }, "toml")), {
    waitMs: 1,
    share: 0.5,
    on: true,
  });
  for (const values of [{ waitMs: "1" }, { share: "1" }, { on: "true" }]) {
    assertThrows(() => readFields(FIELDS, sectionOf(values, "code")), ConfigValidationError);
  }
});

test("readFields() names the upper bound that was passed", () => {
  const error = assertThrows(() => readFields(FIELDS, sectionOf({ share: 2 }, "code")), ConfigValidationError);
  assertStringIncludes(error.message, "share must be <= 1, got 2");
  assertEquals(error.expected, "a number > 0 and <= 1");
});

test("readFields() takes an empty text as absent in TOML alone, where the field says so", () => {
  assertEquals(readFields(FIELDS, sectionOf({ label: "" }, "toml")), {});
  assertThrows(() => readFields(FIELDS, sectionOf({ label: "" }, "code")), ConfigValidationError);
  assertThrows(() => readFields(FIELDS, sectionOf({ label: " " }, "toml")), ConfigValidationError);
});

test("readFields() says of an option for code alone that it is one", () => {
  assertThrows(
    () => readFields(FIELDS, sectionOf({ handle: "x" }, "toml")),
    ConfigValidationError,
    "Unknown option 'handle'. It can only be given in code.",
  );
  assertEquals(readFields(FIELDS, sectionOf({ handle: "x" }, "code")), { handle: "x" });
});

test("readFields() refuses an unknown option also when its value is undefined", () => {
  assertThrows(() => readFields(FIELDS, sectionOf({ labl: undefined }, "code")), ConfigValidationError, "'label'");
});

test("duration() gives the milliseconds that the seconds stand for in decimals (property)", () => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 1e12 }), (ms) => {
    const seconds = Number(`${ms}e-3`);
    assertEquals(readFields(FIELDS, sectionOf({ wait: seconds }, "toml")), { waitMs: ms });
  }));
});

test("duration() keeps durations above 0 above 0", () => {
  assertEquals(readFields(FIELDS, sectionOf({ wait: 1e-15 }, "toml")), { waitMs: 1e-12 });
});
