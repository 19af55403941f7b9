import { assert, assertEquals } from "@std/assert";
import { parse as parseByStd } from "@std/toml";
import fc from "fast-check";
import { test } from "node:test";
import { isTable, parseToml, type TomlValue } from "../../src/config/toml.ts";
import { ConfigValidationError } from "../../src/core/errors.ts";
import { assertDiscreet, attempt, damaged, fuzz, SECRET, soup } from "./fuzz.ts";

/** A document as a tree: what it means, and how each part of it is written. */
type Node =
  | { readonly kind: "text"; readonly value: string; readonly as: "basic" | "literal" | "long" | "long literal" }
  | { readonly kind: "number"; readonly value: number; readonly text: string }
  | { readonly kind: "flag"; readonly value: boolean }
  | { readonly kind: "list"; readonly items: readonly Node[]; readonly lines: boolean }
  | { readonly kind: "table"; readonly entries: readonly Entry[]; readonly as: "inline" | "dotted" | "header" }
  | { readonly kind: "tables"; readonly tables: readonly (readonly Entry[])[] };

type Entry = readonly [name: string, node: Node];

const TEXT_SNIPPETS = ["\\", '"', "'", "\n", "#", "=", "${X}", SECRET, "\u007f", "\t", "é", "😀"];
const texts = fc.oneof(fc.string({ unit: "binary", maxLength: 12 }), soup(TEXT_SNIPPETS, 6));
const names = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.constantFrom("stores", "limiters", "nats", "api", "a", "b", "c", "url", "rate_per_second"),
  },
  { weight: 1, arbitrary: texts },
).filter((name) => !["__proto__", "constructor", "prototype"].includes(name));

function entriesOf(node: fc.Arbitrary<Node>): fc.Arbitrary<readonly Entry[]> {
  return fc.uniqueArray(fc.tuple(names, node), { selector: ([name]) => name, maxLength: 4 });
}

const numbers = fc.oneof(
  fc.maxSafeInteger().map((value) => ({ value, text: String(value) })),
  fc.nat(0xffff).map((value) => ({ value, text: `0x${value.toString(16)}` })),
  fc.nat(0xffff).map((value) => ({ value, text: `0o${value.toString(8)}` })),
  fc.nat(0xffff).map((value) => ({ value, text: `0b${value.toString(2)}` })),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => ({ value, text: floatText(value) })),
  fc.constantFrom({ value: 1_000, text: "1_000" }, { value: Infinity, text: "inf" }, {
    value: -Infinity,
    text: "-inf",
  }),
).map(({ value, text }) => ({ kind: "number", value, text }) as const);

/** JavaScript writes 1e-7 and 1e+21, as TOML does, and integers without a point. */
function floatText(value: number): string {
  return Number.isInteger(value) && Math.abs(value) < 1e21 ? `${value}.0` : String(value);
}

const plainNodes: fc.Arbitrary<Node> = fc.oneof(
  fc.record({
    kind: fc.constant("text" as const),
    value: texts,
    as: fc.constantFrom("basic" as const, "literal" as const, "long" as const, "long literal" as const),
  }),
  numbers,
  fc.record({ kind: fc.constant("flag" as const), value: fc.boolean() }),
);

const { node: nodes } = fc.letrec<{ node: Node }>((tie) => ({
  node: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    plainNodes,
    fc.record({
      kind: fc.constant("list" as const),
      items: fc.array(tie("node"), { maxLength: 4 }),
      lines: fc.boolean(),
    }),
    fc.record({
      kind: fc.constant("table" as const),
      entries: entriesOf(tie("node")),
      as: fc.constantFrom("inline" as const, "dotted" as const, "header" as const, "header" as const),
    }),
    fc.record({
      kind: fc.constant("tables" as const),
      tables: fc.array(entriesOf(tie("node")), { minLength: 1, maxLength: 3 }),
    }),
  ),
}));

const documents = entriesOf(nodes);

function keyText(name: string): string {
  return /^[A-Za-z0-9_-]+$/.test(name) ? name : basicText(name);
}

