import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { type EnvironmentLookup, expandEnvironment } from "../../src/config/environment.ts";
import { parseToml, type TomlTable } from "../../src/config/toml.ts";
import { ConfigValidationError } from "../../src/core/errors.ts";

const variables = new Map(
  Object.entries({
    HOST: "h.example",
    PORT: "4222",
    EMPTY: "",
    NUM: "7",
    MONEY: "a$HOST${PORT}$$",
    ID: "api",
    _x1: "under",
  }),
);
const environment: EnvironmentLookup = (name) => variables.get(name);

function expand(text: string): string {
  return JSON.parse(JSON.stringify(expandEnvironment({ value: text }, { environment }).root)).value;
}

function expandToml(text: string): unknown {
  return JSON.parse(JSON.stringify(expandEnvironment(parseToml(text), { environment }).root));
}

function refusal(text: string): ConfigValidationError {
  const root: TomlTable = { limiters: { api: { store: text } } };
  return assertThrows(() => expandEnvironment(root, { environment, file: "rate-sync.toml" }), ConfigValidationError);
}

test("expandEnvironment() replaces ${VAR}, $VAR and ${VAR:-default} [CFG-20]", () => {
  assertEquals(expand("${HOST}"), "h.example");
  assertEquals(expand("$HOST"), "h.example");
  assertEquals(expand("$_x1"), "under");
  assertEquals(expand("${NONE:-fallback}"), "fallback");
  assertEquals(expand("${HOST:-fallback}"), "h.example");
  assertEquals(expand("nothing to do"), "nothing to do");
});

test("expandEnvironment() reaches arrays, nested tables and table names [CFG-20]", () => {
  const text = `
[limiters."\${ID:-other}"]
store = "$ID"
[fastapi]
trusted_proxy_networks = ["\${NONE:-10.0.0.0/8}", "1.1.1.1"]
[[a."$HOST"]]
b = { c = "\${NUM}", "\${NUM}" = { d = 1 } }
`;
  assertEquals(expandToml(text), {
    limiters: { api: { store: "api" } },
    fastapi: { trusted_proxy_networks: ["10.0.0.0/8", "1.1.1.1"] },
    a: { "h.example": [{ b: { c: "7", 7: { d: 1 } } }] },
  });
});

test("expandEnvironment() leaves the names of ordinary keys, and values that are no text, alone [CFG-20]", () => {
  assertEquals(expandToml('"$HOST" = 1\nb = [1, true, 2.5]'), { $HOST: 1, b: [1, true, 2.5] });
});

test("expandEnvironment() replaces several references in one text and keeps what surrounds them [CFG-21]", () => {
  assertEquals(expand("nats://${HOST}:${PORT}/x"), "nats://h.example:4222/x");
  assertEquals(expand("$HOST:$PORT,$HOST"), "h.example:4222,h.example");
  assertEquals(expand("${HOST}$NUM${NUM}"), "h.example77");
});

test("expandEnvironment() allows ':-' and further references in a default [CFG-22]", () => {
  assertEquals(expand("${N:-a:-b}"), "a:-b");
  assertEquals(expand("${N:-$NUM}"), "7");
  assertEquals(expand("${N:-${NUM}}"), "7");
  assertEquals(expand("${N:-${M:-${NUM}0}0}!"), "700!");
  assertEquals(expand("${N:-nats://localhost:4222}"), "nats://localhost:4222");
  assertEquals(expand("${N:-a}b}"), "ab}");
  assertEquals(expand("${N:-{}"), "{");
});

test("expandEnvironment() does not need the variables of a default that it does not take [CFG-22]", () => {
  assertEquals(expand("${NUM:-${UNSET}}"), "7");
  assertEquals(expand("${NUM:-${UNSET:-${OTHER}}}"), "7");
  assertStringIncludes(refusal("${N:-${UNSET}}").message, "UNSET");
});

test("expandEnvironment() refuses an unset variable without a default, naming it and the field [CFG-23]", () => {
  for (const text of ["${UNSET}", "$UNSET", "x${UNSET}y", "$HOST $UNSET"]) {
    const error = refusal(text);
    assertEquals(error.field, "limiters.api.store");
    assertEquals(error.received, "unset");
    assertEquals(error.file, "rate-sync.toml");
    assertStringIncludes(error.message, "UNSET");
    assertStringIncludes(error.message, "'limiters.api.store'");
  }
});

test("expandEnvironment() refuses an unset variable in a table's name and in a list [CFG-23]", () => {
  const inName = assertThrows(() => expandToml('[limiters."${UNSET}"]'), ConfigValidationError, "UNSET");
  assertEquals(inName.field, "limiters.${UNSET}");
  assertEquals(assertThrows(() => expandToml('a = ["x", "$UNSET"]'), ConfigValidationError).field, "a[1]");
});

test("expandEnvironment() names the option whose variable cannot be read, and lets other errors pass", () => {
  const failing = (error: Error) => () =>
    expandEnvironment(parseToml('[stores.a]\nurl = "$HOST"'), {
      environment: () => {
        throw error;
      },
    });
  const mismatch = { field: "HOST", expected: "a variable that may be read", received: "no permission" };
  const error = assertThrows(
    failing(new ConfigValidationError("HOST cannot be read.", mismatch)),
    ConfigValidationError,
    "'stores.a.url' needs an environment variable. HOST cannot be read.",
  );
  assertEquals(error.field, "stores.a.url");
  assertThrows(failing(new RangeError("a bug")), RangeError, "a bug");
});

