import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { parse as parseWithStd } from "@std/toml";
import fc from "fast-check";
import { test } from "node:test";
import { parseToml } from "../../src/config/toml.ts";
import { ConfigValidationError } from "../../src/core/errors.ts";

/** As JSON, so that tables without a prototype compare equal to literals. */
function read(text: string): unknown {
  return JSON.parse(JSON.stringify(parseToml(text)));
}

function refusal(text: string): ConfigValidationError {
  return assertThrows(() => parseToml(text, "rate-sync.toml"), ConfigValidationError);
}

test("@std/toml loses, merges or misreads what parseToml() must not: why it only reads numbers and booleans", () => {
  assertEquals(parseWithStd("a = 1\na = 2")["a"], 2);
  assertEquals(parseWithStd("a = [1]\na = [2]")["a"], [1, 2]);
  assertEquals(parseWithStd("a = 9007199254740993")["a"], 9007199254740992);
  assertEquals(Object.keys(parseWithStd("[a]\n__proto__ = 1")["a"] as object), []);
  assertEquals(parseWithStd('a = "\\U0001F600"')["a"], "\u01F600");
  assertEquals(parseWithStd("a = 1 b = 2"), Object.assign(Object.create(null), { a: 1, b: 2 }));
  assertThrows(() => parseWithStd("[a.b]\n[a]"), Error);
  assertThrows(() => parseWithStd("[a.b]\n[a.toString]"), Error);
  assertThrows(() => parseWithStd("a = [1\n, 2]"), Error);
});

test("parseToml() reads an empty text as an empty table [CFG-6]", () => {
  for (const text of ["", "\n", "# nothing", "\uFEFF", " \t\r\n# a\r\n"]) assertEquals(read(text), {});
});

test("parseToml() reads scalars of every kind", () => {
  const text = `
int = 42
sign = -17
plus = +1
long = 1_000
hex = 0xDEAD_beef
oct = 0o755
bin = 0b1101
float = 3.14
exponent = 5e+22
both = -2E-2
yes = true
no = false
zero = -0
basic = "a \\"quoted\\" \\\\ \\u00E9 \\U0001F600 \\b\\f\\n\\r\\t#"
literal = 'C:\\path # no comment'
empty = ""
none = '' # comment
"quoted key" = 1
'literal.key' = 2
1234 = 3
`;
  assertEquals(read(text), {
    int: 42,
    sign: -17,
    plus: 1,
    long: 1000,
    hex: 0xdeadbeef,
    oct: 0o755,
    bin: 13,
    float: 3.14,
    exponent: 5e22,
    both: -0.02,
    yes: true,
    no: false,
    zero: 0,
    basic: 'a "quoted" \\ é 😀 \b\f\n\r\t#',
    literal: "C:\\path # no comment",
    empty: "",
    none: "",
    "quoted key": 1,
    "literal.key": 2,
    1234: 3,
  });
  assertEquals(parseToml("a = inf\nb = -inf").a, Infinity);
  assert(Number.isNaN(parseToml("a = +nan").a));
});

test("parseToml() reads multi-line strings with their first newline, continuations and inner quotes", () => {
  assertEquals(read('a = """\nx\ny"""'), { a: "x\ny" });
  assertEquals(read('a = """\r\nx\r\ny"""'), { a: "x\r\ny" });
  assertEquals(read('a = """x \\  \n\n   y"""'), { a: "x y" });
  assertEquals(read('a = """one " two "" """'), { a: 'one " two "" ' });
  assertEquals(read('a = """"quoted"""""'), { a: '"quoted""' });

  assertEquals(read("a = '''\n[x]\nb = 1 # no\n'''"), { a: "[x]\nb = 1 # no\n" });
  assertEquals(read('a = """"""'), { a: "" });
  assertEquals(read("a = '''x'''''"), { a: "x''" });
});

test("parseToml() reads arrays and inline tables in all their layouts", () => {
  assertEquals(read("a = [ 1, # one\n 2\n , 3,\n]"), { a: [1, 2, 3] });
  assertEquals(read("a = []\nb = {}\nc = { }\nd = [[], [1, 'x']]"), { a: [], b: {}, c: {}, d: [[], [1, "x"]] });
  assertEquals(read("a = { b.c = 1, b.d = 2, 'e' = [ { f = 1 } ] }"), { a: { b: { c: 1, d: 2 }, e: [{ f: 1 }] } });
});

