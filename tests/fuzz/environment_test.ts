import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { expandEnvironment } from "../../src/config/environment.ts";
import { findConfigurationFile, readConfiguration } from "../../src/config/files.ts";
import { isTable, type TomlTable, type TomlValue } from "../../src/config/toml.ts";
import { ConfigValidationError } from "../../src/core/errors.ts";
import { logBook } from "../support/log_book.ts";
import { assertDiscreet, attempt, fuzz, SECRET, soup } from "./fuzz.ts";

/** A text with references as a tree: what it becomes, and how it is written. */
type Piece =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "dollar" }
  | { readonly kind: "variable"; readonly name: string; readonly braces: boolean }
  | { readonly kind: "default"; readonly name: string; readonly fallback: readonly Piece[] };

const variables = fc.dictionary(
  fc.constantFrom("A", "B", "LONG_NAME", "_x9"),
  fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom("", "$A", "${B}", "$$", "}", `${SECRET}`)),
  { noNullPrototype: true },
);
const variableNames = fc.constantFrom("A", "B", "LONG_NAME", "_x9", "UNSET");

const { piece: pieces } = fc.letrec<{ piece: Piece }>((tie) => ({
  piece: fc.oneof(
    { maxDepth: 4 },
    fc.string({ unit: "binary", minLength: 1, maxLength: 5 }).map((text) => ({
      kind: "text" as const,
      text: text.replaceAll(/[$}]/g, "-"),
    })),
    fc.constant({ kind: "dollar" as const }),
    fc.record({ kind: fc.constant("variable" as const), name: variableNames, braces: fc.boolean() }),
    fc.record({
      kind: fc.constant("default" as const),
      name: variableNames,
      fallback: fc.array(tie("piece"), { maxLength: 3 }),
    }),
  ),
}));

function written(list: readonly Piece[]): string {
  return list.map((piece, i) => {
    if (piece.kind === "text") return piece.text;
    if (piece.kind === "dollar") return "$$";
    if (piece.kind === "default") return `\${${piece.name}:-${written(piece.fallback)}}`;
    // Without braces a name goes on for as long as it can.
    const next = list[i + 1];
    const isOpen = next?.kind === "text" && /^[A-Za-z0-9_]/.test(next.text);
    return piece.braces || isOpen ? `\${${piece.name}}` : `$${piece.name}`;
  }).join("");
}

/** `undefined` if a variable is missing. */
function meant(list: readonly Piece[], values: Readonly<Record<string, string>>): string | undefined {
  const texts = list.map((piece) => {
    if (piece.kind === "text") return piece.text;
    if (piece.kind === "dollar") return "$";
    const value = values[piece.name];
    if (piece.kind === "variable") return value;
    return value ? value : meant(piece.fallback, values);
  });
  return texts.every((text) => text !== undefined) ? texts.join("") : undefined;
}

fuzz(
  "fuzz: expandEnvironment() makes of a text what it means, or says which variable is missing",
  700,
  fc.property(fc.array(pieces, { maxLength: 6 }), variables, (list, values) => {
    const root: TomlTable = Object.assign(Object.create(null), { key: written(list) });
    const result = attempt(() => expandEnvironment(root, { environment: (name) => values[name] }));
    const expected = meant(list, values);
    if (expected === undefined) {
      assert(!result.ok && result.error instanceof ConfigValidationError);
      assertDiscreet(result.error);
    } else assertEquals(result.ok && result.value.root["key"], expected);
  }),
);

const anyText = fc.oneof(
  fc.string({ unit: "binary" }),
  soup(["$", "${", "}", "A", "B", ":-", "$$", "_", "9", " ", "{", ":", "-", "UNSET", SECRET]),
);
const anyValue: fc.Arbitrary<TomlValue> = fc.letrec<{ value: TomlValue }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3 },
    anyText,
    fc.double(),
    fc.boolean(),
    fc.array(tie("value"), { maxLength: 3 }),
    fc.dictionary(anyText, tie("value"), { maxKeys: 3 }).map((table) =>
      Object.assign(Object.create(null), table) as TomlTable
    ),
  ),
})).value;

fuzz(
  "fuzz: expandEnvironment() expands any document or says what is wrong, and shows nothing that a variable holds",
  700,
  fc.property(fc.dictionary(anyText, anyValue), variables, (document, values) => {
    const root: TomlTable = Object.assign(Object.create(null), document);
    const hides = Object.values(values).includes(SECRET) && !JSON.stringify(root).includes(SECRET);
    const result = attempt(() => expandEnvironment(root, { environment: (name) => values[name], file: "f.toml" }));
    if (result.ok) assertPlain(result.value.root);
    else if (hides) assertDiscreet(result.error);
  }),
);

function assertPlain(value: TomlValue): void {
  if (Array.isArray(value)) value.forEach(assertPlain);
  else if (isTable(value)) {
    assertEquals(Object.getPrototypeOf(value), null);
    Object.values(value).forEach(assertPlain);
  }
}

fuzz(
  "fuzz: RATE_SYNC_CONFIG may hold any text, and loadConfig() be given any path",
  150,
  fc.property(
    fc.oneof(fc.string({ unit: "binary" }), soup(["/", ".", "..", "\0", "~", "a", "\n", "x".repeat(300), "\ud800"], 8)),
    (path) => {
      const logger = logBook();
      attempt(() => findConfigurationFile({ logger, environment: () => path }));
      const result = attempt(() => readConfiguration(path, { environment: () => undefined }));
      assert(!result.ok && result.error instanceof ConfigValidationError);
    },
  ),
);

test("fuzz: expandEnvironment() is done with 100,000 of anything", () => {
  for (const piece of ["$", "${", "${A", "${A:-", "}", "$A", "${A:-}", "${A:-$", "a"]) {
    for (const text of [piece.repeat(100_000), `\${A:-${piece.repeat(100_000)}`, `\${A:-${piece.repeat(100_000)}}`]) {
      const root: TomlTable = Object.assign(Object.create(null), { text });
      attempt(() => expandEnvironment(root, { environment: () => undefined }));
    }
  }
});