function basicText(value: string): string {
  return JSON.stringify(value).replaceAll("\u007f", "\\u007F");
}

function stringText(value: string, as: string): string {
  // deno-lint-ignore no-control-regex -- these are the characters that TOML forbids
  const isLiteral = !/['\u0000-\u001f\u007f]/.test(value);
  if (as === "literal" && isLiteral) return `'${value}'`;
  if (as === "long literal" && isLiteral) return `'''\n${value}'''`;
  if (as === "long") return `"""\n${basicText(value).slice(1, -1).replaceAll("\\n", "\n")}"""`;
  return basicText(value);
}

function inlineText(node: Node): string {
  if (node.kind === "text") return stringText(node.value, node.as);
  if (node.kind === "number") return node.text;
  if (node.kind === "flag") return String(node.value);
  if (node.kind === "list") return `[${node.items.map(inlineText).join(node.lines ? ",\n # …\n" : ", ")}]`;
  if (node.kind === "table") return tableText(node.entries);
  return `[${node.tables.map(tableText).join(", ")}]`;
}

function tableText(entries: readonly Entry[]): string {
  return `{ ${entries.map(([name, node]) => `${keyText(name)} = ${inlineText(node)}`).join(", ")} }`;
}

/** The lines of a table: its pairs first, and then the tables with a header of their own. */
function linesOf(entries: readonly Entry[], path: readonly string[]): string[] {
  const hasHeader = ([, node]: Entry) => (node.kind === "table" && node.as === "header") || node.kind === "tables";
  const pairs = entries.filter((entry) => !hasHeader(entry)).flatMap(([name, node]) =>
    pairLines([keyText(name)], node)
  );
  const tables = entries.filter(hasHeader).flatMap(([name, node]) => {
    const inner = [...path, keyText(name)];
    if (node.kind === "tables") {
      return node.tables.flatMap((table) => [`[[${inner.join(".")}]]`, ...linesOf(table, inner)]);
    }
    return node.kind === "table" ? [`[${inner.join(" . ")}]`, ...linesOf(node.entries, inner)] : [];
  });
  return [...pairs, ...tables];
}

function pairLines(path: readonly string[], node: Node): string[] {
  if (node.kind !== "table" || node.as !== "dotted" || node.entries.length === 0) {
    return [`${path.join(".")} = ${inlineText(node)} # ${path.length}`];
  }
  return node.entries.flatMap(([name, child]) => pairLines([...path, keyText(name)], child));
}

/** What the document means, as text: JSON knows neither infinity nor the order of keys. */
function meaning(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(meaning)}]`;
  if (typeof value === "object" && value !== null) {
    return `{${Object.entries(value).map(([name, inner]) => `${JSON.stringify(name)}:${meaning(inner)}`).sort()}}`;
  }
  return typeof value === "number" ? `${value + 0}` : JSON.stringify(value) ?? "undefined";
}

function valueOf(node: Node): unknown {
  if (node.kind === "list") return node.items.map(valueOf);
  if (node.kind === "table") return tableOf(node.entries);
  return node.kind === "tables" ? node.tables.map(tableOf) : node.value;
}

function tableOf(entries: readonly Entry[]): unknown {
  return Object.fromEntries(entries.map(([name, node]) => [name, valueOf(node)]));
}

const printed = documents.map((entries) => linesOf(entries, []).join("\n"));

fuzz(
  "fuzz: parseToml() reads what a document means, as does @std/toml",
  400,
  fc.property(documents, (entries) => {
    const text = linesOf(entries, []).join("\n");
    assertEquals(meaning(parseToml(text)), meaning(tableOf(entries)));
    const std = readByStd(text);
    if (std !== undefined) assertEquals(meaning(std), meaning(tableOf(entries)));
  }),
);

/** `undefined` where @std/toml refuses what TOML allows. */
function readByStd(text: string): unknown {
  try {
    return parseByStd(text);
  } catch {
    return undefined;
  }
}

const SNIPPETS = [
  "[",
  "]",
  "[[",
  "]]",
  "{",
  "}",
  ".",
  ",",
  "=",
  "\n",
  "\r\n",
  "\r",
  " ",
  "\t",
  "#",
  '"',
  "'",
  '"""',
  "'''",
  "\\",
  "\\u00e9",
  "\\ud800",
  "\\U0001F600",
  "true",
  "false",
  "0",
  "-",
  "+",
  "1_0",
  "0x",
  "1e9",
  "inf",
  "nan",
  "1979-05-27",
  "07:32:00",
  "a",
  "a.b",
  "stores",
  "__proto__",
  '"__proto__"',
  "constructor",
  "prototype",
  "hasOwnProperty",
  "toString",
  "9007199254740993",
  "\0",
  "\u007f",
  "\ufeff",
  "\ud800",
  "é",
  `"${SECRET}"`,
]; // deno-fmt-ignore

const anyToml = fc.oneof(
  fc.string({ unit: "binary", maxLength: 60 }),
  soup(SNIPPETS),
  damaged(printed, SNIPPETS),
);

fuzz(
  "fuzz: parseToml() reads a text or says where it is wrong",
  1_500,
  fc.property(anyToml, (text) => {
    const result = attempt(() => parseToml(text, "rate-sync.toml"));
    if (!result.ok) return assert(result.error instanceof ConfigValidationError);
    assertPlain(result.value);
    const std = readByStd(text);
    // @std/toml takes these for something else: tests/config/toml_test.ts.
    if (std !== undefined && !/\\U|__proto__/.test(text)) assertEquals(meaning(result.value), meaning(std));
  }),
);

const SECRET_LINES = [
  `"${SECRET}"`,
  `'${SECRET}'`,
  `${SECRET}`,
  `token = "${SECRET}"`,
  `token = '${SECRET}'`,
  `token = "${SECRET}`,
  `token = ${SECRET}`,
  `token = ["${SECRET}"`,
  `token = { a = "${SECRET}"`,
  `token "${SECRET}"`,
  `token: ${SECRET}`,
  `token = "x" "${SECRET}"`,
  `token = """${SECRET}""`,
  `token = "\\q${SECRET}"`,
  `token = ["a" "${SECRET}"]`,
  `token = true${SECRET}`,
  `token = 1${SECRET}`,
]; // deno-fmt-ignore