test("parseToml() accepts tables in any order that TOML allows", () => {
  assertEquals(read("[a.b]\nx = 1\n[a]\ny = 2"), { a: { b: { x: 1 }, y: 2 } });
  assertEquals(read("[a]\nb.c = 1\nb.d = 2\n[a.b.e]\nf = 3"), { a: { b: { c: 1, d: 2, e: { f: 3 } } } });
  assertEquals(read("[[a.b]]\nx = 1\n[a.b.c]\ny = 1\n[[a.b]]\nx = 2\n[a.b.c]\ny = 2"), {
    a: { b: [{ x: 1, c: { y: 1 } }, { x: 2, c: { y: 2 } }] },
  });
  assertEquals(read("[ a . 'b.c' ]\nx = 1"), { a: { "b.c": { x: 1 } } });
  assertEquals(read("[a]\n[a.toString]\nx = 1\n[a.valueOf]\ny = 1"), { a: { toString: { x: 1 }, valueOf: { y: 1 } } });
  assertEquals(read("\uFEFF[a]\r\nx = 1\r\n"), { a: { x: 1 } });
});

test("parseToml() refuses whatever is defined twice, and names it", () => {
  const cases: [text: string, field: string, line: number][] = [
    ["a = 1\na = 2", "a", 2],
    ["a = 1\n'a' = 2", "a", 2],
    ['a = 1\n"\\u0061" = 2', "a", 2],
    ["[limiters.api]\nburst = 1\n\nburst = 2", "limiters.api.burst", 4],
    ["[a]\n[a]", "a", 2],
    ["[a.b]\n[a]\n[a.b]", "a.b", 3],
    ["a = 1\n[a]", "a", 2],
    ["[a]\nb = 1\n[a.b]", "a.b", 3],
    ["[a]\nb = 1\n[a.b.c]", "a.b", 3],
    ["a.b = 1\n[a]", "a", 2],
    ["a.b = 1\na.b = 2", "a.b", 2],
    ["a.b = 1\na.b.c = 2", "a.b", 2],
    ["a.b.c = 1\na.b = 2", "a.b", 2],
    ["[a.b.c]\nz = 9\n[a]\nb.c.t = 1", "a.b.c", 4],
    ["a = {b = 1, b = 2}", "a.b", 1],
    ["a = {b = 1}\na.c = 2", "a", 2],
    ["a = {b = {}}\n[a.b]", "a", 2],
    ["a = {b = 1}\n[a.c]", "a", 2],
    ["a = {b.c = 1, b = 2}", "a.b", 1],
    ["a = [1]\na = [2]", "a", 2],
    ["a = [{}]\n[[a]]", "a", 2],
    ["a = [{}]\n[a.b]", "a", 2],
    ["[[a]]\n[a]", "a", 2],
    ["[a]\n[[a]]", "a", 2],
    ["[a.b]\n[[a]]", "a", 2],
    ["[[a]]\nb = 1\nb = 2", "a.b", 3],
    ["[limiters.api]\n[[limiters.api]]", "limiters.api", 2],
    ["x = [{a = 1, a = 2}]", "x[0].a", 1],
  ];
  for (const [text, field, line] of cases) {
    const error = refusal(text);
    assertEquals(error.field, field, text);
    assertStringIncludes(error.message, `Line ${line}: '${field}' is already defined`);
    assertEquals(error.file, "rate-sync.toml");
  }
});

test("parseToml() says where the first of two definitions is", () => {
  assertStringIncludes(refusal("\n[a]\nb = 1\nc = 2\nb = 3").message, "on line 3");
});

test("parseToml() refuses names that reach into prototypes, at any place", () => {
  for (const name of ["__proto__", "constructor", "prototype"]) {
    const texts = [
      `${name} = 1`,
      `[${name}]`,
      `[limiters.${name}]`,
      `[[a.${name}]]`,
      `[limiters.x]\n[limiters.${name}.polluted]\na = 1`,
      `a.${name}.b = 1`,
      `a = { ${name} = 1 }`,
      `a = [{ "${name}" = 1 }]`,
    ];
    for (const text of texts) {
      const error = refusal(text);
      assertStringIncludes(error.message, name);
      assertStringIncludes(error.field, name);
    }
  }
  assertEquals(Object.hasOwn(Object.prototype, "polluted"), false);
});