test("expandEnvironment() takes an empty default as the empty text [CFG-24]", () => {
  assertEquals(expand("${UNSET:-}"), "");
  assertEquals(expand("a${UNSET:-}b"), "ab");
});

test("expandEnvironment() replaces an empty variable by its default, and by nothing without one [CFG-25]", () => {
  assertEquals(expand("${EMPTY:-d}"), "d");
  assertEquals(expand("${EMPTY:-}"), "");
  assertEquals(expand("[${EMPTY}$EMPTY]"), "[]");
});

test("expandEnvironment() makes no numbers of texts [CFG-26]", () => {
  assertEquals(expandToml('a = "${NUM}"\nb = "42"\n["123"]\nc = " 42 "'), { a: "7", b: "42", 123: { c: " 42 " } });
});

test("expandEnvironment() refuses two tables whose names become the same [CFG-28]", () => {
  const error = assertThrows(
    () => expandToml('[limiters.api]\na = 1\n[limiters."${ID}"]\na = 2'),
    ConfigValidationError,
    "'${ID}'",
  );
  assertEquals(error.field, "limiters.${ID}");
  assertEquals(error.received, "the same name");
  assertThrows(() => expandToml('[limiters."${ID}"]\n[limiters."$ID"]'), ConfigValidationError);
  assertThrows(() => expandToml('api = 1\n["${ID}"]'), ConfigValidationError);
});

test("expandEnvironment() turns $$ into $, and leaves a $ that nothing follows [CFG-29]", () => {
  assertEquals(expand("$$"), "$");
  assertEquals(expand("$$HOST"), "$HOST");
  assertEquals(expand("$${HOST}"), "${HOST}");
  assertEquals(expand("$$$HOST"), "$h.example");
  assertEquals(expand("${N:-$$5}"), "$5");
  assertEquals(expand("pa$9ss"), "pa$9ss");
  assertEquals(expand("100$"), "100$");
  assertEquals(expand("$ $-$."), "$ $-$.");
});

test("expandEnvironment() takes what a variable holds literally", () => {
  assertEquals(expand("${MONEY}"), "a$HOST${PORT}$$");
});

test("expandEnvironment() refuses a reference that is not closed or has no name, without showing the text", () => {
  for (
    const text of [
      "${HOST",
      "${",
      "s3cr3t${HOST:-x",
      "${N:-${NUM}",
      "${}",
      "${:-x}",
      "${1A}",
      "${HOST-x}",
      "${HOST:?x}",
      "${HOST:x}",
      "${ HOST }",
      "${s3cr3t!}",
    ]
  ) {
    const error = refusal(text);
    assertEquals(error.field, "limiters.api.store", text);
    assertStringIncludes(error.message, "$$");
    assertEquals(error.message.includes("s3cr3t"), false, text);
  }
  for (const text of ["${HOST", "${HOST:-x"]) assertStringIncludes(refusal(text).message, "without its '}'");
});

test("expandEnvironment() checks the syntax of a default that it does not take", () => {
  assertEquals(refusal("${NUM:-${}}").field, "limiters.api.store");
});

test("expandEnvironment() refuses defaults that are nested without end", () => {
  assertEquals(expand(`${"${N:-".repeat(16)}x${"}".repeat(16)}`), "x");
  assertEquals(refusal(`${"${N:-".repeat(100_000)}x${"}".repeat(100_000)}`).field, "limiters.api.store");
});

test("expandEnvironment() tells which variables a value was made from", () => {
  const root = parseToml('[s]\na = "x${HOST}${N:-1}$HOST"\nb = "plain"\nc = ["1", "$NUM"]\nd = "$$"');
  const expanded = expandEnvironment(root, { environment });
  const table = expanded.root["s"] as TomlTable;
  assertEquals(expanded.variablesIn(table, "a"), ["HOST", "N"]);
  assertEquals(expanded.variablesIn(table, "b"), []);
  assertEquals(expanded.variablesIn(table, "c"), []);
  assertEquals(expanded.variablesIn(table["c"] as string[], 1), ["NUM"]);
  assertEquals(expanded.variablesIn(table["c"] as string[], 0), []);
  assertEquals(expanded.variablesIn(table, "d"), []);
});

test("expandEnvironment() changes no text without a $, and $$ escapes every text (property)", () => {
  fc.assert(fc.property(fc.string({ unit: "grapheme" }), (text) => {
    assertEquals(expand(text.replaceAll("$", "$$$$")), text);
    assertEquals(expand(text.replaceAll("$", "")), text.replaceAll("$", ""));
  }));
});

test("expandEnvironment() throws nothing but ConfigValidationError, whatever the text (property)", () => {
  const part = fc.constantFrom("$", "{", "}", "${", ":-", "HOST", "N", "-", " ", "$$");
  fc.assert(
    fc.property(fc.array(part, { maxLength: 12 }).map((parts) => parts.join("")), (text) => {
      try {
        expand(text);
      } catch (error) {
        assertEquals((error as Error).name, "ConfigValidationError");
      }
    }),
    { numRuns: 2_000 },
  );
});