fuzz(
  "fuzz: parseToml() shows no value, whatever is wrong around it",
  700,
  fc.property(anyToml, fc.constantFrom(...SECRET_LINES), anyToml, (before, line, after) => {
    const text = [before.replaceAll(SECRET, ""), line, after.replaceAll(SECRET, "")].join("\n");
    const result = attempt(() => parseToml(text));
    if (!result.ok) assertDiscreet(result.error);
  }),
);

function assertPlain(value: TomlValue): void {
  if (Array.isArray(value)) return value.forEach(assertPlain);
  if (!isTable(value)) return;
  assertEquals(Object.getPrototypeOf(value), null);
  Object.values(value).forEach(assertPlain);
}

/** Of many of these a reader makes its work for ever, or runs out of stack, unless that is bounded by their number. */
const REPEATED = [
  "a=[",
  "a={",
  "[",
  "a.",
  '"',
  "'''",
  "\\",
  " ",
  "\r\n",
  "#",
  "1",
  "1_",
  "a",
  "=",
  "a=1\n",
  "[a]\n",
  "[[a]]\n",
  "${",
];

test("fuzz: parseToml() is done with 20,000 of anything, in whatever they stand", () => {
  for (const piece of REPEATED) {
    const many = piece.repeat(20_000);
    for (
      const text of [many, `a = ${many}`, `a = "${many}`, `a = [${many}`, `[${many}`, `"${many}" = 1`, `a = '''${many}`]
    ) {
      attempt(() => parseToml(text));
    }
  }
  const tables = Array.from({ length: 5_000 }, (_, i) => `[a.b${i}]\nc = ${i}\n[[d.e${i}]]\n`).join("");
  assert(attempt(() => parseToml(tables)).ok);
});