test("parseToml() refuses integers that a number cannot hold, and takes those that it can", () => {
  const tooLarge = [
    "9007199254740992",
    "-9007199254740993",
    "99999999999999999999",
    "0xFFFFFFFFFFFFFFFF",
    "9_007_199_254_740_993",
  ];
  for (const integer of tooLarge) {
    const error = refusal(`[limiters.a]\nlimit = ${integer}`);
    assertEquals(error.field, "limiters.a.limit");
    assertStringIncludes(error.message, "Line 2");
  }
  assertEquals(refusal("a = [1, 9007199254740993]").field, "a[1]");
  assertEquals(read("a = 9007199254740991\nb = -9007199254740991\nc = '9007199254740993' # 9007199254740993"), {
    a: 9007199254740991,
    b: -9007199254740991,
    c: "9007199254740993",
  });
  assertEquals(read("a = 1e30"), { a: 1e30 });
});

test("parseToml() refuses dates and times, and names the key", () => {
  for (
    const date of [
      "1979-05-27",
      "1979-05-27T07:32:00Z",
      "1979-05-27 07:32:00",
      "1979-05-27T07:32:00.5-07:00",
      "07:32:00",
    ]
  ) {
    const error = refusal(`[limiters.a]\ntimeout = ${date}`);
    assertEquals(error.field, "limiters.a.timeout");
    assertStringIncludes(error.message, "date");
  }
});

test("parseToml() refuses invalid TOML with the line, and field config_file [CFG-5]", () => {
  const cases: [text: string, line: number][] = [
    ["a = ", 1],
    ["a", 1],
    ["= 1", 1],
    ["[a", 1],
    ["[]", 1],
    ["[a.]", 1],
    ["[[a]", 1],
    ["[a] x = 1", 1],
    ["a = 1 b = 2", 1],
    ["\n\na = soon", 3],
    ["a = !}", 1],
    ["a = }", 1],
    ["a = 01", 1],
    ["a = 1__0", 1],
    ["a = 1_", 1],
    ["a = .5", 1],
    ["a = 5.", 1],
    ["a = +0x1", 1],
    ["a = 0X1", 1],
    ["a = True", 1],
    ["a = yes", 1],
    ["a = truely", 1],
    ["a = -", 1],
    ["a = 1 2", 1],
    ["a = 'x", 1],
    ['a = "x\ny"', 1],
    ['a = """x', 1],
    ["a = '''x", 1],
    ['a = "\\x41"', 1],
    ['a = "\\uD800"', 1],
    ['a = "\\u12"', 1],
    ['a = "\\U00110000"', 1],
    ["a = [1 2]", 1],
    ["a = [1, 2", 1],
    ["a = [,]", 1],
    ["a = {b = 1,}", 1],
    ["a = {b = 1\n}", 1],
    ["a = {b = 1 c = 2}", 1],
    ['"""a""" = 1', 1],
    ["a = \n1", 1],
    ["a.. b = 1", 1],
    ["é = 1", 1],
    ['a = 1\nb = "\u0001"', 2],
    ["a = 1 # \u0000", 1],
    ["a = 1\rb = 2", 1],
    [`a = ${"[".repeat(100_000)}`, 1],
    [`a = ${"{a = ".repeat(10_000)}`, 1],
    [`${"a.".repeat(100_000)}a = 1`, 1],
    [`[${"a.".repeat(100_000)}a]`, 1],
  ];
  for (const [text, line] of cases) {
    const error = refusal(text);
    assertEquals([error.field, error.expected, error.received], ["config_file", "valid TOML", "rate-sync.toml"], text);
    assertStringIncludes(error.message, "Failed to parse TOML file");
    assertStringIncludes(error.message, `line ${line},`, text);
  }
  assertStringIncludes(refusal("a = 1\nb =\nc = 1").message, "line 2, column 4");
});

test("parseToml() never shows a value in an error", () => {
  for (
    const text of [
      "token = s3cr3t",
      'token = "s3cr3t',
      "token = s3cr3t!",
      'token = "s3cr3t" x',
      "token = 's3cr3t' 's3cr3t'",
      '"s3cr3t"',
      "s3cr3t",
    ]
  ) {
    assertEquals(refusal(text).message.includes("s3cr3t"), false, text);
  }
});

const bareName = fc.stringMatching(/^[a-z][a-z0-9_-]{0,6}$/);
const anyName = fc.oneof(bareName, fc.string({ unit: "grapheme", maxLength: 6 }));
const reserved = new Set(["__proto__", "constructor", "prototype"]);
const scalar = fc.oneof(
  fc.maxSafeInteger(),
  fc.boolean(),
  fc.string({ unit: "grapheme" }),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
);
const anyValue: fc.Arbitrary<unknown> = fc.letrec<{ value: unknown; table: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    scalar,
    fc.array(tie("value"), { maxLength: 4 }),
    tie("table"),
  ),
  table: fc.dictionary(anyName.filter((name) => !reserved.has(name)), tie("value"), {
    maxKeys: 5,
    noNullPrototype: true,
  }),
})).table;

function quote(text: string): string {
  // JSON's escapes are TOML's, but for DEL, `/` (which JSON.stringify never escapes) and lone surrogates (which the arbitrary never makes).
  return JSON.stringify(text).replaceAll("\u007f", "\\u007f");
}

function inline(value: unknown): string {
  if (typeof value === "string") return quote(value);
  if (Array.isArray(value)) return `[${value.map(inline).join(", ")}]`;
  if (typeof value === "object" && value !== null) {
    return `{${Object.entries(value).map(([key, each]) => `${quote(key)} = ${inline(each)}`).join(", ")}}`;
  }
  return typeof value === "number" && !Number.isSafeInteger(value) ? decimal(value) : String(value);
}

function decimal(value: number): string {
  const [mantissa, exponent] = value.toExponential().split("e");
  return `${mantissa}e${exponent}`;
}

function document(table: object, path: readonly string[] = []): string {
  const isTable = (value: unknown) => typeof value === "object" && value !== null && !Array.isArray(value);
  const entries = Object.entries(table);
  const pairs = entries.filter(([, value]) => !isTable(value)).map(([key, value]) =>
    `${quote(key)} = ${inline(value)} # x\n`
  );
  const header = path.length === 0 ? "" : `[${path.map(quote).join(" . ")}]\r\n`;
  const tables = entries.filter(([, value]) => isTable(value)).map(([key, value]) =>
    document(value as object, [...path, key])
  );
  return header + pairs.join("") + tables.join("\n");
}

test("parseToml() reads back every document that is written from data (property)", () => {
  fc.assert(fc.property(anyValue, (data) => {
    const expected = JSON.parse(JSON.stringify(data));
    assertEquals(read(document(data as object)), expected);
    assertEquals(read(`all = ${inline(data)}`), { all: expected });
  }));
});

test("parseToml() agrees with @std/toml wherever a document has none of its known holes (property)", () => {
  const plainTable = fc.dictionary(bareName, fc.oneof(scalar, fc.array(scalar)), { maxKeys: 6, noNullPrototype: true })
    .filter((table) => Object.keys(table).every((name) => !reserved.has(name)));
  fc.assert(fc.property(plainTable, plainTable, (first, second) => {
    const text = document({ first, second });
    assertEquals(read(text), JSON.parse(JSON.stringify(parseWithStd(text))));
  }));
});

test("parseToml() refuses every document in which one line is repeated (property)", () => {
  fc.assert(fc.property(anyValue, fc.nat(), (data, pick) => {
    const entries = Object.entries(data as object);
    if (entries.length === 0) return;
    const [key, value] = entries[pick % entries.length] ?? ["", 0];
    const text = `all = ${inline(data)}\n${quote(key)} = ${inline(value)}\n${quote(key)} = 1\n`;
    if (key === "all") return;
    assertEquals(refusal(text).field, key);
  }));
});

test("parseToml() throws nothing but ConfigValidationError, whatever the text (property)", () => {
  const fragment = fc.constantFrom(
    "[",
    "]",
    "[[",
    "]]",
    "a",
    ".",
    "=",
    '"',
    "'",
    '"""',
    "'''",
    "{",
    "}",
    ",",
    "\n",
    "\\",
    "1",
    "0x",
    "#",
    " ",
    "\r\n",
    "true",
  );
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.array(fragment, { maxLength: 30 }).map((parts) => parts.join(""))), (text) => {
      try {
        parseToml(text);
      } catch (error) {
        assert(error instanceof ConfigValidationError, String(error));
      }
    }),
    { numRuns: 2_000 },
  );
});
